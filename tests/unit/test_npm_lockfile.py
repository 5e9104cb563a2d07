"""What a package-lock.json installs, and what of it cannot be locked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    BadInput,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARMV7, PPC64LE, RISCV64
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_failures import failure
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_lockfile import (
    Package,
    allowed,
    named,
    natives,
    packages,
    tidied,
)

SHA = f"sha512-{86 * 'a'}=="
OTHER = f"sha512-{86 * 'b'}=="


def lockfile(tree: dict[str, dict[str, Any]], version: object = 3) -> str:
    whole = {path: entry if not path or "link" in entry else {"version": "1.0.0", "integrity": SHA, **entry}
             for path, entry in tree.items()}
    return json.dumps({"lockfileVersion": version, "packages": {"": {"name": "x"}, **whole}})


def read(tree: dict[str, dict[str, Any]]) -> list[str]:
    return [package.label for package in packages(lockfile(tree), "app/package-lock.json")]


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        ({"node_modules/a": {}}, ["a 1.0.0"]),
        ({"node_modules/@me/a": {"version": "2.0.0-rc.1+b"}}, ["@me/a 2.0.0-rc.1+b"]),
        ({"node_modules/a": {}, "node_modules/b/node_modules/a": {}, "node_modules/b": {}}, ["a 1.0.0", "b 1.0.0"]),
        ({"node_modules/a": {"dev": True}, "node_modules/b": {"optional": True},
          "node_modules/c": {"devOptional": True}, "node_modules/d": {"extraneous": True},
          "node_modules/e": {"peer": True}}, ["e 1.0.0"]),
        ({"node_modules/a": {}, "node_modules/a/node_modules/b": {"inBundle": True, "integrity": ""}}, ["a 1.0.0"]),
        # what the program itself bundles is no less installed, and what that needs
        ({"": {"inBundle": True}, "node_modules/a": {"inBundle": True}}, ["a 1.0.0"]),  # npm itself writes no such root
        ({"": {"bundleDependencies": ["a"]}, "node_modules/a": {"inBundle": True},
          "node_modules/b": {"inBundle": True}, "node_modules/a/node_modules/c": {"inBundle": True}},
         ["a 1.0.0", "b 1.0.0", "c 1.0.0"]),
        ({"node_modules/a": {"os": None, "dependencies": None, "optionalDependencies": None}}, ["a 1.0.0"]),
        ({"": {"optionalDependencies": {"a": "1"}}, "node_modules/b": {"optionalDependencies": {"a": "1"}},
          "node_modules/a": {"optional": True, "os": None, "cpu": ["x64"]}}, ["b 1.0.0"]),
        ({"node_modules/alias": {"name": "real"}}, ["real 1.0.0"]),
        ({"": {"dependencies": {"alias": "npm:@me/real@1"}}, "node_modules/alias": {"name": "@me/real"}},
         ["@me/real 1.0.0"]),
        ({"node_modules/a": {"integrity": f"sha1-x {SHA}"}}, ["a 1.0.0"]),
        ({"": {"dependencies": {"mine": "file:mine"}}, "mine": {}, "node_modules/mine": {"link": True,
                                                                                         "resolved": "mine"}}, []),
        ({"node_modules/a": {"resolved": "https://registry.example/a/-/a-1.0.0.tgz"}}, ["a 1.0.0"]),
        ({"": {"devDependencies": {"a": "github:me/a"}}, "node_modules/a": {"dev": True, "integrity": ""}}, []),
    ],
)
def test_what_production_needs_is_locked_once(tree, found):
    assert read(tree) == found


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"": {"dependencies": {"a": "git+ssh://git@example.org/a.git"}}}, "package.json asks for a of git+ssh://"),
        ({"": {"dependencies": {"a": "me/a"}}}, "package.json asks for a of me/a: only packages of a registry"),
        ({"": {"dependencies": {"a": "https://example.org/a.tgz"}}}, "asks for a of https://example.org/a.tgz"),
        ({"": {"dependencies": {"a": "file:../a"}}}, "asks for a of file:../a"),
        ({"node_modules/b": {"dependencies": {"a": "github:me/a"}}}, "b asks for a of github:me/a"),
        ({"node_modules/a": {"resolved": "git+ssh://git@example.org/a.git#1"}}, "a 1.0.0 comes from git+ssh://git@"),
        ({"node_modules/a": {"link": True, "resolved": "../a"}}, "a is a link to '../a', outside the folder"),
        # as npm writes it
        ({"": {"dependencies": {"a": "file:../a"}}, "../a": {"name": "a"},
          "node_modules/a": {"link": True, "resolved": "../a"}}, "a is a link to '../a', outside the folder"),
        ({"x/../../a": {}, "node_modules/a": {"link": True, "resolved": "x/../../a"}}, "outside the folder"),
        ({"/a": {}, "node_modules/a": {"link": True, "resolved": "/a"}}, "a is a link to '/a', outside the folder"),
        ({"node_modules/a": {"link": True}}, "a is a link to 'nothing', outside the folder"),
        ({"node_modules/a": {"version": "1.0.0\n"}}, "is not a valid name and version"),
        ({"node_modules/a": {"name": "a\n"}}, "is not a valid name and version"),
        ({"node_modules/a": {"name": "--userconfig=x"}}, "is not a valid name and version"),
        ({"node_modules/a": {"name": "-g"}}, "is not a valid name and version"),
        ({"node_modules/a": {"integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}}, "a 1.0.0 has no sha512"),
        ({"node_modules/a": {"version": "../1"}}, "a ../1 is not a valid name and version"),
        ({"node_modules/a": {"name": "../../etc"}}, "../../etc 1.0.0 is not a valid name and version"),
        ({"node_modules/a": {}, "node_modules/b/node_modules/a": {"integrity": OTHER}},
         "a 1.0.0 occurs with several contents"),
    ],
)
def test_what_cannot_be_locked_is_told_by_name(tree, said):
    with pytest.raises(BadInput) as error:
        read(tree)
    (problem,) = error.value.problems
    assert problem.startswith("app/package-lock.json: ")
    assert said in problem


@pytest.mark.parametrize(
    ("field", "value"),
    [("dependencies", ["a"]), ("dependencies", {"a": 1}), ("dependencies", "a"), ("optionalDependencies", ["a"]),
     ("optionalDependencies", {"a": {}}), ("os", 5), ("os", {"linux": True}), ("cpu", [["x64"]]), ("libc", [1]),
     ("resolved", ["x"]), ("integrity", [SHA]), ("version", 1), ("name", {"a": "b"})])
@pytest.mark.parametrize(("where", "named"), [("", "the program"), ("node_modules/a", "node_modules/a")])
def test_a_field_that_npm_never_writes_so_is_told_by_name(where, named, field, value):
    with pytest.raises(BadInput) as error:
        read({where: {field: value}, "node_modules/z": {"os": 7}})
    first, second = error.value.problems
    assert f": {named} has a wrong {field}: " in first and "lockfile-version=3" in first
    assert "node_modules/z has a wrong os: 7" in second


def test_the_packages_that_a_program_names_are_told_with_their_versions():
    manifest = json.dumps({"dependencies": {"a": "^1", "alias": "npm:real@1", "gone": "1"}})
    text = lockfile({"node_modules/a": {}, "node_modules/alias": {"name": "real"}, "node_modules/b": {}})
    assert named(manifest, text, "./app") == {"a": "1.0.0", "real": "1.0.0"}
    assert named("{}", text, "./app") == {}
    for wrong in ("", "[]", "no", '{"dependencies": ["a"]}', "[" * 200_000):
        with pytest.raises(BadInput, match=r"\./app/package.json: not a package.json"):
            named(wrong, text, "./app")
    with pytest.raises(BadInput, match=r"\./app/package-lock.json: not a package-lock.json"):
        named(manifest, "no", "./app")


def test_all_of_it_is_told_at_once():
    with pytest.raises(BadInput) as error:
        read({"": {"dependencies": {"a": "me/a"}}, "node_modules/b": {"integrity": ""}})
    assert len(error.value.problems) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "not a package-lock.json"), ("[]", "not a package-lock.json"), (lockfile({}, 1), "lockfileVersion is 1"),
     (lockfile({}, 4), "lockfileVersion is 4, it must be one of 2, 3"), ("{}", "lockfileVersion is null, it"),
     ('{"lockfileVersion": 3, "packages": []}', "x: its packages are no mapping of places to packages"),
     ('{"lockfileVersion": 3, "packages": {"": null}}', "x: its packages are no mapping of places to packages")])
def test_other_files_are_refused(text, said):
    with pytest.raises(BadInput, match=said):
        packages(text, "x")


@pytest.mark.parametrize(
    ("values", "value", "good"),
    [(["linux"], "linux", True), (["darwin", "linux"], "linux", True), (["darwin"], "linux", False),
     (["!win32"], "linux", True), (["!linux"], "linux", False), (["any"], "arm", True), ([], "arm", True)])
def test_which_machines_a_package_is_for(values, value, good):
    assert allowed(values, value) == good


PLATFORMS = (AMD64, ARMV7, PPC64LE, RISCV64)


@pytest.mark.parametrize(
    ("entry", "said", "where"),
    [
        ({"os": ["darwin"]}, "a 1.0.0 is only for os darwin", PLATFORMS),
        ({"os": ["!win32"], "cpu": "x64"}, "a 1.0.0 is only for os !win32; cpu x64", (ARMV7, PPC64LE, RISCV64)),
        ({"cpu": ["x64", "arm", "ppc64"]}, "cpu x64, arm, ppc64", (RISCV64,)),
        ({"libc": ["musl"]}, "libc musl", PLATFORMS),
        ({"optionalDependencies": {"a-linux-x64": "1"}}, "in optional packages such as a-linux-x64", PLATFORMS),
        ({"optionalDependencies": {"mac": "1"}}, "", ()),
        ({"optionalDependencies": {"plain": "1"}}, "", ()),
        ({"optionalDependencies": {"nowhere": "1"}}, "", ()),
    ],
)
def test_what_needs_native_code_is_told_with_its_platforms(entry, said, where):
    tree = {"node_modules/a": entry, "node_modules/plain": {"optional": True},
            "node_modules/a/node_modules/a-linux-x64": {"optional": True, "os": ["linux"], "cpu": ["x64"]},
            "node_modules/mac": {"optional": True, "os": ["darwin"], "cpu": ["arm64"]}}
    found = [(package, "") for package in packages(lockfile(tree), "x")]
    told = list(natives(found, PLATFORMS, []))
    assert [platforms for _text, platforms in told] == ([where] if where else [])
    assert all(said in text for text, _platforms in told)
    assert list(natives(found, PLATFORMS, ["a"])) == []


def test_what_a_tarball_says_counts_as_well():
    package = Package("a", "1.0.0", SHA)
    assert list(natives([(package, "has native code (x.node)")], PLATFORMS, [])) == [
        ("a 1.0.0 has native code (x.node)", PLATFORMS)]


def test_a_wrapper_keeps_no_address_that_a_registry_says_and_nothing_unneeded():
    text = json.dumps({"lockfileVersion": 3, "packages": {
        "": {}, "node_modules/left": {"version": "1.0.0", "extraneous": True},
        "node_modules/a": {"version": "1.0.0", "funding": {"url": "https://x"}, "deprecated": "see https://y",
                           "license": "MIT"}}})
    assert list(json.loads(tidied(text))["packages"]) == ["", "node_modules/a"]
    assert "https" not in tidied(text)
    assert json.loads(tidied(text))["packages"]["node_modules/a"] == {"version": "1.0.0", "license": "MIT"}


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [("FETCH_ERROR", FarmError, "no registry"), ("E522", Unreachable, "reachable"),
     ("E404", Missing, "npm config get registry"), ("ETARGET", Missing, "farm_origins"),
     ("EINTEGRITY", HashMismatch, "compare"), ("ENOSPC", NoSpace, "room"), ("E401", FarmError, "npm login"),
     ("E503", Unreachable, "reachable"), ("ENOTFOUND", Unreachable, "reachable"),
     ("SELF_SIGNED_CERT_IN_CHAIN", FarmError, "cafile"), ("ERESOLVE", FarmError, "overrides"),
     ("EBADPLATFORM", FarmError, "other machines"),
     ("EWHATEVER", FarmError, "")])
def test_what_npm_says_means_an_error(code, kind, hint):
    for out, err in ((json.dumps({"error": {"code": code, "summary": "s", "detail": "d"}}), ""),
                     ("", f"npm error code {code}\nnpm error s"), ("", f"npm ERR! code {code}\n")):
        error = failure("npm cache add", out, err, 1)
        assert error.__class__ is kind
        assert hint in error.hint
        assert code in error.message


def test_a_message_has_no_password():
    out = json.dumps({"error": {"code": "E500", "summary": "GET https://me:secret@registry.example/a"}})
    assert "secret" not in str(failure("npm", out, ""))


@pytest.mark.parametrize("out", ["", "null", "[]", '{"error": 5}', '{"error": {}}'])
def test_output_that_is_no_json_is_shown_as_it_is(out):
    assert "something else" in str(failure("npm", out, "something else"))
