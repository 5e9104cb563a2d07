"""A Node program of one's own, from its package.json to an image that runs, here and under an emulator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import PROJECT, Chain, Farm, sh
from .docker_host import run
from .unpacked import NATIVE, Unpacked

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
RECIPE = """description: A program that reads YAML
license: MIT
inputs:
  greeter: {npm: ./app}
platforms: [linux/amd64, linux/arm64]
contract: {command: [/app/index.js]}
"""
DOCKERFILE = """FROM --platform=$BUILDPLATFORM builder-node AS build
RUN --mount=type=bind,source=app,target=/src \\
    --mount=type=bind,from=inputs,source=/greeter/tarballs,target=/tarballs --mount=type=tmpfs,target=/tmp \\
    npm-build -t /tarballs -o /app /src

FROM nodejs
COPY --link --from=build /app/ /app/
CMD ["/app/index.js"]
"""
# debug needs ms; fsevents is for macOS, and compiled; nobody needs semver at run time
PACKAGE = {
    "name": "greeter", "version": "1.0.0", "private": True, "type": "module",
    "dependencies": {"debug": "4.4.3", "yaml": "2.8.1"}, "optionalDependencies": {"fsevents": "2.3.3"},
    "devDependencies": {"semver": "7.7.2"},
}
PROGRAM = """import debug from 'debug';
import { parse } from 'yaml';
debug.enable('greeter');
const log = debug('greeter');
log.log = console.log;
const { greeting } = parse('greeting: [hello, wörld]');
log('%s on %s', greeting.join(' '), process.arch);
"""


@pytest.fixture(scope="module")
def built(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    root = tmp_path_factory.mktemp("node") / "images"
    app = root / "greeter/app"
    app.mkdir(parents=True)
    (root / "greeter/image.yml").write_text(RECIPE)
    (root / "greeter/Dockerfile").write_text(DOCKERFILE)
    (app / "package.json").write_text(json.dumps(PACKAGE))
    (app / "index.js").write_text(PROGRAM)
    sh("npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", cwd=app)
    made = farm.on(PROJECT / "images", root)
    locked = made.run("playbooks/lock.yml", farm_images=["greeter"])
    assert locked.rc == 0, locked.text[-4000:]
    done = made.run(farm_images=["greeter"], farm_platforms=[NATIVE, FOREIGN])
    assert done.rc == 0, done.text[-4000:]
    return Chain(made, (done, done))


@pytest.mark.parametrize(("platform", "architecture"), [(NATIVE, "x64"), (FOREIGN, "arm64")] if FOREIGN == "linux/arm64"
                         else [(NATIVE, "arm64"), (FOREIGN, "x64")])
def test_it_runs_with_its_packages(built: Chain, scratch: Path, platform: str, architecture: str) -> None:
    image = Unpacked.of(built, "greeter", platform, scratch)
    said = image.run(platform, "/usr/bin/node", "/app/index.js", user=2000)
    assert f"greeter hello wörld on {architecture}" in said
    assert image.run(platform, "/usr/bin/dpkg", "--audit") == ""


def test_only_what_it_needs_to_run_is_there_and_belongs_to_root(built: Chain, scratch: Path) -> None:
    image = Unpacked.of(built, "greeter", NATIVE, scratch)
    assert run("ls", "-A", f"{image.root}/app").split() == ["index.js", "node_modules", "package.json"]
    assert run("ls", "-A", f"{image.root}/app/node_modules").split() == [".bin", "debug", "ms", "yaml"]
    modes = set(image.find("-path", f"{image.root}/app*", "!", "-type", "l", "-printf", "%U:%G %y %m\n"))
    assert modes == {"0:0 d 755", "0:0 f 644", "0:0 f 755"}
    assert set(image.find("-path", f"{image.root}/app*", "-printf", "%T@\n")) == {"0.0000000000"}


def test_one_layer_is_for_all_platforms_and_comes_out_the_same_again(built: Chain, tmp_path: Path) -> None:
    layers = []
    for platform in (NATIVE, FOREIGN):
        raw = sh("skopeo", "inspect", "--raw", "--tls-verify=false",
                 f"docker://{built.reference('greeter', platform)}")
        layers.append(json.loads(raw)["layers"][-1]["digest"])
    assert len(set(layers)) == 1
    before = built.index("greeter")
    again = built.farm.run(farm_images=["greeter"], farm_rebuild=True)
    assert again.rc == 0, again.text[-4000:]
    assert again.built == {f"greeter {platform}" for platform in (NATIVE, FOREIGN)}
    assert "NOT REPRODUCIBLE" not in again.text
    assert built.index("greeter") == before
