"""Keys and files that a person gives in the settings: what cannot be used is told before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils import given, settings
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates
from ansible_collections.desimages.farm.plugins.plugin_utils.public_keys import is_private_key
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

PROJECT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 29, tzinfo=timezone.utc)
KEY = ed25519.Ed25519PrivateKey.generate()


def pem(key, style: PrivateFormat = PrivateFormat.PKCS8, secret: bytes = b"") -> str:  # type: ignore[no-untyped-def]
    lock = BestAvailableEncryption(secret) if secret else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, style, lock).decode())


def test_an_ed25519_key_is_taken() -> None:
    assert is_private_key(pem(KEY)) and is_private_key("\n" + pem(KEY).replace("\n", "\r\n") + "\n")


WRONG = {
    "rsa": pem(rsa.generate_private_key(65537, 2048)),
    "ec": pem(ec.generate_private_key(ec.SECP256R1())),
    "ed448": pem(ed448.Ed448PrivateKey.generate()),
    "x25519": pem(x25519.X25519PrivateKey.generate()),
    "locked": pem(KEY, secret=b"word"),
    "of ssh": pem(KEY, PrivateFormat.OpenSSH),
    "public": KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    "in one line": pem(KEY).replace("\n", " "),
    "cut": pem(KEY)[:-30],
    "changed": pem(KEY).replace("MC4CAQ", "MC4CAA"),
    "a path": "/srv/key.pem",
    "a word": "secret",
    "empty": "-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----",
    "no base64": "-----BEGIN PRIVATE KEY-----\n*\n-----END PRIVATE KEY-----",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_no_ed25519_key_is_refused_with_the_settings(text: str) -> None:
    there = {"farm_state": "/srv/a", "farm_registry": "127.0.0.1:5000", "farm_namespace": "a", "farm_catalog": ["/a"]}
    (found,) = settings.mistakes({**there, "farm_signing_key": text}, {"nodes": ["localhost"]})
    assert found.startswith("farm_signing_key is (not shown), it must be an ed25519 private key itself")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    authority = certificates.new_authority(NOW, "ca")
    (tmp_path / "ca.pem").write_text(authority.pem, encoding="utf-8")
    (tmp_path / "key.pem").write_text(authority.key_pem, encoding="utf-8")
    (tmp_path / "words.pem").write_text("hello\n", encoding="utf-8")
    (tmp_path / "empty.pem").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    return tmp_path


def mistakes(place: Path, now: datetime = NOW, **changes: str) -> list[str]:
    values = {"farm_registry": "registry.example.org:5000", "farm_secrets": f"{place}/secrets"}
    return given.mistakes({**values, **{name: f"{place}/{file}" for name, file in changes.items()}}, now)


@pytest.mark.parametrize(("file", "said"), [
    ("nowhere.pem", "cannot be read (No such file or directory)"), ("folder", "cannot be read (Is a directory)"),
    ("words.pem", "must have certificates in PEM, and there are none in it"), ("empty.pem", "there are none in it"),
    ("key.pem", "it has a private key"),
])
def test_a_ca_that_cannot_be_used_is_told(place: Path, file: str, said: str) -> None:
    (found,) = mistakes(place, farm_registry_ca=file)
    assert found.startswith(f"farm_registry_ca is '{place}/{file}': ") and said in found


def test_a_ca_that_has_expired_is_told(place: Path) -> None:
    assert mistakes(place, farm_registry_ca="ca.pem") == []
    (found,) = mistakes(place, NOW + timedelta(days=365 * 50), farm_registry_ca="ca.pem")
    assert "its certificates expired, the last one on 20" in found


def test_what_the_farm_makes_may_be_missing(place: Path) -> None:
    assert mistakes(place) == mistakes(place, farm_registry_ca="secrets/registry-ca.pem") == []
    assert given.mistakes({"farm_registry": "127.0.0.1:5000", "farm_registry_ca": "/nowhere/ca.pem"}, NOW) == []


def test_a_certificate_of_ones_own_is_there_with_its_key(place: Path) -> None:
    found = mistakes(place, registry_certificate="nowhere.pem", registry_key="folder")
    assert [text.split()[0] for text in found] == ["registry_certificate", "registry_key"]
    assert mistakes(place, registry_certificate="ca.pem", registry_key="key.pem") == []


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    """Or what took an hour would be lost at the end."""
    values = {"farm_registry": "127.0.0.1:5000", "farm_verify_json": str(tmp_path / "no" / "x.json")}
    assert given.mistakes(values, NOW) == [
        f"farm_verify_json is '{tmp_path}/no/x.json': the machine on which ansible-playbook runs has no folder "
        f"{tmp_path}/no"]
    assert given.mistakes({**values, "farm_verify_json": str(tmp_path / "x.json")}, NOW) == []


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stdout", "/"])
def test_a_device_is_not_replaced_by_a_file(path: str) -> None:
    """As root, it would be, for the whole machine."""
    assert given.mistakes({"farm_registry": "127.0.0.1:5000", "farm_plan_json": path}, NOW) == [
        f"farm_plan_json is '{path}': this is not a file, and would be replaced by one: name another"]


def test_each_file_that_a_playbook_writes_is_looked_at() -> None:
    assert set(given.WRITTEN) == {name for name in settings.OF_PLAYBOOKS if name.endswith("_json")}


@pytest.mark.parametrize(("files", "said"), [
    (["group_vars/node.yml"], ["group_vars/node is for no group of this inventory, so nothing in it is used: is it for"
                               " nodes?"]),
    (["group_vars/registry/all.yml", "host_vars/pi-zer"], ["group_vars/registry is for", "host_vars/pi-zer is for"]),
    (["group_vars/node.yml", "group_vars/nodes.yml"], []), (["group_vars/web.yml", "host_vars/pi3.yml"], []),
    (["group_vars/all.yml", "group_vars/testers", "host_vars/localhost.json", "host_vars/pi2.example.org"], []),
    (["group_vars/.node.yml.swp", "hosts.yml"], []),
])
def test_a_file_for_a_group_that_is_misspelt_is_told(tmp_path: Path, files: list[str], said: list[str]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    hosts = ["pi2", "pi-zero", "pi2.example.org"]
    found = given.unread(str(tmp_path), {"all": hosts, "nodes": hosts, "registries": ["pi2"]}, hosts)
    assert [text.removeprefix(f"{tmp_path}/")[:len(start)] for text, start in zip(found, said, strict=True)] == said


JUDGED = """
import sys
from datetime import datetime, timezone
from ansible_collections.desimages.farm.plugins.plugin_utils import given
for path in sys.argv[1:]:
    (said,) = given.mistakes({"farm_registry": "127.0.0.1:1", "farm_plan_json": path}, datetime.now(timezone.utc))
    print(said)
"""


def test_a_file_that_this_user_may_not_write_is_told(tmp_path: Path) -> None:
    """By a process that modes bind. (Root's may write everything by a capability.)"""
    for name, mode in (("closed/inner", 0o755), ("sealed", 0o555)):
        (tmp_path / name).mkdir(parents=True, mode=mode)
    (tmp_path / "closed").chmod(0)
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    paths = [str(tmp_path / name) for name in ("closed/inner/x.json", "closed/x.json", "sealed/x.json")]
    try:
        done = subprocess.run([*without, sys.executable, "-c", JUDGED, *paths], capture_output=True, text=True,
                              check=True, env={**os.environ, "PYTHONPATH": str(PROJECT / "collections")})
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert [line.partition(": ")[2] for line in done.stdout.splitlines()] == [
        f"this user may not look into the folder {tmp_path}/closed/inner",
        f"this user may not write to the folder {tmp_path}/closed",
        f"this user may not write to the folder {tmp_path}/sealed"]
