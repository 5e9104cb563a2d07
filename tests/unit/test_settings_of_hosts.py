"""The settings as Ansible gives them: each host is told all its mistakes at once, by file and line, and nothing of it
is looked at before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

PROJECT = Path(__file__).resolve().parents[2]
HOSTS = """
nodes:
  hosts:
    pi2: {ansible_host: 127.0.0.2, ansible_port: 1}
    pi4: {ansible_host: 127.0.0.2, ansible_port: 1}
registry:
  hosts:
    pi4:
"""


def told(folder: Path, variables: str, hosts: str = HOSTS, *words: str) -> tuple[dict[str, list[str]], str]:
    """host -> what it is told; and everything that Ansible printed beside that."""
    (folder / "group_vars").mkdir()
    (folder / "hosts.yml").write_text(hosts, encoding="utf-8")
    (folder / "group_vars/all.yml").write_text(variables, encoding="utf-8")
    own = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    program = str(Path(sys.executable).parent / "ansible-playbook")
    done = subprocess.run([program, "-i", str(folder), "playbooks/provision.yml", "--check", *words], cwd=PROJECT,
                          env={**os.environ, **own, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    found = {}
    for part in done.stdout.split("fatal: [")[1:]:
        host, _sign, rest = part.partition("]: FAILED! => ")
        found[host] = json.JSONDecoder().raw_decode(rest)[0]["msg"].splitlines()[1:]
    return found, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], str, Path]:
    folder = tmp_path_factory.mktemp("wrong")
    found, text = told(folder, """\
farm_registry: registry.example.org:5000
farm_slots: two
farm_registry_password: "{{ vault_password_of_mine }}"
farm_registry_ca: true
farm_state: "{{ nothing }}/x"
buildkitd_memory: 3GB
buildkit_weight: 5
farm_signing_key: !vault |
  $ANSIBLE_VAULT;1.1;AES256
  61626364
tester_socket: docker.sock
""")
    return found, text, folder


def test_all_mistakes_are_told_once_and_no_host_is_connected_to(
    wrong: tuple[dict[str, list[str]], str, Path]
) -> None:
    found, text, _folder = wrong
    assert set(found) == {"pi2", "pi4"} and found["pi4"] == []
    assert "the settings of pi4 cannot be used, for the same reasons as those of pi2" in " ".join(text.split())
    assert sorted(line.split()[0] for line in found["pi2"]) == [
        "buildkit_weight", "buildkitd_memory", "farm_registry_ca", "farm_registry_password", "farm_signing_key",
        "farm_slots", "farm_state", "tester_socket"]
    assert "UNREACHABLE" not in text and "Traceback" not in text


@pytest.mark.parametrize(("name", "line", "said"), [
    ("farm_slots", 2, "it must be a number from 0 to 999"), ("buildkitd_memory", 6, "such as 900M or 3G"),
    ("farm_registry_password", 3, "cannot be worked out: 'vault_password_of_mine' is undefined"),
    ("farm_state", 5, "cannot be worked out: 'nothing' is undefined"), ("farm_registry_ca", 0, "is True, it must be"),
    ("farm_signing_key", 8, "no vault secrets found"), ("buildkit_weight", 7, "did you mean buildkitd_weight?"),
    ("tester_socket", 11, "'' or an absolute path"),
])
def test_a_mistake_has_its_file_and_line(
    wrong: tuple[dict[str, list[str]], str, Path], name: str, line: int, said: str
) -> None:
    found, _text, folder = wrong
    (text,) = [each for each in found["pi2"] if each.startswith(f"{name} ")]
    assert said in text
    if line:
        # of a number only some versions of Ansible know it
        assert f"({folder}/group_vars/all.yml:{line})" in text


def test_a_group_that_is_nearly_one_is_warned_of(wrong: tuple[dict[str, list[str]], str, Path]) -> None:
    assert "the group registry is not used" in " ".join(wrong[1].split())


def test_a_registry_on_loopback_is_for_one_machine(tmp_path: Path) -> None:
    found, _text = told(tmp_path, "farm_slots: 1\n")
    (text,) = found["pi2"]
    assert text.startswith("farm_registry is '127.0.0.1:5000', which each host takes for itself") and "pi2, pi4" in text


def test_hosts_of_this_machine_may_share_its_registry(tmp_path: Path) -> None:
    found, _text = told(tmp_path, "farm_slots: x\nansible_connection: local\n")
    (text,) = found["pi2"]
    assert text.startswith("farm_slots is 'x'")


def test_the_variables_of_testers_are_looked_at_too(tmp_path: Path) -> None:
    found, _text = told(tmp_path, "farm_registry: r.example.org:5000\ntester_state: /srv/x\ntester_socket: a.sock\n")
    socket, state = sorted(found["pi2"])
    assert socket.startswith("tester_socket is 'a.sock'") and "an absolute path" in socket
    at = f"{tmp_path}/group_vars/all.yml:2"
    assert state.startswith(f"tester_state is '/srv/x' ({at}), and farm_state '/var/lib/desimages': a host")


def test_an_inventory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "rak"),
                           "playbooks/provision.yml"], cwd=PROJECT, capture_output=True, text=True, check=False,
                          env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "LC_ALL": "C.UTF-8"})
    assert done.returncode != 0 and "rak" in done.stderr


@pytest.mark.parametrize("playbook", ["lock", "clean"])  # whose first play is the controller's, and that of the hosts
def test_what_is_ignored_is_warned_of(tmp_path: Path, playbook: str) -> None:
    words = [f"playbooks/{playbook}.yml", "-t", "no", "-e", f"farm_adopt=true farm_state={tmp_path}/farm"]
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), *words], cwd=PROJECT, text=True,
                          env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
                          capture_output=True, check=True)
    assert f"no task of {playbook}.yml has a tag, so -t no leaves out all" in " ".join(done.stderr.split())
    assert "farm_adopt (-e) is not used here, but by build.yml" in " ".join(done.stderr.split())


def test_a_password_that_cannot_be_read_is_told_also_for_a_registry_on_loopback(tmp_path: Path) -> None:
    found, _text = told(tmp_path, "farm_registry_password: '{{ vault_password_of_mine }}'\nansible_connection: local\n")
    (text,) = found["pi2"]
    assert text.startswith("farm_registry_password (") and "'vault_password_of_mine' is undefined" in text


@pytest.mark.parametrize(("variables", "name"), [
    ("farm_registry: '{{ hostvars.pi2.no_address }}:5000'\n", "farm_registry"),
    ("farm_registry: registry.example.org:5000\nfarm_state: '{{ farm_state }}/x'\n", "farm_state"),
])
def test_what_follows_from_a_setting_that_cannot_be_worked_out_is_not_told(
    tmp_path: Path, variables: str, name: str
) -> None:
    found, _text = told(tmp_path, variables)
    (text,) = found["pi2"] or found["pi4"]  # whichever came first
    assert text.startswith(f"{name} ({tmp_path}/group_vars/all.yml:") and "cannot be worked out" in text


NODES = """
nodes:
  hosts:
    pi2: {ansible_host: 127.0.0.2, ansible_port: 1}
    pi4: {ansible_host: 127.0.0.2, ansible_port: 1, farm_slots: many}
  vars:
    farm_registry: registry.example.org:5000
    farm_publish: hub.example.org/me
    farm_busy: wait
    farm_state: /srv/farm
"""


def test_what_holds_for_the_whole_farm_is_not_set_for_some_hosts_alone(tmp_path: Path) -> None:
    """The controller, which plans and tags, would use another registry, and publish nowhere."""
    found, _text = told(tmp_path, "farm_registry_user: me\nfarm_registry_password: secret\n", NODES)
    registry, publish = found["pi2"]
    ends = "but not set for the controller (localhost), and it holds for the whole farm: set it once, in group_vars/"
    assert registry.startswith(f"farm_registry is 'registry.example.org:5000' ({tmp_path}/hosts.yml:7), {ends}")
    assert publish.startswith(f"farm_publish is 'hub.example.org/me' ({tmp_path}/hosts.yml:8), {ends}")
    assert len(found["pi4"]) == 3  # not those of another host


def test_a_setting_that_each_host_works_out_for_itself_is_told(tmp_path: Path) -> None:
    found, _text = told(tmp_path, "farm_registry: '{{ inventory_hostname }}:5000'\n"
                                  "farm_controller_state: '{{ [\"/srv\", \"farm\"] | join(\"/\") }}'\n")
    assert found["pi2"][0].startswith("farm_registry is 'pi2:5000' (")
    assert "but 'localhost:5000' for the controller (localhost)" in found["pi2"][0]
    assert len(found["pi2"]) == len(found["pi4"]) == 1


def test_the_controller_may_have_settings_that_only_its_steps_read(tmp_path: Path) -> None:
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars/localhost.yml").write_text(
        "farm_catalog: [/srv/images]\nfarm_secrets: /srv/secrets\nfarm_signing_key: '{{ nothing }}'\n")
    found, _text = told(tmp_path, "farm_registry: registry.example.org:5000\n")
    (text,) = found["pi2"]
    assert text.startswith("farm_secrets is '/var/lib/desimages/secrets', its default, but '/srv/secrets' for the cont")


@pytest.mark.parametrize(("hosts", "said"), [
    ("node: {hosts: {pi2: }}\n", "; should the group node be called nodes?"),
    ("testers: {hosts: {pi2: }}\n", "such as this machine (localhost)"),
    ("nodes: {hosts: {pi2: }}\nall: {hosts: {web: }}\n", "nothing was done: change --limit"),
])
def test_a_run_without_a_host_of_the_farm_says_why(tmp_path: Path, hosts: str, said: str) -> None:
    limit = ["--limit=web"] if "web" in hosts else []
    found, text = told(tmp_path, "", hosts, *limit)
    assert set(found) == {"web" if limit else "localhost"} and said in " ".join(text.split())


@pytest.mark.parametrize("playbook", ["check", "clean", "status", "stop"])
def test_a_playbook_without_tags_does_nothing_for_one_and_says_so(tmp_path: Path, playbook: str) -> None:
    (tmp_path / "hosts.yml").write_text(HOSTS.replace("registry:", "registries:"), encoding="utf-8")
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts.yml"),
                           f"playbooks/{playbook}.yml", "--tags", "buildkitd_run",
                           "-efarm_registry=r.example.org:5000"], capture_output=True, text=True, check=False,
                          env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"no task of {playbook}.yml has a tag, so -t buildkitd_run leaves out" in " ".join(done.stderr.split())


def test_what_the_nodes_may_emulate_follows_from_the_settings_of_each() -> None:
    """One that has no foreign machine beside it may be the only one that emulates, whatever the controller's say."""
    def host(native: list[str], emulated: list[str], allowed: list[str]) -> dict[str, object]:
        return {"__farm_probe": {"node": {"native": native, "emulated": emulated}},
                "__farm_settings": {"emulated": allowed}}

    hosts = {"one": host(["linux/amd64"], ["linux/s390x", "linux/riscv64"], ["linux/s390x", "linux/ppc64le"]),
             "two": host(["linux/arm64"], ["linux/riscv64"], []),
             "lost": {**host(["linux/386"], ["linux/ppc64le"], ["linux/ppc64le"]), "__farm_lost": "no answer"},
             "new": {"__farm_probe": {"node": {}}, "__farm_settings": {"emulated": ["linux/386"]}}, "away": {}}
    loader = DataLoader()
    roles = loader.load_from_file(str(PROJECT / "roles/farm/vars/main.yml"), trusted_as_template=True)
    templar = Templar(loader, {**roles, "hostvars": hosts, "ansible_play_hosts": list(hosts),
                               "groups": {"nodes": list(hosts)}, "farm_emulation": "never"})
    assert templar.template(roles["__farm_emulated"]) == ["linux/s390x"]
    assert templar.template(roles["__farm_native"]) == ["linux/amd64", "linux/arm64"]
    assert templar.template(roles["__farm_complete"]) is False


@pytest.mark.parametrize(("given", "found"), [
    ({"farm_from": "127.0.0.1:5000"}, ("/var/lib/desimages", "/var/lib/desimages/secrets")),
    ({"farm_from": "old.example.org:5000"}, ("/home/me/farm", "/home/me/keys")),
    ({"farm_from": "127.0.0.1:5000", "farm_from_state": "/home/me/farm"}, ("/home/me/farm", "/home/me/keys")),
    ({"farm_from": "old.example.org:5000", "farm_from_state": "/srv/old"}, ("/srv/old", "/srv/old/secrets")),
])
def test_a_move_takes_the_keys_of_the_controller_that_the_old_farm_had(tmp_path: Path, given: dict[str, str],
                                                                       found: tuple[str, str]) -> None:
    """That of a fleet is most often this one."""
    text = (PROJECT / "playbooks/move.yml").read_text(encoding="utf-8")
    (tmp_path / "move.yml").write_text(text.replace("is desimages.farm.loopback", "in ['127.0.0.1:5000']"))
    tasks = DataLoader().load_from_file(str(tmp_path / "move.yml"), trusted_as_template=True)[1]["tasks"]
    (task,) = [one for one in tasks if "__farm_old" in one.get("ansible.builtin.set_fact", {})]
    values = {**given, "farm_controller_state": "/home/me/farm", "farm_secrets": "/home/me/keys", **task["vars"]}
    facts = Templar(DataLoader(), values).template(task["ansible.builtin.set_fact"])
    assert (facts["__farm_old"], facts["__farm_old_secrets"]) == found
