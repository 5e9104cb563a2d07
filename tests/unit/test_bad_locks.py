"""Whatever someone makes of a lock, each line of it is refused by its number, or the farm has read what it says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import OWN
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import LINES
from hypothesis import given
from hypothesis import strategies as st

from . import mutations
from .mutations import properties
from .one_image import IMAGES, Bench

KEYS = ["lock", "lines", "snapshot", "releases", "made_for", "left_out", "older", "above", "input", "kind",
        "platform", "sha256", "size",
        "linux/amd64", "trixie", *sorted({name for kind in LINES.values() for name in kind.fields})]
LOCKS = {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(OWN.glob("*/lock.jsonl"))}
KINDS = [  # of which no image of the catalog has a line
    {"input": "a", "kind": "url", "url": "https://example.org/a.tar.gz", "sha256": "a" * 64, "size": 1},
    {"input": "b", "kind": "git", "git": "https://example.org/b.git", "ref": "v1", "submodules": "empty",
     "commit": "b" * 40,
     "tree": "c" * 64, "sha256": "b" * 64, "size": 2},
    {"input": "c", "kind": "image", "platform": "linux/amd64", "image": "example.org/c:1",
     "digest": "sha256:" + "d" * 64, "file": "config",
     "sha256": "c" * 64, "size": 3},
]
HEADER = {"lock": 2, "snapshot": "20261123T112238Z", "releases": {"trixie": "20261121T091544Z"},
          "made_for": {"a": {"url": "https://x", "n": [1, "b"]}},
          "left_out": {"linux/s390x": ["trixie-security"]}, "older": {"linux/s390x": {"trixie": "20260912T075541Z"}},
          "above": ["debian"]}
FRAGMENTS = ["", "{}", "[]", "null", "1", '""', "NaN", "{", "}", '{"lock":2}', '{"lock":2,"lines":0}', "<<<<<<< HEAD",
             "=======", ">>>>>>> x",
             '{"input":"a","input":"b"}', "[" * 100_000, '{"a":' * 100_000, '{"lock":' + "9" * 5000 + "}", "\u2028",
             "\ufeff", "// x", "{'a': 1}",
             *(json.dumps(line) for line in KINDS)]


@dataclass(frozen=True)
class Deep:
    """A list in a list in a list: as a value it would be too deep for the tests themselves."""

    levels: int


scalars = mutations.scalars | st.sampled_from(mutations.SURROGATES) | st.builds(
    Deep, st.sampled_from([900, 940, 960, 980, 985, 990, 3000]))


def lines_of() -> list[dict[str, Any]]:
    """A line of each kind."""
    found = {line["kind"]: line for text in LOCKS.values() for line in map(json.loads, text.splitlines()[1:])}
    return [*found.values(), *KINDS]


REAL = lines_of()


def text_of(lines: list[Any]) -> str:
    return "".join(written(line) + "\n" for line in lines)


def written(value: Any) -> str:
    """As JSON."""
    if isinstance(value, Deep):
        return "[" * value.levels + "]" * value.levels
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{written(each)}" for key, each in value.items()) + "}"
    return "[" + ",".join(map(written, value)) + "]" if isinstance(value, list) else json.dumps(value)


def refused(data: bytes | str) -> bool:
    try:
        lockfile.parse(data, "lock.jsonl")
    except BadInput as error:
        there = (data if isinstance(data, str) else data.decode("utf-8", "replace")).count("\n") + 1
        for problem in error.problems:
            name, line, words = problem.split(":", 2)
            assert name == "lock.jsonl" and 0 < int(line) <= there and len(words) > 10
        assert len(set(error.problems)) == len(error.problems)
        return True
    return False


def test_there_is_a_line_of_each_kind() -> None:
    assert {line["kind"] for line in REAL} == set(LINES)
    assert not refused(text_of([HEADER, *REAL]))


@properties
@given(data=st.data())
def test_a_lock_that_says_something_else_is_refused_or_read_as_it_is(data: st.DataObject) -> None:
    lines = [HEADER, *data.draw(st.lists(st.sampled_from(REAL), min_size=1, max_size=3, unique_by=id))]
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = data.draw(mutations.mutated(lines[number], KEYS, scalars))
    text = text_of(lines)
    if not refused(text) and "[" * 900 not in text:
        again = [json.loads(line) for line in lockfile.dump(lockfile.parse(text, "x")).splitlines()]
        wanted = [{**lines[0], "lines": len(lines) - 1}, *lines[1:]]
        empty = ({}, [], "")  # the header leaves these out
        assert {key: value for key, value in wanted[0].items() if value not in empty} == again[0]
        assert sorted(sorted(map(str, line.items())) for line in wanted[1:]) == sorted(
            sorted(map(str, line.items())) for line in again[1:])


@properties
@given(data=st.data())
def test_a_lock_with_other_lines_is_refused_by_line(data: st.DataObject) -> None:
    refused(data.draw(mutations.torn(text_of([HEADER, *data.draw(st.lists(st.sampled_from(REAL), max_size=3))]),
                                     FRAGMENTS)))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bad") / "images")


@properties
@given(data=st.data())
def test_a_lock_beside_its_recipe_is_refused_by_line(bench: Bench, data: st.DataObject) -> None:
    """The recipe and the lock's header are compared too, and what its inputs lack."""
    name = data.draw(st.sampled_from(sorted(set(LOCKS) & set(IMAGES))))
    folder: Path = bench.take(name)
    header, *lines = map(json.loads, LOCKS[name].splitlines())
    header.pop("above", None)  # the images above are stubs
    part = data.draw(st.sampled_from(["header", "line", "lines"]))
    if part == "lines":
        text = data.draw(mutations.torn(text_of([header, *lines[:3]]), FRAGMENTS))
    else:
        if part == "header":
            header = data.draw(mutations.mutated(header, KEYS, scalars))
        elif lines:
            number = data.draw(st.integers(0, min(5, len(lines) - 1)))
            lines[number] = data.draw(mutations.mutated(lines[number], KEYS, scalars))
        text = text_of([header, *lines]).encode()
    (folder / "lock.jsonl").write_bytes(text)
    bench.said(locks=True)
