"""Our reading of Dockerfiles, held against BuildKit's own: its parser, its lexer, and its conversion for a platform.

Beside tables of tricky texts, random ones are made of pieces that mean something; a seed makes them the same each time.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.contract import Contract, differences
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import IMAGE, parse
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.evaluation import view
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.expansion import expand

from ..unit.test_instructions import REFUSED, TAKEN
from .conftest import PROJECT, sh

MODULE = PROJECT / "roles/buildkitd/files/module"
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v6", "linux/arm/v7", "linux/s390x", "linux/386")
GIVEN = {"BUILDKIT_MULTI_PLATFORM": "1", "SOURCE_DATE_EPOCH": "1700000000"}  # what every solve has

FILES = [
    "FROM debian\n",
    "# comment\n\n  from   debian   as   Build\nFROM scratch\ncopy --from=build /a /b\n",
    "ARG A=base\nARG B=${A}-x\nFROM ${B}\nFROM $A AS b\nFROM ${C:-static} AS c\n",
    "# escape=`\nFROM debian\nRUN a `\n  b `\n\n  c\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN echo a \\\n# comment in between\n  && echo b \\   \n  && echo c\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN <<EOF\nFROM no\nCOPY --from=no / /\nEOF\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN <<-EOF cat\n\tFROM no\n\tEOF\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN <<'E' cat && <<\"F\" cat\nFROM no\nE\nFROM no\nF\nCOPY --from=tools /a /\n",
    "FROM debian\nCOPY <<one <<two /dest/\nFROM no\none\nCOPY --from=no / /\ntwo\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN echo $((1<<3)) && cat 3<<E\nFROM no\nE\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN echo 'COPY --from=no / /' \"<<E\"\nCOPY --from=tools /a /\n",
    'FROM debian\nRUN --mount=type=bind,from=inputs,source=/x,target=/y --mount=type=cache,target=/c'
    ' --mount="from=q,target=/z" true\n',
    "FROM debian\nRUN --network=none --mount=from=inputs,target=/x ls\nCOPY --chown=1:1 --from=tools --link /a /\n",
    'FROM debian\nCOPY --from=tools ["/a b", "/c"]\nENTRYPOINT ["x", "--from=no"]\n',
    "FROM --platform=$BUILDPLATFORM debian AS a\nFROM a AS b\nFROM scratch\nCOPY --from=a / /\nCOPY --from=1 / /\n",
    "FROM debian\nENV A=b \\\n    C=d\nLABEL x=\"FROM no\"\nRUN echo \\\\\nCOPY --from=tools /a /\n",
    "FROM debian\r\nRUN a \\\r\n  b\r\nCOPY --from=tools /a /\r\n",
    "\n\n# syntax = x/y\nFROM debian\nCMD echo <<E\nCOPY --from=tools /a /\n",
]
HEADS = ["", "", "# escape=`\n", "#escape=\\\n", "# foo=x\n# escape=`\n", "#!/bin/x\n# escape=`\n", "\n# escape=`\n",
         "# check=skip=all\n# escape=`\n", "  # escape=`\n", "# escape\v=`\n", "# escape=x\n", "# Escape = ` \n"]
LINES = [
    "FROM a\n", "from  b  AS  Stage\n", "FROM scratch\n", "FROM x$Y AS z\n", "COPY --from=t /a /b\n", "RUN echo `\n",
    "  copy\t--from=stage /a /\n", "RUN echo \\\n", "RUN <<EOF\nFROM no\nEOF\n", "RUN cat << EOF\n\tEOF\nEOF\n",
    "RUN <<-EOF cat\n\tEOF\n", "RUN a 3<<E <<'F'\nE\nF\n", "# comment\n", "   # c\n", "\n", "  \n", "RUN it's <<EOF\n",
    "RUN \"<<EOF\"\n", 'RUN ["a", "<<EOF"]\n', 'RUN ["a", <<EOF\nEOF\n', "COPY <<EOF /x\nEOF\n", "RUN $((1<<3))\n",
    'COPY ["<<EOF", "/x"]\n', "RUN --mount=from=m,target=/x --network=none x\n", "RUN --mount=from=m, x\n",
    'RUN --mount="type=bind,from=q",target=/m y\n', "RUN --mount='\"from=r\",target=/x' y\n", "ENV A b \\ \n",
    "RUN -- --mount=from=no,target=/x\n", 'RUN "--mount=from=no" \n', "RUN --mount=fr\\om=esc,target=/a x\n",
    "ENV A=b\n", "RUN echo \\\\\n", "RUN cat <<${X:-E}\nE\n", "RUN cat <<E\"O\"F\nEOF\n", "RUN a\r\n", "ARG A=1\n",
    "CMD <<EOF\n", "COPY --chown=\u00e0 --from=acc /a /b\n", "RUN x \u2028 <<E\nE\n", "\vCOPY --from=vt /a /b\n",
    "RUN \\<<EOF\n", "RUN a\\\n  # no\n\n  <<EOF\nEOF\n", "RUN <<EO\\F\nEOF\n", "RUN a <<<EOF\n", "RUN <<A<<B\n",
]

WORDS = [
    "$A", "${A}-$U-$", "${U:-d}${B-d}", "${A:+s}|${B+s}|${U:+s}", "${B?m}", "${U?m}", "${B:?m}", "${U:-${B:-${A}}}",
    "${C#*/}|${C##*/}|${C%/*}|${C%%/*}", "${C%\\*d}", "${D/xx/z}|${D//x/z}|${D//*/z}|${D/?y/}", "${D//x/<$$0>}",
    "${C/\\//:}", "${C//\\//:}", "'$A'\"$A\"\\$A", '"a\\"b\\c"', "$E", "$$A|$1|$?", "a\\", "${U-'a b'}", "${C/\"b.\"/}",
    "${", "${A", "${}", "${:a}", "${A:#a}", "${A=a}", "${A/a}", "'a", '"a', "${C#\\a}", "${U:-a\\}b}", "${B//*/x}",
]
VALUES = {"A": "amd64", "B": "", "C": "a/b.c*d\\e", "D": "xx-yy-xx", "E": "$A 'q' \"r\"", "V": "v7", "N": "l1\nl2"}
SIGNS = [
    *("$A", "${A}", "$", "${", "}", "$B", "${B", "$C", "${C", "$D", "${D", "${E", "${U", "$1", "$0", "$$", "$@", "${1"),
    *(":-", "-", ":+", "+", ":?", "?", "#", "##", "%", "%%", "/", "//", ":", "*", "\\", "\\\\", "`", "'", '"', "a"),
    *("xx", "amd", " ", "<", "<<", "\\}", "\\/", "[a]", "(", ".", "|", "^", "{", "${0}", "\ufeff", "\n", ":#"),
    *(":z", "=", "!"),
]

BUILDS = [
    "FROM static AS leaf-amd64\nFROM base AS leaf-arm64\nFROM leaf-${TARGETARCH}\nCOPY a /a\n",
    "FROM scratch AS leaf\nFROM leaf AS leafv7\nCOPY --from=tools /h /h\nFROM leaf${TARGETVARIANT}\nCOPY a /z\n",
    "ARG B\nARG C=static\nFROM ${B:-${C}}\n",
    "ARG TARGETARCH\nARG BUILDARCH=s390x\nFROM x$TARGETARCH-$BUILDARCH\n",
    "FROM a AS b\nFROM c\nCOPY --from=b / /\nFROM d AS b\n",
    "FROM a AS b\nFROM c AS B\nFROM b\n",
    "FROM static\nCOPY --from=b /a /a\nFROM scratch AS b\nFROM static\nCOPY --from=b /a /a\n",
    "FROM static\nCOPY --from=1 /a /a\nFROM base\nCOPY --from=0 /a /a\nFROM scratch\n",
]
ARGUMENTS = [
    "ARG A=one", "ARG A", "ARG B=${A}-x", "ARG TARGETARCH", "ARG TARGETARCH=q", "ARG BUILDPLATFORM=linux/amd64",
    "ARG C=$TARGETARCH D=${TARGETVARIANT:-none}", "ARG E='$A'", 'ARG F="${BUILDARCH}"', "ARG P=$TARGETPLATFORM",
    "ARG G=$SOURCE_DATE_EPOCH", "ARG SOURCE_DATE_EPOCH", "ARG BUILDKIT_MULTI_PLATFORM", "ARG A=${A:-two}",
]
FLAGS = [
    "--platform=$BUILDPLATFORM", "--platform=${BUILDPLATFORM}", "--platform=$TARGETPLATFORM",
    "--platform=linux/arm64/v8", "--platform=linux/$TARGETARCH", "--platform=linux/amd64", "--platform=$P",
    "--platform=linux/${BUILDARCH}", "--platform=arm64", "--platform=linux/x86_64",
    "--platform=linux/$TARGETARCH${TARGETVARIANT:+/$TARGETVARIANT}",
]
NAMES = [
    "debian", "base", "scratch", "a", "b", "c", "x$TARGETARCH", "x${TARGETARCH}", "xamd64", "${A:-a}", "$B", "$A",
    "a${TARGETVARIANT}", "${TARGETVARIANT:-b}", "${C:-static}", "t-$BUILDARCH", "x${TARGETARCH#arm}", "0", "A", "e-$E",
    "x${TARGETARCH/amd/ar}", "${D}", "$F", '"a"', "b${BUILDKIT_MULTI_PLATFORM}", "s$TARGETSTAGE", "st", "x$G",
    "x${TARGETARCH%64}", "b${SOURCE_DATE_EPOCH}",
]
AS = ["", "", " AS a", " AS b", " AS c", " AS xamd64", " AS xarm64", " AS xarm", " as Base", " AS t-amd64", " AS st",
      " AS scratch"]
STEPS = [
    "COPY --from=a /a /b", "COPY --from=B /a /b", "COPY --from=0 /a /b", "COPY --from=1 /a /b", "COPY --from=t /a /b",
    "RUN --mount=from=a,target=/x y", "RUN --mount=from=1,target=/x y", "RUN --mount=from=inputs,target=/x y", "RUN x",
    "COPY --from=xamd64 /a /b", "COPY --from=$A /a /b", "COPY --from=+0 /a /b", "COPY f /g", "ENV A=z", "ARG A",
]

TAKES = [*(f"COPY --from={name} /a /b" for name in "ab012"), "RUN --mount=from=b,target=/x y", "RUN x", "COPY f /g"]
PROMISES = [
    "EXPOSE 80", "EXPOSE 80/tcp 53/udp", "EXPOSE 8000-8003", "EXPOSE 1-2/UDP", "EXPOSE 80/TCP", 'EXPOSE "81"',
    "EXPOSE 8080:90", "EXPOSE 127.0.0.1:1:91/udp", "EXPOSE 80 \\\n  82 \\\n# no\n  83", "EXPOSE 080", "EXPOSE 5/sctp",
    "VOLUME /data", "VOLUME /data /more", 'VOLUME ["/data", "/a b"]', "VOLUME '/q'", 'VOLUME "/r"', "VOLUME [\"/x\"] ",
    "VOLUME [/y]", "VOLUME ['/z']", "VOLUME rel", "VOLUME /sl/", "VOLUME /d/../e", 'VOLUME ["/\\u0061"]', "WORKDIR /w",
    "USER 2000", "USER 2000:2000", "USER root", 'USER "2001"', "USER 0", "USER nobody", "USER 2000:nobody", "USER 007",
    "CMD a b", 'CMD ["a", "b"]', "CMD [ 'a' ]", 'CMD ["a"] ', "CMD []", 'CMD ["a", "b c"]', "CMD a \\\n  b",
    "CMD a  b ", 'CMD ["\\u0061", "b"]', "CMD echo 'x y'", 'CMD ["a",]', "CMD <<E\na\nE", "cmd c", 'SHELL ["/x", "-c"]',
    'ENTRYPOINT ["e"]', "ENTRYPOINT e f", "ENTRYPOINT []", "ONBUILD CMD no", "ONBUILD EXPOSE 1", "ENV A=b",
    "STOPSIGNAL 9",
    "HEALTHCHECK NONE", "HEALTHCHECK CMD h 1", 'HEALTHCHECK --interval=5s --retries=3 CMD ["h", "1"]', "RUN x",
    "HEALTHCHECK --timeout=3s \\\n  CMD h \\\n  2", "HEALTHCHECK cmd h 3", "healthcheck none",
]
NUMBERED = ("FROM base AS a\nRUN x\nFROM base AS b\nRUN y\nFROM base AS st\n"
            "COPY --from=a /a /b\nCOPY --from=b /a /b\nCOPY --from=1 /a /c\n")


@pytest.fixture(scope="module")
def buildkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Asks BuildKit: `buildkit(words=[...])["words"]`."""
    folder: Path = tmp_path_factory.mktemp("names")
    for name in ("go.mod", "go.sum"):
        shutil.copy(MODULE / name, folder)
    shutil.copy(PROJECT / "tests/integration/names/main.go", folder)
    sh("go", "build", "-mod=mod", "-o", "names", ".", cwd=folder, env={**os.environ, "CGO_ENABLED": "0"})

    def ask(**question: list[Any]) -> dict[str, Any]:
        asked = json.dumps(question)
        ended = subprocess.run([folder / "names"], input=asked, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(ended.stdout)

    yield ask


def some(chance: random.Random, pieces: list[str], most: int, least: int = 0) -> list[str]:
    return [chance.choice(pieces) for _piece in range(chance.randint(least, most))]


def test_stages_and_names_are_those_that_buildkit_sees(buildkit: Any) -> None:
    chance = random.Random(1)
    texts = [*FILES, *(path.read_text() for path in sorted((PROJECT / "images").glob("*/Dockerfile")))]
    texts += ["".join([chance.choice(HEADS), *some(chance, LINES[:4], 1), *some(chance, LINES, 6, 1)])
              for _case in range(4000)]
    seen = 0
    for text, theirs in zip(texts, buildkit(files=texts)["files"]):
        if theirs["error"]:
            continue  # BuildKit refuses more, and says so itself
        file = parse(text)
        ours = [{"name": stage.name, "base": stage.base, "line": stage.line, "from": [use.name for use in stage.takes]}
                for stage in file.stages]
        if all("syntax=" in reason for _line, reason in file.refused):
            assert ours == theirs["stages"], text
            seen += 1
    assert seen > 1000


def test_words_expand_as_in_buildkit(buildkit: Any) -> None:
    chance = random.Random(2)
    texts = [*WORDS, *("".join(some(chance, SIGNS, 9, 1)) for _text in range(10_000))]
    for sign in (":-", "-", ":+", "+", ":?", "?", "#", "##", "%", "%%", "/", "//"):
        for name in "ABCDEUVN":
            ends = ["}", "/}", "/" + "".join(some(chance, SIGNS, 2)) + "}"]
            texts += ["${" + name + sign + "".join(some(chance, SIGNS, 4)) + chance.choice(ends) for _text in range(80)]
    words = [{"text": text, "escape": chance.choice("\\\\`"), "values": VALUES} for text in texts]
    for word, theirs in zip(words, buildkit(words=words)["words"]):
        try:
            ours = {"result": expand(word["text"], VALUES.get, word["escape"]), "error": False}
        except ValueError:
            ours = {"result": "", "error": True}
        assert ours == {"result": "" if theirs["error"] else theirs["result"], "error": bool(theirs["error"])}, word


def files(chance: random.Random) -> Iterator[str]:
    yield from BUILDS
    for _case in range(8000):
        lines = some(chance, ARGUMENTS, 2)
        for _line in range(chance.randint(1, 4)):
            flag = chance.choice(FLAGS) + " " if chance.random() < 0.2 else ""
            lines += [f"FROM {flag}{chance.choice(NAMES)}{chance.choice(AS)}", *some(chance, STEPS, 1)]
        yield "".join(line + "\n" for line in lines)


def test_a_build_takes_the_images_that_the_plan_says(buildkit: Any) -> None:
    """BuildKit converts each file for a platform; the images that it would pull are what the view has outside."""
    chance = random.Random(3)
    builds = []
    for text in files(chance):
        args = {name: value for name, value in (("A", "base"), ("B", "k")) if chance.random() < 0.2}
        target = chance.choice(["", "", "", "a", "st"])
        machine = chance.choice(PLATFORMS[:2])
        builds += [{"text": text, "platform": platform, "build": machine, "target": target, "args": args}
                   for platform in (PLATFORMS if text in BUILDS else [chance.choice(PLATFORMS)])]
    seen = 0
    asked = [{**build, "args": {**build["args"], **GIVEN}} for build in builds]
    for build, theirs in zip(builds, buildkit(builds=asked)["builds"]):
        file, platform, on = parse(build["text"]), Platform.parse(build["platform"]), Platform.parse(build["build"])
        found = view(file, build["target"], platform, on, tuple(sorted(build["args"].items())))
        refused = [reason for _line, reason in (*file.refused, *found.refused)]
        names = {(use.name, str(on if use.build else platform)) for use in found.outside}
        if theirs["error"]:
            odd = any(not re.fullmatch(IMAGE, name) for name, _build in names)  # the catalog says that this is no image
            assert refused or odd or "target stage" in theirs["error"], (build, theirs["error"])
        elif not refused:
            assert sorted(names) == sorted(map(tuple, theirs["images"])), build
            if platform != on and not any(stage.platform and base.name == "scratch"
                                          for stage, base in zip(file.stages, found.bases)):
                assert found.foreign == (str(platform) in {where for _command, where in theirs["commands"]}), build
            seen += 1
        else:  # what we refuse beyond BuildKit
            ours = ("BuildKit takes that", "must be for $BUILDPLATFORM", "there is no such stage", "known only once",
                    "every RUN --mount")
            assert all(any(text in reason for text in ours) for reason in refused), (build, refused)
    assert seen > 500


def test_what_is_refused_of_an_instruction_is_what_buildkit_refuses(buildkit: Any) -> None:
    asked = [{"text": f"FROM scratch\n{step}\n", "platform": "linux/amd64", "build": "linux/amd64", "target": "",
              "args": GIVEN} for step in (*(step for step, _said in REFUSED), *TAKEN)]
    errors = [theirs["error"] for theirs in buildkit(builds=asked)["builds"]]
    assert all(errors[:len(REFUSED)]), [step for (step, _said), error in zip(REFUSED, errors) if not error]
    assert not any(errors[len(REFUSED):]), [error for error in errors[len(REFUSED):] if error]


def stages(chance: random.Random, most: int, least: int = 0) -> list[str]:
    """The texts of some stages, most with a name."""
    return [f"FROM {chance.choice(['base', 'base', 'a', 'b', 'x$TARGETARCH'])}{chance.choice(AS[1:5])}\n"
            + "".join(f"{step}\n" for step in some(chance, TAKES, 3))
            for _stage in range(chance.randint(least, most))]


def test_what_a_target_does_not_reach_does_not_change_it(buildkit: Any) -> None:
    """Of two files with the same lines that count, and the same parents, BuildKit builds the same target."""
    chance = random.Random(4)
    asked, known = [], {}
    for _case in range(3000):
        last = ["FROM base AS st", *some(chance, TAKES, 4, 1)]
        parts = [*stages(chance, 3, 1), "".join(f"{line}\n" for line in last)]
        more = [*parts[: (place := chance.randint(0, len(parts) - 1))], *stages(chance, 1, 1), *parts[place:]]
        texts = ["".join(parts), "".join(more), "".join(chance.sample(parts, len(parts)))]
        for text in texts if asked else [NUMBERED, "FROM base\n" + NUMBERED]:
            file = parse(text)
            found = view(file, "st")
            if file.stages and not (*file.refused, *found.refused):
                asked.append({"text": text, "platform": "linux/amd64", "build": "linux/arm64", "target": "st",
                              "args": GIVEN})
                known[len(asked) - 1] = file.text_of(found.reach), frozenset(use.name for use in found.outside)
    heads: dict[Any, tuple[str, str]] = {}
    same = 0
    for number, theirs in enumerate(buildkit(builds=asked)["builds"]):
        text, key = asked[number]["text"], known[number]
        if not theirs["error"]:
            head, before = heads.setdefault(key, (theirs["head"], text))
            assert head == theirs["head"], (key, text, before)
            same += before != text
    assert same > 500


def promised(config: dict[str, Any]) -> Contract:
    """The contract of an image that keeps to its configuration."""
    ports = {f"p{number}": port for number, port in enumerate(config["ExposedPorts"] or {})}
    user = config["User"].partition(":")[0]
    test = (config["Healthcheck"]["Test"] or ["NONE"])[1:]
    return Contract(ports=ports, volumes=tuple(config["Volumes"] or ()), command=tuple(config["Cmd"] or ()),
                    user=int(user) if user.isdecimal() else 0 if user in ("", "root") else None,
                    health={"command": test[-1]} if test else {})


def test_a_contract_that_repeats_what_buildkit_writes_is_no_contradiction(buildkit: Any) -> None:
    """And one that says anything else is."""
    chance = random.Random(5)
    texts = []
    for _case in range(6000):
        lines = []
        for number in range(chance.randint(1, 3)):
            lines += [f"FROM {f's{number - 1}' if number and chance.random() < 0.8 else 'scratch'} AS s{number}",
                      *some(chance, PROMISES, 5)]
        texts.append("".join(f"{line}\n" for line in lines))
    asked = [{"text": text, "platform": "linux/amd64", "build": "linux/amd64", "target": "", "args": GIVEN}
             for text in texts]
    seen: dict[str, int] = {}
    for text, theirs in zip(texts, buildkit(builds=asked)["builds"]):
        file = parse(text)
        found = view(file, "")
        if theirs["error"] or file.refused or found.refused:
            continue
        contract = promised(theirs["config"])
        assert list(differences(contract, found, [], whole=True)) == [], (text, theirs["config"])
        others = {"ports": {**contract.ports, "more": "7777/tcp"}, "volumes": (*contract.volumes, "/others"),
                  "health": {"command": "others"}, "user": (contract.user or 0) + 1}
        if contract.service and contract.command:
            others["command"] = (*contract.command, "others")
        if contract.user is None:  # the number of a name is in the image
            del others["user"]
        for part, other in others.items():
            told = [name for name, _how in differences(replace(contract, **{part: other}), found, [], whole=True)]
            assert told == [part], (text, theirs["config"], part)
            seen[part] = seen.get(part, 0) + 1
    assert min(seen.values()) > 500, seen
