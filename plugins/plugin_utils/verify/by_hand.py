# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that show a person what was read of an image. No I/O.

A container is created for them, as `docker cp` reads no images; it need not start, so any platform's does. The `-` is
the command that it would run, as not every image has one.
"""

from __future__ import annotations

import shlex

from ansible_collections.desimages.farm.plugins.plugin_utils.registry.oci import Descriptor
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding

COPY = "/tmp/seen"  # where a program is copied to
SHOWN_BY = {  # check -> what shows it of the file in COPY
    "platform": "readelf -hlW", "pie": "readelf -hW", "relro": "readelf -lW", "bind-now": "readelf -dW",
    "canary": "readelf -sW", "fortify": "readelf -sW", "stack": "readelf -lW", "rpath": "readelf -dW",
}


def of(finding: Finding, reference: str) -> str:
    """For a finding in the configuration or in the files of the image that is called `reference`."""
    if not finding.subject.startswith("/") or finding.check in ("labels", "config"):
        look = f"docker pull -q {reference} && docker image inspect {reference}"
        made = finding.check == "secret" and not finding.subject.startswith("ENV ")
        return f"{look} && docker history --no-trunc {reference}" if made else look
    file = f'"$(docker create {reference} -)":{shlex.quote(finding.subject)}'
    if finding.check in SHOWN_BY:
        return f"docker cp {file} {COPY} && {SHOWN_BY[finding.check]} {COPY}"
    if finding.check in ("secret", "root"):
        return f"docker cp {file} - | tar -xO"
    return f"docker cp {file} - | tar --xattrs -tvv | head -n 3"  # three lines: file capabilities are on the second


def below(finding: Finding, layers: str, layer: Descriptor) -> str:
    """For a finding in a layer, which a later one hides. `layers` is the URL of a repository's blobs."""
    unpack = "zstd -dc" if layer.media_type.endswith("+zstd") else "gzip -dc" if "gzip" in layer.media_type else "cat"
    return f"curl -sL {layers}/{layer.digest} | {unpack} | tar -xO {shlex.quote(finding.subject[1:])}"
