"""What must agree in the recipes of the project's own catalog, and no schema can say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

IMAGES = Path(__file__).resolve().parents[2] / "images"


@pytest.mark.parametrize(("image", "module"), [
    ("registry", "github.com/distribution/distribution/v3"), ("buildkit", "github.com/moby/buildkit"),
])
def test_the_version_of_a_program_with_its_own_go_mod_is_the_one_in_it(image: str, module: str) -> None:
    recipe = yaml.safe_load((IMAGES / image / "image.yml").read_text())
    text = (IMAGES / image / recipe["inputs"][image]["go"] / "go.mod").read_text()
    assert re.findall(rf"{re.escape(module)} (v\S+)", text) == [recipe["version"]]


def test_the_buildkit_that_is_an_image_is_that_of_the_farms_nodes() -> None:
    for name in ("go.mod", "go.sum", "tools.go"):
        assert (IMAGES / "buildkit/buildkit" / name).read_text() == (
            IMAGES.parent / "roles/buildkitd/files/module" / name).read_text(), f"copy {name} from the role"
    versions = {yaml.safe_load((IMAGES / name / "image.yml").read_text())["version"]
                for name in ("buildkit", "buildkit-rootless")}
    assert versions == {yaml.safe_load((IMAGES.parent / "roles/buildkitd/vars/main.yml").read_text())[
        "__buildkitd_version"]}


@pytest.mark.parametrize("path", sorted(IMAGES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_the_page_of_an_image_names_its_ports_and_volumes(path: Path) -> None:
    contract = yaml.safe_load((path.parent / "image.yml").read_text()).get("contract", {})
    named = [port.partition("/")[0] for port in contract.get("ports", {}).values()] + contract.get("volumes", [])
    assert [name for name in named if not re.search(rf"(?m)^\| .*{re.escape(name)}\b", path.read_text())] == []
