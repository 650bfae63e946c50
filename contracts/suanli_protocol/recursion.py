"""Python's recursion limit, kept where it is: py_ecc, imported by eth_account and eth_keyfile, raises it hundredfold.

Under such a limit deeply nested JSON of a stranger does not raise RecursionError but overflows the C stack: one message
would end the process.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()  # a second thread must not take the raised limit for the one to go back to


@contextmanager
def limit_kept() -> Iterator[None]:
    """Whatever is imported in the context, the limit afterwards is the one before."""
    with _lock:
        limit = sys.getrecursionlimit()
        try:
            yield
        finally:
            sys.setrecursionlimit(limit)
