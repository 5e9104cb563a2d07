"""Which tags are believed, whoever else can push to the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import signing
from ansible_collections.desimages.farm.plugins.plugin_utils.public_keys import public_key
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import signatures
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.known import FILE
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import signature_tag
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import SIGNATURE, SIGNER, STATEMENT

from .faulty import Faulty
from .trusting import trust

ARCHIVE, BOX = "desimages/archive", "desimages/box"
TAG, OTHER = "b-" + "1" * 64, "b-" + "2" * 64


@pytest.fixture
def signed(faulty: Faulty, tmp_path: Path) -> str:
    """A unit's tag that the own key has signed; its digest."""
    digest = faulty.image(BOX, TAG)
    trust(faulty, tmp_path).sign(BOX, TAG, digest, node="pi")
    return digest


def change(held: Faulty, edit: Callable[[dict[str, str]], object], place: tuple[str, str] = (BOX, TAG)) -> None:
    """Changes the annotations of a signature, as whoever can push may."""
    data, kind = held.manifests[ARCHIVE, signature_tag(*place)]
    value = json.loads(data)
    edit(value["annotations"])
    held.hold(ARCHIVE, signature_tag(*place), json.dumps(value).encode(), kind)


def test_a_signed_tag_is_believed_and_asked_for_once(faulty: Faulty, tmp_path: Path, signed: str) -> None:
    own = trust(faulty, tmp_path)
    assert own.find(BOX, TAG) == (signed, own.find(BOX, TAG)[1], own.find(BOX, TAG)[2])  # type: ignore[index]
    assert faulty.count(f"GET /v2/{ARCHIVE}/manifests/s-") == 1
    own.known.save()
    assert trust(faulty, tmp_path).believes(BOX, TAG, signed)
    assert faulty.count(f"GET /v2/{ARCHIVE}/manifests/s-") == 1
    said = json.loads(json.loads(faulty.manifests[ARCHIVE, signature_tag(BOX, TAG)][0])["annotations"][STATEMENT])
    assert (said["node"], said["digest"]) == ("pi", signed)


def test_a_tag_without_a_signature_is_not_believed(faulty: Faulty, tmp_path: Path) -> None:
    faulty.image(BOX, TAG)
    assert trust(faulty, tmp_path).find(BOX, TAG) is None


def test_a_tag_that_was_moved_is_not_believed(faulty: Faulty, tmp_path: Path, signed: str) -> None:
    own = trust(faulty, tmp_path)
    assert own.believes(BOX, TAG, signed)
    faulty.image(BOX, TAG, "arm64")
    assert own.find(BOX, TAG) is None


@pytest.mark.parametrize("place", [(BOX, OTHER), ("desimages/child", TAG), ("other/box", TAG)])
def test_a_signature_of_another_tag_or_repository_counts_for_nothing(
        faulty: Faulty, tmp_path: Path, signed: str, place: tuple[str, str]) -> None:
    faulty.manifests[ARCHIVE, signature_tag(*place)] = faulty.manifests[ARCHIVE, signature_tag(BOX, TAG)]
    assert not trust(faulty, tmp_path).believes(*place, signed)


EDITS: dict[str, Callable[[dict[str, str]], object]] = {
    "statement": lambda said: said.update({STATEMENT: said[STATEMENT].replace("pi", "pj")}),
    "no statement": lambda said: said.pop(STATEMENT),
    "surrogate": lambda said: said.update({STATEMENT: "\ud800"}),
    "no JSON": lambda said: said.update({STATEMENT: "{"}),
    "signature": lambda said: said.update({SIGNATURE: "AAAA" + said[SIGNATURE][4:]}),
    "no base64": lambda said: said.update({SIGNATURE: "*"}),
    "no signature": lambda said: said.pop(SIGNATURE),
    "key": lambda said: said.update({SIGNER: "A" * 43 + "="}),
    "no key": lambda said: said.pop(SIGNER),
    "huge": lambda said: said.update(more="x" * signatures.LARGEST),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_a_signature_that_was_changed_is_none(faulty: Faulty, tmp_path: Path, signed: str,
                                              edit: Callable[[dict[str, str]], object]) -> None:
    change(faulty, edit)
    assert not trust(faulty, tmp_path).believes(BOX, TAG, signed)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"schemaVersion": 2, "config": 1, "layers": []}'])
def test_an_artifact_that_is_none_is_no_signature(faulty: Faulty, tmp_path: Path, signed: str, data: bytes) -> None:
    faulty.hold(ARCHIVE, signature_tag(BOX, TAG), data)
    assert not trust(faulty, tmp_path).believes(BOX, TAG, signed)


def test_another_key_counts_as_long_as_it_is_trusted(faulty: Faulty, tmp_path: Path, signed: str) -> None:
    old = trust(faulty, tmp_path).keys.own
    assert not trust(faulty, tmp_path, key="new").believes(BOX, TAG, signed)
    rotated = trust(faulty, tmp_path, key="new", trusted=(old,))
    assert rotated.believes(BOX, TAG, signed)
    rotated.known.save()
    assert not trust(faulty, tmp_path, key="new").believes(BOX, TAG, signed), "what is known is bound to the key"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"format": 1, "keys": [], "signed": {"a": ["b", 1]}}',
                                  b'{"format": 2, "keys": [], "signed": {}}', b"[" * 100_000, b"\xff"])
def test_a_damaged_memory_is_an_empty_one(faulty: Faulty, tmp_path: Path, signed: str, text: bytes) -> None:
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_bytes(text)
    own = trust(faulty, tmp_path)
    assert own.believes(BOX, TAG, signed)
    own.known.save()
    assert trust(faulty, tmp_path).known.signer(BOX, TAG, signed) == own.keys.own


def test_what_was_verified_can_be_signed_again_and_nothing_else(faulty: Faulty, tmp_path: Path, signed: str) -> None:
    own = trust(faulty, tmp_path)
    with pytest.raises(FarmError, match="never verified"):
        own.mend(BOX, TAG)
    assert own.believes(BOX, TAG, signed)
    change(faulty, lambda said: said.clear())
    own.mend(BOX, TAG)
    assert trust(faulty, tmp_path).believes(BOX, TAG, signed)


def test_a_person_can_adopt_what_is_there(faulty: Faulty, tmp_path: Path, signed: str) -> None:
    faulty.image(BOX, OTHER)
    faulty.image(BOX, "latest")
    from .faulty import Reply

    for name, tags in ((BOX, [TAG, OTHER, "latest"]), (ARCHIVE, ["a-" + "1" * 64])):
        faulty.answers[f"GET /v2/{name}/tags"] = [Reply(200, body=json.dumps({"tags": tags}).encode())] * 2
    own = trust(faulty, tmp_path)
    assert list(own.adopt(["box"], check=True)) == [f"{BOX}:{OTHER}"]
    assert trust(faulty, tmp_path).find(BOX, OTHER) is None
    assert list(trust(faulty, tmp_path).adopt(["box"], check=False)) == [f"{BOX}:{OTHER}"]
    assert trust(faulty, tmp_path).find(BOX, OTHER)


def test_a_key_is_made_once_and_can_be_given(tmp_path: Path) -> None:
    folder = str(tmp_path / "secrets")
    assert signing.load(folder, "", [], check=True).own == "", "check mode makes none"
    made = signing.load(folder, "", [], check=False)
    assert made == signing.load(folder, "", [], check=False)
    private = (tmp_path / "secrets" / signing.KEY).read_text()
    assert (tmp_path / "secrets" / signing.KEY).stat().st_mode & 0o777 == 0o600
    assert signing.load(str(tmp_path / "second"), private, [], check=False).own == made.own
    assert private not in repr(made)
    assert public_key((tmp_path / "secrets" / signing.PUBLIC).read_text()) == made.own


def test_keys_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FarmError, match="farm_signing_key is not an ed25519 private key"):
        signing.load(str(tmp_path), "nonsense", [], check=False)
    with pytest.raises(BadInput, match="number 2"):
        signing.load(str(tmp_path), "", ["A" * 43 + "=", "nonsense"], check=False)
    (tmp_path / signing.KEY).write_text("")
    with pytest.raises(FarmError, match="restore it"):
        signing.load(str(tmp_path), "", [], check=False)


def test_openssls_keys_are_read(tmp_path: Path) -> None:
    def openssl(*words: str, data: str = "") -> str:
        return subprocess.run(["openssl", *words], input=data, capture_output=True, text=True, check=True).stdout

    private = openssl("genpkey", "-algorithm", "ed25519")
    public = openssl("pkey", "-pubout", data=private)
    assert signing.load(str(tmp_path), private, [public], check=False).accepted == {public_key(public)}


def test_what_is_known_costs_no_cryptography(faulty: Faulty, tmp_path: Path, signed: str) -> None:
    own = trust(faulty, tmp_path)
    own.believes(BOX, TAG, signed)
    own.known.save()
    code = ("import sys; from pathlib import Path; from tests.unit.trusting import trust; "
            "from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry; "
            f"assert trust(Registry({faulty.address!r}), Path({str(tmp_path)!r})).find({BOX!r}, {TAG!r}); "
            "assert 'cryptography' not in sys.modules")
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env={"PYTHONPATH": f"{root}:{root}/collections"})
