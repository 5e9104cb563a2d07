"""A farm of several hosts builds what one machine builds, and two controllers may share it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Farm
from .rack import ALL, Rack, built, digests
from .small import Small


def test_two_nodes_build_what_one_machine_builds(rack: Rack, farm: Farm, small: Small) -> None:
    own = rack.farm.on(small.root, farm_namespace="same")
    found = rack.summary(own.run())
    assert built(found) == ALL
    assert set(found["nodes"]) == {"one", "two"}
    here = farm.on(small.root, farm_namespace="same").run()
    assert here.rc == 0, here.text[-4000:]
    assert digests(found) == {unit["unit"]: unit["digest"] for unit in here.task("Index")["units"]}
    again = own.run()
    assert (again.rc, again.changed) == (0, 0), again.text[-4000:]


@pytest.mark.full
@pytest.mark.faults
def test_a_second_controller_waits_for_the_nodes_and_cancels_nothing(rack: Rack, small: Small, tmp_path: Path) -> None:
    place = rack.farm.place["farm_controller_state"]
    own = rack.slow(small, "two-controllers")
    second = own.on(small.root, farm_namespace="second", farm_secrets=f"{place}/secrets",
                    farm_controller_state=str(tmp_path / "second"))
    with rack.while_one_builds(own) as (going, _host):
        other = second.run()
        rack.same(going.result())
    assert other.rc == 0, other.text[-4000:]
    assert other.built == ALL
    assert "works for another controller" in other.text
