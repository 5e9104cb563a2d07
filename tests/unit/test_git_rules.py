"""What the farm takes of git: addresses, refs, trees, and the lines of a lock."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    FarmError,
    Missing,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import git_client, git_trees, kind_of, tars
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.git_client import failure
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.moves import moved
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Lock

UPSTREAM = "https://upstream.example/"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("fatal: could not read Username for 'https://a': terminal prompts disabled", FarmError),
        ("fatal: unable to access 'https://a/': The requested URL returned error: 403", FarmError),
        ("fatal: repository 'https://a/' not found", Missing),
        ("fatal: unable to access 'https://a/': The requested URL returned error: 503", Unreachable),
        ("fatal: unable to access 'https://a/': Could not resolve host: a", Unreachable),
        ("fatal: unable to access 'https://a/': SSL certificate problem: self-signed certificate", FarmError),
        ("git@a: Permission denied (publickey).\nfatal: Could not read from remote repository.", FarmError),
        ("fatal: write error: No space left on device", FarmError),
        ("error: corrupt loose object 'ab'\nfatal: the remote end hung up unexpectedly", FarmError),
        ("fatal: unable to access 'https://a/': Protocol \"file\" not supported or disabled in libcurl", FarmError),
        ("fatal: unable to access 'https://a/': Maximum (20) redirects followed", FarmError),
        ("fatal: https://a/info/refs not valid: is this a git repository?", FarmError),
        ("fatal: invalid server response; expected service, got flush packet", FarmError),
        ("something else", FarmError),
    ],
)
def test_what_git_says_is_judged(said: str, kind: type[FarmError]) -> None:
    found = failure("https://a/", said, 128)
    assert found.__class__ is kind or (kind is FarmError and type(found).__name__ == "NoSpace")
    assert said.splitlines()[-1] in str(found)


def test_no_message_has_a_password() -> None:
    assert "secret" not in str(failure("x", "fatal: unable to access 'https://me:secret@a/': x", 1))


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("https://example.org/x.git", True), ("ssh://git@example.org:22/x.git", True),
        ("git@example.org:a/x.git", True), ("http://example.org/~a/x", True),
        ("https://me:secret@example.org/x", False), ("ext::sh -c x", False),
        ("file:///srv/x", False), ("/srv/x", False), ("git://example.org/x", False), ("-x", False),
        ("https://example.org/x y", False), ("ssh://-oProxyCommand=x/y", False), ("git@-x:y", False),
        ("git@example.org:-x", False), ("https://example.org", False), ("git@example.org::x", False),
    ],
)
def test_an_address_is_one_that_the_farm_fetches_from(address: str, good: bool) -> None:
    assert bool(git_trees.re.match(git_trees.ADDRESS, address)) == good


@pytest.mark.parametrize(
    ("ref", "good"),
    [("v1.2.3", True), ("release/1.x", True), ("refs/tags/v1", True), ("a@b", True), ("-x", False), ("a..b", False),
     ("a b", False), ("a.lock", False), ("a^{}", False), ("a/", False), ("a@{1}", False), ("*", False)])
def test_a_ref_is_a_name_that_git_may_have(ref: str, good: bool) -> None:
    assert bool(git_trees.re.match(git_trees.REF, ref)) == good


@pytest.mark.parametrize(
    ("base", "address", "said"),
    [
        ("https://h/a/b.git", "../c.git", "https://h/a/c.git"), ("https://h/a/b.git/", "./c", "https://h/a/b.git/c"),
        ("git@h:a/b.git", "../c.git", "git@h:a/c.git"), ("git@h:b.git", "../c.git", "git@h:c.git"),
        ("ssh://git@h/a/b", "../../c", "ssh://git@h/c"), ("https://h/a", "https://o/c", "https://o/c"),
    ],
)
def test_a_submodules_address_may_be_relative(base: str, address: str, said: str) -> None:
    assert git_trees.joined(base, address) == said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([(b"100644 blob", b"a"), (b"040000 tree", b"a"), (b"100644 blob", b"a/b")], "'a' twice"),
        ([(b"120000 blob", b"a"), (b"100644 blob", b"a")], "'a' twice"),
        ([(b"100644 blob", b"n" * 256)], "of 256 bytes"),
        ([(b"040000 tree", b"n"), (b"100644 blob", b"/".join([b"n" * 200] * 21))], "of 4220 bytes"),
        ([(b"100600 blob", b"a"), (b"100644 blob", b"../b")], "b'a' with mode 100600, '../b'"),
    ],
)
def test_a_tree_that_no_tar_can_have_is_refused(lines: list[tuple[bytes, bytes]], said: str) -> None:
    data = b"".join(kind + b" " + b"0" * 40 + b"\t" + path + b"\0" for kind, path in lines)
    with pytest.raises(FarmError, match=said):
        git_trees.nodes(data)


def test_a_message_about_names_ends(tmp_path: Path) -> None:
    data = b"".join(b"100644 blob " + b"0" * 40 + b"\t../%d\0" % number for number in range(5000))
    with pytest.raises(FarmError, match="and 4980 more"):
        git_trees.nodes(data)


@pytest.mark.parametrize("path", [b"../x", b"a//b", b"/a", b"a/.git/hooks/x", b".GIT/config", b"a/./b", b"\xff"])
def test_a_path_that_leads_out_is_refused(path: bytes) -> None:
    with pytest.raises(FarmError, match="lead out of it"):
        git_trees.nodes(b"100644 blob " + b"0" * 40 + b"\t" + path + b"\0")


def test_a_tar_is_one_that_others_read(tmp_path: Path) -> None:
    """Names that ustar has no room or no letters for, and a file of more than 8 GiB."""
    long, odd = "d" * 90 + "/" + "e" * 120, "ünïcödé"
    parts = [tars.member("d" * 90, tars.FOLDER, 0o755), tars.member(long, tars.FILE, 0o755, 3), b"abc", tars.padding(3),
             tars.member(odd, tars.LINK, 0o777, target="t" * 101), tars.member(f"{odd}/é", tars.FOLDER, 0o755)]
    data = b"".join(parts) + tars.END
    assert len(data) % tars.BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {member.name: member for member in tar}
        assert list(found) == ["d" * 90, long, odd, f"{odd}/é"]
        assert found[odd].linkname == "t" * 101
        assert stat.S_IMODE(found[long].mode) == 0o755
        assert tar.extractfile(long).read() == b"abc"  # type: ignore[union-attr]
    (tmp_path / "x.tar").write_bytes(data)
    done = subprocess.run(["tar", "-tf", str(tmp_path / "x.tar")], check=True, capture_output=True,
                          env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert (done.stdout.decode().splitlines()[:2], done.stderr) == (["d" * 90 + "/", long], b"")
    big = tarfile.TarInfo.frombuf(tars.member("big", tars.FILE, 0o644, 1 << 34)[-512:], "utf-8", "strict")
    assert (big.name, b"20 size=17179869184\n" in tars.member("big", tars.FILE, 0o644, 1 << 34)) == ("big", True)


def test_a_canonical_tar_keeps_its_bytes() -> None:
    """Locks have its hash: this must not change."""
    data = (tars.member("src", tars.FOLDER, 0o755) + tars.member("src/é", tars.FILE, 0o644, 1) + b"x" + tars.padding(1)
            + tars.member("link", tars.LINK, 0o777, target="src/é") + tars.END)
    assert hashlib.sha256(data).hexdigest() == (
        "1537aa0e62a8164a7111e2e4b281465bb99c43881ab14bfa569cda282a268c88")


def test_our_commands_know_no_repository_but_ours() -> None:
    found = git_client.environment("https", {"GIT_DIR": "/x", "GIT_WORK_TREE": "/y", "SSH_ASKPASS": "z", "HOME": "/h",
                                             "GIT_SSH_COMMAND": "ssh -i key"})
    assert {"GIT_DIR", "GIT_WORK_TREE", "SSH_ASKPASS"}.isdisjoint(found)
    assert (found["HOME"], found["GIT_SSH_COMMAND"], found["GIT_ALLOW_PROTOCOL"]) == ("/h", "ssh -i key", "https")


FACTS = {"git": f"{UPSTREAM}x.git", "ref": "v1", "submodules": "empty", "commit": "a" * 40, "tree": "b" * 40}


@pytest.mark.parametrize(
    ("given", "facts", "platform", "said"),
    [
        ({}, {}, "", ""),
        ({"ref": "a" * 40}, {"ref": "a" * 40}, "", ""),
        ({"ref": "c" * 40}, {"ref": "c" * 40}, "", f"the recipe says commit {'c' * 40}, this line says {'a' * 40}"),
        ({"ref": "v2"}, {}, "", "the recipe says ref v2, this line says v1"),
        ({"git": f"{UPSTREAM}y.git"}, {}, "", f"the recipe says git {UPSTREAM}y.git"),
        ({"submodules": True}, {}, "", "the recipe says submodules included, this line says empty"),
        ({}, {}, "linux/amd64", "a git tree is for all platforms"),
    ],
)
def test_a_line_of_another_lock_is_told(given: dict[str, object], facts: dict[str, str], platform: str,
                                        said: str) -> None:
    recipe = {"git": FACTS["git"], "ref": "v1", **given}
    kind = kind_of(recipe)
    assert kind
    entry = kind.entry("app", "0" * 64, 1, platform, {**FACTS, **facts})
    found = kind.foreign(kind.input("app", recipe), entry)
    assert found.startswith(said) or said in found
    assert bool(found) == bool(said)
    assert list(kind.wrong(entry.fact)) == []


@pytest.mark.parametrize("name", FACTS)
def test_a_line_with_a_bad_fact_is_told(name: str) -> None:
    kind = kind_of(FACTS)
    assert kind
    assert [said.split()[0] for said in kind.wrong({**FACTS, name: "-"})] == [name]


def test_what_moves_is_told_by_ref_and_commit() -> None:
    old, new = (Lock((kind.entry("app", sign * 64, 1, "", {**FACTS, "commit": sign * 40}),))
                for kind, sign in ((kind_of(FACTS), sign) for sign in "12") if kind)
    assert moved(old, new) == ["app v1 (111111111111) -> v1 (222222222222)"]
