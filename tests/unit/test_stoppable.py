"""How a worker of Ansible ends when its run is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
WORKER = """
import os, sys
sys.path.insert(0, {path!r})
from ansible_collections.desimages.farm.plugins.plugin_utils.action import stoppable
try:
    with stoppable():
        try:
            os.kill(os.getpid(), {number})
        finally:
            print("cleaned", flush=True)
except BaseException as error:
    print("said", flush=True)  # as Ansible does, through a pipe that may be full and that nobody reads
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_is_stopped_cleans_up_and_ends_without_a_word(number: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", WORKER.format(path=str(PROJECT / "collections"), number=int(number))],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "cleaned\n"), done.stderr
