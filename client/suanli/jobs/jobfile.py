"""The job file: YAML 1.2, flat, every key optional but `run`.

An unknown key is an error with a suggestion. A key that this version does not support is refused by name unless its
value is neutral (`nodes: 1`, `network: none`), never ignored. Errors are UsageErrors with the codes `unknown_key`,
`missing_key`, `not_supported` and `bad_value`, each naming the key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import Any

from suanli.jobs.job import Input, Job, Resources, Timeouts
from suanli.terminal.spelling import suggestion
from suanli_protocol import units
from suanli_protocol.errors import NotFoundError, ProtocolError, UsageError

FILE_BYTES_MAX = 256 * 1024
NESTING_MAX = 200  # brackets open at once: more take a reader of YAML seconds to give up on
KEYS = (
    *("name", "workdir", "python", "run", "nodes", "resources", "env", "secrets", "inputs", "outputs", "network"),
    *("timeouts", "max_price", "budget", "billing", "window", "arbiter", "guard", "retry", "placement", "verify"),
)
RETRY_EVENTS = ("interruption", "provider-error")
ATTEMPTS_MAX = 10
GPUS_MAX = 1024
_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_VERSION = re.compile(r"^3\.\d{1,2}$")
_REGION = re.compile(r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def load(path: Path) -> Job:
    """The job of a file; relative paths in it are relative to its folder."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no job file {path}", hint="give its path with -f") from None
    if len(data) > FILE_BYTES_MAX:
        raise _bad("job file", f"{path} is longer than {FILE_BYTES_MAX} bytes", "a job file is a few lines of YAML")
    return parse(data, path.resolve().parent)


def parse(data: bytes, folder: Path) -> Job:
    """The job of a job file's bytes."""
    values = _mapping(_read_yaml(data), "job file")
    _known(values, KEYS, "")
    _refuse_unsupported(values)
    if "run" not in values:
        raise UsageError("the job file has no `run`", hint="add run: COMMAND", code="missing_key")
    argv, shell = _command(values["run"])
    version, requirements = _python(values.get("python"), folder)
    placement = _section(values, "placement", ("regions", "max_carbon_intensity", "min_reputation"))
    return Job(
        name=_name(values.get("name", "")),
        argv=argv,
        shell=shell,
        workdir=_optional(values.get("workdir"), lambda value: folder / _text(value, "workdir")),
        python=version,
        requirements=requirements,
        env=_env(values.get("env")),
        inputs=_inputs(values.get("inputs"), folder),
        outputs=_outputs(values.get("outputs")),
        resources=_resources(values),
        timeouts=_timeouts(values),
        max_price=_money(values.get("max_price"), "max_price"),
        budget=_money(values.get("budget"), "budget"),
        billing=_billing(values.get("billing")),
        window=_optional(values.get("window"), lambda value: seconds(value, "window")),
        arbiter=_optional(values.get("arbiter"), lambda value: address(value, "arbiter")),
        guard=_optional(values.get("guard"), lambda value: address(value, "guard")),
        regions=_regions(placement.get("regions")),
        **_retry(values),
    )


# Reading


def _read_yaml(data: bytes) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor
    from ruamel.yaml.error import YAMLError

    class Exact(SafeConstructor):
        """Numbers with a point stay the decimal text that was written: money is never a float."""

    if _nesting(data) > NESTING_MAX:
        raise _bad("job file", "it is nested too deeply", "a job file is flat")
    Exact.add_constructor("tag:yaml.org,2002:float", lambda _, node: _decimal(node.value))
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = Exact
    try:
        return reader.load(data.decode())
    except UnicodeDecodeError:
        raise _bad("job file", "it is not UTF-8 text", "save it as UTF-8") from None
    except YAMLError as error:
        raise _bad("job file", f"it is not YAML: {_first_lines(error)}", "check quotes and indentation") from None
    except RecursionError:
        raise _bad("job file", "it is nested too deeply", "a job file is flat") from None


def _nesting(data: bytes) -> int:
    depth = deepest = 0
    for byte in data:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth = max(0, depth - 1)
    return deepest


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text.replace("_", ""))
    except InvalidOperation:
        return Decimal("NaN")  # .inf and .nan: refused where a number is wanted


def _first_lines(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1})" if mark is not None else str(problem)


def _bad(key: str, detail: str, hint: str = "") -> UsageError:
    return UsageError(f"{key}: {detail}", hint=hint, code="bad_value")


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(key, "it must be `key: value` lines", "see `suanli run --help`")
    for name in value:
        if not isinstance(name, str):
            raise _bad(key, f"the key {name!r} is not text", "put it in quotes")
    return value


def _known(values: Mapping[str, Any], known: tuple[str, ...], prefix: str) -> None:
    for name in values:
        if name not in known:
            raise UsageError(f"unknown key `{prefix}{name}`", hint=suggestion(name, known), code="unknown_key")


def _section(values: Mapping[str, Any], name: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    section = values.get(name)
    if section is None:
        return {}
    section = _mapping(section, name)
    _known(section, known, f"{name}.")
    return section


def _optional(value: Any, read: Callable[[Any], Any]) -> Any:
    return None if value is None else read(value)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _bad(key, f"{value!r} is not text", f'write {key}: "…"')
    return value


def _list(value: Any, key: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _bad(key, f"{value!r} is not a list", f"write {key}: [a, b]")
    return value


# What this version does not support, unless the value is neutral

_NEUTRAL: dict[str, Callable[[Any], bool]] = {
    "nodes": lambda value: value == 1 and not isinstance(value, bool),
    "secrets": lambda value: value == [],
    "network": lambda value: value == "none",
    "verify": lambda value: value in ("none", {}, {"mode": "none"}),
    "placement.max_carbon_intensity": lambda _: False,
    "placement.min_reputation": lambda value: value == 0 and not isinstance(value, bool),
}
_WANTED = {"nodes": "1", "secrets": "[]", "network": "none", "verify": "{mode: none}"}


def _refuse_unsupported(values: Mapping[str, Any]) -> None:
    for path, neutral in _NEUTRAL.items():
        section, _, key = path.rpartition(".")
        holder = values.get(section) if section else values
        value = holder.get(key) if isinstance(holder, dict) else None
        if value is not None and not neutral(value):
            wanted = f"remove it or write {key}: {_WANTED[path]}" if path in _WANTED else "remove it"
            raise UsageError(
                f"`{path}: {_brief(value)}` is not supported in this version", hint=wanted, code="not_supported"
            )


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


# Each key


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200 or _CONTROL.search(value):
        raise _bad("name", f"{value!r} is not a name", "write at most 200 characters of text")
    return value


def _command(value: Any) -> tuple[tuple[str, ...], str]:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return tuple(value), ""
    if isinstance(value, str) and value.strip():
        return (), value
    raise _bad("run", f"{value!r} is not a command", "write a line for the shell, or a list of texts")


def _python(value: Any, folder: Path) -> tuple[str, Path | None]:
    if value is None:
        return "", None
    if not isinstance(value, dict):
        value = {"version": value}
    _known(_mapping(value, "python"), ("version", "requirements"), "python.")
    version = str(value.get("version") or "")
    if version and not _VERSION.match(version):
        raise _bad("python.version", f"{version!r} is no version of Python", 'write version: "3.11"')
    requirements = value.get("requirements")
    if requirements is None:
        return version, None
    return version, folder / _text(requirements, "python.requirements")


def _env(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    for name, item in _mapping(value, "env").items():
        check_env(name, item)
    return dict(value)


def check_env(name: str, value: Any) -> None:
    """UsageError unless this is a variable that a job may be given."""
    if not _ENV_NAME.match(name):
        raise _bad(f"env.{name}", "it is no name of a variable", "letters, digits and _")
    if not isinstance(value, str):
        raise _bad(f"env.{name}", f"{value!r} is not text", f'write {name}: "{value}"')
    if "\x00" in value:
        raise _bad(f"env.{name}", "it holds a NUL character", "remove it")
    if name.startswith("SUANLI_"):
        raise _bad(f"env.{name}", "names that begin with SUANLI_ are set by the provider", "choose another name")


def _inputs(value: Any, folder: Path) -> tuple[Input, ...]:
    return tuple(_input(item, f"inputs[{i}]", folder) for i, item in enumerate(_list(value, "inputs")))


def _input(value: Any, key: str, folder: Path) -> Input:
    values = _mapping(value, key)
    _known(values, ("source", "path"), f"{key}.")
    for name in ("source", "path"):
        if name not in values:
            raise UsageError(
                f"`{key}` has no `{name}`", hint="write {source: ./data, path: /in/data}", code="missing_key"
            )
    path = PurePosixPath(_text(values["path"], f"{key}.path"))
    if path.parts[:2] != ("/", "in") or len(path.parts) < 3 or ".." in path.parts or _CONTROL.search(str(path)):
        raise _bad(f"{key}.path", f"{str(path)!r} does not lie under /in", "write a path such as /in/data")
    return Input(folder / _text(values["source"], f"{key}.source"), str(path))


def _outputs(value: Any) -> tuple[str, ...]:
    return tuple(check_output(item, f"outputs[{i}]") for i, item in enumerate(_list(value, "outputs")))


def check_output(value: Any, key: str) -> str:
    """A path inside the work folder, normalised; UsageError otherwise."""
    path = PurePosixPath(_text(value, key))
    if path.is_absolute() or ".." in path.parts or not path.parts or _CONTROL.search(str(path)):
        raise _bad(key, f"{value!r} is not a path inside the work folder", "write out/ or metrics.json")
    return str(path)


def _low(value: Any, key: str) -> str:
    """The low end of "4", "4..", "4..8": what is needed."""
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise _bad(key, f"{value!r} is not an amount", f"write {key.rpartition('.')[2]}: 4, 4.. or 4..8")
    low, dots, high = text.partition("..")
    if dots and not low:
        raise _bad(key, f"{text!r} has no lower end", "write 4.. or 4..8")
    if dots and high and _size(key)(high) < _size(key)(low):
        raise _bad(key, f"{text!r} ends below its beginning", "write the smaller number first")
    return low


def _size(key: str) -> Callable[[str], int]:
    return lambda text: _read(units.parse_cores if key.endswith("cpus") else units.parse_mib, text, key)


def _resources(values: Mapping[str, Any]) -> Resources:
    section, default = _section(values, "resources", ("cpus", "memory", "gpu", "disk")), Resources()

    def read(name: str, otherwise: int) -> int:
        key = f"resources.{name}"
        return otherwise if section.get(name) is None else _size(key)(_low(section[name], key))

    return Resources(
        read("cpus", default.cpu_milli),
        read("memory", default.memory_mib),
        read("disk", default.disk_mib),
        _gpus(section.get("gpu")),
    )


def _gpus(value: Any) -> int:
    """How many whole accelerators; which memory or model they must have cannot be asked for yet."""
    if value in (None, "none"):
        return 0
    if isinstance(value, str) and not value.isdecimal():
        raise UsageError(
            f"`resources.gpu: {_brief(value)}` is not supported in this version",
            hint="write how many whole accelerators: gpu: 1",
            code="not_supported",
        )
    count = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else -1
    if not 0 <= count <= GPUS_MAX:
        raise _bad("resources.gpu", f"{value!r} is no number of accelerators", f"write 0 to {GPUS_MAX}")
    return count


def _timeouts(values: Mapping[str, Any]) -> Timeouts:
    section, default = _section(values, "timeouts", ("queue", "startup", "execution")), Timeouts()

    def read(name: str, otherwise: int) -> int:
        value = section.get(name)
        return otherwise if value is None else seconds(value, f"timeouts.{name}")

    return Timeouts(
        read("queue", default.queue), read("startup", default.startup), read("execution", default.execution)
    )


def seconds(value: Any, key: str) -> int:
    """Whole seconds, at least 1 and less than 2^31, from "2h" or a count."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _bad(key, f"{value!r} is not a duration", "write 90s, 10m, 2h or 1h30m")
    number = _read(units.parse_duration, value, key)
    if not 0 < number < 2**31:
        raise _bad(key, f"{value!r} is out of range", "write a time of at least 1s")
    return number


def _read(parse: Callable[..., int], value: Any, key: str) -> int:
    try:
        return parse(value, name=key)
    except UsageError as error:
        error.code = "bad_value"
        raise


def _money(value: Any, key: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise _bad(key, f"{value!r} is not an amount", f"write {key}: 0.50")
    return money(f"{value:f}" if isinstance(value, Decimal) else str(value), key)


def money(text: str, key: str) -> str:
    """Decimal text of a positive amount; its fineness is checked when the token is known."""
    if _read(lambda value, name: units.parse_money(value, 18, name=name), text, key) == 0:
        raise _bad(key, "it is zero", "write an amount above zero")
    return text


def address(value: Any, key: str) -> str:
    """The checksummed address of a party."""
    from suanli_protocol.wire import read_address

    if isinstance(value, int):
        raise _bad(key, "an address without quotes is a number", f'write {key}: "0x…"')
    try:
        return read_address(value, name=key)
    except ProtocolError as error:
        hint = error.hint or "write 0x and 40 hex digits"
        raise UsageError(error.detail, hint=hint, code="bad_value") from None


def _billing(value: Any) -> str:
    if value in (None, "capacity", "usage"):
        return value or "capacity"
    raise _bad("billing", f"{value!r} is no mode of billing", "write capacity or usage")


def _retry(values: Mapping[str, Any]) -> dict[str, Any]:
    if values.get("retry") in (None, "none"):
        return {}
    section = _section(values, "retry", ("on", "on_events", "attempts"))
    attempts = section.get("attempts", 2 if section else 1)
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= ATTEMPTS_MAX:
        raise _bad("retry.attempts", f"{attempts!r} is no number of attempts", f"write 1 to {ATTEMPTS_MAX}")
    named = _list(section.get("on", section.get("on_events", list(RETRY_EVENTS))), "retry.on")
    for event in named:
        if event not in RETRY_EVENTS:
            raise _bad("retry.on", f"{event!r} is nothing to try again on", "one of " + ", ".join(RETRY_EVENTS))
    return {"attempts": attempts if named else 1, "retry_on": tuple(named)}


def _regions(value: Any) -> tuple[str, ...]:
    regions = _list(value, "placement.regions")
    for region in regions:
        if not isinstance(region, str) or not _REGION.match(region):
            raise _bad(
                "placement.regions", f"{region!r} is no region", "write codes of ISO 3166-2, such as CN-GD or DE"
            )
    return tuple(regions)
