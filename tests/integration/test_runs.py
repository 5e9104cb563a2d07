"""Runs on a small catalog: what is built, what is not, what bad input gets."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .conftest import PROJECT, REGISTRY, STATE, Farm, client, held, sh
from .docker_host import ROOT
from .small import PLATFORMS, Small, units


def test_a_first_run_builds_everything_and_a_second_one_nothing(own: Farm) -> None:
    first = own.run()
    assert first.rc == 0, first.text[-3000:]
    assert first.built == units("box", "child", "grand", "other")
    assert "latest" in own.tags("grand")
    assert set(own.index("grand")) == set(PLATFORMS)
    second = own.run()
    assert (second.rc, second.changed, second.states()) == (0, 0, {})


def test_a_run_whose_output_nobody_reads_any_more_ends(own: Farm) -> None:
    """As in `ansible-playbook build.yml | head`."""
    with subprocess.Popen(own.words(), cwd=PROJECT, stdout=subprocess.PIPE) as running:
        assert running.stdout and running.stdout.readline()
        running.stdout.close()
        try:
            running.wait(300)
        finally:
            running.kill()
    assert own.run("build.yml", "--check").planned == set()


def test_check_mode_lists_exactly_what_the_real_run_builds(own: Farm, small: Small) -> None:
    first = own.run("build.yml", "--check")
    assert first.rc == 0, first.text[-3000:]
    assert first.planned == units("box", "child", "grand", "other")
    assert own.run().built == first.planned
    small.edit("child/child.txt", "child", "changed")
    check = own.run("build.yml", "--check", "--diff")
    sure = {unit["unit"] for unit in check.task("Plan")["build"] if unit["sure"]}
    assert sure == units("child")
    assert check.planned == units("child", "grand")
    assert "file child.txt changed" in check.text
    assert check.task("Index")["changed"]
    assert "Would be tagged once they are built: child, grand" in check.text
    assert own.run().built == check.planned


def test_check_mode_shows_the_tags_that_alone_would_move(own: Farm, tmp_path: Path) -> None:
    assert own.run().rc == 0
    before = own.tags("box")
    plan = tmp_path / "plan.json"
    check = own.run("build.yml", "--check", "--diff", farm_tags=["newest"], farm_plan_json=str(plan))
    names = [f"{own.defaults['farm_namespace']}/{image}:newest" for image in ("box", "child", "grand", "other")]
    assert sorted(check.task("Index")["moved"]) == names
    assert f"Would be tagged: {names[0]}" in check.text
    assert json.loads(plan.read_text())["units"] == []
    assert own.tags("box") == before
    assert own.run(farm_tags=["newest"]).task("Index")["moved"] == check.task("Index")["moved"]
    assert own.run("build.yml", "--check", farm_tags=["newest"]).changed == 0


def test_only_descendants_of_a_change_are_built(own: Farm, small: Small) -> None:
    assert own.run().rc == 0
    before = own.index("box")
    small.edit("child/Dockerfile", "COPY", "ENV A=1\nCOPY")
    assert own.run().built == units("child", "grand")
    assert own.index("box") == before


def test_a_rebuilt_parent_that_comes_out_the_same_spares_its_children(own: Farm, small: Small) -> None:
    assert own.run().rc == 0
    before = own.index("grand")
    small.edit("box/Dockerfile", "FROM scratch", "# a comment changes no byte of the image\nFROM scratch")
    again = own.run()
    assert again.built == units("box")
    assert {unit for unit, state in again.states().items() if state == "same content"} == units("child", "grand")
    assert own.index("grand") == before
    assert own.run().changed == 0


@pytest.mark.full
def test_a_tree_that_went_back_is_planned_by_what_it_is_now(own: Farm, small: Small) -> None:
    assert own.run().rc == 0
    small.edit("child/child.txt", "child", "other")
    assert own.run().built == units("child", "grand")
    small.edit("child/child.txt", "other", "child")
    assert own.run().states() == {}
    small.edit("box/Dockerfile", "FROM scratch", "# a comment\nFROM scratch")
    check = own.run("build.yml", "--check")
    assert {unit["unit"] for unit in check.task("Plan")["build"] if unit["sure"]} == units("box")
    assert "child.txt" not in check.text
    assert own.run().built == units("box")
    small.edit("box/Dockerfile", "# a comment", "# another one")
    small.edit("child/child.txt", "child", "third")
    check = own.run("build.yml", "--check")
    assert {unit["unit"] for unit in check.task("Plan")["build"] if unit["sure"]} == units("box", "child")
    assert own.run().built == units("box", "child", "grand")
    small.edit("child/child.txt", "third", "child")
    check = own.run("build.yml", "--check")
    assert {unit["unit"] for unit in check.task("Plan")["build"] if unit["sure"]} == set()
    assert own.run().built == set()


def test_a_partial_index_has_all_that_was_chosen_or_is_none(own: Farm, small: Small) -> None:
    chosen = ["linux/amd64", "linux/arm64"]
    small.edit("box/Dockerfile", "RUN [",
               'RUN ["/usr/bin/busybox", "sh", "-c", "test $TARGETPLATFORM != linux/arm64"]\nRUN [')
    bad = own.run(farm_images=["box"], farm_platforms=chosen, farm_partial=True)
    assert bad.rc != 0
    assert bad.states() == {"box linux/amd64": "built", "box linux/arm64": "failed"}
    assert own.tags("box") == []
    small.edit("box/Dockerfile", "test $TARGETPLATFORM != linux/arm64", "true")
    assert own.run(farm_images=["box"], farm_platforms=chosen, farm_partial=True).rc == 0
    assert set(own.index("box")) == set(chosen)


def test_a_choice_of_nothing_is_refused(own: Farm) -> None:
    done = own.run(farm_select="[?image=='no-such-image']")
    assert done.rc != 0
    assert "chooses no unit" in done.text


def test_a_change_of_the_same_size_is_seen(own: Farm, small: Small) -> None:
    """BuildKit compares size and mtime of what it was sent before; ours must differ where the content does."""
    assert own.run().rc == 0
    before = own.index("other")
    small.edit("other/other.txt", "other", "rehto")
    assert own.run().built == units("other")
    assert all(own.index("other")[platform] != before[platform] for platform in PLATFORMS)


def test_a_choice_of_platforms_gives_tags_of_their_own(own: Farm) -> None:
    done = own.run(farm_images=["child"], farm_platforms=["linux/arm64"])
    assert done.rc == 0, done.text[-3000:]
    assert done.built == units("box", "child", platforms=("linux/arm64",))
    assert "latest-arm64" in own.tags("child")
    assert "latest" not in own.tags("child")
    selected = own.run(farm_select="[?image=='other' && platform.variant=='v6']")
    assert selected.built == {"other linux/arm/v6"}


def test_finished_images_are_published_by_digest(own: Farm) -> None:
    place = f"{own.defaults['farm_namespace']}-public"
    done = own.run(farm_publish=f"{REGISTRY}/{place}")
    assert done.rc == 0, done.text[-3000:]
    registry = Registry(REGISTRY)
    for image in ("box", "child", "grand", "other"):
        assert registry.manifest(f"{place}/{image}",
                                 "latest") == registry.manifest(f"{own.defaults['farm_namespace']}/{image}", "latest")
    assert not any(tag.startswith("b-") for tag in registry.tags(f"{place}/box"))
    again = own.run(farm_publish=f"{REGISTRY}/{place}")
    assert (again.rc, again.changed) == (0, 0)


def test_an_index_can_be_kept_by_itself(own: Farm, tmp_path: Path) -> None:
    assert own.run(farm_images=["other"]).rc == 0
    name = f"{own.defaults['farm_namespace']}/other"
    digests = own.index("other")
    play = tmp_path / "index.yml"
    task = {"registry": REGISTRY, "name": name, "tags": ["team", "v1"], "fixed_tags": ["v1"],
            "manifests": {p: digests[p] for p in PLATFORMS[:2]}}
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False,
                                 "tasks": [{"name": "Keep", "desimages.farm.oci_index": task}]}]))
    check = own.run(str(play), "--check", "--diff")
    assert check.task("Keep")["moved"] == ["v1", "team"] or check.task("Keep")["moved"] == ["team", "v1"]
    assert "team" not in own.tags("other")
    first = own.run(str(play))
    assert (first.rc, first.changed) == (0, 1)
    assert own.index("other", "team") == {p: digests[p] for p in PLATFORMS[:2]}
    assert own.run(str(play)).changed == 0
    task["manifests"] = {PLATFORMS[0]: "no-such-tag", PLATFORMS[1]: "nor-this"}
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False,
                                 "tasks": [{"name": "Keep", "desimages.farm.oci_index": task}]}]))
    bad = own.run(str(play))
    assert bad.rc != 0
    assert "no-such-tag" in bad.text and "nor-this" in bad.text
    task.update(manifests={PLATFORMS[0]: "latest"})
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False,
                                 "tasks": [{"name": "Keep", "desimages.farm.oci_index": task}]}]))
    taken = own.run(str(play), "--check")
    assert taken.rc == 0 and taken.task("Keep")["taken"] == [
        f"{PLATFORMS[0]}: latest is an index, {digests[PLATFORMS[0]]} was taken out of it"]
    task.update(manifests={}, annotations={"n": 1})
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False,
                                 "tasks": [{"name": "Keep", "desimages.farm.oci_index": task}]}]))
    empty = own.run(str(play))
    assert empty.rc != 0
    assert "manifests is empty" in empty.text and "n is 1, it must be a string" in empty.text
    assert own.index("other", "v1") == {p: digests[p] for p in PLATFORMS[:2]}


def test_what_buildkit_pushes_with_attestations_becomes_part_of_an_index(own: Farm, scratch: Path) -> None:
    """As `docker buildx build --push` does it by default."""
    assert own.run(farm_images=["other"]).rc == 0
    name, registry = f"{own.defaults['farm_namespace']}/other", Registry(REGISTRY)
    context, play = scratch / "attested", scratch / "index.yml"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    sh(*client(scratch, "buildctl", "build", "--frontend=dockerfile.v0", f"--local=context={context}",
               f"--local=dockerfile={context}", f"--opt=platform={PLATFORMS[0]}", "--opt=attest:provenance=mode=min",
               f"--output=type=image,name={REGISTRY}/{name}:attested,push=true"))
    task = {"registry": REGISTRY, "name": name, "tags": ["both"], "attestations": True,
            "manifests": {PLATFORMS[0]: "attested", PLATFORMS[1]: own.index("other")[PLATFORMS[1]]}}
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False,
                                 "tasks": [{"name": "Keep", "desimages.farm.oci_index": task}]}]))
    first = own.run(str(play))
    assert (first.rc, first.changed) == (0, 1)
    (taken,) = first.task("Keep")["taken"]
    assert taken.endswith("with its attestations (1)") and taken in first.text
    _data, content = registry.content(name, "both") or (b"", None)
    assert content and len(content.manifests) == 3
    image, other, attestation = content.manifests
    assert (attestation.attested, other.digest) == (image.digest, task["manifests"][PLATFORMS[1]])
    assert registry.manifest(name, attestation.digest)
    assert own.run(str(play)).changed == 0


def test_an_image_is_built_by_hand_to_the_same_digest(own: Farm, scratch: Path) -> None:
    assert own.run().rc == 0
    done = own.run("playbooks/context.yml", image="box", to=str(scratch / "hand"), farm_platforms=["linux/arm/v6"])
    assert done.rc == 0, done.text[-3000:]
    folder = scratch / "hand/box-arm-v6"
    sh(*client(scratch, str(folder / "buildctl.sh")))
    digest = json.loads((folder / "metadata.json").read_text())["containerimage.digest"]
    assert own.index("box", digest) == {"linux/arm/v6": own.index("box")["linux/arm/v6"]}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("FROM scratch", "FROM alpine", "'alpine' is not an image of the catalog"),
        ("FROM scratch", "# syntax=docker/dockerfile:1\nFROM scratch", ""),
        ("FROM scratch", "FROM scratch\nADD https://example.org/x /x", "a build step has no network"),
    ],
)
def test_a_dockerfile_that_wants_something_from_outside_is_refused(own: Farm, small: Small, old: str, new: str,
                                                                   said: str) -> None:
    if "syntax" in new:
        small.write("other/Dockerfile", new + "\n" + (small.root / "other/Dockerfile").read_text())
        said = "a build cannot load a frontend from outside"
    else:
        small.edit("other/Dockerfile", old, new)
    done = own.run()
    assert done.rc != 0
    assert said in done.text
    assert done.states() == {}


def test_a_step_that_wants_the_network_has_none(own: Farm, small: Small) -> None:
    step = "/usr/bin/busybox wget -T 2 -O- http://127.0.0.1/ ; /usr/bin/busybox ip link > /dev/stderr; exit 7"
    small.edit("box/Dockerfile", "/usr/bin/busybox mkdir /out", step)
    done = own.run()
    assert done.rc != 0
    assert {unit for unit, state in done.states().items() if state == "failed"} == units("box")
    assert {unit for unit, state in done.states().items() if state == "parent failed"} == units("child", "grand")
    assert done.built == units("other")
    assert "exit code: 7" in done.text
    assert "latest" in own.tags("other")
    logs = "".join(path.read_text() for path in (STATE / "runs/latest/logs").glob("box*"))
    assert " lo:" in logs and "eth" not in logs


def test_a_flipped_digit_in_a_lock_stops_only_what_needs_it(own: Farm, small: Small) -> None:
    lock = small.root / "box/lock.jsonl"
    lines = lock.read_text().splitlines()
    value = json.loads(lines[1])
    right = value["sha256"]
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    lock.write_text("\n".join([lines[0], lines[1].replace(right, wrong), *lines[2:]]) + "\n")
    done = own.run()
    assert done.rc != 0
    assert {unit for unit, state in done.states().items() if state == "input failed"} == units("box")
    assert done.built == units("other")
    assert right in done.text and wrong in done.text
    assert not (STATE / "store/sha256" / wrong[:2] / wrong).exists()
    archive = f"http://{REGISTRY}/v2/{own.defaults['farm_namespace']}/archive"
    request = urllib.request.Request(f"{archive}/blobs/sha256:{wrong}", method="HEAD")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request)
    lock.write_text("\n".join(lines) + "\n")
    assert own.run().built == units("box", "child", "grand")


def test_a_file_of_the_store_that_was_damaged_is_had_again_and_the_image_is_the_same(own: Farm, small: Small) -> None:
    assert own.run().rc == 0
    before = own.index("box")
    small.edit("box/Dockerfile", "FROM scratch", "# a comment changes no byte of the image\nFROM scratch")
    wrong = {}
    lock = [json.loads(line)["sha256"] for line in (small.root / "box/lock.jsonl").read_text().splitlines()[1:]]
    for sha in (*lock, hashlib.sha256(b"hello\n").hexdigest()):
        path = STATE / "store/sha256" / sha[:2] / sha
        if not path.exists():  # an input of the other build platform
            continue
        found, data = path.stat(), path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # the same size and time
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        wrong[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(wrong) >= 2
    again = own.run()
    assert again.rc == 0, again.text[-3000:]
    assert again.built == units("box")
    assert own.index("box") == before
    for path, sha in wrong.items():
        assert f"{path} was damaged: it is {sha}" in again.text
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_a_killed_buildkitd_is_restarted_and_its_units_are_built(own: Farm, small: Small) -> None:
    small.edit("box/Dockerfile", "/usr/bin/busybox mkdir /out",
               "/usr/bin/busybox sleep 6 && /usr/bin/busybox mkdir /out")
    killer = subprocess.Popen([*ROOT, "python3", "-c", KILLER, str(STATE)])
    done = own.run()
    assert killer.wait(60) == 0
    assert done.rc == 0, done.text[-3000:]
    assert done.built == units("box", "child", "grand", "other")
    assert "tried again" in done.text


def test_the_second_of_two_runs_says_who_holds_the_farm(own: Farm) -> None:
    with held() as words:
        refused = [own.run(playbook, farm_busy="stop")
                   for playbook in ("build.yml", "playbooks/stop.yml", "playbooks/clean.yml")]
    for done in refused:
        assert done.rc != 0
        assert words in done.text
    assert not refused[0].task("Provision | Check whether this host is healthy"), "no host is touched before"
    assert own.run().rc == 0


def test_ten_mistakes_of_a_recipe_are_ten_messages_and_no_host_is_touched(own: Farm, small: Small) -> None:
    small.write("box/image.yml",
                "descripton: x\nhome: example.org\nlicense: 3\nplatforms: [linux/amd46]\ninputs:\n  a: {debain: [x]}\n"
                "args: [x]\n")
    small.write("child/Dockerfile", "FROM bocks\nCOPY --from=inputs /b /\nADD https://example.org/x /\n")
    done = own.run(farm_provision_always=True)
    assert done.rc != 0
    found = re.findall(r"(?:box|child)/(?:image.yml|Dockerfile):\d+: .*",
                       done.task("Roles | Check the catalog first")["msg"])
    assert len(found) >= 10, found
    assert not done.task("Roles | Run a registry")


def test_a_wrong_choice_is_refused_before_a_host_is_provisioned(own: Farm) -> None:
    done = own.run(farm_provision_always=True, farm_images=["bocks"], farm_platforms=["linux/s390x"], farm_select="[")
    assert done.rc != 0
    assert done.task("Roles | Check the catalog first")["msg"].startswith("3 mistakes in "), done.text[-3000:]
    assert not done.task("Roles | Run a registry")


def test_a_mistake_in_every_recipe_is_told_before_anything_starts(own: Farm, small: Small) -> None:
    for image in ("box", "child", "grand", "other"):
        small.edit(f"{image}/image.yml", "license", "licence")
    done = own.run(buildkitd_parallelism=3)  # the host is not well with this
    assert done.rc != 0
    assert done.text.count("'licence' is not known here (did you mean 'license'?)") >= 4
    assert not done.task("Roles | Gather the facts that the roles need"), "no host is touched before"
    well = own.run()
    assert well.text.count("did you mean 'license'?") >= 4
    assert well.states() == {}


def test_the_project_is_documented_where_ansible_looks() -> None:
    found = json.loads(sh("ansible-doc", "--json", "-t", "module", "desimages.farm.oci_index", cwd=PROJECT))
    assert found["desimages.farm.oci_index"]["doc"]["short_description"] == "Keep a manifest list in a registry"


KILLER = """
import os, pathlib, signal, sys, time
jobs = pathlib.Path(sys.argv[1]) / "jobs"
deadline = time.monotonic() + 50
while time.monotonic() < deadline:
    for log in jobs.glob("*/log"):
        if "sleep 6" in log.read_text():
            for name in os.listdir("/proc"):
                if name.isdigit():
                    try:
                        words = pathlib.Path(f"/proc/{name}/cmdline").read_bytes().split(b"\\0")
                    except OSError:
                        continue
                    if words[0] == f"{sys.argv[1]}/bin/buildkitd".encode():
                        os.kill(int(name), signal.SIGKILL)
                        sys.exit(0)
    time.sleep(0.1)
sys.exit(1)
"""
