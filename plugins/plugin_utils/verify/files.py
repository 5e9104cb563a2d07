# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files break a contract. No I/O."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.oci import Descriptor
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import elf, secret
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.layers import SMALL, File, Hidden

COMPILERS = ("*gcc", "*g++", "*gcc-[0-9]*", "*g++-[0-9]*", "cc", "*-cc", "c89", "c99", "c++", "*-c++", "clang*",
             "*-clang*", "tcc", "*-tcc", "pcc", "icc", "icpc", "nvcc", "emcc", "em++", "cpp",
             "cpp-[0-9]*", "*-cpp", "*-cpp-[0-9]*", "cc1*", "lto1", "collect2", "*-ld", "ld", "*ld.bfd", "*ld.gold",
             "ld.lld", "ld64.lld", "wasm-ld", "lld", "lld-[0-9]*", "mold", "ld.mold", "as", "*-as", "nasm",
             "yasm", "llc", "llc-[0-9]*", "make", "gmake", "bmake", "cmake", "cmake[0-9]*", "ninja", "samu", "meson",
             "scons", "autoconf", "automake*", "libtool", "bazel", "bazelisk", "buck2", "ant", "mvn", "gradle", "sbt",
             "go", "go1.[0-9]*", "gofmt", "tinygo", "*gccgo", "*gccgo-[0-9]*", "rustc", "rustc-[0-9]*", "zig", "nim",
             "swiftc", "javac", "kotlinc", "scalac", "node-gyp", "ghc", "ghc-[0-9]*", "ocamlc", "ocamlopt", "fpc",
             "*gnatmake", "*gnatmake-[0-9]*", "*gfortran", "*gfortran-[0-9]*", "flang*", "*gdc", "*gdc-[0-9]*", "ldc2",
             "dmd")
MANAGERS = ("apt", "apt-get", "aptitude", "dpkg", "apk", "apk.static", "opkg", "rpm", "rpm-ostree", "dnf", "dnf[0-9-]*",
            "microdnf", "tdnf", "yum", "zypper", "pacman", "emerge", "xbps-install", "nix", "nix-env", "guix", "brew",
            "snap", "flatpak", "npm", "npx", "yarn", "yarnpkg", "pnpm", "pnpx", "corepack", "bun", "bunx", "pip",
            "pip[0-9]*", "pipx", "pipenv", "uv", "uvx", "poetry", "pdm", "pixi", "easy_install*", "gem", "gem[0-9]*",
            "bundle", "bundle[0-9]*", "bundler*", "cargo", "cargo-[0-9]*", "rustup", "composer", "composer.phar",
            "conda", "mamba", "micromamba", "luarocks", "cpanm", "pecl", "pear", "cabal", "opam", "conan", "vcpkg")
MODULES = (  # what an interpreter runs or unpacks, so that no program need be there
    "*/pip/__main__.py", "*/pip-[0-9]*.whl", "*/pip.pyz", "*/uv/__main__.py", "*/poetry/__main__.py",
    "*/conda/__main__.py", "*/npm/bin/npm-cli.js", "*/corepack/dist/corepack.js", "*/yarn/bin/yarn.js",
    "*/.yarn/releases/yarn-*.cjs", "*/pnpm/bin/pnpm.cjs", "*/composer.phar")
PROGRAMS = ("/bin/", "/sbin/", "/libexec/", "/lib/gcc/")
LIBRARIES = ("/usr/lib/", "/lib/", "/usr/lib64/", "/lib64/")
ORIGIN = re.compile(r"\$(ORIGIN\b|\{ORIGIN\})")  # the folder of a program, see ld.so(8)
# C's rules are not those of every language
SAFE = {
    elf.GO: ("pie", "relro", "bind-now", "canary", "fortify"),  # its own linker; memory is safe
    elf.RUST: ("canary", "fortify"),  # memory is safe
}


def findings(files: Mapping[str, File], packaged: frozenset[str], platform: Platform) -> Iterator[Finding]:
    """Everything in an image's files that breaks a contract. Programs of Debian packages (`packaged`) are built as
    Debian builds them; of them only the platform counts."""
    names = frozenset(map(posixpath.basename, files))
    for path, file in sorted(files.items()):
        shown = f"{stat.filemode(file.mode)} {file.uid}:{file.gid} {path}"
        if file.regular and (file.mode & (stat.S_ISUID | stat.S_ISGID) or file.capable):
            what = "has file capabilities" if file.capable else "is setuid or setgid"
            yield Finding("setuid", path, f"{shown} {what}")
        sticky = stat.S_ISDIR(file.mode) and file.mode & stat.S_ISVTX
        if file.mode & stat.S_IWOTH and not stat.S_ISLNK(file.mode) and not sticky:
            yield Finding("world-writable", path, f"everybody may write to {shown}")
        # the keys in Debian's programs, as in GnuTLS for its tests of itself, are everybody's
        if said := "" if file.elf and path in packaged else _secret(file):
            yield Finding("secret", path, f"{path} {said}")
        yield from _tools(file)
        if file.elf:
            yield from _program(file, platform, names, debian=path in packaged)


def secrets_below(hidden: Iterable[Hidden]) -> Iterator[tuple[Finding, Descriptor]]:
    """Secrets in what later layers hide, and the layer of each."""
    for one in hidden:
        path = one.file.path
        if said := "" if one.file.elf else _secret(one.file):
            yield Finding("secret", path, f"{path} {said}: a later layer hides it, but everybody who has the image has "
                                          f"it, in {one.layer.digest}"), one.layer


def languages(files: Mapping[str, File], packaged: frozenset[str], platform: Platform) -> tuple[str, ...]:
    """The languages of the programs for the platform, without Debian's."""
    programs = (elf.read(file.content) for path, file in files.items() if file.elf and path not in packaged
                and elf.machine(file.content) == elf.MACHINES[platform])
    return tuple(sorted({program.language for program in programs if program}))


def _secret(file: File) -> str:
    if file.secret or not file.regular:
        return file.secret
    whole = len(file.content) <= SMALL and not file.elf
    return secret.of_file(file.path, file.content) if whole else secret.of_text(file.content)


def _tools(file: File) -> Iterator[Finding]:
    folder, name = posixpath.split(file.path.removesuffix(".real"))  # what stands behind a wrapper
    if file.regular and any(fnmatch.fnmatchcase(file.path, module) for module in MODULES):
        yield Finding("package-manager", file.path, f"{file.path} is a package manager")
    placed = any(place in f"{folder}/" for place in PROGRAMS) and (file.runs or stat.S_ISLNK(file.mode))
    if not placed and not (file.runs and file.elf):  # a program, and not what is called so elsewhere
        return
    for check, names, what in (("compiler", COMPILERS, "a compiler, linker or build tool"),
                               ("package-manager", MANAGERS, "a package manager")):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in names):
            yield Finding(check, file.path, f"{file.path} is {what}")


def _program(file: File, platform: Platform, names: frozenset[str], *, debian: bool) -> Iterator[Finding]:
    """`names` are those of all files: a program whose loader is none of them is made for another system, such as one
    that passes numbers in other registers."""
    machine = elf.machine(file.content)
    if machine != elf.MACHINES[platform]:
        bits, order, number = machine
        said = f"{bits} bits, {'little' if order == '<' else 'big'} endian, e_machine {number}"
        yield Finding("platform", file.path, f"{file.path} is not for {platform}: {said}")
        return
    found = None if debian else elf.read(file.content)
    if found is None:
        return
    if found.loader and posixpath.basename(found.loader) not in names:
        yield Finding("platform", file.path, f"{file.path} is not for this image: its loader, "
                                             f"{found.loader}, is missing")
    safe = SAFE.get(found.language, ())
    yield from (Finding(check, file.path, f"{file.path} ({found.language}) {words}")
                for check, words in _unhardened(found, posixpath.dirname(file.path)) if check not in safe)


def _unhardened(found: elf.Elf, folder: str) -> list[tuple[str, str]]:
    rules = (
        ("pie", found.pie, "is loaded at a fixed address"),
        ("relro", found.relro or not found.dynamic, "has no RELRO segment"),
        ("bind-now", found.bind_now or not found.dynamic, "binds symbols when they are first used"),
        ("canary", found.canary, "has no stack protector"),
        ("fortify", found.fortified, "uses only the C library's unchecked functions"),
        ("stack", not found.stack, "asks for an executable stack, or does not say that it needs none"),
        ("rpath", not any(_strays(part, folder) for part in found.rpath),
         f"looks for libraries in {':'.join(found.rpath)}"),
    )
    return [(check, words) for check, holds, words in rules if not holds]


def _strays(part: str, folder: str) -> bool:
    """Whether a program of a folder looks for libraries in another place than the system's folders for them, its own
    folder, and what is installed beside that."""
    path = posixpath.normpath(ORIGIN.sub(lambda _found: folder, part) or ".") + "/"
    own = "/".join(folder.split("/")[:2]) + "/" if ORIGIN.search(part) else "/usr/lib/"
    return "$" in path or not path.startswith((*LIBRARIES, own))
