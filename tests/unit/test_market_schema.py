"""The committed OpenAPI document is the one that the code describes, and it tells what a client must know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suanli_market.api import schema

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_committed_document_is_the_codes() -> None:
    assert schema.main([str(COMMITTED), "--check"]) == 0, "run `python -m suanli_market.api.schema`"


def test_a_document_that_drifted_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "openapi.json"
    assert schema.main([str(file), "--check"]) == 1
    assert schema.main([str(file)]) == 0
    assert schema.main([str(file), "--check"]) == 0
    file.write_text(file.read_text().replace("/v1/bids", "/v1/orders"))
    assert schema.main([str(file), "--check"]) == 1
    assert "run `python -m" in capsys.readouterr().err


def test_each_operation_says_its_errors_and_whether_it_is_signed() -> None:
    document = json.loads(COMMITTED.read_text())
    signed = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            if "security" in operation:
                signed.add((method, path))
    assert {path for _, path in signed} == {
        path for path in document["paths"] if path.startswith(("/v1/leases", "/v1/events", "/v1/bids/", "/v1/offers/"))
    }
    assert ("post", "/v1/bids") not in signed, "a paper carries its own authority"
