# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ELF file says about how it was built. No I/O.

Sources: elf(5), https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
"""

from __future__ import annotations

import io
import posixpath
import re
import struct
from dataclasses import dataclass
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import platforms
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import elf_errors, elffile

# (bits, byte order, e_machine), see include/uapi/linux/elf-em.h
MACHINES: dict[Platform, tuple[int, str, int]] = {
    platforms.AMD64: (64, "<", 62),
    platforms.I386: (32, "<", 3),
    platforms.ARM64: (64, "<", 183),
    platforms.ARMV7: (32, "<", 40),
    platforms.ARMV6: (32, "<", 40),
    platforms.S390X: (64, ">", 22),
    platforms.PPC64LE: (64, "<", 21),
    platforms.RISCV64: (64, "<", 243),
}
GO, RUST, C = "Go", "Rust", "C"
GO_MARK = b"\xff Go buildinf:"  # how the section .go.buildinfo begins
# where a program that says nothing of its stack has one that is not executable: DEFAULT_STACK_PERMS of the C library
NOT_EXECUTABLE = ("EM_AARCH64", "EM_PPC64", "EM_RISCV")
MUSL = ("ld-musl-", "libc.musl-")  # its loader and library; it has no checked functions
PIE = 0x08000000  # DF_1_PIE in DT_FLAGS_1: a program and not a library
# e_shoff, e_shnum and e_shstrndx (place, bytes) by ELF's class: where the sections are, which nothing needs to run
SECTIONS = {1: ((32, 4), (48, 2), (50, 2)), 2: ((40, 8), (60, 2), (62, 2))}
# functions of the C library that have a checked variant, see https://www.gnu.org/software/libc/manual/html_node/
# Source-Fortification.html
FORTIFIED = re.compile(r"(mem(cpy|move|set)|st[rp]n?c(py|at)|v?sn?printf|v?f?printf|read|recv|getcwd|realpath|gets)\Z")


def machine(content: bytes) -> tuple[int, str, int]:
    """(bits, byte order, e_machine) of an ELF file, from its first bytes; zeros for what is cut off."""
    content = content[:20].ljust(20, b"\0")
    bits, order = {1: 32, 2: 64}.get(content[4], 0), {1: "<", 2: ">"}.get(content[5], "<")
    return bits, order, struct.unpack_from(f"{order}H", content, 18)[0]


@dataclass(frozen=True)
class Elf:
    """What matters of one file. A `dynamic` one has symbols that are bound when it is loaded; `loader` is the program
    that does so, if it names one. `rpath` has the folders in which it looks for libraries before the system's, also
    those of libraries that it names with their folder."""

    language: str
    dynamic: bool
    pie: bool
    relro: bool
    bind_now: bool
    canary: bool
    fortified: bool
    stack: bool  # whether its stack is executable
    rpath: tuple[str, ...] = ()
    loader: str = ""


def read(content: bytes) -> Elf | None:
    """Reads an ELF file; None if it is none that a kernel or loader would take: an object file, or a broken one.
    Sections that cannot be read make no file broken: only tools need them."""
    for each in (content, _without_sections(content)):
        try:
            return _read(elffile.ELFFile(io.BytesIO(each)), each)
        except (elf_errors.ELFError, struct.error, ValueError, LookupError, AttributeError, TypeError, AssertionError,
                OverflowError):
            continue
    return None


def _without_sections(content: bytes) -> bytes:
    found = bytearray(content)
    for place, size in SECTIONS.get(content[4] if len(content) >= 64 else 0, ()):
        found[place:place + size] = bytes(size)
    return bytes(found)


def _read(file: elffile.ELFFile, content: bytes) -> Elf | None:
    kind = file["e_type"]
    if kind not in ("ET_EXEC", "ET_DYN"):
        return None
    segments: dict[str, Any] = {segment["p_type"]: segment for segment in file.iter_segments()}
    tags: list[tuple[str, int]] = []
    rpath: list[str] = []
    names: set[str] = set()
    loader = segments["PT_INTERP"].get_interp_name() if "PT_INTERP" in segments else ""
    needed = [loader]
    if dynamic := segments.get("PT_DYNAMIC"):
        for tag in dynamic.iter_tags():
            tags.append((tag.entry.d_tag, tag.entry.d_val))
            rpath += [tag.rpath] if tag.entry.d_tag == "DT_RPATH" else []
            rpath += [tag.runpath] if tag.entry.d_tag == "DT_RUNPATH" else []
            needed += [tag.needed] if tag.entry.d_tag == "DT_NEEDED" else []
        names |= {symbol.name for symbol in dynamic.iter_symbols()}
    for section in (".dynsym", ".symtab"):  # the first too, as counting by hashes misses what others define
        table: Any = file.get_section_by_name(section)
        if table:
            names |= {symbol.name.partition("@")[0] for symbol in table.iter_symbols()}
    values = dict(tags)
    for name in needed:  # with a slash in it, nothing looks for it elsewhere
        if "/" in name and not (name == loader and name.startswith("/")):
            rpath.append(posixpath.dirname(name) or "/")
    alone = bool(values.get("DT_FLAGS_1", 0) & PIE) and not any(needed)  # nothing binds its symbols later (static-pie)
    stack = segments.get("PT_GNU_STACK")
    plain = {name for name in names if FORTIFIED.match(name)}
    return Elf(
        language=_language(file, content),
        dynamic=bool(tags),
        pie=kind == "ET_DYN",
        relro="PT_GNU_RELRO" in segments,
        bind_now=(alone or "DT_BIND_NOW" in values
                  or bool(values.get("DT_FLAGS", 0) & 8 or values.get("DT_FLAGS_1", 0) & 1)),
        canary=bool(names & {"__stack_chk_fail", "__stack_chk_fail_local", "__stack_chk_guard"}),
        fortified=(not plain or any(name.endswith("_chk") for name in names)
                   or any(mark in name for mark in MUSL for name in needed)),
        stack=bool(stack["p_flags"] & 1) if stack else file.header["e_machine"] not in NOT_EXECUTABLE,
        rpath=tuple(part for text in rpath if text for part in text.split(":")),  # an empty one says nothing
        loader=loader,
    )


def _language(file: elffile.ELFFile, content: bytes) -> str:
    if file.get_section_by_name(".go.buildinfo") or not file.num_sections() and GO_MARK in content:
        return GO
    comment = file.get_section_by_name(".comment")
    # no compiler compresses it, and what is compressed may be broken, or huge
    return RUST if comment and not comment.compressed and b"rustc" in comment.data() else C
