"""A node works for one controller at a time, and another neither builds on it nor provisions it meanwhile."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import lease, readiness
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.files import locked
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc
from ansible_collections.desimages.farm.plugins.module_utils.wellness import Host
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node
from ansible_collections.desimages.farm.plugins.plugin_utils.identity import identity, version

from .local_node import GOOD, Local


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    found = Local(tmp_path)
    yield found
    found.engine.close()


def other(local: Local, name: str) -> Node:
    """The same node, for another controller."""
    return Node("here", local.execute, lambda: sys.executable, str(local.root), {"id": name, "name": f"{name} there"})


def test_a_node_works_for_one_controller_at_a_time(local: Local) -> None:
    first, second = other(local, "first"), other(local, "second")
    first.prepare()
    for refused in (second.prepare, lambda: second.turn([], [], [], 0, 1)):
        with pytest.raises(Busy, match="works for another controller, first there"):
            refused()
    second.release()  # which does not have it
    with pytest.raises(Busy):
        second.prepare()
    first.release()
    second.prepare()
    with pytest.raises(Busy, match="second there"):
        first.turn([], [], [], 0, 1)


def test_what_another_controllers_run_of_the_same_name_built_is_no_result_of_this_one(local: Local) -> None:
    """Two that begin in the same second with the same process id, as in containers."""
    first, second = other(local, "first"), other(local, "second")
    local.node.release()
    first.prepare("run")
    spec = local.spec("run.1", GOOD, {"etc/motd": local.keep(b"")})
    (state,) = first.turn([spec], [], [], 30, 1)
    assert state["digest"] == "sha256:abc"
    assert first.prepare("run")["finished"] == [], "its own run goes on"
    lease_of_first = json.loads(Path(f"{local.node.jobs}.lease").read_text())
    Path(f"{local.node.jobs}.lease").write_text(json.dumps({**lease_of_first, "boot": "before"}))
    assert second.prepare("run")["finished"] == [{"id": "run.1", "digest": "sha256:abc"}]


def test_a_turn_that_comes_after_the_node_was_given_back_does_not_take_it(local: Local) -> None:
    first, second = other(local, "first"), other(local, "second")
    first.prepare()
    first.turn([], [], [], 0, 1)
    first.release()
    with pytest.raises(Busy, match="does not work for this controller any more"):
        first.turn([], [], [], 0, 1)
    second.prepare()


def test_a_controller_that_was_silent_for_long_has_lost_its_nodes(local: Local,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"id": "first", "name": "first there"}
    assert lease.take(local.node.jobs, first) is None
    assert lease.take(local.node.jobs, {"id": "second", "name": ""}) == "first there"
    monkeypatch.setattr(lease, "SILENCE", 0)
    assert lease.take(local.node.jobs, {"id": "second", "name": ""}) is None


def test_a_controller_that_comes_after_the_farm_was_removed_makes_nothing_of_it_again(local: Local) -> None:
    """A folder without the farm's mark would be refused ever after."""
    shutil.rmtree(local.root)
    with pytest.raises(FarmError, match="here has no farm any more"):
        other(local, "late").prepare()
    assert not local.root.exists()


@pytest.mark.timeout(60)
def test_a_controller_that_waits_while_the_farm_is_removed_makes_nothing_of_it_again(local: Local) -> None:
    lock, said = f"{local.node.jobs}.lock", []

    def come() -> None:
        with pytest.raises(FarmError, match="No such file or directory") as refused:
            other(local, "late").prepare()
        said.append(refused.value)

    def waits() -> str:
        proc = Proc()
        found = {pid for pid, path in proc.opened(str(local.root), "fd") if path == lock}
        mine = proc.command(os.getpid())  # also of a child that has all that is open here until it becomes the runner
        return "" if [pid for pid in found if proc.command(pid) not in ("", mine)] else "nobody waits"

    comes = threading.Thread(target=come)
    with locked(lock, 1):
        comes.start()
        assert not readiness.until(waits, 30)
        for path in local.root.iterdir():  # the folder itself stays, where a disk is mounted there
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    comes.join()
    assert said and not list(local.root.iterdir())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": 1}', '{"id": "a", "name": "b", "boot": "c", "time": "d"}'])
def test_a_lease_that_cannot_be_read_is_nobodys(local: Local, text: str) -> None:
    Path(f"{local.node.jobs}.lease").write_text(text)
    assert lease.take(local.node.jobs, {"id": "me", "name": "me"}) is None


def test_a_full_disk_takes_no_node_from_its_controller(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, *_data: object, **_how: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    first, second = {"id": "first", "name": "first there"}, {"id": "second", "name": "second there"}
    lease.take(local.node.jobs, first)
    monkeypatch.setattr(lease.files, "write", full)
    assert lease.take(local.node.jobs, first, anew=False) is None
    lease.give_back(local.node.jobs, first)
    with pytest.raises(OSError, match="No space left"):
        lease.take(local.node.jobs, second)


def probed(root: Path, name: str) -> dict[str, Any]:
    who = {"id": name, "name": f"{name} there", "version": "1"}
    return Host(str(root), "f", [], lambda words: (1, "", ""), who).as_result()


def test_the_probe_tells_whether_a_host_works_for_another_controller(local: Local) -> None:
    other(local, "first").prepare()
    assert probed(local.root, "second")["other"] == "first there"
    assert probed(local.root, "first")["other"] == ""
    other(local, "first").release()
    assert probed(local.root, "second")["other"] == ""


def test_a_host_that_another_version_provisioned_says_so(tmp_path: Path) -> None:
    Host(str(tmp_path), "f", [], lambda words: (1, "", ""), {"id": "x", "name": "a on b", "version": "0"}).record()
    assert probed(tmp_path, "me")["reasons"] == [], "the same roles and variables: who did it does not matter"
    known = json.loads((tmp_path / "provisioned.json").read_text())
    (tmp_path / "provisioned.json").write_text(json.dumps({**known, "fingerprint": "g"}))
    assert probed(tmp_path, "me")["reasons"] == [
        "the roles or the variables have changed since it was provisioned",
        "it was provisioned by a on b, with version 0 of the farm"]
    (tmp_path / "provisioned.json").write_text(json.dumps({**known, "fingerprint": "g", "by": [1]}))
    assert len(probed(tmp_path, "me")["reasons"]) == 1


def test_check_mode_makes_no_identity(tmp_path: Path) -> None:
    assert identity(str(tmp_path), make=False)["id"] == ""
    assert list(tmp_path.iterdir()) == []
    assert identity(str(tmp_path))["id"] == identity(str(tmp_path), make=False)["id"] != ""
    assert version().count(".") == 2
