# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a run's build: what became of its units, and the manifest lists that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.build import report
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Built, Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.link import SOCKET, Link
from ansible_collections.desimages.farm.plugins.plugin_utils.build.lists import Lists
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import Outcome, State

GRACE = 60.0  # seconds in which the broker must end


def built(run: Run, planned: Planned, lost: Mapping[str, str], say: Callable[[str], None]) -> Built:
    """What the build step left. The first call ends the broker; the run may ask again."""
    if not planned.todo:
        return Built()
    if (run.folder / SOCKET).exists():
        _end_broker(run, say)
    elif not run.has(Built):
        return report.unbuilt(planned, lost)
    return run.load(Built)


def _end_broker(run: Run, say: Callable[[str], None]) -> None:
    """From here on nothing is tagged; what the broker still had to say is said."""
    try:
        link = Link(run.folder)
        try:
            answer = link.ask({"finish": True}, GRACE)
            for line in answer["lines"]:
                say(line)
        finally:
            link.close()
    except FarmError:
        if not run.has(Built):  # it ended before it knew what became of the units
            raise
        return
    if "unsaved" in answer:
        raise FarmError(f"what became of the units could not be written down: {answer['unsaved']}")


def outcomes(planned: Planned, done: Built) -> dict[Key, Outcome]:
    """Of the units that existed and of those that were built."""
    return {**{key: Outcome(State.EXISTS, digest) for key, digest in planned.existing.items()}, **done.outcomes}


def lists(arguments: Mapping[str, Any], registry: Registry, planned: Planned, done: Built, *, check: bool) -> Lists:
    """The manifest lists of a run, from the arguments of an action: `namespace`, `tags`, `partial`, `publish`, and
    which images are `held`."""
    return Lists(registry, planned, outcomes(planned, done), {**planned.sizes, **done.sizes},
                 namespace=arguments["namespace"], tags=arguments["tags"], partial=arguments["partial"],
                 publish=arguments["publish"], check=check, read=done.sizes, held=arguments.get("held") or {})
