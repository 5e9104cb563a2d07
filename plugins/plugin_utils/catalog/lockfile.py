"""The lock: JSON Lines, one header and then one input a line, sorted, the same bytes for the same resolution.

    {"lock":1,"snapshot":"20261123T112238Z","left_out":{"linux/s390x":["trixie-security"]},"older":{"linux/s390x":{"trixie":"20260912T075541Z"}}}
    {"input":"rootfs","kind":"debian","archive":"debian","platform":"linux/arm64","name":"libc6","version":"2.41-12",
     "architecture":"arm64","path":"pool/main/g/glibc/libc6_2.41-12_arm64.deb","sha256":"...","size":2200000}
    {"input":"registry","kind":"go","module":"github.com/...","version":"v1.2.3","file":"zip","h1":"h1:...=","sha256":"...","size":1}
    {"input":"plex","kind":"url","url":"https://...","sha256":"...","size":1}

Every line names one file by sha256 and size. `platform` says for which platform an input is; without it, for all.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL

FORMAT = 1
SNAPSHOT = "%Y%m%dT%H%M%SZ"  # as snapshot.debian.org writes a time

FIELDS = {  # kind -> the fields of its lines, beside those that every line has
    "debian": ("archive", "platform", "name", "version", "architecture", "path"),
    "go": ("module", "version", "file", "h1"),
    "url": ("url",),
}
COMMON = ("input", "kind", "sha256", "size")
OPTIONAL = ("platform",)


@dataclass(frozen=True)
class Entry:
    """One locked file. `facts` are the fields of its kind (see FIELDS); `platform` is an OCI platform or empty for all."""

    input: str
    kind: str
    sha256: str
    size: int
    platform: str = ""
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def fact(self) -> dict[str, str]:
        return dict(self.facts)

    @property
    def label(self) -> str:
        """How messages name it: `libc6 2.41-12 arm64`, `github.com/a/b v1.0.0 zip`, or the URL."""
        fact = self.fact
        if self.kind == "debian":
            return f"{fact['name']} {fact['version']} {fact['architecture']}"
        return f"{fact['module']} {fact['version']} {fact['file']}" if self.kind == "go" else fact["url"]

    @property
    def path(self) -> str:
        """Where the file lies in the context of inputs (see docs/guide.md, "Inputs")."""
        fact = self.fact
        if self.kind == "debian":
            return f"{self.input}/{fact['path'].rsplit('/', 1)[-1]}"
        if self.kind == "go":
            return f"{self.input}/proxy/{escape(fact['module'])}/@v/{escape(fact['version'])}.{fact['file']}"
        return self.input

    def as_dict(self) -> dict[str, object]:
        found: dict[str, object] = {"input": self.input, "kind": self.kind, **self.fact, "sha256": self.sha256, "size": self.size}
        return {**found, "platform": self.platform} if self.platform else found

    @property
    def key(self) -> tuple[str, ...]:
        """The order of the lines."""
        fact = self.fact
        first = fact.get("module") or fact.get("name") or fact.get("url", "")
        rest = (self.kind, str(self.size), *fact.values())  # so that no two lines are equal in order
        return (self.input, self.platform, first, fact.get("version", ""), fact.get("file", ""), fact.get("path", ""), self.sha256, *rest)


@dataclass(frozen=True)
class Lock:
    """A lock file. `snapshot` is the time that its Debian closures were resolved for (empty where it has none);
    `left_out` maps a platform to the suites that its mirror could not serve whole, `older` to those that it could serve whole only
    as they were at an earlier time."""

    entries: tuple[Entry, ...] = ()
    snapshot: str = ""
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    older: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The snapshot in seconds since 1970, 0 where there is none."""
        if not self.snapshot:
            return 0
        return int(datetime.strptime(self.snapshot, SNAPSHOT).replace(tzinfo=timezone.utc).timestamp())

    def of(self, name: str, platform: str) -> list[Entry]:
        """The entries of one input for one platform."""
        return [entry for entry in self.entries if entry.input == name and entry.platform in ("", platform)]


def escape(text: str) -> str:
    """A module path or version as the module proxy protocol spells it: capitals become `!` and the small letter.

    Source: https://go.dev/ref/mod#goproxy-protocol
    """
    return re.sub(r"[A-Z]", lambda found: "!" + found.group().lower(), text)


def dump(lock: Lock) -> str:
    """The text of the lock file."""
    header: dict[str, object] = {"lock": FORMAT}
    if lock.snapshot:
        header["snapshot"] = lock.snapshot
    if lock.left_out:
        header["left_out"] = {platform: sorted(suites) for platform, suites in sorted(lock.left_out.items())}
    if lock.older:
        header["older"] = {platform: dict(sorted(suites.items())) for platform, suites in sorted(lock.older.items())}
    lines = [json.dumps(header, separators=(",", ":"))]
    lines += [_line(entry) for entry in sorted(set(lock.entries), key=lambda entry: entry.key)]
    return "\n".join(lines) + "\n"


def _line(entry: Entry) -> str:
    order = (*COMMON[:2], "platform", *FIELDS[entry.kind], *COMMON[2:])
    values = entry.as_dict()
    return json.dumps({name: values[name] for name in dict.fromkeys(order) if name in values}, separators=(",", ":"))


def parse(text: str, name: str) -> Lock:
    """The lock in `text`; `name` is the file's name for messages. Raises BadInput with every bad line."""
    problems: list[str] = []
    entries: list[Entry] = []
    header: dict[str, object] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("not an object")
            if number == 1:
                header = _header(values)
            else:
                entries.append(_entry(values))
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"{name}:{number}: {error}")
    if not header and not problems:
        problems.append(f"{name}:1: an empty lock; make it anew with playbooks/lock.yml")
    if problems:
        raise BadInput(problems, what=name)
    left_out = {platform: tuple(suites) for platform, suites in header.get("left_out", {}).items()}  # type: ignore[attr-defined]
    return Lock(tuple(entries), str(header.get("snapshot", "")), left_out, header.get("older", {}))  # type: ignore[arg-type]


def _header(values: dict[str, object]) -> dict[str, object]:
    if values.get("lock") != FORMAT:
        raise ValueError(f"the first line says lock {values.get('lock')!r}; this farm reads format {FORMAT}")
    if values.get("snapshot"):
        datetime.strptime(str(values["snapshot"]), SNAPSHOT)
    for name, kind in (("left_out", list), ("older", dict)):
        given = values.get(name, {})
        if not isinstance(given, dict) or not all(isinstance(suites, kind) for suites in given.values()):
            raise ValueError(f"{name} is no mapping of platforms to suites")
    return values


def _entry(values: dict[str, object]) -> Entry:
    kind = values.get("kind")
    if kind not in FIELDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(FIELDS)}")
    wanted = {*COMMON, *FIELDS[str(kind)]}
    missing, unknown = wanted - set(values), set(values) - wanted - set(OPTIONAL)
    if missing or unknown:
        said = (("lacks", missing), ("unknown", unknown))
        raise ValueError("; ".join(f"{what} {', '.join(sorted(names))}" for what, names in said if names))
    if not re.fullmatch(r"[0-9a-f]{64}", str(values["sha256"])):
        raise ValueError(f"sha256 {values['sha256']!r} is not 64 hex digits")
    if type(values["size"]) is not int or values["size"] < 0:
        raise ValueError(f"size {values['size']!r} is not a number of bytes")
    facts = tuple((name, str(values[name])) for name in FIELDS[str(kind)] if name != "platform")
    entry = Entry(str(values["input"]), str(kind), str(values["sha256"]), values["size"], str(values.get("platform", "")), facts)
    if entry.platform and entry.platform not in map(str, ALL):
        raise ValueError(f"platform {entry.platform!r} is none of {', '.join(map(str, ALL))}")
    if any(part in ("", ".", "..") for part in entry.path.split("/")):
        raise ValueError(f"{entry.path!r} is no path inside a context")
    return entry
