"""What runs learn for later ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.build import durations


def test_what_was_learned_stays_beside_what_was_known(tmp_path: Path) -> None:
    assert durations.read(str(tmp_path)) == {"durations": {}, "speeds": {}}
    durations.write(str(tmp_path), {"durations": {"debian": 40.0, "base": 2.0}, "speeds": {"pi": 0.1}})
    durations.write(str(tmp_path), {"durations": {"base": 3.0}, "speeds": {"server": 1.5}})
    assert durations.read(str(tmp_path)) == {"durations": {"debian": 40.0, "base": 3.0},
                                             "speeds": {"pi": 0.1, "server": 1.5}}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"durations": [1]}', '{"durations": {"a": "b", "c": true}}',
                                  '{"durations": {"a": -1, "b": 0, "c": NaN, "d": Infinity}, "speeds": null}',
                                  '{"durations": {"a": 1e300, "b": 1e-300}, "speeds": {"a": 1e300, "b": 1e-300}}',
                                  '{"durations": {"a": 1' + "0" * 400 + '}}'])
def test_what_cannot_be_used_is_not_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known/durations.json").write_text(text)
    assert durations.read(str(tmp_path)) == {"durations": {}, "speeds": {}}
