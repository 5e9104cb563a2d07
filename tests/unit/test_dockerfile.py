"""Names in Dockerfiles: what stands in the file, and what it becomes on a platform."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import (
    AMD64,
    ARM64,
    ARMV6,
    ARMV7,
    I386,
    S390X,
    Platform,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import parse
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.evaluation import (
    View,
    platform_of,
    varies,
    view,
    views,
)


def names(text: str, target: str = "", platform: Platform = AMD64, build: Platform = ARM64, **args: str) -> list[str]:
    return [use.name for use in seen(text, target, platform, build, **args).outside]


def seen(text: str, target: str = "", platform: Platform = AMD64, build: Platform = ARM64, **args: str) -> View:
    return view(parse(text), target, platform, build, tuple(args.items()))


def refused(text: str, platform: Platform = AMD64, build: Platform = ARM64) -> list[int]:
    """The lines that are refused."""
    return sorted(line for line, _why in (*parse(text).refused, *seen(text, "", platform, build).refused))


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ("FROM debian\n", ["debian"]),
        ("from debian as x\nFROM x\n", ["debian"]),
        ("FROM debian AS debian\nFROM debian\n", ["debian"]),
        ("FROM scratch\nCOPY --from=tools /a /b\n", ["tools"]),
        ("FROM scratch AS a\nFROM scratch\nCOPY --from=0 /a /b\n", []),
        ("FROM scratch AS a\nFROM scratch\nCOPY --from=A /a /b\n", []),
        ("FROM scratch AS unused\nCOPY --from=tools /a /\nFROM debian\n", ["debian"]),
        ("FROM debian\nRUN --mount=type=bind,from=inputs,source=/x cat <<E\nFROM no\nCOPY --from=no / /\nE\n",
         ["debian", "inputs"]),
        ("FROM debian\nRUN echo $((1<<3))\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN a \\\n  # a comment in between\n\n  FROM no\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("# escape=`\nFROM debian\nRUN a `\n  b\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN echo 'a \\\\'\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ('FROM debian\nRUN echo "COPY --from=no / /"\n', ["debian"]),
        ("FROM debian\nRUN cat <<END-A\nFROM no\nEND-A\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN echo a\u2028COPY --from=no / /\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN <<A cat && cat <<-B\na\nA\nFROM no\nB\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN cat << EOF\nFROM no\nCOPY --from=no / /\nEOF\n", ["debian"]),
        ('FROM debian\nRUN ["cat", "<<EOF"]\nCOPY --from=tools /a /\n', ["debian", "tools"]),
        ("# note=x\n# escape=`\nFROM debian\nRUN a \\\nCOPY --from=no /a /\n", ["debian"]),
        ("FROM debian\nRUN -- --mount=from=no,target=/x\n", ["debian"]),
        ("FROM debian\nRUN \"--mount=from=no\"\nRUN --mount='\"from=q\",target=/x' y\n", ["debian", "q"]),
        ("FROM scratch AS a\nFROM scratch\nRUN --mount=from=0,target=/x y\nFROM 0\n", ["0"]),
        ("FROM scratch AS b\nFROM x AS c\nFROM b\nCOPY --from=c / /\nFROM y AS b\nFROM b\n", ["y"]),
        ("FROM a AS b\nFROM B\n", ["B"]),
        ("FROM debian\nCOPY <<E /x\nFROM no\nE\nADD <<F /y\nFROM no\nF\n", ["debian"]),
        ("FROM debian\nRUN <<A\n\tA\nFROM no\nA\nRUN <<-B\nxB\nFROM no\n\t\tB\nCOPY --from=tools /a /\n",
         ["debian", "tools"]),
        ("FROM debian\nCMD cat <<E\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("# check=skip=all\n# escape=`\nFROM debian\nRUN a `\n  FROM no\n", ["debian"]),
        ("# escape\v=`\nFROM debian\nRUN a `\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN\nRUN a \\", ["debian"]),
        ("FROM debian\nCOPY --chown=\u00e0 --from=tools /a /b\n", ["debian", "tools"]),
        ("FROM debian\nCOPY --chown=no --from= /a /b\n", ["debian"]),
        ("FROM debian\nRUN --mount='source=/a\\'b,from=tools,target=/x' y\n", ["debian", "tools"]),
        ("FROM debian\nRUN --mount=\"from=tools,\\\"target=/x\\\"\" y\n", ["debian", "tools"]),
    ],
)
def test_only_names_that_are_no_stage_come_from_outside(text: str, outside: list[str]) -> None:
    assert sorted(names(text)) == sorted(outside)


def test_a_target_needs_only_what_it_reaches() -> None:
    text = "FROM debian AS go\nFROM base AS c\nCOPY --from=tools /a /\nFROM c AS rust\n"
    assert names(text, "go") == ["debian"]
    assert names(text, "rust") == ["base", "tools"]
    assert parse(text).text_of(seen(text, "go").reach) == "FROM debian AS go\n"
    rest = "FROM base AS c\nCOPY --from=tools /a /\nFROM c AS rust\n\n"
    assert parse("ARG A\n" + text).text_of([2, 1]) == "ARG A\n" + rest
    assert names("FROM a AS b\nFROM c AS b\n", "b") == ["c"]


def test_no_stage_is_named_scratch() -> None:
    """BuildKit takes it for what a mount without from= comes from, and a cache begins as its files."""
    text = "FROM base AS {}\nRUN x\nFROM debian\nRUN --mount=type=cache,target=/c x\n"
    assert refused(text.format("Scratch")) == [1]
    assert refused(text.format("scratch-1")) == []


def test_a_number_counts_the_stages_before_it() -> None:
    """Another stage at the head makes another one of it, with nothing else changed in what a target reaches."""
    text = ("FROM debian AS a\nRUN x\nFROM debian AS b\nRUN y\n"
            "FROM scratch AS go\nCOPY --from=a /x /\nCOPY --from=b /x /\nCOPY --from=1 /y /\n")
    other = "FROM base\n" + text
    assert sorted(seen(text, "go").reach) == [0, 1, 2]
    assert sorted(seen(other, "go").reach) == [1, 2, 3]
    assert parse(text).text_of([0, 1, 2]) == text
    assert parse(other).text_of([1, 2, 3]) == other
    assert parse(text).text_of([0, 1]) == text[:text.index("FROM scratch")]


def test_a_from_stage_is_for_the_platform_that_its_flag_says_and_a_copied_one_for_the_target() -> None:
    text = "FROM --platform=$BUILDPLATFORM debian AS a\nCOPY --from=tools /x /\nFROM a AS b\nRUN x\n"
    found = seen(text + "FROM scratch\nCOPY --from=b / /\n")
    assert {(use.name, use.build) for use in found.outside} == {("debian", True), ("tools", False)}
    assert found.builds == (True, True, False)


PER_ARCH = "FROM static AS leaf-amd64\nFROM base AS leaf-arm64\nFROM leaf-${TARGETARCH}\n"


@pytest.mark.parametrize(
    ("text", "platform", "outside"),
    [
        (PER_ARCH, AMD64, ["static"]),
        (PER_ARCH, ARM64, ["base"]),
        (PER_ARCH, ARMV6, ["leaf-arm"]),
        ("FROM x$TARGETARCH$TARGETVARIANT\n", ARMV6, ["xarmv6"]),
        ("FROM x$TARGETARCH$TARGETVARIANT\n", I386, ["x386"]),
        ("FROM x$BUILDARCH\n", AMD64, ["xarm64"]),
        ("FROM static AS leaf\nFROM base AS leafarm\nFROM leaf${TARGETARCH#amd64}\n", AMD64, ["static"]),
        ("FROM static AS leaf\nFROM base AS leafarm\nFROM leaf${TARGETARCH#amd64}\n", ARMV7, ["base"]),
        ("ARG B=base\nFROM ${B}\n", AMD64, ["base"]),
        ("ARG B\nFROM ${B:-static}\n", AMD64, ["static"]),
        ("ARG B\nARG C=static\nFROM ${B:-${C}}\n", AMD64, ["static"]),
        ("ARG B\nFROM ${B-static}\n", AMD64, ["static"]),
        ("ARG A='$B' B=\"b\" C=$B-${TARGETOS}\nFROM $C\n", AMD64, ["b-linux"]),
        ("ARG TARGETARCH\nFROM x$TARGETARCH\n", ARM64, ["xarm64"]),
        ("ARG TARGETARCH=amd64\nFROM x$TARGETARCH\n", ARM64, ["xamd64"]),
        ("ARG A=${A:-one}\nARG A=$A-two\nFROM $A\n", AMD64, ["one-two"]),
        ("ARG SOURCE_DATE_EPOCH\nARG A=$SOURCE_DATE_EPOCH\nARG A=b\nFROM $A\n", AMD64, ["b"]),
        ("FROM x AS y\nARG A=base\nFROM ${A:-static}\n", AMD64, ["static"]),
        ("FROM st$TARGETSTAGE\n", AMD64, ["stdefault"]),
        ("FROM base AS unused\nFROM st$TARGETSTAGE AS Last\n", AMD64, ["stlast"]),
        ("# escape=`\nFROM `$x\\$TARGETARCH\n", AMD64, ["$x\\amd64"]),
        ("ARG A='$X' B=\\$X C=c\\ d D='e\\' E=e\nFROM x$A$B$C$E\n", AMD64, ["x$X$Xc de"]),
        ("FROM \"debian\"\n", AMD64, ["debian"]),
        ("ARG BUILDKIT_MULTI_PLATFORM\nFROM b$BUILDKIT_MULTI_PLATFORM\n", AMD64, ["b1"]),
    ],
)
def test_a_from_is_expanded_for_each_platform(text: str, platform: Platform, outside: list[str]) -> None:
    assert names(text, "", platform) == outside


def test_a_build_argument_comes_before_the_value_of_its_arg_and_only_where_there_is_one() -> None:
    assert names("ARG B=base\nFROM $B\n", B="static") == ["static"]
    assert names("ARG B=base\nFROM $B${C:-}\n", B="static", C="x") == ["static"]
    assert names("FROM st$TARGETSTAGE\n", "go") == names("FROM stgo\n", "go") == []
    assert seen("FROM st$TARGETSTAGE AS go\n", "go").bases[0].name == "stgo"


@pytest.mark.parametrize(
    ("word", "platform", "build", "is_build"),
    [
        ("$BUILDPLATFORM", ARM64, AMD64, True),
        ("${BUILDPLATFORM}", AMD64, AMD64, True),
        ("linux/$BUILDARCH", AMD64, AMD64, True),
        ("$TARGETPLATFORM", AMD64, AMD64, False),
        ("linux/${TARGETARCH}", AMD64, AMD64, False),
        ("linux/$TARGETARCH${TARGETVARIANT:+/$TARGETVARIANT}", ARMV6, AMD64, False),
        ("linux/amd64", ARM64, AMD64, True),
        ("linux/amd64", AMD64, ARM64, False),
        ("linux/amd64", AMD64, AMD64, False),
        ("linux/x86_64", ARM64, AMD64, True),
        ("arm64", ARM64, AMD64, False),
        ("linux/arm", ARMV7, AMD64, False),
        ("linux/arm", ARMV6, AMD64, None),
        ("linux/s390x", ARM64, AMD64, None),
        ("linux/$TARGETARCH/$TARGETVARIANT", ARM64, AMD64, None),
        ("linux", AMD64, AMD64, None),
        ("${X}", AMD64, AMD64, None),
        ("${X?}", AMD64, AMD64, None),
    ],
)
def test_a_platform_flag_is_that_which_builds_or_that_which_is_built_or_refused(
        word: str, platform: Platform, build: Platform, is_build: bool | None) -> None:
    found = seen(f"FROM --platform={word} debian\n", "", platform, build)
    assert [line for line, _why in found.refused] == ([1] if is_build is None else [])
    assert is_build is None or found.builds == (is_build,)


@pytest.mark.parametrize(
    ("text", "platform"),
    [("linux/arm64/v8", ARM64), ("aarch64", ARM64), ("LINUX/AMD64/v1", AMD64), ("linux/armhf", ARMV7),
     ("linux/armel", ARMV6), ("linux/arm/6", ARMV6), ("linux/i386", I386), ("windows/amd64", None),
     ("linux/i386/v1", I386), ("linux/x86-64", AMD64),
     ("linux/arm64/8", ARM64), ("linux/arm64/v8.0", ARM64), ("linux/arm/7", ARMV7),
     ("linux/amd64/v2", None), ("linux/arm/v7/x", None), ("", None), ("linux/", None)],
)
def test_platforms_are_read_as_containerd_reads_them(text: str, platform: Platform | None) -> None:
    assert platform_of(text) == platform


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# syntax=docker/dockerfile:1\nFROM debian\n", 1),
        ("FROM debian\nADD https://example.org/x /x\n", 2),
        ("FROM debian\nADD git@example.org:x.git /x\n", 2),
        ("FROM debian\nRUN --network=default true\n", 2),
        ("FROM debian\nRUN --net\\work=host true\n", 2),
        ("FROM debian\nRUN --security=insecure true\n", 2),
        ("FROM --platform=linux/s390x debian\n", 1),
        ("RUN true\n", 1),
        ("#!/bin/x\n# syntax=docker/dockerfile:1\nFROM debian\n", 2),
        ("// syntax=docker/dockerfile:1\nFROM debian\n", 1),
        ("# escape=x\nFROM debian\n", 1),
        ("# escape=`\n# escape=`\nFROM debian\n", 2),
        ("FROM debian\nADD ${URL} /x\n", 2),
        ("FROM debian\nADD user@example.org:x.git /x\n", 2),
        ("FROM debian\nONBUILD RUN true\n", 2),
        ("FROM debian\nRUN <<EOF\ntrue\n", 2),
        ("FROM debian\nRUN --mount=type=bind,target=\\\"x true\n", 2),
        ("FROM base AS debian\nRUN true\nFROM scratch\nCOPY --from=debian / /\nCOPY --from=base / /\n"
         "FROM debian AS base\n", 6),
        ("FROM a b\n", 1),
        ("FROM a AS 1b\n", 1),
        ("FROM a AS b-\n", 1),
        ("FROM scratch\nFROM $NONE\n", 2),
        ("FROM ${A?no}\n", 1),
        ("ARG X\n\nFROM x${A%\n", 3),
        ("ARG A=${B:?no}\nFROM scratch\n", 1),
        ("ARG SOURCE_DATE_EPOCH\nARG A=$SOURCE_DATE_EPOCH\nFROM x$A\n", 3),
        ("FROM scratch\nCOPY --from=x$TARGETARCH /a /b\n", 2),
        ("FROM scratch\nRUN --mount=from=${X},target=/a y\n", 2),
        ("FROM scratch\nCOPY --from=1 /a /b\n", 2),
        ("FROM scratch\nCOPY --from=" + "1" * 5000 + " /a /b\n", 2),
        ("FROM scratch\nCOPY --from=${ /a /b\n", 2),
        ("FROM\n", 1),
        ("FROM scratch\nCOPY --from=0 /a /b\n", 2),
        ("FROM scratch\nCOPY --from=b /a /b\nFROM scratch AS b\nFROM scratch\nCOPY --from=0 / /\n", 2),
        ("FROM X$TARGETARCH AS unused\nFROM scratch\n", 1),
        ("FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /\nFROM scratch\n", 2),
        ("FROM scratch AS a\nCOPY --from=a / /\nFROM scratch\n", 2),
    ],
)
def test_what_no_hermetic_build_can_have_is_refused_with_its_line(text: str, line: int) -> None:
    assert refused(text) == [line]


@pytest.mark.parametrize(
    "text",
    [
        "ARG SOURCE_DATE_EPOCH\nARG A=$SOURCE_DATE_EPOCH\nFROM debian\n",
        "FROM static\nCOPY --from=b /a /a\nFROM scratch AS b\nFROM static\nCOPY --from=b /a /a\n",
        "FROM leaf-$TARGETARCH AS unused\nFROM scratch\n",
        "ARG A=x\n" + "ARG A=$A$A\n" * 60 + "FROM debian\n",
        "# escape=\\\nFROM debian\nADD a.tar /x\nCOPY $X /y\n",
        "FROM debian\nRUN --network=none --security=sandbox true\n",
        "FROM registry.example:5000/a/b:1@sha256:aa AS unused\nFROM scratch\n",
    ],
)
def test_what_nothing_needs_is_not_refused(text: str) -> None:
    assert refused(text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM --platform=linux/s390x a\n", "--platform=linux/s390x: a stage must be for"),
        ("FROM --platform=linux/$BUILDOS a\n", "--platform=linux/$BUILDOS, here linux/linux: a stage must be for"),
        ("FROM --platform=$X a\n", "--platform=$X, here nothing: a stage must be for"),
        ("FROM X$TARGETARCH AS unused\nFROM a\n", "'Xamd64' (FROM X$TARGETARCH) is not a valid image name"),
        ("FROM X AS unused\nFROM a\n", "'X' is not a valid image name"),
        ("FROM a AS unused\nCOPY --from=X / /\nFROM a\n", "'X' is not a valid image name"),
    ],
)
def test_a_message_shows_what_stands_there_and_what_it_becomes(text: str, said: str) -> None:
    assert [why[: len(said)] for _line, why in seen(text).refused] == [said]


def test_a_build_argument_may_be_long_and_not_too_long() -> None:
    assert not seen("ARG B\nFROM $B\n", B="b" * 65_536).refused
    assert seen("ARG B\nFROM $B\n", B="b" * 65_537).refused


def test_all_mistakes_are_told_in_the_order_of_their_lines() -> None:
    text = "FROM a b\nRUN --mount=\\\"x --network=host --security=insecure true\nONBUILD RUN true\nFROM a\nFROM b c\n"
    assert [line for line, _why in parse(text).refused] == [1, 2, 2, 2, 3, 5]
    text = "FROM a AS Z\nFROM ${A?no}\n" + "FROM $NONE\n" * 20
    assert [line for line, _why in seen(text).refused] == list(range(2, 23))


def test_a_name_that_cannot_be_worked_out_is_refused_where_it_is_needed() -> None:
    assert refused("ARG A=x\n" + "ARG A=$A$A\n" * 60 + "FROM $A\n") == [62]


@pytest.mark.parametrize(
    ("text", "so"),
    [
        ("FROM --platform=$BUILDPLATFORM debian AS a\nFROM --platform=${TARGETPLATFORM} b\nARG C=$TARGETARCH\n", False),
        ("ARG A=b\nARG TARGETPLATFORM\nFROM c\n", False),
        ("FROM --platform=${BUILDPLATFORM} a\nFROM --platform=$TARGETPLATFORM b\n", False),
        ("ARG A=b\nFROM $A\n", True),
        ("ARG A=${B?}\nFROM a\n", True),
        ("ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM a\n", True),
        ("FROM --platform=linux/amd64 a\n", True),
    ],
)
def test_a_file_is_evaluated_for_each_platform_only_where_that_could_matter(text: str, so: bool) -> None:
    assert varies(parse(text)) is so


def test_what_runs_code_of_its_own_platform_is_built_by_such_machines_too() -> None:
    text = "FROM debian AS x-amd64\nFROM static AS x-s390x\nFROM x-$BUILDARCH\n"
    assert list(views(parse(text), "", [S390X], [AMD64], {})[S390X]) == [AMD64]
    found = views(parse(text + "RUN true\n"), "", [S390X], [AMD64], {})[S390X]
    assert {machine: one.base for machine, one in found.items()} == {AMD64: "debian", S390X: "static"}


def test_paths_that_are_taken_from_a_context_are_known() -> None:
    steps = {
        "COPY --from=inputs /a /b/c /dest/": ("/a", "/b/c"),
        'COPY --from=inputs ["/d", "/x y"]': ("/d",),
        'COPY --from=inputs [1, "/x"]': ("[1,",),
        'COPY --from=inputs "/a" /b\\c <<E /dest\nE': ("/a", "/bc"),
        "RUN --mount=from=inputs,src=/e,target=/m true": ("/e",),
        "RUN --mount=from=inputs,source=/f,target=/m true": ("/f",),
        "RUN --mount=from=inputs,target=/m true": ("/",),
        """RUN --mount='from=inputs,"source=/g""h"' true""": ('/g"h',),
    }
    found = seen("FROM debian\n" + "".join(step + "\n" for step in steps))
    assert [use.paths for use in found.outside if use.name == "inputs"] == list(steps.values())


def test_the_arguments_that_a_file_takes_are_known() -> None:
    assert parse("ARG A B=1\nFROM x\nARG C='d e' F\nRUN <<E\nARG G\nE\n").taken == {"A", "B", "C", "F"}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("FROM debian\nRUN echo \0\n", 2, "a NUL byte"),
        ("FROM debian\nRUN a\rb\n", 2, "a carriage return inside a line"),
        ("FROM debian\nCOPPY a /a\n", 2, "COPPY is not an instruction (did you mean 'COPY'?)"),
        ('{"syntax": "docker/dockerfile:1"}\nFROM debian\n', 1, "is not an instruction"),
        ("FROM debian\nCOPY --form=tools /a /a\n", 2, "COPY --form: there is no such flag (did you mean 'from'?)"),
        ("FROM debian\nCOPY --FROM=tools /a /a\n", 2, "COPY --FROM: there is no such flag"),
        ("FROM --plattform=$BUILDPLATFORM debian\n", 1, "there is no such flag (did you mean 'platform'?)"),
        ("LABEL a=b\nFROM debian\n", 1, "LABEL before the first FROM"),
        ("FROM debian\nRUN --mount=type=secret,id=x cat /run/secrets/x\n", 2, "the farm gives a build no secrets"),
        ("FROM debian\nRUN --mount=id=x,type=SSH ssh x\n", 2, "the farm gives a build no ssh agent"),
        ("FROM debian\nRUN --device=vendor.com/x=all true\n", 2, "build steps have no devices"),
        ("FROM debian\nARG S=s\nADD http$S://example.org/x /\n", 3, "a build step has no network"),
        ("FROM debian\nADD git+https://example.org/x /\n", 2, "a build step has no network"),
        ("FROM debian\n" + 600 * "FROM a$TARGETARCH\n", 501, "more than 500 stages"),
        ("".join(f"ARG A{n}=$A{n - 1}\n" for n in range(1001)) + "FROM debian\n", 1001, "1000 arguments"),
        ("FROM debian\n" + 6000 * "RUN <<E\nE\n", 10000, "more than 5000 instructions"),
        ("FROM debian\nRUN " + 600 * "--mount=target=/x " + "true\n", 2, "RUN has 600 flags"),
    ],
)
def test_what_a_build_would_refuse_or_leave_out_is_told_by_line(text: str, line: int, said: str) -> None:
    (found,) = parse(text).refused
    assert found[0] == line
    assert said in found[1]


def test_the_last_of_two_sources_of_a_mount_counts() -> None:
    (use,) = parse("FROM debian\nRUN --mount=from=inputs,source=/a,src=/b,target=/x true\n").stages[0].takes
    assert use.paths == ("/b",)


KNOWN = """# all that BuildKit's frontend knows
ARG A=1
FROM --platform=$BUILDPLATFORM scratch AS x
MAINTAINER somebody
LABEL a=b
ENV B=c
WORKDIR /w
SHELL ["/bin/sh", "-c"]
ADD --checksum=sha256:1 --chmod=755 --chown=1:1 --exclude=a --keep-git-dir=true --link --unpack=true b /
COPY --chmod=755 --chown=1:1 --exclude=a --link --parents b /
RUN --mount=type=tmpfs,target=/t true
EXPOSE 80
VOLUME /v
USER 1
STOPSIGNAL TERM
HEALTHCHECK --interval=1s --timeout=1s --start-period=1s --start-interval=1s --retries=1 CMD ["/x"]
ONBUILD RUN true
ENTRYPOINT ["/x"]
CMD ["y"]
FROM scratch
COPY --from=x /a /
"""


def test_every_instruction_and_flag_of_buildkits_is_known() -> None:
    unknown = ("is not an instruction", "no such flag")
    assert [reason for _line, reason in parse(KNOWN).refused if any(words in reason for words in unknown)] == []
    made_up = KNOWN.replace("EXPOSE", "EXPOSES").replace("--retries", "--retrys")
    assert [line for line, reason in parse(made_up).refused if any(words in reason for words in unknown)] == [12, 16]
