"""Settings from the environment. No I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

CODE = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{3}")
# HomeKit refuses these: HAP specification, 4.2.1.2
GUESSED = {*(f"{digit * 3}-{digit * 2}-{digit * 3}" for digit in "0123456789"), "123-45-678", "876-54-321"}


class Mistakes(Exception):
    """Settings that cannot be used: a line each."""


@dataclass(frozen=True)
class Settings:
    """`things` has the name of each accessory and what it stands for. Without a `code` one is made, and without an
    `address` the machine's own is announced."""

    name: str
    things: tuple[tuple[str, str], ...]
    code: str = ""
    address: str = ""


def read(environment: Mapping[str, str], key: str, example: str) -> Settings:
    """`key` names the variable that has the accessories: `NAME=WHAT; NAME=WHAT`."""
    wrong: list[str] = []
    things: dict[str, str] = {}
    for entry in filter(None, map(str.strip, environment.get(key, "").split(";"))):
        name, equal, what = (part.strip() for part in entry.partition("="))
        if not (name and equal and what):
            wrong.append(f"{key}: {entry!r} is not NAME=WHAT, such as {example}")
        elif name in things:
            wrong.append(f"{key}: there are two {name!r}")
        else:
            things[name] = what
    if not things and not wrong:
        wrong.append(f"{key} is not set: name at least one, such as {key}='{example}'")
    code, address = environment.get("CODE", ""), environment.get("ADDRESS", "")
    if code and not CODE.fullmatch(code):
        wrong.append("CODE is not of the form 031-45-154")
    elif code in GUESSED:
        wrong.append("CODE is one of those that HomeKit refuses, as everybody would guess it")
    try:
        if address:
            ipaddress.IPv4Address(address)
    except ValueError:
        wrong.append(f"ADDRESS: {address!r} is not an IPv4 address")
    if wrong:
        raise Mistakes("\n".join(wrong))
    return Settings(environment.get("NAME") or "Desimages", tuple(things.items()), code, address)
