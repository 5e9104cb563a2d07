"""Small images that each break one promise of their contract, above one that keeps all of them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.desimages.farm.plugins.module_utils import elf, platforms

SERVE = Path(__file__).with_name("bad") / "serve.pl"
URL = "http://127.0.0.1:8080"
CONTRACT: dict[str, Any] = {
    "command": ["/srv/serve.pl"],
    "user": 2000,
    "ports": {"http": "8080/tcp"},
    "health": {"http": f"{URL}/health", "status": 200, "within": 10},
    "metrics": f"{URL}/metrics",
    "volumes": ["/data"],
    "answers": [{"http": f"{URL}/", "says": "^hello$"}, {"http": f"{URL}/kept", "says": "something", "again": True}],
    "refuses": [{"environment": {"PORT": "wrong"}, "says": "PORT is wrong"}],
}
DOCKERFILE = f"""FROM base
COPY --from=tools /health /health
COPY serve.pl /srv/serve.pl
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK CMD ["/health", "http", "{URL}/health"]
CMD ["/srv/serve.pl"]
"""
PROGRAM = """
#include <stdio.h>
#include <string.h>
int main(int count, char **words) {
    char text[64];
    if (count > 1) strcpy(text, words[1]); else text[0] = 0;
    printf("%s\\n", text);
    return 0;
}
"""
HARDENED = ("-O2", "-fPIE", "-pie", "-Wl,-z,relro", "-Wl,-z,now", "-fstack-protector-all", "-D_FORTIFY_SOURCE=2",
            "-Wl,-z,noexecstack")


@dataclass(frozen=True)
class Bad:
    """An image. `before` and `after` are lines of its service, before and after it listens; `replaced` are texts of the
    service, `steps` lines of its Dockerfile, `files` those of its folder, `flags` compile a program in it (a flag that
    begins with ! takes that one away), `contract` replaces keys of the contract; `name` is for a further image that
    breaks the same check."""

    check: str
    before: str = ""
    after: str = ""
    replaced: Mapping[str, str] = field(default_factory=dict)
    steps: str = ""
    dockerfile: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    contract: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


def excepted(**checks: str) -> dict[str, Any]:
    """A contract with exceptions: check (with _ for -) -> subject."""
    return {"exceptions": {name.replace("_", "-"): {subject: "the test needs it"} for name, subject in checks.items()}}


AT_ROOT = {"user": 0, **excepted(root="*")}
KEY = b"-----BEGIN " + b"PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n"
PIECE = {"piece": b"a"}
BAD = {bad.name or bad.check: bad for bad in (
    Bad("config", steps="", dockerfile={"FROM base": "FROM parent"}),
    # root without capabilities may not write into another's folder
    Bad("root", steps="USER 0\n", replaced={'die "/data/kept: $!\\n"': "return"},
        contract={"user": None, "answers": CONTRACT["answers"][:1]}),
    Bad("setuid", files=PIECE, steps="COPY --chmod=4755 piece /opt/piece\n"),
    Bad("world-writable", files=PIECE, steps="COPY --chmod=666 piece /opt/piece\n"),
    Bad("secret", files={"key.pem": KEY}, steps="COPY --chmod=600 key.pem /opt/key.pem\n"),
    Bad("compiler", files=PIECE, steps="COPY --chmod=755 piece /usr/bin/gcc-14\n"),
    Bad("package-manager", files=PIECE, steps="COPY --chmod=755 piece /usr/local/bin/npm\n"),
    Bad("platform", files={"piece": elf.program(platforms.S390X)}, steps="COPY --chmod=755 piece /opt/piece\n"),
    Bad("pie", flags=("!-fPIE", "!-pie", "-no-pie")),
    Bad("relro", flags=("!-Wl,-z,relro", "-Wl,-z,norelro")),
    Bad("bind-now", flags=("!-Wl,-z,now", "-Wl,-z,lazy")),
    Bad("canary", flags=("!-fstack-protector-all", "-fno-stack-protector")),
    Bad("fortify", flags=("!-D_FORTIFY_SOURCE=2", "-U_FORTIFY_SOURCE")),
    Bad("stack", flags=("!-Wl,-z,noexecstack", "-Wl,-z,execstack")),
    Bad("rpath", flags=("-Wl,-rpath,/build/lib",)),
    Bad("starts", after='die "something is wrong\\n";'),
    Bad("read-only", before="mkdir '/tmp/served' or die \"/tmp/served: $!\\n\";"),
    Bad("capabilities", before="chroot('/') or die \"chroot: $!\\n\";", steps="USER 0\n", contract=AT_ROOT),
    Bad("privileges", before='system("/opt/piece") == 0 or die "no privileges\\n";', files={"piece.c": (
        b"#include <unistd.h>\nint main(void) { return geteuid() != 0; }\n")}, flags=HARDENED,
        contract=excepted(setuid="/opt/piece", canary="/opt/piece", any_user="*")),
    Bad("user", before="require POSIX; POSIX::setuid(2000);", steps="USER 0\n", contract={
        "user": 0, "exceptions": {"root": {"*": "the test"}, "capabilities": {"SETUID": "the test"}}}),
    Bad("any-user", before='die "not for $<\\n" unless $< == 2000;'),
    Bad("healthy", replaced={"'/health'": "'/elsewhere'"}),
    Bad("unhealthy", dockerfile={f'["/health", "http", "{URL}/health"]': '["/usr/bin/true"]'},
        contract={"health": {"command": "/usr/bin/true"}}),
    Bad("ports", steps="EXPOSE 8081\n", contract={"ports": {"http": "8080/tcp", "more": "8081/tcp"}}),
    Bad("ports", name="ports-unnamed", after="""
        my $more = IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => 8081, Listen => 5) or die "8081: $!\\n";
    """),
    Bad("metrics", replaced={"requests 1": "requests {{{ many"}),
    Bad("answers", replaced={"'hello'": "'goodbye'"}),
    Bad("logs", after="mkdir '/data/log'; open(my $log, '>', '/data/log/access.log'); print $log 'x'; close $log;"),
    Bad("processes", after="if (fork == 0) { sleep 600; exit }"),
    Bad("stops", after="$SIG{TERM} = 'IGNORE';"),
    Bad("restarts", after="die \"it is not empty\\n\" if -e '/data/kept';"),
    Bad("refuses", replaced={"die \"PORT is $port, it must be a number\\n\"": "$port = 8080"}),
)}


def write(root: Path, platform: str) -> None:
    """The catalog of all of them, of one that keeps its contract (`kept`), and of a `parent`."""
    image(root / "kept", Bad("kept"), platform)
    image(root / "parent", Bad("parent", steps="EXPOSE 9\n", contract={"ports": {"http": "8080/tcp", "more": "9/tcp"}}),
          platform)
    for name, bad in BAD.items():
        image(root / f"bad-{name}", bad, platform)


def image(folder: Path, bad: Bad, platform: str) -> None:
    folder.mkdir(parents=True)
    (folder.parent / "defaults.yml").write_text("vendor: The tests\nsource: https://git.example.org/images\n")
    service = SERVE.read_text().replace("# BEFORE\n", f"{bad.before}\n").replace("# AFTER\n", f"{bad.after}\n")
    for old, new in bad.replaced.items():
        assert old in service
        service = service.replace(old, new)
    (folder / "serve.pl").write_text(f"#!/usr/bin/perl\n{service}")
    (folder / "serve.pl").chmod(0o755)
    dockerfile = DOCKERFILE
    for old, new in bad.dockerfile.items():
        assert old in dockerfile
        dockerfile = dockerfile.replace(old, new)
    for name, content in bad.files.items():
        (folder / name).write_bytes(content)
    if bad.flags:
        compiled(folder, bad)
        mode = "4755" if bad.check == "privileges" else "755"
        dockerfile = dockerfile.replace("VOLUME", f"COPY --chmod={mode} piece /opt/piece\nVOLUME", 1)
    (folder / "Dockerfile").write_text(dockerfile + bad.steps)
    contract = {key: value for key, value in {**CONTRACT, **bad.contract}.items() if value is not None}
    (folder / "image.yml").write_text(yaml.safe_dump({
        "description": f"breaks {bad.check}", "license": "MIT", "home": "https://example.org",
        "platforms": [platform], "contract": contract}))


def compiled(folder: Path, bad: Bad) -> None:
    """Compiles `piece` with this machine's compiler, as hardened as the flags of an image let it."""
    source = folder / "piece.c"
    if not source.exists():
        source.write_text(PROGRAM)
    less = {flag[1:] for flag in bad.flags if flag.startswith("!")}
    words = [flag for flag in HARDENED if flag not in less]
    words += [flag for flag in bad.flags if not flag.startswith("!") and flag not in words]
    subprocess.run(["gcc", *words, "-o", str(folder / "piece"), str(source)], check=True)
    source.unlink()
