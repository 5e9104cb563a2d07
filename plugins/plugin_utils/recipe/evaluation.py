# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates a Dockerfile for one platform and one build platform: what each stage is FROM, what a target takes.

It follows BuildKit 0.34 (frontend/dockerfile/dockerfile2llb/convert.go); tests/integration compares the two:

- FROM and its --platform are expanded with the arguments before the first FROM and the automatic ones. An
  `ARG TARGETARCH` there changes nothing, but `ARG TARGETARCH=x` does. A build argument overrides its ARG's own value.
- `FROM name` is the last stage of that name (in lower case) *before* it; otherwise an image for the stage's platform.
- A stage that is FROM another stage has that stage's platform, whatever its own --platform says. (In BuildKit, FROM
  scratch always has the platform that is built. But what runs there was copied in, so here its --platform decides.)
"""

from __future__ import annotations

import graphlib
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, AMD64, ARM64, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import (
    IMAGE,
    Argument,
    Dockerfile,
    Stage,
    Use,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.expansion import LIMIT, Unknown, expand

SCRATCH = "scratch"
_USUAL = ("", "$BUILDPLATFORM", "${BUILDPLATFORM}", "$TARGETPLATFORM", "${TARGETPLATFORM}")  # words of --platform
_HOST = r"[A-Za-z0-9-]+[.:][A-Za-z0-9.:-]*/"
_REFERENCE = re.compile(rf"(?:{_HOST})?{IMAGE}(?:/{IMAGE})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?:@[a-z0-9]+:[0-9a-f]+)?")

# How BuildKit reads a platform, from https://github.com/containerd/platforms
_ARCHITECTURES = {
    "i386": "386", "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm/v7", "armel": "arm/v6",
}
_VARIANTS = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "v8.0": ""},
    "arm": {"": "v7", "6": "v6", "7": "v7"},
}


@dataclass(frozen=True)
class View:
    """A file as BuildKit sees it when it builds `target` (the last stage if none is named).

    For each stage, `bases` has what it is FROM, and `builds` says whether it is for the build platform. `refused` are
    (line, reason).
    """

    file: Dockerfile
    target: str
    bases: tuple[Use, ...]
    builds: tuple[bool, ...]
    refused: tuple[tuple[int, str], ...] = ()

    @cached_property
    def reach(self) -> tuple[int, ...]:
        """The numbers of the stages that the target needs, the target first."""
        stages = self.file.stages
        last = self.file.stage(self.target) if self.target else stages[-1] if stages else None
        found = dict.fromkeys([last.number] if last else [])
        queue = deque(found)
        while queue:
            more = [use.stage for use in self.uses(queue.popleft()) if use.stage is not None and use.stage not in found]
            found.update(dict.fromkeys(more))
            queue.extend(dict.fromkeys(more))
        return tuple(found)

    @property
    def outside(self) -> list[Use]:
        """What the target takes from outside the file: images, `inputs`, `build-inputs`, `unpacked-...`."""
        return [use for number in self.reach for use in self._outside(number)]

    @property
    def all_outside(self) -> list[Use]:
        """The same for all stages, needed or not."""
        return [use for stage in self.file.stages for use in self._outside(stage.number)]

    @property
    def local(self) -> list[tuple[int, str]]:
        """What the target takes from the main context: (line, path as written)."""
        return [each for number in self.reach for each in self.file.stages[number].local]

    @property
    def base(self) -> str:
        """The image that the target descends from, through any stages in between; or `scratch`; '' if there is no such
        target."""
        if not self.reach:
            return ""
        use = self.bases[self.reach[0]]
        while use.stage is not None:
            use = self.bases[use.stage]
        return use.name

    @property
    def foreign(self) -> bool:
        """Whether any stage that the target needs runs code of the platform that is built."""
        return bool(self.running)

    @property
    def running(self) -> tuple[int, ...]:
        """The lines of those stages (their FROM)."""
        return tuple(self.file.stages[number].line for number in sorted(self.reach)
                     if self.file.stages[number].runs and not self.builds[number])

    def uses(self, number: int) -> tuple[Use, ...]:
        """Everything that a stage takes from."""
        return (self.bases[number], *self.file.stages[number].takes)

    def _outside(self, number: int) -> list[Use]:
        return [use for use in self.uses(number) if use.stage is None and use.name not in ("", SCRATCH)]


def varies(file: Dockerfile) -> bool:
    """Whether platforms or arguments may decide what a stage is FROM, or which platform it has."""
    if any("$" in stage.base or stage.platform not in _USUAL for stage in file.stages):
        return True
    given = [(argument.name, argument.value) for argument in file.arguments if argument.value is not None]
    return any("$" in value or f"${name}" in _USUAL for name, value in given)


def views(file: Dockerfile, target: str, platforms: Iterable[Platform], builders: Iterable[Platform],
          args: Mapping[str, str]) -> dict[Platform, dict[Platform, View]]:
    """Platform -> build platform -> the view of the file. If nothing varies, all views are the same object."""
    if not varies(file):
        return dict.fromkeys(platforms, dict.fromkeys(builders, view(file, target)))
    given = tuple(args.items())
    found: dict[Platform, dict[Platform, View]] = {}
    for platform in platforms:
        found[platform] = {build: view(file, target, platform, build, given) for build in builders}
        if any(each.foreign for each in found[platform].values()):  # its own machines build it
            found[platform][platform] = view(file, target, platform, platform, given)
    return found


@lru_cache(maxsize=65_536)
def view(file: Dockerfile, target: str = "", platform: Platform = AMD64, build: Platform = ARM64,
         args: tuple[tuple[str, str], ...] = ()) -> View:
    """The file for one platform on one build platform. For a file that does not vary, neither matters."""
    scope = _Scope(file, target, platform, build, dict(args))
    refused = list(scope.refused)
    bases: list[Use] = []
    builds: list[bool] = []
    numbers: dict[str, int] = {}
    for stage in file.stages:
        name = ""
        try:
            name = scope.expand(stage.base)
            if stage.base and not name:
                raise ValueError("the name is empty")
        except ValueError as error:
            refused.append((stage.line, f"FROM {stage.base}: {error}"))
        inner = numbers.get(name)
        follows = _follows(scope, stage, refused)
        builds.append(follows if inner is None else builds[inner])
        bases.append(Use(name, stage.line, builds[-1], base=True, stage=inner, written=stage.base))
        if stage.name:
            numbers[stage.name] = stage.number
    found = View(file, target, tuple(bases), tuple(builds))
    return replace(found, refused=tuple(sorted({*refused, *_unfit(found)})))


def _follows(scope: _Scope, stage: Stage, refused: list[tuple[int, str]]) -> bool:
    """Whether a stage's --platform is the build platform."""
    if not stage.platform:
        return False
    word = f"--platform={stage.platform}"
    try:
        text = scope.expand(stage.platform)
        found = platform_of(text)
        if found == scope.platform == scope.build:  # another build platform shows which of the two it follows
            other = next(each for each in ALL if each != scope.build)
            return platform_of(scope.on(other).expand(stage.platform)) == other
    except ValueError as error:
        refused.append((stage.line, f"{word}: {error}"))
        return False
    if found not in (scope.platform, scope.build):
        shown = "" if text == stage.platform else f", here {text or 'nothing'}"
        refused.append((stage.line, f"{word}{shown}: a stage must be for $BUILDPLATFORM or, without the flag, for the"
                        " platform that is built"))
    return found == scope.build


class _Scope:
    """The arguments that a FROM is expanded with. `refused` has (line, reason) for those that BuildKit refuses."""

    def __init__(self, file: Dockerfile, target: str, platform: Platform, build: Platform,
                 args: Mapping[str, str]) -> None:
        self.file, self.target, self.platform, self.build, self.args = file, target, platform, build, args
        self.refused: list[tuple[int, str]] = []
        self.unknown = {name: f"{name} has more than {LIMIT} characters"
                        for name, value in args.items() if len(value) > LIMIT}
        given = {**args, "BUILDKIT_MULTI_PLATFORM": "1"}  # as solve.py has it
        automatic = _automatic(file, target, platform, build)
        self.values = {name: given.get(name, value) for name, value in automatic.items()}
        for argument in file.arguments:
            if argument.name == "SOURCE_DATE_EPOCH":
                self.unknown[argument.name] = f"{argument.name} is known only once the parents are"
            elif argument.name in given:
                self.values[argument.name] = given[argument.name]
            elif argument.value is not None:
                self._set(argument, argument.value)

    def _set(self, argument: Argument, value: str) -> None:
        try:
            self.values[argument.name] = self.expand(value)
            self.unknown.pop(argument.name, None)
        except Unknown as error:
            self.unknown[argument.name] = str(error)  # matters only if a FROM needs it
        except ValueError as error:
            self.refused.append((argument.line, f"ARG {argument.name}={value}: {error}"))

    def get(self, name: str) -> str | None:
        if name in self.unknown:
            raise Unknown(self.unknown[name])
        return self.values.get(name)

    def expand(self, text: str) -> str:
        return expand(text, self.get, self.file.escape)

    def on(self, build: Platform) -> _Scope:
        """The same for another build platform."""
        return _Scope(self.file, self.target, self.platform, build, self.args)


def _automatic(file: Dockerfile, target: str, platform: Platform, build: Platform) -> dict[str, str]:
    """The arguments that every Dockerfile has."""
    last = file.stages[-1].name if file.stages else ""
    found = {"TARGETSTAGE": target or last or "default"}
    for side, machine in (("BUILD", build), ("TARGET", platform)):
        found[f"{side}PLATFORM"] = str(machine)
        found[f"{side}OS"], found[f"{side}OSVERSION"] = machine.os, ""
        found[f"{side}ARCH"], found[f"{side}VARIANT"] = machine.architecture, machine.variant
    return found


def _unfit(found: View) -> list[tuple[int, str]]:
    """Names that BuildKit would resolve to something else, or that it refuses even if nothing needs them."""
    stages, reach, circle = found.file.stages, set(found.reach), _circle(found.file)
    outside = {use.name.lower() for use in found.all_outside}
    refused = [(stage.line, f"AS {stage.name}: a context has the same name, and BuildKit takes that instead of the"
                " stage; rename the stage") for stage in stages if stage.name in outside]
    for stage in stages:
        needed = stage.number in reach
        for use in found.uses(stage.number):
            if use.stage is None and use.name and not needed and not _REFERENCE.fullmatch(use.name):
                written = f" (FROM {use.written})" if use.base and use.written != use.name else ""
                refused.append((use.line, f"{use.name!r}{written} is not a valid image name; BuildKit refuses it even"
                                " though nothing needs the stage"))
            if use.stage is None or use.stage < stage.number:
                continue
            if needed or {stage.number, use.stage} <= circle:
                refused.append((use.line, f"from={use.name}: that stage begins on line {stages[use.stage].line}; only"
                                " later stages can take from it"))
    return refused


def _circle(file: Dockerfile) -> set[int]:
    """Stages that take from each other in a circle, which BuildKit refuses even if nothing needs them."""
    graph = {stage.number: {use.stage for use in stage.takes if use.stage is not None} for stage in file.stages}
    if all(taken < number for number, every in graph.items() for taken in every):
        return set()
    try:
        graphlib.TopologicalSorter(graph).prepare()
        return set()
    except graphlib.CycleError as error:
        return set(error.args[1])


def platform_of(text: str) -> Platform | None:
    """The platform that a --platform means (`arm64`, `linux/x86_64`), None if the farm does not know it."""
    parts = text.lower().split("/")
    system, machine, *variant = ["linux", *parts] if len(parts) == 1 else parts
    architecture, _slash, fixed = _ARCHITECTURES.get(machine, machine).partition("/")
    if len(variant) > 1 or variant == [""]:
        return None
    last = fixed or ("" if machine == "i386" or not variant else variant[0])
    wanted = Platform(system, architecture, _VARIANTS.get(architecture, {}).get(last, last))
    return wanted if wanted in ALL else None
