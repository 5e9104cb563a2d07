# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract: what an image promises at run time, compared with what its Dockerfile says. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import Dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.evaluation import View
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.instructions import Instruction, array, plain_words

# part of a contract -> the instruction that says the same
SAID_BY = {"ports": "EXPOSE", "volumes": "VOLUME", "user": "USER", "health": "HEALTHCHECK"}


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
    `exceptions` are those to checks: check -> subject -> reason; a subject may have wildcards.
    """

    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    ports: Mapping[str, str] = field(default_factory=dict)
    health: Mapping[str, object] = field(default_factory=dict)
    metrics: str = ""
    volumes: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
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


def differences(contract: Contract, file: Dockerfile, view: View) -> Iterator[tuple[str, str]]:
    """Where a contract contradicts the Dockerfile: (part of the contract, how it differs).

    What depends on a variable, or may come from a parent outside the file, is not compared.
    """
    steps = list(_own(file, view))
    said = {part: [step for step in steps if step.keyword == keyword] for part, keyword in SAID_BY.items()}
    if contract.ports:
        exposed = {word if "/" in word else f"{word}/tcp" for step in said["ports"] for word in plain_words(step.rest)}
        yield from _compared("ports", set(contract.ports.values()), {word.lower() for word in exposed}, "EXPOSE")
    if contract.volumes:
        volumes = {word for step in said["volumes"] for word in array(step.rest) or plain_words(step.rest)}
        yield from _compared("volumes", set(contract.volumes), volumes, "VOLUME")
    if contract.user is not None and said["user"]:
        user = said["user"][-1].rest.partition(":")[0]
        if "$" not in user and user != str(contract.user):
            yield "user", f"user is {contract.user}, but the Dockerfile says USER {said['user'][-1].rest}"
    if contract.health and said["health"]:
        check = said["health"][-1].rest
        asked = [str(value) for key, value in contract.health.items()
                 if key not in ("status", "within") and str(value) not in check]
        if check[:4].upper() == "NONE" or ("$" not in check and asked):
            what = ", ".join(asked) or "a check"
            yield "health", f"health promises {what}, but the Dockerfile says HEALTHCHECK {check[:120]}"
    elif contract.health and view.base == "scratch":
        yield "health", "health is promised, but the Dockerfile has no HEALTHCHECK"


def _own(file: Dockerfile, view: View) -> Iterable[Instruction]:
    """The instructions of the last stage, after those of the stages that it descends from: later ones override earlier
    ones."""
    chain = list(view.reach[:1])
    while chain and (above := view.bases[chain[-1]].stage) is not None:
        chain.append(above)
    return [step for number in reversed(chain) for step in file.stages[number].promises]


def _compared(part: str, promised: set[str], said: set[str], keyword: str) -> Iterator[tuple[str, str]]:
    if any("$" in word for word in said):
        return
    if lacking := sorted(promised - said):
        yield part, f"{part} has {', '.join(lacking)}, but no {keyword} of the Dockerfile names it"
    if more := sorted(said - promised):
        yield part, f"{part} has no {', '.join(more)}, but {keyword} of the Dockerfile names it"
