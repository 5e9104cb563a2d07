"""When a host counts as provisioned: if all of it was done, and what it builds was proven."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.desimages.farm.plugins.module_utils.wellness import Host
from ansible_collections.desimages.farm.plugins.modules import probe

from .modules import result

ROLES = Path(__file__).resolve().parents[2] / "playbooks/tasks/roles.yml"
UNPROVEN = "its BuildKit has not been proven to give the expected bytes"


@pytest.mark.parametrize(("engine", "node", "proven"), [
    ('{"id": "sha256:e"}', '{"engine": "sha256:e"}', True),
    ('{"id": "sha256:e"}', '{"native": []}', False),
    ('{"id": "sha256:e"}', '{"engine": "sha2', False),  # a card that lost power
    ("", '{"engine": "sha256:e"}', False),
])
def test_a_node_whose_buildkit_was_not_proven_is_provisioned_again(tmp_path: Path, engine: str, node: str,
                                                                   proven: bool) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "engine.json").write_text(engine)
    (tmp_path / "etc/node.json").write_text(node)

    def host(*services: str) -> Host:
        return Host(str(tmp_path), "f", list(services), lambda words: (1, "", ""))

    host("buildkitd").record()
    assert (UNPROVEN in host("buildkitd").as_result()["reasons"]) is not proven
    host("registry").record()
    assert UNPROVEN not in host("registry").as_result()["reasons"]


@pytest.mark.parametrize(("words", "whole"), [
    ([], True), (["--tags", "all"], True), (["--skip-tags", "notest"], True), (["--skip-tags", "buildkitd_run"], False),
    (["--tags", "untagged"], False), (["--tags", "buildkitd_run,untagged"], False)])
def test_a_host_of_which_tags_left_something_out_is_not_recorded_as_provisioned(
        tmp_path: Path, words: list[str], whole: bool) -> None:
    (task,) = [task for task in yaml.safe_load(ROLES.read_text()) if "record" in task.get("desimages.farm.probe", {})]
    record = task["desimages.farm.probe"]["record"].strip("{} ")
    checked = {"name": "Check", "ansible.builtin.assert": {"that": f"({record}) is {str(whole).lower()}"}}
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [checked]}]))
    done = subprocess.run([str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local",
                           *words, str(tmp_path / "play.yml")], check=False, capture_output=True, text=True)
    assert "ok=1" in done.stdout, done.stdout


@pytest.mark.parametrize("name", [
    path.stem for path in sorted((ROLES.parents[2] / "plugins/modules").glob("*.py")) if "def main" in path.read_text()
])
def test_a_module_tells_an_error_of_the_system_as_one_of_the_farm(name: str) -> None:
    """And not as Python's own, such as [Errno 20]."""
    text = (ROLES.parents[2] / f"plugins/modules/{name}.py").read_text()
    assert "module.fail_json(**system_error(error).as_result())" in text


def test_a_state_folder_below_a_file_is_told_in_words() -> None:
    said = result(probe.main, state_dir="/dev/null/x", fingerprint="f", services=[])
    assert said["msg"].startswith("a folder in the path /dev/null/x/provisioned.json is a file")


def test_a_diff_of_what_is_recorded_says_what_is_written(tmp_path: Path) -> None:
    given = {"state_dir": str(tmp_path), "fingerprint": "f", "services": [], "record": True,
             "controller": {"id": "1", "name": "her", "version": "2"}}
    for fingerprint in ("f", "g"):
        before = json.loads((tmp_path / "provisioned.json").read_text()) if fingerprint == "g" else {}
        looked = result(probe.main, check=True, **{**given, "fingerprint": fingerprint})
        found = result(probe.main, **{**given, "fingerprint": fingerprint})
        assert looked["diff"] == found["diff"]
        assert found["diff"]["before"] == before
        assert found["diff"]["after"] == json.loads((tmp_path / "provisioned.json").read_text())


@pytest.mark.parametrize("text", [
    '{"format": 2, "program": {}}', '{"format": 2, "program": {}, "supervisor": "x"}',
    '{"format": 2, "program": {}, "supervisor": "runit", "claims": 7}',
    '{"format": 2, "program": {}, "supervisor": "runit", "claims": {}}'])
def test_a_host_whose_services_are_described_by_half_is_not_well(tmp_path: Path, text: str) -> None:
    """The next run provisions it."""
    (tmp_path / "services/x").mkdir(parents=True)
    (tmp_path / "services/x/service.json").write_text(text)
    assert not result(probe.main, state_dir=str(tmp_path), fingerprint="f", services=["x"])["well"]
