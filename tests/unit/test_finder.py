"""Whether a locked .deb is available anywhere: real HTTP on loopback."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.finder import Finder
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

from . import entries
from .debian_archive import Archive
from .mirror import Mirror, serve


def deb(name: str, text: str = "") -> Entry:
    sha = hashlib.sha256((text or name).encode()).hexdigest()
    return entries.deb(name, sha256=sha, size=len(text or name), path=f"pool/{name}.deb")


class Shelf:
    """A registry that has some blobs."""

    def __init__(self, *digests: str) -> None:
        self.digests = digests

    def has_blob(self, repository: str, digest: str) -> bool:
        assert repository == "desimages/archive"
        return digest in self.digests


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Mirror]:
    """A mirror without a suite, for those who only ask for files."""
    root = tmp_path / "files"
    (root / "pool").mkdir(parents=True)
    made = Mirror(Archive(root, None))  # type: ignore[arg-type]
    listener = serve(made)
    yield made
    listener.shutdown()
    listener.server_close()


def finder(tmp_path: Path, *bases: str, archive: Any = None) -> Finder:
    here = Machine()
    return Finder(Origins({"debian": list(bases)}, here=here), Store(tmp_path / "store"), archive, "desimages",
                  Client(here, sleep=lambda seconds: None))


def labels(entries: list[Entry]) -> list[str]:
    return [entry.fact["name"] for entry in entries]


def test_a_file_is_nowhere_only_if_no_place_has_it(tmp_path, plain):
    (plain.archive.root / "pool/there.deb").write_text("there")
    stored = deb("stored")
    store = Store(tmp_path / "store")
    store.partial("x").write_text("stored")
    store.put(store.partial("x"), stored.sha256)
    kept = deb("kept")
    found = finder(tmp_path, plain.url, archive=Shelf(f"sha256:{kept.sha256}"))
    assert labels(found.nowhere([(entry, "") for entry in (stored, kept, deb("there"), deb("gone"))])) == ["gone"]
    assert sorted({request.split()[1] for request in plain.requests}) == ["/pool/gone.deb", "/pool/there.deb"]


def test_many_files_are_asked_for_over_eight_connections(tmp_path, plain):
    (plain.archive.root / "pool/there.deb").write_text("there")
    entries = [(deb("there", str(number)), "") for number in range(300)]
    assert finder(tmp_path, plain.url).nowhere(entries) == []
    assert len(plain.requests) == 300
    assert plain.connections <= 8


def test_what_is_gone_is_asked_for_once(tmp_path, plain):
    found = finder(tmp_path, plain.url)
    assert len(found.nowhere([(deb(f"gone{number}"), "") for number in range(40)])) == 40
    plain.requests.clear()
    assert len(found.nowhere([(deb(f"gone{number}"), "") for number in range(40)])) == 40
    assert plain.requests == []


def test_a_proxy_that_knows_no_head_is_asked_again_by_get(tmp_path, plain):
    plain.no_head = True
    (plain.archive.root / "pool/there.deb").write_text("there")
    assert finder(tmp_path, plain.url).nowhere([(deb("there"), "")]) == []


def test_an_origin_that_is_away_is_not_asked_for_every_file(tmp_path, plain):
    plain.deaf = True
    assert finder(tmp_path, plain.url).nowhere([(deb(f"x{number}"), "") for number in range(200)]) == []
    assert len(plain.requests) <= 16


def test_a_file_that_one_origin_lacks_while_the_other_is_away_is_lacking_but_not_nowhere(tmp_path, plain):
    (plain.archive.root / "pool/there.deb").write_text("there")
    wanted = [(deb("there"), ""), (deb("gone"), "")]
    found = finder(tmp_path, plain.url, "http://127.0.0.1:9")
    assert labels(found.lacking(wanted)) == ["gone"]
    assert labels(found.nowhere(wanted)) == []


def test_nothing_is_lacking_if_no_origin_answers(tmp_path):
    assert finder(tmp_path, "http://127.0.0.1:9").lacking([(deb("x"), "")]) == []


def test_no_address_is_no_answer(tmp_path):
    """A base with {snapshot}, and a lock without one."""
    assert finder(tmp_path, "http://127.0.0.1:9/{snapshot}").nowhere([(deb("x"), "")]) == []


def test_a_folder_on_disk_is_an_origin(tmp_path, plain):
    (plain.archive.root / "pool/there.deb").write_text("there")
    assert labels(finder(tmp_path,
                         f"file://{plain.archive.root}").nowhere([(deb("there"), ""), (deb("gone"), "")])) == ["gone"]


def test_what_cannot_be_looked_at_is_not_gone(tmp_path):
    with pytest.raises(Unreachable):
        Client(Machine()).gone("file:///" + "x" * 300)
