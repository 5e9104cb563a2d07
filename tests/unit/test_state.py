"""The state folder: what may lie in it, and whose the controller's parts are."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import state
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.proc import started
from ansible_collections.desimages.farm.plugins.module_utils.runner_job import stored

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("plugins", "roles", "playbooks") for path in (PROJECT / folder).rglob("*") if path.suffix in (".py", ".yml", ".j2")]
OTHER = 4711  # a user that is nobody
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def test_a_folder_with_other_things_in_it_does_not_become_a_state_folder(tmp_path):
    (tmp_path / "letters").mkdir()
    with pytest.raises(FarmError, match="is not empty and not a farm's state folder: it holds letters"):
        state.claim(str(tmp_path))
    assert os.listdir(tmp_path) == ["letters"]


@pytest.mark.parametrize("name", sorted(state.OWN))
def test_a_folder_that_holds_what_the_farm_makes_becomes_a_state_folder(tmp_path, name):
    (tmp_path / name).touch()
    state.claim(str(tmp_path))
    assert (tmp_path / state.MARK).exists()


def test_every_name_that_the_code_makes_in_the_state_folder_is_one_of_its_own():
    """As the sources write them: `{{ farm_state }}/bin`, `{self.state_dir}/log`, `Path(state) / "runs"`, `state ~ '/etc/x'`."""
    written = re.compile(r"""\b(?:\w+_)?state(?:_dir)?\b(?:["']\])?\)?(?: ?\}\}?/| ~ '/| / "|(?<=join\(self\.state_dir), ")([.a-z][a-z.-]*[a-z])""")
    found = {name for path in SOURCES for name in written.findall(path.read_text(encoding="utf-8"))}
    assert {"bin", "runs", "lock", "etc", "store", "provisioned.json"} <= found
    assert found - state.OWN - {"lists"} == set()  # apt's own state folder has lists


def test_a_user_is_given_the_controllers_parts_and_a_second_time_nothing_is_left_to_give(tmp_path):
    farm, me = str(tmp_path / "farm"), os.geteuid()
    state.claim(farm)
    assert set(state.not_of(farm, me)) == set(state.CONTROLLER)
    state.hand_over(farm, me, -1)
    assert state.not_of(farm, me) == {}
    assert set(os.listdir(farm)) == {state.MARK, *state.CONTROLLER}


@needs_root
def test_another_user_is_given_all_that_is_in_them_and_links_are_not_followed(tmp_path):
    farm, outside = tmp_path / "farm", tmp_path / "outside"
    outside.touch()
    state.claim(str(farm))
    state.hand_over(str(farm), 0, 0)
    (farm / "store/sha256").mkdir()
    (farm / "store/sha256/link").symlink_to(outside)
    state.hand_over(str(farm), OTHER, -1)
    assert {path.lstat().st_uid for name in state.CONTROLLER for path in (farm / name, *(farm / name).rglob("*"))} == {OTHER}
    assert {outside.stat().st_uid, farm.stat().st_uid, (farm / state.MARK).stat().st_uid} == {0}


@needs_root
def test_what_the_runner_brings_into_a_users_store_is_his(tmp_path):
    store, blobs, content = tmp_path / "store", tmp_path / "archive/blobs", b"a package"
    digest = hashlib.sha256(content).hexdigest()
    store.mkdir()
    os.chown(store, OTHER, -1)
    blobs.mkdir(parents=True)
    (blobs / f"sha256:{digest}").write_bytes(content)
    path = stored({"store": str(store), "archive": f"file://{blobs.parent}"}, digest, len(content))
    assert path.read_bytes() == content
    assert {found.stat().st_uid for found in (path, *path.parents) if found.is_relative_to(store)} == {OTHER}


@needs_root
def test_they_are_not_taken_from_a_user_whose_run_is_at_work(tmp_path):
    farm = str(tmp_path / "farm")
    state.claim(farm)
    state.hand_over(farm, OTHER, -1)
    holder = tmp_path / "farm/holder.json"
    with subprocess.Popen(["sleep", "600"]) as other:
        holder.write_text(json.dumps({"pid": other.pid, "started": started(other.pid)}))
        with pytest.raises(Busy, match=f"is held by process {other.pid}, of another user"):
            state.hand_over(farm, 0, 0)
        other.kill()
    state.hand_over(farm, 0, 0)
    assert state.not_of(farm, 0) == {}


@needs_root
def test_they_are_taken_by_the_run_that_has_the_farm(tmp_path):
    farm = str(tmp_path / "farm")
    state.claim(farm)
    state.hand_over(farm, OTHER, -1)
    (tmp_path / "farm/holder.json").write_text(json.dumps({"pid": os.getpid(), "started": started(os.getpid())}))
    state.hand_over(farm, 0, 0)
    assert state.not_of(farm, 0) == {}
