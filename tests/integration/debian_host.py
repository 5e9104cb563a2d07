"""What a test's host is made of: Debian 13 from this machine's own mirror with systemd, sshd and Python, made once and
kept in .cache, and how a container runs it."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import tarfile
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import client_settings

from .docker_host import CGROUPS, DockerHost, run, until

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache/hosts"
SUITE = "trixie"
PACKAGES = ("dbus", "iproute2", "iptables", "openssh-server", "python3", "systemd", "systemd-sysv")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
CAPABILITIES = ["NET_ADMIN", "SYS_ADMIN"]  # what buildkitd and systemd need, beside Docker's own
APT = "etc/apt/apt.conf.d/90test"
MAKES_KEYS = "etc/systemd/system/ssh.service.d/keys.conf"
KEYS = "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n"


def apt_settings(proxy: str = "") -> str:
    """How this machine's apt fetches, or through `proxy`, for a host that has no other way out."""
    if proxy:
        return f'Acquire::http::Proxy "{proxy}";\nAcquire::https::Proxy "{proxy}";\n'
    found = {name: value for name, value in client_settings.apt_settings().items() if "Detect" not in name}
    for scheme, used in urllib.request.getproxies().items():
        if scheme in ("http", "https"):
            found.setdefault(f"Acquire::{scheme}::Proxy", used)
    return "".join(f'{name} "{value}";\n' for name, value in found.items())


def apt_files(proxy: str = "") -> dict[str, str]:
    """path -> content of what apt needs in a host. A host has this machine's network at most, not its environment."""
    files = {APT: apt_settings(proxy)}
    for path in [Path("/etc/apt/auth.conf"), *Path("/etc/apt/auth.conf.d").glob("*.conf"), CERTIFICATES]:
        if path.is_file():
            files[str(path.relative_to("/"))] = path.read_text()
    return files


def ssh_files(key: str, settings: str = "") -> dict[str, str]:
    """path -> content: root may come in with `key`; each host has host keys of its own."""
    return {"root/.ssh/authorized_keys": key, "etc/ssh/sshd_config.d/test.conf": settings,
            MAKES_KEYS: KEYS}


def archive(files: dict[str, str]) -> bytes:
    """A tar of files, with the folders that they are in; what is a secret is root's alone."""
    folders = {str(folder) for path in files for folder in Path(path).parents if str(folder) != "."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(folders):
            info = tarfile.TarInfo(path)
            info.type, info.mode = tarfile.DIRTYPE, 0o700 if path.startswith("root") else 0o755
            tar.addfile(info)
        for path, text in files.items():
            info, data = tarfile.TarInfo(path), text.encode()
            info.size, info.mode = len(data), 0o600 if path.startswith("root") or "auth.conf" in path else 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def root_tar(suite: str = SUITE, architecture: str = "", packages: Sequence[str] = PACKAGES,
             more: Sequence[str] = ("--variant=minbase",), finish: str = "true", name: str = "") -> Path:
    """Debian's root file system as a tar; `architecture`: of another one than this machine's. `finish`: commands of a
    shell that change it before it is packed, run by this machine in its root. It is made again if what is asked of
    mmdebstrap here or the mirror's archive changed, and knows no key and no setting of this machine. `name`: of the
    tar, if it is not the usual one."""
    bases = client_settings.apt_bases(client_settings.DEBIAN)
    assert bases, "the sources of this machine's apt name no Debian archive"
    sources = [f"deb [signed-by={KEYRING}] {bases[0]} {suite} main"]
    words = ["mmdebstrap", "--quiet", f"--include={','.join(packages)}", "--format=directory", *more]
    if architecture:
        words += [f"--architectures={architecture}"]
    settings = apt_files()
    removed = " ".join(path for path in settings if path != str(CERTIFICATES.relative_to("/")))
    after = f'cd "$1"; rm -f {removed} etc/ssh/ssh_host_*; {finish}'
    name = name or (f"{architecture}-{suite}" if architecture else suite)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        release = Path(folder) / "InRelease"
        run("/usr/lib/apt/apt-helper", "download-file", f"{bases[0]}/dists/{suite}/InRelease", str(release))
        inputs = [words, after, sources, hashlib.sha256(release.read_bytes()).hexdigest()]
        kept = CACHE / f"{name}-{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]}.tar"
        if not kept.exists():
            (Path(folder) / "settings.tar").write_bytes(archive(settings))
            run(*words, f"--setup-hook=tar-in {folder}/settings.tar /", suite, f"{folder}/root", *sources)
            run("sh", "-euc", after, "sh", f"{folder}/root")
            run("tar", "--create", "--numeric-owner", f"--file={kept}.new", f"--directory={folder}/root", ".")
            run("rm", "-rf", f"{folder}/root")
            for old in CACHE.glob(f"{name}-*.tar"):
                old.unlink()
            run("mv", f"{kept}.new", str(kept))
            run("chown", "-R", str(PROJECT.stat().st_uid), str(CACHE))  # whoever ran this test first, as root or not
    return kept


def load(dockerd: DockerHost, name: str, root: Path | None = None) -> str:
    """Lets a dockerd have a root file system as an image of this name: the usual one unless given."""
    dockerd.client().api.import_image_from_file(str(root or root_tar()), repository=name)
    return name


def options() -> dict[str, Any]:
    """How systemd runs as PID 1 of a container."""
    unified = CGROUPS / "unified"  # where cgroup v1 is mounted too: that one has the limits, which a host may read
    limits = [f"{CGROUPS}/{name}:/srv/cgroup/{name}:ro" for name in ("cpu", "memory") if unified.is_dir()]
    return {
        "cgroupns": "host", "cap_add": CAPABILITIES, "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
        "environment": {"container": "docker"}, "stop_signal": "SIGRTMIN+3",
        "tmpfs": {"/run": "", "/run/lock": "", "/tmp": "exec"},
        "volumes": [f"{unified if unified.is_dir() else CGROUPS}:/sys/fs/cgroup:rw", *limits],
    }


def started(container: Any) -> None:
    """Waits until systemd has started all it starts."""
    state = ""

    def settled() -> bool:
        nonlocal state
        state = container.exec_run(["systemctl", "is-system-running"]).output.decode().strip()
        return state in ("running", "degraded")

    until("systemd has started", 60, settled)
    assert state == "running", container.exec_run(["systemctl", "--failed", "--no-legend"]).output.decode()
