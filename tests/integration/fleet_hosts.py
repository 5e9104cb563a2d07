"""Several real hosts for a test: containers with systemd, sshd and Python, each with an address of its own.

    fleet = Fleet.start(folder, ["node1", "node2", "registry"], cpus={"node1": 0.5}, memory={"node1": "512m"})
    fleet.inventory               a file for ansible-playbook: host names, addresses, the key, known host keys
    fleet["node1"].kill()         see Host
    fleet.stop()                  all of it is gone; safe to repeat

The same from a shell, as root (FOLDER keeps what is needed to find the hosts again):

    fleet_hosts.py create FOLDER node1 node2 registry:registries zero::armel
    fleet_hosts.py kill FOLDER TEXT           as soon as a process has TEXT in its command line: that host; its name
    fleet_hosts.py start FOLDER node1         boots it again
    fleet_hosts.py destroy FOLDER

A host is of the group `nodes`, or of the groups after its name (`GROUP,GROUP`). With an architecture after that it is
one of that: `arm64` is a virtual machine (virtual_host.py), for others see foreign_host.py.

**Network.** The test makes a bridge on this machine, with an address in 10.209.0.0/16; each container has no network
but one end of a veth, whose other end is in the bridge. So host and controller reach each other, and nothing else: no
route, no forwarding, no rule of a firewall is changed. **Packages.** A host's apt goes through apt_proxy.py, which
listens on the bridge's address and fetches as this machine does. **Names.** Each host's /etc/hosts has all of them, and
`controller` for this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

if __name__ == "__main__":
    PROJECT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(PROJECT / "collections"), str(PROJECT)]

from tests.integration import debian_host, emulators, foreign_host, virtual_host
from tests.integration.bad_wire import BadWire
from tests.integration.docker_host import ROOT, DockerHost, run, until

IMAGE = "host"
NETWORK = "10.209"  # of two parts; the third is the fleet, the fourth the host
PROXY_PORT = 3142
PROCESSES = ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


@dataclass(frozen=True)
class Host:
    """One host of a fleet. After `kill`, `start` boots it again with the same disk. `architecture`: Debian's name of
    another one than this machine's; such a host has no systemd, unless it is `virtual`. `folder` is the fleet's."""

    name: str
    address: str
    number: int
    bridge: str
    dockerd: DockerHost
    folder: Path
    architecture: str = ""

    @property
    def virtual(self) -> bool:
        return self.architecture in virtual_host.ARCHITECTURES

    @property
    def disk(self) -> Path:
        """A virtual one's disk, and what it boots."""
        return self.folder / f"{self.name}.machine"

    @property
    def container(self) -> Any:
        return self.dockerd.client().containers.get(self.name)

    @property
    def link(self) -> str:
        """Its veth's end on this machine."""
        return f"{self.bridge}-{self.number}"

    def start(self) -> None:
        """Boots it, connects it, and waits until systemd has started all and sshd answers."""
        container = self.container
        container.start()
        container.reload()
        pid = str(container.attrs["State"]["Pid"])
        unlink(self.link)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", pid)
        run("ip", "link", "set", self.link, "master", self.bridge, "up")
        if not self.virtual:  # else the address is the machine's inside
            self.netns("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.netns("ip", "link", "set", "eth0", "up")
        if not self.architecture:
            debian_host.started(container)
        until(f"sshd of {self.name} answers", 600 if self.virtual else 180 if self.architecture else 60, self.answers)

    def answers(self) -> bool:
        container = self.container
        ended = container.status not in ("running", "paused")
        assert not ended, f"{self.name} ended: {container.logs().decode(errors='replace')[-2000:]}"
        ports = (22, virtual_host.PI_PORT) if self.virtual else (22,)
        return all(_answers(self.address, port, b"SSH-") for port in ports)

    def kill(self) -> None:
        """As if its power was cut."""
        self.container.kill()

    def restart(self) -> None:
        """An orderly shutdown, and a boot."""
        self.container.stop(timeout=60)
        self.start()

    def pause(self) -> None:
        """All its processes stand still; connections to it stay open."""
        self.container.pause()

    def unpause(self) -> None:
        self.container.unpause()

    def disconnect(self) -> None:
        """Pulls its network cable."""
        run("ip", "link", "set", self.link, "down")

    def connect(self) -> None:
        run("ip", "link", "set", self.link, "up")

    @contextlib.contextmanager
    def bad_network(self, *, delay: float = 0.0, loss: float = 0.0, rate: float = 0.0) -> Iterator[None]:
        """Its network cable is as bad as bad_wire.py says."""
        wire = BadWire.between(self.bridge, self.link, delay=delay, loss=loss, rate=rate)
        try:
            yield
        finally:
            wire.stop()

    def cut(self, *others: Host | str) -> None:
        """It no longer reaches these hosts or addresses, nor they it: packets are lost."""
        for address in _addresses(others):
            if self.virtual:  # its packets only pass the container's bridge
                self.netns("ebtables", "-A", "FORWARD", "-p", "IPv4", "--ip-src", address, "-j", "DROP")
                self.netns("ebtables", "-A", "FORWARD", "-p", "IPv4", "--ip-dst", address, "-j", "DROP")
            else:
                self.netns("iptables", "-w", "-A", "INPUT", "-s", address, "-j", "DROP")
                self.netns("iptables", "-w", "-A", "OUTPUT", "-d", address, "-j", "DROP")

    def heal(self) -> None:
        """Undoes `cut`, and any other rule that a test made there."""
        self.netns(*(("ebtables", "-F") if self.virtual else ("iptables", "-w", "-F")))

    def netns(self, *words: str) -> str:
        """Runs a program of this machine in the host's network."""
        container = self.container
        return run("nsenter", "--net", "--target", str(container.attrs["State"]["Pid"]), *words)

    def run(self, *words: str) -> str:
        """Runs a program on the host, and returns its output; a failure shows what it said."""
        if self.virtual:
            return run("ssh", "-i", str(self.folder / "key"), "-o", "StrictHostKeyChecking=accept-new", "-o",
                       f"UserKnownHostsFile={self.folder}/known_hosts", f"root@{self.address}", shlex.join(words))
        code, said = self.container.exec_run(list(words))
        assert code == 0, f"{self.name}: {' '.join(words)} ended with {code}: {said.decode(errors='replace')[-4000:]}"
        return str(said.decode(errors="replace"))


def unlink(link: str) -> None:
    """Removes a veth, both ends. Its host's end does not end with the host: sockets that still send what nobody
    acknowledges keep the network of a container for minutes after its last process."""
    if Path("/sys/class/net", link).exists():
        subprocess.run([*ROOT, "ip", "link", "delete", link], capture_output=True, check=False)
    assert not Path("/sys/class/net", link).exists(), f"{link} stays"


def _answers(address: str, port: int, greeting: bytes = b"") -> bool:
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(len(greeting)) == greeting if greeting else True
    except OSError:
        return False


def _addresses(hosts: Sequence[Host | str]) -> list[str]:
    return [host.address if isinstance(host, Host) else host for host in hosts]


@dataclass(frozen=True)
class Fleet:
    """Hosts, and what was made on this machine for them. `folder` keeps `fleet.json`, `key`, `known_hosts` and
    `inventory/`."""

    folder: Path

    @classmethod
    def start(cls, folder: Path, hosts: Sequence[str], *, groups: Mapping[str, Sequence[str]] | None = None,
              cpus: Mapping[str, float] | None = None, memory: Mapping[str, str] | None = None,
              architectures: Mapping[str, str] | None = None, outlive: bool = False) -> Fleet:
        """`groups`: group -> hosts, `nodes` with all of them unless given. `architectures`: of the hosts that have
        another one than this machine. `outlive`: they go on when this process has ended. If anything fails, nothing
        stays."""
        fleet = cls(folder)
        try:
            fleet._start(hosts, groups or {"nodes": list(hosts)}, cpus or {}, memory or {}, architectures or {},
                         outlive)
        except BaseException:
            fleet.stop()
            raise
        return fleet

    def _start(self, hosts: Sequence[str], groups: Mapping[str, Sequence[str]], cpus: Mapping[str, float],
               memory: Mapping[str, str], architectures: Mapping[str, str], outlive: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        bridge, number = _bridge()
        self._write({"bridge": bridge})
        controller = f"{NETWORK}.{number}.1"
        run("ip", "address", "add", f"{controller}/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        words = [sys.executable, "-B", str(Path(__file__).with_name("apt_proxy.py")), controller, str(PROXY_PORT)]
        ended = [] if outlive else ["setpriv", "--pdeathsig=TERM"]
        proxy = subprocess.Popen([*ended, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, start_new_session=outlive)
        self._write({"proxy": proxy.pid})
        until("the proxy answers", 20, lambda: _answers(controller, PROXY_PORT))
        dockerd = DockerHost.start(outlive=outlive)
        addresses = {name: f"{NETWORK}.{number}.{at}" for at, name in enumerate(hosts, start=11)}
        self._write({"dockerd": str(dockerd.folder), "hosts": addresses, "architectures": dict(architectures)})
        foreign = set(architectures.values()).difference(virtual_host.ARCHITECTURES)
        self._write({"handlers": emulators.register(foreign, bridge)})
        debian_host.load(dockerd, IMAGE)
        for architecture in foreign:
            foreign_host.load(dockerd, architecture)
        for architecture in set(architectures.values()) - foreign:
            virtual_host.load(dockerd, architecture, f"{bridge}-root")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "key")], check=True)
        names = {**addresses, "controller": controller}
        for host in self:
            files = {**debian_host.apt_files(proxy=f"http://{controller}:{PROXY_PORT}"), **debian_host.ssh_files(
                (self.folder / "key.pub").read_text(), foreign_host.ssh_settings(host.architecture))}
            if host.virtual:
                virtual_host.make(host.disk, host.architecture, host.name, names, files)
                options = virtual_host.options(host.disk, host.number)
            else:
                options = foreign_host.options(host.architecture) if host.architecture else debian_host.options()
                options["volumes"].append(f"{host.name}:/var/lib/desimages:rw")  # overlay does not lie on overlay
            container = dockerd.client().containers.create(**{
                "image": host.architecture or IMAGE, "command": ["/sbin/init"], "name": host.name,
                "hostname": host.name, "network_mode": "none", "extra_hosts": names,
                "mem_limit": memory.get(host.name), "nano_cpus": int(cpus.get(host.name, 0) * 1e9) or None, **options})
            if not host.virtual:
                container.put_archive("/", debian_host.archive(files))
            if host.architecture in foreign:
                container.put_archive("/", foreign_host.runc())
        for host in self:
            host.start()
        self._write_inventory(groups)

    def _write(self, more: Mapping[str, Any]) -> None:
        (self.folder / "fleet.json").write_text(json.dumps({**self.found, **more}))

    def _write_inventory(self, groups: Mapping[str, Sequence[str]]) -> None:
        known = [f"{host.address},[{host.address}]:{virtual_host.PI_PORT} "
                 f"{host.run('cat', '/etc/ssh/ssh_host_ed25519_key.pub')}" for host in self]
        (self.folder / "known_hosts").write_text("".join(known))
        arguments = f"-o UserKnownHostsFile={self.folder}/known_hosts -o IdentitiesOnly=yes"
        reached = {host.name: {
            "ansible_host": host.address, "ansible_user": "root", "ansible_ssh_common_args": arguments,
            "ansible_ssh_private_key_file": str(self.folder / "key")} for host in self}
        controller = {
            "ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "ansible_become": "{{ lookup('ansible.builtin.pipe', 'id -u') != '0' }}"}
        self.inventory.parent.mkdir(exist_ok=True)
        self.inventory.write_text(yaml.safe_dump({
            "all": {"hosts": {"localhost": controller, **reached}},
            **{group: {"hosts": {name: {} for name in names}} for group, names in groups.items()}}, sort_keys=False))

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory/hosts.yml"

    @property
    def found(self) -> dict[str, Any]:
        """What is kept of it; empty if it was stopped."""
        try:
            return dict(json.loads((self.folder / "fleet.json").read_text()))
        except FileNotFoundError:
            return {}

    @property
    def controller(self) -> str:
        """This machine's address, as the hosts see it."""
        return f"{self['*'].address.rpartition('.')[0]}.1"

    def __iter__(self) -> Any:
        found = self.found
        dockerd = DockerHost(Path(found["dockerd"]))
        return iter([Host(name, address, int(address.rpartition(".")[2]), found["bridge"], dockerd, self.folder,
                          found["architectures"].get(name, ""))
                     for name, address in found["hosts"].items()])

    def __getitem__(self, name: str) -> Host:
        """A host by its name; `*` is the first."""
        return next(host for host in self if name in (host.name, "*"))

    def running(self, text: str) -> list[Host]:
        """The hosts with a process that has `text` in its command line."""
        return [host for host in self if text in host.run(*PROCESSES)]

    def stop(self) -> None:
        """Removes the hosts and everything that was made for them."""
        found = self.found
        if "dockerd" in found:
            with contextlib.suppress(Exception):  # a paused container does not end
                for host in self:
                    if host.container.status == "paused":
                        host.unpause()
            hosts = list(self)
            DockerHost(Path(found["dockerd"])).stop()
            for host in hosts:
                unlink(host.link)
                run("rm", "-rf", str(host.disk))
        emulators.unregister(found.get("handlers", []))
        if "proxy" in found:
            _end(found["proxy"])
        if "bridge" in found and Path("/sys/class/net", found["bridge"]).exists():
            run("ip", "link", "delete", found["bridge"])
        for name in ("fleet.json", "key", "key.pub", "known_hosts", "inventory/hosts.yml"):
            (self.folder / name).unlink(missing_ok=True)


def _bridge() -> tuple[str, int]:
    """A new bridge, and the number of its network. The kernel refuses a name that is taken."""
    used = json.loads(run("ip", "-json", "address", "show"))
    taken = {address["local"] for link in used for address in link["addr_info"]}
    for number in range(1, 255):
        name = f"dsm{number}"
        made = subprocess.run([*ROOT, "ip", "link", "add", name, "type", "bridge"], capture_output=True, check=False)
        if made.returncode == 0 and f"{NETWORK}.{number}.1" not in taken:
            return name, number
        if made.returncode == 0:
            run("ip", "link", "delete", name)
    raise AssertionError(f"this machine can have no bridge: {made.stderr.decode(errors='replace')}")


def _end(pid: int) -> None:
    """Ends the proxy, if the number is still that process's."""
    with contextlib.suppress(OSError):
        if b"apt_proxy.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def main(arguments: Sequence[str]) -> None:
    verb, folder, *named = arguments
    if verb == "destroy":
        Fleet(Path(folder)).stop()
        return
    if verb == "kill":
        fleet = Fleet(Path(folder))
        until(f"a process has {named[0]!r} in its command line", 600, lambda: bool(fleet.running(named[0])))
        victim = fleet.running(named[0])[0]
        victim.kill()
        print(victim.name)
        return
    if verb == "start":
        Fleet(Path(folder))[named[0]].start()
        return
    groups: dict[str, list[str]] = {}
    architectures = {}
    for text in named:
        name, given, architecture = [*text.split(":"), "", ""][:3]
        if architecture:
            architectures[name] = architecture
        for group in given.split(",") if given else ["nodes"]:
            groups.setdefault(group, []).append(name)
    began = time.monotonic()
    made = Fleet.start(Path(folder).resolve(), [text.partition(":")[0] for text in named], groups=groups,
                       architectures=architectures, outlive=True)
    print(f"{made.inventory}: {', '.join(named)} in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    os.umask(0o022)
    main(sys.argv[1:])
