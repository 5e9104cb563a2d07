"""Whatever an inventory or a command line says: the farm says what is wrong with it by name, file and line, or can use
it.

Ansible reads the inventory, as it does for a playbook, and the lookup that the playbooks ask judges what it read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import context
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.utils.vars import load_extra_vars
from ansible.vars.manager import VariableManager
from ansible_collections.desimages.farm.plugins.lookup.settings import LookupModule
from ansible_collections.desimages.farm.plugins.modules import build, index, plan, tester
from ansible_collections.desimages.farm.plugins.plugin_utils import settings
from ansible_collections.desimages.farm.plugins.plugin_utils.action import argument_spec, documented
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from hypothesis import given
from hypothesis import strategies as st

from . import mutations
from .mutations import properties
from .one_image import PYTHON

DEFAULTS = Path(__file__).resolve().parents[2] / "roles/farm/defaults/main.yml"
GROUPS = {
    "nodes": {"hosts": {"one": {"farm_native": ["linux/arm/v7"], "farm_slots": 2}, "two": {"farm_state": "/srv/farm"}}},
    "registries": {"hosts": {"one": None}},
    "testers": {"hosts": {"two": {"tester_socket": "/run/docker.sock"}}, "vars": {"tester_state": "/srv/farm"}},
    "more": {"children": {"nodes": None}, "vars": {"buildkitd_memory": "3G"}},
}
GOOD: dict[str, Any] = {
    "farm_registry": "registry.example.org:5000", "farm_emulation": {"linux/s390x": "allowed", "linux/386": "missing"},
    "farm_namespace": "desimages", "farm_catalog": ["desimages.farm", "/srv/images"],
    "farm_images": ["registry", "base"],
    "farm_platforms": ["linux/amd64"], "farm_select": "[?image=='registry']", "farm_publish": "hub.example.org/me",
    "farm_verify": "before_tag", "farm_tags": ["{suite}-{date}", "latest"], "farm_relock_missing": True,
    "farm_busy": "stop",
    "farm_origins": {"debian": ["http://mirror.example/debian"], "url": {"https://a/": "file:///a/"},
                     "go": "https://proxy.example.org",
                     "cargo": "file:///srv/crates", "npm": "https://npm.example.org", "pypi": "file:///srv/wheels"},
    "farm_controller_state": "/srv/here", "farm_registry_user": "me", "farm_registry_password": "secret",
    "farm_registry_ca": "",
    "farm_trusted_keys": ["MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="], "farm_partial": False,
    "farm_rebuild": "no",
    "farm_keyring": "/usr/share/keyrings/debian-archive-keyring.gpg", "farm_allow_missing_suites": "false",
    "farm_signing_key": "",
    "buildkitd_weight": 20, "buildkitd_free": "10%", "buildkitd_reserved": "20GB", "buildkitd_most": "60%",
    "buildkitd_parallelism": 4,
    "buildkitd_plain_registries": ["127.0.0.1:5000"], "buildkitd_frontends": ["dockerfile.v0"],
    "buildkitd_debug_address": "127.0.0.1:6060",
    "buildkitd_archives": {"linux/arm64": {"source": "/srv/b.tar.gz", "sha256": "a" * 64}},
    "buildkitd_log_level": "debug",
    "binfmt_platforms": ["linux/s390x"], "registry_address": "0.0.0.0:5000", "registry_log_level": "info",
}
NAMES = sorted({*settings.KNOWN, *GROUPS, "hosts", "children", "vars", "all", "ungrouped", "localhost", "node",
                "registry", "tester", "ansible_host",
                "ansible_connection", "linux/amd64", "never", "missing", "allowed", "source", "sha256", "maven",
                "git", "image"})
FRAGMENTS = [*mutations.FRAGMENTS, "farm_slots: 1", "farm_state: /", "nodes:", "vars:", "farm_images: {{ x }}",
             'farm_images: "{{ x"',
             'farm_images: "{{ 1 / 0 }}"', "farm_images: \"{{ lookup('pipe', 'exit 1') }}\"",
             'farm_slots: "{{ farm_slots }}"', "farm_slots: !unsafe '{{ x }}'",
             "farm_state: !vault |\n  x", "farm_tags: !!set {a, b}", "farm_tags: !!binary aGVsbG8=",
             "farm_slots: 2026-11-30", "farm_emulation: {2026-11-30: never}",
             "farm_emulation: {1: never, null: x}", "farm_origins: {1: a, b: c}", "farm_catalog: &a [*a]",
             "farm_slots: 0x10", "farm_slots: 1_000", "farm_slots: 1:30"]


class Inventory:
    """What Ansible and the farm make of an inventory's folder, and of what `-e` says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loader = DataLoader()
        self.loader.set_basedir(str(folder))
        # these two ask a plugin of the collection, which only ansible-playbook finds
        self.defaults = {**DataLoader().load_from_file(str(DEFAULTS), trusted_as_template=True),
                         "farm_registry_ca": "", "farm_registry_password": ""}

    def write(self, name: str, data: bytes) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(data)

    def hosts(self, extra: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
        """The variables of each host. What Ansible cannot read is its own to tell, and gives none."""
        context.CLIARGS = context.CLIArgs({"extra_vars": extra, "connection": "ssh"})
        load_extra_vars.extra_vars = {}
        loader = DataLoader()
        loader.set_basedir(str(self.folder))
        try:
            inventory = InventoryManager(loader, sources=[str(self.folder / "hosts.yml")])
            manager = VariableManager(loader, inventory)
            found = [manager.get_vars(host=host) for host in inventory.get_hosts()]
        except (AnsibleError, RecursionError):
            return
        for variables in found:
            yield {**self.defaults, **variables, "ansible_forks": 5, "__farm_side_by_side": True}

    def mistakes(self, extra: tuple[str, ...] = ()) -> list[str]:
        """Everything that the first host with a mistake is told. If there is none, the farm can use all values."""
        for variables in self.hosts(extra):
            templar = Templar(self.loader, variables)
            (told,) = LookupModule(loader=self.loader, templar=templar).run([], variables)
            wrong = list(told["mistakes"])
            assert len(set(wrong)) == len(wrong)
            for text in wrong:
                assert text.isprintable() and len(text) < 1500 and not PYTHON.search(text), text
            if wrong:
                return wrong
            usable({name: templar.template(value) for name, value in variables.items() if name in settings.KNOWN})
        return []


# module -> its options
USED = [documented(module.DOCUMENTATION) for module in (plan, index, build, tester)]


def usable(values: dict[str, Any]) -> None:
    """Whether the modules that take these values accept them."""
    values = json.loads(json.dumps(values))
    settings.emulation(values["farm_emulation"])
    Origins(values["farm_origins"], here=Machine())
    for options in USED:
        taken = {name: values[f"farm_{name}"] for name in options if f"farm_{name}" in values}
        spec = argument_spec({name: {**options[name], "required": False} for name in taken})
        said = ArgumentSpecValidator(spec).validate(taken).error_messages
        assert not said, said


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inventory]:
    before = context.CLIARGS
    yield Inventory(tmp_path_factory.mktemp("inventory"))
    context.CLIARGS = before


def test_the_settings_are_right_before_they_are_changed(inventory: Inventory) -> None:
    inventory.write("hosts.yml", mutations.yaml_of(GROUPS).encode())
    inventory.write("group_vars/all.yml", mutations.yaml_of(GOOD).encode())
    assert inventory.mistakes() == []
    assert len(list(inventory.hosts())) == 2


@pytest.mark.parametrize("line", [
    "farm_emulation: {2026-11-30: never}", "farm_tags: !!binary aGVsbG8=", "farm_origins: {url: {2026-11-30: x}}",
])
def test_what_no_json_has_is_refused_by_name(inventory: Inventory, line: str) -> None:
    name = line.partition(":")[0]
    inventory.write("hosts.yml", mutations.yaml_of(GROUPS).encode())
    good = {key: value for key, value in GOOD.items() if key != name}
    inventory.write("group_vars/all.yml", (line + "\n" + yaml.safe_dump(good)).encode())
    (found,) = inventory.mistakes()
    assert found.startswith(f"{name} (") and "has a part that JSON has not" in found


@pytest.mark.parametrize("extra", ['{"farm_origins": {"\\u001f": []}}', '{"farm_image\\t": 1}'])
def test_what_a_terminal_would_interpret_is_shown_as_an_escape(inventory: Inventory, extra: str) -> None:
    inventory.write("hosts.yml", mutations.yaml_of(GROUPS).encode())
    inventory.write("group_vars/all.yml", mutations.yaml_of(GOOD).encode())
    assert inventory.mistakes((extra,)) != []  # and it must be printable


@pytest.mark.parametrize("extra", ['{"group_names": 7}', '{"ansible_connection": "{{ nothing }}"}'])
def test_a_variable_of_ansible_that_is_none_breaks_nothing(inventory: Inventory, extra: str) -> None:
    inventory.write("hosts.yml", mutations.yaml_of(GROUPS).encode())
    inventory.write("group_vars/all.yml", mutations.yaml_of(GOOD).encode())
    assert inventory.mistakes((extra,)) == []


@properties
@given(data=st.data())
def test_an_inventory_with_other_values_is_refused_by_name(inventory: Inventory, data: st.DataObject) -> None:
    groups, values = GROUPS, GOOD
    if data.draw(st.booleans()):
        groups = data.draw(mutations.mutated(groups, NAMES))
    else:
        values = data.draw(mutations.mutated(values, NAMES))
    inventory.write("hosts.yml", mutations.yaml_of(groups).encode("utf-8", "surrogatepass"))
    inventory.write("group_vars/all.yml", mutations.yaml_of(values).encode("utf-8", "surrogatepass"))
    inventory.mistakes()


@properties
@given(data=st.data())
def test_an_inventory_with_other_lines_is_refused_by_name(inventory: Inventory, data: st.DataObject) -> None:
    texts = {"hosts.yml": yaml.safe_dump(GROUPS), "group_vars/all.yml": yaml.safe_dump(GOOD)}
    changed = data.draw(st.sampled_from(sorted(texts)))
    for name, text in texts.items():
        inventory.write(name, data.draw(mutations.torn(text, FRAGMENTS)) if name == changed else text.encode())
    inventory.mistakes()


@properties
@given(data=st.data())
def test_what_a_command_line_says_is_refused_by_name(inventory: Inventory, data: st.DataObject) -> None:
    inventory.write("hosts.yml", mutations.yaml_of(GROUPS).encode())
    inventory.write("group_vars/all.yml", mutations.yaml_of(GOOD).encode())
    name = data.draw(st.sampled_from(NAMES) | st.sampled_from(sorted(GOOD)))
    if data.draw(st.booleans()):
        extra = f"{name}={data.draw(mutations.texts)}"
    else:
        odd = mutations.scalars | st.sampled_from(mutations.SURROGATES)
        values = data.draw(mutations.mutated({name: GOOD.get(name, "x")}, NAMES, odd))
        extra = json.dumps(values)
    inventory.mistakes((extra,))
