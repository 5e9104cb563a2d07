"""A registry that others can reach: TLS and a password on the whole way, and neither is found where it must not be."""

from __future__ import annotations

import base64
import re
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.progress import Progress
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.access import Access
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from . import tls
from .conftest import STATE, Farm
from .docker_host import ROOT, run
from .small import Small, units

PLACE = Path(f"{STATE}-tls")
SECRETS = PLACE / "secrets"
PORT = 5999
REGISTRY = f"{tls.HOST}:{PORT}"
INVENTORY = """nodes: {hosts: {localhost: {}}}
all:
  hosts:
    localhost:
      ansible_connection: local
      ansible_python_interpreter: "{{ ansible_playbook_python }}"
      ansible_become: "{{ lookup('ansible.builtin.pipe', 'id -u') != '0' }}"
"""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm whose registry listens on a bridge's address, with a small catalog whose steps look around."""
    small = Small(tmp_path_factory.mktemp("secure") / "images")
    small.edit("box/Dockerfile", "echo $TARGETPLATFORM > /out/platform",
               "echo $TARGETPLATFORM > /out/platform && (/usr/bin/busybox env | /usr/bin/busybox grep SSL_ && exit 1;"
               " test ! -e /nonexistent)")
    farm = Farm(tmp_path_factory.mktemp("runner"), {
        "farm_state": str(PLACE), "farm_registry": REGISTRY, "farm_catalog": [str(small.root)],
        "farm_namespace": "secure"})
    with tls.bridge():
        farm.run("playbooks/clean.yml")
        first = farm.run("playbooks/provision.yml", "--diff")
        assert first.rc == 0, first.text[-4000:]
        for name in ("registry-password", "registry.key", "registry-ca.key", "registry-htpasswd"):
            assert secret(name).splitlines()[-1] not in first.text, name
        locked = farm.run("playbooks/lock.yml")
        assert locked.rc == 0, locked.text[-3000:]
        yield farm
        assert farm.run("playbooks/clean.yml").rc == 0


@pytest.fixture(scope="module")
def elsewhere(secure: Farm, tmp_path_factory: pytest.TempPathFactory) -> Farm:
    """A farm of the same place that uses that registry as somebody else's."""
    inventory = tmp_path_factory.mktemp("inventory") / "hosts.yml"
    inventory.write_text(INVENTORY)
    return replace(secure, inventory=inventory, defaults={
        **secure.defaults, "farm_registry_ca": str(SECRETS / "registry-ca.pem"),
        "farm_registry_password": secret("registry-password").strip()})


@pytest.fixture(scope="module")
def built(secure: Farm) -> Farm:
    """The farm with images in its registry."""
    done = secure.run("build.yml")
    assert done.rc == 0, done.text[-3000:]
    return secure


def secret(name: str) -> str:
    return run("cat", str(SECRETS / name))


def access() -> Access:
    return Access(str(SECRETS / "registry-ca.pem"), "farm", secret("registry-password").strip())


def pids() -> dict[str, str]:
    """The processes of the services of this farm."""
    found = {}
    for name in ("buildkitd", "docker-registry"):
        said = subprocess.run(["pgrep", "-f", f"{name}.*{PLACE}/etc"], capture_output=True, text=True, check=False)
        found[name] = next(pid for pid in said.stdout.split() if "runsv" not in Path(f"/proc/{pid}/comm").read_text())
    return found


class Watch(threading.Thread):
    """Looks for a text in the arguments and the environment of every process, as often as it can."""

    def __init__(self, *texts: str) -> None:
        super().__init__(daemon=True)
        self.texts, self.ended, self.looks = [text.encode() for text in texts], threading.Event(), 0
        self.found: set[str] = set()

    def run(self) -> None:
        while not self.ended.wait(0.02):
            self.looks += 1
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        data = (process / name).read_bytes()
                    except OSError:
                        continue
                    if any(text in data for text in self.texts):
                        self.found.add(f"{name} of {data[:200]!r}")


def test_a_second_provisioning_changes_nothing(secure: Farm) -> None:
    again = secure.run("playbooks/provision.yml")
    assert (again.rc, again.changed) == (0, 0), again.text[-3000:]


def test_an_image_is_built_through_tls_and_the_password_is_nowhere(secure: Farm) -> None:
    password = secret("registry-password").strip()
    texts = [password, base64.b64encode(f"farm:{password}".encode()).decode()]
    watch = Watch(*texts)
    watch.start()
    try:
        done = secure.run("build.yml", "-vvv", "--diff")
    finally:
        watch.ended.set()
        watch.join()
    assert done.rc == 0, done.text[-3000:]
    assert done.built == units("box", "child", "grand", "other")
    assert (watch.found, watch.looks > 20) == (set(), True)
    assert not [text for text in texts if text in done.text]
    assert not [text for text in texts if text in str(done.events)]
    held = subprocess.run([*ROOT, "grep", "-rlF", *(f"-e{text}" for text in texts), str(PLACE), str(secure.folder)],
                          capture_output=True, text=True, check=False)
    assert held.stdout.split() == [str(SECRETS / "registry-password")]
    assert set(Registry(REGISTRY, access=access()).tags("secure/grand")) >= {"latest"}


def test_what_is_there_is_not_built_again(built: Farm) -> None:
    again = built.run("build.yml")
    assert (again.rc, again.changed) == (0, 0), again.text[-3000:]


def test_nobody_reads_without_the_password_or_without_the_ca(secure: Farm) -> None:
    context = ssl.create_default_context(cafile=str(SECRETS / "registry-ca.pem"))
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"https://{REGISTRY}/v2/", context=context)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"https://{REGISTRY}/v2/")
    modes = run("stat", "-c", "%a %U %G", *(f"{PLACE}/etc/registry.{name}" for name in ("key", "htpasswd")))
    assert modes.splitlines() == ["640 root docker-registry"] * 2
    assert run("stat", "-c", "%a", str(SECRETS), str(SECRETS / "registry-ca.key")).split() == ["700", "600"]


@pytest.mark.full
@pytest.mark.parametrize(("playbook", "said"), [
    ("playbooks/status.yml", "secure/grand"), ("playbooks/check.yml", "0 damaged or missing"),
])
def test_what_reads_the_registry_is_let_in(built: Farm, playbook: str, said: str) -> None:
    done = built.run(playbook)
    assert done.rc == 0, done.text[-3000:]
    assert said in done.text


def test_a_changed_password_restarts_the_registry_alone(built: Farm) -> None:
    before = pids()
    run("rm", str(SECRETS / "registry-password"))
    done = built.run("playbooks/provision.yml", "--tags", "registry_run")
    assert done.rc == 0, done.text[-3000:]
    after = pids()
    assert after["buildkitd"] == before["buildkitd"] and after["docker-registry"] != before["docker-registry"]
    assert Registry(REGISTRY, access=access()).tags("secure/grand")


@pytest.mark.full
def test_a_certificate_for_other_names_is_made_again(built: Farm) -> None:
    """As after farm_registry got another name: here the file is one for another."""
    before, kept = pids(), secret("registry-ca.pem")
    now = datetime.now(timezone.utc)
    authority = certificates.read(kept, secret("registry-ca.key"))
    assert authority
    made = certificates.new_server(authority, ["registry.example.org"], now)
    for name, text in (("registry.pem", made.pem), ("registry.key", made.key_pem)):
        run("tee", str(SECRETS / name), stdin=text.encode())
    done = built.run("playbooks/provision.yml", "--tags", "registry_run", "--diff")
    assert done.rc == 0, done.text[-3000:]
    assert "for registry.example.org, until" in done.text
    assert secret("registry-ca.pem") == kept
    assert pids()["buildkitd"] == before["buildkitd"]
    assert Registry(REGISTRY, access=access()).tags("secure/grand")


@pytest.mark.parametrize(("kind", "said", "remedy"), [
    ("expired", "certificate has expired", "renew it"),
    ("foreign", "issuer", "set farm_registry_ca"),
    ("other name", "mismatch", "farm_registry must be one of the names"),
])
def test_a_certificate_that_clients_would_refuse_is_refused_before_anything_starts(
        secure: Farm, tmp_path: Path, kind: str, said: str, remedy: str) -> None:
    before = pids()
    authority = certificates.read(secret("registry-ca.pem"), secret("registry-ca.key"))
    assert authority
    certificate, key = tls.given(tmp_path, kind, authority)
    began = time.monotonic()
    done = secure.run("playbooks/provision.yml", registry_certificate=str(certificate), registry_key=str(key),
                      farm_registry_ca=str(SECRETS / "registry-ca.pem"))
    assert done.rc != 0
    assert said in done.text and remedy in re.sub(r"\s+", " ", done.text)
    assert pids() == before
    assert time.monotonic() - began < 60


@pytest.mark.full
def test_an_existing_registry_is_used_and_nothing_is_installed(built: Farm, elsewhere: Farm) -> None:
    before = pids()["docker-registry"]
    done = elsewhere.run("build.yml")
    assert done.rc == 0, done.text[-3000:]
    assert done.built == set()
    assert pids()["docker-registry"] == before


@pytest.mark.parametrize(("changes", "said", "remedy"), [
    ({"farm_registry_password": "wrong"}, "HTTP 401", "are farm_registry_user (farm) and farm_registry_password those"),
    ({"farm_registry_user": "somebody"}, "HTTP 401", "are farm_registry_user (somebody) and farm_registry_password"),
    ({"farm_registry_ca": ""}, "CERTIFICATE_VERIFY_FAILED", "set farm_registry_ca to the CA"),
    ({"farm_registry_ca": "/nowhere/ca.pem"}, "/nowhere/ca.pem", "farm_registry_ca"),
])
@pytest.mark.parametrize("flags", [[], ["--check"]])
def test_a_wrong_login_or_ca_is_refused_at_once(
        elsewhere: Farm, flags: list[str], changes: dict[str, str], said: str, remedy: str) -> None:
    began = time.monotonic()
    done = elsewhere.run("playbooks/context.yml", *flags, image="grand", to="/var/tmp/desimages-nowhere", **changes)
    assert done.rc != 0
    assert said in done.text and remedy in re.sub(r"\s+", " ", done.text), done.text[-2000:]
    assert time.monotonic() - began < 30


@pytest.mark.full
@pytest.mark.parametrize("kind", tls.WRONG)
def test_what_a_node_does_not_trust_is_not_tried_for_a_minute(secure: Farm, tmp_path: Path, kind: str) -> None:
    """BuildKit's own words, for a parent and for a push."""
    authority = certificates.read(secret("registry-ca.pem"), secret("registry-ca.key"))
    assert authority
    with tls.wrong_registry(tmp_path, kind, authority) as address:
        for parent in ("scratch", f"{address}/a/b@sha256:{'0' * 64}"):
            (tmp_path / "Dockerfile").write_text(f"FROM {parent}\nCOPY Dockerfile /\n")
            words = [f"{PLACE}/bin/buildctl", f"--addr=unix://{PLACE}/buildkitd.sock", "build", "--progress=rawjson",
                     "--frontend=dockerfile.v0", f"--local=dockerfile={tmp_path}", f"--local=context={tmp_path}",
                     f"--output=type=image,name={address}/a/b,push=true"]
            done = subprocess.run([*ROOT, "env", f"HOME={tmp_path}", *words], capture_output=True, text=True,
                                  check=False)
            progress = Progress()
            for line in (done.stdout + done.stderr).splitlines():
                progress.feed(line)
            assert done.returncode != 0
            assert (bool(progress.refused), progress.transport) == (True, False), progress.failed
