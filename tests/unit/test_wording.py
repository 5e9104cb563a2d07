"""Messages with a number in them agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


@pytest.mark.parametrize(("number", "words"), [(0, "0 units are"), (1, "1 unit is"), (2, "2 units are")])
def test_noun_and_verb_agree_with_the_number(number: int, words: str) -> None:
    assert amount(number, "unit", "is", "are") == words
    assert amount(number, "unit") == words.rpartition(" ")[0]


def test_no_message_counts_by_itself() -> None:
    """`{len(left)} units` would be `1 units` if there is one. After `of`, it is a part of several."""
    counts = re.compile(r"(?<!of )\{len\([^{}]*\)\} (units|tags|images|files|manifests|inputs|packages|crates)\b")
    texts = {path: path.read_text(encoding="utf-8") for path in PLUGINS.rglob("*.py") if "registry" not in path.parts}
    assert [f"{path.name}: {found[0]}" for path, text in texts.items() for found in counts.finditer(text)] == []
