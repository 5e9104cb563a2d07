# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages for people that came in place of a file: of a login, of a proxy, or of a site that answers to everything."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.module_utils.errors import CHANGED

HEAD = 4096  # bytes of a file that tell whether it is a page
HINT = ("something answers in place of the origin: a login, a proxy, or the origin for what it does not have. Open the "
        "address in a browser, or use another origin")
_PAGE = re.compile(rb"\A(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html)\b", re.I | re.S)
_TITLE = re.compile(rb"<title\b[^>]*>([^<]*)", re.I)
_NONE = re.compile(  # how the names of files end that are never pages; templates of pages have many endings
    r"\.(7z|apk|asc|bin|bz2|cer|crate|crt|deb|diff|exe|gpg|gz|img|iso|jar|json|key|md5|patch|pem|pom|pub|rpm|sh|sha\d+|"
    r"sha\d+sums?|sig|so|t[bgx]z2?|tar|toml|txt|war|whl|xz|ya?ml|zip|zst)\Z", re.I)
_PACKED = re.compile(r"\.(7z|apk|bz2|crate|deb|gz|iso|jar|rpm|t[bgx]z2?|tar|war|whl|xz|zip|zst)\Z", re.I)  # never empty


def told(head: bytes, hint: str = CHANGED) -> tuple[str, str]:
    """What to add to a message about content of another hash that begins with `head`, and the hint; ('', `hint`) if it
    is no page."""
    if not _PAGE.match(head):
        return "", hint
    title = _TITLE.search(head)
    said = " ".join(title[1].decode(errors="replace").split())[:100] if title else ""
    return f": it is a page{said and f', {said!r}'}", HINT


def head_of(path: str | Path) -> bytes:
    """The beginning of a file."""
    with open(path, "rb") as file:
        return file.read(HEAD)


def instead(url: str, path: str | Path) -> str:
    """What to say of a page in a file that came from an address which does not name one, or of nothing in place of an
    archive; '' if that is not so."""
    name, head = urlsplit(url).path, head_of(path)
    if not head and _PACKED.search(name):
        return ": it is empty"
    return told(head)[0] if _NONE.search(name) else ""
