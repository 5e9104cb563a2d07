"""Ignore files. (tests/integration compares them with BuildKit's own code.)"""

from __future__ import annotations

import time

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.ignorefile import parse


def out(text: str, path: str) -> bool:
    """Whether a path is left out, looked at from the top down."""
    ignore, found = parse(text), False
    seen: tuple[bool, ...] = ()
    parts = path.split("/")
    for length in range(1, len(parts) + 1):
        found, seen = ignore.look("/".join(parts[:length]), seen)
    return found


@pytest.mark.parametrize(
    ("text", "left_out", "kept"),
    [
        ("node_modules\n", "node_modules/a/b", "x/node_modules/a"),
        ("**/node_modules\n", "x/node_modules/a", "x/node_module/a"),
        ("/a/\n", "a/b", "b/a"),
        ("*.log\n", "a.log", "d/a.log"),
        ("**/*.log\n", "d/e/a.log", "d/a.logs"),
        ("*\n!a\n", "b/c", "a/c"),
        ("d\n!d/a\n", "d/b", "d/a"),
        ("!a\na\n", "a", "b"),
        ("# a\n #b\n", "#b", "a"),
        ("a b  \n", "a b", "a"),
        ("[a-c]?\n", "bx", "dx"),
        ("a[^b]c\n", "axc", "abc"),
        ("\\*\n", "*", "a"),
        ("**a\n", "d/ba", "d/bab"),
        ("**a*\n", "d/ab", "d/bab"),
        ("d/**\n", "d/a", "d"),
        ("a\r\nb\r\n", "a", "c"),
        ("x/../a\n", "a", "x"),
        ("a|b\n", "a|b", "a"),
        ("*\\|b\n", "a|b", "b"),
        ("*.{js,ts}\n", "a.{js,ts}", "a.js"),
        ("[a|b]c\n", "|c", "dc"),
    ],
)
def test_patterns_mean_what_they_mean_to_buildkit(text: str, left_out: str, kept: str) -> None:
    assert (out(text, left_out), out(text, kept)) == (True, False)


@pytest.mark.parametrize("line", [
    "[", "[a", "a*[", "[]", "[^]", "[a-]", "[-a]", "[b-a]", "[*]", "[a?]", "[[:alpha:]]", "a\\", "a\\b", "\\d", "!",
    "! ", "/!", "a" * 5000,
    "a\rb", "# a\rb", "\0a", "*.a|*.b", "?|", "a{2}*", "*b{1,}", "[a]{1,2}", "\ufeffa", "!\ufeff*"])
def test_a_bad_pattern_is_told_with_its_line(line: str) -> None:
    assert [number for number, _why in parse(f"# x\n{line}\nb\n").refused] == [2]


def test_no_pattern_takes_long() -> None:
    began = time.process_time()
    ignore = parse("*a" * 400 + "b*\n" + "**/a/" * 200 + "*x*\n!" + "?*" * 300 + "\n")
    ignore.look("a" * 255 + "/" + "a/" * 1000 + "a")
    assert time.process_time() - began < 3
