# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""The golden build: fixed inputs, fixed settings; the digest of what comes out is the engine id. No I/O.

What could differ between two engines is exercised: compressors, tar writers, file modes, links, times before and after
the epoch, JSON. Changing anything here changes the engine id, and with it every build id: everything is built again.
Give changed content another size or time, too: BuildKit keeps the files of a context, and knows them by these.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

EPOCH = 1_700_000_000
PLATFORM = "linux/amd64"  # nothing is run, so every node builds this one

OUTPUT = {  # of BuildKit's image and oci exporters: what decides the bytes of every image of the farm
    "compression": "zstd",
    "compression-level": "11",
    "force-compression": "true",
    "oci-mediatypes": "true",
    "rewrite-timestamp": "true",
}
# For engines that read no zstd, such as Docker 20.10. The digest of the golden build with these settings, by a BuildKit
# that has the expected engine id: `engine` refuses another one.
GZIP = {**OUTPUT, "compression": "gzip", "compression-level": "9"}
GZIP_ID = "sha256:83141c2f7b793e3b35891c59312ba7f0d9fe0a99bbf2e84f0337361319ab8721"
COMPRESSIONS = {"zstd": OUTPUT, "gzip": GZIP}  # by the name in a catalog's defaults.yml
# An image without an index is pulled by the farm alone. Level 11 takes four times as long there, for a ninth less.
WITHOUT_INDEX = {**OUTPUT, "compression-level": "3"}

DOCKERFILE = """\
FROM scratch AS parts
COPY --chmod=0755 tree/bin/program /opt/bin/program
ADD tree.tar /unpacked/

FROM scratch
COPY tree/ /
COPY --from=parts --chown=2000:2000 / /parts/
ADD --chmod=0640 tree/etc/words /etc/words.copy
ENV GOLDEN="one two"
LABEL org.opencontainers.image.title="golden"
USER 2000:2000
WORKDIR /parts
HEALTHCHECK --interval=10s CMD ["/opt/bin/program", "health"]
ENTRYPOINT ["/opt/bin/program"]
"""


@dataclass(frozen=True)
class Entry:
    """A file, a folder (no content, no target) or a symbolic link (target)."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    target: str = ""
    folder: bool = False
    mtime: int = EPOCH


def noise(size: int, seed: str) -> bytes:
    """Bytes that do not compress, the same everywhere."""
    blocks = (hashlib.sha256(f"{seed} {number}".encode()).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def words(count: int) -> bytes:
    """Text that compresses like text."""
    picks = noise(count, "words")
    vocabulary = [f"{first}{second}" for first in ("ba", "de", "ki", "lo", "mu")
                  for second in ("ran", "sel", "tim", "vor")]
    return "".join(vocabulary[pick % len(vocabulary)] + ("\n" if at % 11 == 10 else " ")
                   for at, pick in enumerate(picks)).encode()


def tree() -> Iterator[Entry]:
    """The context, in order. Some times are after the epoch (they are clamped), one is before it (it is kept)."""
    yield Entry("tree", folder=True, mode=0o755)
    yield Entry("tree/bin", folder=True, mode=0o755)
    yield Entry("tree/bin/program", noise(40_000, "program"), mode=0o755, mtime=EPOCH + 86_400)
    yield Entry("tree/bin/alias", target="program")
    yield Entry("tree/data", folder=True, mode=0o700)
    yield Entry("tree/data/zeros", bytes(200_000))
    yield Entry("tree/data/empty")
    yield Entry("tree/data/noise", noise(70_001, "noise"), mode=0o600, mtime=EPOCH - 86_400)
    yield Entry("tree/etc", folder=True, mode=0o755)
    yield Entry("tree/etc/words", words(30_000), mode=0o644)
    yield Entry("tree/etc/absolute", target="/etc/words")
    yield Entry("tree/tmp", folder=True, mode=0o1777)
    yield Entry("tree/" + "long-" * 30 + "name", b"more than a ustar header holds\n")


def archive() -> bytes:
    """tree.tar for ADD: uncompressed, so that no compressor of this machine takes part."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in tree():
            info = tarfile.TarInfo(entry.path)
            info.mtime, info.mode = entry.mtime, entry.mode
            if entry.folder:
                info.type = tarfile.DIRTYPE
            elif entry.target:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target, 0o777
            else:
                info.size = len(entry.content)
            tar.addfile(info, io.BytesIO(entry.content))
    return buffer.getvalue()


def context() -> Iterator[Entry]:
    """All that is laid out for the build, the Dockerfile included."""
    yield Entry("Dockerfile", DOCKERFILE.encode())
    yield Entry("tree.tar", archive())
    yield from tree()


def command(buildctl: str, address: str, folder: str, output: str, metadata: str,
            settings: Mapping[str, str]) -> list[str]:
    """`buildctl build`, with nothing pushed and nothing taken from the cache."""
    attributes = ",".join(["type=oci", f"dest={output}", *(f"{key}={value}" for key, value in settings.items())])
    return [
        *(buildctl, "--addr", address, "build", "--frontend", "dockerfile.v0", "--no-cache", "--progress", "plain"),
        *("--local", f"context={folder}", "--local", f"dockerfile={folder}"),
        *("--opt", f"platform={PLATFORM}", "--opt", f"build-arg:SOURCE_DATE_EPOCH={EPOCH}"),
        *("--output", attributes, "--metadata-file", metadata),
    ]
