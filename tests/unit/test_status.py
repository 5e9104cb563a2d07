"""The hosts of a farm at a glance, from what each said of itself and from the evidence of runs."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.filter.table import size
from ansible_collections.desimages.farm.plugins.plugin_utils.build import status
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates, shown

SERVICE = {"service": "buildkitd", "state": "runs", "since": "2h 3m", "version": "v0.34.2", "log": "/log"}
NODE = {"native": ["linux/arm/v7", "linux/arm/v6"], "emulated": ["linux/s390x"], "cores": 4.0, "version": "v0.34.2"}
READ = {"services": [SERVICE], "disk": [], "node": NODE, "runc": "1.1.15", "engine": "sha256:" + "5" * 64, "load": 0.42,
        "free": 9_200_000_000, "cache": 812_000_000}
SAID = "Task failed: Failed to connect to the host via ssh: ssh: connect to host pi4 port 22: No route\n to host"
SHARE = {"units": 0, "failures": 0, "seconds": 0.0, "out": ""}


def ran(state: Path, name: str, nodes: dict[str, Any], batches: list[dict[str, Any]] | None = None) -> None:
    folder = state / "runs" / name
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"nodes": {name: {**SHARE, **one} for name, one in nodes.items()}}))
    if batches is not None:
        (folder / "timings.json").write_text(json.dumps(batches))


def test_what_a_node_did_last_is_of_the_last_run_in_which_it_built(tmp_path: Path) -> None:
    batches = [{"image": image, "node": node, "state": state} for image, node, state in (
        ("box", "one", "done"), ("child", "one", "done"), ("box", "one", "done"), ("bad", "one", "failed"),
        ("other", "two", "done"))]
    ran(tmp_path, "20261128T010203-7", {"one": {"units": 9}, "two": {"units": 1}}, [])
    ran(tmp_path, "20261129T012510-30058", {"one": {"units": 3, "failures": 1}, "two": {"out": "no answer"}}, batches)
    ran(tmp_path, "20261129T020000-1", {"three": {"out": "away"}})
    for damaged in ("20261129T030000-2", "20261129T040000-3"):
        (tmp_path / "runs" / damaged).mkdir()
    (tmp_path / "runs/20261129T040000-3/summary.json").write_text('{"units": {}}')
    found = status.last_runs(str(tmp_path))
    assert found["one"] == {**SHARE, "run": "20261129T012510-30058", "began": "2026-11-29T01:25:10Z", "units": 3,
                            "failures": 1, "images": ["box", "child"]}
    assert (found["two"]["run"], set(found)) == ("20261128T010203-7", {"one", "two"})
    assert status.last_runs(str(tmp_path / "none")) == {}


def test_a_table_has_a_row_for_each_host_whether_or_not_it_is_there(tmp_path: Path) -> None:
    ran(tmp_path, "20261129T012510-30058", {"pi2": {"units": 1, "out": "no answer"}}, [])
    hosts = [status.facts("pi2", ["nodes"], READ, status.last_runs(str(tmp_path))["pi2"], None),
             status.facts("pi4", ["nodes"], {"msg": SAID, "unreachable": True}, None, None),
             status.facts("new", ["nodes"], {"services": [], "disk": []}, None, None),
             status.facts("server", ["nodes", "registries"], {**READ, "services": [{**SERVICE, "state": "crashes"}]},
                          None, 12)]
    assert [host["state"] for host in hosts] == ["there", "away", "not provisioned", "there"]
    rows = {row["host"]: row for row in status.rows(hosts, size)}
    assert rows["pi2"] == {
        "host": "pi2", "is": "node", "state": "there", "runs": "arm/v7 arm/v6", "emulates": "s390x",
        "BuildKit": "v0.34.2", "runc": "1.1.15", "engine": "5" * 12, "load": "0.4/4", "free": "9.2 GB",
        "cache": "812.0 MB", "certificate": ""}
    assert {value for name, value in rows["pi4"].items() if name not in ("host", "is", "state")} == {""}
    assert (rows["server"]["is"], rows["server"]["certificate"]) == ("node, registry", "12 days")
    assert status.said(hosts) == [
        "pi2 built 1 unit on 2026-11-29 01:25 UTC, and was lost: no answer",
        "pi4 is away: ssh: connect to host pi4 port 22: No route to host",
        "server: buildkitd crashes",
        "server: the registry's certificate expires in 12 days; provisioning makes a new one, unless you gave it"]
    assert [service["host"] for service in status.services(hosts)] == ["pi2", "server"]
    assert "host" not in status.services(hosts[:1])[0], "of one machine there is nothing to name"
    assert "certificate" not in status.rows(hosts[:1], size)[0], "a column that nobody has is not shown"


@pytest.fixture
def certified(tmp_path: Path) -> Callable[[datetime], ssl.SSLContext]:
    def make(now: datetime) -> ssl.SSLContext:
        made = certificates.new_server(certificates.new_authority(now, "test"), ["127.0.0.1"], now)
        (tmp_path / "both.pem").write_text(made.pem + made.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "both.pem")
        return context
    return make


@pytest.mark.parametrize("now", [datetime(2026, 11, 1, tzinfo=timezone.utc), datetime(2020, 1, 1, tzinfo=timezone.utc)])
def test_when_a_certificate_expires_is_read_from_the_server_itself(
        certified: Callable[[datetime], ssl.SSLContext], monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    """Even from one that nobody would accept any more."""
    monkeypatch.setattr(shown.references, "loopback", lambda address: False)
    with create_server(("127.0.0.1", 0)) as listener:
        def serve() -> None:
            plain, _address = listener.accept()
            with certified(now).wrap_socket(plain, server_side=True) as client, suppress(ConnectionError):
                client.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert shown.expires(address, 10) == now + certificates.LASTS
    assert shown.expires(address, 1) is None, "nobody answers any more"


def test_a_registry_on_loopback_has_no_certificate() -> None:
    assert shown.expires("127.0.0.1:1") is None
