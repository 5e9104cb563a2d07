# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thin OCI distribution client over urllib3 (https://github.com/opencontainers/distribution-spec/blob/main/spec.md).

A registry's answers are not trusted: names are checked before they go into a URL, digests are checked in both
directions, only the statuses of the specification count as success, and a push is checked to be there. 5xx answers and
dropped connections are retried for three minutes; it gives up on a registry that never answers after four at most.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    PASSING,
    FarmError,
    HashMismatch,
    RegistryError,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.access import Access
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.auth import Scope
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.http import (
    LONGEST,
    PAUSES,
    Answer,
    BrokenOff,
    asked,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.session import Session, refuse

MANIFEST = oci.MANIFEST
EMPTY = "application/vnd.oci.empty.v1+json"
KINDS = (*oci.LISTS, *oci.SINGLES)
ACCEPT = {"Accept": ", ".join(KINDS)}
DONE = (200, 201, 202, 204)  # the specification says 201; there are registries that answer each of these to a PUT
FIXED = (400, 403, 405, 409, 412)  # to a second push of a tag where tags never move, whatever is pushed
SOON = (0.1, 0.3, 0.6, 1, 2)  # seconds between looks at what was pushed: in some registries it appears a moment later
BREAKS = 5  # times that one blob may break off
DEPTH = 4  # levels of indexes in indexes
DAMAGED = "the registry's data is damaged: playbooks/check.yml reads all of it and says what is damaged"
CHANGED = "its data is damaged, or something on the way changes it: ask who runs that registry"
Found = TypeVar("Found")


class NoBlob(RegistryError):
    """A blob that a registry does not give, although it may have said that it has it."""


class Registry:
    """One registry, `host[:port]`. It uses plain HTTP for loopback addresses and TLS for all others.

    `access` says whom to trust and who asks. Without a login there, credentials come from the Docker client's
    configuration (`~/.docker/config.json`). A proxy (except for loopback) comes from the environment (`https_proxy`,
    `no_proxy`). Safe to use from several threads. `pauses` are the seconds between attempts at a request. `writes` says
    that all requests are part of a push: some registries let nobody read what is not there, but who may push there.
    """

    def __init__(self, address: str, *, access: Access | None = None, pauses: Sequence[float] = PAUSES,
                 threads: int = 16, writes: bool = False) -> None:
        self.access = access or Access(farms=False)
        self._session = Session(address, self.access, pauses=pauses, threads=threads)
        self.address, self.base, self._pauses, self._writes = address, self._session.base, pauses, writes
        self._holders: dict[str, str] = {}  # digest of a blob -> a repository that has it
        self.tell: Callable[[str], None] = lambda text: None
        self._damaged = DAMAGED if self.access.farms else CHANGED

    def on_trouble(self, tell: Callable[[str], None]) -> None:
        """Whom to tell if a request has been in trouble for some seconds."""
        self.tell = tell
        self._session.on_trouble(tell)

    def for_job(self, ca: str) -> dict[str, str]:
        """How a node reaches this registry, for a job's spec: `url`, `ca`, `user`, `password`; {} if it needs nothing.

        `ca` is the file on the node with the CA that is trusted here. The login is that of the settings, else the
        Docker client's name and password.
        """
        login = self._session.login()
        if not (login or self.access.ca):
            return {}
        return {"url": self.base, "ca": ca if self.access.ca else "",
                **({"user": login.name, "password": login.password} if login else {})}

    def answers(self) -> bool:
        """Whether a registry answers now, without retries."""
        try:
            self._session.request("GET", "/v2/", Scope("", False), once=True)
        except Unreachable:
            return False
        return True

    def digest(self, repository: str, name: str) -> tuple[str, int, str] | None:
        """(digest, size in bytes, media type) of a tag or digest, or None if the registry does not have it.

        It asks by HEAD. If the answer lacks one of the three, or one is not valid, it reads the manifest itself. The
        media type is '' if it is not that of a manifest or index.
        """
        answer = self._ask("HEAD", _manifest(repository, name), repository, 200, 404, 405, headers=ACCEPT)
        if answer.status == 404:
            return None
        digest, size = answer.headers.get("Docker-Content-Digest", ""), answer.headers.get("Content-Length", "")
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        good = not references.digest(digest) and re.fullmatch("[1-9][0-9]{0,8}", size) and kind in KINDS
        good = good and not answer.packed  # else the size is that of what was packed
        if answer.status == 200 and good and (":" not in name or digest == name):
            return digest, int(size), kind
        data = self.manifest(repository, name)
        return None if data is None else (oci.digest(data), len(data), oci.media_type(data))

    def manifest(self, repository: str, name: str) -> bytes | None:
        """The bytes of a manifest or index; None if the registry does not have it.

        Raises HashMismatch if they do not match the digest that was asked for, or that the registry says.
        """
        answer = self._ask("GET", _manifest(repository, name), repository, 200, 404, headers=ACCEPT)
        if answer.status == 404:
            return None
        made = oci.digest(answer.data)
        said = name if ":" in name else answer.headers.get("Docker-Content-Digest", "")
        signed = ":" not in name and oci.signed(answer.data)  # a digest always means its exact bytes
        if not references.digest(said) and said != made and not signed:
            where = f"{self.address}/{repository}{'@' if ':' in name else ':'}{name}"
            raise HashMismatch(f"{where} is {said}, but arrived as {made}", hint=self._damaged)
        return answer.data

    def pushed(self, repository: str, digest: str) -> bytes | None:
        """A manifest that was pushed just now, by whomever. Waits a moment for it to appear."""
        return _soon(lambda: self.manifest(repository, digest))

    def put_manifest(self, repository: str, name: str, data: bytes, media_type: str) -> str:
        """Pushes a manifest under a tag or its digest; returns its digest.

        Afterwards it is there: the registry's answer has the digest, or the registry was asked for it.
        """
        made = oci.digest(data)
        where, headers = _manifest(repository, name), {"Content-Type": media_type}

        def put() -> Answer | None:
            answer = self._ask("PUT", where, repository, *DONE, 404, *FIXED, body=data, headers=headers)
            return None if answer.status in (400, 404) and b"BLOB_UNKNOWN" in answer.data else answer

        answer = _soon(put)
        if answer is None:
            text = f"{self.address}/{repository} refuses {name}: it lacks a blob that this manifest names"
            raise RegistryError(text, hint=self._damaged)
        if answer.status >= 400:
            refusal = self._session.refusal("PUT", answer)
            with contextlib.suppress(FarmError):
                if answer.status in FIXED and self._holds(repository, name, made):
                    return made
            raise refusal
        said = answer.headers.get("Docker-Content-Digest", "")
        if not references.digest(said) and said != made:
            raise RegistryError(f"{self.address}/{repository}: {made} was pushed as {name}, but the registry says that"
                                f" it has {said}")
        sure = answer.status == 201 and said == made and self._session.own(answer.url)
        if not sure and not _soon(lambda: self._holds(repository, name, made) or None):
            raise self._lost(repository, name, answer)
        return made

    def tag(self, repository: str, digest: str, name: str) -> tuple[int, str]:
        """Points a tag at the manifest with a digest; returns the size in bytes and the media type of that."""
        data = self.pushed(repository, digest)
        where = f"{self.address}/{repository}@{digest}"
        if data is None:
            raise RegistryError(f"{where} is missing, so it cannot be tagged {name}")
        kind = oci.read(data, where).media_type
        self.put_manifest(repository, name, data, kind)
        return len(data), kind

    def content(self, repository: str, name: str) -> tuple[bytes, oci.Content] | None:
        """A manifest or index: its bytes, and what they say; None if the registry does not have it."""
        data = self.manifest(repository, name)
        sign = "@" if ":" in name else ":"
        return None if data is None else (data, oci.read(data, f"{self.address}/{repository}{sign}{name}"))

    def check_room(self, repository: str) -> None:
        """Raises NoSpace if the registry has no room for an upload: it begins one, and cancels it.

        Other errors are ignored.
        """
        with contextlib.suppress(Unreachable, RegistryError):
            self._cancel(repository, self._begin(repository, once=True))

    def tags(self, repository: str) -> list[str]:
        """All tags of a repository, sorted."""
        return self._session.list(f"{_root(repository)}/tags/list", "tags", Scope(repository, False), missing=True)

    def repositories(self, namespace: str) -> list[str]:
        """All repositories below a name, sorted. Raises RegistryError if the registry has no list, which is allowed."""
        found = self._session.list("/v2/_catalog", "repositories", Scope("", False))
        return [name for name in found if name.startswith(f"{namespace}/")]

    def has_blob(self, repository: str, digest: str) -> bool:
        found = self._ask("HEAD", _blob(repository, digest), repository, 200, 404).status == 200
        if found:
            self._holders.setdefault(digest, repository)
        return found

    def blob(self, repository: str, digest: str, size: int | None = None) -> Iterator[bytes]:
        """The bytes of a blob, piece by piece; at most `size` of them, if that is known.

        Raises HashMismatch at the end if they do not match the digest, BrokenOff if the connection breaks off, NoBlob
        if it is not there.
        """
        answer = self._ask("GET", _blob(repository, digest), repository, 200, 404, whole=False)
        if answer.status == 404:
            raise NoBlob(self._session.refusal("GET", answer).message)
        where, made, count = f"{self.address}/{repository}@{digest}", hashlib.sha256(), 0
        for piece in answer.pieces():
            made.update(piece)
            count += len(piece)
            if size is not None and count > size:
                raise HashMismatch(f"{where} has more than its {size} bytes", hint=self._damaged)
            yield piece
        if f"sha256:{made.hexdigest()}" != digest:
            packed = f", in the Content-Encoding {answer.packed}" if answer.packed else ""
            raise HashMismatch(f"{where} arrived as sha256:{made.hexdigest()}{packed}", hint=self._damaged)

    def whole(self, read: Callable[[], Found]) -> Found:
        """The result of `read`, which reads a blob; read again if that breaks off. (What gets no answer at all is asked
        for again in any case.)"""
        for pause in self._pauses[:BREAKS]:
            try:
                return read()
            except BrokenOff:
                time.sleep(pause)  # no event says that the way is free again
        return read()

    def _save(self, repository: str, blob: oci.Descriptor, file: IO[bytes]) -> None:
        file.seek(0)
        file.truncate()
        for piece in self.blob(repository, blob.digest, blob.size):
            file.write(piece)
        file.flush()

    def put_blob(self, repository: str, content: bytes | Path, digest: str) -> bool:
        """Pushes a blob; False if it was there already. If the connection drops, or the registry no longer knows the
        upload (it was restarted, or is several that share nothing), the upload starts again."""
        if self.has_blob(repository, digest):
            return False
        kind = {"Content-Type": "application/octet-stream"}
        waited = 0.0
        for pause in (*self._pauses, None):
            location = self._begin(repository)
            target = location + ("&" if urlsplit(location).query else "?") + urlencode({"digest": digest})
            failure, wait = FarmError(""), pause
            try:
                answer = self._ask("PUT", target, repository, *DONE, 404, *PASSING, body=content, headers=kind,
                                   once=True)
                if answer.status in DONE:
                    break
                failure = self._session.refusal("PUT", answer)
                if not isinstance(failure, Unreachable) and b"BLOB_UPLOAD_UNKNOWN" not in answer.data:
                    raise failure
                wait = None if pause is None else max(pause, asked(answer))
            except Unreachable as error:
                failure = error
            if wait is None or waited + wait > LONGEST:
                raise Unreachable(f"a blob of {repository} cannot be pushed to {self.address}: {failure.message}",
                                  hint=failure.hint or "check the registry's log") from failure
            waited += wait
            time.sleep(wait)
        said = answer.headers.get("Docker-Content-Digest")
        sure = answer.status == 201 and said == digest and self._session.own(answer.url)
        if not sure and not _soon(lambda: self.has_blob(repository, digest) or None):
            raise self._lost(repository, digest, answer)
        self._holders.setdefault(digest, repository)
        return True

    def mount_blob(self, repository: str, digest: str) -> bool:
        """Takes a blob from another repository of this registry that is known to have it, so that it need not be sent;
        False if there is none, or if the registry does not do that."""
        source = self._holders.get(digest, repository)
        if source == repository:
            return False
        path = f"{_root(repository)}/blobs/uploads/?{urlencode({'mount': digest, 'from': source})}"
        scope = Scope(repository, True, source)
        with contextlib.suppress(Unreachable, RegistryError):  # a push tells what is wrong
            answer = self._session.request("POST", path, scope, (201, 202), once=True, headers={"Content-Length": "0"})
            if answer.status == 201:
                return self.has_blob(repository, digest)
            self._cancel(repository, self._session.leads(answer, answer.url))  # it has begun an upload instead
        return False

    def delete_manifest(self, repository: str, digest: str) -> bool:
        """Removes a manifest from a repository, with every tag that names it there; False if it was not there."""
        refuse(f"the digest {digest!r}", references.digest(digest))
        answer = self._ask("DELETE", _manifest(repository, digest), repository, 200, 202, 204, 404, 405)
        if answer.status == 405:
            raise RegistryError(f"{self.address} does not allow deleting manifests",
                                hint="allow it in its configuration (storage.delete.enabled)")
        return answer.status != 404

    def copy(self, repository: str, digest: str, other: Registry, name: str, tags: list[str], depth: int = 0) -> None:
        """Copies a manifest or index, with everything that it names, to another registry: by digest, tags last."""
        where = f"{self.address}/{repository}@{digest}"
        data = self.manifest(repository, digest)
        if data is None:
            raise RegistryError(f"{where} is missing, so it cannot be copied")
        if depth > DEPTH:
            raise RegistryError(f"{where} is nested {depth} indexes deep, more than {DEPTH}: it is not copied")
        content = oci.read(data, where)
        for child in dict.fromkeys(child.digest for child in content.manifests):
            self.copy(repository, child, other, name, [], depth + 1)
        for blob in content.blobs:
            self._holders.setdefault(blob.digest, repository)
            if not (other.has_blob(name, blob.digest) or other.mount_blob(name, blob.digest)):
                with tempfile.NamedTemporaryFile() as file:
                    self.whole(functools.partial(self._save, repository, blob, file))
                    other.put_blob(name, Path(file.name), blob.digest)
        for target in [digest, *tags]:
            other.put_manifest(name, target, data, content.media_type)

    def _begin(self, repository: str, *, once: bool = False) -> str:
        """Begins an upload; returns the URL to continue at."""
        path = f"{_root(repository)}/blobs/uploads/"
        answer = self._ask("POST", path, repository, 202, headers={"Content-Length": "0"}, once=once)
        return self._session.leads(answer, answer.url)

    def _cancel(self, repository: str, location: str) -> None:
        self._ask("DELETE", location, repository, 200, 202, 204, once=True)

    def _holds(self, repository: str, name: str, digest: str) -> bool:
        found = self.digest(repository, name)
        return found is not None and found[0] == digest

    def _ask(self, method: str, path: str, repository: str, *good: int, whole: bool = True, once: bool = False,
             body: bytes | Path | None = None, headers: dict[str, str] | None = None) -> Answer:
        scope = Scope(repository, self._writes or method not in ("GET", "HEAD"))
        return self._session.request(method, path, scope, good, whole=whole, once=once, body=body, headers=headers)

    def _lost(self, repository: str, name: str, answer: Answer) -> RegistryError:
        text = f"{self.address}/{repository} answers HTTP {answer.status} to the push of {name}, but does not have it"
        return RegistryError(text, hint="is that address the registry itself, not a proxy or a page in front of it?")


def _soon(look: Callable[[], Found | None]) -> Found | None:
    """The result of `look`; None if it stays None for a while."""
    for pause in SOON:
        found = look()
        if found is not None:
            return found
        time.sleep(pause)  # no event says when a push becomes visible
    return look()


def _root(repository: str) -> str:
    refuse(f"the repository {repository!r}", references.repository(repository))
    return f"/v2/{quote(repository)}"


def _manifest(repository: str, name: str) -> str:
    refuse(f"{name!r} in {repository}", references.reference(name))
    return f"{_root(repository)}/manifests/{quote(name, safe=':')}"


def _blob(repository: str, digest: str) -> str:
    refuse(f"the digest {digest!r}", references.digest(digest))
    return f"{_root(repository)}/blobs/{quote(digest, safe=':')}"
