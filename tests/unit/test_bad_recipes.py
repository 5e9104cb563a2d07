"""Whatever a person writes into a catalog, the farm says what is wrong with it, by file and line, or takes all of it.

The images of this catalog are changed at random, as people get things wrong: see mutations.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import OWN
from hypothesis import given
from hypothesis import strategies as st

from . import mutations
from .mutations import properties
from .one_image import IMAGES, Bench, plain

RECIPE_KEYS = ["description", "title", "home", "license", "version", "inputs", "platforms", "suites", "targets", "args",
               "contract", "except", "go", "cargo", "npm", "pypi", "git", "url", "packages", "image", "maven", "for",
               "package", "ref", "submodules", "essential", "dependencies", "fallback", "command", "environment",
               "user",
               "ports", "health", "metrics", "volumes", "tmpfs", "multicast", "answers", "refuses", "exceptions",
               "http",
               "tcp", "dns", "status", "within", "method", "body", "says", "again", "base", "images", "vendor",
               "source",
               "build_platforms", "compression", "linux/amd64", "PATH", "capabilities", "privileges"]
WORDS = [  # of a Dockerfile
    "FROM", "FROM scratch", "FROM debian", "FROM nothing", "FROM debian AS debian", "FROM x:latest",
    "FROM $BUILDPLATFORM",
    "FROM ${TARGETARCH:-debian}", "FROM --platform=$BUILDPLATFORM debian AS x", "FROM --platform=linux/mips debian",
    "FROM --platform=$TARGETPLATFORM debian", "FROM --platform= debian", "FROM --platform debian", "FROM debian AS",
    "FROM a b c d",
    "FROM --x=y debian", "from debian as y", "FROM debian AS 0x", "FROM debian AS inputs", "FROM inputs",
    "FROM build-inputs AS z",
    "FROM unpacked-x", "FROM docker.io/library/debian@sha256:" + "a" * 64, "ARG", "ARG x", "ARG x=y",
    "ARG TARGETARCH=x", "ARG x=${x}",
    "ARG a=$b b=$a", "ARG 'x", "ARG =x", "FROM ${x:?no}", "FROM ${x#a*}", "FROM ${x/a/b}",
    "FROM $" + "{a:-" * 50 + "}" * 50,
    "COPY", "COPY a", "COPY a b", "COPY --from=inputs / /", "COPY --from=inputs /x /",
    "COPY --from=inputs /registry/../x /", "COPY --from=0 a b",
    "COPY --from=99 a b", "COPY --from=-1 a b", "COPY --from=\u0662 a b", "COPY --from=" + "9" * 5000 + " a b",
    "COPY --from= a b", "COPY --from a b",
    'COPY ["a", "b"]', 'COPY ["a", 1]', 'COPY ["a"', "COPY [" + "[" * 5000, "COPY <<EOF /x", "COPY <<EOF <<EOF /x",
    "COPY <<'E O F' /x", "COPY <<- /x",
    "ADD http://x/y /", "ADD --checksum=sha256:x http://x/y /", "ADD git@x:y /", "ADD $x /", "RUN", "RUN true",
    "RUN <<EOF", "RUN <<-'EOF' cat\nx\nEOF",
    "RUN --network=host x", "RUN --security=insecure x", "RUN --device=x y", "RUN --mount=type=secret,id=x y",
    "RUN --mount=type=bind,from=inputs,source=/x y",
    "RUN --mount=type=bind,from=inputs y", 'RUN --mount="a y', 'RUN --mount=type=bind,"from=inputs",source=x y',
    "RUN --mount=,,, y", "RUN --mount y",
    "RUN --mount=type=cache,from=y,from=z x", "RUN [\"a\"", "ONBUILD RUN x", "ONBUILD", "CMD", "CMD []", 'CMD ["x"]',
    "CMD {", "ENTRYPOINT [1]", "HEALTHCHECK",
    "HEALTHCHECK NONE", "HEALTHCHECK CMD", "HEALTHCHECK --x CMD y", "EXPOSE", "EXPOSE x", "EXPOSE 1-99999999999",
    "EXPOSE 1-65535", "EXPOSE 99999/tcp",
    "EXPOSE " + "9" * 5000, "EXPOSE 1/2/3", "EXPOSE \u0663", "EXPOSE 2-1", "USER", "USER root", "USER 0:0",
    "USER " + "9" * 5000, "USER \u0663", "VOLUME", "VOLUME []",
    "VOLUME [1]", 'VOLUME ["/a", "/b"]', "VOLUME 'x", "MAINTAINER x", "SHELL", "STOPSIGNAL", "LABEL", "WORKDIR",
    "ENV", "NOTHING x", "FORM debian", "\\", "RUN a \\",
    "# syntax=docker/dockerfile:1", "# escape=`", "# escape=x", "# check=skip=all", "#!/bin/sh", "//syntax=x",
    "\u2028FROM x", "RUN a\x00b", "<<EOF", "EOF",
]
USUAL = [("platforms", "all"), ("method", "GET"), ("body", ""), ("status", 200), ("says", ""), ("again", False),
         ("multicast", False), ("package", "."), ("for", "target"), ("submodules", False), ("dependencies", True),
         ("essential", False), ("metrics", ""), ("http", ""),
         ("platforms", ["linux/amd64", "linux/arm64"])]  # of an image with targets: those that builds run on
PATTERNS = ["*", "**", "!*", "!", "/", "a/b", "!a/b", "**/x", "[", "[]", "[^]", "[a-", "\\", "a\\", "#", " ", "..",
            "../x", "!../x", "a//b", "[z-a]", "x/**/y/**/z",
            "**/" * 300 + "x", "?" * 300, "*" * 300, "image.yml", "Dockerfile", "!Dockerfile", "registry",
            "!registry/go.mod", "{a,b}", "\u2028", "a b"]
OWN_FILES = ["garbage", "}{", "[[package]]", "module x", "require (", 'name = "x', "{", "[]", "null",
             '{"lockfileVersion": 3}', '{"packages": []}',
             '{"packages": {"": 1}}', '{"packages": {"node_modules/a": null}}', "version = 4", 'version = "x"',
             "[" * 5000, '{"a":' * 5000, "[package", "a.b.c = 1", "x = 2026-11-30",
             "x = " + "9" * 5000, '{"lockfileVersion": ' + "9" * 5000 + "}", "[[package]]\nname = 1", "package = 1",
             "require a b c", "replace a => ./b", "go 99"]


def _own_programs(image: str) -> list[str]:
    """The files of an image's own programs that say what these need."""
    names = ("go.mod", "go.sum", "Cargo.toml", "Cargo.lock", "package.json", "package-lock.json")
    paths = [path.relative_to(OWN / image) for name in names for path in (OWN / image).rglob(name)]
    return sorted(str(path) for path in paths if path.parts[0] not in ("go", "npm"))


OWN_PROGRAMS = {image: _own_programs(image) for image in IMAGES if _own_programs(image)}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bad") / "images")


@pytest.mark.parametrize("name", IMAGES)
def test_each_image_is_right_before_it_is_changed(bench: Bench, name: str) -> None:
    bench.take(name)
    assert bench.said() == []


def meant(value: Any) -> Any:
    """Without what a recipe may as well leave out."""
    if not isinstance(value, dict):
        return [meant(each) for each in value] if isinstance(value, list) else value
    return {key: meant(each) for key, each in value.items() if (key, each) not in USUAL and each not in ({}, [])}


@properties
@given(data=st.data())
def test_a_recipe_that_says_something_else_is_refused_or_is_another_recipe(bench: Bench, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(IMAGES))
    folder = bench.take(name)
    before = plain(folder / "image.yml")
    after = data.draw(mutations.mutated(before, RECIPE_KEYS))
    bench.write(f"{name}/image.yml", mutations.yaml_of(before).encode())
    first = bench.load()[name]
    bench.write(f"{name}/image.yml", mutations.yaml_of(after).encode("utf-8", "surrogatepass"))
    if not bench.said():
        assert meant(after) == meant(before) or bench.load()[name] != first, "it was taken, but changed nothing"


@properties
@given(data=st.data())
def test_a_recipe_with_other_lines_is_refused_by_line(bench: Bench, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(IMAGES))
    text = (bench.take(name) / "image.yml").read_text(encoding="utf-8")
    bench.write(f"{name}/image.yml", data.draw(mutations.torn(text, mutations.FRAGMENTS)))
    bench.said()


@properties
@given(data=st.data())
def test_a_dockerfile_with_other_lines_is_refused_by_line(bench: Bench, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(IMAGES))
    text = (bench.take(name) / "Dockerfile").read_text(encoding="utf-8")
    bench.write(f"{name}/Dockerfile", data.draw(mutations.torn(text, WORDS)))
    bench.said()


@properties
@given(data=st.data())
def test_defaults_that_say_something_else_are_refused_by_line(bench: Bench, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(IMAGES))
    before = plain(bench.take(name).parent / "defaults.yml")
    after = data.draw(mutations.mutated(before, RECIPE_KEYS))
    bench.write("defaults.yml", mutations.yaml_of(after).encode("utf-8", "surrogatepass"))
    bench.said()


@properties
@given(data=st.data())
def test_an_ignore_file_is_refused_by_line(bench: Bench, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(IMAGES))
    bench.take(name)
    text = "\n".join(data.draw(st.lists(st.sampled_from(PATTERNS), max_size=5)))
    bench.write(f"{name}/.dockerignore", data.draw(mutations.torn(text, PATTERNS)))
    bench.said()


@properties
@given(data=st.data())
def test_files_of_a_program_of_ones_own_are_refused_by_line(bench: Bench, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(OWN_PROGRAMS)))
    folder = bench.take(name)
    path = data.draw(st.sampled_from(OWN_PROGRAMS[name]))
    text = (folder / path).read_text(encoding="utf-8")
    bench.write(f"{name}/{path}", data.draw(mutations.torn(text, OWN_FILES)))
    bench.said(locks=True)
