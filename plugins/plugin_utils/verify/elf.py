# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ELF file says of how it was built. No I/O.

Sources: elf(5), https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
"""

from __future__ import annotations

import io
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
    """What matters of one file. A `dynamic` one is loaded by the C library's loader."""

    language: str
    dynamic: bool
    pie: bool
    relro: bool
    bind_now: bool
    canary: bool
    fortified: bool
    stack: bool  # whether its stack is executable
    rpath: tuple[str, ...] = ()


def read(content: bytes) -> Elf | None:
    """Reads an ELF file; None if it is none that a kernel or loader would take: an object file, or a broken one."""
    try:
        return _read(elffile.ELFFile(io.BytesIO(content)))
    except (elf_errors.ELFError, struct.error, UnicodeDecodeError, KeyError, AttributeError):
        return None


def _read(file: elffile.ELFFile) -> Elf | None:
    kind = file["e_type"]
    if kind not in ("ET_EXEC", "ET_DYN"):
        return None
    segments: dict[str, Any] = {segment["p_type"]: segment for segment in file.iter_segments()}
    tags: list[tuple[str, int]] = []
    rpath: list[str] = []
    names: set[str] = set()
    if dynamic := segments.get("PT_DYNAMIC"):
        for tag in dynamic.iter_tags():
            tags.append((tag.entry.d_tag, tag.entry.d_val))
            rpath += [tag.rpath] if tag.entry.d_tag == "DT_RPATH" else []
            rpath += [tag.runpath] if tag.entry.d_tag == "DT_RUNPATH" else []
        names |= {symbol.name for symbol in dynamic.iter_symbols()}
    for section in (".dynsym", ".symtab"):  # the first too, as counting by hashes misses what others define
        table: Any = file.get_section_by_name(section)
        if table:
            names |= {symbol.name.partition("@")[0] for symbol in table.iter_symbols()}
    values = dict(tags)
    stack = segments.get("PT_GNU_STACK")
    plain = {name for name in names if FORTIFIED.match(name)}
    return Elf(
        language=_language(file),
        dynamic=bool(tags),
        pie=kind == "ET_DYN",
        relro="PT_GNU_RELRO" in segments,
        bind_now="DT_BIND_NOW" in values or bool(values.get("DT_FLAGS", 0) & 8 or values.get("DT_FLAGS_1", 0) & 1),
        canary=bool(names & {"__stack_chk_fail", "__stack_chk_fail_local", "__stack_chk_guard"}),
        fortified=not plain or any(name.endswith("_chk") for name in names),
        stack=bool(stack and stack["p_flags"] & 1),
        rpath=tuple(part for text in rpath for part in text.split(":")),
    )


def _language(file: elffile.ELFFile) -> str:
    if file.get_section_by_name(".go.buildinfo"):
        return GO
    comment = file.get_section_by_name(".comment")
    return RUST if comment and b"rustc" in comment.data() else C
