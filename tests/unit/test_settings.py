"""The farm's public variables: mistakes are told all at once, in words, and the fingerprint follows what provisions a
host."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils import settings

PROJECT = Path(__file__).resolve().parents[2]
GOOD = {
    "farm_state": "/var/lib/desimages",
    "farm_registry": "127.0.0.1:5000",
    "farm_namespace": "desimages",
    "farm_catalog": ["/srv/images"],
    "farm_platforms": "linux/arm64,linux/arm/v6",
    "farm_busy": "wait",
}


ALONE = {"nodes": ["localhost"], "registries": ["localhost"]}


def test_good_settings_have_no_mistakes():
    assert settings.mistakes(GOOD, ALONE) == []
    assert settings.mistakes({**GOOD, "farm_registry": "registry.example.org"}, {"nodes": ["localhost"]}) == []


@pytest.mark.parametrize("value", [
    ("farm_registry", "me:secret@registry.example:5000"), ("farm_registry", "https://me:secret@registry.example"),
    ("farm_publish", "https://me:secret@registry.example/x"), ("farm_state", "me:secret@x"),
    ("farm_origins", {"go": "https://me:secret@proxy.example", "debain": []}),
    ("farm_origins", {"debian": {"https://me:secret@mirror.example": 1}}), ("farm_registry_password", "secret\n"),
    ("farm_registry_password", ["secret"]), ("farm_origins", {"pypi": "https://me:se/cret@index.example/"}),
    ("farm_origins", {"npm": "https://me:a/secret@npm.example/", "x": 1}), ("farm_registry", "me:a/secret@r.example"),
    ("farm_trusted_keys", ["-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"]),
    ("farm_registry_ca", "-----BEGIN EC PRIVATE KEY-----\nsecret\n-----END EC PRIVATE KEY-----\n"),
    ("farm_signing_key", "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"),
])
def test_a_password_in_a_wrong_setting_is_not_shown(value):
    (found,) = settings.mistakes({**GOOD, value[0]: value[1]}, {"nodes": ["localhost"]})
    assert value[0] in found and "secret" not in found


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({**ALONE, "registries": ["pi", "rack"]},
         "the group registries has 2 hosts (pi, rack): a farm has one registry"),
        ({"registries": ["localhost"]}, "the group nodes has no host"),
    ],
)
def test_groups_that_are_no_farm_are_refused_by_name(groups, said):
    (found,) = settings.mistakes(GOOD, groups)
    assert found.startswith(said)


@pytest.mark.parametrize(("name", "near"), [
    ("node", True), ("Nodes", True), ("NODE", True), ("servers", False), ("nodes_old", False),
])
def test_a_group_that_is_nearly_nodes_is_told(name, near):
    (found,) = settings.mistakes(GOOD, {"registries": ["localhost"], name: ["pi"]})
    assert (f"should the group {name} be called nodes?" in found) is near


@pytest.mark.parametrize(("groups", "told"), [
    ({"registry": ["pi"]}, "registry"), ({"Registries": ["pi"]}, "Registries"), ({"registries": [], "regitry": ["pi"]},
                                                                                 "regitry"),
    ({"registry": ["pi"], "registries": ["pi"]}, ""), ({"registry": []}, ""), ({"mirrors": ["pi"]}, ""), ({}, ""),
])
def test_a_group_that_is_nearly_registries_is_warned_of(groups, told):
    """It may be what a person's other playbooks work on."""
    found = settings.warnings(groups)
    assert [text.split()[2] for text in found] == ([told] if told else [])


@pytest.mark.parametrize(("groups", "told"), [
    ({"tester": ["pi"]}, "tester"), ({"Testers": ["pi"]}, "Testers"), ({"tester": ["pi"], "testers": ["pi"]}, ""),
    ({"tests": ["pi"]}, ""),
])
def test_a_group_that_is_nearly_testers_is_warned_of(groups, told):
    found = settings.warnings({**ALONE, **groups})
    assert [text.split()[2] for text in found] == ([told] if told else [])


@pytest.mark.parametrize(("own", "controllers", "said"), [
    ({"farm_registry"}, {}, "farm_registry is 'a:1' (x:1), but not set for"),
    ({"farm_registry"}, {"farm_registry": "b:1"}, "farm_registry is 'a:1' (x:1), but 'b:1' for the controller"),
    (set(), {"farm_registry": "b:1"}, "farm_registry is 'a:1', its default, but 'b:1' for the controller"),
    (set(), {"farm_registry_password": "c"}, "farm_registry_password is (not shown), its default, but (not shown) for"),
    (set(), {"farm_busy": "stop"}, ""), ({"farm_busy"}, {"farm_busy": "stop"}, "farm_busy is 'wait', but 'stop' for"),
    ({"farm_busy"}, {}, ""), ({"farm_registry"}, {"farm_registry": "a:1"}, ""), (set(), {}, ""),
    ({"farm_state", "farm_slots", "farm_native", "farm_emulation"}, {"farm_state": "/srv/x"}, ""),
])
def test_a_host_has_what_holds_for_the_whole_farm_as_the_controller_has_it(own, controllers, said):
    values = {"farm_registry": "a:1", "farm_busy": "wait", "farm_registry_password": "b", "farm_state": "/srv/farm",
              "farm_slots": 2, "farm_native": [], "farm_emulation": "never"}
    found = settings.divided(own, controllers, values, places={"farm_registry": "x:1"}, defaults={"farm_busy": "wait"})
    assert [text[:len(said)] for text in found] == ([said] if said else [])


def test_a_tag_that_no_task_has_is_warned_of():
    """Nothing would run, and nothing would say so."""
    assert settings.warnings({}, ["all"]) == settings.warnings({}, ["buildkitd_prove", "untagged"]) == []
    (found,) = settings.warnings(ALONE, ["build", "registry_run", "nothere"])
    assert found.startswith("no task of the farm has the tag build, nothere (-t), so none is run for it; there")
    (found,) = settings.warnings(ALONE, ["all"], skipped=["registry_run", "buildkitd"])
    assert found.startswith("no task of the farm has the tag buildkitd (--skip-tags), so none is left out for it; ")


def test_the_tags_that_are_known_are_those_of_the_roles():
    tasks = [path.read_text(encoding="utf-8") for path in PROJECT.glob("roles/*/tasks/*.yml")]
    lists = re.findall(r"^ *tags: \[([^]]+)\]", "\n".join(tasks), re.MULTILINE)
    assert set(settings.TAGS) | {"always"} == {tag.strip() for found in lists for tag in found.split(",")}


def test_other_machines_do_not_reach_a_registry_on_loopback():
    two = {"nodes": ["pi", "rack"], "registries": ["rack"]}
    assert settings.mistakes(GOOD, two) == settings.mistakes(GOOD, ALONE, remote=True) == []
    (found,) = settings.mistakes(GOOD, two, remote=True)
    assert found.startswith("farm_registry is '127.0.0.1:5000', which each host takes for itself")
    assert "pi, rack" in found
    assert settings.mistakes({**GOOD, "farm_registry": "registry.example.org:5000"}, two, remote=True) == []


@pytest.mark.parametrize(("address", "told"), [
    ("192.168.1.22", True), ("pi2.example.org", True), ("2001:db8::1", True), ("127.0.0.1", False), ("::1", False),
    ("localhost", False), ("", False),
])
def test_a_single_machine_elsewhere_does_not_share_its_loopback_with_the_controller(address, told):
    """A container on this machine may: ssh reaches it on loopback."""
    found = settings.mistakes(GOOD, {"nodes": ["pi"], "registries": ["pi"]}, remote=True, address=address)
    assert [f"the host is another machine ({address!r})" in text for text in found] == [True] * told


def test_a_user_without_a_password_is_not_dropped_in_silence():
    there = {**GOOD, "farm_registry": "registry.example.org", "farm_registry_user": "me", "farm_registry_password": ""}
    alone = {"nodes": ["localhost"]}
    (found,) = settings.mistakes(there, alone)
    assert found.startswith("farm_registry_user is 'me', but farm_registry_password is empty")
    for change in ({"farm_registry_user": "farm"}, {"farm_registry_password": "x"}, {"farm_registry": "127.0.0.1:1"}):
        assert settings.mistakes({**there, **change}, alone) == []
    own = {**there, "farm_registry": "registry.example.org:5000"}
    assert settings.mistakes(own, ALONE) == []  # one is made


def test_a_mistake_is_told_with_its_place():
    places = {"farm_slots": "/srv/group_vars/all.yml:7", "farm_native": "", "farm_slot": "/srv/all.yml:9"}
    found = settings.mistakes({**GOOD, "farm_slots": "x", "farm_native": "x", "farm_slot": 1}, ALONE, places=places)
    assert [text[:52] for text in found] == ["farm_native is 'x', it must be a list of platforms o",
                                             "farm_slots is 'x' (/srv/group_vars/all.yml:7), it mu",
                                             "farm_slot (/srv/all.yml:9) is not a variable of the "]


def test_fewer_workers_than_nodes_are_refused_with_the_number_that_is_needed():
    groups = {"nodes": [f"node{number}" for number in range(7)]}
    remote = {**GOOD, "farm_registry": "registry.example.org"}
    assert settings.mistakes(remote, groups, 7) == settings.mistakes(remote, groups) == []
    (found,) = settings.mistakes(remote, groups, 5)
    assert "forks is 5, but the group nodes has 7 hosts" in found and "--forks 7" in found


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("farm_state", "desimages", "an absolute path of at least two parts"),
        ("farm_state", "/", "an absolute path of at least two parts"),
        ("farm_state", "/var/" + "x" * 100, "a path of at most 92 bytes"),
        ("farm_registry", "http://127.0.0.1:5000", "HOST:PORT without a scheme"),
        ("farm_namespace", "Desimages", "lower case letters"),
        ("farm_namespace", "a" * 127, "at most 126"),
        ("farm_publish", "registry.example.org/" + "a" * 127, "at most 126"),
        ("farm_platforms", ["linux/arm"], "linux/arm/v7"),
        ("farm_busy", "fight", "one of wait, stop"),
        ("farm_native", ["linux/arm"], "linux/arm/v7"),
        ("farm_native", 5, "a list of platforms out of linux/amd64"),
        ("farm_emulation", "always", "one of never, missing, allowed"),
        ("farm_emulation", True, "one of never, missing, allowed"),
        ("farm_emulation", {"linux/s390": "allowed"}, "one of never, missing, allowed"),
        ("farm_emulation", {"linux/s390x": "yes"}, "one of never, missing, allowed"),
        ("farm_emulation", {"linux/s390x": ["never"]}, "one of never, missing, allowed"),
        ("farm_emulation", ["allowed"], "one of never, missing, allowed"),
        ("farm_slots", -1, "a number from 0 to 999"),
        ("farm_slots", True, "a number from 0 to 999"),
        ("farm_slots", "four", "a number from 0 to 999"),
        ("farm_slots", 2.5, "a number from 0 to 999"),
        ("farm_controller_state", "~/farm", "an absolute path"),
        ("farm_emulations", "never", "did you mean farm_emulation?"),
        ("farm_relock_missing", "perhaps", "true or false"),
        ("farm_publish", "https://example.org/x", "without a scheme"),
        ("farm_publish", "registry.example.org/Team", "lower case"),
        ("farm_publish", "docker.io", "docker.io/NAME with the name of an account"),
        ("farm_publish", "index.docker.io/me/team", "index.docker.io/NAME with the name of an account"),
        ("farm_state", "/srv/farm/", "no slash at its end"),
        ("farm_state", "/srv/../farm", "an absolute path"),
        ("farm_tags", [], "a list of tags"),
        ("farm_tags", ["my tag"], "a list of tags"),
        ("farm_tags", ["{version}"], "a list of tags"),
        ("farm_tags", ["{suite:>999999999}"], "a list of tags"),
        ("farm_tags", ["{suite:{id}}"], "a list of tags"),
        ("farm_state", "\ud800", "an absolute path"),
        ("farm_tags", "latest,{suite", "a list of tags"),
        ("farm_tags", ["v1+b"], "a list of tags"),
        ("farm_tags", ["x/../y"], "a list of tags"),
        ("farm_tags", [".v1"], "a list of tags"),
        ("farm_tags", ["x" * 102], "a list of tags"),
        ("farm_namespace", "a/../b", "lower case letters"),
        ("farm_namespace", "x" * 127, "at most 126"),
        ("farm_platform", ["linux/arm64"], "did you mean farm_platforms?"),
        ("farm_snapshots", "20261101T081513Z", "did you mean farm_snapshot?"),
        ("farm_from_pasword", "secret", "did you mean farm_from_password?"),
        ("farm_registry", "127.0.0.1:99999", "HOST:PORT"),
        ("farm_registry", "r..example:5000", "HOST:PORT"),
        ("farm_registry", "0.0.0.0:5000", "under which all hosts and this machine reach it"),
        ("farm_registry", "[::]:5000", "under which all hosts and this machine reach it"),
        ("farm_registry", "127.0.0.1", "needs a numeric address and a port"),
        ("farm_registry", "localhost:5000", "needs a numeric address and a port"),
        ("farm_registry", "192.0.2.5", "needs a port, such as 192.0.2.5:5000"),
        ("farm_registry", "registry.example.org", "needs a port, such as registry.example.org:5000"),
        ("registry_address", "registry.example.org:5000", "a numeric address"),
        ("farm_registry_ca", "ca.pem", "'' or an absolute path"),
        ("farm_registry_user", "a:b", "without a space or a colon"),
        ("farm_registry_user", "", "without a space or a colon"),
        ("farm_registry_password", "x" * 73, "at most 72 bytes"),
        ("farm_registry_password", "a\nb", "without line breaks"),
        ("farm_secrets", "secrets", "an absolute path"),
        ("farm_catalog", [""], "a list of folders"),
        ("farm_catalog", [], "a list of folders"),
        ("farm_catalog", "/srv/images,", "a list of folders"),
        ("farm_catalog", "/srv/images,,desimages.farm", "a list of folders"),
        ("farm_origins", {"gem": []}, "it has gem"),
        ("farm_origins", {"npm": "https://me:word@r.example/"}, "npm has no login"),
        ("farm_origins", {"debian": ["http://mirror.example", "http://token@mirror.example"]}, "debian has no login"),
        ("farm_origins", {"git": {"https://a/": "ssh://me:word@b/"}}, "git has no login"),
        ("farm_origins", {"go": "https://p.example,https://me:word@p.example"}, "go has no login"),
        ("farm_origins", {"npm": "file:///srv/npm"}, "npm is the address of a registry"),
        ("farm_origins", {"pypi": "/srv/wheels"}, "pypi is the address of an index"),
        ("farm_origins", {"debian": 5}, "debian is a list of base URLs"),
        ("farm_origins", {"go": ["https://p"]}, "go is a GOPROXY"),
        ("farm_origins", {"cargo": "https://index.example/"}, "cargo is sparse+https://"),
        ("farm_origins", {"cargo": ["file:///srv/crates"]}, "cargo is sparse+https://"),
        ("farm_origins", {"url": "file:///srv"}, "url is a mapping"),
        ("farm_origins", {"url": {"https://a/": 5}}, "in which url is a mapping of the beginning of an address to"),
        ("farm_origins", {"url": {"https://a/": "mirror"}, "debian": ["mirror"], "git": {"https://a/": "mirror"}},
         "in which debian is a list of base URLs, such as [https://mirror.example/debian], url is a mapping"),
        ("farm_origins", {"maven": "ftp://mirror.example"}, "maven is a list of base URLs"),
        ("farm_origins", {"image": {"docker.io/": "https://mirror.example/"}}, "another without a scheme"),
        ("farm_origins", {"image": {"docker.io/": "me:word@mirror.example/"}}, "another without a scheme or a login"),
        ("farm_origins", {"go": "proxy.example.org"}, "go is a GOPROXY, such as https://proxy.example.org"),
        ("farm_plan_json", "plan.json", "the absolute path of a file"),
        ("farm_images", ",", "a list of names"), ("farm_platforms", ", ", "a list of platforms out of"),
        ("farm_tags", ["-x"], "which does not begin with . or -"),
        ("farm_tags", "[latest]", """; -e farm_tags=... gives a text, -e '{"farm_tags": ...}' a list or a mapping"""),
    ],
)
def test_a_wrong_setting_is_told_with_what_it_may_be(name, value, said):
    (found,) = settings.mistakes({**GOOD, name: value}, ALONE)
    assert name in found
    assert said in found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("farm_native", ["linux/arm/v7", "linux/arm/v6"]), ("farm_native", []), ("farm_slots", 0), ("farm_slots", "12"),
        ("farm_emulation", "missing"), ("farm_emulation", {"linux/s390x": "allowed", "linux/arm/v6": "never"}),
        ("farm_controller_state", "/home/me/farm"), ("farm_catalog", "desimages.farm,/srv/images"),
        ("farm_images", ""), ("farm_platforms", ""), ("farm_platforms", "linux/arm64, linux/arm/v6"),
        ("farm_catalog", "desimages.farm, /srv/images"), ("farm_tags", "{suite}, latest"),
        ("farm_tags", "{suite},latest"), ("farm_tags", ["{suite}-{date}-{id}"]), ("farm_publish", ""),
        ("farm_publish", "registry.example.org:5000"), ("farm_publish", "docker.io/me"),
        ("farm_publish", "registry.example.org/team/my--images__x"), ("farm_state", "/srv/farm..1/.x"),
        ("farm_registry", "[::1]:5000"), ("farm_registry", "registry.example.org:5000"),
        ("farm_registry", "[2001:db8::1]:5000"), ("registry_address", "0.0.0.0:5000"), ("farm_registry_ca", ""),
        ("farm_registry_password", "a long pass phrase"), ("farm_snapshot", "20261101T081513Z"),
        ("farm_origins", {"debian": "file:///a", "go": "off", "npm": "https://r.example/", "pypi": "file:///b",
                          "url": {"http://a/": "file:///b/"}, "image": {"docker.io/": "mirror.example/hub/"}}),
        ("farm_origins", {"cargo": "file:///srv/crates"}),
        ("farm_origins", {"git": {"https://a/": "ssh://git@b/"}, "url": {"https://a/": "https://b/x@1/"}}),
        ("farm_origins", {"cargo": "sparse+http://index.example/"}),
        ("farm_origins", {"npm": "https://npm.example:8080/@scope/", "pypi": "https://[2001:db8::1]:80/@x"}),
    ],
)
def test_a_right_setting_is_taken(name, value):
    assert settings.mistakes({**GOOD, name: value}, ALONE) == []


@pytest.mark.parametrize("alone", ["registry_certificate", "registry_key"])
def test_a_certificate_comes_with_its_key(alone):
    there = {**GOOD, "farm_registry": "192.0.2.5:5000"}
    (found,) = settings.mistakes({**there, alone: "/srv/file.pem"}, ALONE)
    assert found.startswith(f"{alone} is set alone")
    assert settings.mistakes({**there, "registry_certificate": "/srv/c", "registry_key": "/srv/k"}, ALONE) == []


@pytest.mark.parametrize("name", ["registry_state", "buildkitd_state"])
def test_a_service_elsewhere_than_in_the_state_folder_is_refused(name):
    """It would never be found well, and clean.yml would leave it running."""
    (found,) = settings.mistakes({**GOOD, name: "/srv/other"}, ALONE)
    assert found.startswith(f"{name} is '/srv/other', and farm_state '{GOOD['farm_state']}'")
    assert settings.mistakes({**GOOD, name: GOOD["farm_state"]}, ALONE) == []


def test_behind_another_port_the_name_of_the_registry_needs_none():
    there = {**GOOD, "farm_registry": "registry.example.org", "registry_address": "0.0.0.0:5000"}
    assert settings.mistakes(there, ALONE) == []


@pytest.mark.parametrize("value", [True, "true", "False", "yes", "no"])
def test_a_flag_may_be_a_word_as_on_the_command_line(value):
    assert settings.mistakes({**GOOD, "farm_partial": value}, ALONE) == []


@pytest.mark.parametrize("choice", [{"farm_images": "a"}, {"farm_platforms": ["linux/arm64"]}, {"farm_select": "[0]"}])
@pytest.mark.parametrize("value", [True, "yes"])
def test_what_is_chosen_may_be_built_again_and_not_everything(choice, value):
    nothing = {**GOOD, "farm_platforms": [], "farm_rebuild": value}
    assert settings.mistakes({**nothing, **choice}, ALONE) == []
    (found,) = settings.mistakes(nothing, ALONE)
    assert "set farm_images, farm_platforms or farm_select" in found


def test_all_mistakes_are_told_at_once():
    assert len(settings.mistakes({"farm_state": "x", "farm_busy": "x"}, {})) == 6


@pytest.mark.parametrize(
    ("name", "decides"),
    [("farm_state", True), ("farm_registry", True), ("buildkitd_socket", True),
     ("farm_native", True), ("farm_emulation", True), ("farm_slots", False), ("farm_controller_state", False),
     ("farm_images", False),
     ("farm_select", False)],
)
def test_what_is_built_does_not_decide_how_a_host_is_provisioned(name, decides):
    assert settings.decides_provisioning(name) is decides


def test_a_change_in_a_role_changes_the_fingerprint():
    one = settings.fingerprint({"a": 1}, {"roles/x": b"1"})
    assert one == settings.fingerprint({"a": 1}, {"roles/x": b"1"})
    assert one != settings.fingerprint({"a": 1}, {"roles/x": b"2"})
    assert one != settings.fingerprint({"a": 2}, {"roles/x": b"1"})


@pytest.mark.parametrize(("value", "groups", "said"), [
    ("never", {}, ""), ("before_tag", {"testers": ["pi"]}, ""),
    ("before_tag", {}, "farm_verify is before_tag, but the group testers has no host that could run images"),
    ("before_tag", {"testers": []}, "farm_verify is before_tag, but the group testers has no host"),
    ("after_tag", {"testers": ["pi"]}, "farm_verify is 'after_tag', it must be one of never, before_tag"),
    (True, {"testers": ["pi"]}, "farm_verify is True, it must be one of never, before_tag"),
])
def test_tags_wait_for_testers_only_if_there_are_any(value, groups, said):
    found = settings.mistakes({**GOOD, "farm_verify": value}, {**ALONE, **groups})
    assert len(found) == bool(said) and all(said in text for text in found)


def test_each_tester_needs_a_worker():
    groups = {**ALONE, "testers": ["a", "b", "c"]}
    assert settings.mistakes(GOOD, groups, 3) == []
    (found,) = settings.mistakes(GOOD, groups, 2)
    assert found.startswith("forks is 2, but the group testers has 3 hosts") and "--forks 3" in found


@pytest.mark.parametrize("name", ["farm_registry", "farm_registry_user", "farm_state", "farm_publish"])
@pytest.mark.parametrize("value", [":" * 100_000, "a:" * 50_000, "a@" * 50_000, "/:" * 50_000])
def test_a_long_text_is_judged_at_once(name, value):
    began = time.process_time()
    (found,) = settings.mistakes({**GOOD, name: value}, {"nodes": ["localhost"]})
    assert found.startswith(f"{name} is ") and len(found) < 1000
    assert time.process_time() - began < 1


@pytest.mark.parametrize(("name", "value", "said"), [
    ("farm_adopt", "maybe", "true or false"), ("farm_repair", "", "true or false"),
    ("farm_provision_always", 3, "true or false"), ("farm_snapshot", "yesterday", "such as 20261123T112238Z"),
    ("farm_snapshot", "20991231T235959Z", "a time that has passed"),
    ("farm_snapshot", 20261123, "a time that has passed, in UTC, such as"), ("farm_lock_select", ["a"], "a string"),
    ("farm_upgrade", {"a": 1}, "a list of strings"), ("farm_plan_json", "", "the absolute path of a file"),
    ("farm_status_json", "/srv/", "the absolute path of a file"), ("farm_from", "http://x", "HOST:PORT"),
    ("farm_from_ca", "ca.pem", "'' or an absolute path"), ("farm_from_user", "a b", "letters, digits and signs"),
    ("farm_from_state", "x", "an absolute path"),
])
def test_variables_of_one_playbook_are_checked_with_all_others(name, value, said):
    (found,) = settings.mistakes({**GOOD, name: value}, ALONE)
    assert found.startswith(f"{name} is {value!r}, it must be ") and said in found


def test_a_folder_that_follows_from_another_one_is_told_once():
    (found,) = settings.mistakes({**GOOD, "farm_state": "x", "farm_controller_state": "x"}, ALONE)
    assert found.startswith("farm_state is 'x'")


def test_a_list_that_a_file_gives_as_a_text_has_advice_for_files():
    at = {"farm_native": "/srv/hosts.ini:2"}
    (found,) = settings.mistakes({**GOOD, "farm_native": "[linux/arm/v7]"}, ALONE, places=at)
    assert "in a file of group_vars or host_vars" in found and "-e" not in found.split()


def test_a_text_that_may_not_be_a_list_has_no_advice_about_lists():
    (found,) = settings.mistakes({**GOOD, "farm_registry": "[::1%lo]:5000"}, ALONE)
    assert "gives a text" not in found


def test_a_password_of_one_playbook_is_not_shown():
    (found,) = settings.mistakes({**GOOD, "farm_from_password": ["secret"]}, ALONE)
    assert found.startswith("farm_from_password is (not shown)")


@pytest.mark.parametrize("values", [
    {"farm_adopt": "yes", "farm_repair": True, "farm_snapshot": "20261123T112238Z", "farm_upgrade": "caddy,base"},
    {"farm_plan_json": "/srv/plan.json", "farm_status_json": "~/x",
     "farm_from": "127.0.0.1:5000", "farm_from_user": "", "farm_snapshot": ""},
])
def test_good_variables_of_one_playbook_are_taken(values):
    assert settings.mistakes({**GOOD, **values}, ALONE) == []


def test_a_variable_that_the_farm_does_not_have_is_told():
    """It may serve to work out another one, so it is no mistake."""
    assert settings.warnings(ALONE, (), [*GOOD, "farm_adopt", "buildkitd_memory"]) == []
    assert [text.split(", which")[0] for text in settings.warnings(ALONE, (), ["farm_arch", "registry_password"])] == [
        "farm_arch is not a variable of the farm",
        "registry_password is not a variable of the farm (farm_registry_password or registry_user?)"]
    assert settings.warnings(ALONE, (), ["farm_image"]) == []  # that is a mistake
    (found,) = settings.mistakes({**GOOD, "farm_image": "x"}, ALONE)
    assert "did you mean farm_images?" in found


@pytest.mark.parametrize("given", [
    {"pypi": "https://word@r.example/"}, {"go": "https://p.example,https://word@p.example"},
    {"git": {"https://a/": "https://word@b/"}}, {"debian": ["http://me:word@mirror.example"]}])
def test_a_refused_login_is_not_shown_even_if_it_is_a_token_alone(given: dict) -> None:
    said = settings.mistakes({"farm_origins": given}, {"nodes": ["a"]})
    assert any("no login" in one for one in said) and "word@" not in " ".join(said)


def test_a_folder_that_does_not_equal_itself_is_refused() -> None:
    said = settings.mistakes({"farm_state": float("nan")}, {"nodes": ["a"]})
    assert any(one.startswith("farm_state is nan, it must be an absolute path") for one in said)
