"""The farm of several hosts that tests share, and what they look at in it: two nodes and a registry with TLS and a
password, which are reached over ssh; the controller is none of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.registry.access import Access
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .conftest import COMPILED, STATE, Farm, Result
from .docker_host import run, until
from .fleet_hosts import PROCESSES, Fleet, Host
from .small import Small, units

ALL = units("box", "child", "grand", "other")

PUSHING = re.compile(r'"state": "running".*"steps": ([1-9]\d*), "done": \1,')
STATES = "cat /var/lib/desimages/jobs/*/state.json 2>/dev/null || true"
# How long it takes is in no layer and in no config
SLOW = r"""FROM --platform=$BUILDPLATFORM unpacked-busybox AS sh
ARG TARGETPLATFORM
RUN ["/usr/bin/busybox", "sh", "-c", "/usr/bin/busybox sleep {seconds}; : {mark}; echo $TARGETPLATFORM > /slow"]
FROM scratch
COPY --from=sh /slow /
"""


@dataclass
class Rack:
    """The fleet, provisioned. `here` is a farm of one machine, `own` the slow catalog of this test."""

    farm: Farm
    fleet: Fleet
    here: Farm
    own: Farm

    @classmethod
    def start(cls, folder: Path, here: Farm) -> Rack:
        fleet = Fleet.start(folder / "fleet", ["one", "two", "registry"],
                            groups={"nodes": ["one", "two"], "registries": ["registry"]})
        place = {"farm_controller_state": f"{STATE}-rack", "farm_registry": f"{fleet['registry'].address}:5000",
                 "buildkitd_cache": COMPILED}
        made = cls(Farm(folder, {}, fleet.inventory, place), fleet, here, here)
        try:
            run("rm", "-rf", place["farm_controller_state"])
            first = made.farm.run("playbooks/provision.yml")
            assert first.rc == 0, first.text[-4000:]
        except BaseException:
            made.stop()
            raise
        return made

    def stop(self) -> None:
        self.fleet.stop()
        run("rm", "-rf", self.farm.place["farm_controller_state"])

    def __getitem__(self, name: str) -> Host:
        return self.fleet[name]

    @property
    def nodes(self) -> list[Host]:
        return [self["one"], self["two"]]

    def other(self, than: Host) -> Host:
        return next(host for host in self.nodes if host != than)

    def registry(self) -> Registry:
        secrets = Path(self.farm.place["farm_controller_state"]) / "secrets"
        access = Access(str(secrets / "registry-ca.pem"), "farm", (secrets / "registry-password").read_text().strip())
        return Registry(self.farm.place["farm_registry"], access=access)

    def latest(self, name: str) -> str:
        """A file of the last run; '' while it has none."""
        file = Path(self.farm.place["farm_controller_state"]) / "runs/latest" / name
        return file.read_text() if file.exists() else ""

    @property
    def said(self) -> str:
        """What the last run said while it built."""
        return self.latest("progress.log")

    def slow(self, small: Small, mark: str, seconds: int = 20) -> Farm:
        """The small catalog, whose image box takes so long, under a name of this test's own."""
        small.write("box/Dockerfile", SLOW.format(mark=mark, seconds=seconds))
        self.own = self.farm.on(small.root, farm_namespace=mark)
        return self.own

    def summary(self, of: Result) -> dict[str, Any]:
        """The summary of a run that ended well."""
        assert of.rc == 0, of.text[-6000:]
        return dict(json.loads(self.latest("summary.json")))

    def same(self, of: Result) -> dict[str, Any]:
        """The same, of a run that built the slow catalog as one machine does that nothing disturbs."""
        found = self.summary(of)
        assert digests(found) == self.undisturbed(self.own)
        return found

    def undisturbed(self, own: Farm) -> dict[str, str]:
        """unit -> digest, as one machine builds the same catalog, without sleep."""
        for dockerfile in Path(own.defaults["farm_catalog"][0]).glob("box/Dockerfile"):
            dockerfile.write_text(re.sub(r"busybox sleep \d+", "busybox sleep 0", dockerfile.read_text()))
        done = Farm(self.here.folder, own.defaults, self.here.inventory, self.here.place).run()
        assert done.rc == 0, done.text[-4000:]
        return {unit["unit"]: unit["digest"] for unit in done.task("Index")["units"]}

    def pushing(self) -> list[Host]:
        """The nodes on which a job has done all steps, and pushes."""
        return [host for host in self.nodes if PUSHING.search(host.run("sh", "-c", STATES))]

    def building(self) -> list[Host]:
        """The nodes on which a slow step runs."""
        return [host for host in self.nodes
                if host.container.status == "running" and "busybox sleep" in host.run(*PROCESSES)]

    @contextmanager
    def during(self, own: Farm, what: str, found: Callable[[], list[Host]]) -> Iterator[tuple[Future[Result], Host]]:
        """A run, from the moment in which hosts are `found`, and the first of them."""
        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(own.run)
            until(what, 300, lambda: going.done() or bool(found()))
            assert not going.done(), going.result().text[-4000:]
            yield going, found()[0]

    @contextmanager
    def while_one_builds(self, own: Farm) -> Iterator[tuple[Future[Result], Host]]:
        """A run, from the moment in which a step runs on a node, and that node."""
        with self.during(own, "a node builds", self.building) as (going, host):
            yield going, host

    def until_said(self, words: str, going: Future[Result], seconds: float = 150) -> None:
        """Until the run says so, or has ended."""
        until(f"the run says {words!r}", seconds, lambda: going.done() or words in self.said)
        assert words in self.said, going.result().text[-4000:]


def digests(found: dict[str, Any]) -> dict[str, str]:
    return {unit: state["digest"] for unit, state in found["units"].items()}


def built(found: dict[str, Any]) -> set[str]:
    return {unit for unit, state in found["units"].items() if state["state"] == "built"}
