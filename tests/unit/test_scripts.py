"""Where a by-hand build is laid out: nothing is removed there that was not laid out before."""

from __future__ import annotations

from pathlib import Path

import pytest
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
