# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kinds of programs whose code is in the image's own folder share. No I/O."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence

from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Read
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import WRAPPERS


def mistakes(name: str, files: Collection[str], wanted: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the folder `./name` of a program. `files` are those of the image's main context; `wanted` are
    the files that it must have, with what to do if it does not."""
    folder = posixpath.normpath(name)
    if folder == WRAPPERS:
        yield f"{name} is for the wrappers of `make lock`; rename the folder"
    elif not any(folder == "." or file.startswith(f"{folder}/") for file in files):
        yield f"{name} is not a folder beside image.yml, or the context leaves it out"
    else:
        for file, remedy in wanted.items():
            if posixpath.normpath(f"{folder}/{file}") not in files:
                yield f"{name} has no {file}; {remedy}"


def hash_of(read: Read, folder: str, names: Sequence[str]) -> str:
    """A short hash over some files of a folder; a missing file counts as empty."""
    texts = [f"{name}\0{read(f'{folder}/{name}') or ''}\0" for name in names]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
