# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind `git`: the tree of one commit, as a canonical tar. The lock has the commit, the tree, and the tar's hash."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    redacted,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import git_trees, licences, tars, versions
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.git_client import ASK, Git, Repository
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.git_trees import ADDRESS, COMMIT, REF, Node
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Kind,
    Resolved,
    Resolver,
    no_host,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe

POINTER = b"version https://git-lfs.github.com/spec/"  # how a pointer of Git LFS begins
MOST_OF_POINTER = 1024  # bytes
NAMED = 5  # files that one line has
DEEPEST = 20  # submodules in submodules
GONE = "lock the image again (make lock), or name an origin that has it (farm_origins: {git: ...})"
SUBMODULES = {True: "included", False: "empty"}  # what a lock line says


class GitKind(Kind):
    name = key = line = "git"
    fields = ("git", "ref", "submodules", "commit", "tree")
    written = True
    schema = {
        "type": "object", "required": ["git", "ref"], "additionalProperties": False,
        "properties": {
            "git": {"type": "string", "pattern": ADDRESS, "examples": ["https://example.org/project.git"],
                    "$comment": "be the address of a repository, by https or ssh",
                    "description": "The address of a repository: https or ssh."},
            "ref": {"type": "string", "pattern": REF, "examples": ["v1.2.3"], "$comment": "be a name that git allows",
                    "description": "A tag, a branch, or a full commit id."},
            "submodules": {"type": "boolean", "description": "Whether submodules are included; by default they are "
                                                             "empty folders."},
            "for": FOR,
        },
    }

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"git": given["git"], "ref": given.get("ref", ""), "submodules": bool(given.get("submodules"))}

    def mistakes(self, found: Input, files: Collection[str], platforms: Sequence[Platform]) -> Iterator[str]:
        if said := no_host(str(found.spec["git"])):
            yield f"{found.name}: {said}"

    def foreign(self, found: Input, entry: Entry) -> str:
        if other := super().foreign(found, entry):
            return other
        if entry.platform:
            return f"a line for {entry.platform} only, but a git tree is for all platforms"
        said = {**found.spec, "submodules": SUBMODULES[bool(found.spec["submodules"])]}
        ref = str(found.spec["ref"])
        said["commit"] = ref if re.match(COMMIT, ref) else entry.fact["commit"]
        return next((f"the recipe says {name} {text}, this line says {entry.fact[name]}"
                     for name, text in said.items() if entry.fact[name] != text), "")

    def label(self, fact: Mapping[str, str]) -> str:
        return f"{fact['git']} {self.version(fact)}"

    def version(self, fact: Mapping[str, str]) -> str:
        return fact["ref"] if fact["ref"] == fact["commit"] else f"{fact['ref']} ({fact['commit'][:12]})"

    def path(self, name: str, fact: Mapping[str, str]) -> str:
        return name

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        for name, pattern, what in (("git", ADDRESS, "address of a repository"), ("ref", REF, "tag, branch or commit"),
                                    ("commit", COMMIT, "commit id"), ("tree", COMMIT, "id of a tree")):
            if not re.match(pattern, fact[name]):
                yield f"{name} {fact[name]!r} is not a valid {what}"
        if fact["submodules"] not in SUBMODULES.values():
            yield f"submodules is {fact['submodules']!r}, it must be one of {', '.join(SUBMODULES.values())}"

    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        return licences.read(licences.tree, path)

    def resolver(self, desk: Desk) -> Resolver:
        return _Refs(desk)

    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        for entry, _snapshot in wanted:
            try:
                with desk.store.alone(entry.sha256):
                    self._fetch(entry, desk)
                yield entry, None
            except FarmError as error:
                yield entry, error

    def _fetch(self, entry: Entry, desk: Desk) -> None:
        """Makes the tar of a locked commit again. It enters the store only if it has the locked hash."""
        fact, partial = entry.fact, desk.store.partial(entry.sha256)
        try:
            made = _make(desk, desk.state / "cache" / "git" / entry.sha256, fact["git"], fact["commit"],
                         fact["submodules"] == SUBMODULES[True], partial)
        except Missing as error:
            partial.unlink(missing_ok=True)
            raise Missing(f"{entry.label}: no origin has it any more: {error.message}", hint=GONE) from error
        if made != (fact["tree"], entry.sha256, entry.size):
            partial.unlink()
            tree, sha256, size = made
            raise HashMismatch(f"{entry.label} is tree {tree}, {sha256}, {size} bytes; the lock says {fact['tree']}, "
                               f"{entry.sha256}, {entry.size} bytes", hint=CHANGED)
        desk.store.put(partial, entry.sha256)


class _Refs(Resolver):
    """Puts what it makes into the store, so that the fetch step does not make it again."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        address, ref, included = str(found.spec["git"]), str(found.spec["ref"]), bool(found.spec["submodules"])
        commit = ref if re.match(COMMIT, ref) else self._commit(address, ref)
        facts = {"git": address, "ref": ref, "submodules": SUBMODULES[included], "commit": commit}
        for entry in recipe.lock.entries:
            if entry.kind == KIND.line and all(entry.fact[name] == facts[name]
                                               for name in ("git", "submodules", "commit")):
                made = entry.fact["tree"], entry.sha256, entry.size
                break
        else:
            self.desk.say(f"lock {recipe.name}: fetching {KIND.label(facts)} for {found.name}")
            made = self._made(address, commit, included)
        tree, sha256, size = made
        return Resolved((KIND.entry(found.name, sha256, size, "", {**facts, "tree": tree}),))

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        """Of a tag the newest tag that is written like it; of a branch whether it moved."""
        address, ref = str(found.spec["git"]), str(found.spec["ref"])
        listed = _git(self.desk).listed(address, "*")
        tag = ref.removeprefix("refs/tags/")
        tags = [name.removeprefix("refs/tags/") for name in listed
                if name.startswith("refs/tags/") and not name.endswith("^{}")]
        now = "" if re.match(COMMIT, ref) else git_trees.pick(listed, ref, address)
        commit = next((entry.fact["commit"] for entry in recipe.lock.entries if entry.input == found.name), "")
        if tag in tags:
            best = versions.newest_tag(tags, tag)
            moved = f"upstream moved the tag to {now[:12]}" if commit and now != commit else ""
            return [Version(address, tag, best, note=moved, place=("ref",), text=ref.removesuffix(tag) + best)]
        if now:
            moved = "the branch has moved" if commit and now != commit else ""
            return [Version(address, commit[:12], now[:12], note=moved or f"branch {ref}")]
        best = versions.newest(tags)
        if not re.match(COMMIT, ref):
            return [Version(address, ref, withdrawn="upstream has no such tag or branch any more",
                            note=f"its newest tag is {best}" if best else "")]
        return [Version(address, ref[:12], note=f"a commit; upstream's newest tag is {best or 'none'}")]

    def _commit(self, address: str, ref: str) -> str:
        """The commit that a tag or branch names now."""
        commit = git_trees.pick(_git(self.desk).listed(address, ref), ref, address)
        if not commit:
            raise Missing(f"{address} has no tag and no branch {ref}",
                          hint=f"a commit is written with all its digits; {ASK}")
        return commit

    def _made(self, address: str, commit: str, included: bool) -> tuple[str, str, int]:
        partial = self.desk.store.partial(f"git-{os.getpid()}")
        try:
            made = _make(self.desk, self.desk.state / "lock" / "git", address, commit, included, partial)
            self.desk.store.put(partial, made[1])
        finally:
            partial.unlink(missing_ok=True)
        return made


def _git(desk: Desk) -> Git:
    return Git(lambda address: desk.origins.rewritten(address, "git"), desk.client.patience, desk.client.sleep)


def _make(desk: Desk, scratch: Path, address: str, commit: str, included: bool, to: Path) -> tuple[str, str, int]:
    """Writes the tar of a commit; returns its tree, and the tar's sha256 and size. `scratch` is empty afterwards."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        with ExitStack() as opened:
            tree, members = _gather(_git(desk), opened, scratch, address, commit, included)
            with to.open("wb") as out:
                return tree, *write(members, out, desk.say)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{address}: the disk of {desk.state} is full",
                          hint="make room there and run again") from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _gather(git: Git, opened: ExitStack, scratch: Path, address: str, commit: str,
            included: bool) -> tuple[str, dict[str, tuple[Node, Repository]]]:
    """The tree of a commit, and all that goes into its tar: path -> node and where its content is."""
    members: dict[str, tuple[Node, Repository]] = {}
    tree = ""
    queue = [("", address, commit, 0)]
    for number, (prefix, place, wanted, depth) in enumerate(queue):  # it grows
        repository = opened.enter_context(git.repository(place, wanted, scratch / str(number)))
        found = repository.nodes(wanted)
        tree = tree or repository.tree(wanted)
        members.update({node.path: (node, repository) for node in git_trees.below(prefix, found)})
        inner = [node for node in found if node.mode == git_trees.SUBMODULE] if included else []
        addresses = repository.modules(found) if inner else {}
        for node in inner:
            at = git_trees.joined(place, addresses.get(node.path, ""))
            if not re.match(ADDRESS, at):
                raise FarmError(f"{place} has a submodule {node.path} at {redacted(at) or 'no address'!r}: the farm "
                                "fetches from https, http and ssh alone, and with no login in the address",
                                hint="leave submodules out (submodules: false)")
            if depth == DEEPEST:
                raise FarmError(f"{place} has a submodule {node.path} inside {DEEPEST} others: that is too deep",
                                hint="leave submodules out (submodules: false)")
            queue.append((f"{prefix}/{node.path}".lstrip("/"), at, node.id, depth + 1))
    return tree, members


def write(members: Mapping[str, tuple[Node, Repository]], out: IO[bytes],
          say: Callable[[str], None] = lambda line: None) -> tuple[str, int]:
    """Writes the tar of these; returns its sha256 and size. Raises FarmError with all links that lead out of it, or
    that no file system can have. `say` gets a line about contents that git does not have."""
    links = _links(members)
    if bad := list(git_trees.leading_out(links)):
        where = next(repository.address for node, repository in members.values() if node.mode == git_trees.LINK)
        raise FarmError(f"{where} has symbolic links that lead out of its tree: {', '.join(bad)}",
                        hint="this cannot be an input: ask its authors, or take an archive of it (url)")
    made, size = hashlib.sha256(), 0
    pointers: list[str] = []

    def put(data: bytes) -> None:
        nonlocal size
        made.update(data)
        size += len(data)
        out.write(data)

    for path, (node, repository) in sorted(members.items(), key=lambda pair: pair[0].encode()):
        if node.mode == git_trees.LINK:
            put(tars.member(path, tars.LINK, 0o777, target=links[path]))
        elif node.mode in git_trees.MODES:
            length, pieces = repository.content(node.id)
            put(tars.member(path, tars.FILE, git_trees.MODES[node.mode], length))
            for number, piece in enumerate(pieces):
                if not number and length <= MOST_OF_POINTER and piece.startswith(POINTER):
                    pointers.append(path)
                put(piece)
            put(tars.padding(length))
        else:
            put(tars.member(path, tars.FOLDER, 0o755))
    put(tars.END)
    if pointers:
        more = f" and {len(pointers) - NAMED} more" if len(pointers) > NAMED else ""
        say(f"{next(iter(members.values()))[1].address}: git has only pointers of Git LFS for "
            f"{', '.join(pointers[:NAMED])}{more}; their contents are not in the tar")
    return made.hexdigest(), size


def _links(members: Mapping[str, tuple[Node, Repository]]) -> dict[str, str]:
    """Path -> target of the symbolic links."""
    found, bad, where = {}, [], ""
    for path, (node, repository) in members.items():
        if node.mode != git_trees.LINK:
            continue
        size, pieces = repository.content(node.id)
        target = b"".join(pieces) if size <= git_trees.LONGEST else b"".join(piece[:0] for piece in pieces)
        try:
            found[path] = target.decode()
        except UnicodeDecodeError:
            bad.append(f"{path} -> {target!r}, which is not UTF-8")
        if not target or b"\0" in target:
            bad.append(f"{path} -> {target!r}" if size <= git_trees.LONGEST else f"{path}, to a name of {size} bytes")
        where = where or (repository.address if bad else "")
    if bad:
        raise FarmError(f"{where} has symbolic links that no file system can have: {', '.join(bad)}",
                        hint="this cannot be an input: ask its authors to remove them")
    return found


KIND = GitKind()
