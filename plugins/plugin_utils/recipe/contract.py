# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract: what an image promises at run time, compared with what its Dockerfile says, and with itself. No I/O."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import Stage
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.evaluation import View
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.expansion import expand
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.instructions import Instruction, array, plain_words
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import nearest

Path = tuple[str | int, ...]  # in a contract
CAPABILITIES = (  # exceptions to the check of that name, see capabilities(7)
    "ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
    "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT",
    "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG",
    "SYSLOG", "WAKE_ALARM",
)
PRIVILEGES = ("no-new-privileges", "seccomp", "apparmor")  # exceptions to the check `privileges`
# part of a contract -> the instruction that says the same
SAID_BY = {"ports": "EXPOSE", "volumes": "VOLUME", "user": "USER", "health": "HEALTHCHECK"}
MOST_PORT = 65535
_GOES_ON = r"[\w./?&=%#:~+-]"  # what makes a URL or a number another one
_PLACES = re.compile(r"[\^$]|\\[AbBZ]|\(\?<?[=!]")  # what asks an expression for a place in a text
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)  # Python reads no number of thousands of digits


@dataclass(frozen=True)
class Request:
    """What a client asks, and what it must be told: an `http` URL inside the image's network, or `command`, which runs
    in the image. `says` is a regular expression that the answer has; `again` asks a second time after a restart, which
    shows that data were kept."""

    http: str = ""
    command: tuple[str, ...] = ()
    method: str = "GET"
    body: str = ""
    status: int = 200
    says: str = ""
    again: bool = False


@dataclass(frozen=True)
class Refusal:
    """A wrong configuration: the image ends with another code than 0, and says what `says` matches."""

    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    says: str = "."


@dataclass(frozen=True)
class Contract:
    """What a recipe promises; what it does not mention is empty, and `user` is None.

    `command` and `environment` are those of an example run, `ports` maps a name to a port such as `5000/tcp`, `health`
    says how to check health (such as `http`, a URL, the `status` to expect, and the seconds `within` which it is
    healthy), `metrics` is a URL, `volumes` are folders, `tmpfs` are folders in memory that it needs besides.
    With `multicast` its network has a route to multicast groups. `exceptions` are those to checks: check -> subject ->
    reason; a subject may have wildcards.
    """

    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    ports: Mapping[str, str] = field(default_factory=dict)
    health: Mapping[str, object] = field(default_factory=dict)
    metrics: str = ""
    volumes: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    multicast: bool = False
    answers: tuple[Request, ...] = ()
    refuses: tuple[Refusal, ...] = ()
    exceptions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Contract:
        """Reads the contract of a recipe that its schema has checked."""
        plain: dict[str, Any] = {name: value for name, value in given.items() if name not in ("answers", "refuses")}
        for name in ("command", "volumes", "tmpfs"):
            plain[name] = tuple(given.get(name, ()))
        return cls(**plain,
                   answers=tuple(Request(**{**one, "command": tuple(one.get("command", ()))})
                                 for one in given.get("answers", ())),
                   refuses=tuple(Refusal(**{**one, "command": tuple(one.get("command", ()))})
                                 for one in given.get("refuses", ())))

    @property
    def service(self) -> bool:
        """Whether it runs until it is stopped; anything else with a command ends by itself."""
        return bool(self.ports or self.health)


def differences(contract: Contract, view: View, above: Sequence[Stage], *, whole: bool) -> Iterator[tuple[str, str]]:
    """Where a contract contradicts the Dockerfile: (part of the contract, how it differs).

    `above` are the stages of the catalog's images that it descends from, the furthest first; `whole` says whether it
    descends from nothing else. What depends on a variable, or may come from an image from elsewhere, is not compared.
    """
    stages, escape = own(view), view.file.escape
    said = {part: [step for stage in stages for step in stage.promises if step.keyword == keyword]
            for part, keyword in SAID_BY.items()}
    over = {part: [step for stage in above for step in stage.promises if step.keyword == keyword]
            for part, keyword in SAID_BY.items()}
    for part, promised, read in (("ports", set(contract.ports.values()), _ports),
                                 ("volumes", set(contract.volumes), _volumes)):
        if promised:
            inherited = read(over[part], escape) if whole else None
            yield from _compared(part, promised, read(said[part], escape), inherited)
    if contract.user is not None and said["user"]:
        name = (_plain(said["user"][-1].rest, escape) or "").partition(":")[0]
        user = "0" if name == "root" else name
        number = int(user) if _NUMBER.fullmatch(user) else None
        if user.isdecimal() and number != contract.user:  # who has another name is in a file of the image
            yield "user", f"user is {contract.user}, but the Dockerfile says USER {said['user'][-1].rest}"
    elif contract.user and whole and not over["user"]:
        yield "user", f"user is {contract.user}, but the Dockerfile has no USER, so it runs as root"
    if contract.health and said["health"]:
        check = said["health"][-1].rest
        asked = unasked(contract.health, f"{check} {' '.join(array(check[3:].strip()) or ())}")  # after CMD
        if check[:4].upper() == "NONE" or asked:
            what = ", ".join(asked) or "a check"
            yield "health", f"health promises {what}, but the Dockerfile says HEALTHCHECK {check[:120]}"
    elif contract.health and whole and not over["health"]:
        yield "health", "health is promised, but the Dockerfile has no HEALTHCHECK"
    command = _command([*above, *stages])
    if contract.service and contract.command and command and not _same(contract.command, command.rest):
        mine = any(command is step for stage in stages for step in stage.promises)
        where = (f"the Dockerfile says CMD {command.rest[:120]} (line {command.line})" if mine else
                 f"an image that it is based on says CMD {command.rest[:120]}")
        yield "command", f"command is {list(contract.command)}, but {where}"


def unasked(health: Mapping[str, object], words: str) -> list[str]:
    """What a contract says of health, and the words of a check do not have. A variable may be anything."""
    return [] if "$" in words else [str(value) for key, value in health.items() if key != "within"
                                    and (key, value) != ("status", 200) and not _asks(words, key, str(value))]


def _asks(words: str, key: str, value: str) -> bool:
    """Whether a check's words have a value: a part of its command, or the whole of anything else. To ask /healthz or
    port 8080 is not to ask /health or port 80."""
    return value in words if key == "command" else bool(re.search(rf"(?<!\w){re.escape(value)}(?!{_GOES_ON})", words))


def own(view: View) -> list[Stage]:
    """The stages that the last one descends from, and then itself: later instructions override earlier ones."""
    chain = list(view.reach[:1])
    while chain and (above := view.bases[chain[-1]].stage) is not None:
        chain.append(above)
    return [view.file.stages[number] for number in reversed(chain)]


def _plain(word: str, escape: str) -> str | None:
    """A word without its quotes; None if a variable decides, or nothing can be read."""
    try:
        return None if "$" in word else expand(word, lambda _name: None, escape)
    except ValueError:
        return None


def _ports(steps: Iterable[Instruction], escape: str) -> set[str] | None:
    """The ports of EXPOSE, as BuildKit writes them into an image; None if a variable decides."""
    found: set[str] = set()
    for written in (word for step in steps for word in plain_words(step.rest)):
        word = _plain(written, escape)
        if word is None:
            return None
        ports, _slash, kind = word.rpartition(":")[2].partition("/")  # a port of the host means nothing
        first, _dash, last = ports.partition("-")
        numbers = [int(number) for number in (first, last or first) if _NUMBER.fullmatch(number)]
        if len(numbers) < 2 or numbers[1] > MOST_PORT:
            found.add(word.lower())
        else:
            found.update(f"{number}/{kind.lower() or 'tcp'}" for number in range(numbers[0], numbers[1] + 1))
    return found


def _volumes(steps: Iterable[Instruction], escape: str) -> set[str] | None:
    """The folders of VOLUME; None if a variable decides."""
    listed = [(step, array(step.rest)) for step in steps]
    found = {_plain(word, escape) for step, words in listed
             for word in (plain_words(step.rest) if words is None else words)}
    return None if None in found else {word for word in found if word is not None}


def _command(stages: Sequence[Stage]) -> Instruction | None:
    """The CMD that counts. An ENTRYPOINT takes away the CMD of the stages above it, as BuildKit does."""
    found = None
    for stage in stages:
        own = None
        for step in stage.promises:
            if step.keyword == "CMD":
                own = found = step
            elif step.keyword == "ENTRYPOINT" and own is None:
                found = None
    return found


def _same(command: Sequence[str], said: str) -> bool:
    """Whether a CMD gives these arguments. If it is not a JSON array, a shell runs it, and a parent may say which."""
    words = array(said)
    return command[-1] == said if words is None else words == list(command)


def mistakes(contract: Contract) -> Iterator[tuple[Path, str]]:
    """What a contract says that cannot be, or means nothing: (path in the contract, what is wrong)."""
    yield from _in_expressions(contract)
    yield from _in_requests(contract)
    yield from _in_exceptions(contract.exceptions)
    named: dict[str, str] = {}
    for name, port in contract.ports.items():
        if named.setdefault(port, name) != name:
            yield ("ports", name), f"ports.{name} is {port}, which {named[port]} is already: leave one of them out"
    for number, refusal in enumerate(contract.refuses):
        same = not refusal.command or refusal.command == contract.command
        if same and dict(contract.environment) == {**contract.environment, **refusal.environment}:
            yield ("refuses", number), (f"refuses.{number} is the example run itself: give it a wrong command or "
                                        "environment")
    for folder in contract.tmpfs:
        if folder in contract.volumes:
            yield ("tmpfs",), f"tmpfs has {folder}, which is in volumes too: its data are kept, or they are not"
    if "status" in contract.health and not {"http", "rtsp"} & set(contract.health):
        yield ("health", "status"), "health.status needs http or rtsp, and health has neither"


def _in_expressions(contract: Contract) -> Iterator[tuple[Path, str]]:
    patterns = [("answers", number, answer.says) for number, answer in enumerate(contract.answers)]
    patterns += [("refuses", number, refusal.says) for number, refusal in enumerate(contract.refuses)]
    for part, number, pattern in patterns:
        if said := _no_expression(pattern):
            yield (part, number, "says"), (f"{part}.{number}.says is {pattern!r}, which is not a regular expression: "
                                           f"{said}")
        elif (pattern or part == "refuses") and _always(pattern):  # answers have '' if they say nothing
            yield (part, number, "says"), (f"{part}.{number}.says is {pattern!r}, which every text matches, so it "
                                           "could never fail: name a word that must be there, or leave it out")


def _in_requests(contract: Contract) -> Iterator[tuple[Path, str]]:
    declared = {int(port.partition("/")[0]) for port in contract.ports.values() if port.endswith("/tcp")}
    asked: list[tuple[Path, str]] = [(("health",), str(contract.health.get("http", "")))]
    asked += [(("metrics",), contract.metrics)]
    asked += [(("answers", number), one.http) for number, one in enumerate(contract.answers)]
    for path, url in asked:
        if url:
            yield from ((path, f"{'.'.join(map(str, path))} asks {url}: {said}")
                        for said in _unreachable(url, declared if path == ("metrics",) else None))
    if not contract.service:
        for part in ("answers", "metrics"):
            if getattr(contract, part):
                yield (part,), f"{part} belong to a service, but this image has neither ports nor health"
    for number, answer in enumerate(contract.answers):
        for key, said in _meaningless(answer, kept=bool(contract.volumes)):
            yield ("answers", number, key), f"answers.{number}.{key} {said}"


def _in_exceptions(exceptions: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[Path, str]]:
    for name in sorted(set(exceptions.get("privileges", ())) - set(PRIVILEGES)):
        yield ("exceptions", "privileges", name), (f"exceptions.privileges.{name} must be one of "
                                                   f"{', '.join(PRIVILEGES)}")
    for name in exceptions.get("capabilities", ()):
        known = name.upper().removeprefix("CAP_")
        if known not in CAPABILITIES:
            yield ("exceptions", "capabilities", name), (f"exceptions.capabilities.{name} is no capability"
                                                         f"{nearest(known, list(CAPABILITIES))}; see capabilities(7)")


def _meaningless(answer: Request, *, kept: bool) -> Iterator[tuple[str, str]]:
    """Keys that mean nothing in an answer, and why. `kept`: whether there is a volume."""
    if answer.again and not kept:
        yield "again", ("asks whether data were kept, but the image has no volumes that could keep them: leave it out, "
                        "or name the volumes")
    for key, usual in (("method", "GET"), ("body", ""), ("status", 200)):
        if answer.command and getattr(answer, key) != usual:
            yield key, f"is for a request by http, and this answer has the command {shlex.join(answer.command)}"


def _unreachable(url: str, declared: set[int] | None) -> Iterator[str]:
    """Why nothing can answer at a URL in the image's own network. With `declared` its port must be one of these."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
    except ValueError:  # in words of Python
        yield "it is not a URL: write a host, and a port from 1 to 65535, as in http://127.0.0.1:8080/"
        return
    if not references.loopback(host):
        yield f"an image is checked on its own loopback: write 127.0.0.1 instead of {host or 'the host'}"
    if declared is not None and port not in declared:
        names = ", ".join(f"{one}/tcp" for one in sorted(declared)) or "none"
        yield f"no port in ports is {port}/tcp, so nobody could read them from outside; TCP ports: {names}"


def _no_expression(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return ""


def _always(pattern: str) -> bool:
    """Whether every text matches a regular expression: one that matches nothing at all, wherever that is."""
    inner = pattern[1:] if pattern.startswith("^") else re.sub(r"(?<!\\)\$\Z", "", pattern)
    return not (_no_expression(inner) or _PLACES.search(inner)) and re.match(inner, "") is not None


def _compared(part: str, promised: set[str], said: set[str] | None, inherited: set[str] | None
              ) -> Iterator[tuple[str, str]]:
    """What is `said` or `inherited` is None if it is not known."""
    if said is None:
        return
    if inherited is not None and (lacking := sorted(promised - said - inherited)):
        yield part, f"{part} has {', '.join(lacking)}, but no {SAID_BY[part]} of the Dockerfile names it"
    if more := sorted(said - promised):
        yield part, f"{part} has no {', '.join(more)}, but {SAID_BY[part]} of the Dockerfile names it"
