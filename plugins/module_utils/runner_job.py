"""A job on a node: lay the contexts out, run buildctl, keep its progress. Runs in a process of its own (runner.py starts it)."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from .progress import Progress

STATE = "state.json"
CANCELLED = "cancelled"  # a file that says so; a signal may come before there is a process to send it to
FORGOTTEN = 15 * 60  # seconds without a poll after which a job is cancelled (D2)
INTERVAL = 0.3  # seconds between two writings of the state


class Cancelled(Exception):
    """Somebody asked, or nobody has for too long."""


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the state in one step."""
    temporary = folder / (STATE + ".new")
    temporary.write_text(json.dumps(state))
    os.replace(temporary, folder / STATE)


def run(folder: Path, spec: dict[str, Any]) -> None:
    """Runs a job to its end; whatever happens is in the state file."""
    job = _Job(folder, spec)
    signal.signal(signal.SIGTERM, job.on_signal)
    try:
        if (folder / CANCELLED).exists():
            raise Cancelled("before it began")
        job.write("running", phase="contexts")
        for name, tree in spec["solve"]["contexts"].items():
            lay_out(folder / "contexts" / name, tree, spec)
        ended = job.build()
    except Cancelled as error:
        ended = {"state": "cancelled", "error": str(error)}
    except OSError as error:
        ended = {"state": "failed", "error": f"{error.strerror}: {error.filename}", "full": error.errno == errno.ENOSPC}
    except Exception as error:  # the state must say how a job ended, whatever it was
        ended = {"state": "failed", "error": f"{type(error).__name__}: {error}"}
    shutil.rmtree(folder / "contexts", ignore_errors=True)  # first: copies in it may be what filled the disk
    job.write(**ended, ended=time.time())


def lay_out(folder: Path, tree: dict[str, list[Any]], spec: dict[str, Any], link: bool = True) -> str:
    """Makes one context folder out of the store, with the modes and mtimes of the solve; what the store lacks comes from the archive.

    Files with the store's own mode and time are hard links to it, so nothing is copied that need not be; without `link` all are copies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path, (digest, size, mode, mtime) in sorted(tree.items()):
        source = stored(spec, digest, size)
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        status = source.stat()
        if link and (status.st_mode & 0o777, status.st_mtime_ns) == (mode, mtime):
            try:
                os.link(source, target)
                continue
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                    raise
        shutil.copyfile(source, target)
        target.chmod(mode)
        os.utime(target, ns=(mtime, mtime))
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        inner.chmod(0o755)
        os.utime(inner, (0, 0))
    return str(folder)


def stored(spec: dict[str, Any], digest: str, size: int) -> Path:
    """The file of a digest in the node's store, fetched from the archive where it is not there yet."""
    path = Path(spec["store"]) / "sha256" / digest[:2] / digest
    if path.exists() and path.stat().st_size == size:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = Path(spec["store"]).stat()  # root brings files into the store of the user who runs the playbook: they are his
    temporary = path.parent / f".{digest}.{os.getpid()}"
    made = hashlib.sha256()
    import urllib.error  # here: where the store has everything it is never needed, and slow to load
    import urllib.request

    url = f"{spec['archive']}/blobs/sha256:{digest}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, temporary.open("wb") as out:
            for piece in iter(lambda: answer.read(1 << 20), b""):
                made.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        if made.hexdigest() != digest:
            raise ValueError(f"{url} came as sha256:{made.hexdigest()}")
        temporary.chmod(0o644)
        os.utime(temporary, (0, 0))
        if os.geteuid() == 0:
            for made_here in (temporary, path.parent, path.parent.parent):
                os.chown(made_here, owner.st_uid, owner.st_gid)
        os.replace(temporary, path)
    except urllib.error.URLError as error:
        raise ValueError(f"{url}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def engine_identity(path: str) -> str:
    """Which buildkitd answers on a socket: its process and when that started, or nothing where none does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
            pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return f"{pid}:{Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[19]}"
        except OSError:
            return ""


class _Job:
    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder, self.spec = folder, spec
        self.started = time.time()
        self.progress = Progress()
        self.process: subprocess.Popen[str] | None = None
        self.why = ""

    def on_signal(self, number: int, frame: object) -> None:
        self._stop("cancelled")

    def _stop(self, why: str) -> None:
        self.why = self.why or why
        if self.process and self.process.poll() is None:
            self.process.terminate()
        elif not self.process:
            raise Cancelled(why)

    def write(self, state: str, **more: Any) -> None:
        write_state(self.folder, {"state": state, "started": self.started, **self.progress.as_dict(), **more})

    def build(self) -> dict[str, Any]:
        """Runs buildctl; returns how it ended."""
        policy, metadata = self.folder / "policy.json", self.folder / "metadata.json"
        policy.write_text(json.dumps(self.spec["solve"]["policy"]))
        engine = engine_identity(self.spec["socket"])
        command = [self.spec["buildctl"], f"--addr=unix://{self.spec['socket']}", *self.spec["words"]]
        (self.folder / "command.json").write_text(json.dumps(command))
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                        errors="replace", env={**os.environ, "HOME": str(self.folder)})
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        assert self.process.stderr
        try:
            with (self.folder / "log").open("w") as log:
                for line in self.process.stderr:
                    for said in self.progress.feed(line):
                        print(said, file=log, flush=True)
        except OSError:
            self.process.terminate()
            raise
        finally:
            code = self.process.wait()
            watcher.join()
        if self.why:
            raise Cancelled(self.why)
        if code == 0:
            return {"state": "done", "digest": json.loads(metadata.read_text())["containerimage.digest"]}
        if engine != engine_identity(self.spec["socket"]) or not engine:
            return {"state": "lost", "error": "buildkitd went away while it built"}
        return {"state": "failed", "full": self.progress.full or _full(self.spec["root"])}

    def _watch(self) -> None:
        """Writes the state while buildctl runs, and ends it where nobody asks any more."""
        assert self.process
        while True:
            try:
                self.process.wait(INTERVAL)
                return
            except subprocess.TimeoutExpired:
                self.write("running", phase="build")
            if (self.folder / CANCELLED).exists():
                self._stop("cancelled")
            if time.time() - (self.folder / "beat").stat().st_mtime > FORGOTTEN:
                self._stop(f"nobody asked for this job for {FORGOTTEN // 60} minutes")


def _full(folder: str) -> bool:
    """True where less than 64 MiB are left: what failed there failed for lack of room."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize < 64 << 20
