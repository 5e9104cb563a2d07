"""Trees of git repositories made on the spot, by the real git command."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    FarmError,
    HashMismatch,
    Missing,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import git_client, kind_of, tars
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.fetching import fetch_entries
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="needs git")
UPSTREAM = "https://upstream.example/"


class Upstream:
    """A repository that a test writes, as a server has it."""

    def __init__(self, root: Path, name: str, form: str = "sha1") -> None:
        self.address, self.folder = f"{UPSTREAM}{name}.git", root / f"{name}.git"
        self.git("init", "--quiet", f"--object-format={form}", "--initial-branch=main", str(self.folder), at=root)

    def git(self, *words: str, at: Path | None = None) -> str:
        done = subprocess.run(["git", *words], cwd=at or self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server has its repositories; git knows no settings but the test's."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\n\tname = a\n\temail = a@example.org\n[protocol \"file\"]\n\tallow = always\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "srv").mkdir()
    return tmp_path / "srv"


@pytest.fixture
def app(root: Path) -> Upstream:
    """One commit, tagged v1: a program, a link, attributes that would change an archive."""
    made = Upstream(root, "app")
    (made.folder / "run").write_text("#!/bin/sh\n")
    (made.folder / "run").chmod(0o755)
    (made.folder / "link").symlink_to("src/main.c")
    made.commit(secret="kept\n", id="$Format:%H$\n", **{
        "src/main.c": "int main;\n", ".gitattributes": "secret export-ignore\nid export-subst\n*.c filter=lfs\n"})
    made.git("tag", "--annotate", "--message=one", "v1")
    return made


class Here:
    """A controller: its state, its origins."""

    def __init__(self, folder: Path, origins: dict[str, object]) -> None:
        found = Origins(origins, here=Machine(), snapshots=False)
        client = Client(found.here, patience=0, sleep=lambda seconds: None)
        self.desk = Desk(found, folder, Store(folder / "store"), client)

    def lock(self, old: Lock = Lock(), **given: object) -> Entry:  # noqa: B008
        kind = kind_of(given)
        assert kind
        recipe = Recipe(name="app", folder="/", dockerfile=dockerfile.parse("FROM scratch\n"), lock=old)
        (entry,) = kind.resolver(self.desk).resolve(recipe, kind.input("app", given), [AMD64, ARM64]).entries
        return entry

    def fetch(self, entry: Entry) -> FarmError | None:
        return fetch_entries([(entry, "")], self.desk)[entry]

    def tar(self, entry: Entry) -> tarfile.TarFile:
        return tarfile.open(self.desk.store.path(entry.sha256))

    def files(self, entry: Entry) -> dict[str, str]:
        """path -> content of the files of a tar that was locked or fetched."""
        with self.tar(entry) as tar:
            return {member.name: file.read().decode() for member in tar if (file := tar.extractfile(member))
                    and member.isreg()}


@pytest.fixture
def here(root: Path, tmp_path: Path) -> Here:
    return Here(tmp_path / "state", {"git": {UPSTREAM: f"file://{root}/"}})


def another(here: Here, tmp_path: Path, name: str = "other") -> Here:
    """A controller whose store has nothing."""
    return Here(tmp_path / name, here.desk.origins.configured)


@needs_git
def test_a_tag_is_locked_as_its_commit_and_tree_with_all_that_git_keeps(app: Upstream, here: Here) -> None:
    entry = here.lock(git=app.address, ref="v1")
    assert entry.fact["commit"] == app.git("rev-parse", "HEAD")
    assert entry.fact["tree"] == app.git("rev-parse", "HEAD^{tree}")
    assert (entry.platform, entry.path) == ("", "app")
    data = here.desk.store.path(entry.sha256).read_bytes()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (entry.sha256, entry.size)
    with here.tar(entry) as tar:
        found = {member.name: member for member in tar}
        assert list(found) == [".gitattributes", "id", "link", "run", "secret", "src", "src/main.c"]
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in found.values()} == {(0, 0, "", "", tars.TIME)}
        assert {name: oct(m.mode) for name, m in found.items() if m.isreg()} == {
            ".gitattributes": "0o644", "id": "0o644", "run": "0o755", "secret": "0o644", "src/main.c": "0o644"}
        assert (found["link"].linkname, found["src"].isdir()) == ("src/main.c", True)
    assert here.files(entry)["id"] == "$Format:%H$\n"


@needs_git
@pytest.mark.parametrize("form", ["sha1", "sha256"])
@pytest.mark.parametrize("version", ["0", "2"])
def test_the_same_commit_gives_the_same_bytes_after_the_tag_moved(root: Path, here: Here, tmp_path: Path, form: str,
                                                                  version: str) -> None:
    """A server of the first protocol gives no commit by its id: then all branches and tags are fetched."""
    made = Upstream(root, "moved", form)
    made.commit(a="1\n")
    made.git("tag", "v1")
    entry = here.lock(git=made.address, ref="v1")
    made.commit(a="2\n")
    made.git("tag", "--force", "v1")
    made.git("config", "--file", os.environ["GIT_CONFIG_GLOBAL"], "protocol.version", version)
    there = another(here, tmp_path)
    assert there.fetch(entry) is None
    assert there.files(entry) == {"a": "1\n"}
    assert here.lock(Lock((entry,)), git=made.address, ref="v1").fact["commit"] == made.git("rev-parse", "v1")


@needs_git
def test_what_did_not_move_is_not_fetched_again(app: Upstream, here: Here, tmp_path: Path) -> None:
    entry = here.lock(git=app.address, ref="v1")
    there = another(here, tmp_path)
    assert there.lock(Lock((entry,)), git=app.address, ref="main").sha256 == entry.sha256
    assert not there.desk.store.holds(entry.sha256)
    commit = entry.fact["commit"]
    app.folder.rename(app.folder.with_name("gone"))
    assert there.lock(Lock((entry,)), git=app.address, ref=commit).fact == {**entry.fact, "ref": commit}


@needs_git
def test_submodules_are_inside_each_at_its_commit(root: Path, here: Here, tmp_path: Path) -> None:
    inner, middle, outer = (Upstream(root, name) for name in ("inner", "middle", "outer"))
    inner.commit(deep="1\n")
    middle.git("submodule", "--quiet", "add", "../inner.git", "lib/inner")
    middle.commit(half="way\n")
    outer.git("submodule", "--quiet", "add", "../middle.git", "middle")
    outer.commit(top="\n")
    inner.commit(deep="2\n")
    entry = here.lock(git=outer.address, ref="main", submodules=True)
    files = here.files(entry)
    assert files.pop(".gitmodules") and files.pop("middle/.gitmodules")
    assert files == {"top": "\n", "middle/half": "way\n", "middle/lib/inner/deep": "1\n"}
    there = another(here, tmp_path)
    assert there.fetch(entry) is None

    without = here.lock(git=outer.address, ref="main")
    assert set(here.files(without)) == {".gitmodules", "top"}
    with here.tar(without) as tar:
        assert tar.getmember("middle").isdir()


@needs_git
@pytest.mark.parametrize("address", ["file:///etc", "/etc", "ext::sh -c true", "git://upstream.example/x", "-x",
                                     "../../../x"])
def test_a_submodule_may_not_lead_elsewhere(root: Path, here: Here, address: str) -> None:
    made, other = Upstream(root, "a"), Upstream(root, "b")
    other.commit(x="")
    made.git("submodule", "--quiet", "add", "../b.git", "b")
    made.git("config", "--file", ".gitmodules", "submodule.b.url", address)
    made.commit()
    with pytest.raises(FarmError, match="submodule"):
        here.lock(git=made.address, ref="main", submodules=True)


@needs_git
@pytest.mark.parametrize(
    ("links", "bad"),
    [
        ({"a": "b", "c/d": "../a", "nothing": "not/there", "here": ".", "loop": "loop"}, []),
        ({"a": "/etc/passwd", "b/c": "../../x", "d": "b/../.."},
         ["a -> /etc/passwd", "b/c -> ../../x", "d -> b/../.."]),
        ({"p/q/up": "../..", "out": "p/q/up/../x"}, ["out -> p/q/up/../x"]),  # as text, it stays inside
    ],
)
def test_links_that_lead_out_of_the_tree_are_refused_all_at_once(root: Path, here: Here, links: dict[str, str],
                                                                 bad: list[str]) -> None:
    made = Upstream(root, "links")
    for name, target in links.items():
        (made.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (made.folder / name).symlink_to(target)
    made.commit()
    if not bad:
        entry = here.lock(git=made.address, ref="main")
        with here.tar(entry) as tar:
            assert {m.name: m.linkname for m in tar if m.issym()} == links
        return
    with pytest.raises(FarmError) as error:
        here.lock(git=made.address, ref="main")
    assert f"lead out of its tree: {', '.join(bad)}" in str(error.value)


@needs_git
def test_nothing_of_the_machine_or_the_repository_is_run(app: Upstream, here: Here, tmp_path: Path) -> None:
    """Hooks and filters, where people have them for all repositories."""
    hook, ran = tmp_path / "hooks/reference-transaction", tmp_path / "ran"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    (tmp_path / "template/hooks").mkdir(parents=True)
    shutil.copy(hook, tmp_path / "template/hooks/post-checkout")
    for name, value in {"core.hooksPath": str(hook.parent), "init.templateDir": str(tmp_path / "template"),
                        "core.fsmonitor": str(hook), "filter.lfs.smudge": f"touch {ran}", "core.askPass": str(hook),
                        "filter.lfs.process": f"touch {ran}", "protocol.version": "0"}.items():
        app.git("config", "--global", name, value)
    ran.unlink(missing_ok=True)
    entry = here.lock(git=app.address, ref="v1")
    assert here.files(entry)["src/main.c"] == "int main;\n"
    assert not ran.exists()


@needs_git
def test_what_a_commit_no_longer_gives_enters_no_store(app: Upstream, here: Here, tmp_path: Path) -> None:
    entry = here.lock(git=app.address, ref="v1")
    kind = kind_of({"git": ""})
    assert kind
    wrong = kind.entry("app", "0" * 64, entry.size, "", entry.fact)
    there = another(here, tmp_path)
    error = there.fetch(wrong)
    assert isinstance(error, HashMismatch) and entry.sha256 in str(error)
    assert not list((tmp_path / "other/store").rglob("0000*"))
    assert not list((tmp_path / "other/cache/git").iterdir())
    other_tree = kind.entry("app", entry.sha256, entry.size, "", {**entry.fact, "tree": "0" * 40})
    assert isinstance(another(here, tmp_path, "third").fetch(other_tree), HashMismatch)


@needs_git
def test_what_is_gone_is_missing(app: Upstream, here: Here, tmp_path: Path) -> None:
    entry = here.lock(git=app.address, ref="v1")
    with pytest.raises(Missing, match="has no tag and no branch v2"):
        here.lock(git=app.address, ref="v2")
    with pytest.raises(Missing, match="no commit 0000"):
        here.lock(git=app.address, ref="0" * 40)
    with pytest.raises(Missing):
        here.lock(git=f"{UPSTREAM}nowhere.git", ref="v1")
    shutil.rmtree(app.folder)
    Upstream(app.folder.parent, "app").commit(other="history\n")
    error = another(here, tmp_path).fetch(entry)
    assert isinstance(error, Missing) and "farm_origins: {git: ...}" in str(error)


@needs_git
def test_a_name_that_a_tag_and_a_branch_have_is_refused(app: Upstream, here: Here) -> None:
    app.git("branch", "v1")
    with pytest.raises(FarmError, match="write ref: refs/tags/v1, or ref: refs/heads/v1"):
        here.lock(git=app.address, ref="v1")
    assert here.lock(git=app.address, ref="refs/heads/v1").fact["ref"] == "refs/heads/v1"
    with pytest.raises(FarmError, match="is a tag, not a commit"):
        here.lock(git=app.address, ref=app.git("rev-parse", "refs/tags/v1"))


@needs_git
@pytest.mark.parametrize("to", ["ext::sh -c 'touch ran'", "git://upstream.example/", "ftp://upstream.example/"])
def test_a_protocol_that_is_not_allowed_is_refused_even_where_settings_lead_there(root: Path, here: Here,
                                                                                  tmp_path: Path, to: str) -> None:
    there = Here(tmp_path / "there", {})
    subprocess.run(["git", "config", "--global", f"url.{to}.insteadOf", UPSTREAM], check=True)
    with pytest.raises(FarmError, match="by a protocol that is not allowed"):
        there.lock(git=f"{UPSTREAM}x", ref="v1")


@needs_git
def test_the_machines_own_settings_lead_to_its_mirror(app: Upstream, root: Path, tmp_path: Path) -> None:
    app.git("config", "--global", f"url.file://{root}/.insteadOf", UPSTREAM)
    assert Here(tmp_path / "there", {}).lock(git=app.address, ref="v1").fact["ref"] == "v1"


@needs_git
def test_a_server_that_is_down_is_unreachable_and_nobody_is_asked_for_a_password(root: Path, tmp_path: Path) -> None:
    there = Here(tmp_path / "there", {"git": {UPSTREAM: "http://127.0.0.1:1/"}})
    with pytest.raises(Unreachable, match="is the network, the proxy or the server down"):
        there.lock(git=f"{UPSTREAM}x", ref="v1")


def test_without_git_it_is_said_what_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FarmError, match="which git inputs need") as error:
        Here(tmp_path, {}).lock(git=f"{UPSTREAM}x", ref="v1")
    assert error.value.hint == "apt install git"


@needs_git
@pytest.mark.parametrize(
    ("target", "said"),
    [(b"", "l -> b''"), (b"a\0b", r"l -> b'a\x00b'"), (b"a/" * 3000, "l, to a name of 6000 bytes"),
     (b"\xff", r"which is not UTF-8")])
def test_a_link_that_no_file_system_can_have_is_refused(root: Path, here: Here, tmp_path: Path, target: bytes,
                                                        said: str) -> None:
    made = Upstream(root, "odd")
    (tmp_path / "target").write_bytes(target)
    content = made.git("hash-object", "-w", str(tmp_path / "target"))
    made.git("update-index", "--add", "--cacheinfo", f"120000,{content},l")
    made.git("commit", "--quiet", "--message=odd")
    with pytest.raises(FarmError, match="no file system can have: ") as error:
        here.lock(git=made.address, ref="main")
    assert said in str(error.value)


@needs_git
def test_a_tree_of_more_names_than_any_program_has_is_refused(root: Path, here: Here,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten folders in ten folders, ten times: a thousand million names in a repository of a few kilobytes."""
    made = Upstream(root, "bomb")
    (made.folder / "x").write_text("x")
    inner, kind = made.git("hash-object", "-w", "x"), "100644 blob"
    for _level in range(9):
        lines = "".join(f"{kind} {inner}\t{name}\n" for name in "0123456789")
        done = subprocess.run(["git", "mktree"], cwd=made.folder, input=lines, check=True, capture_output=True,
                              text=True)
        inner, kind = done.stdout.strip(), "040000 tree"
    made.git("update-ref", "refs/heads/main", made.git("commit-tree", "-m", "bomb", inner))
    monkeypatch.setattr(git_client, "MOST", 1 << 20)
    with pytest.raises(FarmError, match="the names in its tree have more than 1 MiB"):
        here.lock(git=made.address, ref="main")


@needs_git
def test_what_git_has_only_pointers_of_is_told(root: Path, here: Here, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n"
    made = Upstream(root, "large")
    made.commit(**{f"model{number}.bin": pointer + f"x {number}\n" for number in range(7)}, small="version\n")
    said: list[str] = []
    here.desk = replace(here.desk, say=said.append)
    here.lock(git=made.address, ref="main")
    assert "of Git LFS for model0.bin, model1.bin, model2.bin, model3.bin, model4.bin and 2 more" in said[-1]


@needs_git
def test_a_login_in_a_submodules_address_is_not_shown(root: Path, here: Here) -> None:
    made, other = Upstream(root, "a"), Upstream(root, "b")
    other.commit(x="")
    made.git("submodule", "--quiet", "add", "../b.git", "b")
    made.git("config", "--file", ".gitmodules", "submodule.b.url", "https://me:s3cret@upstream.example/b.git")
    made.commit()
    with pytest.raises(FarmError, match="with no login in the address") as error:
        here.lock(git=made.address, ref="main", submodules=True)
    assert "s3cret" not in str(error.value)
