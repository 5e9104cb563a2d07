"""The end of a run in words."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.desimages.farm.plugins.plugin_utils import report
from ansible_collections.desimages.farm.plugins.plugin_utils.run import Run


def test_the_time_of_an_image_reaches_from_its_first_batch_to_its_last(tmp_path: Path) -> None:
    run = Run.begin(str(tmp_path))
    assert report.times(run) == []
    run.save("fetch", {"seconds": 61.0})
    run.save("build", {"timings": [{"image": "debian", "began": 10.0, "ended": 70.5}, {"image": "base", "began": 70.6, "ended": 72.0},
                                   {"image": "debian", "began": 10.0, "ended": 90.0}]})
    assert report.times(run) == ["Time: fetch 1:01, build 1:20, of that debian 1:20, base 0:01"]
