# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs this machine's git command, with the machine's own settings: credential helpers, proxies, url.insteadOf.

It fetches objects into a bare repository of ours and reads them; there is never a work tree. So nothing of a repository
is run or applied: no hook, no filter (such as LFS), no attribute (such as export-ignore), none of its configuration.
Nobody is asked for a password. This file does I/O.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple, cast

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    FarmError,
    Missing,
    NoSpace,
    Unreachable,
    redacted,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import git_trees
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.git_trees import Node

LONGEST = 3600.0  # seconds that one git command may take; it fetches what it needs
CHUNK = 1 << 20
MOST = 1 << 27  # bytes of all names in a tree: over a million files
_LAST = 3  # lines of what git said
_SETTINGS = {  # what counts instead of the machine's own
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "credential.interactive": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "http.lowSpeedLimit": "1000",  # bytes a second
    "http.lowSpeedTime": "60",
}
_ENVIRONMENT = {
    "LC_ALL": "C", "LANGUAGE": "", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never", "GIT_NO_REPLACE_OBJECTS": "1",
}
# they say where a repository is, and ours is elsewhere
_ELSEWHERE = ("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE",
              "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE")


ASK = "what does `git ls-remote` say with that address?"


class Rule(NamedTuple):
    """A pattern to look for in what git said, and what it means."""

    pattern: str
    kind: type[FarmError]
    hint: str


RULES = (
    Rule(r"No space left on device|Disk quota exceeded", NoSpace, "make room there and run again"),
    Rule(r"could not read (Username|Password)|terminal prompts disabled|Authentication failed"
         r"|Permission denied|error: 40[13]|Host key verification failed", FarmError,
         "does it need a login? git does not ask for one here: it must come from a credential helper of git, netrc or"
         " ssh; try `git ls-remote` with that address"),
    Rule(r"certificate (problem|verif)|certificate subject|server certificate", FarmError,
         "this machine does not trust the certificate of that server, or of a proxy in front of it: install its CA"
         " certificate"),
    Rule(r"dubious ownership", FarmError, "the repository belongs to another user: git config --global --add"
                                          " safe.directory with its folder"),
    Rule(r"corrupt loose object|is corrupt\b|invalid server response|bad line length|is this a git repository"
         r"|Unable to find [0-9a-f]{40}", FarmError,
         "something else answers in place of the server (a login, a proxy), or its repository is damaged: open the "
         "address in a browser, or use another origin"),
    Rule(r"Protocol \"\w+\" (not supported|disabled)|redirect target|\d\) redirects", FarmError,
         "it redirects to where git does not follow: correct the address, or use another origin"),
    Rule(r"transport '.*' not allowed", FarmError,
         "it leads to a protocol that is not allowed, or from TLS to plain HTTP"),
    Rule(r"not our ref|couldn't find remote ref|unadvertised object|does not support shallow", Missing, ""),
    Rule(r"repository .* not found|does not appear to be a git repository|does not exist|error: 4(04|10)"
         r"|No such file or directory", Missing,
         "is the address right? Without a login a private repository may look like one that does not exist"),
    Rule(r"unable to access|[Cc]ould not resolve|Connection (refused|reset|timed out|closed)|[Tt]imed out"
         r"|early EOF|hung up unexpectedly|RPC failed|unreachable|No route to host|error: (408|429|5..)"
         r"|unexpected disconnect|Operation too slow", Unreachable,
         "is the network, the proxy or the server down? Try `git ls-remote` with that address"),
)


def failure(what: str, said: str, code: int) -> FarmError:
    """The error that git's words mean."""
    lines = [redacted(line) for line in said.strip().splitlines() if line.strip()][-_LAST:]
    rule = next((rule for rule in RULES if re.search(rule.pattern, said)), Rule("", FarmError, ASK))
    return rule.kind(f"{what}: {'; '.join(lines) or f'git ended with {code}'}", hint=rule.hint)


def _git() -> str:
    found = shutil.which("git")
    if not found:
        raise FarmError("this machine has no git, which git inputs need", hint="apt install git")
    return found


class Git:
    """git for one scratch folder. `mapped` gives the address that is asked instead of a repository's own."""

    def __init__(self, mapped: Callable[[str], str], patience: float, sleep: Callable[[float], None]) -> None:
        self.mapped, self.patience, self.sleep = mapped, patience, sleep

    def listed(self, address: str, ref: str) -> dict[str, str]:
        """The tags and branches that may be meant by a name: full name -> object."""
        place, allowed = self._place(address)
        said = self._patiently(address, ["ls-remote", "--quiet", "--", place, ref, f"{ref}^{{}}"], allowed)
        return git_trees.listing(said)

    def repository(self, address: str, commit: str, folder: Path) -> Repository:
        """A repository of ours in `folder` that has the objects of a commit.

        That commit alone is fetched, if the server gives it; else all branches and tags. Raises Missing, Unreachable.
        """
        place, allowed = self._place(address)
        form = "sha256" if len(commit) == 64 else "sha1"
        self._run(address, ["init", "--bare", "--quiet", "--template=", f"--object-format={form}", str(folder)], "")
        at = [f"--git-dir={folder}"]
        words = [*at, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc",
                 "--no-recurse-submodules"]
        try:
            self._patiently(address, [*words, "--depth=1", "--", place, commit], allowed)
        except Missing:
            self._patiently(address, [*words, "--", place, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"],
                            allowed)
        found = Repository(self, address, folder)
        kind = found.kind(commit)
        if not kind:
            raise Missing(f"{address} has no commit {commit}", hint="is it the right repository and commit?")
        if kind != "commit":
            raise FarmError(f"{address}: {commit} is a {kind}, not a commit",
                            hint="name a commit, or a tag or branch of one")
        return found

    def _place(self, address: str) -> tuple[str, str]:
        """Where an address leads by farm_origins and by git's own settings, and the protocols that may be used there.

        What begins in TLS stays in TLS. Raises FarmError for a protocol that the farm does not know.
        """
        mapped = self.mapped(address)
        to = self._run(address, ["ls-remote", "--get-url", mapped], "").strip()
        found = git_trees.protocol(to)
        if not found:
            raise FarmError(f"{address} leads to {redacted(to)!r}, by a protocol that is not allowed",
                            hint=f"allowed are {', '.join(git_trees.PROTOCOLS)}")
        return mapped, "http:https" if found == "http" else found

    def _patiently(self, address: str, words: list[str], allowed: str) -> str:
        """A command that asks a server, again if that may help."""
        pause, waited = 1.0, 0.0
        while True:
            try:
                return self._run(address, words, allowed)
            except Unreachable:
                if waited + pause > self.patience:
                    raise
                self.sleep(pause)
                waited, pause = waited + pause, min(16.0, pause * 2)

    def _run(self, address: str, words: list[str], allowed: str) -> str:
        done = programs.run(command(words), seconds=LONGEST, environment=environment(allowed), folder="/")
        if done.code:
            raise failure(address, done.err or done.out, done.code)
        return done.out


def command(words: list[str]) -> list[str]:
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    return [_git(), *settings, *words]


def environment(allowed: str, ours: Mapping[str, str] | None = None) -> dict[str, str]:
    """The machine's own environment, with what our commands need; `allowed` are protocols, with colons between."""
    kept = {name: value for name, value in (os.environ if ours is None else ours).items()
            if name not in _ELSEWHERE and name != "SSH_ASKPASS"}
    return {**kept, **_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": allowed or "none"}


class Repository:
    """A bare repository of ours with the objects of one commit. To read contents, enter it."""

    def __init__(self, git: Git, address: str, folder: Path) -> None:
        self.git, self.address, self.folder = git, address, folder
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def kind(self, object_: str) -> str:
        """`commit`, `tag`, ...; '' if it is not here."""
        done = self._said("cat-file", "--batch-check=%(objecttype)", stdin=f"{object_}\n").split()
        return done[0] if len(done) == 1 else ""

    def tree(self, commit: str) -> str:
        """The tree of a commit."""
        return self._said("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}").split()[-1]

    def nodes(self, commit: str) -> list[Node]:
        """All folders, files, links and submodules of a commit."""
        words = [f"--git-dir={self.folder}", "ls-tree", "-r", "-t", "-z", "--full-tree", commit]
        data = bytearray()
        with programs.started(command(words), environment=environment(""), folder="/") as process:
            while piece := cast(IO[bytes], process.stdout).read(CHUNK):
                data += piece
                if len(data) > MOST:  # a few folders that have each other again and again are millions of names
                    raise FarmError(f"{self.address}: the names in its tree have more than {MOST >> 20} MiB",
                                    hint="this cannot be an input: take an archive of what you need from it (url)")
            said = cast(IO[bytes], process.stderr).read()
            code = process.wait(timeout=LONGEST)
        if code:
            raise failure(self.address, said.decode(errors="replace"), code)
        try:
            return git_trees.nodes(bytes(data))
        except FarmError as error:
            raise FarmError(f"{self.address}: {error.message}", hint=error.hint) from error

    def modules(self, found: list[Node]) -> dict[str, str]:
        """Path -> address of the submodules that its .gitmodules names."""
        file = next((node for node in found if node.path == ".gitmodules" and node.mode in git_trees.MODES), None)
        said = self._said("config", "-z", f"--blob={file.id}", "--list") if file else ""
        return git_trees.modules(said)

    def _said(self, *words: str, stdin: str = "") -> str:
        done = programs.run(command([f"--git-dir={self.folder}", *words]), seconds=LONGEST,
                            environment=environment(""), folder="/", stdin=stdin)
        if done.code:
            raise failure(self.address, done.err, done.code)
        return done.out

    def __enter__(self) -> Repository:
        self._process = self._stack.enter_context(programs.started(
            command([f"--git-dir={self.folder}", "cat-file", "--batch"]), environment=environment(""), folder="/",
            stdin=subprocess.PIPE))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def content(self, object_: str) -> tuple[int, Iterator[bytes]]:
        """The size of a file, and its content in pieces, which must all be read."""
        process = cast(subprocess.Popen[bytes], self._process)  # it has been entered
        asked, answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        asked.write(f"{object_}\n".encode())
        asked.flush()
        head = answers.readline().split()
        if len(head) != 3 or head[1] != b"blob":
            raise FarmError(f"{self.address} lacks the object {object_} of its own tree",
                            hint="run again; if it happens again, the repository is damaged")
        size = int(head[2])

        def pieces() -> Iterator[bytes]:
            left = size + 1  # a newline follows
            while left:
                piece = answers.read(min(CHUNK, left))
                if not piece:
                    raise FarmError(f"{self.address}: git ended while it gave the object {object_}")
                left -= len(piece)
                yield piece if left else piece[:-1]

        return size, pieces()
