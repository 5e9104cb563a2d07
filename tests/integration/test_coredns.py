"""The image coredns, asked by a real resolver, over DNS and TLS, and with the example of its page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from . import services
from .conftest import Chain, Farm
from .containers import await_health, get, inside, listening, logs, start
from .docker_host import until
from .services import FOREIGN, authority, example, put
from .unpacked import NATIVE

pytestmark = pytest.mark.catalog


@pytest.fixture(scope="module")
def built(farm: Farm) -> Chain:
    return services.build(farm, "tools", "coredns")


@pytest.fixture(scope="module")
def images(built: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Image -> its id in Docker."""
    return services.bring_all(docker, built, tmp_path_factory.mktemp("brought"), "coredns")


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_coredns_starts_on_its_platform(built: Chain, scratch: Path, platform: str) -> None:
    services.starts(built, scratch, "coredns", platform, ["/coredns", "-version"], r"^CoreDNS-1\.\d")


def test_coredns_keeps_its_contract_and_its_health_follows_it(docker: Any, images: dict[str, str]) -> None:
    services.keeps_its_contract(docker, "coredns", images["coredns"])


ZONE = """$ORIGIN example.org.
@ 3600 IN SOA ns.example.org. ann.example.org. 1 3600 600 86400 60
@ 3600 IN NS ns
ns 3600 IN A 192.0.2.1
www 3600 IN A 192.0.2.80
www 3600 IN AAAA 2001:db8::80
"""
UPSTREAM = """.:53 tls://.:853 {
    bind 127.0.0.1
    tls /certs/upstream-server.pem /certs/upstream-server.key
    file /zones/far.zone far.example.net
    errors
}
"""
FAR = ZONE.replace("example.org", "far.example.net").replace("192.0.2.", "198.51.100.")


def kdig(container: Any, *words: str, port: int = 10053) -> str:
    return inside(container, "kdig", "@127.0.0.1", "-p", str(port), "+retry=0", "+timeout=3", *words)


def test_coredns_forwards_and_caches_as_it_comes(docker: Any, images: dict[str, str], shared: Path) -> None:
    pair, _ca = authority(shared / "ca", "dns.example.net")
    put(shared / "certs", {"upstream-server.pem": pair.pem, "upstream-server.key": pair.key_pem})
    put(shared / "zones", {"far.zone": FAR})
    put(shared / "upstream", {"Corefile": UPSTREAM})
    container = start(docker, images["coredns"], dns=["127.0.0.1"])
    await_health(container)
    assert "SERVFAIL" in kdig(container, "www.far.example.net")  # nobody to ask yet

    upstream = start(docker, images["coredns"], network=f"container:{container.id}", volumes=[
        f"{shared}/certs:/certs:ro", f"{shared}/zones:/zones:ro", f"{shared}/upstream:/config:ro"])
    until("the upstream listens", 30, lambda: "127.0.0.1:53/tcp" in listening(container))
    until("it is forwarded", 30, lambda: "198.51.100.80" in kdig(container, "www.far.example.net"))
    assert "198.51.100.1" in kdig(container, "+tcp", "ns.far.example.net")
    assert "NXDOMAIN" in kdig(container, "nothing.far.example.net")
    assert get(container, ":8181/ready")[0] == 200

    upstream.stop(timeout=20)
    # this it knows, and for less long than it was told
    again = kdig(container, "www.far.example.net")
    assert "198.51.100.80" in again
    assert 3400 < int(re.search(r"^www\S*\s+(\d+)\s", again, re.M)[1]) <= 3600  # type: ignore[index]
    assert "SERVFAIL" in kdig(container, "AAAA", "www.far.example.net")  # this it was never asked
    metrics = get(container, ":9153/metrics")[1]
    assert re.search(r"^coredns_cache_hits_total\{.*\} [1-9]", metrics, re.M)
    assert re.search(r'^coredns_dns_requests_total\{.*type="A".*\} [1-9]', metrics, re.M)
    container.stop(timeout=20)
    assert logs(container)[1] == []


def test_coredns_is_the_server_of_its_page_over_dns_and_tls(docker: Any, images: dict[str, str], shared: Path) -> None:
    own, ca = authority(shared / "own", "dns.example.org")
    far, far_ca = authority(shared / "far", "dns.example.net")
    put(shared / "certs", {"dns.pem": own.pem, "dns.key": own.key_pem, "upstream.pem": far_ca.read_text(),
                           "upstream-server.pem": far.pem, "upstream-server.key": far.key_pem})
    put(shared / "zones", {"far.zone": FAR, "example.org.zone": ZONE})
    corefile = example("coredns", "forward . tls")
    assert "tls://192.0.2.53" in corefile
    put(shared / "config", {"Corefile": corefile.replace("tls://192.0.2.53", "tls://127.0.0.1")})
    put(shared / "upstream", {"Corefile": UPSTREAM})
    volumes = [f"{shared}/certs:/certs:ro", f"{shared}/zones:/zones:ro"]
    container = start(docker, images["coredns"], volumes=[*volumes, f"{shared}/config:/config:ro"])
    await_health(container)
    own_answer = kdig(container, "www.example.org")
    assert "192.0.2.80" in own_answer
    assert re.search(r"^;; Flags:.*\baa\b", own_answer, re.M)  # it is the authority
    assert "2001:db8::80" in kdig(container, "+tcp", "AAAA", "www.example.org")
    assert "NXDOMAIN" in kdig(container, "nothing.example.org")

    secure = [f"+tls-ca={ca}", "+tls-hostname=dns.example.org"]
    answer = kdig(container, *secure, "www.example.org", port=10853)
    assert "192.0.2.80" in answer and "TLS session (TLS1.3)" in answer
    assert "192.0.2.80" not in kdig_fails(container, f"+tls-ca={far_ca}", "+tls-hostname=dns.example.org")
    assert "192.0.2.80" not in kdig_fails(container, f"+tls-ca={ca}", "+tls-hostname=other.example.org")

    upstream = start(docker, images["coredns"], network=f"container:{container.id}",
                     volumes=[*volumes, f"{shared}/upstream:/config:ro"])
    until("it is forwarded over TLS", 30,
          lambda: "198.51.100.80" in kdig(container, *secure, "www.far.example.net", port=10853))
    for stopped in (upstream, container):
        stopped.stop(timeout=20)


def kdig_fails(container: Any, *words: str) -> str:
    """What kdig says where it does not trust the server."""
    with pytest.raises(AssertionError) as error:
        kdig(container, *words, "www.example.org", port=10853)
    return str(error.value)
