"""Step 4 of a run: manifest lists over finished units, image tags last; then the run's summary, and its verdict."""

from __future__ import annotations

from functools import partial
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import oci
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.plan import LEFT_OUT, Key, Plan
from ansible_collections.desimages.farm.plugins.module_utils.schedule import GOOD, Outcome, State
from ansible_collections.desimages.farm.plugins.modules.index import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils import indexes, report, tags
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import MANIFEST, Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.relock import Overlay
from ansible_collections.desimages.farm.plugins.plugin_utils.run import Run, release, scratch


class ActionModule(FarmAction):
    """See plugins/modules/index.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        run = Run(scratch() if self.check else arguments["state"], arguments["run"])
        planned = run.load("plan")
        plan: Plan = planned["plan"]
        outcomes: dict[Key, Outcome] = run.load("build")["outcomes"] if run.has("build") else {}
        outcomes = {**{key: Outcome(State.EXISTS, digest) for key, digest in planned["existing"].items()}, **outcomes}
        registry = Registry(arguments["registry"])
        if self.check and not registry.answers():  # the plan step has said so
            return {"changed": False, "moved": [], "published": []}
        changes: list[indexes.Change] = []
        published: list[str] = []
        problems: list[str] = []  # one image's do not keep the others from their tags, nor the run from its verdict
        for image in dict.fromkeys(key.image for key in planned["wanted"] if plan.recipes[key.image].index):
            try:
                found = self._changes(registry, plan, image, outcomes, planned, arguments)
                changes += found
                published += self._publish(registry, found, arguments)
            except FarmError as error:
                problems.append(f"{image}: {error}")
        moved = [f"{change.repository}:{tag}" for change in changes for tag in change.moved]
        relocked: dict[str, Overlay] = planned["relocked"]
        if self.check:
            lines = report.pushed(moved, published, "Would be tagged", "Would be published")
        else:
            run.show("summary", {**report.summary(outcomes, moved, published), "relocked": {image: overlay.as_dict() for image, overlay in relocked.items()}})
            release(arguments["state"], controller())
            lines = [*report.units(outcomes), *report.pushed(moved, published), *report.left_out(plan, outcomes),
                     *(f"RELOCKED: {overlay.words(image)}" for image, overlay in relocked.items()), *report.times(run)]
        for line in lines:
            self.say(line)
        result: dict[str, Any] = {"changed": bool(moved or published), "moved": moved, "published": published}
        if self.diff:
            result["diff"] = [part for change in changes for part in change.diff]
        bad = {key: outcome for key, outcome in outcomes.items() if outcome.state not in GOOD}
        if bad or problems:
            result.update(failed=True, msg="\n".join([*([report.verdict(bad, run)] if bad else []), *problems]))
        return result

    def _changes(self, registry: Registry, plan: Plan, image: str, outcomes: dict[Key, Outcome], planned: dict[str, Any],
                 arguments: dict[str, Any]) -> list[indexes.Change]:
        """Compares and pushes one image's index, or the tags of single platforms where only some were chosen."""
        recipe, repository = plan.recipes[image], f"{arguments['namespace']}/{image}"
        keys = [Key(image, "", platform) for platform in recipe.platforms]
        wanted_keys = [key for key in keys if key in planned["wanted"]] if planned["chosen"] else keys
        there = [key for key in wanted_keys if key in outcomes and outcomes[key].state in GOOD]
        if not there:
            return []
        unit = plan.units[there[0]]
        names = partial(tags.render, arguments["tags"], suite=recipe.suites[0], epoch=unit.epoch)
        found: list[indexes.Change] = []
        if len(there) == len(keys if not arguments["partial"] else wanted_keys):
            manifests = indexes.describe(registry, repository, {key.platform: outcomes[key].digest for key in there})
            annotations = {name: text for name, text in unit.labels.items() if name != LEFT_OUT}
            first = indexes.compare(registry, repository, manifests, annotations, [])
            wanted, fixed = names(digest=first.digest)
            found.append(indexes.compare(registry, repository, manifests, annotations, wanted, fixed))
            self._push(registry, found[-1], oci.INDEX)
        elif planned["chosen"] and not arguments["partial"]:
            for key in there:
                wanted, _ = names(digest=outcomes[key].digest, suffix=key.platform.slug)
                found.append(indexes.compare_single(registry, repository, outcomes[key].digest, wanted))
                self._push(registry, found[-1], MANIFEST)
        return found

    def _push(self, registry: Registry, change: indexes.Change, media_type: str) -> None:
        if not self.check:
            indexes.push(registry, change, media_type)

    def _publish(self, registry: Registry, changes: list[indexes.Change], arguments: dict[str, Any]) -> list[str]:
        """Copies finished images to another registry by digest, where it does not have them under their tags."""
        if not arguments["publish"]:
            return []
        address, _, prefix = arguments["publish"].partition("/")
        other, done = Registry(address), []
        for change in changes:
            image = change.repository.rpartition("/")[2]
            name = f"{prefix}/{image}" if prefix else image
            wanted = [tag for tag in change.tags if (other.digest(name, tag) or ("",))[0] != change.digest]
            if wanted and not self.check:
                registry.copy(change.repository, change.digest, other, name, wanted)
            done += [f"{address}/{name}:{tag}" for tag in wanted]
        return done
