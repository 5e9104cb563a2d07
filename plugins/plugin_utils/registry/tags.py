# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags of finished images, from templates such as `{suite}-{date}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL


def render(templates: Sequence[str], *, suite: str, epoch: int, digest: str,
           suffix: str = "") -> tuple[list[str], list[str]]:
    """(all tags, those that never move: the ones with `{id}`). Tags such as `latest` come last, so that they move last.

    `suffix` is for one platform's own tags: `latest-arm64`. Raises BadInput for a template that has unknown fields, or
    whose result is not a valid tag.
    """
    values = {"suite": suite, "date": datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y%m%d"),
              "id": digest.partition(":")[2][:8]}
    problems, found, fixed = [], [], []
    for template in templates:
        try:
            tag = template.format(**values) + (f"-{suffix}" if suffix else "")
        except (KeyError, ValueError, IndexError):
            problems.append(f"farm_tags: {template!r} has an unknown field; allowed: {', '.join(sorted(values))}")
            continue
        if allowed := references.tag(tag):
            problems.append(f"farm_tags: {template!r} gives {tag!r}, it must be {allowed}")
        found.append(tag)
        if "{id}" in template:
            fixed.append(tag)
    if problems:
        raise BadInput(problems, what="the inventory")
    return sorted(found, key=lambda tag: tag not in fixed), fixed


def check(templates: Sequence[str], suites: Mapping[str, str]) -> None:
    """Raises BadInput for templates that do not give a valid tag for some image (`suites`: name -> its first suite)."""
    longest = max((platform.slug for platform in ALL), key=len)
    problems: dict[str, None] = {}
    for suite in dict.fromkeys(suites.values()):
        try:
            render(templates, suite=suite, epoch=0, digest="sha256:00000000", suffix=longest)
        except BadInput as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise BadInput(list(problems), what="the inventory")
