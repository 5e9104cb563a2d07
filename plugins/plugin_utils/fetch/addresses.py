# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a file may be fetched from: which URLs are valid, where a redirect may lead, how `file:` URLs are opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from ansible_collections.desimages.farm.plugins.module_utils.errors import CHANGED, HashMismatch, Missing, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.references import loopback
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import redact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import CHUNK


def refuse_nowhere(url: str, whence: str = "") -> None:
    """Raises Unreachable for a URL that nothing can be fetched from."""
    try:
        parts = urlsplit(url)
        good = parts.scheme == "file" if not whence and url.startswith("file:") else (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        good = False
    if not good:
        words = f"{redact(whence)} redirects to" if whence else "nothing can be fetched from"
        shown = redact(url).partition("?")[0]  # what follows may be a signature
        raise Unreachable(f"{words} {shown!r}, which is not an HTTP address", url=redact(whence or url),
                          hint="correct the address, or use another origin")


def led(url: str, place: str) -> str:
    """Where a redirect leads. Raises Unreachable if that is not a valid address, or if it leaves TLS: then anyone on
    the way could replace a file that no lock names yet."""
    try:
        to = urljoin(url, place)
    except ValueError:
        to = place
    refuse_nowhere(to, url)
    if url.startswith("https:") and to.startswith("http:") and not loopback(urlsplit(to).netloc.rpartition("@")[2]):
        where = redact(to).partition("?")[0]
        raise Unreachable(f"{redact(url)} redirects to {where}, which is not TLS: the farm does not follow that",
                          url=redact(url), hint="use an address that stays in TLS, or another origin")
    return to


def opened(url: str) -> int:
    """A descriptor of the file of a `file:` URL. Links are followed, as a mirror on a disk may have some; a pipe is
    refused, as it may never end.

    Raises Missing, or Unreachable if it is not a file or cannot be opened.
    """
    try:
        found = os.open(unquote(urlsplit(url).path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Missing(f"{url}: file not found", url=url) from error
    except (OSError, ValueError) as error:  # ValueError for a NUL
        raise Unreachable(f"{url}: {getattr(error, 'strerror', None) or error}", url=url) from error
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise Unreachable(f"{url}: not a file", url=url)
    return found


def copy(url: str, path: Path, size: int | None) -> None:
    """Copies the file of a `file:` URL, which has `size` bytes, if that is known. Raises as `opened`, or HashMismatch.
    """
    with open(opened(url), "rb") as reader:
        found = os.fstat(reader.fileno()).st_size
        if size is not None and found != size:
            raise HashMismatch(f"{url} has {found} bytes, the lock says {size}", url=url, hint=CHANGED)
        with open(path, "wb") as writer:
            while chunk := reader.read(CHUNK):
                writer.write(chunk)
