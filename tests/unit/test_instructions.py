"""The shape of a Dockerfile's instructions: what BuildKit refuses in one before anything is built."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import parse

from .conftest import Catalog

REFUSED = [  # tests/integration/test_names.py holds both tables against BuildKit
    ("COPY a", "COPY a: it needs what it copies and where to"),
    ('ADD ["a"]', 'ADD ["a"]: it needs what it copies and where to'),
    ("COPY a <<E\nE", "the last word says where to, which cannot be a heredoc"),
    ("SHELL /bin/bash -c", "SHELL /bin/bash -c: it must be a JSON array"),
    ("SHELL []", "SHELL []: it must be a JSON array"),
    ("HEALTHCHECK /health", "HEALTHCHECK /health: it must be NONE, or CMD and a command"),
    ("HEALTHCHECK NONE x", "it must be NONE, or CMD and a command"),
    ("HEALTHCHECK --interval=1s CMD", "it must be NONE, or CMD and a command"),
    ("HEALTHCHECK CMD []", "it must be NONE, or CMD and a command"),
    ("HEALTHCHECK --interval=30 CMD x", "--interval=30: it must be a time with its unit"),
    ("HEALTHCHECK --retries=3s CMD x", "--retries=3s: it must be a whole number"),
    ("HEALTHCHECK --timeout CMD x", "HEALTHCHECK --timeout: it has no value: write --timeout=VALUE"),
    ("HEALTHCHECK --interval=$I CMD x", "--interval=$I: it must be a time with its unit"),
    ("HEALTHCHECK --retries=${R:-3} CMD x", "--retries=${R:-3}: it must be a whole number"),
    *((step, "a build step has no network; make it an input (url)") for step in (
        "COPY https://x.org/a /a", "COPY git@x.org:a/b.git /a", 'COPY ["http://x.org/a", "/a"]',
        "COPY --from=x https://x.org/a /a")),
    *((word, f"{word} has no words") for word in (
        "ADD", "ARG", "COPY", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "SHELL", "STOPSIGNAL", "USER",
        "VOLUME", "WORKDIR")),
    ("RUN []", "RUN []: the list is empty"), ("VOLUME []", "VOLUME []: the list is empty"),
    *((step, "a JSON array may have only strings") for step in (
        "CMD [1]", "RUN [true]", 'ENTRYPOINT ["a", ["b"]]', 'COPY ["a", 1]', 'VOLUME ["/a", null]', "SHELL [{}]",
        "HEALTHCHECK CMD [1]")),
    ("COPY --link --link a /b", "COPY has --link more than once"),
    ("RUN --network=none --network=none x", "RUN has --network more than once"),
    ("COPY --link=yes a /b", "COPY --link=yes: it must be true or false"),
    ("ADD --unpack=1 a /b", "ADD --unpack=1: it must be true or false"),
    ("COPY --exclude a /b", "COPY --exclude: it has no value"),
    ("COPY --link --chown=me:me a /b", "with --link, nobody looks up names"),
    ("ADD --checksum=sha256:a a /b", "it is for what comes from the network, which a build step has not"),
    *((f"COPY --chmod={mode} a /b", f"COPY --chmod={mode}: it must be an octal number up to 07777") for mode in (
        "999", "10000", "0o755", "755a", "rwx", "u+q", "-1")),
    ("ENV A", "ENV A: it has no value; write A=VALUE"),
    ("ENV =b", "ENV =b: there is no name before the ="),
    ("ARG A = b", "ARG =: there is no name before the ="),
    ("ENV A=b c", "ENV: 'c' has no =; write NAME=VALUE"),
    ("LABEL a=b # c", "LABEL: '#' has no =; write NAME=VALUE"),
    *((f"{step}${{X", "${X without }") for step in (
        "ENV A=", "ENV A ", "LABEL a=", "ARG A=", "USER ", "WORKDIR /", "EXPOSE ", "VOLUME /", "COPY a /", "ADD a /",
        "STOPSIGNAL ")),
    ("ENV A='b", "ENV A='b: a ' is not closed"),
    ("COPY --chmod=${X a /b", "${X without }"),
    ('COPY ["a", "/${X"]', "${X without }"),
    ('VOLUME ["/${X"]', "${X without }"),
    *((f"EXPOSE {port}", f"EXPOSE {port}: it must be a port from 0 to 65535") for port in (
        "65536", "80-70", "http", "80/udb", "80,443", "80:", "80-", "9" * 20)),
    ('VOLUME [" "]', "the name of a folder is empty"),
    ('VOLUME ""', "the name of a folder is empty"),
    *((f"STOPSIGNAL {name}", f"STOPSIGNAL {name}: it must be the name or the number of a signal") for name in (
        "SIGFOO", "0", "SIGTERM SIGKILL", "RTMIN+16", "SIGSIGTERM")),
    *((f"RUN --mount={mount} x", said) for mount, said in (
        ("target", "target has no value: write target=VALUE"),
        ("id,target=/x", "id has no value"),
        ("target=/", "target is the root of the file system"),
        ("dst=${X", "dst=${X: ${X without }"),
        ("target=/x,ro=yes", "ro is 'yes', it must be true or false"),
        ("target=/x,required", "required is for mounts of the type secret or ssh, and the type is bind here"),
        ("target=/x,size=1m", "size is for mounts of the type tmpfs, and the type is bind here"),
        ("size=1m,type=tmpfs,target=/x", "size is for mounts of the type tmpfs, and the type is bind here"),
        ("type=tmpfs,target=/x,size=big", "size is 'big', it must be a size, as 64m"),
        ("type=tmpfs,target=/x,mode=0755", "mode is for mounts of the type cache, and the type is tmpfs here"),
        ("type=cache,target=/x,mode=0755,type=bind", "mode is for mounts of the type cache, and the type is bind here"),
        ("target=/x,sharing=locked", "sharing is for mounts of the type cache"),
        ("type=cache,target=/x,sharing=some", "sharing is 'some', it must be shared, private or locked"),
        ("type=cache,target=/x,mode=9", "mode is '9', it must be an octal number"),
        ("type=cache,target=/x,uid=root", "uid is 'root', it must be a number"),
    )),
]


@pytest.mark.parametrize(("step", "said"), REFUSED)
def test_what_a_build_would_refuse_is_told_once_with_its_line(step: str, said: str) -> None:
    ((line, reason),) = parse(f"FROM debian\n{step}\n").refused
    assert line == 2
    assert said in reason


TAKEN = [
    "HEALTHCHECK NONE", "healthcheck none", "HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=0 cmd x",
    "HEALTHCHECK --start-period=0 CMD x", "CMD", "ENTRYPOINT", "ENTRYPOINT []", "COPY <<a /b\na", 'COPY ["a", "b"]',
    "USER a b", "WORKDIR /a b", "SHELL [\"a\"]", "CMD [1, x]", "CMD [NaN]", 'CMD {"a": 1}', "RUN", 'RUN [""]',
    "COPY --link=TRUE --parents=false a /b", "COPY --link --chown=1:2 a /b", "COPY --chown=a:b a /b",
    "COPY --exclude=a --exclude=${X a /b", *(f"COPY --chmod={mode} a /b" for mode in (
        "0", "00755", "07777", "u+x", "a+rX,go-w", "+x", "u=rwx,g=u,o=", "$X")),
    "COPY $A /b", "COPY ${A}.tar /b", "ADD ./$A /b",
    "ENV A b c", "ENV A= B=c", "ENV 'A B'=c", "ENV A=b\\ c", "LABEL a='b=c' d=\"e f\"", "ENV A b=c", "ENV A = b",
    "ENV $A=${B:-c}",
    "ARG A B=c", "ARG ''", "ARG ${A}=b", "ARG A=\"$\"", "ENV A=${X:-'}'}",
    "EXPOSE 80 443/udp 53/SCTP 0 00080 +80 8080:80 127.0.0.1:1:2 [::1]:80:80 90-95/tcp 80/ '81' 1-65535 $X 80/$X",
    "VOLUME $X/a /b:/c", *(f"STOPSIGNAL {name}" for name in (
        "9", "65", "-1", "sigterm", "TERM", "SIGRTMIN+15", "RTMAX-14", "'SIGINT'")),
    *(f"RUN --mount={mount} x" for mount in (
        "target=/x/..", "RO,TARGET=/x", "target=/x,ro=T,rw=0", "type=CACHE,target=/x,sharing=LOCKED",
        "type=cache,target=/x,mode=1777,uid=0,gid=4294967295", "type=cache,target=/c$X,id=$Y,uid=0",
        "type=tmpfs,target=/x,size=1.5GiB", "type=tmpfs,target=/x,size=.5m", "type=tmpfs,target=/x,size=0",
        "sharing=locked,mode=0755,uid=1,gid=1,target=/x,type=cache", "target=/x,env=a",
        "type=tmpfs,type=bind,target=/x")),
]


@pytest.mark.parametrize("step", TAKEN)
def test_what_a_build_would_take_is_taken(step: str) -> None:
    assert parse(f"FROM debian\n{step}\n").refused == ()


@pytest.mark.parametrize("source", ["$A", "${A}.tar"])
def test_a_variable_that_may_be_a_url_is_refused_with_a_way_out(source: str) -> None:
    ((line, reason),) = parse(f"FROM debian\nADD {source} /b\n").refused
    assert line == 2 and f"ADD {source}: it may be a URL" in reason and "begin with ./" in reason


@pytest.mark.parametrize("said", ["bogus", "error", "error=yes", "SKIP=all", "skip=a;", "skip=a; error=true", "skip="])
def test_options_of_the_check_directive_that_there_are_not_are_told(said: str) -> None:
    ((line, reason),) = parse(f"# check={said}\nFROM debian\n").refused
    assert (line, reason[: len(said) + 10]) == (1, f"`# check={said}`")


@pytest.mark.parametrize("said", ["skip=all", "error=true", "skip=A,B;error=1", "experimental=all"])
def test_options_of_the_check_directive_are_taken(said: str) -> None:
    assert parse(f"# check={said}\nFROM debian\n").refused == ()


@pytest.mark.parametrize("step", [
    "CMD ['a', 'b']", 'CMD ["a",]', 'ENTRYPOINT ["a" "b"]', "CMD [\u201ca\u201d]", "RUN ['x']", "VOLUME ['/data']",
    "HEALTHCHECK CMD ['a']", 'CMD ["a"', 'CMD ["a"] # why', "COPY ['a', '/b']",
])
def test_what_only_looks_like_an_array_is_told(step: str) -> None:
    """BuildKit takes it for a command of a shell, which never has it."""
    ((line, reason),) = parse(f"FROM debian\n{step}\n").refused
    assert line == 2 and f"{step}: this is no JSON array" in reason


@pytest.mark.parametrize("step", ["RUN [ -f x ] || true", "CMD [[ a == b ]]", 'RUN [ "a" = "b" ]', "COPY [ab]c /d"])
def test_a_bracket_that_begins_no_array_is_none(step: str) -> None:
    assert parse(f"FROM debian\n{step}\n").refused == ()


def test_an_instruction_with_several_mistakes_is_told_all_of_them() -> None:
    step = "COPY --form=a --chmod=9 --link=x --chown= a /${X"
    assert sorted(reason.split(":")[0] for _line, reason in parse(f"FROM a\n{step}\n").refused) == [
        "COPY --chmod=9", "COPY --chown", "COPY --form", "COPY --link=x", "COPY /${X"]


def test_what_an_argument_before_the_first_from_says_is_told_once(empty: Catalog) -> None:
    empty.image("a", "ARG A=${B\nFROM scratch\n")
    assert [problem for problem in empty.problems() if "ARG" in problem] == [
        "images/a/Dockerfile:1: ARG A=${B: ${B without }"]


def test_what_a_mount_takes_is_looked_for_before_the_build(empty: Catalog) -> None:
    empty.write("a/there/file", "x")
    empty.image("a", "FROM scratch\nRUN --mount=source=there,target=/x --mount=src=gone,target=/y x\n"
                     "RUN --mount=type=cache,source=gone,target=/x --mount=target=/y,source=$X true\n")
    assert empty.problems() == ["images/a/Dockerfile:2: the image's folder has no 'gone'"]
