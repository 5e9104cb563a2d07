"""How a context gets its files: from a node's own store, another user's, or the archive; known by their hash alone."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import fetching
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch
from ansible_collections.desimages.farm.plugins.module_utils.staging import LATE, Contents, lay_out, trim

OTHER = 65534  # a user who is not root
CONTENT = b"a package, as the lock names it\n"
SHA = hashlib.sha256(CONTENT).hexdigest()
WRONG = CONTENT.upper()
WRONG_SHA = hashlib.sha256(WRONG).hexdigest()
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of two users")


def place(store: Path, sha: str = SHA) -> Path:
    path = store / "sha256" / sha[:2] / sha
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class Place:
    """A node: its own store, the controller's, and an archive, each with nothing in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.own, self.shared, self.blobs = root, root / "node", root / "store", root / "archive/blobs"
        self.shared.mkdir()
        self.blobs.mkdir(parents=True)
        self.contents = Contents(own=str(self.own), shared=str(self.shared), archive=f"file://{self.blobs.parent}")

    def archived(self, content: bytes) -> None:
        (self.blobs / f"sha256:{SHA}").write_bytes(content)

    def lay(self, mode: int = 0o644, mtime: int = 0) -> Path:
        tree = {"debs/a.deb": [SHA, len(CONTENT), mode, mtime]}
        return Path(lay_out(self.root / "context", tree, self.contents)) / "debs/a.deb"


@pytest.fixture
def node(tmp_path: Path) -> Place:
    return Place(tmp_path)


def link(path: Path) -> None:
    aside = path.with_name("aside")
    aside.write_bytes(CONTENT)
    path.symlink_to(aside)


def folder_that_is_a_link(path: Path) -> None:
    path.write_bytes(CONTENT)
    path.parent.rename(path.parent.with_name("aside"))
    path.parent.symlink_to("aside")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        home = os.getcwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            made.bind(path.name)
        finally:
            os.chdir(home)


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed bytes of the same size": (lambda path: path.write_bytes(WRONG), f"it is sha256:{WRONG_SHA}"),
    "too short": (lambda path: path.write_bytes(CONTENT[:-1]), f"it has {len(CONTENT) - 1} of {len(CONTENT)} bytes"),
    "too long": (lambda path: path.write_bytes(CONTENT + b"\n"), f"it has more than {len(CONTENT)} bytes"),
    "endless": (lambda path: (path.touch(), os.truncate(path, 1 << 42)), f"it has more than {len(CONTENT)} bytes"),
    "link": (link, "it is a symbolic link"),
    "pipe": (os.mkfifo, "it is a FIFO"),
    "socket": (listening, "it is a socket"),
    "folder": (Path.mkdir, "it is a folder"),
    "folder that is a link": (folder_that_is_a_link, "it is not a folder"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", PLANTED)
def test_what_is_not_the_file_that_the_lock_names_is_told_and_had_from_the_archive(node: Place, what: str) -> None:
    plant, why = PLANTED[what]
    plant(place(node.shared))
    node.archived(CONTENT)
    before = sorted(node.shared.rglob("*"))
    assert node.lay().read_bytes() == CONTENT
    assert node.contents.notes == [f"{node.shared}/sha256/{SHA[:2]}/{SHA} is not used: {why}"]
    assert sorted(node.shared.rglob("*")) == before


def test_a_file_of_the_controllers_store_is_copied_not_linked(node: Place) -> None:
    path = place(node.shared)
    path.write_bytes(CONTENT)
    os.utime(path, (0, 0))
    path.chmod(0o644)
    laid = node.lay()
    path.write_bytes(WRONG)
    assert laid.read_bytes() == CONTENT
    assert (laid.stat().st_uid, laid.stat().st_mode & 0o777, laid.stat().st_mtime) == (os.geteuid(), 0o644, 0)


def test_a_file_of_a_nodes_own_store_is_a_link_where_mode_and_time_are_the_same(node: Place) -> None:
    node.archived(CONTENT)
    first = node.lay()
    kept = place(node.own)
    assert first.stat().st_ino == kept.stat().st_ino
    tree = {"copied": [SHA, len(CONTENT), 0o755, 1_700_000_000_000_000_005], "linked": [SHA, len(CONTENT), 0o644, 0]}
    folder = Path(lay_out(node.root / "second", tree, node.contents))
    copied = (folder / "copied").stat()
    assert (copied.st_mode & 0o777, copied.st_mtime_ns) == (0o755, 1_700_000_000_000_000_005)
    assert ((folder / "linked").stat().st_ino, folder.stat().st_mtime) == (kept.stat().st_ino, LATE)
    assert node.own.stat().st_mode & 0o777 == 0o700, "nobody else can enter it"


@pytest.mark.parametrize(("mode", "mtime"), [(0o644, 0), (0o755, 5)])
def test_a_damaged_file_of_a_nodes_own_store_is_had_again(node: Place, mode: int, mtime: int) -> None:
    node.archived(CONTENT)
    node.lay()
    place(node.own).unlink()
    place(node.own).write_bytes(WRONG)
    os.utime(place(node.own), (0, 0))
    (node.root / "context/debs/a.deb").unlink()
    assert node.lay(mode, mtime).read_bytes() == CONTENT
    assert place(node.own).read_bytes() == CONTENT
    assert node.contents.notes == [f"{place(node.own)} was removed: it is sha256:{WRONG_SHA}"]


@needs_root
def test_a_file_system_that_cannot_tell_two_files_of_one_size_apart_is_the_machines_fault(coarse: Path) -> None:
    """BuildKit would take what it got for another commit."""
    node = Place(coarse)
    node.archived(CONTENT)
    node.lay().unlink()  # its time is a whole second
    with pytest.raises(OSError, match="the file system keeps no nanoseconds in the times of files") as error:
        node.lay(mode=0o755, mtime=10**18 + 5)
    assert error.value.filename == f"{coarse}/context/debs/a.deb"


def test_a_file_that_is_wrong_everywhere_is_named_with_what_it_is_and_where(node: Place) -> None:
    place(node.shared).write_bytes(b"?")
    node.archived(WRONG)
    with pytest.raises(HashMismatch) as error:
        node.lay()
    for word in (SHA, WRONG_SHA, str(node.blobs), str(place(node.shared)), "it has 1 of", "debs/a.deb"):
        assert word in str(error.value)
    assert not place(node.own).exists()
    assert not list((node.root / "context").rglob("*.deb"))


@pytest.mark.parametrize("archive", ["", "file:///nowhere", "http://127.0.0.1:9/v2/x"])
def test_what_nobody_has_is_named(node: Place, archive: str) -> None:
    node.contents.archive = archive
    with pytest.raises(FarmError, match=rf"(?s){SHA}.*file: debs/a\.deb"):
        node.lay()


class Dripping(BaseHTTPRequestHandler):
    """Sends a byte now and then, for ever."""

    stop = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        try:
            while not self.stop.wait(0.02):
                self.wfile.write(b"x")
        except OSError:
            pass

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def dripping() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/archive"
    Dripping.stop.set()
    server.shutdown()
    server.server_close()


@pytest.mark.timeout(20)
def test_an_archive_that_sends_a_byte_now_and_then_is_given_up(
        node: Place, dripping: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SILENCE", 0.3)
    node.contents.archive = dripping
    with pytest.raises(FarmError, match="arrives at less than 5 kB a second"):
        node.contents.lay(str(node.root / "x"), (SHA, 100), 0o644, 0)


@needs_root
def test_a_store_of_another_user_is_read_as_he_has_it_and_nothing_is_written_there(node: Place) -> None:
    node.archived(CONTENT)
    os.chown(node.shared, OTHER, -1)
    secret = node.root / "secret"
    secret.write_bytes(b"root's")
    secret.chmod(0o600)
    for name in (f".{SHA}.{os.getpid()}", SHA):  # the names under which a file might come
        place(node.shared).with_name(name).symlink_to(secret)
    assert node.lay().read_bytes() == CONTENT
    found = secret.stat()
    assert (secret.read_bytes(), stat.S_IMODE(found.st_mode), found.st_uid) == (b"root's", 0o600, 0)
    assert sorted(path.name for path in place(node.shared).parent.iterdir()) == [f".{SHA}.{os.getpid()}", SHA]


SWAPPING = """
import os, sys
os.setgid(65534); os.setuid(65534)
path, other = sys.argv[1:]
print("up", flush=True)
while True:
    for target in (other, path + ".right"):
        os.symlink(target, path + ".new") if target == other else os.link(target, path + ".new")
        os.replace(path + ".new", path)
    with open(path, "r+b", buffering=0) as file:  # the right one, and changed while somebody may read it
        file.write(b"A"); file.seek(0); file.write(b"a")
"""


@needs_root
@pytest.mark.timeout(60)
def test_whatever_its_owner_does_meanwhile_what_enters_is_right(public: Path) -> None:
    node = Place(public)
    node.archived(CONTENT)
    path = place(node.shared)
    secret = node.root / "secret"
    secret.write_bytes(CONTENT)  # its content is right, and yet nobody's business
    secret.chmod(0o600)
    for name in ("", ".right"):
        path.with_name(path.name + name).write_bytes(CONTENT)
    for each in (path.parent, *path.parent.iterdir()):
        os.chown(each, OTHER, -1)
    node.contents.own = ""
    laid, refused, until = 0, 0, time.monotonic() + 40
    with subprocess.Popen([sys.executable, "-c", SWAPPING, str(path), str(secret)], stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()
        try:
            while (laid < 50 or refused < 50) and time.monotonic() < until:
                target = node.root / "laid"
                try:
                    node.contents.lay(str(target), (SHA, len(CONTENT)), 0o644, 0)
                except FarmError:
                    assert not target.exists()
                    refused += 1
                else:
                    assert (target.read_bytes(), target.stat().st_uid) == (CONTENT, 0)
                    target.unlink()
                    laid += 1
        finally:
            other.kill()
    assert laid >= 50 and refused >= 50, "nothing was exchanged in time"
    assert secret.stat().st_uid == 0


def test_a_nodes_own_store_keeps_what_was_used_last(tmp_path: Path) -> None:
    """Of nine files of 1 MB, a store that may have 8 MB keeps 6; a link is a use."""
    own, size = tmp_path / "node", 1 << 20
    for number in range(9):
        path = own / f"sha256/{number:02}/{number}"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
        time.sleep(0.01)  # the kernel's clock for files has ticks of some milliseconds
    (tmp_path / "context").mkdir()
    os.link(own / "sha256/00/0", tmp_path / "context/0")
    disk = os.statvfs(own)
    share = (8 * size + size / 2) / (disk.f_blocks * disk.f_frsize)
    assert trim(str(own), 2 * share) == 0
    assert trim(str(own), share) == 3 * size
    assert sorted(path.name for path in own.rglob("*") if path.is_file()) == ["0", "4", "5", "6", "7", "8"]
    assert trim(str(own), share) == 0
    assert trim(str(tmp_path / "none")) == 0
