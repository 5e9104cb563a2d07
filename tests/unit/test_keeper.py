"""What of that which nodes pushed is kept, and what a registry says that counts for nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import GIVEN, Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.keeper import Keeper
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive

from .conftest import Catalog
from .faulty import Faulty, Reply, to
from .trusting import trust

KEY = Key("base", "", ARM64)
REPOSITORY, CONTENT = "desimages/base", "c" * 64
TAKE = {"name": "base arm64", "node": "pi"}


@pytest.fixture
def keeper(chain: Catalog, faulty: Faulty, tmp_path: Path) -> Keeper:
    archive = Archive(to(faulty), "desimages", Store(tmp_path / "store"))
    return Keeper(to(faulty), "desimages", archive, trust(faulty, tmp_path), chain.plan(), {KEY: {}})


def push(held: Faulty, architecture: str = "arm64", **more: object) -> tuple[str, str]:
    """What a node pushes, as if for arm64: the digests of index and manifest."""
    digest = held.image(REPOSITORY, "x", architecture, **more)
    held.hold(REPOSITORY, digest, held.manifests.pop((REPOSITORY, "x"))[0])
    child = {"mediaType": oci.MANIFEST, "digest": digest, "size": 1, "platform": ARM64.as_oci}
    index = json.dumps({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [child]}).encode()
    held.hold(REPOSITORY, oci.digest(index), index, oci.INDEX)
    return oci.digest(index), digest


def tags(keeper: Keeper) -> list[str]:
    return [f"c-{CONTENT}", f"b-{keeper.plan.units[KEY].id}"]


def test_what_a_node_built_is_signed_and_tagged(keeper: Keeper, faulty: Faulty) -> None:
    index, digest = push(faulty)
    keeper.trust.sign("desimages/other", "b-" + "0" * 64, digest)  # the first one in a run looks for the empty blob
    faulty.asked.clear()
    kept = keeper.take([KEY], index, {KEY: CONTENT}, **TAKE)
    assert (kept.manifests[KEY][0], kept.notes) == (digest, [])
    assert len(faulty.asked) == 10, "a request takes the registry longer than anything else here"
    for tag in tags(keeper):
        assert keeper.trust.find(REPOSITORY, tag)[0] == digest  # type: ignore[index]


def test_a_forged_tag_does_not_win(keeper: Keeper, faulty: Faulty) -> None:
    index, digest = push(faulty)
    forged = [faulty.image(REPOSITORY, tag, "arm64", annotations={"by": "somebody"}) for tag in tags(keeper)]
    assert keeper.look(KEY, CONTENT) is None
    kept = keeper.take([KEY], index, {KEY: CONTENT}, **TAKE)
    assert kept.manifests[KEY][0] == digest and kept.differs == {}
    assert [note.partition(", which")[0] for note in kept.notes] == [
        f"base linux/arm64: {tag} was {was}" for tag, was in zip(tags(keeper), forged, strict=True)]
    assert all(keeper.trust.find(REPOSITORY, tag)[0] == digest for tag in tags(keeper))  # type: ignore[index]


def test_the_first_signed_result_is_kept(keeper: Keeper, faulty: Faulty) -> None:
    first, digest = push(faulty)
    keeper.take([KEY], first, {KEY: ""}, **TAKE)
    second, other = push(faulty, annotations={"x": "y"})
    kept = keeper.take([KEY], second, {KEY: ""}, **TAKE)
    assert kept.differs == {KEY: (digest, other)} and kept.manifests[KEY][0] == digest


def test_the_first_of_two_results_that_come_together_is_kept_and_signed(
        keeper: Keeper, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    first, digest = push(faulty)
    second, _other = push(faulty, annotations={"x": "y"})
    kept, sign = [], keeper.trust.sign
    late = threading.Thread(target=lambda: kept.append(keeper.take([KEY], second, {KEY: ""}, **TAKE)))

    def signing(*place: str, **about: str) -> None:
        sign(*place, **about)
        if late.ident is None:
            late.start()
            late.join(0.5)  # what it may do meanwhile, it does

    monkeypatch.setattr(keeper.trust, "sign", signing)
    kept.append(keeper.take([KEY], first, {KEY: ""}, **TAKE))
    late.join()
    found = keeper.trust.find(REPOSITORY, tags(keeper)[1])
    assert found and {one.manifests[KEY][0] for one in kept} == {found[0]} == {digest}


def test_how_large_a_kept_unit_is_is_read_and_not_believed(keeper: Keeper, faulty: Faulty) -> None:
    index, digest = push(faulty)
    keeper.take([KEY], index, {KEY: ""}, **TAKE)
    said = {"Docker-Content-Digest": digest, "Content-Type": oci.SINGLES[1], "Content-Length": "7"}
    faulty.answers["HEAD .*/manifests/b-"] = [Reply(200, dict(said)), Reply(200, dict(said))]
    kept = keeper.take([KEY], index, {KEY: ""}, **TAKE)
    assert kept.manifests[KEY] == (digest, len(faulty.manifests[REPOSITORY, digest][0]), oci.MANIFEST)


def test_early_cutoff_takes_what_is_signed(keeper: Keeper, faulty: Faulty) -> None:
    digest = faulty.image(REPOSITORY, f"c-{CONTENT}", "arm64")
    keeper.trust.sign(REPOSITORY, f"c-{CONTENT}", digest)
    kept = keeper.look(KEY, CONTENT)
    assert kept and kept.manifests[KEY][0] == digest
    assert keeper.trust.find(REPOSITORY, tags(keeper)[1])


@pytest.mark.parametrize("architecture", ["amd64", ""])
def test_an_image_for_another_platform_is_not_kept(keeper: Keeper, faulty: Faulty, architecture: str) -> None:
    index, _digest = push(faulty, architecture)
    with pytest.raises(FarmError, match="it is not kept"):
        keeper.take([KEY], index, {KEY: CONTENT}, **TAKE)
    assert not any((REPOSITORY, tag) in faulty.manifests for tag in tags(keeper))


@pytest.mark.parametrize("digest", ["latest", "", "None", "../x"])
def test_a_digest_that_is_none_is_not_kept(keeper: Keeper, faulty: Faulty, digest: str) -> None:
    faulty.image(REPOSITORY, "latest")
    with pytest.raises(FarmError, match="does not have it"):
        keeper.take([KEY], digest, {KEY: CONTENT}, **TAKE)


def test_a_node_has_finished_only_what_it_was_given(tmp_path: Path) -> None:
    old = Run.begin(str(tmp_path), 1)
    units = {str(Key("base", "", AMD64)): "1" * 64}
    old.give(f"{old.name}.1", "pi", units)
    with (old.folder / GIVEN).open("a") as file:
        file.write('{"job": "' + old.name)  # it was killed
    new = Run(old.folder.with_name("20990101T000000-1"))
    assert new.given(f"{old.name}.1", "pi") == units
    assert new.given(f"{old.name}.1", "other") == {}
    for job in (f"{old.name}.2", "20200101T000000-1.1", f"../runs/{old.name}.1", "", ".", "x\0.1"):
        assert new.given(job, "pi") == {}
