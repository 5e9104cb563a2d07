"""What of a Cargo.lock can be locked, and where a registry has a crate."""

from __future__ import annotations

import re

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import cargo_lock
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.cargo_lock import Crate, address, needs_crates, parse

REGISTRY = "registry+https://index.example/crates"
SHA = "a" * 64


def package(name: str = "leaf", version: str = "1.0.0", source: str = REGISTRY, checksum: str = SHA) -> str:
    lines = {"name": name, "version": version, "source": source, "checksum": checksum}
    return "[[package]]\n" + "".join(f'{key} = "{value}"\n' for key, value in lines.items() if value)


OWN = package("own", "0.1.0", "", "")


@pytest.mark.parametrize("number", [3, 4])
def test_the_crates_of_a_registry_are_read(number):
    text = f"# made by cargo\nversion = {number}\n\n{package()}\n{package('mid', '2.0.0-rc.1+b.2')}\n{OWN}"
    assert parse(text, "x", REGISTRY) == (number, (Crate("leaf", "1.0.0", SHA), Crate("mid", "2.0.0-rc.1+b.2", SHA)),
                                          ("own",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (package(), "its format is 1 or 2, and only 3 and 4 can be read"),
        (f"version = 5\n{package()}", "its format is 5, and only 3 and 4 can be read"),
        (f"version = true\n{package()}", "its format is True"),
        ('version = "4"\n' + package(), "its format is '4'"),
        ("version = [", "not TOML"),
        ("version = " + "[" * 200_000, "not TOML: a value is too large or too deep"),
        ("version = " + "9" * 5000, "not TOML: a value is too large or too deep"),
        ("version = 2026-11-30", "its format is 2026-11-30, and only"),
        ('version = 4\npackage = "x"', "it has no list of packages"),
        ('version = 4\npackage = ["x"]', "it has no list of packages"),
        ("version = 4\n" + package(source="git+https://git.example/leaf?rev=1#1"), "leaf 1.0.0: it comes from git"),
        ("version = 4\n" + package(source="path+file:///x"), "leaf 1.0.0: it does not come from a registry"),
        ("version = 4\n" + package(source="sparse+https://other.example/"), "another registry"),
        ("version = 4\n" + package(source="registry+https://other.example/"), "another registry"),
        ("version = 4\n" + package(checksum=""), "leaf 1.0.0: it has no sha256"),
        ("version = 4\n" + package(checksum="A" * 64), "leaf 1.0.0: it has no sha256"),
        ("version = 4\n" + package("../leaf"), "not a valid name"),
        ("version = 4\n" + package("le af"), "not a valid name"),
        ("version = 4\n" + package("a" * 65), "not a valid name"),
        ("version = 4\n" + package(version="1.0"), "not a valid version"),
        ("version = 4\n" + package(version="1.0.0/../.."), "not a valid version"),
        ("version = 4\n" + package(version="1.0.0-a..b"), "not a valid version"),
        ("version = 4\n" + package(version="1.0.0\\n"), "not a valid version"),
        ("version = 4\n" + package("../own", source="", checksum=""), "not a valid name"),
    ],
)
def test_what_no_lock_can_name_is_refused_by_name(text, said):
    with pytest.raises(BadInput, match=re.escape(said)) as caught:
        parse(text, "tool/Cargo.lock", REGISTRY)
    assert all(problem.startswith("tool/Cargo.lock: ") for problem in caught.value.problems)


def test_all_that_is_wrong_is_said_at_once():
    text = "version = 4\n" + package(source="git+https://a.example/#1") + package("mid", checksum="") + OWN
    with pytest.raises(BadInput) as caught:
        parse(text, "x", REGISTRY)
    assert len(caught.value.problems) == 2


def test_the_checksum_of_a_crate_is_found_in_any_format():
    text = "version = 9\n" + package("leaf", source="", checksum="") + package("mid") + package()
    assert cargo_lock.checksum(text, "leaf", "1.0.0") == SHA
    assert cargo_lock.checksum(text, "leaf", "2.0.0") == ""
    assert cargo_lock.checksum("version = 4\n", "leaf", "1.0.0") == ""


@pytest.mark.parametrize(
    ("manifest", "text"),
    [("[", ""), ("", "["), ("x = " + "[" * 200_000, ""), ("target = 1", ""), ("target = {a = 1}", ""),
     ("dependencies = 1", ""), ('dependencies = {a = {package = ["x"]}}', ""), ("", "package = 1"),
     ("", "package = [1]"), ('dependencies = {a = "1"}', '[[package]]\nname = "a"\nsource = "x"\n')])
def test_a_program_whose_files_are_not_cargos_is_told_by_its_folder(manifest, text):
    begin = r"\./tool: its Cargo.toml or its Cargo.lock is not one of cargo's(: Invalid [a-z ]+ \(at .*\))?; `cargo"
    with pytest.raises(BadInput, match=begin):  # and no words of Python's
        cargo_lock.named(manifest, text, "./tool")


def test_the_crates_that_a_program_names_are_told_with_their_versions():
    manifest = ('[dependencies]\nleaf = "1"\n'
                '[target."cfg(unix)".build-dependencies]\nx = {package = "mid", version = "2"}\n')
    text = f"version = 4\n{package()}{package('mid', '2.0.0')}{package('other')}{OWN}"
    assert cargo_lock.named(manifest, text, "./tool") == {"leaf": "1.0.0", "mid": "2.0.0"}


def test_the_members_of_a_workspace_name_crates_too():
    member = '[[package]]\nname = "member"\nversion = "0.1.0"\ndependencies = ["mid", "leaf 2.0.0", "tool"]\n'
    tool = '[[package]]\nname = "tool"\nversion = "0.1.0"\ndependencies = ["for-tests"]\n'
    text = (f"version = 4\n{package()}{package('leaf', '2.0.0')}{package('mid')}{package('other')}"
            f"{package('for-tests')}{member}{tool}")
    manifest = '[workspace]\nmembers = ["member"]\n[package]\nname = "tool"\n'
    assert cargo_lock.named(manifest, text, "./tool") == {"leaf": "2.0.0", "mid": "1.0.0"}


@pytest.mark.parametrize(("text", "needs"), [
    (f"version = 4\n{OWN}", False), (f"version = 4\n{package()}", True), ("", False),
    ("\n" * 500_000, False), ('version = 4\n[[package]]\nname = "x"\n  source="git+https://a.example"\n', True)])
def test_a_program_that_needs_no_crates_has_no_lines(text, needs):
    assert needs_crates(text) is needs


@pytest.mark.parametrize(
    ("template", "name", "where"),
    [
        ("https://dl.example/crates", "Leaf", "https://dl.example/crates/Leaf/1.0.0+b/download"),
        ("https://dl.example/{crate}-{version}.crate", "leaf", "https://dl.example/leaf-1.0.0+b.crate"),
        ("https://dl.example/{prefix}/{crate}", "Leaf", "https://dl.example/Le/af/Leaf"),
        ("https://dl.example/{lowerprefix}/{crate}", "Leaf", "https://dl.example/le/af/Leaf"),
        ("https://dl.example/{prefix}", "Abc", "https://dl.example/3/A"),
        ("https://dl.example/{prefix}", "ab", "https://dl.example/2"),
        ("https://dl.example/{prefix}", "a", "https://dl.example/1"),
        ("https://dl.example/{sha256-checksum}", "leaf", f"https://dl.example/{SHA}"),
    ],
)
def test_a_registry_says_where_its_crates_are(template, name, where):
    assert address(template, name, "1.0.0+b", SHA) == where


@pytest.mark.parametrize("version", ["1.2.3", "0.0.0", "1.0.0-alpha", "1.0.0-alpha.1+001", "2.4.22-01--x", "1.0.0+a-b"])
def test_versions_are_semantic(version):
    assert re.fullmatch(cargo_lock.VERSION, version)
