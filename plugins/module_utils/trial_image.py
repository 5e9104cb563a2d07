# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Brings an image from a registry to a Docker Engine or Podman, its layers unpacked: not every engine reads zstd. I/O.

The engine's own settings stay as they are: it need neither know the registry nor trust it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from .errors import FarmError, HashMismatch, Unreachable
from .fetching import pieces

CHUNK = 1 << 20
PAUSES = (1, 2, 4, 8)  # seconds between attempts at a blob: the registry may be restarted
DAMAGED = "the registry's data is damaged: playbooks/check.yml says what is"


def load(engine: Any, image: Mapping[str, Any], access: Mapping[str, str], folder: str,
         unpack: Callable[[IO[bytes]], IO[bytes]], *, known: bool) -> str:
    """Returns the image's id in the engine.

    `engine` is a client of the docker SDK; `image` has `url` (the registry's), `repository`, `config` and `layers`,
    each with digest, size and mediaType. `folder` is where the archive is made; `unpack` reads zstd. If layers that the
    engine has are `known`, they are not brought again: Docker does not read these.

    Raises HashMismatch, Unreachable, FarmError.
    """
    path = os.path.join(folder, "image.tar")
    config = io.BytesIO()
    _fetch(image, image["config"], access, config)
    there = _there(engine, json.loads(config.getvalue())["rootfs"]["diff_ids"]) if known else 0
    try:
        with open(path, "wb+") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                _fill(archive, image, access, folder, unpack, config, there)
            file.seek(0)
            (found,) = engine.images.load(file)
    except ValueError as error:
        raise FarmError(f"the engine did not load an image of {image['repository']}") from error
    finally:
        if os.path.exists(path):
            os.unlink(path)
    return str(found.id)


def _there(engine: Any, layers: list[str]) -> int:
    """How many layers, from the first on, an image of the engine has too."""
    most = 0
    for found in engine.images.list(all=True):
        count = 0
        for own, other in zip(layers, found.attrs["RootFS"].get("Layers") or ()):
            if own != other:
                break
            count += 1
        most = max(most, count)
    return most


def _fill(archive: tarfile.TarFile, image: Mapping[str, Any], access: Mapping[str, str], folder: str,
          unpack: Callable[[IO[bytes]], IO[bytes]], config: IO[bytes], there: int) -> None:
    """Writes an archive as `docker save` makes it, see https://github.com/moby/docker-image-spec. The first layers that
    are `there` are empty files."""
    names = []
    for number, layer in enumerate(image["layers"]):
        if number < there:
            names.append(f"{number}.tar")
            _add(archive, names[-1], io.BytesIO())
            continue
        with open(os.path.join(folder, "layer"), "wb+") as packed:
            os.unlink(packed.name)
            _fetch(image, layer, access, packed)
            names.append(f"{number}.tar")
            with open(os.path.join(folder, "layer"), "wb+") as plain:
                os.unlink(plain.name)
                source = unpack(packed) if layer["mediaType"].endswith("+zstd") else packed
                for piece in iter(lambda read=source.read: read(CHUNK), b""):  # type: ignore[misc]
                    plain.write(piece)
                _add(archive, names[-1], plain)
    name = image["config"]["digest"].partition(":")[2] + ".json"
    _add(archive, name, config)
    said = json.dumps([{"Config": name, "RepoTags": None, "Layers": names}]).encode()
    _add(archive, "manifest.json", io.BytesIO(said))


def _fetch(image: Mapping[str, Any], blob: Mapping[str, Any], access: Mapping[str, str], into: IO[bytes]) -> None:
    for pause in (*PAUSES, None):
        try:
            _read(image, blob, access, into)
            return
        except Unreachable:
            if pause is None:
                raise
            into.seek(0)
            into.truncate()
            time.sleep(pause)  # no event says that the registry answers again


def _read(image: Mapping[str, Any], blob: Mapping[str, Any], access: Mapping[str, str], into: IO[bytes]) -> None:
    made, size = hashlib.sha256(), 0
    url = f"{image['url']}/v2/{image['repository']}/blobs/{blob['digest']}"
    for piece in pieces(url, blob["size"], access):
        made.update(piece)
        size += len(piece)
        if size > blob["size"]:
            raise HashMismatch(f"{url} has more than its {blob['size']} bytes", hint=DAMAGED)
        into.write(piece)
    if f"sha256:{made.hexdigest()}" != blob["digest"]:
        raise HashMismatch(f"{url} arrived as sha256:{made.hexdigest()}", hint=DAMAGED)
    into.seek(0)


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = file.seek(0, os.SEEK_END)
    file.seek(0)
    archive.addfile(entry, file)
