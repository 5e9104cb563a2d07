# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""The smallest program for each platform: it writes a byte to its output, waits until its input ends, and ends. No I/O.

Where a platform is a processor's generation, the program begins with instructions that older ones do not have. It is a
static ELF file of some 150 bytes, elf(5); system calls are those of syscall(2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from . import platforms
from .platforms import Platform

_BASE = 0x10000  # where it is loaded: a multiple of every page size, and above the lowest address that Linux gives


@dataclass(frozen=True)
class _Machine:
    """`bits` and `order` (of struct) of its words, ELF's number and flags for it, and the program's instructions."""

    bits: int
    order: str
    number: int
    code: bytes
    flags: int = 0


def _words(*instructions: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}{len(instructions)}I", *instructions)


def _arm(*first: int) -> _Machine:
    """`first` are the instructions that tell the generation. The number of a call is in r7."""
    return _Machine(32, "<", 40, _words(
        *first,
        0xE3A00001, 0xE1A0100D, 0xE3A02001, 0xE3A07004, 0xEF000000,  # write(1, sp, 1)
        0xE3A00000, 0xE3A07003, 0xEF000000,  # read(0, sp, 1)
        0xE3A00000, 0xE3A07001, 0xEF000000,  # exit(0)
    ), flags=0x05000000)  # EABI 5


_MACHINES = {
    platforms.AMD64: _Machine(64, "<", 62, bytes.fromhex(
        "b801000000 bf01000000 4889e6 ba01000000 0f05"
        "31c0 31ff 4889e6 ba01000000 0f05"
        "b83c000000 31ff 0f05")),
    platforms.I386: _Machine(32, "<", 3, bytes.fromhex(
        "b804000000 bb01000000 89e1 ba01000000 cd80"
        "b803000000 31db cd80"
        "b801000000 31db cd80")),
    platforms.ARM64: _Machine(64, "<", 183, _words(
        0xD2800020, 0x910003E1, 0xD2800022, 0xD2800808, 0xD4000001,
        0xD2800000, 0xD28007E8, 0xD4000001,
        0xD2800000, 0xD2800BA8, 0xD4000001)),
    # movw r3, #1; dmb ish; vmov.f32 s0, #1.0: not in ARMv6, and the last only with VFPv3, which armhf needs
    platforms.ARMV7: _arm(0xE3003001, 0xF57FF05B, 0xEEB70A00),
    platforms.ARMV6: _arm(0xE6BF3F33),  # rev r3, r3: not in ARMv5
    platforms.S390X: _Machine(64, ">", 22, bytes.fromhex(
        "a7290001 b904003f a7490001 0a04"
        "a7290000 0a03"
        "a7290000 0a01")),
    platforms.PPC64LE: _Machine(64, "<", 21, _words(
        0x38000004, 0x38600001, 0x7C240B78, 0x38A00001, 0x44000002,
        0x38000003, 0x38600000, 0x7C240B78, 0x38A00001, 0x44000002,
        0x38000001, 0x38600000, 0x44000002), flags=2),  # ELFv2
    platforms.RISCV64: _Machine(64, "<", 243, _words(
        0x00100513, 0x00010593, 0x00100613, 0x04000893, 0x00000073,
        0x00000513, 0x03F00893, 0x00000073,
        0x00000513, 0x05D00893, 0x00000073)),
}


def program(platform: Platform) -> bytes:
    """The file for a platform."""
    machine = _MACHINES[platform]
    wide = machine.bits == 64
    head, part = (64, 56) if wide else (52, 32)
    size = head + part + len(machine.code)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if machine.order == "<" else 2, 1]) + bytes(9)
    entry = _BASE + head + part
    header = _pack(machine, "HHIWWWIHHHHHH", (2, machine.number, 1, entry, head, 0, machine.flags, head, part, 1,
                                              0, 0, 0))
    flags = 5  # may be read and executed
    load = ((1, flags, 0, _BASE, _BASE, size, size, 0x10000) if wide else
            (1, 0, _BASE, _BASE, size, size, flags, 0x10000))
    return ident + header + _pack(machine, "IIWWWWWW" if wide else "IIIIIIII", load) + machine.code


def number_of(platform: Platform) -> int:
    """ELF's number for a platform's machine, `e_machine`."""
    return _MACHINES[platform].number


def _pack(machine: _Machine, form: str, values: Iterable[int]) -> bytes:
    """Like struct.pack; W is an address."""
    return struct.pack(machine.order + form.replace("W", "Q" if machine.bits == 64 else "I"), *values)
