"""The store: content is known by its hash, which is taken when it is used."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch, Missing
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import store as store_module
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import INPUT_TIME, Store, hash_of

CONTENT = b"a package\n"
SHA = hashlib.sha256(CONTENT).hexdigest()

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, said: list[str]) -> Store:
    found = Store(tmp_path / "store", tell=said.append)
    found.partial(SHA).write_bytes(CONTENT)
    found.put(found.partial(SHA), SHA)
    return found


def rot(path: Path) -> None:
    """Other bytes of the same size, and the same times."""
    before = path.stat()
    path.write_bytes(CONTENT.upper())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "other bytes": (rot, hashlib.sha256(CONTENT.upper()).hexdigest()),
    "short": (lambda path: path.write_bytes(b""), "0 bytes"),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "it is a FIFO"),
    "link": (lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")), "it is a symbolic link"),
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("what", SPOILT)
def test_what_was_damaged_is_removed_and_told(store: Store, said: list[str], what: str, known: bool) -> None:
    assert not known or store.has(SHA, len(CONTENT))
    spoil, why = SPOILT[what]
    spoil(store.path(SHA))
    assert not store.has(SHA, len(CONTENT))
    assert not os.path.lexists(store.path(SHA))
    assert len(said) == 1 and str(store.path(SHA)) in said[0] and why in said[0] and "fetched again" in said[0]
    assert not store.has(SHA) and len(said) == 1


def test_what_is_opened_is_what_was_hashed(store: Store) -> None:
    with store.open(SHA) as file:
        assert file.read() == CONTENT
    rot(store.path(SHA))
    with pytest.raises(HashMismatch, match="run again"):
        store.open(SHA)
    with pytest.raises(Missing):
        store.open(SHA)


def test_a_size_that_a_lock_has_wrong_is_no_damage(store: Store) -> None:
    assert not store.has(SHA, 1)
    assert store.has(SHA, len(CONTENT))


def test_a_content_is_hashed_once_while_nobody_touches_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    monkeypatch.setattr(f"{Store.__module__}.hash_of", lambda descriptor: hashed.append(1) or hash_of(descriptor))
    assert all(store.has(SHA) for _time in range(3))
    assert len(hashed) == 1
    store.check(SHA)
    os.utime(store.path(SHA))
    assert store.has(SHA) and len(hashed) == 3


def test_a_look_whether_a_name_is_there_changes_nothing(store: Store) -> None:
    rot(store.path(SHA))
    assert store.holds(SHA) and store.path(SHA).exists()
    assert not store.holds("0" * 64)


PLANTED: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "link": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_download_goes_into_no_pipe_and_through_no_link(store: Store, what: str) -> None:
    PLANTED[what](store.root / "partial" / SHA)
    partial = store.partial(SHA)
    assert not os.path.lexists(partial)
    partial.write_bytes(CONTENT)
    assert store.put(partial, SHA).read_bytes() == CONTENT


def test_what_is_wrong_or_no_file_does_not_enter(store: Store) -> None:
    partial = store.partial("0" * 64)
    partial.write_bytes(CONTENT)
    with pytest.raises(FarmError, match="cannot go into the store"):
        store.put(partial, "0" * 64)
    partial.unlink()
    os.mkfifo(partial)
    with pytest.raises(OSError, match="it is a FIFO"):
        store.put(partial, "0" * 64)


def test_a_file_of_the_store_has_one_mode_and_one_time(store: Store) -> None:
    found = store.path(SHA).stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o644, INPUT_TIME)


def test_no_other_user_can_hold_a_download_up_and_no_stopped_run_for_ever(
        store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.root / "locks").mkdir(mode=0o755)
    monkeypatch.setattr(store_module, "PATIENCE", 0.1)
    with store.alone(SHA):
        assert (store.root / "locks").stat().st_mode & 0o777 == 0o700
        with pytest.raises(TimeoutError, match="has held the lock for more than"), Store(store.root).alone(SHA):
            pass
    with store.alone(SHA):
        pass


def test_packages_are_unpacked_from_what_was_hashed(store: Store, tmp_path: Path) -> None:
    from ansible_collections.desimages.farm.plugins.plugin_utils.registry.unpacking import merge

    rot(store.path(SHA))
    with pytest.raises(HashMismatch, match="was damaged"):
        merge((store.open(sha) for sha in [SHA]), io.BytesIO(), 0)
