"""The JSON Schema of the job file, made from what the reader itself knows: for editors and for other programs.

`python -m suanli.jobs.schema` writes docs/job.schema.json, `--check` fails if that is not what would be written. The
schema says what this version takes; the reader has the last word (sums, files that are there, the token's fineness).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from suanli.jobs import jobfile
from suanli.jobs.job import Resources, Timeouts
from suanli_protocol.units import format_cores, format_duration, format_mib

PLACE = Path("docs/job.schema.json")
Schema = dict[str, Any]
_NUMBER = r"[0-9]+(\.[0-9]+)?"
_SIZE = rf"{_NUMBER} ?([KMGT]i?B)"
_MONEY = {
    "description": "Decimal text or a number in the market's currency, above zero; never rounded.",
    "anyOf": [{"type": "string", "pattern": rf"^{_NUMBER}$"}, {"type": "number", "exclusiveMinimum": 0}],
}

_DURATION: Schema = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^([0-9]+|([0-9]+ ?[smhd] ?)+)$"}]
}
_ADDRESS: Schema = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}


def schema() -> Schema:
    """The schema, draft 2020-12."""
    properties = _properties()
    assert tuple(properties) == jobfile.KEYS  # noqa: S101  # a new key of the file needs its line here
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Suanli job file",
        "description": "What is to run, where, for how long and for how much. Every key is optional but `run`.",
        "type": "object",
        "additionalProperties": False,
        "required": ["run"],
        "properties": properties,
    }


def _properties() -> dict[str, Schema]:
    text: Schema = {"type": "string", "pattern": r"\S"}
    return {
        "name": {
            "type": "string",
            "maxLength": 200,
            "pattern": r"^[^\x00-\x1f\x7f]*$",
            "description": "A name to find the job by.",
        },
        "workdir": text | {"description": "A folder that travels with the job; .gitignore and .suanliignore count."},
        "python": _python(text),
        "run": {
            "description": "A line for the shell, or an argument vector.",
            "anyOf": [text, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        },
        "nodes": {"const": 1, "description": "More than one is not supported in this version."},
        "resources": _object("What the job needs at least: 4, 4.. or 4..8.", _resources()),
        "env": _env(),
        "secrets": {"type": "array", "maxItems": 0, "description": "Not supported in this version."},
        "inputs": _inputs(text),
        "outputs": {
            "type": "array",
            "items": text | {"pattern": r"^(?!/)(?!(.*/)?\.\.(/|$)).*\S"},
            "description": "Files and folders inside the work folder that come back.",
        },
        "network": {"const": "none", "description": "A job reaches no network in this version."},
        "timeouts": _object("Seconds, or 90s, 10m, 2h, 1h30m.", _timeouts()),
        "max_price": _MONEY | {"title": "The most that an hour may cost"},
        "budget": _MONEY | {"title": "The most in total, fee included: the escrow cannot pay more"},
        "billing": {"enum": ["capacity", "usage"], "default": "capacity"},
        "window": _DURATION | {"description": "How long a claim can be disputed: seconds, or 30m."},
        "arbiter": _ADDRESS
        | {"description": "Who decides disputes, an address in quotes; the offer must name the same."},
        "guard": _ADDRESS | {"description": "Who may stop and dispute in your absence, an address in quotes."},
        "retry": _retry(),
        "placement": _placement(),
        "verify": {
            "description": "Not supported in this version.",
            "anyOf": [{"const": "none"}, _object("", {"mode": {"const": "none"}})],
        },
    }


def _object(description: str, properties: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"description": description} if description else {}),
    }


def _python(text: Schema) -> Schema:
    version: Schema = {
        "description": "A version of Python 3, in quotes: 3.10 without them is the number 3.1.",
        "anyOf": [{"type": "string", "pattern": jobfile._VERSION.pattern}, {"type": "number"}],
    }
    requirements = text | {"description": "A requirements file with versions and hashes."}
    return {
        "description": "The interpreter, and packages that are prepared before the clock starts.",
        "anyOf": [*version["anyOf"], _object("", {"version": version, "requirements": requirements})],
    }


def _resources() -> dict[str, Schema]:
    least = Resources()
    cores = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _range(_NUMBER)]}
    size = _range(_SIZE)
    return {
        "cpus": cores | {"default": format_cores(least.cpu_milli)},
        "memory": size | {"default": format_mib(least.memory_mib)},
        "gpu": {
            "description": "Whole accelerators.",
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": jobfile.GPUS_MAX},
                {"type": "string", "pattern": "^([0-9]{1,3}|none)$"},
            ],
        },
        "disk": size | {"default": format_mib(least.disk_mib)},
    }


def _range(one: str) -> Schema:
    return {"type": "string", "pattern": rf"^{one}(\.\.({one})?)?$"}


def _timeouts() -> dict[str, Schema]:
    default = Timeouts()
    meaning = {
        "queue": "How long the bid waits for a match.",
        "startup": "How long the provider may take to begin.",
        "execution": "The longest that it may run; bounds the price.",
    }
    return {
        name: _DURATION | {"description": words, "default": format_duration(getattr(default, name))}
        for name, words in meaning.items()
    }


def _env() -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": jobfile._ENV_NAME.pattern.replace("^", "^(?!SUANLI_)", 1)},
        "additionalProperties": {"type": "string"},
        "description": "Variables for the job; numbers in quotes. SUANLI_… are the provider's to set.",
    }


def _inputs(text: Schema) -> Schema:
    item = _object("", {"source": text, "path": {"type": "string", "pattern": r"^/in/(?!(.*/)?\.\.(/|$))[^/]"}})
    return {
        "type": "array",
        "items": item | {"required": ["source", "path"]},
        "description": "Files and folders of this machine, and where the job finds them.",
    }


def _retry() -> Schema:
    events: Schema = {"type": "array", "items": {"enum": list(jobfile.RETRY_EVENTS)}}
    attempts = {"type": "integer", "minimum": 1, "maximum": jobfile.ATTEMPTS_MAX, "default": 2}
    members: dict[str, Schema] = {"on": events, "on_events": events, "attempts": attempts}
    words = "Another lease within the budget when the provider failed; the job's own failure is never tried again."
    return {"description": words, "anyOf": [{"const": "none"}, _object("", members)]}


def _placement() -> Schema:
    region = {"type": "string", "pattern": jobfile._REGION.pattern}
    known: dict[str, Schema] = {
        "regions": {"type": "array", "items": region, "description": "Codes of ISO 3166-2, such as CN-GD or DE."},
        "max_carbon_intensity": {"not": {}, "description": "Not supported in this version."},
        "min_reputation": {"const": 0},
    }
    return _object("Where it may run.", known)


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Writes the file, or with --check says whether it is as it should be."""
    if "--check" not in arguments:
        PLACE.write_text(text())
        return 0
    if PLACE.is_file() and PLACE.read_text() == text():
        return 0
    sys.stderr.write(f"{PLACE} is stale: run python -m suanli.jobs.schema\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
