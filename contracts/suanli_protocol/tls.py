"""Whom an https connection trusts: the public authorities, or those alone that SUANLI_CA names.

A market behind a reverse proxy may have a certificate of its operator's own authority. Naming that authority puts it
in place of the public ones, so that none of them can vouch for a machine in between.
"""

from __future__ import annotations

import os
import ssl
from functools import cache
from pathlib import Path

from suanli_protocol.answers import PatientSocket
from suanli_protocol.errors import ConfigurationError

VARIABLE = "SUANLI_CA"


def trusted() -> ssl.SSLContext:
    """What httpx verifies servers by; its connections are PatientSockets.

    ConfigurationError if the file that SUANLI_CA names cannot be read or holds no certificate.
    """
    named = os.environ.get(VARIABLE)
    return authorities(Path(named)) if named else public_authorities()


@cache
def public_authorities() -> ssl.SSLContext:
    """A context that trusts the authorities that httpx does."""
    import httpx

    context = httpx.create_ssl_context(trust_env=False)
    context.sslsocket_class = PatientSocket
    return context


@cache
def authorities(path: Path) -> ssl.SSLContext:
    """A context that trusts the authorities of one PEM file and no other; ConfigurationError if it holds none."""
    try:
        context = ssl.create_default_context(cafile=str(path))
    except FileNotFoundError:
        raise _unusable(path, "does not exist") from None
    except ssl.SSLError:
        raise _unusable(path, "holds no certificate in PEM form") from None
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = PatientSocket
    return context


def _unusable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the authorities' file {path} {why}", hint=f"{VARIABLE} names a PEM file with the authority's certificate"
    )
