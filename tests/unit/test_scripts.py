"""Where a by-hand build is laid out: nothing is removed there that was not laid out before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import state
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build import scripts
from ansible_collections.desimages.farm.plugins.plugin_utils.build.solve import Solve
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

SOLVE = Solve("a arm64", (ARM64,), {"c1": {}, "context": {}}, {"dockerfilekey": "c1"}, {"type": "image", "name": "r/a"})


def lay_out(folder: Path) -> list[str]:
    scripts.refuse_foreign([folder])
    scripts.lay_out(folder, SOLVE, str(folder.parent), Registry("127.0.0.1:1"))
    return sorted(path.name for path in folder.iterdir())


def test_what_was_laid_out_is_made_anew_and_so_is_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first = lay_out(tmp_path / "a")
    (tmp_path / "a/metadata.json").write_text("of an earlier build")
    assert lay_out(tmp_path / "a") == first
    assert first == [".desimages", "buildctl.sh", "buildx.sh", "c1", "context", "policy.json"]


def test_what_is_somebodys_is_refused_by_name_all_of_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("full")
    with pytest.raises(BadInput) as error:
        scripts.refuse_foreign([tmp_path / name for name in ("full", "new", "file", "link")])
    assert [line.split()[1] for line in error.value.problems] == [f"{tmp_path}/{n}" for n in ("full", "file", "link")]
    assert (tmp_path / "full/thesis").exists()


def test_a_folder_below_a_file_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(BadInput) as error:
        scripts.refuse_foreign([tmp_path / f"{above}/x-{name}" for above in ("file", "gone") for name in "ab"])
    assert error.value.problems == [f"to: {tmp_path}/{n} is not a folder: choose another one" for n in ("file", "gone")]


def test_a_farm_is_not_taken_for_what_was_laid_out(tmp_path: Path) -> None:
    """Both have the same mark."""
    state.claim(str(tmp_path / "box-amd64"))
    (tmp_path / "box-amd64/registry").mkdir()
    with pytest.raises(BadInput, match="you did not lay it out"):
        scripts.refuse_foreign([tmp_path / "box-amd64"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(("owner", "group", "mode", "fine"), [
    (0, 0, 0o755, True), (0, 0, 0o1777, True), (0, 4711, 0o1775, True), (0, 0, 0o775, True), (4712, 4712, 0o755, True),
    (4711, 4711, 0o755, False), (4711, 0, 0o1777, False), (0, 0, 0o777, False), (0, 4711, 0o775, False),
])
def test_root_lays_nothing_out_where_another_user_could_lay_a_link(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, group: int, mode: int, fine: bool) -> None:
    monkeypatch.setenv("SUDO_UID", "4712")
    above = tmp_path / "by-hand"
    above.mkdir()
    os.chown(above, owner, group)
    above.chmod(mode)
    if fine:
        assert lay_out(above / "inner/box-amd64")
        return
    with pytest.raises(BadInput, match=f"to: others may write to {above}, "):
        lay_out(above / "inner/box-amd64")
    assert list(above.iterdir()) == []
