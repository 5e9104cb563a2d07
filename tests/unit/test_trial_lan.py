"""A network in which multicast groups can be joined, though nobody else is there."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import trial_lan, trial_network
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root makes and enters a network")
MDNS = ("224.0.0.251", 5353)


@pytest.fixture
def holder() -> Iterator[int]:
    """A process in a network of its own, whose loopback is up."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"],
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        yield process.pid
        process.kill()


def talk() -> bytes:
    """Joins a group, sends to it, and hears it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(10)
        one.bind(("", MDNS[1]))
        one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                       struct.pack("4s4s", socket.inet_aton(MDNS[0]), socket.inet_aton("0.0.0.0")))
        one.sendto(b"who is there?", MDNS)
        return one.recv(100)


def test_a_group_can_be_joined_and_spoken_to(holder: int) -> None:
    with pytest.raises(OSError) as refused:
        trial_network.inside(holder, talk)
    assert refused.value.errno == errno.ENODEV

    trial_network.inside(holder, trial_lan.add_route)
    assert trial_network.inside(holder, talk) == b"who is there?"


def test_a_route_that_the_kernel_refuses_is_told(holder: int) -> None:
    trial_network.inside(holder, trial_lan.add_route)
    with pytest.raises(FileExistsError, match="no route to multicast groups"):
        trial_network.inside(holder, trial_lan.add_route)


def test_what_an_engine_says_of_an_import_names_the_image() -> None:
    digest = "sha256:" + 64 * "a"
    assert trial_lan._digest(f'{{"status":"{digest}"}}\r\n') == digest


def test_a_machine_of_an_architecture_that_the_farm_does_not_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a 64-bit board with a 32-bit system, whose kernel calls itself armv8l."""
    monkeypatch.setattr(trial_lan.os, "uname", lambda: SimpleNamespace(machine="armv8l"))
    with pytest.raises(FarmError, match="with multicast cannot be made on a machine of the architecture armv8l"):
        trial_lan.holder_image(None, {})
