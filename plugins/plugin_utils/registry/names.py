# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the farm names what it keeps in a registry. Pure."""

from __future__ import annotations

import hashlib
import re

ARCHIVE = "archive"  # the repository, in each namespace
# a unit's artifact, the unit by its build id and by its content id
OWN = re.compile(r"([abc])-([0-9a-f]{64})\Z")
BELIEVED = re.compile(r"([bcu])-([0-9a-f]{64})\Z")  # tags that decide what is built, so that each has a signature
SIGNED = re.compile(r"s-[0-9a-f]{64}\Z")  # a signature, in the archive
NOTHING = "sha256:" + hashlib.sha256(b"{}").hexdigest()  # the content of the empty descriptor


def signature_tag(repository: str, tag: str) -> str:
    """The tag of the signature in the archive."""
    return "s-" + hashlib.sha256(f"{repository}:{tag}".encode()).hexdigest()
