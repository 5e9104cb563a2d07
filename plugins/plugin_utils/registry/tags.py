# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags of finished images, from templates such as `{suite}-{date}`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL

_DATED = re.compile(r"[-._]?\{(suite|date)\}")  # in a template, with what separates it from what is before


def render(templates: Sequence[str], *, suite: str, epoch: int, digest: str,
           suffix: str = "") -> tuple[list[str], list[str]]:
    """(all tags, those that never move: the ones with `{id}`). Tags such as `latest` come last, so that they move last.

    An image without a snapshot (`epoch` is 0) is of no suite and no date: `{suite}-{date}-{id}` is `{id}` for it, and
    `{suite}-{date}` is left out. `suffix` is for one platform's own tags: `latest-arm64`. Raises BadInput for a
    template that has unknown fields, or whose result is not a valid tag.
    """
    values = {"suite": suite, "date": datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y%m%d"),
              "id": digest.partition(":")[2][:8]}
    problems, found, fixed = [], [], []
    for template in templates:
        wanted = template if epoch else _DATED.sub("", template).lstrip("-._")
        if not wanted:
            continue
        try:
            tag = wanted.format(**values) + (f"-{suffix}" if suffix else "")
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
    return sorted(dict.fromkeys(found), key=lambda tag: tag not in fixed), list(dict.fromkeys(fixed))


def check(templates: Sequence[str], images: Mapping[str, tuple[str, int]]) -> None:
    """Raises BadInput for templates that do not give a valid tag for some image, or give it no tag (`images`: name ->
    its first suite, its epoch). No templates are good for all: a repair tags nothing."""
    longest = max((platform.slug for platform in ALL), key=len)
    problems: dict[str, None] = {}
    kinds = {(suite, min(epoch, 1)): name for name, (suite, epoch) in images.items()}
    for (suite, epoch), name in kinds.items():
        try:
            found, _fixed = render(templates, suite=suite, epoch=epoch, digest="sha256:00000000", suffix=longest)
        except BadInput as error:
            problems.update(dict.fromkeys(error.problems))
            continue
        if templates and not found:
            problems[f"farm_tags gives {name} no tag, because it has no Debian packages, and so no suite and no date: "
                     "add a tag such as latest or {id}"] = None
    if problems:
        raise BadInput(list(problems), what="the inventory")
