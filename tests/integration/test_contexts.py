"""The main context of an image is what BuildKit makes of its folder, but for what the farm leaves out."""

from __future__ import annotations

import json
import tarfile
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import OWN

from .conftest import REGISTRY, Farm, client, sh
from .docker_host import ROOT, until
from .small import Small, units

RECIPE = "description: {name}\nlicense: MIT\nplatforms: [linux/amd64]\n"
FILES = [
    "a", "b.log", "secret.env", "node_modules/m/x.js", "d/a", "d/b.log", "d/e/f", "d/e/b.log", ".env", ".config/x",
    "docs/README.md", "README.md", "docs/image.yml", "x_test.go", "backup~", "new\nline", "tab\tx", "back\\slash",
    "star*", "bracket[1]", "quote\"'", "trailing ", "dollar$X", "ünïcödé-☃", "with space", "go/x/go.mod",
]
IGNORES = {  # image -> its ignore files
    "none": {},
    "plain": {".dockerignore": "secret.env\nnode_modules\n**/*.log\n"},
    "itself": {".dockerignore": "# all but one folder\n.dockerignore\n*\n!d\nd/e/*\n!d/e/f\n"},
    "both": {".dockerignore": "*\n", "Dockerfile.dockerignore": "d\n"},
    "empty": {".dockerignore": "*\n", "Dockerfile.dockerignore": ""},
    "back": {".dockerignore": "\ufeff**\r\n!**/b.log\r\n!/docs\r\ndocs/image.yml\r\n"},
    "signs": {".dockerignore": "star\\*\n[a-c]*\n?ack*\n**/\u00fc*\n*[1]\nwith space  \nnew*\n"},
}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("contexts") / "images"
    for name, ignores in IGNORES.items():
        texts = {**{path: f"{path}\n" for path in FILES}, **ignores, "image.yml": RECIPE.format(name=name),
                 "Dockerfile": "FROM scratch\nCOPY . /\n"}
        for path, text in texts.items():
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            (root / name / path).write_bytes(text.encode())
        (root / name / "docs/README.md").chmod(0o700)
        (root / name / "d/a").chmod(0o440)
    return root


@pytest.fixture(scope="module")
def built(farm: Farm, catalog: Path) -> Farm:
    built = farm.on(catalog, farm_namespace="contexts")
    done = built.run()
    assert done.rc == 0, done.text[-3000:]
    return built


def files(tar: Path) -> dict[str, tuple[int, bytes]]:
    with tarfile.open(tar) as archive:
        return {member.name: (member.mode, file.read()) for member in archive if (file := archive.extractfile(member))}


def by_buildkit(folder: Path, to: Path) -> dict[str, tuple[int, bytes]]:
    """What a build of the folder as it is gives, with the modes that git keeps."""
    sh(*client(to, "buildctl", "build", "--frontend=dockerfile.v0", f"--local=context={folder}",
               f"--local=dockerfile={folder}", f"--output=type=tar,dest={to}/raw.tar"))
    sh(*ROOT, "chmod", "a+r", f"{to}/raw.tar")
    return {path: (0o755 if mode & 0o100 else 0o644, content) for path, (mode, content) in files(to / "raw.tar").items()
            if path.split("/")[0] not in OWN}


def by_the_farm(farm: Farm, image: str, to: Path) -> Path:
    """The last layer of an image."""
    name = f"{REGISTRY}/{farm.defaults['farm_namespace']}/{image}@{farm.index(image)['linux/amd64']}"
    sh("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"dir:{to}/image")
    layer = json.loads((to / "image/manifest.json").read_text())["layers"][-1]
    sh("zstd", "-dqf", f"{to}/image/{layer['digest'].removeprefix('sha256:')}", "-o", f"{to}/layer.tar")
    return to / "layer.tar"


@pytest.mark.parametrize("image", IGNORES)
def test_an_image_is_what_buildkit_makes_of_its_folder(built: Farm, catalog: Path, tmp_path: Path, image: str) -> None:
    ours = files(by_the_farm(built, image, tmp_path))
    assert ours == by_buildkit(catalog / image, tmp_path)
    assert ours


@pytest.mark.parametrize("image", ["both", "plain"])
def test_what_is_built_by_hand_ignores_the_same(built: Farm, scratch: Path, image: str) -> None:
    done = built.run("playbooks/context.yml", image=image, to=str(scratch))
    assert done.rc == 0, done.text[-3000:]
    sh(*client(scratch, f"{scratch}/{image}-amd64/buildctl.sh"))
    found = json.loads((scratch / f"{image}-amd64/metadata.json").read_text())["containerimage.digest"]
    assert built.index(image, found) == built.index(image)


def test_nothing_is_built_for_a_change_of_what_is_ignored(built: Farm, catalog: Path) -> None:
    (catalog / "plain/secret.env").write_text("another\n")
    (catalog / "plain/node_modules/new").write_text("x\n")
    assert built.run("build.yml", "--check").planned == set()


def test_folders_have_the_epoch_whatever_a_node_has_received_before(own: Farm, small: Small, tmp_path: Path) -> None:
    """BuildKit keeps what it received as the main context: the next image finds its folders of the same names there."""
    found = {}
    for name in ("one", "two"):
        texts = {"image.yml": RECIPE.format(name=name), "Dockerfile": "FROM box\nCOPY etc/ /added/\n",
                 "etc/changed": f"{name}\n", "etc/kept/same": "same\n", "etc/kept/deep/same": "same\n"}
        for path, text in texts.items():
            small.write(f"{name}/{path}", text)
        done = own.run(farm_images=[name])
        assert done.rc == 0, done.text[-3000:]
        (tmp_path / name).mkdir()
        with tarfile.open(by_the_farm(own, name, tmp_path / name)) as layer:
            times = {member.name: (member.isdir(), member.mtime) for member in layer}
        assert {time for folder, time in times.values() if not folder} == {10**9}, "whatever the lock's time is"
        found[name] = {path: time for path, (folder, time) in times.items() if folder}
    assert found["one"] == found["two"]
    epoch = max(found["one"].values())
    assert found["one"] == dict.fromkeys(["added", "added/kept", "added/kept/deep"], epoch)
    assert epoch > 1_700_000_000


def test_what_a_node_ran_before_a_lock_does_not_count_for_it(own: Farm, small: Small, tmp_path: Path) -> None:
    """BuildKit lowers the times in a layer to the epoch, and raises none: a step that it kept would have its own."""
    assert own.run(farm_images=["box"]).rc == 0
    locked = small.root / "box/lock.jsonl"
    later = time.time() + 2
    until("the clock goes on", 10, lambda: time.time() > later)
    now = datetime.now(timezone.utc)
    header, _line, lines = locked.read_text().partition("\n")
    locked.write_text(json.dumps({**json.loads(header), "snapshot": f"{now:%Y%m%dT%H%M%SZ}"}) + "\n" + lines)
    done = own.run(farm_images=["box"])
    assert done.built == units("box"), done.text[-3000:]
    with tarfile.open(by_the_farm(own, "box", tmp_path)) as layer:
        assert {member.mtime for member in layer} == {int(now.timestamp())}
