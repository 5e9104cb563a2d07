"""Downloads against a real server on loopback that misbehaves as told."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import HashMismatch, Missing, NoSpace, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Login, Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client, download, first_contact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.fetching import fetch_entries
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk

from .entries import address, deb

BODY = bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """`answers` are taken one a request, the last one again and again: a status, `cut` (half a body, then the line goes
    dead), `ok`, `deaf` (a server without ranges), `other` (another file of the same size), `part` (of what was asked
    for the first thousand bytes). 302 leads to `place`."""

    url: str = ""
    place: str = "/elsewhere"
    answers: list[object] = field(default_factory=lambda: ["ok"])
    seen: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            state.seen.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            if isinstance(answer, int):
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                if answer == 429:
                    self.send_header("Retry-After", "7")
                if answer == 503:
                    self.send_header("Retry-After", formatdate(time.time() + 20, usegmt=True))
                if answer == 302:
                    self.send_header("Location", state.place)
                self.end_headers()
                return
            body = bytes(reversed(BODY)) if answer == "other" else BODY[:-1] if answer == "short" else BODY
            start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0]) if answer != "deaf" else 0
            end = min(start + 1000, len(body)) if answer == "part" else len(body)
            self.send_response(206 if start or end < len(body) else 200)
            if start or end < len(body):
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if answer == "cut":
                self.wfile.write(body[start:start + len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(body[start:end])

        def log_message(self, *arguments: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{listener.server_port}"
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield state
    listener.shutdown()
    listener.server_close()


@dataclass
class Time:
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


@pytest.fixture
def time_() -> Time:
    return Time()


@pytest.fixture
def client(time_: Time) -> Client:
    return Client(Machine(), sleep=time_.sleep, clock=time_.clock)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.parent.name != "locks"]


def test_a_file_comes_into_the_store_and_is_not_asked_for_again(server, client, store):
    path = download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert path == store.root / "sha256" / SHA[:2] / SHA
    assert path.read_bytes() == BODY
    download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert len(server.seen) == 1
    assert files(store) == [path]


def test_more_files_than_connections_may_be_missing(server, client, store):
    server.answers = [404]
    for number in range(20):
        with pytest.raises(Missing):
            download(client, [f"{server.url}/{number}"], f"{number:064x}", 1, store)


def test_a_dropped_connection_is_taken_up_where_it_broke(server, client, store):
    server.answers = ["cut", "ok"]
    download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert server.seen[1]["range"] == f"bytes={len(BODY) // 2}-"


def test_what_an_earlier_run_left_is_taken_up(server, client, store):
    store.partial(SHA).write_bytes(BODY[:1000])
    download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert server.seen[0]["range"] == "bytes=1000-"


def test_what_an_earlier_run_left_damaged_is_fetched_again(server, client, store):
    store.partial(SHA).write_bytes(b"x" * 1000)
    download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert [request.get("range", "") for request in server.seen] == ["bytes=1000-", ""]


def test_a_server_without_ranges_sends_it_whole(server, client, store):
    server.answers = ["deaf"]
    store.partial(SHA).write_bytes(BODY[:1000])
    assert download(client, [f"{server.url}/a"], SHA, len(BODY), store).read_bytes() == BODY


def test_a_busy_server_is_asked_again_when_it_says(server, client, store, time_):
    server.answers = [503, 429, "ok"]
    download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    first, second = time_.slept
    assert 15 < first <= 20
    assert second == 7


@pytest.mark.parametrize("answer", [500, 502, 503])
def test_patience_ends_after_about_a_minute(server, client, store, time_, answer):
    server.answers = [answer]
    with pytest.raises(Unreachable, match=r"HTTP 50\d, \d+ times in \d+ s"):
        download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert 30 < time_.now <= 60


def test_of_a_host_that_gave_nothing_for_a_minute_no_further_file_is_asked(server, client, store, time_):
    server.answers = [503]
    with pytest.raises(Unreachable):
        download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    asked, slept = len(server.seen), list(time_.slept)
    with pytest.raises(Unreachable, match="its host is not asked any more: HTTP 503"):
        download(client, [f"{server.url}/b"], "0" * 64, 1, store)
    assert (len(server.seen), time_.slept) == (asked, slept)


def test_one_bad_file_does_not_silence_a_host_that_gives_others(server, client, store, time_):
    for name, answer in (("a", "ok"), ("b", 503), ("c", "ok")):
        server.answers = [answer]
        time_.now += 1
        if answer == "ok":
            client.patiently(f"{server.url}/{name}", store.partial(name), len(BODY))
        else:
            with pytest.raises(Unreachable):
                client.patiently(f"{server.url}/{name}", store.partial(name), 1)


def test_no_one_there_is_unreachable(client, store, time_):
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        download(client, ["http://127.0.0.1:1/a"], SHA, len(BODY), store)
    assert 30 < time_.now <= 60


@pytest.mark.parametrize("answer", [404, 410])
def test_a_file_that_is_gone_is_missing_at_once(server, client, store, time_, answer):
    server.answers = [answer]
    with pytest.raises(Missing, match=r"relock"):
        download(client, [f"{server.url}/a", f"{server.url}/b"], SHA, len(BODY), store, "libc6 2.41-12 arm64")
    assert len(server.seen) == 2
    assert not time_.slept


def test_the_next_origin_has_it(server, client, store):
    server.answers = [404, "ok"]
    download(client, [f"{server.url}/a", f"{server.url}/b"], SHA, len(BODY), store)
    assert [request["path"] for request in server.seen] == ["/a", "/b"]


def test_an_origin_that_cannot_be_asked_is_no_proof_that_a_file_is_missing(server, client, store):
    server.answers = [404]
    with pytest.raises(Unreachable):
        download(client, ["http://127.0.0.1:1/a", f"{server.url}/a"], SHA, len(BODY), store)


@pytest.mark.parametrize(("status", "remedy"), [(403, "credentials"), (511, "use another origin")])
def test_refused_is_neither_missing_nor_tried_again(server, client, store, time_, status, remedy):
    server.answers = [status]
    with pytest.raises(Unreachable, match=remedy):
        download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert not time_.slept


@pytest.mark.parametrize("status", [408, 520, 522])
def test_a_cdn_that_does_not_reach_the_origin_is_asked_again(server, client, store, status):
    server.answers = [status, "ok"]
    assert download(client, [f"{server.url}/a"], SHA, len(BODY), store).read_bytes() == BODY


@pytest.mark.parametrize("answer", ["other", "short"])
def test_another_file_never_enters_and_no_other_origin_hides_it(server, client, store, time_, answer):
    server.answers = [answer]
    with pytest.raises(HashMismatch, match=r"(?s)libc6.*the lock says.*compare with another origin"):
        download(client, [f"{server.url}/a", f"{server.url}/b"], SHA, len(BODY), store, "libc6 2.41-12 arm64")
    assert [request["path"] for request in server.seen] == ["/a"]
    assert not time_.slept
    assert not files(store)


def test_a_full_disk_is_not_tried_again(server, client, store, time_, monkeypatch):
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(client, "into", full)
    with pytest.raises(NoSpace, match="full"):
        download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert not time_.slept


def test_a_folder_on_disk_is_an_origin_too(client, store, tmp_path):
    (tmp_path / "a b").write_bytes(BODY)
    download(client, [f"file://{tmp_path}/gone", f"file://{tmp_path}/a%20b"], SHA, len(BODY), store)
    assert store.has(SHA, len(BODY))
    with pytest.raises(Missing):
        download(client, [f"file://{tmp_path}/gone"], "0" * 64, 1, store)


def test_a_password_goes_to_its_host_and_into_no_message(server, store, time_):
    client = Client(Machine(logins=(Login("127.0.0.1", "/", "me", "secret", "http"),)), sleep=time_.sleep,
                    clock=time_.clock)
    download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert server.seen[0]["authorization"].startswith("Basic ")
    server.answers = [404]
    with pytest.raises(Missing) as error:
        download(client, [server.url.replace("://", "://me:secret@") + "/a"], "0" * 64, 1, store)
    assert "secret" not in str(error.value)


def test_a_token_goes_to_its_server_and_not_to_where_that_leads(server, store):
    server.answers, server.place = [302, "ok"], server.url.replace("127.0.0.1", "localhost")
    client = Client(Machine(tokens={server.url: "sesam"}))
    download(client, [f"{server.url}/a"], SHA, None, store)
    assert [seen.get("authorization", "") for seen in server.seen] == ["sesam", ""]


def test_a_file_whose_size_nobody_knows_is_checked_by_its_hash(server, client, store):
    download(client, [f"{server.url}/a"], SHA, None, store)
    server.answers = ["other"]
    with pytest.raises(HashMismatch, match=f"the lock says {'0' * 64} \\(url"):
        download(client, [f"{server.url}/a"], "0" * 64, None, store)
    assert len(files(store)) == 1


def test_apts_proxy_is_for_apts_files_alone(server, store, tmp_path):
    name = f"{server.url}/mirror/pool/a"
    debian = deb("a", sha256=SHA, size=len(BODY), path="pool/a.deb")
    url = address(name.replace("pool/a", "b"), sha256="0" * 64, size=len(BODY))
    here = Machine(apt={"Acquire::http::Proxy": "http://127.0.0.1:1"})
    origins = Origins({"debian": [f"{server.url}/mirror"]}, here=here)
    client = Client(here, patience=0)
    found = fetch_entries([(debian, ""), (url, "")], Desk(origins, tmp_path, store, client))
    assert isinstance(found[debian], Unreachable)
    assert [seen["path"] for seen in server.seen] == ["/mirror/b"]


def test_redirects_are_followed(server, client, store):
    server.answers = [302, "ok"]
    download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    assert server.seen[1]["path"] == "/elsewhere"


def test_a_damaged_file_in_the_store_is_noticed_by_its_size(server, client, store):
    path = download(client, [f"{server.url}/a"], SHA, len(BODY), store)
    path.write_bytes(b"")
    assert download(client, [f"{server.url}/a"], SHA, len(BODY), store).read_bytes() == BODY


def test_first_contact_takes_what_there_is(server, client, tmp_path):
    path, sha256, size = first_contact(client, f"{server.url}/a", tmp_path)
    assert (sha256, size, path.read_bytes()) == (SHA, len(BODY), BODY)


def test_first_contact_puts_no_two_states_of_a_file_together(server, client, tmp_path):
    """No lock would notice: it is made of what came."""
    server.answers = ["cut", "other"]
    path, sha256, _size = first_contact(client, f"{server.url}/a", tmp_path)
    assert (path.read_bytes(), sha256) == (BODY[::-1], hashlib.sha256(BODY[::-1]).hexdigest())


def test_a_part_is_not_taken_for_the_whole(server, client, store, tmp_path):
    server.answers = ["cut", "part", "part", "ok"]
    assert download(client, [f"{server.url}/a"], SHA, len(BODY), store).read_bytes() == BODY
    server.answers = ["part", "ok"]
    assert first_contact(client, f"{server.url}/a", tmp_path)[1] == SHA


@pytest.mark.parametrize("answer", ["part", "cut"])
def test_first_contact_with_a_server_that_never_gives_all_of_it_ends(server, client, tmp_path, time_, answer):
    server.answers = [answer]
    with pytest.raises(Unreachable):
        first_contact(client, f"{server.url}/a", tmp_path)
    assert time_.now < 100


def test_one_bad_entry_costs_only_itself(server, client, store, tmp_path):
    good, bad, twin = (deb(name, "1+b", sha256=sha, size=len(BODY))
                       for name, sha in (("good", SHA), ("bad", "0" * 64), ("twin", SHA)))
    origins = Origins({"debian": [server.url]}, here=Machine())
    lines: list[tuple[int, int, int]] = []
    found = fetch_entries([(good, ""), (bad, ""), (twin, "")], Desk(origins, tmp_path, store, client),
                          lambda *line: lines.append(line))
    assert (found[good], found[twin]) == (None, None)
    assert isinstance(found[bad], HashMismatch)
    assert lines[-1] == (1, 2, len(BODY))
    assert {request["path"] for request in server.seen} == {"/pool/good_1%2Bb_all.deb", "/pool/bad_1%2Bb_all.deb"}
