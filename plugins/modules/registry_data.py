#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove damaged data files from the storage of a docker-registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_data
short_description: Remove damaged data files from a registry's storage
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Docker-registry never overwrites a data file. If its bytes do not match its digest, the file must be removed before
    the same content can be pushed again.
  - Reads the data files of the given digests, and removes the damaged ones. Also removes a link of the given tags, or
    of the digests in the given repositories, if the link is empty; a power cut can leave such a link. Touches nothing
    else, and follows no symbolic link. Stop the registry before this and start it afterwards, because it remembers
    which data it has.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode). Reads the files but removes none.
  diff_mode:
    support: full
    description: Returns the files that are removed.
  idempotent:
    support: full
    description: When run twice, the second run finds nothing damaged.
options:
  root:
    description: The folder that is C(rootdirectory) in the registry's configuration.
    type: path
    required: true
  digests:
    description: The digests to check, as V(sha256:) and 64 digits.
    type: list
    elements: str
    default: []
  tags:
    description: Tags, as C(repository:tag), whose manifests are checked as well.
    type: list
    elements: str
    default: []
  places:
    description: For each digest, the repositories whose links to it are checked.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Let a layer be pushed again
  desimages.farm.registry_data:
    root: /var/lib/desimages/registry
    digests: [sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c]
"""

RETURN = r"""
removed:
  description: The digests whose data files were damaged and were removed, or would be.
  type: list
  elements: str
  returned: success
  sample: [sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c]
missing:
  description: The digests without a data file.
  type: list
  elements: str
  returned: success
  sample: []
tags:
  description: The digest that each tag names; '' if there is no such tag.
  type: dict
  returned: success
  sample:
    desimages/base:latest: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
"""

import contextlib
import errno
import hashlib
import os
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError, system_error

ARGUMENTS = {
    "root": {"type": "path", "required": True},
    "digests": {"type": "list", "elements": "str", "default": []},
    "tags": {"type": "list", "elements": "str", "default": []},
    "places": {"type": "dict", "default": {}},
}
INSIDE = ("docker", "registry", "v2")  # distribution's own folders below its root directory
CHUNK = 1 << 20
LINK = 100  # bytes to read of a link file, which has a digest


@contextlib.contextmanager
def folder(path: str, parts: tuple):
    """A descriptor of a folder below a path. OSError if it is missing, or if a part of the way is a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def opened(name: str, where: int):
    """Opens a file of a folder. Raises FileNotFoundError, or FarmError for a link, a device or a FIFO."""
    refused = FarmError(f"{name} in the registry's storage is not a file",
                        hint="it was not touched: find out what it is, and remove it")
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=where)
    except OSError as error:
        raise (refused if error.errno in (errno.ELOOP, errno.ENXIO) else error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refused
    return os.fdopen(descriptor, "rb")


class Storage:
    """The storage of a docker-registry on a file system.

    https://distribution.github.io/distribution/storage-drivers/filesystem/
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def tag(self, name: str, remove: bool) -> tuple:
        """The digest that a tag names ('' if there is none), and whether its link is damaged.

        If a registry is killed, or loses power, while it writes a link, the link stays empty, and the registry answers
        500 to every request for the tag, for ever. `remove` removes the link, and the tag with it.
        """
        repository, _colon, tag = name.rpartition(":")
        return self._link(repository, ("_manifests", "tags", tag, "current"), remove)

    def broken(self, repository: str, digest: str, remove: bool) -> bool:
        """Whether a link of a repository to a blob or a manifest is damaged. `remove` removes such a link."""
        name = digest.partition(":")[2]
        ways = (("_layers", "sha256", name), ("_manifests", "revisions", "sha256", name))
        found = [self._link(repository, way, remove)[1] for way in ways]  # each: both may be damaged
        return any(found)

    def _link(self, repository: str, way: tuple, remove: bool) -> tuple:
        """The digest in a link file of a repository, and whether it is damaged."""
        try:
            with folder(self.root, (*INSIDE, "repositories", *repository.split("/"), *way)) as where:
                with opened("link", where) as file:
                    digest = file.read(LINK).decode(errors="replace").strip()
                if not references.digest(digest):
                    return digest, False
                if remove:
                    os.unlink("link", dir_fd=where)
                    os.fsync(where)
        except (FileNotFoundError, NotADirectoryError):
            return "", False
        return "", True

    def damaged(self, digest: str, remove: bool):
        """Whether the data of a digest is damaged; None if there is none. With `remove`, a damaged file is removed."""
        found = hashlib.sha256()
        try:
            with folder(self.root, self._folder(digest)) as where:
                with opened("data", where) as file:
                    for piece in iter(lambda: file.read(CHUNK), b""):
                        found.update(piece)
                wrong = f"sha256:{found.hexdigest()}" != digest
                if wrong and remove:
                    os.unlink("data", dir_fd=where)
                    os.fsync(where)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return wrong

    def _folder(self, digest: str) -> tuple:
        name = digest.partition(":")[2]
        return (*INSIDE, "blobs", "sha256", name[:2], name)

    def path(self, digest: str) -> str:
        return "/".join((self.root.rstrip("/"), *self._folder(digest), "data"))


def check(digests: list, tags: list, places: list) -> None:
    """Raises BadInput with every name that is not valid."""
    given = [(digest, references.digest) for digest in digests]
    for repository, digest in places:
        given += [(repository, references.repository), (digest, references.digest)]
    for tag in tags:
        given += [(tag.rpartition(":")[0], references.repository), (tag.rpartition(":")[2], references.tag)]
    if problems := [f"{name!r} must be {allowed}" for name, look in given if (allowed := look(name))]:
        raise BadInput(problems, what="registry_data")


def clean(storage: Storage, digests: list, tags: list, places: list, remove: bool) -> dict:
    """Removes damaged data of these digests and of those that the tags name, and damaged links in places (repository,
    digest)."""
    check(digests, tags, places)
    if not os.path.isdir(storage.root):
        raise FarmError(f"{storage.root} is not a folder",
                        hint="set farm_state of this host to the folder in which its registry runs")
    links = {tag: storage.tag(tag, remove) for tag in tags}
    named, broken = {tag: digest for tag, (digest, _broken) in links.items()}, [tag for tag in links if links[tag][1]]
    looked = dict.fromkeys([*places, *((tag.rpartition(":")[0], digest) for tag, digest in named.items() if digest)])
    broken += [f"{repository}@{digest}" for repository, digest in looked if storage.broken(repository, digest, remove)]
    wanted = sorted({*digests, *filter(None, named.values())})
    found = {digest: storage.damaged(digest, remove) for digest in wanted}
    removed = [digest for digest, wrong in found.items() if wrong]
    files = "".join(f"{path}\n" for path in (*map(storage.path, removed), *(f"the link of {name}" for name in broken)))
    missing = [digest for digest, wrong in found.items() if wrong is None]
    diff = {"before": files, "after": ""}
    return {"changed": bool(removed or broken), "removed": removed, "missing": missing, "tags": named, "diff": diff}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    try:
        places = [(str(name), str(digest)) for digest, names in given["places"].items() for name in names]
        result = clean(Storage(given["root"]), given["digests"], given["tags"], places, not module.check_mode)
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
