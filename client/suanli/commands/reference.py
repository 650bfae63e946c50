"""The reference of the command line, docs/cli.md: the help of every command of the three programs, as they print it.

`python -m suanli.commands.reference` writes it, `--check` fails if that is not what would be written. The programs of
provider and market are asked by their own names, as processes: this package does not know theirs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PLACE = Path("docs/cli.md")
PROGRAMS = ("suanli", "suanli-node", "suanli-market")
WIDTH = 100
TIMEOUT_S = 60
_COMMAND = re.compile(r"^  ([a-z][a-z-]*)(?:  |$)")
HEAD = """# The command line

What `--help` says, for every command. Made by `python -m suanli.commands.reference`.

How all of `suanli` behaves: data on stdout, everything else on stderr · `--json` on every command that reads,
`--jsonl` where things go on · an error under either is one object `{code, title, detail, hint, retryable}` on stderr,
with the same code as the API's problems · without a terminal nothing is asked: the command fails and names the flag ·
`NO_COLOR`, `--quiet`, `-v` · Ctrl-C detaches and never stops a job · a name, a lease's number or any unambiguous
beginning of an id names a job · a setting comes from the flag, else `SUANLI_…`, else `./.suanli.toml`, else your own
file, else the demo that runs here; `suanli config show --origin` says which · of `window`, `arbiter` and `guard` a flag
wins over the job file, and the file over a setting · a market that is away when `wait`, `logs` or `get` begins is
waited for, for 15 s.

| exit status | meaning |
|---|---|
| 0 | it is done, or the job succeeded |
| 1 | a bug of ours |
| 2 | the command, the job file or a setting is wrong |
| 3 | a key or a password is missing or wrong |
| 4 | no offer fits |
| 5 | price, budget or money does not suffice |
| 6 | the chain refused, or cannot be reached |
| 7 | market or provider refused, or cannot be reached |
| 8 | the time to wait is over |
| 9 | this machine cannot go on: its disk is full, it has no memory or files left |
| 100 | the job failed |
| 101 | the job has not ended yet |
| 102 | there is no such job, lease or file |
| 103 | the job was cancelled |
| 104 | the provider's fault, or bytes that are not what was signed |
| 105 | the settlement is disputed |
| 130 | interrupted (Ctrl-C) |
"""


def help_of(words: tuple[str, ...]) -> str:
    """What a command prints for --help; RuntimeError with its stderr if it fails."""
    program = Path(sys.executable).with_name(words[0])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUANLI_")}
    environment = kept | {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(program), *words[1:], "--help"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=environment,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} --help: {done.stderr}")
    return done.stdout.strip()


def subcommands(text: str) -> list[str]:
    """The commands that a help lists: what is indented by two below a heading that is not of options."""
    found, is_list = [], False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            is_list = line.endswith(":") and not line.startswith(("Usage", "Options"))
        elif is_list and (match := _COMMAND.match(line)):
            found.append(match[1])
    return found


def _level(pool: ThreadPoolExecutor, commands: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """The help of commands and of all below them."""
    texts = dict(zip(commands, pool.map(help_of, commands), strict=True))
    below = [(*words, name) for words, text in texts.items() if "COMMAND [ARGS]" in text for name in subcommands(text)]
    return texts | (_level(pool, below) if below else {})


def text() -> str:
    """The whole reference."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        texts = _level(pool, [(program,) for program in PROGRAMS])
    order = sorted(texts, key=lambda words: (PROGRAMS.index(words[0]), words[1:]))
    parts = [f"{'#' * min(4, 1 + len(words))} {' '.join(words)}\n\n```\n{texts[words]}\n```\n" for words in order]
    return "\n".join([HEAD, *parts])


def main(arguments: list[str]) -> int:
    """Writes the file, or with --check says whether it is as it should be."""
    found = text()
    if "--check" not in arguments:
        PLACE.write_text(found)
        return 0
    if PLACE.is_file() and PLACE.read_text() == found:
        return 0
    sys.stderr.write(f"{PLACE} is stale: run python -m suanli.commands.reference\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
