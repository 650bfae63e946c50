"""Requests that a generator makes of the OpenAPI document, with real ids and bodies put in now and then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

from suanli_protocol import wire
from suanli_protocol.market_client import signed_headers
from suanli_protocol.signing import Domain, Signer

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
SCHEMA = schemathesis.openapi.from_path(DOCUMENT)
OPERATIONS = sorted((SCHEMA[path][method] for path in SCHEMA for method in SCHEMA[path]), key=lambda found: found.label)
PROBLEM_BYTES_MAX = 64_000

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**96, 2**256, 10**400, 1.5, -0.0, 1e308])
    | st.sampled_from(["", "0", "-1", "0x", "0x" + "00" * 32, "0x" + "ff" * 20, str(2**63), str(2**256), "9" * 78])
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=8,
)


@dataclass(frozen=True)
class Known:
    """What a service has: where it is, a lease in it, ids, and by path the bodies that it would take."""

    url: str
    lease: str
    ids: Sequence[str]
    bodies: Mapping[str, Sequence[wire.Json]]


def altered(data: st.DataObject, body: Any) -> Any:
    """The body with one of its members, at any depth, taken away or replaced."""
    if not isinstance(body, dict) or not body:
        return data.draw(JSON_VALUES)
    name = data.draw(st.sampled_from(sorted(body)))
    match data.draw(st.sampled_from(["inside", "inside", "value", "gone", "more"])):
        case "inside" if isinstance(body[name], dict):
            return {**body, name: altered(data, body[name])}
        case "gone":
            return {key: value for key, value in body.items() if key != name}
        case "more":
            return {**body, data.draw(st.text(max_size=8)): data.draw(JSON_VALUES)}
        case _:
            return {**body, name: data.draw(JSON_VALUES)}


def a_request(data: st.DataObject, operations: Sequence[Any], known: Known) -> tuple[str, requests.PreparedRequest]:
    """One request, and the label of its operation."""
    operation = data.draw(st.sampled_from(operations))
    mode = data.draw(st.sampled_from(list(GenerationMode)))
    try:
        case = data.draw(operation.as_strategy(generation_mode=mode))
    except schemathesis.errors.SchemathesisError:
        case = data.draw(operation.as_strategy())  # nothing about this operation can be wrong
    if isinstance(case.path_parameters, dict) and data.draw(st.sampled_from([True, True, False])):
        for name in {"lease", "bid", "offer"} & case.path_parameters.keys():
            case.path_parameters[name] = known.lease if name == "lease" else data.draw(st.sampled_from(known.ids))
        if "slot" in case.path_parameters:
            case.path_parameters["slot"] = data.draw(st.sampled_from(wire.SLOTS))
    if isinstance(case.query, dict) and str(case.query.get("wait", "0")).isdecimal():
        case.query.pop("wait", None)  # it would be waited for
    kwargs = case.as_transport_kwargs(base_url=known.url)
    bodies = known.bodies.get(operation.path)
    if bodies and operation.method.upper() == "POST" and data.draw(st.sampled_from([True, True, False])):
        body = altered(data, data.draw(st.sampled_from(bodies)))
        kwargs.pop("json", None)
        kwargs["data"] = json.dumps(body).encode()
        kwargs["headers"] = {**dict(kwargs.get("headers") or {}), "Content-Type": "application/json"}
    kwargs.pop("cookies", None)
    wanted = {
        key: kwargs[key] for key in ("method", "url", "params", "headers", "json", "data", "files") if key in kwargs
    }
    return operation.label, requests.Request(**wanted).prepare()


def sign(request: requests.PreparedRequest, signer: Signer, domain: Domain, service: str) -> None:
    """Signs the request as it will be sent."""
    body = request.body or b""
    assert isinstance(body, str | bytes)
    raw = body.encode() if isinstance(body, str) else body
    method, target = str(request.method), request.path_url
    request.headers.update(signed_headers(signer, domain, service, method, target, raw))


def check(label: str, request: requests.PreparedRequest, answer: requests.Response) -> None:
    """No server's error, and a problem for each error."""
    told = f"{label}: {request.method} {request.path_url} {request.body!r:.2000} -> {answer.status_code}"
    assert answer.status_code < 500, f"{told} {answer.text}"
    if answer.status_code < 400:
        return
    assert answer.headers["content-type"] == "application/problem+json", told
    problem = answer.json()
    assert {"type", "status", "code", "title", "detail", "hint", "retryable"} <= problem.keys(), told
    assert problem["status"] == answer.status_code, told
    assert len(answer.content) < PROBLEM_BYTES_MAX, told
