"""What names of a registry may be."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.test.loopback import loopback

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize("name", ["a", "a/b", "a.b/c_d/e__f/g-h/i--j", "0/1", "a" * 255])
def test_a_repository_is_one(name: str) -> None:
    assert references.repository(name) == ""


@pytest.mark.parametrize(
    "name", ["", "A", "a/", "/a", "a//b", "a/../b", "a___b", "a._b", "-a", "a-", "a:b", "a" * 256, "a\n", None, 7]
)
def test_a_repository_is_none(name: object) -> None:
    assert "lower case letters" in references.repository(name)


@pytest.mark.parametrize("name", ["v1", "V1", "_", "1.2.3-rc.1_x", "a" * 128])
def test_a_tag_is_one(name: str) -> None:
    assert references.tag(name) == references.reference(name) == ""


@pytest.mark.parametrize("name", ["", ".a", "-a", "a b", "a#b", "a/b", "a:b", "a+b", "a" * 129, "ä", "a\n", None, 7])
def test_a_tag_is_none(name: object) -> None:
    assert "at most 128" in references.tag(name)
    assert references.reference(name)


def test_a_digest_is_whole_and_in_lower_case() -> None:
    assert references.digest(DIGEST) == references.reference(DIGEST) == ""
    for wrong in ("", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), "md5:" + "0" * 64, DIGEST + "\n", None, 7):
        assert references.digest(wrong)


@pytest.mark.parametrize("value", [
    "registry", "R.example.org", "registry.example.org:5000", "1-a.example:1", "10.example", "192.0.2.7:65535",
    "[2001:db8::1]", "[::ffff:192.0.2.7]:5000", "a" * 63 + ".example", ".".join(["a" * 60] * 4),
])
def test_an_address_is_one(value: str) -> None:
    assert references.address(value) == ""


@pytest.mark.parametrize("value", [
    "-r.example:5000", "r-.example", "r..example:5000", "r.example.:5000", ".:5000", ".", "-", "a" * 64, "r_x.example",
    ".".join(["a" * 60] * 5), "999.1.1.1:5000", "127.1:5000", "192.0.2.07:5000", "5000", "1.2.3.4.5",
    "[:::]:5000", "[1]:5000", "[192.0.2.7]:5000", "[::1", "::1:5000", "2001:db8::1", "[fe80::1%eth0]:1",
    "r.example:0", "r.example:05000", "r.example:65536", "r.example:", "r.example:5000/", "r.example:5000/team",
    "https://r.example", "me:secret@r.example", "r.example:5000\n", " r.example", "rägistry", "", None, 5000,
])
def test_an_address_is_none(value: object) -> None:
    assert "HOST:PORT without a scheme" in references.address(value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:5000", "127.1.2.3:1", "[::1]:5000", "[::1]", "::1", "localhost", "LOCALHOST:80"]
)
def test_this_machine_is_known(host: str) -> None:
    assert references.loopback(host) and loopback(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example.org", "example.org:127", "128.0.0.1", "localhost.example.org", "[::2]:1", "0.0.0.0", ""]
)
def test_another_machine_is_not_taken_for_this_one(host: str) -> None:
    assert not references.loopback(host) and not loopback(host)


@pytest.mark.parametrize("address", ["127.0.0.1:5000", "127.255.255.254:1", "[::1]:65535"])
def test_a_service_can_listen_on_loopback(address: str) -> None:
    assert references.listener_on_loopback(address) and loopback(address, listener=True)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "[::1]", "::1", "localhost:5000", "LOCALHOST:5000", "127.0.0.1:", "127.0.0.1:0",
                "127.0.0.1:65536", "127.0.0.999:5000", "127.1:5000", "192.168.1.5:5000", "0.0.0.0:5000",
                "[::]:5000", "", None, 7]
)
def test_a_service_cannot_listen_on_loopback(address: object) -> None:
    assert not references.listener_on_loopback(address) and not loopback(address, listener=True)


def test_what_is_no_text_is_no_loopback() -> None:
    assert not loopback(None) and not loopback(7)
