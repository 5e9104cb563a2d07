# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 4 of a run: makes the manifest lists of finished units, moves image tags last; then the run's summary."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.proc import age
from ansible_collections.desimages.farm.plugins.modules.index import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.build import ending, report
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run, scratch
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Built, Planned, Share
from ansible_collections.desimages.farm.plugins.plugin_utils.holder import release
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import GOOD


class ActionModule(FarmAction):
    """See plugins/modules/index.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        run = Run.of(scratch() if self.check else arguments["state"], controller())
        planned = run.load(Planned)
        lost = {name: why for name, why in arguments["nodes"].items() if why}
        built = Built() if self.check else ending.built(run, planned, lost, self.say)
        outcomes = ending.outcomes(planned, built)
        lists = ending.lists(arguments, self.registry(arguments), planned, built, check=self.check)
        unbuilt = lists.unbuilt if self.check else []
        if not self.check or lists.registry.answers():  # the plan step has reported it if not
            lists.finish()
        for name, why in lost.items():
            self.warn(f"{name} takes no part in this run: {why}")
        relocked = planned.relocked
        if self.check:
            lines = report.pushed(lists.moved, lists.published, "Would be tagged", "Would be published")
            lines += [f"Would be tagged once they are built: {', '.join(unbuilt)}"] if unbuilt else []
        else:
            run.show("summary", {**report.summary(planned.plan, outcomes, lists.moved, lists.published, built.by),
                                 "nodes": {**{name: asdict(Share(out=why)) for name, why in lost.items()},
                                           **{name: asdict(share) for name, share in built.nodes.items()}},
                                 "held": dict(arguments["held"]),
                                 "relocked": {image: overlay.as_dict() for image, overlay in relocked.items()},
                                 "differs": {str(key): {"kept": kept, "came": came}
                                             for key, (kept, came) in built.differs.items()}})
            release(arguments["state"], controller())
            lines = [*report.units(outcomes), *report.own_platform(planned.plan, outcomes),
                     *report.rebuilt(planned.again, outcomes, built.differs),
                     *report.pushed(lists.moved, lists.published), *report.left_out(planned.plan, outcomes),
                     *(f"RELOCKED: {overlay.words(image)}" for image, overlay in relocked.items()),
                     *report.nodes(built, lost), *report.times(run, age(controller()))]
        for line in lines:
            self.say(line)
        for name, share in built.nodes.items():
            if share.out and name not in lost:
                self.warn(f"{name} was lost: {share.out}")
        result: dict[str, Any] = {"changed": bool(lists.moved or lists.published or unbuilt), "moved": lists.moved,
                                  "published": lists.published}
        if not self.check:
            result["units"] = [{"unit": str(key), "state": outcome.state.value, "digest": outcome.digest}
                               for key, outcome in built.outcomes.items()]
        if self.diff:
            result["diff"] = [part for changes in lists.changes.values() for change in changes for part in change.diff]
        bad = {key: outcome for key, outcome in outcomes.items() if outcome.state not in GOOD}
        if bad or lists.problems:
            said = [*([report.verdict(bad, run)] if bad else []), *lists.problems.values(), built.error]
            result.update(failed=True, msg="\n".join(filter(None, said)))
        return result
