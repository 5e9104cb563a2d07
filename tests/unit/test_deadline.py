"""Deadlines for what may wait for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc, started
from ansible_collections.desimages.farm.plugins.plugin_utils.deadline import Late, deadline, end_children


def test_what_takes_longer_than_its_deadline_is_broken_off_even_if_errors_are_caught() -> None:
    before, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    with pytest.raises(Late), deadline(0.2):
        while True:
            try:
                signal.pause()
            except Exception as error:  # as Ansible does where it tries again
                raise AssertionError from error
    assert time.monotonic() - began < 20
    assert signal.getsignal(signal.SIGALRM) == before


def test_what_is_in_time_is_left_alone() -> None:
    with deadline(30):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_only_the_own_children_are_ended() -> None:
    with subprocess.Popen(["sleep", "300"]) as other:
        child = os.fork()
        if child == 0:
            with subprocess.Popen(["sleep", "300"]) as mine:
                end_children()
                os._exit(0 if not started(mine.pid) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert started(other.pid) and Proc().parent(other.pid) == os.getpid()
        other.kill()
