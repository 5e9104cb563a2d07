# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node, from the controller: starts, polls and cancels jobs through Ansible's connection, with one command each."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shlex
import zipfile
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.runner import LATER
from ansible_collections.desimages.farm.plugins.module_utils.state import MARK
from ansible_collections.desimages.farm.plugins.plugin_utils import travels

_MISSING = 97  # exit code of a call if this version of the runner is missing
_GONE = 96  # exit code if there is no farm any more: somebody removed it, and the runner would make its folder again
_MAIN = "import sys\nfrom desimages_runner.runner import main\nsys.exit(main(sys.argv[1:]))\n"
# unpacks the zip on standard input into the folder that is its argument, atomically, and compiles it
_INSTALL = (
    "import base64, compileall, io, os, shutil, sys, zipfile; os.umask(0o022); path, mark = sys.argv[1:]; "
    f"os.path.exists(mark) or sys.exit({_GONE}); "
    "new = f'{path}.{os.getpid()}'; data = base64.b64decode(sys.stdin.read()); "
    "zipfile.ZipFile(io.BytesIO(data)).extractall(new); compileall.compile_dir(new, quiet=1); os.sync(); "
    "shutil.rmtree(new) if os.path.exists(path) else os.rename(new, path)"
)

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# what moves a cursor, sets a title, or turns the direction of writing: control characters but tab and line feed
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

# command line, standard input, seconds that it may take -> exit code, output, errors
Execute = Callable[[str, str, float], tuple[int, str, str]]
# what the runner's answers must have
_PREPARED: Mapping[str, tuple[type, ...]] = {"machine": (str,), "node": (dict,), "finished": (list,),
                                             "apart": (str,)}
_FINISHED: Mapping[str, tuple[type, ...]] = {"id": (str,), "digest": (str,)}
_STATE: Mapping[str, tuple[type, ...]] = {"id": (str,), "state": (str,), "elapsed": (int, float), "age": (int, float)}
# what they may have
_MORE: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("steps", "done", "cached", "rest"), (int,)),
    **dict.fromkeys(("running", "error", "failed_step", "refused", "fault", "digest", "log", "phase"), (str,)),
    **dict.fromkeys(("started", "ended"), (int, float)),
    **dict.fromkeys(("notes", "tail"), (list,)), **dict.fromkeys(("full", "transport"), (bool,))}
PROBE = 180.0  # the same for a probe, which asks each service
REACH = 30.0  # seconds in which a node may reach the registry
CALL = 30.0  # seconds that a call may take besides what it is told to wait, over a bad network too
SLOWEST = 20_000  # bytes a second at which what is sent may arrive: jobs share the network with it
# bytes of an answer. What is passed on is checked and written anew, in at most six times as many (\x7f becomes \ufffd),
# which fits into a line for the broker (link.py)
LARGEST = 10 << 20
HIGHEST = 1e18  # of numbers in an answer: bytes of a disk, seconds
FINISHED = 1000  # jobs that a run that died may have left on a node


class Node:
    """One node. `execute` runs a shell command there; `python` says its interpreter; `state` is its state folder;
    `controller` is who asks (`id` and `name`): a node works for one at a time."""

    def __init__(self, name: str, execute: Execute, python: Callable[[], str], state: str,
                 controller: Mapping[str, str] | None = None) -> None:
        self.name, self._execute, self._find_python = name, execute, python
        self._controller = dict(controller or {"id": "", "name": ""})
        self.jobs, self._mark = f"{state}/jobs", f"{state}/{MARK}"
        self.store = f"{state}/node"  # its own store, which no other user can enter
        content = runner_zip()
        self._runner = f"{state}/bin/runner-{hashlib.sha256(content).hexdigest()[:16]}"
        self._content = content

    @cached_property
    def _python(self) -> str:
        return self._find_python()  # Ansible may have to look for it there

    def prepare(self, keep: str = "", registry: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Sends the runner if this version of it is missing, takes the node, and ends jobs of a run that died: all but
        those of the run `keep`. Returns what the node is, what had finished, and why it does not reach `registry`
        (runner.py). Raises Busy."""
        value = {"jobs": self.jobs, "keep": keep, "controller": self._controller, "registry": registry}
        answer: dict[str, Any] | None = self._call("clear", value, CALL + REACH)
        if answer is None:
            self._send()
            answer = self._ask("clear", value, REACH)
        if not _fits(answer, _PREPARED) or len(answer["finished"]) > FINISHED or (
                not all(_fits(one, _FINISHED) for one in answer["finished"])):
            raise self._strange(answer)
        return {name: answer[name] for name in _PREPARED}

    def install(self) -> None:
        """Sends the runner if this version of it is missing."""
        if self._run(f"test -d {shlex.quote(self._runner)} || exit {_MISSING}", "", CALL) is None:
            self._send()

    def _send(self) -> None:
        # -I: with -c, Python would look for modules in the folder in which a login begins, and root runs this
        words = [self._python, "-I", "-c", _INSTALL, self._runner, self._mark]
        self._run(shlex.join(words), base64.b64encode(self._content).decode(), CALL)

    def probe(self, value: dict[str, Any]) -> dict[str, Any] | None:
        """Whether the host is healthy (wellness.py); None if the runner is missing. Writes nothing."""
        found: dict[str, Any] | None = self._call("probe", value, PROBE)
        return found

    def turn(self, specs: list[dict[str, Any]], ids: list[str], forget: list[str], wait: float,
             slots: int) -> list[dict[str, Any]]:
        """One command for everything: forgets jobs, starts others while `slots` are free, and returns the states after
        at most `wait` seconds (runner.py)."""
        value = {"jobs": self.jobs, "specs": specs, "ids": ids, "forget": forget, "wait": wait, "slots": slots,
                 "controller": self._controller}
        found: list[dict[str, Any]] = self._ask("turn", value, wait)
        asked = {*ids, *(spec["id"] for spec in specs)}
        if not isinstance(found, list) or not all(_fits(one, _STATE) and one["id"] in asked for one in found) or (
                not all(_may(one, _MORE) for one in found) or len({one["id"] for one in found}) < len(found)):
            raise self._strange(found)
        return [{name: value for name, value in one.items() if name in _STATE or name in _MORE} for one in found]

    def log(self, job: str, at: int) -> tuple[str, int | None]:
        """A piece of a job's log from byte `at` on, and where the next one begins; None after the last."""
        found = self._ask("log", {"jobs": self.jobs, "id": job, "at": at})
        if not _fits(found, {"log": (str,)}) or ("rest" in found and not _fits(found, {"rest": (int,)})):
            raise self._strange(found)
        return found["log"], found.get("rest")

    def reach(self, registry: Mapping[str, str]) -> str:
        """Why this node does not reach the registry, or ''."""
        found = self._ask("reach", {"registry": registry}, REACH)
        if not _fits(found, {"apart": (str,)}):
            raise self._strange(found)
        return str(found["apart"])

    def _strange(self, answer: Any) -> FarmError:
        """A node may be anybody's by now: what it says of jobs that it was not given does not count."""
        return FarmError(f"{self.name}: the runner gave an answer that does not fit the question:"
                         f" {json.dumps(answer)[:200]}", node=self.name)

    def cancel(self, ids: list[str]) -> list[str]:
        stopped: list[str] = self._ask("cancel", {"jobs": self.jobs, "ids": ids})
        return stopped

    def release(self) -> None:
        """Gives the node back to other controllers."""
        self._ask("release", {"jobs": self.jobs, "controller": self._controller})

    def _ask(self, verb: str, value: dict[str, Any], wait: float = 0.0) -> Any:
        answer = self._call(verb, value, CALL + wait)
        if answer is None:
            raise FarmError(f"{self.name}: the runner {self._runner} does not exist any more", node=self.name,
                            hint="run again: the runner is sent again")
        return answer

    def _call(self, verb: str, value: dict[str, Any], seconds: float) -> Any:
        # -I -S: it needs nothing from this Python's site-packages, and starts faster without
        # utf8: the names of files in contexts are in UTF-8, whatever the node's locale is
        runner = shlex.quote(self._runner)
        python = f"{shlex.quote(self._python)} -I -S -X utf8"
        answer = self._run(f"test -d {runner} || exit {_MISSING}; {python} {runner} {verb}", json.dumps(value), seconds)
        if answer is None:
            return None
        if len(answer.encode(errors="surrogatepass")) > LARGEST:
            raise FarmError(f"{self.name}: the runner's answer has more than {LARGEST >> 20} MB", node=self.name)
        try:
            found = clean(json.loads(answer, parse_constant=_refuse))
        except (ValueError, RecursionError):
            raise FarmError(f"{self.name}: the runner's answer is not JSON: {answer[:200]!r}", node=self.name,
                            hint=f"remove {self._runner} there, and it is sent again") from None
        if isinstance(found, dict) and "taken" in found:
            raise Busy(f"works for another controller, {found['taken']}" if found["taken"] else
                       "does not work for this controller any more", node=self.name)
        return found

    def _run(self, command: str, stdin: str, seconds: float) -> str | None:
        code, out, errors = self._execute(command, stdin, seconds + len(stdin) / SLOWEST)
        if code == _MISSING:
            return None
        if code == _GONE:
            raise FarmError(f"{self.name} has no farm any more: {self._mark} is missing", node=self.name,
                            hint="run again: it is provisioned first")
        if code == 255:
            raise Unreachable(f"{self.name} cannot be reached: {errors.strip()}", node=self.name)
        if code == LATER:
            raise Unreachable(f"{self.name} is too slow: {errors.strip()[-600:]}", node=self.name)
        if code > 128:  # as the kernel does if memory runs out
            raise Unreachable(f"{self.name}: the runner was killed by signal {code - 128}", node=self.name)
        if code != 0:
            raise FarmError(f"{self.name}: exit code {code} of {command[:120]}: {errors.strip()[-600:]}",
                            node=self.name)
        return out


def _fits(value: Any, names: Mapping[str, tuple[type, ...]]) -> bool:
    """Whether a value is a mapping with these names, of these types."""
    return isinstance(value, dict) and all(isinstance(value.get(name), kinds) for name, kinds in names.items())


def _may(value: dict[str, Any], names: Mapping[str, tuple[type, ...]]) -> bool:
    """Whether what a mapping has of these names is of these types; lists have texts."""
    return all(isinstance(value[name], kinds) and (list not in kinds or all(map(_is_text, value[name])))
               for name, kinds in names.items() if name in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def clean(value: Any, shown: bool = True) -> Any:
    """A value of JSON without lone surrogates, which cannot be written anywhere. Raises ValueError for a number that
    measures nothing: JSON knows larger ones than a float, and than anybody can calculate with. What is `shown` to
    people, all but a log, commands no terminal."""
    if isinstance(value, str):
        text = value.encode(errors="replace").decode()
        return _COMMANDS.sub("\N{REPLACEMENT CHARACTER}", _COLOURS.sub("", text)) if shown else text
    if isinstance(value, (int, float)) and not -HIGHEST <= value <= HIGHEST:
        raise ValueError("this number is too large")
    if isinstance(value, list):
        return [clean(one) for one in value]
    if isinstance(value, dict):
        return {clean(name): clean(one, name != "log") for name, one in value.items()}
    return value


def runner_zip() -> bytes:
    """The runner as one zip that Python can run; the same bytes for the same source."""
    out = io.BytesIO()
    package = {f"desimages_runner/{path.name}": path.read_text(encoding="utf-8")
               for path in travels.closure([travels.SHARED / "runner.py"])}
    files = {"__main__.py": _MAIN, "desimages_runner/__init__.py": "", **package}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    return out.getvalue()
