"""Images of other registries as bases: what is locked, fetched, planned and given to BuildKit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    FarmError,
    HashMismatch,
    Missing,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import (
    AMD64,
    ARM64,
    ARMV6,
    ARMV7,
    S390X,
    Platform,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.build import solve
from ansible_collections.desimages.farm.plugins.plugin_utils.build.inputs import Fetch
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS, image_lines
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import image as kinds_image
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.fetching import fetch_entries
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.image_lines import REFERENCE, Reference
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.moves import moved
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import http, oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .conftest import Catalog
from .faulty import Faulty, Reply, digest, to
from .test_image_base import locked
from .test_registry_waits import Clock

KIND = KINDS["image"]
ATTESTATION = {"platform": {"os": "unknown", "architecture": "unknown"}}


def publish(registry: Faulty, name: str = "team/os", tag: str = "1", *platforms: str, **more: object) -> str:
    """An index of images of one layer each; returns its digest."""
    children = []
    for platform in platforms or ("amd64", "arm64/v8"):
        architecture, _slash, variant = platform.partition("/")
        made = registry.image(name, f"{tag}-{architecture}{variant}", architecture, variant, **more)
        data = registry.manifests[name, made][0]
        children.append({"mediaType": oci.MANIFEST, "digest": made, "size": len(data), "platform": {
            "os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}})
    children.append({**children[0], **ATTESTATION})
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": children}
    return registry.hold(name, tag, json.dumps(index).encode(), oci.INDEX)


class Here:
    """A controller: its state, its origins."""

    def __init__(self, folder: Path, origins: dict[str, object] | None = None) -> None:
        found = Origins(origins, here=Machine(), snapshots=False)
        client = Client(found.here, patience=0, sleep=lambda seconds: None)
        self.desk = Desk(found, folder, Store(folder / "store"), client)

    def lock(self, image: str, *platforms: Platform, old: Lock = Lock()) -> tuple[Entry, ...]:  # noqa: B008
        recipe = Recipe(name="app", folder="/", dockerfile=dockerfile.parse("FROM os\n"), lock=old)
        found = KIND.input("os", {"image": image})
        return KIND.resolver(self.desk).resolve(recipe, found, platforms or (AMD64, ARM64)).entries

    def fetch(self, *entries: Entry) -> list[FarmError]:
        return [error for error in fetch_entries([(entry, "") for entry in entries], self.desk).values() if error]


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path / "state")


def test_each_manifest_config_and_layer_is_a_line(faulty: Faulty, here: Here) -> None:
    index = publish(faulty)
    entries = here.lock(f"{faulty.address}/team/os:1")
    assert [(entry.platform, entry.path) for entry in entries] == [
        (str(platform), f"os/{file}") for platform in (AMD64, ARM64) for file in ("manifest", "config", "layer-001")]
    assert {entry.fact["digest"] for entry in entries} == {index}
    contents = {**faulty.blobs, **{name: data for (_repository, name), (data, _kind) in faulty.manifests.items()}}
    assert all(len(contents[f"sha256:{entry.sha256}"]) == entry.size for entry in entries)
    assert not faulty.count("GET .*/blobs/" + digest(b"layer of 1-amd64")), "layers are not downloaded for a lock"


@pytest.mark.parametrize("by", ["tag", "digest", "both"])
def test_an_image_is_named_by_tag_or_digest(faulty: Faulty, here: Here, by: str) -> None:
    index = publish(faulty)
    name = {"tag": ":1", "digest": f"@{index}", "both": f":gone@{index}"}[by]
    assert {entry.fact["digest"] for entry in here.lock(f"{faulty.address}/team/os{name}")} == {index}


def test_an_image_without_an_index_is_for_one_platform(faulty: Faulty, here: Here) -> None:
    made = faulty.image("team/os", "1", "arm64")
    image = f"{faulty.address}/team/os:1"
    assert [entry.fact["digest"] for entry in here.lock(image, ARM64)] == [made] * 3
    with pytest.raises(FarmError, match="is not made for linux/amd64; it is for linux/arm64"):
        here.lock(image, AMD64)


def test_all_platforms_that_an_image_lacks_are_told_at_once(faulty: Faulty, here: Here) -> None:
    publish(faulty, "team/os", "1", "amd64", "arm/v5", "arm/v7")
    with pytest.raises(FarmError) as error:
        here.lock(f"{faulty.address}/team/os:1", AMD64, ARMV6, S390X)
    assert "not made for linux/arm/v6, linux/s390x; it is for linux/amd64, linux/arm/v7" in str(error.value)


def test_what_did_not_move_is_not_read_again(faulty: Faulty, here: Here, tmp_path: Path) -> None:
    publish(faulty)
    image = f"{faulty.address}/team/os:1"
    entries = here.lock(image)
    faulty.asked.clear()
    there = Here(tmp_path / "other")
    assert there.lock(image, old=Lock(entries)) == entries
    assert [asked.method for asked in faulty.asked] == ["HEAD"]
    assert len(there.lock(image, AMD64, old=Lock(entries))) == 3
    publish(faulty, "team/os", "1", "amd64", "arm64", "s390x")
    new = there.lock(image, old=Lock(entries))
    assert new[0].sha256 == entries[0].sha256 and new[0].fact["digest"] != entries[0].fact["digest"]
    assert moved(Lock(entries), Lock(new))[0].startswith(f"os {entries[0].fact['digest'][:19]} -> sha256:")


def test_what_is_locked_is_fetched_whole_even_after_the_tag_moved(faulty: Faulty, here: Here, tmp_path: Path) -> None:
    publish(faulty)
    entries = here.lock(f"{faulty.address}/team/os:1")
    faulty.hold("team/os", "1", b"{}")
    there = Here(tmp_path / "other")
    assert there.fetch(*entries) == []
    assert all(there.desk.store.has(entry.sha256, entry.size) for entry in entries)


def test_content_of_another_hash_enters_no_store(faulty: Faulty, here: Here, tmp_path: Path) -> None:
    publish(faulty)
    entries = here.lock(f"{faulty.address}/team/os:1", AMD64)
    name = f"sha256:{entries[0].sha256}"
    faulty.manifests["team/os", name] = b"{}", oci.MANIFEST
    faulty.blobs[f"sha256:{entries[2].sha256}"] = b"x" * entries[2].size
    there = Here(tmp_path / "other")
    errors = there.fetch(entries[0], entries[2])
    assert [type(error) for error in errors] == [HashMismatch, HashMismatch]
    assert all("compare with another origin" in error.hint for error in errors)
    assert [path for path in (tmp_path / "other/store/sha256").rglob("*") if path.is_file()] == []
    wrong = replace(entries[1], size=entries[1].size + 1)
    assert isinstance(Here(tmp_path / "third").fetch(wrong)[0], HashMismatch)


def test_what_is_gone_is_missing_and_what_is_silent_unreachable(faulty: Faulty, here: Here, tmp_path: Path) -> None:
    publish(faulty)
    image = f"{faulty.address}/team/os:1"
    entries = here.lock(image, AMD64)
    with pytest.raises(Missing, match="has no such image"):
        here.lock(f"{faulty.address}/team/os:2")
    with pytest.raises(Missing, match="has no sha256:0000"):
        here.lock(f"{faulty.address}/team/os@sha256:{'0' * 64}")
    faulty.manifests.clear()
    faulty.blobs.clear()
    errors = Here(tmp_path / "other").fetch(*entries)
    assert [type(error) for error in errors] == [Missing] * 3
    assert "farm_origins: {image: ...}" in errors[0].hint
    down = Here(tmp_path / "third", {"image": {f"{faulty.address}/": "127.0.0.1:1/"}})
    assert [type(error) for error in down.fetch(*entries)] == [Unreachable] * 3
    with pytest.raises(Unreachable):
        down.lock(image)


def test_the_inventory_may_lead_to_a_mirror(faulty: Faulty, tmp_path: Path) -> None:
    index = publish(faulty, "hub/library/debian")
    there = Here(tmp_path, {"image": {"docker.io/": f"{faulty.address}/hub/"}})
    entries = there.lock("docker.io/debian:1", AMD64)
    assert {entry.fact["digest"] for entry in entries} == {index}
    assert {entry.fact["image"] for entry in entries} == {"docker.io/debian:1"}
    assert there.fetch(*entries) == []
    with pytest.raises(FarmError, match="farm_origins leads to"):
        Here(tmp_path, {"image": {"docker.io/": "file:///srv/"}}).lock("docker.io/debian:1", AMD64)


def test_docker_hub_is_asked_by_the_name_of_its_registry() -> None:
    assert Registry("docker.io").base == "https://registry-1.docker.io"


def config(registry: Faulty, inner: dict[str, object], layers: dict[str, object], **more: object) -> str:
    data = json.dumps({"os": "linux", "architecture": "amd64", "config": inner, **more}).encode()
    registry.blobs[digest(data)] = data
    layer = {"mediaType": "application/octet-stream", "digest": digest(b"l"), "size": 1, **layers}
    return registry.hold("team/os", "1", json.dumps({
        "schemaVersion": 2, "mediaType": oci.MANIFEST, "layers": [layer],
        "config": {"mediaType": "application/json", "digest": digest(data), "size": len(data)}}).encode())


def pointed(registry: Faulty, **children: str) -> None:
    """An index of manifests that the registry has, by architecture."""
    registry.hold("team/os", "1", json.dumps({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [
        {"mediaType": oci.MANIFEST, "digest": name, "size": len(registry.manifests["team/os", name][0]),
         "platform": {"os": "linux", "architecture": architecture}}
        for architecture, name in children.items()]}).encode(), oci.INDEX)


@pytest.mark.parametrize(
    ("inner", "layers", "said"),
    [
        ({"OnBuild": None}, {}, ""),
        ({"OnBuild": ["COPY . /"]}, {}, "its ONBUILD would add steps"),
        ({}, {"urls": ["https://elsewhere.example/layer"]}, "layers that registries do not keep"),
        *(({}, {"mediaType": f"application/vnd.{kind}"}, "") for kind in (
            "docker.image.rootfs.diff.tar.gzip", "docker.image.rootfs.diff.tar", "oci.image.layer.v1.tar",
            "oci.image.layer.v1.tar+gzip", "oci.image.layer.v1.tar+zstd",
            "docker.image.rootfs.foreign.diff.tar.gzip", "oci.image.layer.nondistributable.v1.tar+gzip")),
        *(({}, {"mediaType": f"application/vnd.{kind}"}, "which no build can unpack") for kind in (
            "oci.image.layer.v1.tar+gzip+encrypted", "in-toto+json", "cncf.helm.chart.content.v1.tar+gzip",
            "oci.image.layer.v1.tar+lzma", "oci.empty.v1+json")),
    ],
)
def test_an_image_that_a_plan_could_not_know_is_refused(faulty: Faulty, here: Here, inner: dict[str, object],
                                                        layers: dict[str, object], said: str) -> None:
    config(faulty, inner, layers)
    if not said:
        assert here.lock(f"{faulty.address}/team/os:1", AMD64)
        return
    with pytest.raises(FarmError, match=said):
        here.lock(f"{faulty.address}/team/os:1", AMD64)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"architecture": "arm64", "variant": "v8"}, ""), ({"os": "", "architecture": ""}, ""),
        ({"os": "linux", "architecture": "aarch64"}, ""),
        ({}, "its config says linux/amd64, so it may have another platform's programs"),
        ({"os": "windows", "architecture": "arm64"}, "its config says windows/arm64"),
        ({"architecture": "mips"}, "its config says linux/mips"),
        ({"architecture": "arm64", "rootfs": {"diff_ids": ["a"]}}, ""),
        ({"architecture": "arm64", "rootfs": {"diff_ids": []}}, "it has 1 layers, but its config names 0"),
        ({"architecture": "arm64", "rootfs": {"diff_ids": ["a", "b"]}}, "it has 1 layers, but its config names 2"),
        ({"architecture": "arm64", "rootfs": 5}, ""),
    ],
)
def test_an_index_that_says_something_else_than_its_images_is_refused(
        faulty: Faulty, here: Here, more: dict[str, object], said: str) -> None:
    pointed(faulty, arm64=config(faulty, {}, {}, **more))
    if not said:
        assert here.lock(f"{faulty.address}/team/os:1", ARM64)
        return
    with pytest.raises(FarmError, match=said) as error:
        here.lock(f"{faulty.address}/team/os:1", ARM64)
    assert error.value.where["platform"] == "linux/arm64" and "another image" in error.value.hint


def test_an_arm_image_whose_config_says_no_variant_is_taken(faulty: Faulty, here: Here) -> None:
    publish(faulty, "team/os", "1", "arm/v6")
    made = config(faulty, {}, {}, architecture="arm")
    faulty.hold("team/os", "1", json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": oci.MANIFEST, "digest": made, "size": 5,
         "platform": {"os": "linux", "architecture": "arm", "variant": "v6"}}]}).encode(), oci.INDEX)
    assert here.lock(f"{faulty.address}/team/os:1", ARMV6)


@pytest.mark.parametrize(("architecture", "variant", "platform", "good"), [
    ("arm", "v6", ARMV6, True), ("arm", "v5", ARMV6, True), ("arm", "v7", ARMV6, False), ("arm", "7", ARMV6, False),
    ("arm", "v6", ARMV7, True), ("arm", "v7", ARMV7, True), ("arm", "v8", ARMV7, False), ("arm64", "v8", ARM64, True),
    ("amd64", "v1", AMD64, True), ("amd64", "v3", AMD64, False),
])
def test_a_config_may_not_name_a_newer_variant(
        architecture: str, variant: str, platform: Platform, good: bool) -> None:
    said = image_lines.unusable({}, {"os": "linux", "architecture": architecture, "variant": variant}, platform)
    assert not said if good else f"its config says linux/{architecture}/{variant}" in said


def test_what_is_of_no_use_is_told_for_all_platforms_at_once(faulty: Faulty, here: Here) -> None:
    bad = {name: config(faulty, {"OnBuild": ["RUN x"]}, {}, architecture=name) for name in ("amd64", "arm64")}
    pointed(faulty, **bad, s390x=config(faulty, {}, {}, architecture="s390x"))
    with pytest.raises(FarmError) as error:
        here.lock(f"{faulty.address}/team/os:1", AMD64, ARM64, S390X)
    assert str(error.value).count("its ONBUILD would add") == 2
    assert error.value.where["platform"] == "linux/amd64, linux/arm64"


def test_a_config_of_another_size_than_its_manifest_says_is_refused(faulty: Faulty, here: Here) -> None:
    faulty.image("team/os", "1", "arm64")
    value = json.loads(faulty.manifests["team/os", "1"][0])
    value["config"]["size"] += 1
    faulty.hold("team/os", "2", json.dumps(value).encode())
    with pytest.raises(FarmError, match=r"team/os:2: .* bytes, its manifest says"):
        here.lock(f"{faulty.address}/team/os:2", ARM64)


def test_an_index_in_an_index_is_refused_with_the_name_of_the_inner_one(faulty: Faulty, here: Here) -> None:
    inner = publish(faulty, "team/os", "inner")
    pointed(faulty, amd64=inner)
    with pytest.raises(FarmError, match="has an index inside its index for linux/amd64") as error:
        here.lock(f"{faulty.address}/team/os:1", AMD64)
    assert f"{faulty.address}/team/os@{inner}" in error.value.hint


def test_a_manifest_that_an_index_names_and_the_registry_lacks_is_missing_for_its_platform(
        faulty: Faulty, here: Here) -> None:
    publish(faulty)
    entries = here.lock(f"{faulty.address}/team/os:1")
    gone = next(entry for entry in entries if entry.platform == "linux/arm64" and entry.fact["file"] == "manifest")
    del faulty.manifests["team/os", f"sha256:{gone.sha256}"]
    with pytest.raises(Missing) as error:
        here.lock(f"{faulty.address}/team/os:1")
    assert error.value.where["platform"] == "linux/arm64"


BAD = {"size": None, "digest": "sha512:" + "a" * 128, "mediaType": 5}


@pytest.mark.parametrize("change", [{name: value} for name, value in BAD.items()] + [
    {"size": -1}, {"size": True}, {"size": "1"}, {"digest": None}, {"digest": "sha256:AB"}])
@pytest.mark.parametrize("part", ["config", "layers", "manifests"])
def test_a_descriptor_that_is_none_is_told(faulty: Faulty, here: Here, part: str, change: dict[str, object]) -> None:
    publish(faulty)
    made = next(name for (_repository, name), (data, _kind) in faulty.manifests.items()
                if name.startswith("sha256:") and (b'"layers"' in data) == (part != "manifests"))
    value = json.loads(faulty.manifests["team/os", made][0])
    if part == "config":
        value["config"].update(change)
    else:
        value[part][0].update(change)
    faulty.hold("team/os", "2", json.dumps(value).encode())
    with pytest.raises(FarmError, match="team/os:2: .* names content (with the digest|by sha512)"):
        here.lock(f"{faulty.address}/team/os:2", AMD64)


def test_a_digest_that_cannot_be_checked_matters_only_to_its_platform(faulty: Faulty, here: Here) -> None:
    value = json.loads(faulty.manifests["team/os", publish(faulty)][0])
    value["manifests"][0]["digest"] = BAD["digest"]
    faulty.hold("team/os", "2", json.dumps(value).encode())
    assert {entry.platform for entry in here.lock(f"{faulty.address}/team/os:2", ARM64)} == {"linux/arm64"}
    with pytest.raises(FarmError, match="team/os:2: .* names content by sha512"):
        here.lock(f"{faulty.address}/team/os:2", AMD64, ARM64)


def test_a_manifest_of_the_registry_that_is_none_is_told(faulty: Faulty, here: Here) -> None:
    for data, said in ((b'{"schemaVersion": 1}', "is a manifest of Docker's first kind"),
                       (b'{"schemaVersion": 2}', "is neither a manifest nor an index")):
        faulty.hold("team/os", "1", data)
        with pytest.raises(FarmError, match=f"team/os:1: .* {said}"):
            here.lock(f"{faulty.address}/team/os:1", AMD64)


def test_a_login_that_is_refused_says_which(faulty: Faulty, here: Here, monkeypatch: pytest.MonkeyPatch,
                                            tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    faulty.guard = lambda asked: Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})
    with pytest.raises(FarmError) as error:
        here.lock(f"{faulty.address}/team/os:1", AMD64)
    assert error.value.hint == f"run `docker login {faulty.address}` first"


@pytest.mark.parametrize(
    ("text", "address", "repository", "tag"),
    [
        ("docker.io/debian:trixie", "docker.io", "library/debian", "trixie"),
        ("docker.io/library/debian:trixie", "docker.io", "library/debian", "trixie"),
        ("registry.example.org:5000/app:v1", "registry.example.org:5000", "app", "v1"),
        ("[::1]:5000/a/b:v1", "[::1]:5000", "a/b", "v1"), ("localhost/a/b/c:v1", "localhost", "a/b/c", "v1"),
        (f"quay.example/a/b@sha256:{'a' * 64}", "quay.example", "a/b", ""),
        (f"host:1/a:v1@sha256:{'a' * 64}", "host:1", "a", "v1"),
    ],
)
def test_a_reference_has_a_registry_a_name_and_a_tag_or_digest(text: str, address: str, repository: str,
                                                               tag: str) -> None:
    from re import match

    assert match(REFERENCE, text)
    found = Reference.parse(text)
    assert (found.address, found.repository, found.tag) == (address, repository, tag)


@pytest.mark.parametrize("text", ["debian:trixie", "library/debian:trixie", "docker.io/debian", "docker.io/Debian:x",
                                  "https://docker.io/a:b", "docker.io/a:b@sha256:12", "me:x@host.example/a:b",
                                  "docker.io/../a:b", "docker.io/a..b:c", "docker.io/a b:c", "docker.io/a//b:c",
                                  "docker.io/-a:b", "docker.io/a-:b"])
def test_a_name_that_may_mean_several_images_is_none(text: str, empty: Catalog) -> None:
    empty.image("app", "FROM os\n", f"inputs:\n  os: {{image: '{text}'}}\n")
    assert any("image.yml" in problem and "image" in problem for problem in empty.problems())


# --- the archive


def test_a_base_can_be_pulled_from_the_archive_by_its_digest(faulty: Faulty, other: Faulty, here: Here,
                                                             tmp_path: Path) -> None:
    index = publish(faulty)
    assert index
    entries = here.lock(f"{faulty.address}/team/os:1", AMD64)
    assert here.fetch(*entries) == []
    archive = Archive(to(other), "desimages", here.desk.store)
    archive.keep(solve.File(entry.sha256, entry.size) for entry in entries)
    name = f"sha256:{entries[0].sha256}"
    archive.offer(name, entries)
    assert other.manifests["desimages/archive", name] == faulty.manifests["team/os", name]
    other.asked.clear()
    archive.offer(name, entries)
    assert [asked.method for asked in other.asked] == ["HEAD"]
    other.manifests.clear()
    with pytest.raises(FarmError, match="the lock has no line for sha256:"):
        archive.offer(name, entries[:-1])
    assert other.manifests == {}


def test_the_fetch_step_brings_bases_for_the_units_that_need_them(faulty: Faulty, empty: Catalog,
                                                                  tmp_path: Path) -> None:
    """The same server is the upstream and the farm's registry here."""
    publish(faulty)
    inputs = f"inputs:\n  os: {{image: '{faulty.address}/team/os:1'}}\n"
    entries = Here(tmp_path / "first").lock(f"{faulty.address}/team/os:1")
    plan = locked(empty, entries, "FROM os\nCOPY . /a\n", inputs)
    empty.write("app/a", "a\n")
    plan = empty.plan()
    arguments = {"state": str(tmp_path / "state"), "origins": {}, "registry": faulty.address, "namespace": "farm",
                 "secrets": str(tmp_path), "signing_key": "", "trusted_keys": []}
    fetch = Fetch(plan, {"app": empty.sources("app")}, [AMD64], arguments, lambda line: None)
    assert fetch.all(plan.units) == {}
    made = {name for repository, name in faulty.manifests if repository == "farm/archive"}
    assert made == {f"sha256:{entry.sha256}" for entry in entries if entry.fact["file"] == "manifest"}
    assert {path for path in fetch.trees[Key("app", "", ARM64)] if path.startswith("inputs/")} == {
        "inputs/os/manifest", "inputs/os/config", "inputs/os/layer-001"}


def test_a_registry_that_gives_nothing_is_given_up_once(
    faulty: Faulty, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client has tried again for a minute: neither that minute is repeated, nor is it spent for each file."""
    publish(faulty)
    entries = here.lock(f"{faulty.address}/team/os:1")
    clock = Clock()
    monkeypatch.setattr(http, "time", clock)
    monkeypatch.setattr(kinds_image, "THREADS", 1)
    there = Here(tmp_path / "there")
    there.desk = replace(there.desk, client=Client(Machine(), sleep=clock.sleep, clock=clock.monotonic))
    faulty.answers = {"GET": [Reply(503)] * 999}
    errors = there.fetch(*entries)
    assert len(errors) == len(entries) and all(isinstance(error, Unreachable) for error in errors)
    assert clock.now <= 60
    assert sum("is not asked any more" in str(error) for error in errors) == len(entries) - 1


def test_what_breaks_off_is_fetched_again(faulty: Faulty, here: Here, tmp_path: Path) -> None:
    publish(faulty)
    entries = here.lock(f"{faulty.address}/team/os:1")
    there = Here(tmp_path / "there")
    there.desk = replace(there.desk, client=Client(Machine(), sleep=lambda seconds: None))
    faulty.answers = {"GET .*/blobs/": [Reply(200, {"Content-Length": "99", "Connection": "close"})] * 3}
    assert there.fetch(*entries) == []
