# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a git repository says: addresses, names, trees, submodules. No I/O. Nothing in a repository is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

_HOST = r"([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]*@"
_PATH = r"[A-Za-z0-9_~][!-~]*"
# As in url.py: no credentials, no fragment. ssh has a user, and the short form that people write: git@host:path.
ADDRESS = (rf"^(https?://{_HOST}(:[0-9]{{1,5}})?/[!-\x22\x24-~]+|ssh://({_USER})?{_HOST}(:[0-9]{{1,5}})?/[!-~]+"
           rf"|{_USER}[A-Za-z0-9][A-Za-z0-9.-]*:/?{_PATH})$")
COMMIT = r"^([0-9a-f]{40}|[0-9a-f]{64})$"
# https://git-scm.com/docs/git-check-ref-format, and no signs that mean something to a shell or to git itself
REF = r"^(?!.*(\.\.|//|@\{|/\.|\.lock(/|$)|[./]$))[A-Za-z0-9_][A-Za-z0-9._/+@#=,%-]*$"
PROTOCOLS = ("https", "http", "ssh", "file")  # the last only where the machine's settings lead there
FOLDER, LINK, SUBMODULE = "040000", "120000", "160000"
MODES = {"100644": 0o644, "100755": 0o755, "100664": 0o644}  # the last is of the first versions of git
LONGEST, LONGEST_NAME = 4095, 255  # bytes of a path or of a link's target, and of a name, in Linux
NAMED = 20  # names that one message has
HOPS = 40  # links followed for one path, as in Linux


class Node(NamedTuple):
    """One line of `git ls-tree`: a path, its mode as git writes it, and the name of its object."""

    path: str
    mode: str
    id: str


def protocol(url: str) -> str:
    """`https`, `ssh`, `file`, ...; '' for one that the farm does not know. Git itself also reads `ext::` and such."""
    if re.match(r"[A-Za-z0-9+.-]+::", url):
        return ""
    if found := re.match(r"([A-Za-z0-9+.-]+)://", url):
        return found[1] if found[1] in PROTOCOLS else ""
    return "ssh" if re.match(r"[^/]+@?[^/:]+:", url) else "file" if url.startswith("/") else ""


def pick(listed: Mapping[str, str], ref: str, where: str) -> str:
    """The commit that a tag or branch names. `listed` are full names -> objects, as `git ls-remote` has them."""
    names = [ref] if ref.startswith("refs/") else [f"refs/tags/{ref}", f"refs/heads/{ref}"]
    found = {name: listed.get(f"{name}^{{}}", listed[name]) for name in names if name in listed}
    if len(found) > 1:
        raise FarmError(f"{where} has a tag and a branch named {ref}",
                        hint=f"write ref: {names[0]}, or ref: {names[1]}")
    return next(iter(found.values()), "")


def listing(text: str) -> dict[str, str]:
    """The output of `git ls-remote`: full name -> object."""
    pairs = [line.split("\t", 1) for line in text.splitlines() if "\t" in line]
    return {name: object_ for object_, name in pairs if re.match(COMMIT, object_)}


def nodes(data: bytes) -> list[Node]:
    """The output of `git ls-tree -z`. Raises FarmError with all names that no tar may have."""
    found, bad, seen = [], [], set[str]()
    for line in filter(None, data.split(b"\0")):
        head, _tab, raw = line.partition(b"\t")
        mode, _kind, object_ = head.decode().split()
        try:
            path = raw.decode()
        except UnicodeDecodeError:
            path = ""
        parts = path.split("/")
        if not all(parts) or any(part in (".", "..") or part.lower() == ".git" for part in parts):
            bad.append(repr(raw.decode(errors="replace")))
        elif path in seen:  # git itself writes no such tree, and what a tar of it unpacks to is anyone's guess
            bad.append(f"{path!r} twice")
        elif len(raw) > LONGEST or any(len(part) > LONGEST_NAME for part in raw.split(b"/")):
            bad.append(f"{path[:100]!r}... of {len(raw)} bytes")
        elif mode not in (FOLDER, LINK, SUBMODULE, *MODES):
            bad.append(f"{raw!r} with mode {mode}")
        seen.add(path)
        found.append(Node(path, mode, object_))
    if bad:
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise FarmError("its tree has names that are not UTF-8, lead out of it, occur twice, or are too long: "
                        f"{', '.join(bad[:NAMED])}{more}",
                        hint="this cannot be an input: ask its authors to rename them")
    return found


def modules(text: str) -> dict[str, str]:
    """Path -> address of the submodules in a .gitmodules, from the output of `git config -z --list`."""
    said: dict[str, dict[str, str]] = {}
    for pair in text.split("\0"):
        key, _newline, value = pair.partition("\n")
        name, _dot, last = key.removeprefix("submodule.").rpartition(".")
        if key.startswith("submodule.") and name:
            said.setdefault(name, {})[last] = value
    return {value["path"].strip("/"): value["url"] for value in said.values() if "path" in value and "url" in value}


def joined(base: str, address: str) -> str:
    """The address of a submodule, which may be relative to its repository's: `../other.git`."""
    if not address.startswith(("./", "../")):
        return address
    found = re.match(r"(\w+://[^/]+/|[^/:]+:)(.*)", base.rstrip("/"))
    root, path = (found[1], found[2]) if found else ("", base)
    parts, steps = list(filter(None, path.split("/"))), address.split("/")
    while steps and steps[0] in (".", ".."):
        if steps.pop(0) == "..":
            if not parts:
                raise FarmError(f"the submodule {address} leads out of the server of {base}",
                                hint="leave submodules out (submodules: false)")
            parts.pop()
    return root + "/".join([*parts, *steps])


def leading_out(links: Mapping[str, str]) -> Iterator[str]:
    """The links (path -> target) of a tree that lead out of it, or are absolute, in words."""
    for path, target in sorted(links.items()):
        if not _inside(path, target, links):
            yield f"{path} -> {target}"


def _inside(path: str, target: str, links: Mapping[str, str]) -> bool:
    """Follows a link as the kernel does, through other links. It may lead to nothing."""
    here, steps, hops = path.split("/")[:-1], target.split("/"), 0
    if target.startswith("/"):
        return False
    while steps:
        step = steps.pop(0)
        if step in ("", "."):
            continue
        if step == "..":
            if not here:
                return False
            here.pop()
            continue
        here.append(step)
        further = links.get("/".join(here))
        if further is None:
            continue
        hops += 1
        if hops > HOPS:
            return True  # a circle: no program follows it
        if further.startswith("/"):
            return False
        here.pop()
        steps = [*further.split("/"), *steps]
    return True


def below(prefix: str, found: Iterable[Node]) -> list[Node]:
    """The nodes of a submodule, at its path."""
    return [node._replace(path=f"{prefix}/{node.path}") for node in found] if prefix else list(found)
