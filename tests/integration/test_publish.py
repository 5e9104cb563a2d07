"""Finished images copied to other registries, which may not do as they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import REGISTRY, Farm
from .quirks import quirky


def test_what_a_registry_did_not_store_is_not_published(own: Farm) -> None:
    assert own.run(farm_images=["other"]).rc == 0
    for quirk, said in (
        ("moved", "HTTP 301"),
        ("led in circles", "more than 5 redirects"),
        ("swallowed", "but does not have it"),
    ):
        with quirky(quirk) as address:
            done = own.run(farm_images=["other"], farm_publish=f"{address}/team")
        assert done.rc != 0, quirk
        assert said in done.text, quirk
        assert "Published" not in done.text, quirk


def test_a_registry_that_tells_no_digests_has_what_was_published_and_a_second_run_finds_it(own: Farm) -> None:
    with quirky("no digest") as address:
        first = own.run(farm_images=["other"], farm_publish=f"{address}/team")
        assert first.rc == 0, first.text[-3000:]
        assert f"Published: {address}/team/other:" in first.text
        again = own.run(farm_images=["other"], farm_publish=f"{address}/team")
    assert (again.rc, again.changed) == (0, 0), again.text[-3000:]


@pytest.mark.parametrize("flags", [[], ["--check"]])
def test_names_that_are_none_are_refused_before_a_registry_is_asked(
    own: Farm, tmp_path: Path, flags: list[str]
) -> None:
    task: dict[str, Any] = {
        "registry": "127.0.0.1:1",
        "name": "Team/App",
        "tags": ["ver#1", "x/../y"],
        "manifests": {"linux/arm64": "v1+b"},
    }
    play = tmp_path / "index.yml"
    play.write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "gather_facts": False,
                    "tasks": [{"name": "Keep", "desimages.farm.oci_index": task}],
                }
            ]
        )
    )
    done = own.run(str(play), *flags)
    assert done.rc != 0
    assert done.task("Keep")["msg"].startswith("4 mistakes in "), done.text[-3000:]
    bad = own.run("build.yml", *flags, farm_publish=f"{REGISTRY}/Team", farm_tags=["a/b"])
    assert bad.rc != 0
    assert "farm_publish is" in bad.text and "farm_tags is" in bad.text
