"""What a Dockerfile names: its stages, and the contexts that each of them takes from outside.

Only names are read; everything else is BuildKit's business. tests/integration holds this parser against BuildKit's own.
Facts about platforms are BuildKit 0.34's (frontend/dockerfile/dockerfile2llb/convert.go): `FROM name` is resolved for the stage's
platform, `--from=name` always for the platform that is built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

BUILD = ("$BUILDPLATFORM", "${BUILDPLATFORM}")
TARGET = ("$TARGETPLATFORM", "${TARGETPLATFORM}", "")

_DIRECTIVE = re.compile(r"^(?:#|//)\s*([A-Za-z][\w-]*)\s*=\s*(.+?)\s*$")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)$", re.S)
_FLAG = re.compile(r"^--([a-z-]+)(?:=(.*))?$", re.S)
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-+])([^}]*))?\}|\$(\w+)")
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""", re.S)
_REMOTE = re.compile(r"^([a-z]+://|[^/@]+@[^/]+:|\$)")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its keyword in capitals, its flags (`--mount` may come twice), the rest of its text, and its first line."""

    keyword: str
    flags: tuple[tuple[str, str], ...]
    rest: str
    line: int


@dataclass(frozen=True)
class Use:
    """A name that a stage takes from: another stage, `scratch`, an image or a context. `paths` are what it takes, where that is said.

    `build` is true where the name is resolved for the platform that builds.
    """

    name: str
    line: int
    build: bool = False
    base: bool = False
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One stage: its name (or its number), what it uses, and whether it runs commands, of which platform."""

    name: str
    number: int
    line: int
    build: bool
    runs: bool
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Dockerfile:
    """The stages in order. `refused` are (line, reason) of what no hermetic build can have; `arguments` those declared before the first FROM."""

    stages: tuple[Stage, ...] = ()
    refused: tuple[tuple[int, str], ...] = ()
    arguments: frozenset[str] = field(default_factory=frozenset)
    text: str = ""

    def text_of(self, target: str = "") -> str:
        """The lines that decide what a target is: those before the first FROM and those of the stages that it reaches."""
        if not target:
            return self.text
        lines = [line + "\n" for line in self.text.split("\n")]
        ends = [stage.line - 1 for stage in self.stages[1:]] + [len(lines)]
        numbers = sorted(stage.number for stage in self.reach(target))
        return "".join(lines[: self.stages[0].line - 1] + [line for n in numbers for line in lines[self.stages[n].line - 1 : ends[n]]])

    def stage(self, name: str) -> Stage | None:
        """A stage by name (any case) or number, the later one where a name comes twice."""
        found = [stage for stage in self.stages if name.lower() == stage.name.lower() or name == str(stage.number)]
        return found[-1] if found else None

    def reach(self, target: str = "") -> list[Stage]:
        """The stages that a target needs (the last stage where none is named), the target first."""
        first = self.stage(target) if target else self.stages[-1]
        found: list[Stage] = []
        queue = [first] if first else []
        while queue:
            stage = queue.pop(0)
            if stage not in found:
                found.append(stage)
                queue += [inner for inner in map(self._inner(stage), stage.uses) if inner]
        return found

    def outside(self, target: str = "") -> list[Use]:
        """What a target takes from outside the file: images, `inputs`, `build-inputs`, `unpacked-...`."""
        return self._outside(self.reach(target))

    @property
    def all_outside(self) -> list[Use]:
        """The same for all stages, needed or not."""
        return self._outside(self.stages)

    def _outside(self, stages: Iterable[Stage]) -> list[Use]:
        return [use for stage in stages for use in stage.uses if use.name != "scratch" and not self._inner(stage)(use)]

    def _inner(self, stage: Stage) -> Callable[[Use], Stage | None]:
        """Stages are seen by those after them. (BuildKit lets COPY see later ones too; here such a name is an unknown image.)"""

        def find(use: Use) -> Stage | None:
            earlier = [s for s in self.stages[: stage.number] if use.name.lower() == s.name.lower() or use.name == str(s.number)]
            return earlier[-1] if earlier else None

        return find


def parse(text: str) -> Dockerfile:
    """Reads a Dockerfile. What cannot be understood is in `refused`, never an exception."""
    directives = _directives(text)
    refused = [(line, f"`# {name}={value}`: a build loads no frontend from outside; remove the line")
               for name, (line, value) in directives.items() if name == "syntax"]
    escape = directives.get("escape", (0, "\\"))[1]
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    current: list[Instruction] = []

    def close() -> None:
        if current:
            stages.append(_stage(current, len(stages), stages, arguments, refused))
            current.clear()

    for instruction in instructions(text, escape, refused):
        if instruction.keyword == "FROM":
            close()
            current.append(instruction)
        elif current:
            current.append(instruction)
        if instruction.keyword == "ARG" and not current:
            for word in words(instruction.rest):
                name, _, value = word.partition("=")
                arguments[name] = expand(_unquote(value), arguments)
    close()
    if not stages:
        refused.append((1, "no FROM: not a Dockerfile"))
    outside = {use.name.lower() for use in Dockerfile(tuple(stages)).all_outside}
    refused += [(stage.line, f"AS {stage.name}: that is also the name of a context, which BuildKit takes instead of the stage; rename the stage")
                for stage in stages if stage.name.lower() in outside]
    return Dockerfile(tuple(stages), tuple(sorted(refused)), frozenset(arguments), text)


def instructions(text: str, escape: str = "\\", refused: list[tuple[int, str]] | None = None) -> list[Instruction]:
    """The instructions, continuation lines joined, comments and the bodies of heredocs left out."""
    found: list[Instruction] = []
    lines = _lines(text)
    number = 0
    while number < len(lines):
        first = number
        joined = ""
        while number < len(lines):
            line = lines[number]
            number += 1
            if not line.strip() and not joined or line.lstrip().startswith("#"):
                if not joined:
                    first = number
                    break
                continue
            if not line.strip():
                continue
            stripped = line.rstrip()
            if stripped.endswith(escape) and not stripped.endswith(escape * 2):
                joined += stripped[:-1]
                continue
            joined += line
            break
        if not joined.strip():
            continue
        instruction = _instruction(joined.strip(), first + 1)
        found.append(instruction)
        if instruction.keyword == "ONBUILD" and refused is not None:
            refused.append((instruction.line, "ONBUILD: it would run in other images, for platforms that their plans know nothing of"))
        for dash, word in _heredocs(instruction):
            while number < len(lines) and (lines[number].lstrip("\t") if dash else lines[number]) != word:
                number += 1
            if number == len(lines) and refused is not None:
                refused.append((instruction.line, f"the text that begins with <<{word} does not end"))
            number += 1
    return found


def _lines(text: str) -> list[str]:
    """Lines as BuildKit sees them: they end at a line feed, and at nothing else that Python would take for an end."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def words(text: str) -> list[str]:
    """Shell-like words, quotes kept."""
    return _WORD.findall(text)


def expand(text: str, values: dict[str, str]) -> str:
    """`$name`, `${name}`, `${name:-default}` and `${name:+value}`. A name without value becomes nothing."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(4)
        value = values.get(name, "")
        if match.group(2) == "-":
            return value or match.group(3)
        return (match.group(3) if value else "") if match.group(2) == "+" else value

    return _VARIABLE.sub(replace, text)


def _directives(text: str) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(_lines(text), 1):
        match = _DIRECTIVE.match(line.strip())
        if number == 1 and line.startswith("#!"):
            continue
        if not match:
            break
        found.setdefault(match.group(1).lower(), (number, match.group(2)))
    return found


def _instruction(text: str, line: int) -> Instruction:
    keyword, _, rest = text.partition(" ") if " " in text.split("\t")[0] else text.partition("\t")
    rest = rest.strip()
    flags: list[tuple[str, str]] = []
    while match := _WORD.match(rest):
        flag = _FLAG.match(_unquote(match.group()))
        if not flag:
            break
        flags.append((flag.group(1), flag.group(2) or ""))
        rest = rest[match.end():].lstrip()
    return Instruction(keyword.upper(), tuple(flags), rest, line)


def _heredocs(instruction: Instruction) -> list[tuple[str, str]]:
    """Heredocs count where BuildKit counts them: in RUN, COPY and ADD, as words of their own (`$((1<<3))` is none)."""
    if instruction.keyword not in ("RUN", "COPY", "ADD"):
        return []
    found = [_HEREDOC.match(word) for word in words(instruction.rest)]
    return [(match.group(1), _unquote(match.group(2))) for match in found if match]


def _unquote(word: str) -> str:
    return re.sub(r"\\(.)|[\"']", lambda match: match.group(1) or "", word)


def _stage(body: list[Instruction], number: int, before: list[Stage], arguments: dict[str, str], refused: list[tuple[int, str]]) -> Stage:
    first = body[0]
    parts = words(first.rest)
    base = expand(_unquote(parts[0]), arguments) if parts else ""
    name = parts[2] if len(parts) >= 3 and parts[1].upper() == "AS" else str(number)
    wanted = dict(first.flags).get("platform", "")
    inner = next((stage for stage in reversed(before) if stage.name.lower() == base.lower()), None)
    build = inner.build if inner else wanted in BUILD
    if wanted not in (*BUILD, *TARGET):
        refused.append((first.line, f"--platform={wanted}: a stage is for $BUILDPLATFORM or, without the flag, for the platform that is built"))
    if not base:
        refused.append((first.line, "FROM without a name"))
    uses = [Use(base, first.line, build, base=True)]
    for instruction in body[1:]:
        uses += _uses(instruction, refused)
    return Stage(name, number, first.line, build, any(step.keyword == "RUN" for step in body), tuple(uses))


def _uses(step: Instruction, refused: list[tuple[int, str]]) -> list[Use]:
    if step.keyword in ("COPY", "ADD"):
        sources = _sources(step)
        refused += [(step.line, f"{step.keyword} {source}: a build step fetches nothing; name it as an input (url) of the recipe")
                    for source in sources if step.keyword == "ADD" and _REMOTE.match(source)]
        return [Use(value, step.line, paths=sources) for flag, value in step.flags if flag == "from"]
    if step.keyword != "RUN":
        return []
    found: list[Use] = []
    for flag, value in step.flags:
        if flag == "network" and value != "none":
            refused.append((step.line, f"RUN --network={value}: build steps have no network"))
        if flag == "security" and value != "sandbox":
            refused.append((step.line, f"RUN --security={value}: build steps have no privileges"))
        if flag == "mount":
            options = {part.partition("=")[0].lower(): part.partition("=")[2] for part in value.replace('"', "").split(",")}
            if options.get("from"):
                found.append(Use(options["from"], step.line, paths=(options.get("source") or options.get("src") or "/",)))
    return found


def _sources(step: Instruction) -> tuple[str, ...]:
    if step.rest.startswith("["):
        try:
            return tuple(str(word) for word in json.loads(step.rest)[:-1])
        except ValueError:
            return ()
    return tuple(_unquote(word) for word in words(step.rest)[:-1] if not word.startswith("<<"))
