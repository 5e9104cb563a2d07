# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock: JSON Lines, one header and then one line per file, sorted, the same bytes for the same resolution.

    {"lock":2,"lines":3,"snapshot":"20261123T112238Z","releases":{"trixie":"20261121T093512Z"},
     "made_for":{"rootfs":{"packages":["apt"],...}},"left_out":{"linux/s390x":["trixie-security"]},
     "older":{"linux/s390x":{"trixie":"20260912T075541Z"}},"above":["debian"]}
    {"input":"rootfs","kind":"debian","platform":"linux/arm64","archive":"debian","name":"libc6","version":"2.41-12",
     "architecture":"arm64","path":"pool/main/g/glibc/libc6_2.41-12_arm64.deb","sha256":"...","size":2200000}
    {"input":"registry","kind":"go","module":"github.com/...","version":"v1.2.3","file":"zip","h1":"h1:...=",
     "sha256":"...","size":1}
    {"input":"librespot","kind":"cargo","name":"librespot","version":"0.8.0","file":"program","sha256":"...","size":1}
    {"input":"parse","kind":"npm","name":"@me/x","version":"1.2.3","integrity":"sha512-...==","sha256":"...","size":1}
    {"input":"hap","kind":"pypi","platform":"linux/arm64","name":"x","version":"1.2","file":"x-1.2-py3-none-any.whl",
     "sha256":"...","size":1}
    {"input":"plex","kind":"url","url":"https://...","sha256":"...","size":1}

Every line names one file by sha256 and size. `platform` says which platform the file is for; without it, all of them.
`lines` counts the lines after the header: a lock that was cut off or merged is not a whole closure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import NAMED
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import LINES
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import plain
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import SNAPSHOT, Entry, Lock

FORMAT = 2
ANEW = "run `make lock` again"
COMMON = ("input", "kind", "sha256", "size")
OPTIONAL = ("platform",)
LARGEST = 1 << 50  # bytes of a file that a line names
MOST_WRONG = 100  # lines that are named: a file of another form has a mistake in each
LONGEST = 2048  # bytes of a path in a context, as in recipe/folders.py
SUITE = re.compile(r"[a-z][a-z0-9./-]*\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
INPUT = re.compile(r"[a-z0-9][a-z0-9-]*\Z")


def dump(lock: Lock) -> str:
    """A lock as the text of its file."""
    entries = sorted(set(lock.entries), key=lambda entry: entry.key)
    header: dict[str, object] = {"lock": FORMAT, "lines": len(entries)}
    if lock.snapshot:
        header["snapshot"] = lock.snapshot
    header.update({name: _sorted(value) for name, value in (("releases", lock.releases), ("made_for", lock.made_for))
                   if value})
    if lock.left_out:
        header["left_out"] = {platform: sorted(suites) for platform, suites in sorted(lock.left_out.items())}
    if lock.older:
        header["older"] = _sorted(lock.older)
    if lock.above:
        header["above"] = list(lock.above)
    lines = [json.dumps(header, separators=(",", ":"))]
    lines += map(_line, entries)
    return "\n".join(lines) + "\n"


def _sorted(value: Any) -> Any:
    return {name: _sorted(inner) for name, inner in sorted(value.items())} if hasattr(value, "items") else value


def _line(entry: Entry) -> str:
    values: dict[str, object] = {"input": entry.input, "kind": entry.kind,
                                 **({"platform": entry.platform} if entry.platform else {}),
                                 **entry.fact, "sha256": entry.sha256, "size": entry.size}
    order = dict.fromkeys((*COMMON[:2], *OPTIONAL, *LINES[entry.kind].fields, *COMMON[2:]))
    return json.dumps({name: values[name] for name in order if name in values}, separators=(",", ":"))


def parse(data: bytes | str, name: str) -> Lock:
    """Reads the lock in `data`; `name` is the file's name in messages. Raises BadInput with every bad line."""
    problems: list[str] = []
    entries: list[Entry] = []
    header: dict[str, Any] = {}
    seen: dict[tuple[str, str], dict[str, Entry]] = {}  # (input, path) -> platform -> its line
    sizes: dict[str, Entry] = {}
    for number, values in _lines(data, name, problems):
        if len(problems) >= MOST_WRONG:
            problems.append(f"{name}:{number}: what follows was not read: {ANEW}")
            break
        said = list(_wrong_header(values) if number == 1 else _wrong(values))
        if number == 1:
            header = values
        elif not said:
            entry = _entry(values, number)
            entries.append(entry)
            there = seen.setdefault((entry.input, entry.path), {})
            said = [f"{entry.path} is already on line {other.line}" for platform, other in there.items()
                    if platform == entry.platform or not platform or not entry.platform]
            there.setdefault(entry.platform, entry)
            said += [f"size is {entry.size}, but line {other.line} says {other.size} for the same content"
                     for other in [sizes.setdefault(entry.sha256, entry)] if other.size != entry.size]
        problems += [f"{name}:{number}: {text}" for text in said]
        if number == 1 and values.get("lock") != FORMAT:
            break  # what its lines mean is not known
    if not problems and header.get("lines", len(entries)) != len(entries):
        problems = [f"{name}:1: {header['lines']} lines should follow, but {len(entries)} do: the file was cut off, or "
                    f"merged; {ANEW}"]
    if problems:
        raise BadInput(problems, what=name)
    left_out = {platform: tuple(suites) for platform, suites in header.get("left_out", {}).items()}
    return Lock(tuple(entries), header.get("snapshot", ""), header.get("releases", {}), header.get("made_for", {}),
                left_out, header.get("older", {}), tuple(header.get("above", ())))


def _lines(data: bytes | str, name: str, problems: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects with their line numbers; a line that is not one is noted in `problems`."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = bytes(data[:error.start]).count(b"\n")  # type: ignore[arg-type]
        problems.append(f"{name}:{before + 1}: not UTF-8: {error.reason}")
        return
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        values: Any = None
        try:
            values = json.loads(line, object_pairs_hook=_once)
            said = "" if isinstance(values, dict) else "not a JSON object"
        except (ValueError, RecursionError) as error:
            said = _not_json(line, error)
        if not said:
            yield number, values
            continue
        problems.append(f"{name}:{number}: {said}")
        if number == 1 or len(problems) >= MOST_WRONG:  # without its header, a file need not be a lock at all
            problems[-1] += "; what follows was not read" + ("" if ANEW in said else f": {ANEW}")
            return


def _not_json(line: str, error: Exception) -> str:
    """What is wrong with a line, in words that fit a file of many lines."""
    if re.match(r"(<{7}|={7}|>{7}|\|{7})( |\Z)", line):
        return f"git left a conflict here: {ANEW}"
    if not line.strip():
        return f"not JSON: the line is empty; {ANEW}"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg}, at character {error.colno}"
    if isinstance(error, _Twice):
        return f"not JSON: {error}"
    return "not JSON: " + ("it is nested too deep" if isinstance(error, RecursionError) else "a number is too long")


class _Twice(ValueError):
    """A key that appears twice in an object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice("a key appears twice: " + ", ".join(sorted({key for key, _value in pairs if [
            k for k, _value in pairs].count(key) > 1})))
    return found


def _whole(value: Any) -> bool:
    """Whether it is a whole number (in Python, true and false are too)."""
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong_header(values: dict[str, Any]) -> Iterator[str]:
    if "lock" not in values:
        yield f"there is no header, which must be the first line, such as {{\"lock\":{FORMAT},...}}: {ANEW}"
        return
    if not _whole(values["lock"]) or values["lock"] != FORMAT:
        yield f"the lock has format {_short(values['lock'])}, but this version reads format {FORMAT}: {ANEW}"
    known = {"lock": lambda value: True, "lines": _whole, "snapshot": _time, "releases": _releases,
             "left_out": _left_out, "older": _older, "made_for": _made_for, "above": _above}
    allowed = {"lines": "a number", "snapshot": "a time like 20261123T112238Z",
               "releases": "a mapping of suites to times",
               "left_out": "a mapping of platforms to lists of suites",
               "older": "a mapping of platforms to suites and their times",
               "made_for": "a mapping of inputs to what they were locked for", "above": "a list of images"}
    for key, value in values.items():
        if key not in known:
            yield f"unknown key {key!r} in the header; allowed: {', '.join(known)}"
        elif not known[key](value):
            yield f"{key} is {_short(value)}, it must be {allowed[key]}"


def _time(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"\d{8}T\d{6}Z", value, re.ASCII):
        return False
    try:
        return 1970 <= datetime.strptime(value, SNAPSHOT).year < 2100  # what archives and file systems can store
    except ValueError:
        return False


def _suite(value: Any) -> bool:
    return isinstance(value, str) and bool(SUITE.match(value))


def _releases(value: Any) -> bool:
    return isinstance(value, dict) and all(_suite(suite) and _time(time) for suite, time in value.items())


def _by_platform(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= NAMED.keys()


def _left_out(value: Any) -> bool:
    return _by_platform(value) and all(isinstance(suites, list) and all(map(_suite, suites))
                                       for suites in value.values())


def _older(value: Any) -> bool:
    return _by_platform(value) and all(map(_releases, value.values()))


def _made_for(value: Any) -> bool:
    return isinstance(value, dict) and all(INPUT.match(name) and isinstance(said, dict) for name, said in value.items())


def _above(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and plain(name) for name in value)


def _wrong(values: dict[str, Any]) -> Iterator[str]:
    """Everything that is wrong with a line."""
    kind = LINES.get(values["kind"]) if isinstance(values.get("kind"), str) else None
    if "lock" in values and "kind" not in values:
        yield f"a second header: two locks were merged into one file; {ANEW}"
        return
    if kind is None:
        said = f"kind is {_short(values['kind'])}, it" if "kind" in values else "it has no kind, which"
        yield f"{said} must be one of {', '.join(LINES)}"
        return
    wanted = {*COMMON, *kind.fields}
    missing, unknown = wanted - values.keys(), values.keys() - wanted - {*OPTIONAL}
    if missing:
        yield f"it has no {', '.join(sorted(missing))}"
    if unknown:
        yield f"unknown {', '.join(map(_short, sorted(unknown)))}; allowed: {', '.join(sorted({*wanted, *OPTIONAL}))}"
    odd = sorted(key for key, value in values.items() if key not in unknown and key != "size"
                 and not (isinstance(value, str) and plain(value)))
    yield from (f"{key} is {_short(values[key])}, it must be a string without spaces and control characters"
                for key in odd)
    if missing or odd:
        return
    if not INPUT.match(values["input"]):
        yield f"input is {values['input']!r}, which is not a valid name of an input"
    if not SHA256.match(values["sha256"]):
        yield f"sha256 {values['sha256']!r} is not 64 hexadecimal digits in lower case"
    if not _whole(values["size"]) or not 0 <= values["size"] < LARGEST:
        yield f"size is {_short(values['size'])}, it must be a whole number of bytes, at most {LARGEST - 1}"
    if "platform" in values and values["platform"] not in NAMED:
        yield f"platform is {values['platform']!r}, it must be one of {', '.join(NAMED)}"
    yield from kind.wrong(values)
    path = kind.path(values["input"], values)
    parts = path.split("/")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts) or len(path.encode()) > LONGEST:
        yield f"{_short(path)} is not a valid path in a context"


def _entry(values: dict[str, Any], line: int) -> Entry:
    return LINES[values["kind"]].entry(values["input"], values["sha256"], values["size"], values.get("platform", ""),
                                       values, line)


def _short(value: Any) -> str:
    words = value is None or isinstance(value, (bool, float))  # as JSON writes them, not Python
    text = json.dumps(value) if words else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
