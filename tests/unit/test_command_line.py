"""What `-e` gives and nobody would use is told: words that Ansible drops, names that are nearly the farm's, and
variables of another playbook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils import command_line, settings

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"


def test_words_that_ansible_drops_are_a_mistake():
    (found,) = command_line.mistakes({"farm_images": "registry,", "_raw_params": "base"}, settings.KNOWN)
    assert found.startswith("-e has 'base', which sets nothing: write a list without spaces")


@pytest.mark.parametrize("name", ["FARM_IMAGES", "Farm_images", "farm-images", "buildkitd-memory"])
def test_a_name_in_another_spelling_is_a_mistake(name):
    (found,) = command_line.mistakes({name: "x"}, settings.KNOWN)
    assert found == f"{name} is not a variable of the farm: did you mean {name.lower().replace('-', '_')}?"


@pytest.mark.parametrize(("name", "said"), [(5, "5"), (True, "true"), (None, "null")])
def test_a_name_that_yaml_does_not_read_as_a_text_is_a_mistake(name, said):
    extra = {"farm_images": "x", name: "x"}
    (found,) = command_line.mistakes(extra, settings.KNOWN)
    assert found.startswith(f"-e has the name {said}, which is no text")
    assert command_line.warnings(extra, settings.KNOWN, ["build.yml"]) == []


@pytest.mark.parametrize(("name", "value", "said"), [
    ("image", 5, "image (-e) is 5, it must be the name of an image, or for remove.yml a list of names"),
    ("image", True, "image (-e) is true, it must be"), ("image", {"a": 1}, 'image (-e) is {"a": 1}, it must be'),
    ("image", ["a", 1], 'image (-e) is ["a", 1], it must be'), ("image", ",", 'image (-e) is ",", it must be'),
    ("to", 5, "to (-e) is 5, it must be the path of a folder"), ("to", ["/srv/a"], 'to (-e) is ["/srv/a"], it must'),
    ("to", "/srv/\0", 'to (-e) is "/srv/\\u0000", it must be'),
    ("build_platform", ["linux/amd64"], 'build_platform (-e) is ["linux/amd64"], it must be a string'),
])
def test_a_value_of_another_type_is_told_where_it_is_used(name, value, said):
    (found,) = command_line.mistakes({name: value}, settings.KNOWN, ["playbooks/context.yml"])
    assert found.startswith(said)
    assert command_line.mistakes({name: value}, settings.KNOWN, ["mine.yml"]) == []


@pytest.mark.parametrize("extra", [
    {"image": None}, {"image": ""}, {"image": "a", "to": "there", "build_platform": ""}, {"image": ["a", "b"]},
    {"image": "a,b"}])
def test_a_value_that_the_playbook_itself_judges_is_not_told(extra):
    assert command_line.mistakes(extra, settings.KNOWN, ["context.yml", "remove.yml"]) == []


def test_what_is_right_is_not_told():
    extra = {"farm_images": "x", "mine": 1, "buildkitd_memory": "3G"}
    assert command_line.mistakes(extra, settings.KNOWN) == []
    assert command_line.warnings(extra, settings.KNOWN, ["build.yml"]) == []


@pytest.mark.parametrize(("playbook", "name", "said"), [
    ("build.yml", "images", "images (-e) is not a variable of the farm: did you mean farm_images?"),
    ("build.yml", "image", "image (-e) is not used here, but by remove.yml, context.yml"),
    ("playbooks/build.yml", "farm_snapshot", "farm_snapshot (-e) is not used here, but by lock.yml"),
    ("/srv/playbooks/lock.yml", "farm_platforms", "farm_platforms (-e) is not used here, but by build.yml, verify.yml"),
    ("playbooks/stop.yml", "farm_images", "farm_images (-e) is not used here, but by "),
])
def test_what_a_playbook_does_not_use_is_told(playbook, name, said):
    (found,) = command_line.warnings({name: "x"}, settings.KNOWN, [playbook])
    assert found.startswith(said)


@pytest.mark.parametrize("playbooks", [["mine.yml"], ["mine.yml", "build.yml"], ["lock.yml", "build.yml"], []])
def test_a_playbook_of_somebodys_own_may_use_anything(playbooks):
    assert command_line.warnings({"farm_snapshot": "x"}, settings.KNOWN, playbooks) == []


@pytest.mark.parametrize(("tags", "playbooks", "told"), [
    (["buildkitd_run"], ["playbooks/clean.yml"], True), (["x", "y"], ["status.yml", "stop.yml"], True),
    (["always"], ["lock.yml"], True), (["all"], ["clean.yml"], False), (["untagged"], ["clean.yml"], False),
    (["buildkitd_run"], ["playbooks/provision.yml"], False), (["buildkitd_run"], ["mine.yml"], False),
    (["buildkitd_run"], ["stop.yml", "mine.yml"], False), (["buildkitd_run"], [], False),
])
def test_tags_for_a_playbook_without_any_are_told(tags, playbooks, told):
    """It would do nothing, and end well."""
    found = command_line.left_out(tags, playbooks)
    assert [text.partition(" has a tag, so -t ")[2] for text in found] == (
        [f"{','.join(tags)} leaves out all that it does"] if told else [])


def test_the_playbooks_without_tags_run_no_role_that_has_some():
    def tagged(text: str) -> bool:
        """Whether a task in it, or in a file that it imports, has another tag than `always`. An include is a task."""
        inner = [(PLAYBOOKS / name).read_text() for name in re.findall(r"import_tasks: (tasks/[a-z]+\.yml)", text)]
        inner += [(PLAYBOOKS / "tasks" / name).read_text() for name in re.findall(r"import_tasks: ([a-z]+\.yml)", text)]
        return "roles.yml" in text or any(map(tagged, inner))

    for path in PLAYBOOKS.glob("*.yml"):
        found = path.stem != "check" and tagged(path.read_text())  # it provisions only what is damaged, as it has read
        assert found is (path.stem not in command_line.UNTAGGED), path.stem


def used(name: str, text: str) -> bool:
    return bool(re.search(rf"\b{name}\b", re.sub(r"(?m)(^| )#.*", "", text)))


def test_the_table_names_the_playbooks_that_use_a_variable():
    texts = {path.stem: path.read_text() for path in PLAYBOOKS.glob("*.yml")}
    assert set(texts) == set(command_line.PLAYBOOKS)
    for name, playbooks in command_line.USED_BY.items():
        if name.startswith("farm_"):
            assert {one for one, text in texts.items() if used(name, text)} == set(playbooks), name
        else:
            assert {one for one, text in texts.items() if f"-e {name}=" in text} == set(playbooks), name
