# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's folder of evidence, and what each step leaves in it for the next: typed JSON, for one version of the farm."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ansible import constants as C
from ansible_collections.desimages.farm.plugins.module_utils import files
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.module_utils.proc import started
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import cattrs
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import dockerfile

FORMAT = 1  # of the files in handover/
LATEST = "latest"
WHO = "run.json"  # says which ansible-playbook a run belongs to
GIVEN = "given.jsonl"  # which node got which job
NAME = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9]+")  # of a run
KEPT = 100  # runs whose evidence stays, the newest; `make status` looks at half of them
Left = TypeVar("Left")


def scratch() -> str:
    """Where check mode keeps a run: Ansible's own temporary folder, which is removed when ansible-playbook ends."""
    return str(C.DEFAULT_LOCAL_TMP)  # type: ignore[attr-defined]


class Run:
    """`<farm_state>/runs/<time>-<process>`: plan.json and summary.json for people, logs/, and in handover/ what steps
    leave for each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        return self.folder.name

    @classmethod
    def begin(cls, state: str, controller: int) -> Run:
        """A new run of the ansible-playbook whose process is `controller`."""
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
        run = cls(Path(state) / "runs" / f"{now}-{controller}")
        for name in ("logs", "handover"):
            (run.folder / name).mkdir(parents=True, exist_ok=True)
        run._write(WHO, json.dumps({"pid": controller, "started": started(controller)}).encode())
        latest = run.folder.with_name(LATEST)
        temporary = latest.with_name(f".latest.{os.getpid()}")
        temporary.unlink(missing_ok=True)  # of a killed process with the same id
        temporary.symlink_to(run.name)
        os.replace(temporary, latest)
        run._make_room()
        return run

    def _make_room(self) -> None:
        """Removes the oldest runs. This one stays, even if the clock says that it is older."""
        others = sorted(path for path in self.folder.parent.iterdir()
                        if NAME.fullmatch(path.name) and path != self.folder and not path.is_symlink())
        for path in others[:max(len(others) - KEPT + 1, 0)]:
            shutil.rmtree(path, ignore_errors=True)  # what cannot be removed costs room, and no run

    @classmethod
    def of(cls, state: str, controller: int) -> Run:
        """The run of this ansible-playbook and no other, even if it has the pid of an older one."""
        me = {"pid": controller, "started": started(controller)}
        for folder in sorted((Path(state) / "runs").glob(f"*-{controller}"), reverse=True):
            try:
                if json.loads((folder / WHO).read_text(encoding="utf-8")) == me:
                    return cls(folder)
            except (OSError, ValueError):
                continue
        raise FarmError(f"this ansible-playbook has not made a plan in {state}",
                        hint="run the steps of build.yml in one ansible-playbook, in order: plan, fetch, build, index")

    @classmethod
    def latest(cls, state: str) -> Run:
        """The run that began last, whichever process made it; only for reading."""
        try:
            return cls(Path(state) / "runs" / os.readlink(Path(state) / "runs" / LATEST))
        except FileNotFoundError:
            raise FarmError(f"there is no run in {state}", hint="a run begins with the plan step") from None

    def save(self, value: object) -> None:
        """Leaves a dataclass for later steps; one of each type in a run."""
        text = json.dumps({"format": FORMAT, "value": converter().unstructure(value)}, separators=(",", ":"))
        self._write(f"handover/{type(value).__name__.lower()}.json", text.encode())

    def load(self, kind: type[Left]) -> Left:
        """What a step left. Raises FarmError if it left nothing, or if another version of the farm left it."""
        name = f"handover/{kind.__name__.lower()}.json"
        try:
            said = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            raise FarmError(f"run {self.name} has no {name}",
                            hint="run the steps of build.yml in order: plan, fetch, build, index") from None
        except ValueError as error:
            raise FarmError(f"{self.folder / name} is damaged: {error}", hint="run again") from error
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            raise FarmError(f"{self.folder / name} is from another version of the farm", hint="run again")
        try:
            return converter().structure(said["value"], kind)
        except Exception as error:  # a converter raises many kinds, and groups of them
            raise FarmError(f"{self.folder / name} is damaged: {error}", hint="run again") from error

    def has(self, kind: type[object]) -> bool:
        return (self.folder / "handover" / f"{kind.__name__.lower()}.json").exists()

    def show(self, name: str, value: object) -> None:
        """Writes a JSON file for people."""
        self._write(f"{name}.json", json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")

    def give(self, job: str, node: str, units: dict[str, str]) -> None:
        """Writes down, before a job is sent, which node it is given to, and its units: name -> build id."""
        line = json.dumps({"job": job, "node": node, "units": units}, separators=(",", ":"))
        with open(self.folder / GIVEN, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def given(self, job: str, node: str) -> dict[str, str]:
        """The units of a job that this or an earlier run gave to this node; {} if none did. A node says the name of the
        job, so it may be anything."""
        name = job.rpartition(".")[0]
        if not NAME.fullmatch(name):
            return {}
        try:
            lines = (self.folder.parent / name / GIVEN).read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:  # the run was killed while it wrote this
                continue
            if (said["job"], said["node"]) == (job, node):
                return {str(unit): str(build_id) for unit, build_id in said["units"].items()}
        return {}

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name.replace(', ', '+').replace(' ', '.').replace('/', '-')}.log"

    def _write(self, name: str, data: bytes) -> None:
        files.write(str(self.folder / name), data)


@cache
def converter() -> cattrs.Converter:
    """Converts our dataclasses to JSON and back: platforms and keys of units are strings, a Dockerfile is its text."""
    made = cattrs.preconf.json.make_converter()
    made.register_structure_hook_func(lambda kind: kind in (object, Any), lambda value, _kind: value)
    made.register_unstructure_hook(Platform, str)
    made.register_structure_hook(Platform, lambda text, _kind: Platform.parse(text))
    made.register_unstructure_hook(Key, lambda key: f"{key.image} {key.target} {key.platform}")
    made.register_structure_hook(Key, lambda text, _kind: _key(*text.split(" ")))
    made.register_unstructure_hook(dockerfile.Dockerfile, lambda file: file.text)
    made.register_structure_hook(dockerfile.Dockerfile, lambda text, _kind: dockerfile.parse(text))
    return made


def _key(image: str, target: str, platform: str) -> Key:
    return Key(image, target, Platform.parse(platform))
