# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files break a contract. No I/O."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import elf
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.layers import SMALL, File

COMPILERS = ("*gcc", "*g++", "*gcc-[0-9]*", "*g++-[0-9]*", "cc", "c++", "clang*", "tcc", "cpp", "cc1*", "*-ld", "ld",
             "ld.bfd", "ld.gold", "ld.lld", "as", "*-as", "make", "cmake", "ninja", "go", "gofmt", "rustc", "javac",
             "node-gyp", "ghc", "ocamlc", "gfortran*")
MANAGERS = ("apt", "apt-get", "aptitude", "dpkg", "apk", "rpm", "dnf", "yum", "pacman", "npm", "npx", "yarn", "pnpm",
            "corepack", "pip", "pip[0-9]*", "pipx", "gem", "bundle", "cargo", "composer", "conda")
PROGRAMS = ("/bin/", "/sbin/", "/libexec/", "/lib/gcc/")
KEY = re.compile(rb"-----BEGIN (RSA |EC |DSA |OPENSSH |ENCRYPTED |PGP )?PRIVATE KEY( BLOCK)?-----\s+[A-Za-z0-9+/=]")
SECRETS: Mapping[str, re.Pattern[bytes]] = {  # name of a file -> what makes it a secret
    ".netrc": re.compile(rb"\bpassword\b"),
    ".npmrc": re.compile(rb"_(auth|authToken|password)\s*="),
    ".pypirc": re.compile(rb"\bpassword\b"),
    ".git-credentials": re.compile(rb"://[^/\s]+:[^/\s]+@"),
    ".dockercfg": re.compile(rb'"auth"'),
    "config.json": re.compile(rb'"auth"\s*:\s*"[A-Za-z0-9+/=]'),
    "credentials": re.compile(rb"(aws_secret_access_key|_key|token)\s*="),
    "shadow": re.compile(rb"^[^:\n]+:[^:*!\n]", re.M),
    "gshadow": re.compile(rb"^[^:\n]+:[^:*!\n]", re.M),
}
# C's rules are not those of every language
SAFE = {
    elf.GO: ("pie", "relro", "bind-now", "canary", "fortify"),  # its own linker; memory is safe
    elf.RUST: ("canary", "fortify"),  # memory is safe
}


def findings(files: Mapping[str, File], packaged: frozenset[str], platform: Platform) -> Iterator[Finding]:
    """Everything in an image's files that breaks a contract. Programs of Debian packages (`packaged`) are built as
    Debian builds them; of them only the platform counts."""
    for path, file in sorted(files.items()):
        shown = f"{stat.filemode(file.mode)} {file.uid}:{file.gid} {path}"
        if file.regular and (file.mode & (stat.S_ISUID | stat.S_ISGID) or file.capable):
            what = "has file capabilities" if file.capable else "is setuid or setgid"
            yield Finding("setuid", path, f"{shown} {what}")
        sticky = stat.S_ISDIR(file.mode) and file.mode & stat.S_ISVTX
        if file.mode & stat.S_IWOTH and not stat.S_ISLNK(file.mode) and not sticky:
            yield Finding("world-writable", path, f"everybody may write to {shown}")
        yield from _secrets(file)
        yield from _tools(file)
        if file.elf:
            yield from _program(file, platform, debian=path in packaged)


def languages(files: Mapping[str, File], packaged: frozenset[str], platform: Platform) -> tuple[str, ...]:
    """The languages of the programs for the platform, without Debian's."""
    programs = (elf.read(file.content) for path, file in files.items() if file.elf and path not in packaged
                and elf.machine(file.content) == elf.MACHINES[platform])
    return tuple(sorted({program.language for program in programs if program}))


def _secrets(file: File) -> Iterator[Finding]:
    if not file.regular or len(file.content) > SMALL or file.elf:
        return
    name = posixpath.basename(file.path)
    if KEY.search(file.content):
        yield Finding("secret", file.path, f"{file.path} is a private key")
    elif name in SECRETS and SECRETS[name].search(file.content):
        yield Finding("secret", file.path, f"{file.path} has a password or token")


def _tools(file: File) -> Iterator[Finding]:
    folder, name = posixpath.split(file.path)
    if not (file.runs or stat.S_ISLNK(file.mode)) or not any(place in f"{folder}/" for place in PROGRAMS):
        return
    for check, names, what in (("compiler", COMPILERS, "a compiler, linker or build tool"),
                               ("package-manager", MANAGERS, "a package manager")):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in names):
            yield Finding(check, file.path, f"{file.path} is {what}")


def _program(file: File, platform: Platform, *, debian: bool) -> Iterator[Finding]:
    if elf.machine(file.content) != elf.MACHINES[platform]:
        bits, order, number = elf.machine(file.content)
        said = f"{bits} bits, {'little' if order == '<' else 'big'} endian, e_machine {number}"
        yield Finding("platform", file.path, f"{file.path} is not for {platform}: {said}")
        return
    found = None if debian else elf.read(file.content)
    if found:
        safe = SAFE.get(found.language, ())
        yield from (Finding(check, file.path, f"{file.path} ({found.language}) {words}")
                    for check, words in _unhardened(found) if check not in safe)


def _unhardened(found: elf.Elf) -> list[tuple[str, str]]:
    rules = (
        ("pie", found.pie, "is loaded at a fixed address"),
        ("relro", found.relro or not found.dynamic, "has no RELRO segment"),
        ("bind-now", found.bind_now or not found.dynamic, "binds symbols when they are first used"),
        ("canary", found.canary, "has no stack protector"),
        ("fortify", found.fortified, "uses the C library's unchecked functions alone"),
        ("stack", not found.stack, "asks for an executable stack"),
        ("rpath", all(part.startswith(("$ORIGIN", "/usr/lib/", "/lib/")) for part in found.rpath),
         f"looks for libraries in {':'.join(found.rpath)}"),
    )
    return [(check, words) for check, holds, words in rules if not holds]
