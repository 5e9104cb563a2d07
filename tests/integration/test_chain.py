"""The project's own catalog on a real farm: built once, found again, the same by hand, nothing foreign executed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import LEFT_OUT

from .conftest import CHAIN, PROGRAMS, PROJECT, STATE, Chain, client, sh
from .docker_host import run

ALL = ["linux/386", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/riscv64",
       "linux/s390x"]


def test_the_chain_is_built_for_all_platforms_without_emulation(chain: Chain) -> None:
    for image in CHAIN:
        assert chain.platforms(image) == ALL
    for result in chain.first:
        assert set(result.states().values()) <= {"built", "exists", "same content"}


def test_a_second_run_of_everything_changes_nothing(chain: Chain) -> None:
    again = chain.farm.run(farm_images=list(CHAIN))
    assert (again.rc, again.changed, again.states()) == (0, 0, {})


def test_a_run_says_which_images_lack_suites_as_their_labels_do(chain: Chain) -> None:
    lacks = {}
    for platform in ALL:
        config = json.loads(sh("skopeo", "inspect", "--config", "--tls-verify=false",
                               f"docker://{chain.reference('debian', platform)}"))
        if suites := config["config"]["Labels"].get(LEFT_OUT):
            lacks[f"debian {platform}"] = suites.split()
    done = chain.farm.run(farm_images=["debian"])
    assert json.loads((STATE / "runs/latest/summary.json").read_text())["left_out"] == lacks
    told = [line for line in done.text.splitlines() if "NOT UP TO DATE, security updates may be missing" in line]
    assert len(told) == len({*map(tuple, lacks.values())})
    assert all(any(unit in line for line in told) for unit in lacks)


def test_a_clone_with_another_umask_and_other_times_needs_nothing_built(chain: Chain, copy: Path) -> None:
    for number, path in enumerate(sorted(copy.rglob("*"))):
        mode = path.stat().st_mode
        path.chmod(0o700 if path.is_dir() or mode & stat.S_IXUSR else 0o600)
        os.utime(path, (number, number))
    done = chain.farm.on(copy).run("build.yml", "--check", farm_images=list(CHAIN))
    assert done.rc == 0, done.text[-3000:]
    assert done.planned == set()


def test_a_changed_file_of_base_is_planned_as_such(chain: Chain, copy: Path) -> None:
    text = (copy / "base/Dockerfile").read_text()
    (copy / "base/Dockerfile").write_text(text + "ENV CHANGED=1\n")
    done = chain.farm.on(copy).run("build.yml", "--check", "--diff")
    assert {unit.partition(" ")[0] for unit in done.planned} - set(PROGRAMS) == {"base"}
    assert "file Dockerfile changed" in done.text


@pytest.mark.parametrize(("image", "platform"),
                         [("debian", "linux/arm/v6"), ("static", "linux/s390x"), ("tools", "linux/arm/v6")])
def test_units_are_built_by_hand_to_the_same_digest_and_run_no_foreign_code(chain: Chain, scratch: Path, image: str,
                                                                            platform: str) -> None:
    done = chain.farm.run("playbooks/context.yml", image=image, to=str(scratch), farm_platforms=[platform])
    assert done.rc == 0, done.text[-3000:]
    (folder,) = (path.parent for path in scratch.glob("*/buildctl.sh"))
    sh(*client(scratch, f"{folder}/buildctl.sh"))
    digest = json.loads((folder / "metadata.json").read_text())["containerimage.digest"]
    raw = sh("skopeo", "inspect", "--raw", "--tls-verify=false",
             f"docker://{chain.registry}/{chain.namespace}/{image}@{digest}")
    assert [child["digest"] for child in json.loads(raw)["manifests"]] == [chain.index(image)[platform]]

    words = (folder / "buildctl.sh").read_text().replace(f"--metadata-file={folder}/metadata.json",
                                                         f"--metadata-file={folder}/again.json")
    lines = [line for line in words.splitlines() if "--output=" not in line]
    script = folder / "provenance.sh"
    script.write_text("\n".join([*lines,
                                 f"    --opt=attest:provenance=mode=max --output=type=local,dest={folder}/out"]) + "\n")
    sh(*client(scratch, "sh", str(script)))
    # root's folder where root built
    provenance = run("find", str(folder / "out"), "-name", "provenance.json", "-exec", "cat", "{}", "+")
    steps = list(executed(json.loads(provenance)))
    assert steps
    native = "arm64" if os.uname().machine == "aarch64" else "amd64"
    assert {step["platform"]["Architecture"] for step in steps} == {native}
    assert {step["network"] for step in steps} == {"NONE"}


def executed(value: Any) -> Any:
    """Every step of a provenance's LLB that runs something: its platform and its network."""
    for step in value["predicate"]["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"]:
        operation = step["op"]
        if "exec" in operation["Op"]:
            network = operation["Op"]["exec"].get("network", 0)
            yield {"platform": operation["platform"],
                   "network": {0: "UNSET", 1: "HOST", 2: "NONE"}.get(network, network)}


def test_the_timings_of_the_first_build_are_shown(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {}
    for folder in sorted((STATE / "runs").glob("2*")):
        if (folder / "timings.json").exists():
            seconds.update({batch["batch"]: batch["seconds"]
                            for batch in json.loads((folder / "timings.json").read_text())})
    assert any(name.startswith("debian") for name in seconds)
    with capsys.disabled():
        print("\n" + "\n".join(f"{value:8.1f} s  {name}" for name, value in seconds.items()))


@pytest.mark.full
def test_docker_buildx_gives_the_same_digests(chain: Chain, scratch: Path) -> None:
    sh("go", "install", "github.com/docker/buildx/cmd/buildx@v0.38.2", env={**os.environ, "GOBIN": str(scratch)})
    sh(*client(scratch, "buildx", "create", "--name=farm", "--driver=remote", f"unix://{STATE}/buildkitd.sock"))
    for image in (*CHAIN, *PROGRAMS):
        done = chain.farm.run("playbooks/context.yml", image=image, to=str(scratch / "hand"),
                              farm_platforms=["linux/arm/v6"])
        assert done.rc == 0, done.text[-3000:]
        (script,) = (scratch / "hand").glob("*/buildx.sh")
        script.write_text(script.read_text().replace("exec docker buildx", "exec buildx"))
        sh(*client(scratch, str(script), "--builder=farm"))
        digest = json.loads((script.parent / "metadata.json").read_text())["containerimage.digest"]
        raw = sh("skopeo", "inspect", "--raw", "--tls-verify=false",
                 f"docker://{chain.registry}/{chain.namespace}/{image}@{digest}")
        assert [child["digest"]
                for child in json.loads(raw)["manifests"]] == [chain.index(image)["linux/arm/v6"]], image
        run("rm", "-r", str(script.parent))


def test_the_locks_name_no_host_but_the_snapshot_service() -> None:
    for lock in (PROJECT / "images").glob("*/lock.jsonl"):
        for line in lock.read_text().splitlines():
            assert "://" not in line or '"kind":"url"' in line
