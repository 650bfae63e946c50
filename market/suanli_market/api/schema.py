"""The HTTP interface as an OpenAPI document, written to docs/openapi.json: `python -m suanli_market.api.schema`.

With `--check` nothing is written; the exit status says whether the file is what the code would write.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from suanli_market.api.app import ROUTES, bare_app
from suanli_market.api.auth import signer_of
from suanli_protocol.market_client import HEADERS
from suanli_protocol.problems import MEDIA_TYPE

DEFAULT = Path("docs/openapi.json")
SIGNED = "signedRequest"
_PROBLEM = {
    "title": "Problem",
    "description": "What is wrong, as RFC 9457 has it. Other members may stand beside these.",
    "type": "object",
    "required": ["type", "status", "code", "title", "detail", "hint", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; what a program looks at."},
        "title": {"type": "string"},
        "detail": {"type": "string"},
        "hint": {"type": "string", "description": "What to change."},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
        "reason": {"type": "string", "description": "Of a refused paper."},
        "acknowledgement": {"type": "object", "description": "The market's signed proof of the refusal."},
        "checks": {"type": "array", "items": {"type": "object"}, "description": "Of /readyz."},
    },
}
_SCHEME = {
    "type": "apiKey",
    "in": "header",
    "name": HEADERS[-1],
    "description": f"The signature over a Request message (docs/protocol.md); with {', '.join(HEADERS[:-1])}.",
}
_ERROR = {
    "description": "A problem document.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def document(app: FastAPI) -> dict[str, Any]:
    """The app's OpenAPI document: every route, its errors as problems, and which requests are signed."""
    made = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = {SIGNED: _SCHEME}
    signed = _signed()
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            if (method, path) in signed:
                operation["security"] = [{SIGNED: []}]
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _ERROR
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return made


def _signed() -> set[tuple[str, str]]:
    """(method, path) of the routes that want a signer."""
    return {
        (method.lower(), route.path)
        for part in ROUTES
        for route in part.router.routes
        if isinstance(route, APIRoute) and any(found.call is signer_of for found in route.dependant.dependencies)
        for method in route.methods or ()
    }


_DESCRIPTION = (
    "Offers, bids, leases and sealed data of one market. Signed papers carry their own authority; a request that names "
    "the security scheme is signed by the key that it speaks for."
)


def text() -> str:
    """The file's content."""
    return json.dumps(document(bare_app(version("suanli"))), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Writes the file, or checks it; the exit status."""
    parser = argparse.ArgumentParser(description="Write the market's OpenAPI document.")
    parser.add_argument("path", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file differs")
    given = parser.parse_args(arguments)
    if not given.check:
        given.path.write_text(text(), encoding="utf-8")
        return 0
    if given.path.is_file() and given.path.read_text(encoding="utf-8") == text():
        return 0
    sys.stderr.write(f"{given.path} is not what the code says: run `python -m suanli_market.api.schema`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
