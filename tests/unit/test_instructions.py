"""The shape of a Dockerfile's instructions: what BuildKit refuses in one before anything is built."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import parse


@pytest.mark.parametrize(("step", "said"), [
    ("COPY a", "COPY a: it needs what it copies and where to"),
    ('ADD ["a"]', 'ADD ["a"]: it needs what it copies and where to'),
    ("SHELL /bin/bash -c", "SHELL /bin/bash -c: it must be a JSON array"),
    ("SHELL []", "SHELL []: it must be a JSON array"),
    ("HEALTHCHECK /health", "HEALTHCHECK /health: it must be NONE, or CMD and a command"),
    ("HEALTHCHECK NONE x", "it must be NONE, or CMD and a command"),
    ("HEALTHCHECK --interval=1s CMD", "it must be NONE, or CMD and a command"),
    ("HEALTHCHECK --interval=30 CMD x", "--interval=30: it must be a time with its unit"),
    ("HEALTHCHECK --retries=3s CMD x", "--retries=3s: it must be a whole number"),
    *((word, f"{word} has no words") for word in (
        "ADD", "ARG", "COPY", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "SHELL", "STOPSIGNAL", "USER",
        "VOLUME", "WORKDIR")),
])
def test_what_a_build_would_refuse_is_told_with_its_line(step: str, said: str) -> None:
    ((line, reason),) = parse(f"FROM debian\n{step}\n").refused
    assert line == 2
    assert said in reason


@pytest.mark.parametrize("step", [
    "HEALTHCHECK NONE", "healthcheck none", "HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=0 cmd x",
    "HEALTHCHECK --start-period=0 CMD x", "CMD", "ENTRYPOINT", "ENTRYPOINT []", "COPY <<a /b\na", 'COPY ["a", "b"]',
    "USER a b", "WORKDIR /a b", "SHELL [\"a\"]",
])
def test_what_a_build_would_take_is_taken(step: str) -> None:
    assert parse(f"FROM debian\n{step}\n").refused == ()
