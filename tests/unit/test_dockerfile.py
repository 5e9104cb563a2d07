"""Names in Dockerfiles."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import expand, parse


def names(text: str, target: str = "") -> list[str]:
    return [use.name for use in parse(text).outside(target)]


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ("FROM debian\n", ["debian"]),
        ("from debian as x\nFROM x\n", ["debian"]),
        ("FROM debian AS debian\nFROM debian\n", ["debian"]),
        ("ARG B=base\nFROM ${B}\n", ["base"]),
        ("ARG B\nFROM ${B:-static}\n", ["static"]),
        ("FROM scratch\nCOPY --from=tools /a /b\n", ["tools"]),
        ("FROM scratch AS a\nFROM scratch\nCOPY --from=0 /a /b\n", []),
        ("FROM scratch AS a\nFROM scratch\nCOPY --from=A /a /b\n", []),
        ("FROM scratch AS unused\nCOPY --from=tools /a /\nFROM debian\n", ["debian"]),
        ("FROM debian\nRUN --mount=type=bind,from=inputs,source=/x cat <<E\nFROM no\nCOPY --from=no / /\nE\n", ["debian", "inputs"]),
        ("FROM debian\nRUN echo $((1<<3))\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN a \\\n  # a comment in between\n\n  b\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("# escape=`\nFROM debian\nRUN a `\n  b\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN echo 'a \\\\'\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ('FROM debian\nRUN echo "COPY --from=no / /"\n', ["debian"]),
        ("FROM debian\nRUN cat <<END-A\nFROM no\nEND-A\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN echo a\u2028COPY --from=no / /\nCOPY --from=tools /a /\n", ["debian", "tools"]),
        ("FROM debian\nRUN <<A cat && cat <<-B\na\nA\nFROM no\nB\nCOPY --from=tools /a /\n", ["debian", "tools"]),
    ],
)
def test_only_names_that_are_no_stage_come_from_outside(text: str, outside: list[str]) -> None:
    assert sorted(names(text)) == sorted(outside)


def test_a_target_needs_only_what_it_reaches() -> None:
    text = "FROM debian AS go\nFROM base AS c\nCOPY --from=tools /a /\nFROM c AS rust\n"
    assert names(text, "go") == ["debian"]
    assert names(text, "rust") == ["base", "tools"]
    assert "base" not in parse(text).text_of("go")


def test_a_from_stage_is_for_the_platform_that_its_flag_says_and_a_copied_one_for_the_target() -> None:
    parsed = parse("FROM --platform=$BUILDPLATFORM debian AS a\nCOPY --from=tools /x /\nFROM a AS b\nRUN x\nFROM scratch\nCOPY --from=b / /\n")
    assert [(use.name, use.build) for use in parsed.outside()] == [("debian", True), ("tools", False)]
    assert [stage.build for stage in parsed.stages] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# syntax=docker/dockerfile:1\nFROM debian\n", 1),
        ("FROM debian\nADD https://example.org/x /x\n", 2),
        ("FROM debian\nADD git@example.org:x.git /x\n", 2),
        ("FROM debian\nRUN --network=default true\n", 2),
        ("FROM debian\nRUN --security=insecure true\n", 2),
        ("FROM --platform=linux/amd64 debian\n", 1),
        ("RUN true\n", 1),
        ("#!/bin/x\n# syntax=docker/dockerfile:1\nFROM debian\n", 2),
        ("// syntax=docker/dockerfile:1\nFROM debian\n", 1),
        ("FROM debian\nADD ${URL} /x\n", 2),
        ("FROM debian\nADD user@example.org:x.git /x\n", 2),
        ("FROM debian\nONBUILD RUN true\n", 2),
        ("FROM debian\nRUN <<EOF\ntrue\n", 2),
        ("FROM base AS debian\nRUN true\nFROM scratch\nCOPY --from=debian / /\nCOPY --from=base / /\nFROM debian AS base\n", 6),
    ],
)
def test_what_no_hermetic_build_can_have_is_refused_with_its_line(text: str, line: int) -> None:
    assert [number for number, _ in parse(text).refused] == [line]


def test_paths_that_are_taken_from_a_context_are_known() -> None:
    parsed = parse('FROM debian\nCOPY --from=inputs /a /b/c /dest/\nCOPY --from=inputs ["/d", "/x y"]\nRUN --mount=from=inputs,src=/e,target=/m true\n')
    assert [use.paths for use in parsed.outside() if use.name == "inputs"] == [("/a", "/b/c"), ("/d",), ("/e",)]


def test_arguments_expand_as_in_a_shell() -> None:
    assert expand("$a-${b}-${c:-d}-${a:+e}", {"a": "1", "b": "2"}) == "1-2-d-e"
