"""What a worker of Ansible has in memory for itself, beside what it shares with ansible-playbook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PLAYBOOK = """
import gc, os, re, sys
from types import SimpleNamespace
sys.path.insert(0, {path!r})
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction


class Collects(FarmAction):
    DOCUMENTATION = "options: {{}}"

    def act(self, arguments, task_vars):
        gc.collect()
        return {{"own": int(re.search(r"Private_Dirty: +([0-9]+) kB", open("/proc/self/smaps_rollup").read())[1])}}


inherited = [[number] for number in range(300_000)]  # some 30 MB
gc.collect()
if os.fork() == 0:
    task = SimpleNamespace(args={{}}, async_val=0, check_mode=False, diff=False, environment=None, delegate_to=None)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="x"))
    print(Collects(task, connection, SimpleNamespace(check_mode=False), None, None, None).run(task_vars={{}})["own"],
          flush=True)
    os._exit(0)
os.wait()
"""


def test_collecting_garbage_in_a_worker_copies_nothing_of_what_it_inherited() -> None:
    done = subprocess.run([sys.executable, "-c", PLAYBOOK.format(path=str(PROJECT / "collections"))],
                          capture_output=True, text=True, check=True)
    assert int(done.stdout) < 15_000, "kB"
