"""Damaged data files go, and nothing else does: the module is root, and the folder is another user's."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.modules import registry_data

from .modules import result

GOOD, BAD = b"what it should be", b"what it should bE"
DIGEST = "sha256:" + hashlib.sha256(GOOD).hexdigest()


def place(root: Path, digest: str = DIGEST) -> Path:
    return root / "docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data"


def put(root: Path, content: bytes, digest: str = DIGEST) -> Path:
    path = place(root, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_damaged_file_goes_and_a_sound_one_stays(tmp_path: Path) -> None:
    path = put(tmp_path, GOOD)
    assert result(registry_data.main, root=str(tmp_path), digests=[DIGEST])["changed"] is False
    assert path.exists()
    path.write_bytes(BAD)
    check = result(registry_data.main, check=True, root=str(tmp_path), digests=[DIGEST])
    assert (check["changed"], check["removed"], check["diff"]["before"]) == (True, [DIGEST], f"{path}\n")
    assert path.exists()
    done = result(registry_data.main, root=str(tmp_path), digests=[DIGEST])
    assert (done["changed"], done["removed"]) == (True, [DIGEST])
    assert not path.exists()
    again = result(registry_data.main, root=str(tmp_path), digests=[DIGEST])
    assert (again["changed"], again["missing"]) == (False, [DIGEST])


def test_a_tag_leads_to_its_manifest(tmp_path: Path) -> None:
    link = tmp_path / "docker/registry/v2/repositories/ns/box/_manifests/tags/latest/current/link"
    link.parent.mkdir(parents=True)
    link.write_text(DIGEST)
    path = put(tmp_path, BAD)
    done = result(registry_data.main, root=str(tmp_path), tags=["ns/box:latest", "ns/box:none"])
    assert (done["removed"], done["tags"]) == ([DIGEST], {"ns/box:latest": DIGEST, "ns/box:none": ""})
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "../../../etc/passwd", "sha256:"])
def test_a_tag_that_leads_nowhere_goes(tmp_path: Path, text: str) -> None:
    """A registry that was killed while it wrote the link answers 500 to whoever asks for the tag."""
    link = tmp_path / "docker/registry/v2/repositories/ns/box/_manifests/tags/latest/current/link"
    link.parent.mkdir(parents=True)
    link.write_text(text)
    for check in (True, False):
        done = result(registry_data.main, check=check, root=str(tmp_path), tags=["ns/box:latest"])
        assert (done["changed"], done["tags"]) == (True, {"ns/box:latest": ""})
        assert done["diff"]["before"] == "the link of ns/box:latest\n"
        assert link.exists() is check
    assert not result(registry_data.main, root=str(tmp_path), tags=["ns/box:latest"])["changed"]


@pytest.mark.parametrize("way", ["_layers/sha256", "_manifests/revisions/sha256"])
def test_a_link_to_a_digest_that_is_none_goes_and_a_sound_one_stays(tmp_path: Path, way: str) -> None:
    root = tmp_path / "docker/registry/v2/repositories"
    links = [root / name / way / DIGEST[7:] / "link" for name in ("ns/box", "ns/other")]
    for link, text in zip(links, ("", DIGEST)):
        link.parent.mkdir(parents=True)
        link.write_text(text)
    places = {DIGEST: ["ns/box", "ns/other", "ns/none"]}
    for check in (True, False):
        done = result(registry_data.main, check=check, root=str(tmp_path), places=places)
        assert (done["changed"], done["diff"]["before"]) == (True, f"the link of ns/box@{DIGEST}\n")
        assert [link.exists() for link in links] == [check, True]
    assert not result(registry_data.main, root=str(tmp_path), places=places)["changed"]
    links[0].write_text("")
    tag = root / "ns/box/_manifests/tags/latest/current/link"
    tag.parent.mkdir(parents=True)
    tag.write_text(DIGEST)
    done = result(registry_data.main, root=str(tmp_path), tags=["ns/box:latest"])
    assert (done["tags"], links[0].exists()) == ({"ns/box:latest": DIGEST}, False)
    assert "must be" in result(registry_data.main, root=str(tmp_path), places={DIGEST: ["../x"]})["msg"]


def test_no_link_is_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim/data"
    victim.parent.mkdir()
    victim.write_bytes(BAD)
    root = tmp_path / "root"
    path = place(root)
    path.parent.parent.mkdir(parents=True)
    path.parent.symlink_to(victim.parent)
    assert result(registry_data.main, root=str(root), digests=[DIGEST])["missing"] == [DIGEST]
    path.parent.unlink()
    path.parent.mkdir()
    path.symlink_to(victim)
    refused = result(registry_data.main, root=str(root), digests=[DIGEST])
    assert "in the registry's storage is not a file" in refused["msg"]
    path.unlink()
    os.mkfifo(path)
    refused = result(registry_data.main, root=str(root), digests=[DIGEST])
    assert "in the registry's storage is not a file" in refused["msg"]
    assert victim.read_bytes() == BAD


@pytest.mark.parametrize("digest", ["", "sha256:..", "sha256:" + "0" * 63 + "/", "../../etc", "sha512:" + "0" * 128])
def test_a_digest_that_is_none_is_refused(tmp_path: Path, digest: str) -> None:
    assert "mistake" in result(registry_data.main, root=str(tmp_path), digests=[digest])["msg"]


@pytest.mark.parametrize("tag", ["", "latest", "../x:latest", "ns/box:../../x", "ns/box@" + DIGEST])
def test_a_tag_that_is_none_is_refused(tmp_path: Path, tag: str) -> None:
    assert "mistake" in result(registry_data.main, root=str(tmp_path), tags=[tag])["msg"]


def test_a_storage_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = result(registry_data.main, root=str(tmp_path / "nowhere"), digests=[DIGEST])
    assert "is not a folder" in done["msg"]
