"""What the pages of the documentation show: blocks of commands and of files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """A fenced block: its page and first line, its language, the words behind that, its text."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def file(self) -> str:
        """`jq/image.yml` where the block is a whole file of an example."""
        return next((word.partition("=")[2] for word in self.words if word.startswith("file=")), "")


def blocks(page: Path) -> list[Block]:
    found, number = [], 0
    lines = page.read_text(encoding="utf-8").splitlines()
    while number < len(lines):
        if fence := re.match(r"```(.*)", lines[number]):
            first, (language, *words) = number + 1, fence[1].split() or [""]
            number = lines.index("```", first)
            found.append(Block(page, first, language, tuple(words), "\n".join(lines[first:number]) + "\n"))
        number += 1
    return found


def section(page: Path, heading: str) -> list[Block]:
    """The blocks under a heading of the second level."""
    lines = page.read_text(encoding="utf-8").splitlines()
    first = lines.index(f"## {heading}")
    last = next((number for number, line in enumerate(lines) if number > first and line.startswith("## ")), len(lines))
    return [block for block in blocks(page) if first < block.line < last]
