# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""The containers of a trial: what they may do, their network and volumes, and the same as a command for people. I/O."""

from __future__ import annotations

import os
import secrets
import shlex
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from . import trial_lan
from .trial_container import LABEL, PREFIX, is_podman, new_mark, unless_gone

HEALTHY = 30.0  # seconds within which a service must be healthy if its contract does not say
PROBE = 2.0  # seconds that a health check may take
SECOND = 1_000_000_000  # as the engine counts
EMULATED = 10.0  # how many times longer everything may take under emulation
UNCONFINED = ("apparmor", "seccomp")  # what an engine takes away by a profile
PROCESSES = 4096
BAD_REQUEST = 400  # an engine's answer, for example about an image without a command
LOGS = {"type": "json-file", "config": {"max-size": "32m"}}
PODMAN_WRITES = ("/tmp", "/run", "/var/tmp")


def security(excepted: Collection[str]) -> list[str]:
    """An engine's options of that name for a contract's exceptions to `privileges`."""
    kept = [] if "no-new-privileges" in excepted else ["no-new-privileges"]
    return kept + [f"{name}=unconfined" for name in UNCONFINED if name in excepted]


def limits() -> dict[str, Any]:
    """An engine's options with which an image cannot take the machine with it. No image needs more than half of its
    memory. Docker goes on where the kernel cannot limit, as on a Raspberry Pi that was started without the controller
    of memory. Podman would not, and limits processes and logs by itself."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return {"pids_limit": PROCESSES, "mem_limit": memory, "log_config": LOGS}


class NotStarted(Exception):
    """What the engine says of an image that it cannot start, as its program is missing."""


class Runs:
    """Runs of one image. `engine` is a client of the docker SDK, which raises `refused` for what it cannot do;
    `promises` is a contract as its recipe has it, with all keys; `shown` names the image in commands for people. Under
    emulation all takes `slower` times as long."""

    def __init__(self, engine: Any, image: str, promises: Mapping[str, Any], *, refused: type[Exception], shown: str,
                 slower: float) -> None:
        self._engine, self._image, self._promises, self._shown = engine, image, promises, shown
        self._refused, self._slower = refused, slower
        self.podman = False
        self._configured = ""  # the image's USER
        self._test: dict[str, Any] = {}  # of the image's health check
        self._mark = new_mark()
        self._holder = ""  # the image of what holds a network, if one is needed
        self._one_at_a_time = threading.Lock()
        self._excepted: Mapping[str, Mapping[str, str]] = promises["exceptions"]

    def prepare(self) -> None:
        """Looks at the engine and the image."""
        self.podman = is_podman(self._engine)
        said = self._engine.images.get(self._image).attrs["Config"]
        self._configured = said.get("User", "").partition(":")[0]
        if self.podman:  # where only times are given it takes its own, but for the test
            check = said.get("Healthcheck") or {}
            self._test = {"test": check["Test"]} if check.get("Test") else {}

    @contextmanager
    def started(self, *, volumes: Sequence[str] = (), tmpfs: Sequence[str] = (), user: str = "", relaxed: str = "",
                command: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Iterator[Any]:
        """A container of the image, removed afterwards. `volumes` are NAME:FOLDER."""
        root = self._promises["user"] == 0
        memory = dict.fromkeys((*self._promises["tmpfs"], *tmpfs), self._of(user))
        if self.podman and relaxed != "read-only":  # else it makes these writable on a read-only root
            memory = {**dict.fromkeys(set(PODMAN_WRITES).difference(folder for name in volumes
                                                                    for folder in name.split(":")[1:]), "ro"), **memory}
        with self._network() as network:
            container = self._created(
                self._image, list(self._promises["command"] if command is None else command), network_mode=network,
                read_only=relaxed != "read-only", volumes=list(volumes), tmpfs=memory,
                cap_drop=[] if relaxed == "capabilities" else ["ALL"],
                cap_add=sorted(self._excepted.get("capabilities", ())),
                security_opt=self.security(relaxed),
                user="0" if relaxed == "user" else user or ("0" if root else ""),
                environment=dict(self._promises["environment"] if environment is None else environment),
                labels={LABEL: self._mark}, **({} if self.podman else limits()),
                healthcheck={**self._test, "interval": SECOND // 2, "retries": 1,
                             "timeout": int(PROBE * self._slower * SECOND),
                             # a failure in that time says nothing to Podman, even after a success
                             "start_period": 0 if self.podman else int(HEALTHY * self._slower * SECOND)})
            try:
                self.start(container)
                yield container
            finally:
                with unless_gone():
                    container.remove(force=True, v=True)

    def _created(self, *words: Any, **how: Any) -> Any:
        """Raises NotStarted if the engine says that the image itself asks for what cannot be."""
        try:
            return self._engine.containers.create(*words, **how)
        except self._refused as error:
            if getattr(error, "status_code", 0) != BAD_REQUEST:
                raise
            raise NotStarted(str(getattr(error, "explanation", None) or error)) from error

    def start(self, container: Any) -> None:
        """Starts a container, or starts it again. Raises NotStarted."""
        try:
            container.start()
        except self._refused as error:
            raise NotStarted(str(getattr(error, "explanation", None) or error)) from error
        container.reload()

    def _network(self) -> AbstractContextManager[str]:
        """The network mode of a container."""
        if not self._promises["multicast"]:
            return nullcontext("none")
        label = {LABEL: self._mark}
        with self._one_at_a_time:
            self._holder = self._holder or trial_lan.holder_image(self._engine, label)
        return trial_lan.lan(self._engine, self._holder, label)

    def security(self, relaxed: str = "") -> list[str]:
        """The engine's restrictions of privileges, without those that the contract excepts."""
        excepted = self._excepted.get("privileges", ())
        return security((*excepted, "no-new-privileges") if relaxed == "privileges" else excepted)

    def _of(self, user: str) -> str:
        """Options of a file system in memory that the user can write to. `mode` is not enough: runc before 1.1.8 gives
        it the mode that the folder has in the image (opencontainers/runc#3911)."""
        owner = str(user or self._promises["user"] or self._configured)
        return f"mode=1777,uid={owner}" if owner.isdigit() and not self.podman else "mode=1777"

    def volumes(self) -> list[str]:
        """A new volume for each folder that the contract names."""
        return [f"{PREFIX}{self._mark}-{secrets.token_hex(2)}:{folder}" for folder in self._promises["volumes"]]

    def tidy(self) -> None:
        """Removes volumes, and the image that held networks."""
        for volume in self._engine.volumes.list():
            if volume.name.startswith(f"{PREFIX}{self._mark}-"):
                with unless_gone():
                    volume.remove(force=True)
        if self._holder:
            with unless_gone():
                self._engine.images.remove(self._holder, force=True)

    def by_hand(self, user: str = "", command: Sequence[str] = (),
                environment: Mapping[str, str] | None = None, *, detach: bool = False) -> str:
        """The command that shows the same to a person."""
        promises = self._promises
        words = ["docker", "run", "--rm", *(["--detach"] if detach else []), "--read-only", "--cap-drop=ALL",
                 *(f"--security-opt={option}" for option in self.security()),
                 *([] if promises["multicast"] else ["--network=none"]),
                 *(f"--cap-add={name}" for name in sorted(self._excepted.get("capabilities", ()))),
                 *(f"--tmpfs={folder}:{self._of(user)}" for folder in promises["tmpfs"])]
        words += [f"--tmpfs={folder}:{self._of(user)}" if user else f"--volume={folder}"
                  for folder in promises["volumes"]]
        words += [f"--user={user}"] if user else []
        words += [f"--env={name}={value}" for name, value in (environment or promises["environment"]).items()]
        return shlex.join([*words, self._shown, *(command or promises["command"])])

    def asked_by_hand(self, request: Mapping[str, Any]) -> str:
        """The same for a request of a contract: `http` with `method` and `body`, or `command`."""
        if request.get("command"):
            return self.of_container_by_hand("docker exec {} " + shlex.join(request["command"]))
        method, body = request.get("method", "GET"), request.get("body", "")
        words = ["curl", "-sk", "--retry", "9", "--retry-all-errors",  # while it starts
                 *({"GET": [], "HEAD": ["-I"]}.get(method, ["-X", method])), *(["--data-raw", body] if body else []),
                 request["http"]]
        return self.inside_by_hand(shlex.join(words))

    def inside_by_hand(self, command: str) -> str:
        """The same for a command of the machine in the image's own network: it has no other."""
        return self.of_container_by_hand("nsenter -n -t \"$(docker inspect -f '{{.State.Pid}}' {})\" " + command)

    def of_container_by_hand(self, command: str) -> str:
        """The same for a command about a container, which has {} for it."""
        return command.replace(" {}", f' "$({self.by_hand(detach=True)})"', 1)
