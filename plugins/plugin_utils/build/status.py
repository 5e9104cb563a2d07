# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a farm at a glance: what each is, whether it answers, what it did last."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

SOON = 30  # days before it expires a certificate of the farm's own is renewed (pki/certificates.py)
LOOKED_AT = 50  # runs, the last ones
AROUND = re.compile(r"^Task failed: (Failed to connect to the host via ssh: )?")  # what Ansible says before ssh's words
COLUMNS = ("host", "is", "state", "runs", "emulates", "farm", "BuildKit", "runc", "engine", "load", "free", "cache",
           "certificate")


def last_runs(state: str) -> dict[str, dict[str, Any]]:
    """What each node did in the last run in which it built something: node -> `run`, `began` (UTC), `units`,
    `failures`, `seconds` of its solves, `images`, and why it was lost (`out`)."""
    found: dict[str, dict[str, Any]] = {}
    for folder in sorted(Path(state).glob("runs/*-*"), reverse=True)[:LOOKED_AT]:
        try:
            nodes = json.loads((folder / "summary.json").read_bytes())["nodes"]
            began = datetime.strptime(folder.name.partition("-")[0], "%Y%m%dT%H%M%S").isoformat() + "Z"
        except (OSError, ValueError, KeyError, TypeError):  # it goes on, was killed, or is of another version
            continue
        batches = _timings(folder) if nodes.keys() - found.keys() else []
        for name, share in ((name, share) for name, share in nodes.items() if share["units"] or share["failures"]):
            images = dict.fromkeys(batch["image"] for batch in batches
                                   if batch["node"] == name and batch["state"] == "done")
            found.setdefault(name, {"run": folder.name, "began": began, "images": list(images), **share})
    return found


def _timings(folder: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads((folder / "timings.json").read_bytes()))
    except (OSError, ValueError):  # it built nothing
        return []


def facts(name: str, groups: Iterable[str], read: Mapping[str, Any], run: Mapping[str, Any] | None,
          days: int | None) -> dict[str, Any]:
    """A host: `read` is what the module farm_info returned, or why it could not; `run` what it did last; `days` how
    long its registry's certificate is valid."""
    node = read.get("node") or {}
    away = "" if "services" in read else AROUND.sub("", " ".join(str(read.get("msg") or "it cannot be read").split()))
    state = "away" if away else "there" if read["services"] else "not provisioned"
    return {"host": name, "groups": list(groups), "state": state, "why": away,
            "native": node.get("native", []), "emulated": node.get("emulated", []), "farm": read.get("farm", ""),
            "buildkit": node.get("version", ""), "runc": read.get("runc", ""), "engine": read.get("engine", ""),
            "load": read.get("load"), "cores": node.get("cores"), "free": read.get("free"), "cache": read.get("cache"),
            "certificate_days": days, "last_run": dict(run) if run else None,
            "services": list(read.get("services", [])), "disk": list(read.get("disk", []))}


def rows(hosts: Iterable[Mapping[str, Any]], size: Any) -> list[dict[str, str]]:
    """The hosts as a table's rows, without empty columns; `size` formats bytes."""
    found = [_row(host, size) for host in hosts]
    shown = [column for column in COLUMNS if any(row[column] for row in found)]
    return [{column: row[column] for column in shown} for row in found]


def _row(host: Mapping[str, Any], size: Any) -> dict[str, str]:
    load, days = host["load"], host["certificate_days"]
    cells = (
        host["host"], ", ".join(group.removesuffix("ies") + "y" if group == "registries" else "node"
                                for group in host["groups"]), host["state"],
        _short(host["native"]), _short(host["emulated"]), host["farm"], host["buildkit"], host["runc"],
        host["engine"].rpartition(":")[2][:12], "" if load is None else f"{load:.1f}" + (
            f"/{host['cores']:g}" if host["cores"] else ""),
        *("" if host[name] is None else size(host[name]) for name in ("free", "cache")),
        "" if days is None else amount(days, 'day') if days >= 0 else "EXPIRED")
    return dict(zip(COLUMNS, cells, strict=True))


def services(hosts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The services of all hosts as a table's rows, which name the host if there are several."""
    every = list(hosts)
    return [{**({"host": host["host"]} if len(every) > 1 else {}), **service}
            for host in every for service in host["services"]]


def said(hosts: Iterable[Mapping[str, Any]]) -> list[str]:
    """What each node built last, why hosts are away, and what is wrong with those that answer."""
    found = []
    for host in hosts:
        bad = [f"{service['service']} {service['state']}" for service in host["services"] if service["state"] != "runs"]
        days = host["certificate_days"]
        found += [f"{host['host']} {_did(host['last_run'])}"] if host["last_run"] else []
        found += [f"{host['host']} is away: {host['why']}"] if host["why"] else []
        found += [f"{host['host']}: {', '.join(bad)}"] if bad else []
        if days is not None and days < SOON:
            when = "has expired" if days < 0 else f"expires in {amount(days, 'day')}"
            found.append(f"{host['host']}: the registry's certificate {when}; provisioning makes a new one, unless you "
                         "gave it")
    return found


def _short(platforms: Iterable[str]) -> str:
    return " ".join(name.removeprefix("linux/") for name in platforms)


def _did(run: Mapping[str, Any]) -> str:
    """`built 12 units of box, child on 2026-11-29 01:25 UTC`"""
    what = f"built {amount(run['units'], 'unit')}" + (f" of {', '.join(run['images'])}" if run["images"] else "")
    lost = f", and was lost: {run['out']}" if run["out"] else ""
    failed = f", {run['failures']} failed" if run["failures"] else ""
    return f"{what}{failed} on {run['began'][:16].replace('T', ' ')} UTC{lost}"
