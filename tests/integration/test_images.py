"""The project's own images in the hands of others: skopeo reads them, Docker runs them, an emulator starts each foreign
one."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import shutil
import ssl
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry
from docker.errors import DockerException

from ..unit.debian_archive import Archive, Package, new_signer
from .conftest import PROJECT, STATE, Chain, sh
from .containers import bring, get, inside
from .docker_host import run, until
from .unpacked import DIRECT, EMULATORS, NATIVE, Unpacked

IMAGES = ("debian", "base", "static", "tools", "registry")
LABELS = {"created", "description", "licenses", "source", "title", "url", "vendor", "version"}


def skopeo(*words: str) -> Any:
    """`skopeo inspect`, as JSON."""
    return json.loads(sh("skopeo", *words[:-1], "inspect", "--tls-verify=false", *words[-1].split()))


def chosen(platform: str) -> list[str]:
    """How skopeo is told to choose from an index."""
    _os, architecture, variant = (*platform.split("/"), "")[:3]
    return [f"--override-arch={architecture}", *([f"--override-variant={variant}"] if variant else [])]


def platform_of(config: dict[str, Any]) -> str:
    return "/".join(config[key] for key in ("os", "architecture", "variant") if config.get(key))


@pytest.mark.parametrize("image", IMAGES)
def test_every_platform_is_what_its_index_says_and_is_labelled(chain: Chain, image: str) -> None:
    name = f"docker://{chain.registry}/{chain.namespace}/{image}"
    tags = skopeo(name)["RepoTags"]
    index = skopeo(f"--raw {name}:latest")
    told = {key.rpartition(".image.")[2]: value for key, value in index["annotations"].items()}
    parent = re.findall(r"^FROM (debian|static|base)$", (PROJECT / "images" / image / "Dockerfile").read_text(), re.M)
    assert told.keys() >= LABELS
    assert told["title"] == image
    assert told.get("base.name", "") == (f"{chain.namespace}/{parent[-1]}" if parent else "")
    assert f"trixie-{told['created'][:10].replace('-', '')}" in tags
    assert len(chain.platforms(image)) == len(index["manifests"]) > 1

    for platform in chain.platforms(image):
        reference = f"docker://{chain.reference(image, platform)}"
        config, manifest = skopeo(f"--config {reference}"), skopeo(f"--raw {reference}")
        assert platform_of(config) == platform
        assert skopeo(*chosen(platform), f"--config {name}:latest") == config
        labels = config["config"]["Labels"]
        # what a mirror could not serve differs from one architecture to the next
        assert {key: value for key, value in labels.items()
                if not key.startswith("org.desimages.")} == index["annotations"], platform
        assert manifest["annotations"].items() >= index["annotations"].items(), platform
        assert config["created"] == told["created"], platform
        # the steps of its parent keep the time of the parent, and no step has another time
        before = skopeo(f"--config docker://{chain.reference(parent[-1], platform)}")["history"] if parent else []
        assert config["history"][:len(before)] == before, platform
        own = {step["created"] for step in config["history"][len(before):]}
        assert own == {told["created"]}, platform
        assert {layer["mediaType"]
                for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+zstd"}, platform
        assert config["config"].get("User", "") == ("" if image == "debian" else "2000:2000"), platform


STARTS = [
    ("debian", 0, ["/usr/bin/apt-get", "--version"], r"^apt 3\.[\d.]+ \({debian}\)"),
    ("base", 2000, ["/usr/bin/dpkg", "--print-architecture"], r"^{debian}$"),
    ("tools", 2000, ["/health", "help"], "health http"),
    ("registry", 2000, ["/registry", "--version"], r"/registry github\.com/distribution/distribution/v3 v3\."),
]
DEBIAN = {"linux/386": "i386", "linux/arm/v7": "armhf", "linux/arm/v6": "armel", "linux/ppc64le": "ppc64el"}


@pytest.mark.parametrize("platform", EMULATORS)
def test_every_image_starts_on_its_platform(chain: Chain, scratch: Path, platform: str) -> None:
    for image, user, words, says in STARTS:
        if platform == "linux/386" and platform not in DIRECT and image in ("tools", "registry"):
            continue  # Debian 12's qemu-i386 (7.2) cannot run a Go program: its runtime crashes with "morestack on g0"
        if platform in chain.platforms(image):
            (scratch / image).mkdir()
            said = Unpacked.of(chain, image, platform, scratch / image).run(platform, *words, user=user)
            assert re.search(says.replace("{debian}", DEBIAN.get(platform, platform.rpartition("/")[2])), said,
                             re.M), f"{image} {platform}: {said}"
            run("rm", "-rf", str(scratch / image))


def test_debian_is_installed_in_full_and_as_its_packages_say(chain: Chain, scratch: Path) -> None:
    debian = Unpacked.of(chain, "debian", NATIVE, scratch)
    assert debian.run(NATIVE, "dpkg", "--audit") == ""
    patterns = re.findall(r"^path-(in|ex)clude=(.*)$", (debian.root / "etc/dpkg/dpkg.cfg.d/slim").read_text(), re.M)

    def left_out(path: str) -> bool:  # the last pattern that matches decides, as in dpkg
        return [kind for kind, pattern in patterns if fnmatch.fnmatchcase(path, pattern)][-1:] == ["ex"]

    differing = [line for line in debian.run(NATIVE, "dpkg", "--verify").splitlines()
                 if not (line.startswith("missing ") and left_out(line.rpartition(" ")[2]))]
    assert differing == []

    created = datetime.fromisoformat(skopeo(f"--config docker://{chain.reference('debian', NATIVE)}")["created"])
    sources = (debian.root / "etc/apt/sources.list.d/debian.sources").read_text()
    assert f"{created + timedelta(days=1):%Y%m%dT%H%M%SZ}" in sources


KEPT = (  # of what a slim Debian has not
    "usr/share/doc/*/copyright",  # licences ask for it
    "usr/share/info/dir",  # the empty menu that base-files makes
    "usr/lib/locale/C.utf8/*",
    "var/cache/debconf/*.dat",  # answers and templates, no cache
)
SLIM = [f"{folder}/*" for folder in (
    "usr/share/doc", "usr/share/info", "usr/share/man", "usr/share/locale", "usr/lib/locale", "usr/share/i18n",
    "usr/share/lintian",
    "usr/share/bash-completion", "var/lib/apt/lists", "var/cache", "var/log", "var/tmp", "tmp", "run")]


@pytest.mark.parametrize("platform", [NATIVE, "linux/arm/v6"])
def test_debian_has_no_documentation_locales_caches_or_logs(chain: Chain, scratch: Path, platform: str) -> None:
    files = Unpacked.of(chain, "debian", platform, scratch).find("-type", "f", "-printf", "%P\n")
    slim = {path for pattern in SLIM for path in fnmatch.filter(files, pattern)}
    kept = {pattern: set(fnmatch.filter(files, pattern)) for pattern in KEPT}
    assert slim - set().union(*kept.values()) == set()
    assert all(kept.values())
    assert not [path for path in files if path.endswith(("-old", ".dpkg-new", ".pyc", "ld.so.cache"))]


STATIC = """
etc etc/group etc/nsswitch.conf etc/passwd etc/ssl etc/ssl/certs etc/ssl/certs/ca-certificates.crt tmp
usr usr/share usr/share/doc usr/share/doc/ca-certificates usr/share/doc/ca-certificates/copyright
usr/share/doc/tzdata usr/share/doc/tzdata/copyright
usr/share/zoneinfo
"""


def test_static_has_certificates_time_zones_and_names_and_nothing_else(chain: Chain, scratch: Path) -> None:
    lines = Unpacked.of(chain, "static", NATIVE, scratch).find("-mindepth", "1", "-printf", "%P %y %m %U:%G\n")
    modes = dict(line.split(" ", 1) for line in lines)
    assert {path for path in modes if not path.startswith("usr/share/zoneinfo/")} == set(STATIC.split())
    assert modes.pop("tmp") == "d 1777 0:0"
    assert set(modes.values()) == {"d 755 0:0", "f 644 0:0", "l 777 0:0"}  # no program among them
    layers = [skopeo(f"--raw docker://{chain.reference('static', platform)}")["layers"]
              for platform in chain.platforms("static")]
    assert len(layers) > 1 and all(each == layers[0] for each in layers)


@pytest.mark.parametrize("image", ["base", "static"])
def test_a_service_finds_its_user_certificates_and_time_zones(chain: Chain, scratch: Path, image: str) -> None:
    root = Unpacked.of(chain, image, NATIVE, scratch).root
    users = {line.split(":")[0]: line.split(":")[2:] for line in (root / "etc/passwd").read_text().splitlines()}
    assert users["desimages"] == ["2000", "2000", "desimages", "/data", "/usr/sbin/nologin"]
    assert users["root"][:2] == ["0", "0"]
    assert re.search(r"^desimages:[x*]:2000:$", (root / "etc/group").read_text(), re.M)
    assert re.search(r"^hosts: +files dns$", (root / "etc/nsswitch.conf").read_text(), re.M)

    bundle = (root / "etc/ssl/certs/ca-certificates.crt").read_text()
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted.load_verify_locations(cadata=bundle)
    assert len(trusted.get_ca_certs()) == bundle.count("-----BEGIN CERTIFICATE-----") > 100

    for zone, hours in (("UTC", 0), ("Europe/Berlin", 2)):
        with (root / "usr/share/zoneinfo" / zone).open("rb") as file:
            assert datetime(2026, 7, 1, tzinfo=ZoneInfo.from_file(file)).utcoffset() == timedelta(hours=hours), zone


def test_base_has_the_folders_of_a_service(chain: Chain, scratch: Path) -> None:
    lines = Unpacked.of(chain, "base", NATIVE, scratch).find("-maxdepth", "1", "-type", "d", "-printf", "%P %m %U:%G\n")
    modes = dict(line.split(" ", 1) for line in lines)
    assert {name: modes.get(name) for name in ("config", "data", "certs", "tmp", "root")} == {
        "config": "755 0:0", "data": "750 2000:2000", "certs": "750 2000:2000", "tmp": "1777 0:0", "root": "700 0:0"}
    config = skopeo(f"--config docker://{chain.reference('base', NATIVE)}")["config"]
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" in config["Env"]


@dataclass(frozen=True)
class Deb(Package):
    """A real package of the store, as an archive's index has it."""

    path: Path = Path()

    @classmethod
    def of(cls, entry: Entry) -> Deb:
        return cls(entry.fact["name"], entry.fact["version"], path=Store(STATE / "store").path(entry.sha256))

    def put(self, root: Path, architecture: str) -> None:
        (root / "pool").mkdir(parents=True, exist_ok=True)
        shutil.copy(self.path, root / "pool" / f"{self.path.name}.deb")

    def stanza(self, architecture: str) -> str:
        lines = [f"Filename: pool/{self.path.name}.deb", f"Size: {self.path.stat().st_size}",
                 f"SHA256: {self.path.name}"]
        return "\n".join([sh("dpkg-deb", "--field", str(self.path)).strip(), *lines]) + "\n"


def test_apt_installs_into_debian(chain: Chain, docker: Any, tmp_path: Path) -> None:
    lock = lockfile.parse((PROJECT / "images/builder/lock.jsonl").read_text(), "builder")
    packages = tuple(Deb.of(entry) for entry in lock.of("unzip", NATIVE))
    assert "unzip" in {package.name for package in packages}
    with new_signer() as signer:
        archive = Archive(tmp_path / "archive", signer)
        archive.suite("trixie", packages, architectures=(DEBIAN.get(NATIVE, NATIVE.rpartition("/")[2]),))
        shutil.copy(signer.keyring, archive.root / "keyring.gpg")
    source = "Types: deb\nURIs: file:///archive\nSuites: trixie\nComponents: main\nSigned-By: /archive/keyring.gpg\n"
    (archive.root / "debian.sources").write_text(source)
    run("chmod", "-R", "a+rX", str(tmp_path))
    command = ("cp /archive/debian.sources /etc/apt/sources.list.d/ && apt-get update"
               " && apt-get install --yes --no-remove unzip && unzip -v && apt-get check")
    said = docker.containers.run(bring(docker, chain.reference("debian", NATIVE), tmp_path), ["sh", "-ec", command],
                                 network_mode="none",
                                 volumes=[f"{archive.root}:/archive:ro"], stderr=True, remove=True).decode()
    assert "Setting up unzip" in said
    assert "UnZip 6" in said
    assert "W:" not in said


def test_a_catalog_in_gzip_is_for_engines_that_read_no_zstd(chain: Chain, docker: Any, tmp_path: Path) -> None:
    """Such as Debian 12's Docker and what is made of it."""
    catalog = tmp_path / "images"
    (catalog / "plain").mkdir(parents=True)
    (catalog / "defaults.yml").write_text("compression: gzip\n")
    (catalog / "plain/image.yml").write_text("description: The base in gzip\nlicense: MIT\nplatforms: all\n")
    (catalog / "plain/Dockerfile").write_text('FROM base\nCOPY said /said\nCMD ["/usr/bin/cat", "/said"]\n')
    (catalog / "plain/said").write_text("it runs\n")
    farm = chain.farm.on(PROJECT / "images", catalog, farm_images=["plain"], farm_platforms=[NATIVE], farm_partial=True)
    done = farm.run()
    assert done.rc == 0, done.text[-4000:]
    reference = chain.reference("plain", NATIVE)
    kinds = {layer["mediaType"] for layer in skopeo(f"--raw docker://{reference}")["layers"]}
    assert kinds == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert farm.run().changed == 0
    if int(docker.version()["Version"].partition(".")[0]) < 23:
        with pytest.raises(DockerException):
            docker.images.pull(chain.reference("base", NATIVE))
    image = docker.images.pull(reference)
    said = docker.containers.run(image.id, network_mode="none", read_only=True, cap_drop=["ALL"], remove=True)
    assert said == b"it runs\n"


def test_registry_keeps_its_contract(chain: Chain, docker: Any, scratch: Path) -> None:
    reference = chain.reference("registry", NATIVE)
    container = docker.containers.create(bring(docker, reference, scratch), read_only=True, cap_drop=["ALL"],
                                         security_opt=["no-new-privileges"],
                                         network_mode="none", volumes=["data:/data"])
    container.start()

    def healthy() -> bool:
        container.reload()
        assert container.status == "running", container.logs().decode()
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    until("the registry is healthy", 60, healthy)
    process = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{container.attrs['State']['Pid']}/status").read_text(),
                              re.M))
    assert process["Uid"].split() == ["2000"] * 4
    assert (int(process["CapEff"], 16), int(process["CapBnd"], 16), process["NoNewPrivs"]) == (0, 0, "1")
    assert len(container.top()["Processes"]) == 1

    there = "docker://127.0.0.1:5000/some/tools:1"
    sh("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{chain.reference('tools', NATIVE)}",
       f"dir:{scratch}/in")
    inside(container, "skopeo", "copy", "-q", "--dest-tls-verify=false", f"dir:{scratch}/in", there)
    inside(container, "skopeo", "copy", "-q", "--src-tls-verify=false", there, f"dir:{scratch}/out")
    assert contents(scratch / "in") == contents(scratch / "out")

    status, metrics = get(container, "http://127.0.0.1:5001/metrics")
    assert status == 200
    assert re.search(r"^registry_http_requests_total\{.*\} \d", metrics, re.M)
    assert get(container, "http://127.0.0.1:5001/debug/pprof/")[0] == 404

    began = time.monotonic()
    container.stop(timeout=20)
    assert time.monotonic() - began < 10
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
    lines = container.logs(stdout=True, stderr=False).decode().splitlines()
    assert all(json.loads(line)["level"] for line in lines)
    assert any("listening on" in line for line in lines)
    assert container.logs(stdout=False, stderr=True) == b""


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
