"""Our reading of ignore files, held against BuildKit's own code."""

from __future__ import annotations

import json
import os
import random
import shutil
from itertools import accumulate
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.ignorefile import Ignore, parse

from .conftest import PROJECT, sh

MODULE = PROJECT / "roles/buildkitd/files/module"
PATTERNS = [
    "a", "a/", "/a", "//a", "./a", "a//b", "a/../b", "../a", ".", "/", "..", "a/b", "a/*", "*/b", "*", "**", "**/",
    "**/**", "/**", "a/**", "a**", "**/a", "**a", "**a*", "**/a*", "*a*", "**/b/c", "a/**/c", "a**c", "a**/c",
    "**/*.log", "*.log", "?", "a?", "?/b", ".*", ".a", "**/.a", "***", "****", "a/***/c", "[ab]", "[a-c]/b", "[^a]",
    "[!a]", "a[^b]c", "[a-]", "[]", "[]a]", "[", "a[", "a*[", "[^]", "[z-a]", "[a-b-c]", "[-a]", "[\\]a]", "[\\-]",
    "[\\^a]", "[a^]", "[^^]", "[.]", "[a|b]", "[ä-ö]", "]", "a]", "a\\*b", "\\*", "\\!a", "\\#a", "a\\", "\\\\",
    "a\\\\", "a\\ b", "^a", "^a*", "a^b", "a^*", "*^", "a(b)c", "a.|)$(}+{bc", "a+*", "a.b*", "a$*", "(a)?", "ä",
    "ä*", "?ö", "☃*", "a b", "a b*", "#a", " #a", "  a  ", "\ta\t", "a\r", "\xa0a", "\u3000a", "\x1fa", "!", "! ",
    "!/", "!.", "!..", "!!a", "! a", " ! a", "!/a", "!//a", "!a/", "!*", "!**", "", " ", "(?i)A*", "{a,b}", "{a,b}*",
    "a|b", "a|b*", "a\\|b*", "a{2}*", "*{2", "\ufeffa", "\ufeff*",
    "~a", "a~", "*~", "**/*_test.go", "a\nb*", "node_modules", "**/node_modules", "x/y/z", "d?r/**", "**/d?r/**",
]
ODD = ["|", "|a", "{2}", "{1,}b", "\\|", "|*"]  # of which BuildKit's expressions make something else
LISTS = [
    "a\n!a/b\n", "a\n!a/b\na\n", "a/b\n!a\n", "!a\na\n", "*\n!a\n", "**\n!a/b/c\n", "**\n!**/c\n",
    "a/*\n!a/b\na/b/c\n", "*\n!*/\n", "**/*\n!a\n", "a/**\n!a/b/**\n", "a\n!a\n", "a\n!a*\n", "!**\n*\n", "a\n!*\n",
    "a/b\n!a/*\na/b/c\n", "\ufeffa\n", "\ufeff# a\nb\n", "a\r\n!a/b\r\n", "# a\n#b\n", "*.log\n!a.log\n**/b.log\n",
    "**/a\n!a\n", "a*\n!ab\n!a/b\n", "!a\n!b\n", "*/*\n!a/b\n*/*/*\n!a/b/c\n",
]
NAMES = [
    "a", "b", "c", "ab", "ba", "aab", "A", ".a", "a.log", "b.log", "x_test.go", "a~", "#a", "!a", "*", "a*b", "a b",
    "^", "^a", "[", "]", "a]", "\\", "a\\", "-", "d", "dir", "x\ny", "ä", "äö", "☃", "☃x", "a.b", "a+", "a$", "a(b)c",
    "a.|)$(}+{bc", "node_modules", "\x1fa", "{a,b}", "|", ".", "\xa0a",
]
PIECES = [
    "a", "b", "c", "ab", "*", "**", "/", "/", "/", "?", "[ab]", "[^b]", "[a-c]", "\\*", "^", "a*", "*/", "**/", "!",
    " ", ".", "{a,b}",
]


def tree(paths: list[str]) -> list[str]:
    """Paths and the folders above them, each after its own."""
    each = (accumulate(path.split("/"), lambda above, name: f"{above}/{name}") for path in paths)
    return sorted({part for parts in each for part in parts})


def questions() -> list[dict[str, Any]]:
    names = [name for name in NAMES if name != "."]
    wide = tree([*names, *(f"{a}/{b}" for a in names for b in names[:16]),
                 *(f"{a}/{b}/{c}" for a in "abd" for b in names[:12] for c in "abc")])
    deep = tree([*(f"{a}/{b}/{c}" for a in "abc" for b in ("a", "b", "ab") for c in ("a", "c", "a.log")),
                 "ab/a", "a.log", "b.log", "c/x_test.go"])
    found = [{"text": pattern + "\n", "paths": wide} for pattern in PATTERNS]
    found += [{"text": text, "paths": deep} for text in LISTS]
    chance = random.Random(20261128)
    for _case in range(4000):
        lines = ["".join(chance.choices(PIECES, k=chance.randint(1, 6))) for _line in range(chance.randint(1, 5))]
        lines = [("!" if chance.random() < 0.35 else "") + line + (chance.choice(ODD) if chance.random() < 0.03 else "")
                 for line in lines]
        found.append({"text": "\n".join(lines), "paths": deep})
    return found


def walked(ignore: Ignore, paths: list[str]) -> dict[str, bool]:
    seen: dict[str, tuple[bool, ...]] = {"": ()}
    out = {}
    for path in paths:
        out[path], seen[path] = ignore.look(path, seen[path.rpartition("/")[0]])
    return out


def test_ignore_files_are_read_as_buildkit_reads_them(tmp_path: Path) -> None:
    for name in ("go.mod", "go.sum"):
        shutil.copy(MODULE / name, tmp_path)
    shutil.copy(PROJECT / "tests/integration/ignore/main.go", tmp_path)
    asked = questions()
    output = sh("go", "run", "-mod=mod", ".", cwd=tmp_path, input=json.dumps(asked),
                env={**os.environ, "CGO_ENABLED": "0"})
    answers: list[dict[str, Any]] = json.loads(output)
    good = 0
    for question, theirs in zip(asked, answers):
        text, paths = question["text"], question["paths"]
        ours = parse(text.removeprefix("\ufeff"))
        ours_alone = all("BuildKit" in why for _line, why in ours.refused)  # what it takes for something else
        assert bool(ours.refused) == theirs["bad"] or ours_alone, (text, ours.refused)
        if ours.refused:
            continue
        good += 1
        out = walked(ours, paths)
        assert out == theirs["out"], (text, {path for path in paths if out[path] != theirs["out"][path]})
        closed = {path for path in paths if not out[path] and theirs["closed"][path]}
        assert {path for path in paths if not out[path] and ours.disputed(path)} == closed, text
        for path in paths:
            if not out[path]:  # then no folder above it was skipped as one from which nothing can come back
                assert all(not out[above] or ours.may_bring_back(above) for above in tree([path])[:-1]), (text, path)
    assert good > 3000
