"""What BuildKit's progress tells a person: which steps run, which failed, and whether registry or disk did it."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.progress import LONGEST, SHOWN, Progress
from hypothesis import given
from hypothesis import strategies as st


def vertex(digest: str, **more: object) -> str:
    return json.dumps({"vertexes": [{"digest": digest, "name": digest.upper(), **more}]})


def log(text: str) -> str:
    return json.dumps({"logs": [{"data": base64.b64encode(text.encode()).decode()}]})


def test_each_line_adds_to_the_log_what_it_tells_for_the_first_time() -> None:
    progress = Progress()
    said = [progress.feed(line) for line in (
        vertex("a"), vertex("a", started="1"), vertex("a", started="1"), log("one\ntwo\r\n\n"),
        vertex("a", started="1", completed="2"), vertex("a", started="1", completed="2"),
        vertex("b", started="3", completed="3", cached=True), vertex("c", started="4", completed="5", error="bad"),
        "error: of buildctl's own \n", json.dumps({"logs": [{"data": "no base64!"}]}), json.dumps({"logs": [{}]}),
        json.dumps({"logs": [{"data": base64.b64encode(b"\xff").decode()}]}))]
    assert said == [[], ["1 A"], [], ["    one", "    two", "    "], ["2 A: done"], [], ["3 B", "3 B: cached"],
                    ["4 C", "5 C: done", "C: bad"], ["error: of buildctl's own"], ["    no base64!"], [],
                    ["    \ufffd"]]
    assert progress.as_dict() == {
        "steps": 3, "done": 3, "cached": 1, "running": "", "failed_step": "C", "error": "bad", "transport": False,
        "refused": "", "fault": "",
        "tail": ["one", "two", "", "no base64!", "\ufffd"]}


def test_a_step_is_known_by_its_digest_and_else_by_its_name() -> None:
    progress = Progress()
    progress.feed(vertex("a", name="x", started="1"))
    assert progress.feed(vertex("b", name="x", started="1")) == ["1 x"]
    progress = Progress()
    progress.feed(json.dumps({"vertexes": [{"name": "x", "started": "1"}, {"name": "y", "started": "2"}]}))
    assert (progress.as_dict()["steps"], progress.running) == (2, "y")


def test_what_runs_is_the_step_that_started_last_and_has_not_ended() -> None:
    progress = Progress()
    for line, running in ((vertex("a", started="1"), "A"), (vertex("b", started="2"), "B"), (vertex("c"), "B"),
                          (vertex("b", started="2", completed="3"), "A"), (vertex("a", completed="4"), "")):
        progress.feed(line)
        assert progress.running == running


def test_the_failure_that_is_told_is_no_consequence_of_another() -> None:
    """BuildKit ends the other steps of a solve that failed."""
    progress = Progress()
    for line, failed in ((vertex("a", error="context canceled"), "A"), (vertex("b", error="exit code: 1"), "B"),
                         (vertex("c", error="process: context canceled"), "B"), (vertex("d", error="worse"), "D")):
        progress.feed(line)
        assert progress.as_dict()["failed_step"] == failed


HEAD = "unexpected status from HEAD request to http://r/v2/a/manifests/sha256:1: "
GET = 'failed to do request: Get "http://r/v2/a/blobs/sha256:1": '


URL = "https://192.0.2.5:5000/v2/a/b/blobs/sha256:0"


@pytest.mark.parametrize(("error", "said"), [  # as BuildKit v0.34.2 says it
    (f'failed to push 192.0.2.5:5000/a/b: failed to do request: Head "{URL}": tls: failed to verify certificate: x509: '
     "certificate has expired or is not yet valid: current time 2026-11-28T21:33:33Z is after 2026-11-25T21:33:32Z",
     "check this node's clock"),
    (f'failed to do request: Head "{URL}": tls: failed to verify certificate: x509: certificate signed by unknown '
     "authority", "gives nodes the CA in farm_registry_ca"),
    (f'failed to do request: Head "{URL}": tls: failed to verify certificate: x509: cannot validate certificate for '
     "192.0.2.5 because it doesn't contain any IP SANs", "one of the names or addresses"),
    (f"unexpected status from HEAD request to {URL}: 401 Unauthorized", "check farm_registry_user"),
    (f"unexpected status from HEAD request to {URL}: 503 Service Unavailable", ""),
    (f'process "/bin/sh -c curl {URL}; echo 401 Unauthorized x509: bad" did not complete successfully: exit code: 1',
     ""),
])
@pytest.mark.parametrize("name", ["exporting to image", "[internal] load metadata for 192.0.2.5:5000/a/b"])
def test_what_trying_again_does_not_change_is_told_with_what_to_do(name: str, error: str, said: str) -> None:
    progress = Progress()
    progress.feed(json.dumps({"vertexes": [{"digest": "sha256:1", "name": name, "error": error}]}))
    assert progress.refused.startswith(said) if not said else said in progress.refused
    assert bool(progress.refused) is bool(said)
    assert not (progress.refused and progress.transport)


@pytest.mark.parametrize(("name", "error", "transport"), [
    ("exporting to image", "anything", True),
    ("pushing layers", "anything", True),
    ("[1/2] RUN pushing x", "exit code: 1", False),
    *(("load", f"{HEAD}{code} Status", True) for code in (500, 502, 503, 504)),
    *(("load", f"{HEAD}{code} Status", False) for code in (401, 404, 505)),
    *(("load", GET + why, True) for why in (
        "EOF", "unexpected EOF", "dial tcp: connect: connection refused", "read: connection reset by peer",
        "write: broken pipe", "i/o timeout", "dial tcp: connect: no route to host")),
    ("load", "connection refused", False),
    ("RUN", 'process "timeout 9 go build x/v2/cmd" did not complete successfully: exit code: 1', False),
    ("RUN", f"process 'curl http://r/v2/' {GET}EOF did not complete successfully: exit code: 1", False),
])
def test_a_registry_that_is_unwell_is_told_from_a_step_that_failed(name: str, error: str, transport: bool) -> None:
    progress = Progress()
    progress.feed(vertex("a", name=name, error=error))
    assert progress.transport is transport


@pytest.mark.parametrize(("lines", "full"), [
    ([log("cp: No space left on device\n1\n2")], True),
    ([log("cp: No space left on device\n1\n2\n3")], False),  # it was said, and the step went on
    ([vertex("a", error="write: No space left on device")], True),
    (["error: no space left on device"], True),
    ([vertex("a", error="exit code: 1")], False),
])
def test_a_disk_is_full_where_that_was_the_end_of_it(lines: list[str], full: bool) -> None:
    progress = Progress()
    for line in lines:
        progress.feed(line)
    assert progress.full is full


def test_what_is_kept_has_an_end() -> None:
    progress = Progress()
    long = "x" * (LONGEST + 9)
    assert progress.feed(long) == [long[:LONGEST]]
    assert list(progress.own) == [long[:SHOWN]]
    assert progress.feed(log(long)) == ["    " + long[:LONGEST]], "whole lines are decoded, and then cut"
    assert list(progress.tail) == [long[:SHOWN]]
    for number in range(30):
        progress.feed(log(str(number)))
    assert progress.as_dict()["tail"] == [str(number) for number in range(10, 30)]


def test_where_no_step_printed_anything_buildctl_has_the_last_word() -> None:
    progress = Progress()
    for number in range(30):
        progress.feed(f"error {number}")
    assert progress.as_dict()["tail"] == [f"error {number}" for number in range(10, 30)]


@pytest.mark.parametrize(("value", "name"), [
    (7, "7"), (1.5, "1.5"), (True, "True"), (0, ""), (None, ""), (["x"], ""), ({"a": 1}, ""), ("\ud800", "?"),
])
def test_whatever_stands_for_a_name_can_be_written_down(value: object, name: str) -> None:
    progress = Progress()
    progress.feed(vertex("a", name=value, started="1"))
    assert progress.running == name


NAMES = ("vertexes", "logs", "digest", "name", "started", "completed", "cached", "error", "data")
TEXT = st.text(st.characters())  # JSON has halves of characters too
KEYS = st.sampled_from(NAMES) | TEXT
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
                    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner))


def writable(progress: Progress, value: str) -> None:
    """Whatever is fed, what comes of it can be written down and shown."""
    for said in progress.feed(value):
        said.encode()
    state = json.loads(json.dumps(progress.as_dict()))
    for text in (*state["tail"], state["running"], state["error"], state["failed_step"]):
        text.encode()


@given(JSON)
def test_progress_takes_any_json(value: object) -> None:
    progress = Progress()
    for each in (value, {"vertexes": [value]}, {"logs": [value]}, {"vertexes": value, "logs": value}):
        writable(progress, json.dumps(each))
    assert progress.transport in (True, False) and progress.full in (True, False)


@pytest.mark.parametrize("key", NAMES)
def test_progress_takes_halves_of_characters(key: str) -> None:
    half = {"digest": "d", "name": "n", "started": "1", key: "\ud800"}
    for value in ("\ud800", {key: "\ud800"}, {"vertexes": [half]}, {"logs": [half]}):
        writable(Progress(), json.dumps(value))
    writable(Progress(), "no JSON: \ud800")


RUN = 'process "/bin/sh -c make" did not complete successfully: '


@pytest.mark.parametrize(("error", "printed", "said"), [  # as BuildKit v0.34.2 and runc 1.1 say it
    (f"{RUN}exit code: 137", "", "a step was killed"),
    (f"{RUN}cannot allocate memory", "", "a step was killed"),
    (f"{RUN}exit code: 1", "runc run failed: unable to start container process: error during container init: error "
                           "mounting \"proc\" to rootfs at \"/proc\": operation not permitted", "runc could not"),
    (f"{RUN}exit code: 1", 'runc run failed: unable to start container process: error during container init: exec: '
                           '"/bin/sh": stat /bin/sh: no such file or directory', ""),
    (f"{RUN}exit code: 1", "make: write error: input/output error", ""),
    (f"{RUN}exit code: 2", "exit code: 137", ""),
    ("failed to create prepare snapshot dir: mkdir /x: read-only file system", "", "read-only file system"),
    ("failed to copy file info: copy_file_range: input/output error", "", "input/output error"),
    ('failed to calculate checksum of ref a::b: "/x": not found', "", ""),
    ("", "", ""),
])
def test_a_failure_of_the_machine_is_told_from_one_of_the_step(error: str, printed: str, said: str) -> None:
    progress = Progress()
    progress.feed(json.dumps({"logs": [{"data": base64.b64encode(printed.encode()).decode()}]}))
    progress.feed(vertex("a", name="RUN make", error=error))
    assert said in progress.fault and bool(progress.fault) is bool(said)
