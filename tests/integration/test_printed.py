"""The commands of the documentation, typed as they are printed, in a fresh folder and with nothing set beforehand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ..unit.printed import Block, section
from .conftest import COMPILED, PROJECT, REGISTRY, STATE, Farm

UPSTREAM = "https://github.com/desimages/farm.git"
PLACE = {"farm_state": str(STATE), "farm_registry": REGISTRY, "buildkitd_cache": COMPILED}
pytestmark = pytest.mark.full  # they install Ansible from a package registry


def environment(sources: Path) -> dict[str, str]:
    """A person's own: no environment of Python, no settings of Ansible. Git takes our repository from here."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("ANSIBLE_", "PYTHON", "VIRTUAL_ENV", "GIT_", "MAKE"))}
    here = str(Path(sys.executable).parent)
    path = ":".join(part for part in kept["PATH"].split(":") if part != here)
    return {**kept, "PATH": path, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{sources}.insteadOf",
            "GIT_CONFIG_VALUE_0": UPSTREAM}


def typed(blocks: list[Block], folder: Path, sources: Path) -> str:
    """Writes the files and types the commands, in their order and in one shell; gives what was said."""
    script = ["set -e"]
    for number, block in enumerate(blocks):
        if block.file:
            text = folder / f".block-{number}"
            text.write_text(block.text)
            script.append(f"mkdir -p {Path(block.file).parent} && mv {text} {block.file}")
        elif block.language == "sh":
            script.append(block.text)
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=folder, env=environment(sources), text=True,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_a_new_project_with_an_own_catalog_is_made_as_the_guide_says(farm: Farm, sources: Path, tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()  # which farm and which registry; all else is as printed
    (tmp_path / "group_vars/all.yml").write_text(yaml.safe_dump(PLACE))
    said = typed(section(PROJECT / "docs/guide.md", "Your own catalog"), tmp_path, sources)
    assert (tmp_path / "images/jq/lock.jsonl").exists()
    assert "Tagged: example/jq:" in said
    assert set(farm.on(PROJECT / "images", farm_namespace="example").index("jq")) == {"linux/amd64", "linux/arm64"}


def test_the_own_image_of_the_readme_is_built_as_it_says(farm: Farm, sources: Path, tmp_path: Path) -> None:
    (clone,) = (line for block in section(PROJECT / "README.md", "Two commands") for line in block.text.splitlines()
                if line.startswith("git clone"))
    typed([Block(tmp_path, 1, "sh", (), clone)], tmp_path, sources)
    folder = tmp_path / "desimages"
    (folder / "inventory/local/host_vars").mkdir()
    (folder / "inventory/local/host_vars/localhost.yml").write_text(json.dumps(PLACE))
    blocks = section(PROJECT / "README.md", "Your own images")
    assert "Tagged: desimages/whoami:" in typed([block for block in blocks if "docker run" not in block.text], folder,
                                                sources)
    assert "linux/s390x" in farm.on(PROJECT / "images", farm_namespace="desimages").index("whoami")
