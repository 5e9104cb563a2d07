"""Valid inputs with something wrong in them, for the properties of what people write (test_bad_input.py).

A mutation has a structure: a value of another type, a key that is renamed, doubled or dropped, a line that moved, an
alias, a tag. Random text would be refused at its first character, and never reach the code behind the parser.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("DESIMAGES_TEST_EXAMPLES", "15"))  # of each property; `make test-full` tries more
SLOW = timedelta(seconds=5)  # an input that takes longer counts as one that hangs
properties = settings(max_examples=EXAMPLES, deadline=SLOW, suppress_health_check=list(HealthCheck),
                      phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink))

Place = tuple[Any, ...]

ODD_TEXTS = [
    "", " ", "\t", "\n", "a\nb", "a\r\nb", "a b", "\0", "\x1b[2J", "\x85", "\u2028", "\ufeff", "\u202e", "\U0001f600",
    "\u0663", "\u00b2", "\u0130", "A", "a" * 90, "a" * 300, "a" * 5000, "-" * 300, ":" * 20_000, "a." * 20_000,
    "/" * 20_000,
    ".", "..", "../..", "./", "./..", "/", "//", "/etc/passwd", "~", "*", "&a", "*a", "!x", "%", "%s", "{", "{}", "{x}",
    "{0}", "{suite}", "{goarch}", "{{", "{{ x }}", "{% x %}", "$", "$x", "${x", "${x:-}", "[", "[]", "'", '"', "\\",
    "`", "<", "<<", "=", ",", "a,b", ",,", "#", "-", "--", "---", "...", "@", "a@b", "a:b@c", "null", "true", "yes",
    "no", "0", "-1", "1", "1.0", "1e999", "0x10", "010", "1_000", "NaN", "inf", "2026-11-30", "12:30:45", "9" * 400,
    "9" * 5000, "(", "(a+)+$", "(?P<a>", "a{99999}", "http://", "http://[", "http://[::1", "http://a:b",
    "http://a:99999",
    "https://a b", "file:///", "sparse+https://", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "[::1]:5000", "[",
    "localhost", "0.0.0.0:1", "a.example:5000", "a.example/b", "linux", "linux/", "linux/arm", "linux/arm/v8",
    "LINUX/AMD64",
    "v1", "v1.2", "sha256:" + "a" * 64, "a" * 64, "all", "scratch", "inputs", "archive", "base", "desimages.farm",
]
SURROGATES = ["\ud800", "a\udfffb", "\udcff"]  # which JSON can say, and a command line can have
ODD_NUMBERS: list[Any] = [0, 1, -1, 2, 99, 200, 65535, 65536, 1 << 32, 1 << 63, 10**17, 10**20, -(10**30), 0.0, 1.5,
                          -0.5, 1e300,
                          float("inf"), float("nan")]

texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=8)
scalars = st.none() | st.booleans() | st.sampled_from(ODD_NUMBERS) | texts


def values(leaves: st.SearchStrategy[Any] = scalars) -> st.SearchStrategy[Any]:
    """Any value, usually a simple one."""
    return leaves | st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=4)


def deep(levels: int, lists: bool) -> Any:
    """A value in a value in a value."""
    found: Any = "x"
    for _level in range(levels):
        found = [found] if lists else {"a": found}
    return found


deeps = st.builds(deep, st.sampled_from([2, 19, 21, 60, 250]), st.booleans())


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Where something stands in a value: the value itself, and all below."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def at(value: Any, path: Place) -> Any:
    for key in path:
        value = value[key]
    return value


@st.composite
def mutated(draw: st.DrawFn, value: Any, names: list[str], leaves: st.SearchStrategy[Any] = scalars) -> Any:
    """A JSON value with one to three things changed. `names` are keys that may mean something."""
    value = copy.deepcopy(value)
    for _time in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        path = draw(st.sampled_from(list(places(value))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(values(leaves))
            path = draw(st.sampled_from(list(places(value))[1:] or [()]))
        if not path:
            return value
        above, key = at(value, path[:-1]), path[-1]
        keys = st.sampled_from(names) | texts
        what = draw(st.sampled_from(["put", "put", "put", "put", "drop", "rename", "add", "wrap", "deep", "again",
                                     "move"]))
        if what == "drop":
            del above[key]
        elif what == "rename" and isinstance(above, dict):
            name = draw(keys | st.sampled_from([f"{key}s", str(key)[:-1], str(key).upper()]))
            above[name] = above.pop(key)
        elif what == "add" and isinstance(above, dict):
            above[draw(keys)] = draw(values(leaves))
        elif what == "wrap":
            above[key] = [above[key]] if draw(st.booleans()) else {draw(keys): above[key]}
        elif what == "deep":
            above[key] = draw(deeps)
        elif what == "again" and isinstance(above, list):
            above.append(above[key])
        elif what == "move":
            above[key] = copy.deepcopy(at(value, draw(st.sampled_from(list(places(value))))))
        else:
            above[key] = draw(values(leaves))
    return value


def yaml_of(value: Any) -> str:
    """A value as YAML that says exactly that, a part a line."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


FRAGMENTS = [
    "a: &a [*a]", "a: &a {b: *a}", "b: *nowhere", "<<: *a", "<<: {a: b}", "a: !!binary aGVsbG8=",
    "a: !!timestamp 2026-11-30",
    "a: !!set {b, c}", "a: !!python/object/apply:os.system [id]", "a: !vault x", "a: !unsafe x", "a: !!float .nan",
    "a: 1:30", "a: 0o7",
    "? [a, b]\n: c", "? {a: b}\n: c", "? a", "- a", "---", "...", "--- x", "%YAML 1.3", "%TAG ! x", "\tx: y", "x:\ty",
    "a: |\n  b\n c",
    "a: >-\n", "a: |99\n  b", "{", "[", "}", "]", "a: [b", "a: {b: c", "a: 'b", 'a: "b', 'a: "\\ud800"', 'a: "\\0"',
    'a: "\\x7f"', "a: b: c",
    "a: - b", ": ", ":", "a:", "1: 2", "true: 1", "null: 1", "~: 1", "2026-11-30: 1", "a: 2026-11-30", "a: .inf",
    "a: 1e3", "'': ''",
    "a: &x " + "[" * 30 + "]" * 30, "[" * 5000, "{a: " * 2000, "- " * 3000, "x" * 70_000, "a: " + "9" * 5000,
    "\u2028", "\x85", "\ufeff", "#", "# x",
    "a: &a [" + "x," * 9 + "]\nb: &b [" + "*a," * 9 + "]\nc: &c [" + "*b," * 9 + "]\nd: [" + "*c," * 9 + "]",
]
BYTES = [b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x80", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\x1b", b"\xfe\xff",
         b"\n", b"\t", b"\x0c"]


@st.composite
def torn(draw: st.DrawFn, text: str, fragments: list[str]) -> bytes:
    """A text whose lines are doubled, dropped, moved, indented, cut, or have a fragment among them."""
    lines = text.split("\n")
    for _time in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        number = draw(st.integers(0, max(0, len(lines) - 1)))
        lines = lines or [""]
        line = lines[number]
        column = draw(st.integers(0, len(line)))
        what = draw(st.sampled_from(["insert", "insert", "insert", "replace", "double", "drop", "move", "indent",
                                     "outdent",
                                     "cut", "into", "until", "word"]))
        if what == "insert":
            indent = line[: len(line) - len(line.lstrip())] if draw(st.booleans()) else ""
            lines.insert(number, indent + draw(st.sampled_from(fragments)))
        elif what == "replace":
            lines[number] = draw(st.sampled_from(fragments))
        elif what == "double":
            lines.insert(number, line)
        elif what == "drop":
            del lines[number]
        elif what == "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(number))
        elif what == "indent":
            lines[number] = draw(st.sampled_from([" ", "  ", "\t", "        "])) + line
        elif what == "outdent":
            lines[number] = line.lstrip()
        elif what == "cut":
            lines[number] = line[:column]
        elif what == "into":
            lines[number] = line[:column] + draw(texts) + line[column:]
        elif what == "until":
            lines = lines[:number]
        else:
            words = line.split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(texts)
            lines[number] = " ".join(words)
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    what = draw(st.sampled_from(["", "", "", "", "", "crlf", "cr", "bom", "byte", "utf-16", "twice"]))
    if what == "byte":
        where = draw(st.integers(0, len(data)))
        return data[:where] + draw(st.sampled_from(BYTES)) + data[where:]
    return {"crlf": data.replace(b"\n", b"\r\n"), "cr": data.replace(b"\n", b"\r"), "bom": b"\xef\xbb\xbf" + data,
            "utf-16": data.decode("utf-8", "replace").encode("utf-16"), "twice": data + data}.get(what, data)
