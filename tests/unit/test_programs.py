"""Programs end, whatever they do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc


def test_a_program_gets_what_it_is_given_and_no_more(tmp_path: Path) -> None:
    done = programs.run(["/bin/sh", "-c", 'cat; pwd; echo "$A$HOME" >&2; exit 3'], seconds=10, environment={"A": "b"},
                        folder=str(tmp_path), stdin="in\n")
    assert (done.code, done.out, done.err) == (3, f"in\n{tmp_path}\n", "b\n")


def test_a_temporary_folder_that_is_not_there_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, said in ((str(tmp_path), str(tmp_path)), (f"{tmp_path}/gone", ""), ("", "")):
        monkeypatch.setenv("TMPDIR", folder)
        assert programs.run(["/bin/sh", "-c", 'printf %s "$TMPDIR"'], seconds=10).out == said


def test_a_program_that_reads_its_input_does_not_wait_for_a_person() -> None:
    assert programs.run(["cat"], seconds=10).out == ""


def test_what_is_no_text_does_not_matter() -> None:
    assert programs.run(["printf", r"\377"], seconds=10).out == "\ufffd"


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(FarmError, match="no-such-program cannot be run: No such file"):
        programs.run(["no-such-program"], seconds=10)


def test_a_message_has_no_login_of_an_address() -> None:
    address = "https://me:s3cret@" + 300 * "x"
    for words in (["no-such-program", "x", address], ["/bin/sh", "-c", "sleep 60", address]):
        with pytest.raises(FarmError) as error:
            programs.run(words, seconds=0.1)
        assert "s3cret" not in str(error.value) and "https://x" in str(error.value)


@pytest.mark.parametrize("script", ["sleep 600", "trap '' TERM; sleep 600 & wait; wait",
                                    "sleep 600 & echo $!; sleep 600", "sleep 600 &"])
def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(script: str, tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "GRACE", 0.3)
    began = time.monotonic()
    with pytest.raises(programs.Overdue, match="did not end within 1 s"):
        programs.run(["/bin/sh", "-c", f"echo $$ > pid; {script}"], seconds=1, folder=str(tmp_path))
    assert time.monotonic() - began < 5
    group = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while left := members(group):
        assert time.monotonic() < deadline, left


def members(group: int) -> list[str]:
    """The commands of the processes of a group that run."""
    proc = Proc()
    return [proc.command(pid) for pid in proc.pids() if group_of(pid) == group and not proc.zombie(pid)]


def group_of(pid: int) -> int:
    """The process group of a process, 0 where it has gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_what_a_block_leaves_running_is_ended_with_it() -> None:
    with pytest.raises(KeyError), programs.started(["sleep", "600"]) as process:
        raise KeyError
    assert process.returncode is not None


def test_a_call_says_by_its_code_how_a_program_ended() -> None:
    assert programs.call(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\n", "err\n")
    assert programs.call(["sleep", "600"], seconds=0.2) == (124, "", "sleep did not end within 0 s, and was killed")
    assert programs.call(["no-such-program"]) == (127, "", "no-such-program cannot be run: No such file or directory")
