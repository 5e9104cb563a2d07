"""A run: its folder of evidence, what one step leaves for the next, and who holds the farm."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.proc import started
from ansible_collections.desimages.farm.plugins.module_utils.state import MARK

LATEST = "latest"


def scratch() -> str:
    """Where check mode keeps a run: Ansible's own temporary folder, which goes when ansible-playbook ends."""
    return str(C.DEFAULT_LOCAL_TMP)  # type: ignore[attr-defined]


class Run:
    """`<farm_state>/runs/<id>`: plan.json and summary.json for people, logs/, and the steps' own hand-over (pickled, never from elsewhere)."""

    def __init__(self, state: str, name: str = LATEST) -> None:
        """The run of a name; `latest` is the one that began last."""
        root = Path(state) / "runs"
        try:
            self.name = os.readlink(root / LATEST) if name == LATEST else name
        except FileNotFoundError:
            raise FarmError(f"there is no run in {root}", hint="a run begins with the plan step") from None
        self.folder = root / self.name

    @classmethod
    def begin(cls, state: str) -> Run:
        """A new run, named by the time."""
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
        run = cls(state, f"{now}-{os.getpid()}")
        (run.folder / "logs").mkdir(parents=True)
        latest = run.folder.with_name(LATEST)
        temporary = latest.with_name(f".latest.{os.getpid()}")
        temporary.symlink_to(run.name)
        os.replace(temporary, latest)
        return run

    def save(self, step: str, value: object) -> None:
        """Keeps what a step leaves for those after it."""
        self._write(f"{step}.pickle", pickle.dumps(value))

    def load(self, step: str) -> Any:
        """What a step left. Raises FarmError where it left nothing."""
        try:
            return pickle.loads((self.folder / f"{step}.pickle").read_bytes())
        except FileNotFoundError:
            raise FarmError(f"run {self.name} has no {step}", hint="the steps of build.yml run in order: plan, fetch, build, index") from None

    def has(self, step: str) -> bool:
        return (self.folder / f"{step}.pickle").exists()

    def show(self, name: str, value: object) -> None:
        """Writes a JSON file for people."""
        self._write(f"{name}.json", json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name.replace(', ', '+').replace(' ', '.').replace('/', '-')}.log"

    def _write(self, name: str, data: bytes) -> None:
        temporary = self.folder / f".{name}.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.folder / name)


def hold(state: str, *, wait: bool, tell: Callable[[str], None], pid: int, create: bool = True) -> None:
    """Takes the farm for the process `pid` (ansible-playbook's own: its workers come and go). Ends with that process.

    Without `create` a state folder that is not there is left so, and of a farm whose holder this user may not write it is only awaited that
    nobody has it. Raises Busy, naming the holder, where another one has it and `wait` is false.
    """
    path = Path(state) / "holder.json"
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    marked = (path.parent / MARK).exists()  # nothing is written into a folder that may be somebody else's
    take = create or (marked and os.access(path if path.exists() else path.parent, os.W_OK))
    told = False
    while take or path.exists():
        with open(path, "a+" if take else "r") as file:
            fcntl.flock(file, fcntl.LOCK_EX if take else fcntl.LOCK_SH)
            file.seek(0)
            holder = _holder(file.read())
            if not holder or holder["pid"] == pid or started(holder["pid"]) != holder["started"]:
                if take:
                    os.fchmod(file.fileno(), 0o644)  # whoever comes next is to see who has it
                    file.seek(0)
                    file.truncate()
                    since = datetime.now().isoformat(" ", "seconds")
                    json.dump({"pid": pid, "started": started(pid), "since": since, "user": os.environ.get("USER", "")}, file)
                return
        words = f"the farm in {state} is held by process {holder['pid']}{' of ' + holder['user'] if holder['user'] else ''} since {holder['since']}"
        if not wait:
            raise Busy(words, hint="wait for it to end, or say farm_busy=wait")
        if not told:
            tell(f"{words}; waiting for it to end")
            told = True
        time.sleep(1)  # another program's end gives no event to await


def _holder(text: str) -> dict[str, Any]:
    """What holder.json says; nothing where it is empty, or was cut off with the machine's power: then its process is gone as well."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"pid", "started", "user", "since"} <= found.keys() else {}


def release(state: str, pid: int) -> None:
    """Gives the farm back, where `pid` has it."""
    path = Path(state) / "holder.json"
    if path.exists():
        with open(path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if _holder(file.read()).get("pid") == pid:
                file.truncate(0)
