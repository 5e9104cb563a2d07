# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""A supervised service: what it is, its files for runit and systemd, and how two versions of it differ. No I/O."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import BadInput

FORMAT = 2  # of service.json; a change restarts every service once
MARKER = "DESIMAGES_SERVICE"  # in the environment of every process of a service, so that /proc says whose it is
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_STATE = "/var/lib/desimages"
UNITS = "/etc/systemd/system"
WRITTEN = "# Written by desimages.farm.supervised for the farm in "  # the first words of our units
LIMITS = {  # limit -> (option of chpst, directive of systemd)
    "core": ("-c", "LimitCORE"),
    "nofile": ("-o", "LimitNOFILE"),
    "nproc": ("-p", "LimitNPROC"),
}
CONFINED = ("no", "builder", "server")  # how much a service is kept from, service_files.py
SIZE = re.compile(r"[1-9][0-9]*[KMGT]?\Z")  # of MemoryMax=, systemd.resource-control(5)
SOCKET_LENGTH = 107  # bytes of sun_path, unix(7)

_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f]")
_ESCAPED, _BACKSLASH = re.compile(r'["\\`$]'), r"\\\g<0>"  # within double quotes
_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[0-9.]+):(?P<port>[0-9]{1,5})\Z")

Pairs = tuple[tuple[str, str], ...]


class Text(NamedTuple):
    """A file's content, its mode, and the gid of its group (-1: unchanged)."""

    text: str
    mode: int
    group: int = -1


@dataclass(frozen=True)
class Ready:
    """How to check that a service is up: by exactly one of `http`, `unix` and `command`, until it succeeds or `timeout`
    seconds are over. `certificate` is a PEM file with the certificate that `http` must show."""

    http: str = ""
    certificate: str = ""
    unix: str = ""
    command: tuple[str, ...] = ()
    timeout: int = 30


@dataclass(frozen=True)
class Claims:
    """What only this service may use: `address:port` texts, paths of unix sockets, data folders."""

    ports: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    data: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ports or self.sockets or self.data)


@dataclass(frozen=True)
class Share:
    """How much of the machine a service takes from others.

    `memory`  at most this much, as a size of systemd, such as `900M`; '' is no limit
    `weight`  of its processor time and its disk, 1 to 10000, where all else together has 100; 0 is as all else
    `oom`     added to its processes' score, -1000 to 1000: with more, they die sooner when memory runs out
    """

    memory: str = ""
    weight: int = 0
    oom: int = 0

    def __bool__(self) -> bool:
        return self != Share()

    def problems(self) -> Iterable[str]:
        if self.memory and not SIZE.match(self.memory):
            yield f"share.memory: {self.memory!r} is not a size, such as 900M or 3G"
        if not 0 <= self.weight <= 10000:
            yield f"share.weight: {self.weight} is not 0 to 10000"
        if not -1000 <= self.oom <= 1000:
            yield f"share.oom: {self.oom} is not -1000 to 1000"


@dataclass(frozen=True)
class Service:
    """One service of a farm. `state_dir` is the farm's state folder, which has the service's folder and log."""

    name: str
    state_dir: str
    command: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    environment: Pairs = ()
    directory: str = "/"
    user: str = ""
    limits: tuple[tuple[str, int], ...] = ()
    files: Pairs = ()
    secret_files: Pairs = ()
    ready: Ready = Ready()
    claims: Claims = Claims()
    delegate: bool = False
    stop_timeout: int = 30
    share: Share = Share()
    confined: str = "no"
    log_size: int = 10_000_000
    log_files: int = 5

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Service:
        """The parameters of the module `supervised` -> Service. Raises BadInput with every mistake."""
        ready = params.get("ready") or {}
        claims = params.get("claims") or {}
        service = cls(
            name=params["name"],
            state_dir=params["state_dir"].rstrip("/"),
            command=tuple(params.get("command") or ()),
            after=tuple(params.get("after") or ()),
            needs=tuple(params.get("needs") or ()),
            environment=_pairs(params.get("environment")),
            directory=params.get("directory") or "/",
            user=params.get("user") or "",
            limits=tuple(sorted((key, int(value)) for key, value in (params.get("limits") or {}).items()
                                if value is not None)),
            files=_pairs(params.get("files")),
            secret_files=_pairs(params.get("secret_files")),
            ready=Ready(
                http=ready.get("http") or "",
                certificate=ready.get("certificate") or "",
                unix=ready.get("unix") or "",
                command=tuple(ready.get("command") or ()),
                timeout=int(ready.get("timeout") or 30),
            ),
            claims=Claims(
                ports=tuple(claims.get("ports") or ()),
                sockets=tuple(claims.get("sockets") or ()),
                data=tuple(claims.get("data") or ()),
            ),
            delegate=bool(params.get("delegate")),
            stop_timeout=int(params.get("stop_timeout") or 30),
            share=Share(**{key: value for key, value in (params.get("share") or {}).items() if value is not None}),
            confined=params.get("confined") or "no",
        )
        problems = list(service.problems())
        if problems:
            raise BadInput(problems, what=f"the service {service.name}")
        return service

    def problems(self) -> Iterable[str]:
        """Every mistake in this definition, as texts."""
        if not _NAME.match(self.name):
            yield f"name: {self.name!r} must have only lower case letters, digits and dashes, a letter first"
        paths = {
            "state_dir": (self.state_dir,),
            "directory": (self.directory,),
            "command[0]": self.command[:1],
            "after[0]": self.after[:1],
            "needs": self.needs,
            "files": tuple(path for path, _text in self.files),
            "secret_files": tuple(path for path, _content in self.secret_files),
            "claims.sockets": self.claims.sockets,
            "claims.data": self.claims.data,
        }
        for key, values in paths.items():
            for value in values:
                if not value.startswith("/") or "\n" in value:
                    yield f"{key}: {value!r} is not an absolute path"
        for key, value in self.environment:
            if not _VARIABLE.match(key):
                yield f"environment: {key!r} is not a valid name of a variable"
            if _CONTROL.search(value):  # systemd would drop it. It is not shown, as it may be a secret
                yield f"environment: the value of {key} has a control character other than tab and line feed"
        for path in sorted(dict(self.files).keys() & dict(self.secret_files).keys()):
            yield f"{path} is both in files and in secret_files"
        for value in (*self.command, *self.after):
            if "\n" in value or "\0" in value:
                yield f"command and after must not have line breaks or NUL: {value!r}"
        for port in self.claims.ports:
            try:
                parse_port(port)
            except ValueError as error:
                yield f"claims.ports: {error}"
        for socket in self.claims.sockets:
            length = len(socket.encode())
            if length > SOCKET_LENGTH:
                yield (f"claims.sockets: {socket} has {length} bytes; a unix socket's path has at most "
                       f"{SOCKET_LENGTH}: choose a shorter one")
        for limit, _value in self.limits:
            if limit not in LIMITS:
                yield f"limits: {limit!r} is not known; allowed: {', '.join(LIMITS)}"
        if self.confined not in CONFINED:
            yield f"confined: {self.confined!r} is not known; allowed: {', '.join(CONFINED)}"
        yield from self.share.problems()

    @property
    def folder(self) -> str:
        """The folder with the service's files; also the value of MARKER."""
        return f"{self.state_dir}/services/{self.name}"

    @property
    def unfinished(self) -> str:
        """A file that exists while the service is changed: if it stays, the change was killed."""
        return f"{self.folder}/unfinished"

    @property
    def environment_file(self) -> str:
        """The file with the environment. Only root can read it, while everyone can see unit and arguments."""
        return f"{self.folder}/environment"

    @property
    def log_folder(self) -> str:
        """Where svlogd writes `current` and rotated logs."""
        return f"{self.state_dir}/log/{self.name}"

    @property
    def unit(self) -> str:
        """The systemd unit. Its name depends on the state folder, so that two farms can run on one machine."""
        farm = "" if self.state_dir == DEFAULT_STATE else f"-{hashlib.sha256(self.state_dir.encode()).hexdigest()[:8]}"
        return f"desimages{farm}-{self.name}.service"

    @property
    def slice(self) -> str:
        """The systemd slice that has its share. A dash in the name would make it a part of another slice."""
        return f"{self.unit.rpartition('.')[0].replace('-', '_')}.slice"


def _pairs(values: Mapping[str, Any] | None) -> Pairs:
    return tuple(sorted((str(key), str(value)) for key, value in (values or {}).items()))


def parse_port(text: str) -> tuple[str, int]:
    """`127.0.0.1:5000` or `[::1]:5000` -> (address, port)."""
    found = _PORT.match(text)
    if not found or not 0 < int(found["port"]) < 65536:
        raise ValueError(f"{text!r} is not ADDRESS:PORT with a numeric address, such as 127.0.0.1:5000")
    return found["host"].strip("[]"), int(found["port"])


def definition(service: Service, program: Mapping[str, Any], supervisor: str) -> dict[str, Any]:
    """The content of service.json: everything that decides how a service runs. `program` identifies the binary."""
    return {
        "format": FORMAT,
        "supervisor": supervisor,
        "name": service.name,
        "state_dir": service.state_dir,
        "program": dict(program),
        "command": list(service.command),
        "after": list(service.after),
        **({"needs": list(service.needs)} if service.needs else {}),  # services of older farms have no such key
        "environment": {name: _sha256(value) for name, value in service.environment},
        "directory": service.directory,
        "user": service.user,
        "limits": dict(service.limits),
        "files": {path: _sha256(text) for path, text in (*service.files, *service.secret_files)},
        "claims": {"ports": list(service.claims.ports), "sockets": list(service.claims.sockets),
                   "data": list(service.claims.data)},
        "delegate": service.delegate,
        # services that ask for none of these have no such keys
        **({"share": {"memory": service.share.memory, "weight": service.share.weight, "oom": service.share.oom}}
           if service.share else {}),
        **({"confined": service.confined} if service.confined != "no" else {}),
        "stop_timeout": service.stop_timeout,
        "log": {"size": service.log_size, "files": service.log_files},
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def encode(found: Mapping[str, Any]) -> str:
    """The text of a service.json."""
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def digest(text: str) -> str:
    """A short name for a definition, shown to people and kept in provisioned.json."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys in which two definitions differ, as reasons for a restart; [] if they are the same."""
    if not old:
        return ["it does not exist yet"]
    return [f"{key} changed" for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


# --- files ------------------------------------------------------------------------------------------------------------


def own_files(service: Service, group: int) -> dict[str, Text]:
    """Path -> file of a service. As these may have secrets, only its user's `group` can read them; -1 is no group."""
    mode = 0o600 if group == -1 else 0o640
    return {path: Text(text, mode, group) for path, text in (*service.files, *service.secret_files)}


def environment_file(service: Service) -> dict[str, Text]:
    """The environment as assignments that sh(1) and systemd (EnvironmentFile= of systemd.exec(5)) read alike."""
    environment = {"PATH": PATH, "HOME": "/", "LANG": "C.UTF-8", **dict(service.environment), MARKER: service.folder}
    lines = [f'{key}="{_ESCAPED.sub(_BACKSLASH, value)}"\n' for key, value in environment.items()]
    return {service.environment_file: Text("".join(lines), 0o600)}
