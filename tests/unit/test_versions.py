"""Which of two versions is newer, and how a recipe's version is changed in place."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import key, newest, newest_tag, trial
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.edits import replaced


@pytest.mark.parametrize(("older", "newer"), [
    ("v1.2.3", "v1.10.0"),
    ("1.2-rc1", "1.2"),
    ("1.2-rc9", "1.2-rc10"),
    ("2.0-SNAPSHOT", "2.0"),
    ("2.0b1", "2.0"),
    ("1.27rc2", "1.27.0"),
    ("1.2", "1.2.1"),
    ("release-1.9", "release-1.10"),
    ("V1.2.3", "v1.2.4"),
    ("1.2", "1." + "9" * 5000),
])
def test_versions_are_ordered_as_people_number_them(older, newer):
    assert key(older) < key(newer)


@pytest.mark.parametrize(("known", "locked", "best"), [
    (["v1.0.0", "v1.1.0", "v1.2.0-rc1"], "v1.0.0", "v1.1.0"),
    (["1.0-rc1", "1.0-rc2"], "1.0-rc1", "1.0-rc2"),
    (["1.0-rc1", "1.0"], "1.0-rc1", "1.0"),
    (["1.0"], "2.0", "2.0"),
    (["1.0+build2"], "1.0+build1", "1.0+build1"),
    ([], "1.0", "1.0"),
    (["1.0.0.Final", "1.1.0.Final"], "1.0.0.Final", "1.1.0.Final"),
    (["1.0-alpha"], "", ""),
])
def test_the_newest_is_no_trial_and_no_older_one(known, locked, best):
    assert newest(known, locked) == best


def test_a_tag_is_compared_with_tags_that_are_written_like_it():
    tags = ["v1.0", "v1.2", "release-9", "v2.0-rc1", "tools/v7.0"]
    assert newest_tag(tags, "v1.0") == "v1.2"
    assert newest_tag(tags, "tools/v6.0") == "tools/v7.0"


@pytest.mark.parametrize(("version", "yes"), [("1.0", False), ("1.0.Final", False), ("1.0a1", True), ("1.0-M2", True)])
def test_a_trial_is_known_by_its_letters(version, yes):
    assert trial(version) == yes


RECIPE = """\
---
# what it is
inputs:
  app: {go: example.com/app, version: v1.0.0, package: ./cmd}    # the program
  "more":
    npm: thing
    version: '1.0.0'   # quoted
  wheels: {pypi: [one==1.0, "two==2.0"]}
"""


@pytest.mark.parametrize(("place", "value", "line"), [
    (("inputs", "app", "version"), "v1.1.0",
     "  app: {go: example.com/app, version: v1.1.0, package: ./cmd}    # the program"),
    (("inputs", "more", "version"), "1.10.0", "    version: '1.10.0'   # quoted"),
    (("inputs", "wheels", "pypi", 1), "two==2.1", '  wheels: {pypi: [one==1.0, "two==2.1"]}'),
])
def test_only_that_scalar_changes(place, value, line):
    after = replaced(RECIPE, {place: value})
    before = RECIPE.splitlines()
    assert [text for text in after.splitlines() if text not in before] == [line]
    assert len(after.splitlines()) == len(before)


def test_several_scalars_change_at_once_whatever_comes_first():
    places = {("inputs", "wheels", "pypi", 0): "one==10.0", ("inputs", "app", "version"): "v1.0.1000"}
    after = replaced(RECIPE, places)
    assert after == RECIPE.replace("one==1.0", "one==10.0").replace("v1.0.0", "v1.0.1000")


@pytest.mark.parametrize(("text", "place", "value"), [
    ("a: &x v1\nb: *x\n", ("b",), "v2"),    # an alias: the anchor's scalar is elsewhere
    ("a: &x v1\nb: *x\n", ("a",), "v2"),
    ("a: |\n  v1\n", ("a",), "v2"),
    ("a: {b: 1}\n", ("a",), "v2"),
    ("a: v1\n", ("c",), "v2"),
    ("a: v1\n", ("a",), "v2 # no"),
    ("a: {b: v1}\n", ("a", "b"), "v2, c"),
])
def test_what_would_change_more_is_refused(text, place, value):
    with pytest.raises(FarmError):
        replaced(text, {place: value})
