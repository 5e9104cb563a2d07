"""A lock is for its recipe: what says something else is refused before anything starts, by input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.locks import NO_LOCK, reader
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.below import over
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe

from .conftest import Catalog
from .entries import address, deb, module

DOCKERFILE = """FROM --platform=$BUILDPLATFORM scratch AS made
COPY --from=inputs /app /app
COPY --from=inputs /rootfs /rootfs
COPY --from=inputs /blob /blob
COPY --from=build-inputs /cc /cc
FROM scratch
COPY --from=made / /
"""
INPUTS = """inputs:
  app: {go: example.org/app, version: v1.2.0, package: ./cmd/app}
  rootfs: {debian: [apt, tzdata], essential: true}
  cc: {debian: [gcc], for: build}
  blob: {url: 'https://example.org/blob'}
"""
PLATFORMS = ("linux/amd64", "linux/arm64")


def lines() -> list[Entry]:
    sums = iter("123456789")
    found = [module("example.org/app", "v1.2.0", h1=f"h1:{43 * 'a'}=", sha256=64 * next(sums)),
             address("https://example.org/blob")]
    return found + [deb(name, platform=platform, given=given, sha256=64 * next(sums))
                    for given, name in (("rootfs", "apt"), ("cc", "gcc")) for platform in PLATFORMS]


def lock(catalog: Catalog, snapshot: str = "20261123T112238Z") -> Recipe:
    """Gives the image `a` a lock for what its recipe says now."""
    recipe = load_catalog([str(catalog.root)], need_locks=False)["a"]
    read = reader(Path(recipe.folder))
    made_for = {found.name: KINDS[found.kind].made_for(found, recipe.suites, read) for found in recipe.inputs}
    catalog.write("a/lock.jsonl", lockfile.dump(Lock(tuple(lines()), snapshot, made_for=made_for)))
    return recipe


@pytest.fixture
def locked(empty: Catalog) -> Catalog:
    empty.image("a", DOCKERFILE, INPUTS)
    empty.write("a/go/app/go.mod", "module desimages/a/app\n\nrequire example.org/app v1.2.0\n")
    empty.write("a/go/app/go.sum", "")
    empty.write("a/go/app/tools.go", "package tools\n")
    lock(empty)
    empty.plan()
    return empty


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version: v1.2.0", "version: v9.9.9", "app: the recipe says version v9.9.9, the lock was made for v1.2.0"),
        ("package: ./cmd/app", "package: ./cmd/other",
         "app: the recipe says package ./cmd/other, the lock was made for ./cmd/app"),
        ("go: example.org/app", "go: example.org/fork",
         "app: the recipe says module example.org/fork, the lock was made for example.org/app"),
        ("[apt, tzdata]", "[apt]", "rootfs: the recipe says packages apt, the lock was made for apt, tzdata"),
        ("essential: true", "essential: false", "rootfs: the recipe says essential False, the lock was made for True"),
        ("{debian: [gcc], for: build}", "{debian: [gcc, make], for: build}", "cc: the recipe says packages gcc, make"),
        ("'https://example.org/blob'", "'https://example.org/other'",
         "blob: the recipe says url https://example.org/other"),
        ("license: MIT\n", "license: MIT\nsuites: [bookworm]\n",
         "rootfs: the recipe says suites bookworm, the lock was made for trixie"),
        ("  blob: {url", "  blob: {for: target, url", ""),
        ("[apt, tzdata]", "[tzdata, apt]", ""),
    ],
)
def test_a_recipe_that_says_something_else_is_refused_by_input(locked: Catalog, old: str, new: str, said: str) -> None:
    text = (locked.root / "a/image.yml").read_text()
    assert old in text
    locked.write("a/image.yml", text.replace(old, new))
    if not said:
        locked.plan()
        return
    with pytest.raises(BadInput) as error:
        locked.plan()
    assert [problem for problem in error.value.problems if said in problem
            and "make lock" in problem], error.value.problems


def test_a_lock_of_a_time_to_come_is_refused(locked: Catalog) -> None:
    """A step that runs before has times that stay in its layer, others on each node."""
    lock(locked, "20991231T235959Z")
    with pytest.raises(BadInput) as error:
        locked.plan()
    assert error.value.problems == [
        f"{locked.root.name}/a/lock.jsonl:1: its snapshot, 20991231T235959Z, is yet to come, so files would not get "
        "this time: is the clock of this machine right? If it is, lock again"]


def test_all_inputs_that_differ_are_told_at_once(locked: Catalog) -> None:
    text = (locked.root / "a/image.yml").read_text()
    locked.write("a/image.yml", text.replace("v1.2.0", "v1.3.0").replace("[gcc]", "[clang]"))
    with pytest.raises(BadInput) as error:
        locked.plan()
    assert [problem.split(": ")[1] for problem in error.value.problems] == ["app", "cc"]


def test_an_input_of_another_kind_is_refused(locked: Catalog) -> None:
    text = (locked.root / "a/image.yml").read_text()
    locked.write("a/image.yml", text.replace("{url: 'https://example.org/blob'}", "{debian: [blob]}"))
    with pytest.raises(BadInput, match="nothing for blob on linux/amd64|blob: the recipe says"):
        locked.plan()


def test_a_wrapper_that_was_edited_is_refused(locked: Catalog) -> None:
    locked.write("a/go/app/go.mod", "module desimages/a/app\n\nrequire example.org/app v1.2.1\n")
    with pytest.raises(BadInput,
                       match=r"app: its go.mod or go.sum has changed since the lock was made; .*make lock"):
        locked.plan()


@pytest.mark.parametrize("name", ["rootfs", "cc", "blob"])
def test_files_beside_an_input_that_no_lock_names_are_refused(locked: Catalog, name: str) -> None:
    """A .deb there would be one of the packages that are installed."""
    locked.write(f"a/go/{name}/more_1_all.deb", "")
    with pytest.raises(BadInput, match=rf"images/a/go/{name}:1: its files would enter the build, but no lock"):
        locked.plan()


def test_a_lock_that_does_not_say_what_it_was_made_for_is_refused(locked: Catalog) -> None:
    header, _end, rest = (locked.root / "a/lock.jsonl").read_text().partition("\n")
    locked.write("a/lock.jsonl", json.dumps({**json.loads(header), "made_for": {}}) + "\n" + rest)
    with pytest.raises(BadInput) as error:
        locked.plan()
    assert len([problem for problem in error.value.problems if "does not say what it was made for" in problem]) == 4


OWN = "FROM --platform=$BUILDPLATFORM scratch AS made\nCOPY app /src\nFROM scratch\nCOPY --from=made / /\n"


@pytest.mark.parametrize(
    ("mod", "said"),
    [
        ("module app\n\ngo 1.21\n", ""),
        ("module app\n\n// require nothing\n", ""),
        ("module app\n\nrequire example.org/lib v1.0.0\n", f"images/a/lock.jsonl:1: {NO_LOCK}"),
        ("module app\n\nrequire (\n\texample.org/lib v1.0.0\n)\n",
         f"images/a/lock.jsonl:1: {NO_LOCK}"),
    ],
)
def test_a_program_of_the_images_own_with_dependencies_needs_a_lock(empty: Catalog, mod: str, said: str) -> None:
    empty.image("a", OWN, "inputs:\n  app: {go: ./app}\n")
    empty.write("a/app/go.mod", mod)
    if not said:
        empty.plan()
        return
    with pytest.raises(BadInput) as error:
        empty.plan()
    assert error.value.problems == [said]


@pytest.mark.parametrize(
    ("name", "said"), [("./gone", "./gone is not a folder beside image.yml"), ("./../b", "./../b is not a folder"),
                       ("./empty", "./empty has no go.mod")])
def test_a_program_of_the_images_own_has_its_folder(empty: Catalog, name: str, said: str) -> None:
    empty.image("a", OWN, f"inputs:\n  app: {{go: {name}}}\n")
    empty.write("a/empty/x", "")
    empty.image("b", "FROM scratch\n")
    with pytest.raises(BadInput, match=said):
        empty.plan()


def test_a_go_mod_that_is_no_text_may_require_something(empty: Catalog) -> None:
    empty.image("a", OWN, "inputs:\n  app: {go: ./app}\n")
    (empty.root / "a/app").mkdir()
    (empty.root / "a/app/go.mod").write_bytes(b"module app\n\xff")
    with pytest.raises(BadInput, match="a/lock.jsonl:1: missing; run `make lock`"):
        empty.plan()


def test_what_its_go_mod_requires_is_what_was_locked(empty: Catalog) -> None:
    empty.image("a", OWN, "inputs:\n  app: {go: ./app}\n")
    empty.write("a/app/go.mod", "module app\n\nrequire example.org/lib v1.0.0\n")
    recipe = load_catalog([str(empty.root)], need_locks=False)["a"]
    made_for = {"app": KINDS["own_go"].made_for(recipe.input("app"), recipe.suites, reader(Path(recipe.folder)))}
    locked = Lock((module("example.org/lib", "v1.0.0", h1=f"h1:{43 * 'a'}="),), made_for=made_for)
    empty.write("a/lock.jsonl", lockfile.dump(locked))
    empty.plan()
    empty.write("a/app/go.mod", "module app\n\nrequire example.org/lib v1.1.0\n")
    with pytest.raises(BadInput, match="app: its go.mod or go.sum has changed since"):
        empty.plan()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("https://example.org/blob", "https://example.org/b2",
         r"lock.jsonl:\d+: blob: the recipe says url https://example.org/blob, this line says"),
        ('"version":"v1.2.0","file"', '"version":"v1.1.0","file"',
         r"lock.jsonl:1: app: the lock has no zip of example.org/app v1.2.0"),
        ('"input":"blob","kind":"url","url":"https://example.org/blob"',
         f'"input":"blob","kind":"go","module":"m","version":"v1","file":"zip","h1":"h1:{43 * "a"}="',
         r"lock.jsonl:\d+: blob: a line of kind go, but the recipe says url"),
    ],
)
def test_lines_of_another_lock_under_the_right_header_are_refused(locked: Catalog, old: str, new: str,
                                                                  said: str) -> None:
    """As after a merge that took the header of one side and the lines of the other."""
    header, _end, rest = (locked.root / "a/lock.jsonl").read_text().partition("\n")
    assert old in rest
    locked.write("a/lock.jsonl", header + "\n" + rest.replace(old, new))
    with pytest.raises(BadInput, match=said):
        locked.plan()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"kind":"url","url"', '"kind":"url","platform":"linux/amd64","url"',
         "blob: a line for linux/amd64, but the recipe has no url for it"),
        ('"kind":"go","module"', '"kind":"go","platform":"linux/amd64","module"',
         "app: a line for linux/amd64 only, but modules are for all platforms"),
    ],
)
def test_a_line_is_for_the_platforms_that_its_kind_means(locked: Catalog, old: str, new: str, said: str) -> None:
    """Each platform could have another content of one address otherwise, or one module more than the others."""
    text = (locked.root / "a/lock.jsonl").read_text()
    header, _end, rest = text.partition("\n")
    lines_ = [line for line in rest.splitlines() if old in line]
    more = [line.replace(old, new) for line in lines_]
    both = [*more, *(line.replace("amd64", "arm64") for line in more)]
    kept = [line for line in rest.splitlines() if line not in lines_]
    header = json.dumps({**json.loads(header), "lines": len(kept) + len(both)})
    locked.write("a/lock.jsonl", "\n".join([header, *kept, *both]) + "\n")
    with pytest.raises(BadInput, match=said):
        locked.plan()


def test_addresses_by_platform_are_for_those_platforms(locked: Catalog) -> None:
    text = (locked.root / "a/image.yml").read_text()
    urls = {platform: f"https://example.org/{platform}" for platform in PLATFORMS}
    locked.write("a/image.yml", text.replace("'https://example.org/blob'", json.dumps(urls)))
    header, _end, rest = (locked.root / "a/lock.jsonl").read_text().partition("\n")
    head = json.loads(header)
    head["made_for"]["blob"]["url"] = urls
    locked.write("a/lock.jsonl", json.dumps(head) + "\n" + rest)
    with pytest.raises(BadInput, match="blob: a line for all platforms, but the recipe has no url for it"):
        locked.plan()


def test_a_closure_has_one_version_of_a_package(locked: Catalog) -> None:
    """A package for all architectures may be under another platform than it was locked for."""
    header, _end, rest = (locked.root / "a/lock.jsonl").read_text().partition("\n")
    other = deb("apt", "2", platform="linux/arm64", given="rootfs", sha256="f" * 64)
    line = json.dumps({"input": "rootfs", "kind": "debian", "platform": "linux/arm64", **other.fact,
                       "sha256": other.sha256, "size": 1})
    head = json.loads(header)
    locked.write("a/lock.jsonl", "\n".join([json.dumps({**head, "lines": head["lines"] + 1}), line, rest]))
    with pytest.raises(BadInput, match="rootfs: apt occurs 2 times for linux/arm64"):
        locked.plan()


def test_a_toolchain_is_that_of_its_platform(empty: Catalog) -> None:
    version = "v0.0.1-go1.26.8.linux-{goarch}"
    empty.image("a", "FROM scratch\nCOPY --from=inputs /app /app\n",
                f"inputs:\n  app: {{go: golang.org/toolchain, version: '{version}'}}\n")
    made_for = {"app": {"module": "golang.org/toolchain", "version": version, "package": "."}}

    def lock_(amd64: str, arm64: str) -> None:
        found = [module("golang.org/toolchain", version.replace("{goarch}", name), h1=f"h1:{43 * 'a'}=",
                        platform=platform) for name, platform in zip((amd64, arm64), PLATFORMS)]
        empty.write("a/lock.jsonl", lockfile.dump(Lock(tuple(found), made_for=made_for)))

    lock_("amd64", "arm64")
    empty.plan()
    lock_("arm64", "amd64")
    with pytest.raises(BadInput, match="linux-amd64 for linux/amd64, this line says .*linux-arm64"):
        empty.plan()


def test_a_lock_that_leaves_out_the_packages_of_other_ancestors_is_refused(empty: Catalog) -> None:
    """The image would lack what its old ancestors had."""
    debian = "FROM --platform=$BUILDPLATFORM scratch AS made\nCOPY --from=inputs /{0} /\nFROM {1}\nCOPY --from=made / /"
    for name, base in (("lowest", "scratch"), ("lower", "lowest"), ("own", "lower")):
        empty.image(name, debian.format(name, base), f"inputs:\n  {name}: {{debian: [apt]}}\n")
    empty.image("plain", "FROM lower\nCOPY . /\n")
    empty.write("plain/file", "")
    recipes = load_catalog([str(empty.root)], need_locks=False)
    for name, recipe in recipes.items():
        made_for = {found.name: KINDS[found.kind].made_for(found, recipe.suites, lambda _path: None)
                    for found in recipe.inputs}
        files = tuple(deb("apt", platform=platform, given=name) for platform in PLATFORMS) if recipe.inputs else ()
        locked = Lock(files, "20261123T112238Z", made_for=made_for, above=over(recipes, {
            image: Lock() for image in recipes}, recipe).above)
        assert locked.above == {"own": ("lower", "lowest"), "lower": ("lowest",)}.get(name, ())
        if recipe.inputs:
            empty.write(f"{name}/lock.jsonl", lockfile.dump(locked))
    load_catalog([str(empty.root)])

    empty.image("own", debian.format("own", "lowest"), "inputs:\n  own: {debian: [apt]}\n")
    with pytest.raises(BadInput) as refused:
        load_catalog([str(empty.root)])
    assert [problem.partition("own/")[2] for problem in refused.value.problems] == [
        "lock.jsonl:1: the image has packages from lowest, the lock was made for those of lower, lowest; run"
        " `make lock` again"]
