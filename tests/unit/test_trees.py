"""The trees beside the Solidity tests, and INVARIANTS.md, name tests that exist and leave out nothing of the ABI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from suanli_protocol.abi import artifact
from suanli_protocol.refusals import Refusal

ROOT = Path(__file__).resolve().parents[2]
SOLIDITY = ROOT / "contracts" / "test"
TREES = sorted(SOLIDITY.glob("*.tree"))
INVARIANTS = (ROOT / "contracts" / "INVARIANTS.md").read_text(encoding="utf-8")

NODE = re.compile(r"(?P<stem>(?:│   |    )*)[├└]── (?P<text>(?:when|given|it should) .+)")
LEAF = re.compile(r"(?P<says>it should .+?) \[(?P<tests>[^]]+)\]")
TEST = re.compile(r"\b(?:test|testFuzz|invariant)_\w+\b(?!\.py)")
GROUP = re.compile(rf"([\w./]+\.(?:t\.sol|py)):\s+((?:{TEST.pattern}(?:,\s+)?)+)")


def nodes(tree: Path) -> list[tuple[int, str]]:
    """Each condition and leaf with its depth; a line without a branch of its own continues the one before."""
    title, *lines = tree.read_text(encoding="utf-8").splitlines()
    assert title == f"LeaseEscrow::{tree.stem}"
    found: list[tuple[int, str]] = []
    for line in lines:
        if node := NODE.fullmatch(line):
            found.append((len(node["stem"]) // 4, node["text"]))
        else:
            depth, text = found.pop()
            found.append((depth, f"{text} {line.lstrip('│ ')}"))
    return found


def leaves(tree: Path) -> Iterator[tuple[str, str]]:
    """What each leaf says, and the tests that it names."""
    for _, text in nodes(tree):
        if text.startswith("it should "):
            leaf = LEAF.fullmatch(text)
            assert leaf, f"{tree.name}: a leaf without tests: {text}"
            yield leaf["says"], leaf["tests"]


def named(text: str) -> list[tuple[str, str]]:
    """The tests that a text names, each with its file."""
    return [(file, test) for file, tests in GROUP.findall(text) for test in TEST.findall(tests)]


def has(file: str, test: str) -> bool:
    """Whether the file defines the test."""
    path = (SOLIDITY if file.endswith(".t.sol") else ROOT) / file
    word = "function" if file.endswith(".t.sol") else "def"
    return path.is_file() and re.search(rf"^\s*{word} {test}\(", path.read_text(encoding="utf-8"), re.M) is not None


def members(kind: str) -> set[str]:
    """The interface's errors or events, or the functions that change something."""
    return {
        entry["name"]
        for entry in artifact("LeaseEscrow")["abi"]
        if entry["type"] == kind and entry.get("stateMutability") not in ("view", "pure")
    }


def test_each_function_that_changes_something_has_its_tree() -> None:
    assert {tree.stem for tree in TREES} == members("function")


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.stem)
def test_each_condition_leads_to_leaves_and_each_leaf_to_tests_that_exist(tree: Path) -> None:
    found = nodes(tree)
    for (depth, text), (after, _) in zip(found, [*found[1:], (0, "")], strict=True):
        is_leaf = text.startswith("it should ")
        assert after <= depth if is_leaf else after == depth + 1, text
    for says, tests in leaves(tree):
        assert [test for _, test in named(tests)] == TEST.findall(tests) != [], says
        assert [test for file, test in named(tests) if not has(file, test)] == [], says


def test_each_error_event_and_refusal_is_in_a_leaf() -> None:
    said = {word for tree in TREES for says, _ in leaves(tree) for word in re.findall(r"\w+(?:\.\w+)*", says)}
    errors = {error for error in members("error") if error.startswith("LeaseEscrow_")}
    refusals = {f"Refusal.{code.name.title().replace('_', '')}" for code in Refusal if code is not Refusal.NONE}
    events = members("event") - {"EIP712DomainChanged"}  # of the base: never emitted
    assert (errors | refusals | events) - said == set()


def test_each_invariant_names_tests_that_exist() -> None:
    head, *sections = re.split(r"^## (?=\d+\. )", INVARIANTS, flags=re.M)
    assert [int(section.split(".")[0]) for section in sections] == list(range(1, len(sections) + 1))
    for section in sections:
        title = section.splitlines()[0]
        assert named(section), title
        assert [test for _, test in named(section)] == TEST.findall(section), title
        assert [test for file, test in named(section) if not has(file, test)] == [], title
    assert not TEST.findall(head)
