"""The farm's own CA and certificate: clients accept them, they are renewed in time, and their keys are seen nowhere."""

from __future__ import annotations

import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import bcrypt
import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates, fingerprints, handshake, keeping

NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)
HOSTS = ["registry.example.org", "192.0.2.5", "[2001:db8::1]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def made(folder: Path, hosts: list[str] | None = None, now: datetime = NOW) -> list[str]:
    """What `certify` does, as reasons."""
    return keeping.Secrets(str(folder), check=False).certify(hosts or HOSTS, now)[0].reasons


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("host", HOSTS)
def test_clients_accept_it_under_each_name(folder: Path, host: str) -> None:
    made(folder)
    files = [str(folder / name) for name in (keeping.CERTIFICATE, keeping.KEY, keeping.CA)]
    assert handshake.refused(*files, host) == ("", "")
    assert "mismatch" in handshake.refused(*files, "other.example.org")[0]


def test_a_second_time_nothing_is_made(folder: Path) -> None:
    assert len(made(folder)) == 2
    before = texts(folder)
    assert made(folder) == []
    assert texts(folder) == before


def test_only_the_user_can_read_it(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    made(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize(("later", "said"), [
    (timedelta(days=366), []),
    (timedelta(days=368), ["the registry's certificate: it expires on"]),
    (timedelta(days=3619), ["the registry's certificate: it expires on"]),
    (timedelta(days=3621), ["the farm's CA: it expires on", "the registry's certificate: it expires on"]),
    (-timedelta(days=2), ["the farm's CA: it is valid only from", "the registry's certificate: it is valid only from"]),
])
def test_it_is_renewed_in_time(folder: Path, later: timedelta, said: list[str]) -> None:
    made(folder)
    reasons = made(folder, now=NOW + later)
    assert [reason[:len(start)] for reason, start in zip(reasons, said, strict=True)] == said
    assert made(folder, now=NOW + later) == []


def test_a_new_ca_has_the_key_of_the_one_before(folder: Path) -> None:
    """Nodes that still trust the one before accept what the new one signs."""
    made(folder)
    before = texts(folder)
    made(folder, now=NOW + timedelta(days=3621))
    after = texts(folder)
    assert after[keeping.CA_KEY] == before[keeping.CA_KEY]
    assert after[keeping.CA] != before[keeping.CA]
    old = certificates.read(before[keeping.CA], before[keeping.CA_KEY])
    server = certificates.read(after[keeping.CERTIFICATE], after[keeping.KEY])
    assert old and server
    server.certificate.verify_directly_issued_by(old.certificate)


@pytest.mark.parametrize(("name", "said"), [
    (keeping.KEY, "there is no certificate"), (keeping.CERTIFICATE, "there is no certificate"),
    (keeping.CA_KEY, "there is no CA of the farm"), (keeping.CA, "there is no CA of the farm"),
])
@pytest.mark.parametrize("left", ["", "half", None])
def test_what_is_missing_or_half_written_is_made_again(folder: Path, name: str, said: str, left: str | None) -> None:
    made(folder)
    whole = (folder / name).read_text()
    (folder / name).unlink()
    if left is not None:
        (folder / name).write_text(whole[: len(whole) // 2] if left else "")
    assert said in made(folder)[0]
    assert made(folder) == []


def test_another_name_gives_another_certificate_of_the_same_ca(folder: Path) -> None:
    made(folder)
    kept = texts(folder)[keeping.CA]
    (reason,) = made(folder, ["new.example.org"])
    assert reason == "the registry's certificate: it is for 192.0.2.5, 2001:db8::1, registry.example.org"
    assert texts(folder)[keeping.CA] == kept


def test_check_mode_writes_nothing_and_the_diff_has_no_secret(folder: Path) -> None:
    secrets = keeping.Secrets(str(folder), check=True)
    change, pair = secrets.certify(HOSTS, NOW)
    login = secrets.admit("farm", "a password")
    assert not folder.exists()
    shown = str(change.diff("x")) + str(login.diff("x")) + str(change.reasons + login.reasons)
    assert "registry.example.org" in shown and "user farm" in shown
    assert "KEY" not in shown and "a password" not in shown and "$2b$" not in shown
    assert pair.key_pem.splitlines()[1] not in shown


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(FarmError, match="belongs to user"):
        keeping.Secrets(str(folder), check=False)


# --- the password -----------------------------------------------------------------------------------------------------


def admitted(folder: Path, user: str = "farm", password: str = "") -> list[str]:
    return keeping.Secrets(str(folder), check=False).admit(user, password).reasons


def test_a_password_is_made_once(folder: Path) -> None:
    assert len(admitted(folder)) == 2
    kept = texts(folder)
    assert len(kept[keeping.PASSWORD].strip()) == 43
    user, _colon, line = kept[keeping.HTPASSWD].strip().partition(":")
    assert user == "farm" and line.startswith("$2b$05$")
    assert bcrypt.checkpw(kept[keeping.PASSWORD].strip().encode(), line.encode())
    assert admitted(folder) == []
    assert admitted(folder, password=kept[keeping.PASSWORD].strip()) == []
    assert texts(folder) == kept


@pytest.mark.parametrize(("user", "password"), [("farm", "given"), ("other", "")])
def test_another_login_gives_another_line(folder: Path, user: str, password: str) -> None:
    admitted(folder)
    assert admitted(folder, user, password) == ["the registry's login: it has changed"]
    assert admitted(folder, user, password) == []


def test_a_password_that_is_given_is_not_kept(folder: Path) -> None:
    admitted(folder, password="given")
    assert list(texts(folder)) == [keeping.HTPASSWD]


# --- a certificate that a person gives --------------------------------------------------------------------------------


def given(folder: Path, kind: str) -> tuple[str, str, str]:
    """The files of a certificate, its key and the CA."""
    folder.mkdir()
    authority = certificates.new_authority(NOW, "mine")
    signer = certificates.new_authority(NOW, "stranger") if kind == "foreign" else authority
    server = certificates.new_server(signer, ["other.example.org" if kind == "name" else HOSTS[0]],
                                     {"expired": NOW - 400 * DAY, "future": NOW + 3 * DAY}.get(kind, NOW))
    key = certificates.new_server(authority, HOSTS, NOW) if kind == "key" else server
    (folder / "c").write_text("nothing" if kind == "text" else server.pem)
    (folder / "k").write_text(key.key_pem)
    (folder / "ca").write_text("nothing" if kind == "ca" else authority.pem)
    return str(folder / "c"), str(folder / "k"), str(folder / "ca")


def test_a_good_certificate_is_accepted(folder: Path) -> None:
    assert timedelta(days=396) < keeping.accept(*given(folder, ""), HOSTS[0]) - NOW < timedelta(days=398)


@pytest.mark.parametrize(("kind", "said", "hint"), [
    ("expired", "certificate has expired", "renew it"),
    ("future", "not yet valid", "check the clock"),
    ("foreign", "issuer", "set farm_registry_ca"),
    ("name", "ostname mismatch", "farm_registry must be one of the names"),
    ("key", "is not the key of", "give the key"),
    ("text", "are not a certificate and its key", "both must be PEM"),
    ("ca", "has no certificate", "must be a file of certificates"),
])
def test_a_certificate_that_clients_would_refuse_is_refused(folder: Path, kind: str, said: str, hint: str) -> None:
    with pytest.raises(BadInput) as error:
        keeping.accept(*given(folder, kind), HOSTS[0])
    assert said in str(error.value) and hint in str(error.value)


def test_a_certificate_that_no_ca_of_the_system_signed_is_refused(folder: Path) -> None:
    certificate, key, _ca = given(folder, "")
    with pytest.raises(BadInput, match="set farm_registry_ca"):
        keeping.accept(certificate, key, "", HOSTS[0])


def test_files_that_are_not_there_are_told_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        keeping.accept(str(tmp_path / "c"), str(tmp_path / "k"), str(tmp_path / "ca"), HOSTS[0])
    assert len(error.value.problems) == 3


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(folder: Path) -> None:
    certificate, key, ca = given(folder, "")
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    Path(key).write_bytes(loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret")))
    with pytest.raises(BadInput, match="the key without a passphrase"):
        keeping.accept(certificate, key, ca, HOSTS[0])


# --- what decides that a host is provisioned --------------------------------------------------------------------------


def test_a_registry_on_loopback_has_nothing_that_decides(folder: Path) -> None:
    values = {"farm_registry": "127.0.0.1:5000", "farm_secrets": str(folder), "farm_registry_password": "x"}
    assert fingerprints.decisive(values, own=True, now=NOW) == {}


def test_a_new_ca_decides_for_all_and_the_rest_for_the_registrys_host(folder: Path) -> None:
    made(folder)
    values = {"farm_registry": "192.0.2.5:5000", "farm_secrets": str(folder), "farm_registry_user": "farm",
              "farm_registry_ca": str(folder / keeping.CA), "farm_registry_password": "word"}

    def now(own: bool, **changes: str) -> dict[str, object]:
        return fingerprints.decisive({**values, **changes}, own=own, now=NOW)

    node, registry = now(False), now(True)
    assert "word" not in str(registry)
    assert now(False, farm_registry_password="other") == node
    assert now(True, farm_registry_password="other") != registry
    assert now(True, farm_registry_user="other") != registry
    assert fingerprints.decisive(values, own=True, now=NOW + timedelta(days=368)) != registry
    made(folder, ["new.example.org"])
    assert (now(False) == node, now(True) == registry) == (True, False)
    (folder / keeping.CA).unlink()
    assert now(False) != node
