"""The images buildkit and buildkit-rootless: images of two platforms built by them, over the socket and over TLS, with
the farm's own client."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.desimages.farm.plugins.module_utils import golden
from ansible_collections.desimages.farm.plugins.modules.engine import lay_out
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from .conftest import PROJECT, STATE, Chain, Farm
from .containers import await_health, bring
from .debian_host import root_tar
from .docker_host import ROOT, run
from .unpacked import NATIVE

pytestmark = pytest.mark.catalog

IMAGES = ("buildkit", "buildkit-rootless")
FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}  # as uname -m says
BUILDCTL = STATE / "bin/buildctl"  # what the farm's runner calls
ENGINE = yaml.safe_load((PROJECT / "roles/buildkitd/vars/main.yml").read_text())
PORT = "tcp://127.0.0.1:1234"
SECOND = 10**9
DOCKERFILE = """\
FROM scratch
ARG TARGETARCH
COPY busybox-$TARGETARCH /bin/busybox
RUN ["/bin/busybox", "uname", "-m"]
RUN ["/bin/busybox", "sh", "-c", "echo made on $TARGETARCH > /made"]
CMD ["/bin/busybox", "cat", "/made"]
"""
# A shell that starts another program, which only the kernel can hand to an emulator.
CHILD = """\
FROM scratch
ARG TARGETARCH
COPY busybox-$TARGETARCH /bin/busybox
RUN ["/bin/busybox", "env", "/bin/busybox", "uname", "-m"]
"""


@pytest.fixture(scope="module")
def images(farm: Farm) -> Chain:
    built = farm.run(farm_images=list(IMAGES), farm_platforms=[NATIVE], farm_partial=True)  # BuildKit compiles long
    assert built.rc == 0, built.text[-4000:]
    return Chain(farm, (built, built))


@pytest.fixture(scope="module")
def ids(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: bring(docker, images.reference(name, NATIVE), tmp_path_factory.mktemp(name)) for name in IMAGES}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Debian's static busybox of both platforms, which needs no other file to run."""
    folder = tmp_path_factory.mktemp("context")
    for platform in (NATIVE, FOREIGN):
        architecture = platform.rpartition("/")[2]
        packed = root_tar(architecture=architecture, packages=("busybox-static",), more=("--variant=extract",),
                          finish="find . -mindepth 1 ! -path ./usr ! -path ./usr/bin ! -path ./usr/bin/busybox -delete",
                          name=f"busybox-{architecture}")
        with tarfile.open(packed) as tar:
            found = tar.extractfile("./usr/bin/busybox")
            assert found
            (folder / f"busybox-{architecture}").write_bytes(found.read())
        (folder / f"busybox-{architecture}").chmod(0o755)
    for name, text in (("Dockerfile", DOCKERFILE), ("child.Dockerfile", CHILD)):
        (folder / name).write_text(text)
    return folder


@dataclass
class Daemon:
    """A container of one of the images, with what its contract says that it needs and no more."""

    container: Any

    @classmethod
    def start(cls, docker: Any, ids: dict[str, str], image: str, command: list[str] | None = None, *,
              security: list[str] | None = None, volumes: list[str] | None = None) -> Daemon:
        contract = load_catalog(["desimages.farm"])[image].contract
        allowed = contract.exceptions["privileges"]
        usual = [f"{name}=unconfined" for name in allowed if name != "no-new-privileges"] + (
            [] if "no-new-privileges" in allowed else ["no-new-privileges"])
        config = docker.api.create_host_config(
            security_opt=usual if security is None else security, network_mode="none", read_only=True,
            tmpfs=dict.fromkeys(contract.tmpfs, "mode=1777"), binds=volumes or [],
            cap_drop=["ALL"], cap_add=sorted(contract.exceptions["capabilities"]))
        if image == "buildkit-rootless":  # systempaths=unconfined, which Docker's client makes this of
            config.update(MaskedPaths=[], ReadonlyPaths=[])
        made = docker.api.create_container(
            ids[image], command, host_config=config,
            healthcheck={"interval": SECOND, "timeout": 3 * SECOND, "start_period": SECOND, "retries": 1})
        container = docker.containers.get(made["Id"])
        container.start()
        container.reload()
        return cls(container)

    @property
    def pid(self) -> int:
        self.container.reload()
        return int(self.container.attrs["State"]["Pid"])

    @property
    def socket(self) -> str:
        return f"unix:///proc/{self.pid}/root/run/buildkit/buildkitd.sock"

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The farm's buildctl, in the container's network."""
        return subprocess.run([*ROOT, "nsenter", f"--net=/proc/{self.pid}/ns/net", str(BUILDCTL), *words],
                              capture_output=True, text=True, check=False)

    def build(self, folder: Path, *more: str, address: str = "", tls: tuple[str, ...] = ()) -> str:
        """What a build says."""
        done = self.call("--addr", address or self.socket, *tls, "build", "--progress", "plain", "--frontend",
                         "dockerfile.v0", "--local", f"context={folder}", "--local", f"dockerfile={folder}", *more)
        assert done.returncode == 0, f"{done.stderr[-3000:]}\n{self.container.logs().decode()[-3000:]}"
        return done.stderr

    def processes(self) -> dict[int, str]:
        return {int(pid): words for pid, words in self.container.top(ps_args="-eo pid,args")["Processes"]}


@pytest.fixture(scope="module", params=IMAGES)
def daemon(request: pytest.FixtureRequest, docker: Any, ids: dict[str, str]) -> Iterator[Daemon]:
    made = Daemon.start(docker, ids, request.param, volumes=[f"{request.param}-cache:/data"])
    await_health(made.container)
    yield made
    made.container.remove(force=True)


@dataclass(frozen=True)
class Exported:
    """An image as `--output type=oci` writes it, with an index of its platforms."""

    path: Path

    def read(self, digest: str) -> bytes:
        with tarfile.open(self.path) as tar:
            found = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert found
            return found.read()

    def platforms(self) -> dict[str, dict[str, Any]]:
        """platform in an image's configuration -> its manifest"""
        with tarfile.open(self.path) as tar:
            found = tar.extractfile("index.json")
            assert found
            top = json.loads(found.read())
        manifests = [json.loads(self.read(one["digest"])) for one in json.loads(
            self.read(top["manifests"][0]["digest"]))["manifests"]]
        configs = [json.loads(self.read(one["config"]["digest"])) for one in manifests]
        return {f"{config['os']}/{config['architecture']}": one for config, one in zip(configs, manifests)}

    def file(self, manifest: dict[str, Any], name: str, folder: Path) -> str:
        for layer in manifest["layers"]:
            (folder / "layer.tar.gz").write_bytes(self.read(layer["digest"]))
            with tarfile.open(folder / "layer.tar.gz") as tar:
                if name in tar.getnames():
                    found = tar.extractfile(name)
                    assert found
                    return found.read().decode()
        raise AssertionError(f"no layer has {name}")


def test_an_image_is_built_for_this_platform_and_a_foreign_one(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    said = daemon.build(context, "--no-cache", "--opt", f"platform={NATIVE},{FOREIGN}",
                        "--output", f"type=oci,dest={tmp_path}/image.tar")
    for platform in (NATIVE, FOREIGN):
        assert re.search(rf"(?m)^#\d+ [\d.]+ {MACHINES[platform]}$", said), said
    exported = Exported(tmp_path / "image.tar")
    made = exported.platforms()
    assert set(made) == {NATIVE, FOREIGN}
    for platform, manifest in made.items():
        architecture = platform.rpartition("/")[2]
        assert exported.file(manifest, "made", tmp_path) == f"made on {architecture}\n"


def test_a_step_of_the_rootless_one_starts_programs_of_a_foreign_platform(docker: Any, ids: dict[str, str],
                                                                          context: Path) -> None:
    """Where the kernel lets a user namespace have handlers of its own: nothing is registered for all of the machine."""
    made = Daemon.start(docker, ids, "buildkit-rootless")
    await_health(made.container)
    handlers = sorted(path.name for path in Path("/proc/sys/fs/binfmt_misc").glob("qemu-*"))
    if re.search(r"binfmt_misc: .*6\.7", made.container.logs().decode()):
        pytest.skip("this kernel has one table of handlers for all")
    said = made.build(context, "--opt", f"platform={FOREIGN}", "--opt", "filename=child.Dockerfile")
    assert re.search(rf"(?m)^#\d+ [\d.]+ {MACHINES[FOREIGN]}$", said), said
    assert sorted(path.name for path in Path("/proc/sys/fs/binfmt_misc").glob("qemu-*")) == handlers
    made.container.remove(force=True)


def test_the_cache_is_there_after_a_restart(docker: Any, ids: dict[str, str], context: Path) -> None:
    for image in IMAGES:
        made = Daemon.start(docker, ids, image, volumes=[f"{image}-again:/data"])
        await_health(made.container)
        assert "CACHED" not in made.build(context)
        began = time.monotonic()
        made.container.stop(timeout=30)
        assert time.monotonic() - began < 10
        made.container.start()
        await_health(made.container)
        assert made.build(context).count("CACHED") >= 2
        made.container.remove(force=True)


def test_nothing_of_the_rootless_one_is_root(docker: Any, ids: dict[str, str], context: Path) -> None:
    made = Daemon.start(docker, ids, "buildkit-rootless", ["--oci-worker-no-process-sandbox"])
    await_health(made.container)
    made.build(context)
    processes = made.processes()
    assert any("buildkitd" in words for words in processes.values())
    for pid, words in processes.items():
        status = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M))
        assert status["Uid"].split() == ["2000"] * 4, words
    owners = set(run("find", f"/proc/{made.pid}/root/data", "-printf", "%U\n").split())
    assert owners <= {"2000", *map(str, range(100000, 165536))} and "2000" in owners
    made.container.remove(force=True)


def test_the_rootful_one_is_one_process(docker: Any, ids: dict[str, str], context: Path) -> None:
    made = Daemon.start(docker, ids, "buildkit")
    await_health(made.container)
    made.build(context)
    assert [words.split()[0] for words in made.processes().values()] == ["buildkitd"]
    made.container.remove(force=True)


@pytest.mark.parametrize("image", IMAGES)
def test_a_daemon_that_hangs_is_unhealthy(docker: Any, ids: dict[str, str], image: str) -> None:
    made = Daemon.start(docker, ids, image)
    await_health(made.container)
    pids = [str(pid) for pid in made.processes()]
    run("kill", "-STOP", *pids)
    await_health(made.container, "unhealthy")
    run("kill", "-CONT", *pids)
    await_health(made.container)
    made.container.remove(force=True)


# certificates


def client(authority: certificates.Pair) -> certificates.Pair:
    """A certificate for a client: the farm's own CA signs for servers alone."""
    now, key = datetime.now(timezone.utc), ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "client")]))
        .issuer_name(authority.certificate.subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    return certificates.Pair(made.sign(authority.key, hashes.SHA256()), key)


@dataclass
class Secured:
    """A daemon with a port, and the options of clients that come to it."""

    daemon: Daemon
    clients: dict[str, tuple[str, ...]]


@pytest.fixture(scope="module", params=IMAGES)
def secured(request: pytest.FixtureRequest, docker: Any, ids: dict[str, str],
            tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("certs")
    now = datetime.now(timezone.utc)
    ours, theirs = certificates.new_authority(now, "ours"), certificates.new_authority(now, "theirs")
    served = certificates.new_server(ours, ["localhost", "127.0.0.1"], now)
    certs = folder / "served"
    certs.mkdir()
    for name, text in (("ca", ours.pem), ("cert", served.pem), ("key", served.key_pem)):
        (certs / f"{name}.pem").write_text(text)
    run("chown", "-R", "2000:2000", str(certs))
    clients = {}
    for name, signer in (("right", ours), ("foreign", theirs)):
        pair = client(signer)
        for part, text in (("cert", pair.pem), ("key", pair.key_pem)):
            (folder / f"{name}-{part}.pem").write_text(text)
        clients[name] = ("--tlscert", f"{folder}/{name}-cert.pem", "--tlskey", f"{folder}/{name}-key.pem")
    (folder / "ours.pem").write_text(ours.pem)
    (folder / "theirs.pem").write_text(theirs.pem)
    trusting = ("--tlscacert", f"{folder}/ours.pem")
    made = Daemon.start(docker, ids, request.param, volumes=[f"{certs}:/certs:ro"])
    await_health(made.container)
    yield Secured(made, {
        "right": (*trusting, *clients["right"]), "none": trusting, "foreign": (*trusting, *clients["foreign"]),
        "plain": (), "distrustful": ("--tlscacert", f"{folder}/theirs.pem", *clients["right"])})
    made.container.remove(force=True)


def test_a_client_with_a_certificate_builds_over_the_port(secured: Secured, context: Path, tmp_path: Path) -> None:
    secured.daemon.build(context, "--opt", f"platform={FOREIGN}", "--output", f"type=oci,dest={tmp_path}/image.tar",
                         address=PORT, tls=secured.clients["right"])
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert "index.json" in tar.getnames()


# With TLS 1.3 the server says no when the client has begun to speak, who then may see no more than that it is gone.
GONE = "broken pipe|reset by peer|EOF"


@pytest.mark.parametrize(("who", "says"), [
    ("none", f"certificate required|bad certificate|{GONE}"),
    ("foreign", f"unknown certificate authority|bad certificate|certificate required|{GONE}"),
    ("plain", "deadline exceeded|error reading server preface|connection"),
    ("distrustful", "certificate signed by unknown authority"),
])
def test_nobody_else_is_let_in(secured: Secured, who: str, says: str) -> None:
    done = secured.daemon.call("--addr", PORT, "--timeout", "5", *secured.clients[who], "debug", "workers")
    assert done.returncode != 0
    assert re.search(says, done.stderr), done.stderr
    assert secured.daemon.call("--addr", PORT, *secured.clients["right"], "debug", "workers").returncode == 0


def test_it_is_the_farms_buildkit_and_gives_the_same_bytes(secured: Secured, tmp_path: Path) -> None:
    """By the golden build, which each node of a farm must pass before anything is built on it."""
    said = secured.daemon.container.exec_run(["buildctl", "--version"]).output.decode()
    assert said.split()[2] == ENGINE["__buildkitd_version"]
    folder = tmp_path / "golden"
    folder.mkdir()
    lay_out(str(folder))
    command = golden.command(str(BUILDCTL), PORT, str(folder), f"{tmp_path}/golden.tar", f"{tmp_path}/metadata.json",
                             golden.OUTPUT)
    done = secured.daemon.call(*secured.clients["right"], *command[1:])
    assert done.returncode == 0, done.stderr[-3000:]
    digest = json.loads((tmp_path / "metadata.json").read_text())["containerimage.digest"]
    assert digest == ENGINE["__buildkitd_engine"]


# what cannot work


@pytest.mark.parametrize(("image", "options", "says"), [
    ("buildkit", {"command": ["--addr", "tcp://0.0.0.0:1234"]}, "a port without certificates is open to everybody"),
    ("buildkit-rootless", {"command": ["--addr", "tcp://0.0.0.0:1234"]}, "a port without certificates"),
    ("buildkit-rootless", {"security": ["no-new-privileges", "seccomp=unconfined"]}, "without no-new-privileges"),
    ("buildkit-rootless", {"security": []}, "a user namespace cannot be made"),
])
def test_what_cannot_work_is_refused_with_a_message(docker: Any, ids: dict[str, str], image: str,
                                                    options: dict[str, Any], says: str) -> None:
    made = Daemon.start(docker, ids, image, **options)
    assert made.container.wait(timeout=30)["StatusCode"] == 2
    assert says in made.container.logs(stdout=False, stderr=True).decode()
    made.container.remove(force=True)


def test_a_lack_of_one_certificate_is_refused(docker: Any, ids: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    tmp_path.chmod(0o755)
    made = Daemon.start(docker, ids, "buildkit", volumes=[f"{tmp_path}:/certs:ro"])
    assert made.container.wait(timeout=30)["StatusCode"] == 2
    assert "in /certs is no cert.pem and no key.pem" in made.container.logs().decode()
    made.container.remove(force=True)
