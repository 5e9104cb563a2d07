"""YAML with mistakes, innocent or not: each is told with its line, at once, with the others beside it."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.schema import FILES
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.documents import Document

from .conftest import Catalog

PROJECT = Path(__file__).resolve().parents[2]
HEAD = "description: a\nlicense: MIT\n"
BOMB = "args:\n  a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"  {name}: &{name} [{','.join(['*' + above] * 9)}]\n" for above, name in zip("abcdefgh", "bcdefghi"))


def read(tmp_path: Path, text: str | bytes, schema: str = "recipe") -> Document:
    path = tmp_path / "image.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    document = Document(path, "f")
    document.check(FILES[f"{schema}.schema.json"]())
    return document


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: !!timestamp abc\n", "f:3: !!timestamp: tags are not supported"),
        ("title: !!python/object/apply:os.getcwd []\n", "f:3: !!python/object/apply:os.getcwd: tags"),
        ("title: !!binary aGVsbG8=\n", "f:3: !!binary: tags"),
        ("targets: !!set {a, b}\n", "f:3: !!set: tags"),
        ("args: !!omap [A: x]\n", "f:3: !!omap: tags"),
        ("title: !own x\n", "f:3: !own: tags"),
        ("title: !!int abc\n", "f:3: !!int: tags"),
        ("args: {<<: {A: x}}\n", "f:3: merge keys (<<) are not supported"),
        ("title: *x\n", "f:3: the alias *x is not defined"),
        ("args: &a {A: *a}\n", "f:3: args.A contains itself"),
        ("version: " + "9" * 5000 + "\n", "f:3: a number with 5000 digits; put it in quotes"),
        ("version: -" + "9" * 19 + "\n", "f:3: a number with 19 digits"),
        ('title: "a\\0b"\n', "f:3: it contains the control character U+0000"),
        ('args: {A: "x\\ey\\r"}\n', "f:3: it contains the control character U+000D, U+001B"),
        ('args: {"A\\0": x}\n', "f:3: it contains the control character U+0000"),
        ("title: a\x07b\n", "f:3: not YAML: it contains the control character U+0007"),
        ('title: "\\ud800"\n', "f:3: not YAML: "),
        ("args:\n\tA: x\n", "f:4: not YAML: found character that cannot start any token; the line begins with a tab"),
        ("title: " + "x" * 4001 + "\n", "f:3: it has 4001 characters; at most 4000"),
        ("---\ntitle: x\n", "f:3: a second document begins here"),
        ("a: " + "[" * 50000, "f:3: "),
        ("- " * 30000, "f:3: "),
        ("".join(f"{' ' * depth}a:\n" for depth in range(30)), "f:24: values are nested more than 20 deep"),
        ("#" * (1 << 17), "f:1: the file is too large: at most 128 KiB"),
        (BOMB, "f:7: more than 5000 values; those that an alias repeats count each time"),
        ("args:\n  A: &a " + "x" * 3900 + "\n" + "".join(f"  A{n}: *a\n" for n in range(200)),
         "f:128: more than 5000 values"),
        ("args:\n" + "".join(f"  A{n}: x\n" for n in range(6000)), "f:5000: more than 5000 values"),
        ("suites: [" + ",".join(f"{{a: {n}}}" for n in range(2400)) + "]\n", "f:3: suites.0 is a mapping"),
        ("suites: [trixie, trixie]\n", "f:3: suites: 'trixie' appears 2 times"),
        ('suites: ["trixie\\n"]\n', "f:3: suites.0 is 'trixie\\n', it must be the name of a suite"),
        ('args: {"A\\n": x}\n', "f:3: 'A\\n': a key must be one line"),
        ("? [a, b]\n: x\n", "f:3: a key must be a string"),
    ],
    ids=range(32),
)
def test_what_no_recipe_has_is_told_in_a_second(tmp_path: Path, text: str, said: str) -> None:
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problems = read(tmp_path, HEAD + text).problems
    assert any(problem.startswith(said) for problem in problems), [problem[:200] for problem in problems[:5]]
    assert all("\n" not in problem and len(problem) < 600 for problem in problems)
    assert time.process_time() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


@pytest.mark.parametrize(
    "bad", ["title: !!timestamp x", "title: *x", "title: 99999999999999999999", 'title: "\\0"', "title: a\ntitle: b"])
def test_a_value_that_cannot_be_used_hides_no_other_mistake(tmp_path: Path, bad: str) -> None:
    document = read(tmp_path, f"{HEAD}{bad}\nfoo: 1\nhome: x\n")
    last = len(bad.split("\n")) + 3
    assert [problem.partition(";")[0] for problem in document.problems[1:]] == [
        f"f:{last}: 'foo' is not known here",
        f"f:{last + 1}: home is 'x', it must be an address by http or https, without spaces, such as "
        "https://example.org"]
    assert document.bad >= {"title", "home"}


def test_a_bad_tag_in_one_recipe_hides_no_mistake_in_another(empty: Catalog) -> None:
    empty.image("a", "FROM nothing\n", "title: !!timestamp x\n")
    empty.image("b", "FROM scratch\n", "foo: 1\n")
    assert [problem.partition(": ")[0] for problem in empty.problems()] == [
        "images/a/Dockerfile:1", "images/a/image.yml:5", "images/b/image.yml:5"]


@pytest.mark.parametrize("text", [
    "!!map\n" + HEAD, HEAD + "title: !!str 5\n", HEAD + "title: ! 5\n", "%YAML 1.2\n---\n" + HEAD + "...\n",
    HEAD + "args: {A: &a x, B: *a}\n", HEAD + "args:\n  A: |\n    two\n    lines\t\n", HEAD + "version: 1.5\n"])
def test_what_changes_nothing_is_allowed(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).problems == []


def test_defaults_are_read_alike(tmp_path: Path) -> None:
    assert read(tmp_path, "suites: [a]\nvendor: !!timestamp x\nplatform: [x]\n", "defaults").problems == [
        "f:2: !!timestamp: tags are not supported; remove it, and put strings in quotes",
        "f:3: 'platform' is not known here (did you mean 'platforms'?); allowed: build_platforms, compression, images,"
        " platforms, source, suites, vendor"]


def test_line_ends_and_a_byte_order_mark_change_no_line(tmp_path: Path) -> None:
    for text in (HEAD + "foo: x\n", "\ufeff" + HEAD + "foo: x\n", (HEAD + "foo: x\n").replace("\n", "\r\n")):
        assert [problem[:12] for problem in read(tmp_path, text).problems] == ["f:3: 'foo' i"]
    assert read(tmp_path, b"description: a\nlicense: \xff\n").problems == ["f:2: not UTF-8: byte 0xff"]


def test_a_byte_order_mark_is_taken_in_every_file(empty: Catalog) -> None:
    inputs = "inputs:\n  x: {url: 'https://example.org/x'}\n"
    line = '{"input":"x","kind":"url","url":"https://example.org/x","sha256":"' + 64 * "a" + '","size":1}\n'
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\nCOPY . /\n", inputs)
    empty.write("a/lock.jsonl", '{"lock":2,"made_for":{"x":{"url":"https://example.org/x"}}}\n' + line)
    empty.write("a/.dockerignore", "secret\n")
    empty.write("a/secret", "x")
    before = {unit.id for unit in empty.plan().units.values()}
    for name in ("a/image.yml", "a/Dockerfile", "a/lock.jsonl", "defaults.yml"):
        empty.write(name, "\ufeff" + (empty.root / name).read_text(encoding="utf-8"))
    assert {unit.id for unit in empty.plan().units.values()} == before
    empty.write("a/.dockerignore", "\ufeffsecret\n")
    assert set(empty.sources("a").files) == {".dockerignore"}


@pytest.mark.parametrize(("text", "said"), [
    ("title: 3\n", "title is the number 3, it must be a string, so put it in quotes"),
    ("title: true\n", "title is true, it must be a string, so put it in quotes"),
    ("title:\n", "title is empty, it must be a string"), ("title: [a]\n", "title is a list ['a'], it must be a string"),
    ("contract: {ports: {a: 99999/tcp}}\n",
     "contract.ports.a is '99999/tcp', it must be a port from 1 to 65535 with its protocol, tcp or udp, such as "
     "8080/tcp"),
    ("contract: {user: x}\n", "contract.user is a string 'x', it must be a whole number"),
    ("contract: {exceptions: {pei: {a: b}}}\n", "a key of contract.exceptions is 'pei' (did you mean 'pie'?)"),
    ("args: {TARGETARCH: x}\n", "a key of args is 'TARGETARCH', it must be letters, digits and _, and no name"),
    ("contract: {health: {command: ' '}}\n", "contract.health.command is ' ', it must have a letter or a sign"),
    ("suites: {{ x }}\n", "a key must be a string (does {{ }} need quotes?)"),
    ("suites: [null]\n", "suites.0 is empty, it must be a string"),
    ("platforms: [null]\n", "platforms.0 is null; allowed"),
    ("inputs: {a: {url: https://x, go: y}}\n",
     "inputs.a must have exactly one of cargo, debian, git, go, image, maven, npm, pypi, url, and has go and url"),
    ("inputs: {a: null}\n", "inputs.a is empty, it must be a mapping"),
    ("inputs: {a: {go: x.org/y, version: v1, packages: z}}\n", "'packages' is not known here (did you mean 'package'?)"
                                                               "; allowed: for, go, package, version"),
    ("inputs: {a: {npm: x, version: ^1}}\n", "inputs.a.version is '^1', it must be one version, such as 1.2.3"),
])
def test_a_mistake_is_told_once_in_words(tmp_path: Path, text: str, said: str) -> None:
    (found,) = read(tmp_path, HEAD + text).problems
    assert found.startswith(f"f:3: {said}")


@pytest.mark.parametrize("text", ["---", "a: &a [*a]\n---", "description: x\n---\nlicense: y\n"])
def test_a_line_is_one_that_the_file_has(tmp_path: Path, text: str) -> None:
    problems = read(tmp_path, text).problems
    assert problems and all(int(problem.split(":")[1]) <= len(text.splitlines()) for problem in problems)


@pytest.mark.parametrize("key", ["inputs", "contract", "args", "targets", "suites"])
def test_what_stands_before_a_second_document_is_not_used(empty: Catalog, key: str) -> None:
    empty.image("a", "FROM scratch\n", f"{key}:\n---\n  x: y\n")
    (found,) = empty.problems()
    assert found == "images/a/image.yml:6: a second document begins here; a file must have only one"
