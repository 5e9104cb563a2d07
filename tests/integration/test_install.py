"""The collection installed into a project of somebody else: from an archive and from git, with a catalog of that
project beside ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from packaging.requirements import Requirement

from .conftest import COMPILED, PROJECT, REGISTRY, STATE, Farm
from .small import Small

PROGRAMS = Path(sys.executable).parent
INVENTORY = """\
nodes:
  hosts: {localhost: {}}
registries:
  hosts: {localhost: {}}
all:
  hosts:
    localhost:
      ansible_connection: local
      ansible_python_interpreter: "{{ ansible_playbook_python }}"
      ansible_become: "{{ lookup('ansible.builtin.pipe', 'id -u') != '0' }}"
  vars:
    farm_catalog: [desimages.farm, "{{ inventory_dir }}/images"]
"""
RECIPE = "description: Says hello\nlicense: MIT\nplatforms: [linux/amd64, linux/arm64]\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Another project: an inventory that names this machine, and one image."""
    (tmp_path / "images/hello").mkdir(parents=True)
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    (tmp_path / "images/hello/image.yml").write_text(RECIPE)
    (tmp_path / "images/hello/Dockerfile").write_text("FROM static\nCOPY hello.txt /\n")
    (tmp_path / "images/hello/hello.txt").write_text("hello\n")
    return tmp_path


def ansible(project: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs one of Ansible's programs in that project, without any configuration of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    own = {"ANSIBLE_COLLECTIONS_PATH": str(project / "collections"), "ANSIBLE_HOME": str(project / ".ansible"),
           "ANSIBLE_NOCOLOR": "1", "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    done = subprocess.run([str(PROGRAMS / program), *words], cwd=project, env={**kept, **own}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, f"{program} {words}: {done.stdout[-4000:]}{done.stderr[-2000:]}"
    return done


def test_an_installed_collection_locks_and_builds(farm: Farm, sources: Path, project: Path) -> None:
    ansible(project, "ansible-galaxy", "collection", "install", "--offline", "-p", str(project / "collections"),
            f"git+file://{sources},main")
    Small(project / "images")
    settings = {"farm_state": str(STATE), "farm_registry": REGISTRY, "farm_namespace": f"somebody-{os.getpid()}",
                "buildkitd_cache": COMPILED, "farm_images": ["grand"]}
    extra = project / "extra.json"
    extra.write_text(json.dumps(settings))
    words = ("ansible-playbook", "-i", "inventory.yml", "-e", f"@{extra}")
    ansible(project, *words, "desimages.farm.lock", "-e", "farm_images=box", "-e", "farm_allow_missing_suites=true")
    assert (project / "images/box/lock.jsonl").exists()
    assert "9 built" in ansible(project, *words, "desimages.farm.build").stdout
    assert set(Registry(REGISTRY).tags(f"somebody-{os.getpid()}/grand")) >= {"latest"}
    assert re.search(r"changed=0 .*failed=0", ansible(project, *words, "desimages.farm.build").stdout)
    assert farm.run("playbooks/provision.yml").rc == 0


@pytest.mark.parametrize("way", ["archive", pytest.param("git", marks=pytest.mark.full)])
def test_an_installed_collection_plans_its_own_images_and_those_of_the_project(way: str, sources: Path,
                                                                               project: Path) -> None:
    if way == "archive":
        ansible(project, "ansible-galaxy", "collection", "build", str(sources), "--output-path", str(project / "built"))
        (what,) = map(str, (project / "built").glob("desimages-farm-*.tar.gz"))
    else:
        what = f"git+file://{sources},main"
    ansible(project, "ansible-galaxy", "collection", "install", "--offline", "-p", str(project / "collections"), what)
    installed = project / "collections/ansible_collections/desimages/farm"
    assert not [name for name in ("tests", "scripts", "inventory", ".git", "collections")
                if (installed / name).exists()]

    state = project / "state"
    settings = {"farm_state": str(state), "farm_registry": "127.0.0.1:1"}  # where nothing answers
    extra = project / "extra.json"
    extra.write_text(json.dumps(settings))
    done = ansible(project, "ansible-playbook", "-i", "inventory.yml", "desimages.farm.build", "--check", "-e",
                   f"@{extra}")
    shown = done.stdout + done.stderr
    assert not state.exists()
    table = {words[0]: words[2:] for words in map(str.split, shown.splitlines()) if words[1:2] == ["build"]}
    assert {"debian", "static", "base", "tools", "registry"} <= set(table), shown
    assert table["hello"] == ["amd64", "arm64:", "new"], shown
    assert "no registry answers at 127.0.0.1:1" in shown


def test_each_plugin_of_an_installed_collection_shows_its_documentation(sources: Path, project: Path) -> None:
    ansible(project, "ansible-galaxy", "collection", "install", "--offline", "-p", str(project / "collections"),
            f"git+file://{sources},main")
    modules = sorted(path.stem for path in (PROJECT / "plugins/modules").glob("*.py"))
    shown = json.loads(ansible(project, "ansible-doc", "--json",
                               *(f"desimages.farm.{name}" for name in modules)).stdout)
    assert sorted(shown) == [f"desimages.farm.{name}" for name in modules]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with ansible-core, what that needs, and nothing else: links to what is installed
    here."""
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    wanted, linked = ["ansible-core"], set()
    while wanted:
        distribution = metadata.distribution(wanted.pop())
        for name in {path.parts[0] for path in distribution.files or []} - {".."} - linked:
            (site / name).symlink_to(distribution.locate_file(name))
            linked.add(name)
        needed = [Requirement(text) for text in distribution.requires or []]
        wanted += [need.name for need in needed if not need.marker or need.marker.evaluate({"extra": ""})]
    return folder / "bin/python"


def test_with_ansible_core_alone_actions_say_what_to_install(alone: Path, sources: Path, project: Path) -> None:
    ansible(project, "ansible-galaxy", "collection", "install", "--offline", "-p", str(project / "collections"),
            f"git+file://{sources},main")
    actions = sorted(path.stem for path in (PROJECT / "plugins/action").glob("*.py"))
    others = "{{ [lookup('desimages.farm.settings')] | desimages.farm.table(columns=['mistakes']) }}"
    tasks = [{"desimages.farm." + name: {}, "ignore_errors": True}
             for name in actions] + [{"ansible.builtin.debug": {"msg": others}}]
    (project / "all.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    needs = project / "collections/ansible_collections/desimages/farm/meta/ee-requirements.txt"
    own = {"ANSIBLE_COLLECTIONS_PATH": str(project / "collections"), "ANSIBLE_HOME": str(project / ".ansible"),
           "ANSIBLE_NOCOLOR": "1"}

    def play(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(alone), str(PROGRAMS / "ansible-playbook"), "-i", "inventory.yml", *words]
        return subprocess.run(command, cwd=project, env={"PATH": os.environ["PATH"], "HOME": str(project), **own},
                              capture_output=True, text=True, check=False)

    done = play("all.yml")
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert f"ok={len(actions) + 1} " in shown and f"ignored={len(actions)} " in shown, shown
    assert not re.search("Unexpected|Traceback|probably a bug", shown), shown
    assert "urllib3 >=2.0.2" in shown and f"{alone} -m pip install -r {needs}" in shown

    built = play("desimages.farm.build", "-e", f"farm_state={project}/state", "-e", "farm_registry=127.0.0.1:1")
    assert built.returncode == 2, built.stdout + built.stderr
    assert f"{alone} -m pip install -r {needs}" in built.stdout + built.stderr
    assert not re.search("Unexpected|Traceback|probably a bug", built.stdout + built.stderr)
    assert not (project / "state").exists()
