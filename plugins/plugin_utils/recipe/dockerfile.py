# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Dockerfile names: its stages, and the contexts that each of them takes from outside.

Only names are read; everything else is BuildKit's business. This file reads what is written; evaluation.py works out
what each FROM becomes on a platform. tests/integration compares both with BuildKit. As in BuildKit 0.34
(frontend/dockerfile/dockerfile2llb/convert.go), a name in --from is never expanded. It is the last stage of that name
in the whole file (in COPY it may be a stage's number); otherwise an image, always for the platform that is built.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import instructions, mounts, shapes
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.expansion import expand
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.instructions import Instruction

IMAGE = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"  # https://github.com/distribution/reference
PROMISES = ("CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "USER", "VOLUME")
_STAGE = re.compile(rf"(?=[a-z]){IMAGE}")
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_REMOTE = re.compile(r"^([^/]*://|[^/@]+@[^/]+:|\$)")
_NO_NETWORK = "a build step has no network; make it an input (url) of the recipe"
_VARIABLE = "it may be a URL, and a build step has no network; take a file with COPY, or begin with ./"
STAGES = 500  # in a file: each is evaluated for each pair of platform and build platform
ARGUMENTS = 1000  # before the first FROM


@dataclass(frozen=True)
class Use:
    """A name that a stage takes from: another stage (by its number), `scratch`, an image or a context.

    `paths` are what it takes, if the instruction says so. `build` is true if the name is resolved for the build
    platform. `base` is true for a FROM, and then `written` is its word before expansion.
    """

    name: str
    line: int
    build: bool = False
    base: bool = False
    paths: tuple[str, ...] = ()
    stage: int | None = None
    written: str = ""


@dataclass(frozen=True)
class Argument:
    """An ARG before the first FROM; `value` is None if it has none."""

    name: str
    value: str | None
    line: int


@dataclass(frozen=True)
class Stage:
    """One stage as written: its name in lower case (or ''), its FROM and --platform as written, whether it runs
    commands, what else it takes from, the instructions that say how the image is run, and what it takes from the main
    context: (line, path as written)."""

    name: str
    number: int
    line: int
    base: str
    platform: str
    runs: bool
    takes: tuple[Use, ...]
    promises: tuple[Instruction, ...] = ()
    local: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Dockerfile:
    """The stages in order. `refused` has (line, reason) for what a hermetic build cannot have; `arguments` are the ARGs
    before the first FROM; `taken` has the names in all ARGs."""

    stages: tuple[Stage, ...]
    refused: tuple[tuple[int, str], ...]
    arguments: tuple[Argument, ...]
    taken: frozenset[str]
    text: str
    escape: str

    def __hash__(self) -> int:
        return hash(self.text)

    def text_of(self, stages: Collection[int]) -> str:
        """The lines that define these stages: their own, and those before the first FROM.

        If one takes from a number (`COPY --from=1`), that is the whole file: if a stage is added or removed before it,
        the same number means another stage.
        """
        taken = [use for number in stages for use in self.stages[number].takes if use.stage is not None]
        if any(use.name.lower() != self.stages[use.stage or 0].name for use in taken):
            return self.text
        lines = [line + "\n" for line in self.text.split("\n")]
        begins = [*(stage.line - 1 for stage in self.stages), len(lines)]
        parts = [lines[begins[number] : begins[number + 1]] for number in sorted(stages)]
        return "".join(line for part in [lines[: begins[0]], *parts] for line in part)

    def stage(self, name: str) -> Stage | None:
        """A stage by name (in any case); the last one if several have it."""
        return next((stage for stage in reversed(self.stages) if stage.name and stage.name == name.lower()), None)


def parse(text: str) -> Dockerfile:
    """Reads a Dockerfile. What it cannot understand goes into `refused`; it raises nothing."""
    read = instructions.read(text)
    refused = read.refused
    bodies: list[list[Instruction]] = []
    arguments: list[Argument] = []
    early: list[tuple[int, str]] = []
    taken: set[str] = set()
    broken = {line for line, _reason in refused}  # these need no second message
    for step in read.instructions:
        if step.line not in broken:  # evaluation.py expands the ARGs before the first FROM
            refused += [(step.line, said) for said in shapes.wrong(step, read.escape, expanded=bool(bodies))]
        if step.keyword == "ONBUILD":
            refused.append((step.line, "ONBUILD is not supported: it would run in other images, whose plans do not"
                            " know of it"))
        elif step.keyword == "FROM":
            bodies.append([step])
        elif step.keyword == "ARG":
            parts = [word.partition("=") for word in instructions.words(step.rest, read.escape)]
            taken.update(name for name, _sign, _value in parts)
            if not bodies:
                arguments += [Argument(name, value if sign else None, step.line) for name, sign, value in parts]
        elif bodies:
            bodies[-1].append(step)
        elif step.keyword in shapes.FLAGS:
            early.append((step.line, f"{step.keyword} before the first FROM; only ARG may stand there"))
    refused += early if bodies else []
    if not bodies:
        refused.append((1, "there is no FROM, so this is not a Dockerfile"))
    many = [(bodies[STAGES][0].line, f"more than {STAGES} stages")] if len(bodies) > STAGES else []
    many += [(arguments[ARGUMENTS].line, f"more than {ARGUMENTS} arguments before the first FROM")
             ] if len(arguments) > ARGUMENTS else []
    if many:
        refused += many
        return Dockerfile((), tuple(sorted(refused)), (), frozenset(), text, read.escape)
    names = [_name(body[0], refused) for body in bodies]
    numbers = {name: number for number, name in enumerate(names)}
    file = _Names(names, numbers, read.escape, refused)
    stages = tuple(_stage(number, body, file) for number, body in enumerate(bodies))
    return Dockerfile(stages, tuple(sorted(refused)), tuple(arguments), frozenset(taken), text, read.escape)


@dataclass
class _Names:
    """The names of a file's stages, and name -> number of the last stage that has it; `refused` grows."""

    names: list[str]
    numbers: dict[str, int]
    escape: str
    refused: list[tuple[int, str]]

    def use(self, name: str, step: Instruction, paths: tuple[str, ...]) -> list[Use]:
        """What an instruction takes from `name`; empty, and a reason in `refused`, if that is unclear."""
        try:
            literal = expand(name, lambda _name: None, self.escape) == name
        except ValueError:
            literal = False
        if not literal:
            self.refused.append((step.line, f"from={name}: BuildKit expands no variables here; make it a stage"
                                 f" (FROM {name} AS ...), and take from that"))
            return []
        found = self.numbers.get(name.lower())
        if step.keyword == "COPY" and _NUMBER.fullmatch(name):
            found = int(name) if len(name) < 10 else len(self.names)
            if not 0 <= found < len(self.names):
                self.refused.append((step.line, f"--from={name}: there is no such stage; they are numbered from 0 to"
                                     f" {len(self.names) - 1}"))
                return []
        return [Use(name, step.line, paths=paths, stage=found)]


def _name(step: Instruction, refused: list[tuple[int, str]]) -> str:
    """The name that a FROM gives its stage."""
    parts = instructions.plain_words(step.rest)
    if len(parts) == 3 and parts[1].lower() == "as":
        if parts[2].lower() == "scratch":
            refused.append((step.line, f"AS {parts[2]}: every RUN --mount without from= would use this stage, and a"
                            " cache would start with its files; choose another name"))
        if not _STAGE.fullmatch(parts[2].lower()):
            refused.append((step.line, f"AS {parts[2]}: a stage's name must begin with a letter and have letters and"
                            " digits, with . _ __ - only between them"))
        return parts[2].lower()
    if len(parts) != 1:
        refused.append((step.line, f"FROM {step.rest}: write FROM NAME or FROM NAME AS STAGE"))
    return ""


def _stage(number: int, body: list[Instruction], file: _Names) -> Stage:
    first = body[0]
    uses = [use for step in body[1:] for use in _uses(step, file)]
    base, *_more = [*instructions.plain_words(first.rest), ""]
    platform = dict(first.flags).get("platform", "")
    runs = any(step.keyword == "RUN" for step in body)
    promises = tuple(step for step in body if step.keyword in PROMISES)
    local = tuple((step.line, path) for step in body for path in _local(step))
    return Stage(file.names[number], number, first.line, base, platform, runs, tuple(uses), promises, local)


def _local(step: Instruction) -> tuple[str, ...]:
    """What COPY, ADD or a mount takes from the main context; what is elsewhere is refused anyway."""
    if step.keyword == "RUN":
        return tuple(path for flag, value in step.flags if flag == "mount" and (path := mounts.local(value)))
    if step.keyword not in ("COPY", "ADD") or any(flag == "from" for flag, _value in step.flags):
        return ()
    return tuple(path for path in _sources(step) if not _far(step, path))


def _far(step: Instruction, source: str) -> bool:
    """Whether ADD or COPY takes a source from the network. COPY cannot, so there a variable is a path."""
    return bool(_REMOTE.match(source)) and (step.keyword == "ADD" or source[0] != "$")


def _uses(step: Instruction, file: _Names) -> list[Use]:
    if step.keyword in ("COPY", "ADD"):
        sources = _sources(step)
        file.refused += [(step.line, f"{step.keyword} {source}: {_VARIABLE if source[0] == '$' else _NO_NETWORK}")
                         for source in sources if _far(step, source)]
        if dict(step.flags).get("checksum") and not any(map(_REMOTE.match, sources)):
            file.refused.append((step.line, "ADD --checksum: it is for what comes from the network, which a build step"
                                 " has not: leave it out"))
        return [use for flag, value in step.flags if flag == "from" and value and step.keyword == "COPY"
                for use in file.use(value, step, sources)]
    if step.keyword != "RUN":
        return []
    found: list[Use] = []
    for flag, value in step.flags:
        if flag == "network" and value != "none":
            file.refused.append((step.line, f"RUN --network={value}: build steps have no network"))
        if flag == "security" and value != "sandbox":
            file.refused.append((step.line, f"RUN --security={value}: build steps have no privileges"))
        if flag == "device":
            file.refused.append((step.line, f"RUN --device={value}: build steps have no devices"))
        if flag == "mount":
            try:
                options, whys = mounts.read(value, file.escape)
            except ValueError as error:
                options, whys = {}, [str(error)]
            file.refused += [(step.line, f"RUN --mount={value}: {why}") for why in whys]
            if options.get("from"):
                found += file.use(options["from"], step, (options.get("source") or "/",))
    return found


def _sources(step: Instruction) -> tuple[str, ...]:
    listed = instructions.array(step.rest)
    if listed is not None:
        return tuple(listed[:-1])
    return tuple(re.sub(r"\\(.)|[\"']", lambda match: match.group(1) or "", word)
                 for word in instructions.plain_words(step.rest)[:-1] if not word.startswith("<<"))
