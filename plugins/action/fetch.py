"""Step 2 of a run: every input of the units that will be built, from the archive or its origin, checked, archived."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import solve
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.lockfile import Entry
from ansible_collections.desimages.farm.plugins.module_utils.plan import Key, Plan, Sources
from ansible_collections.desimages.farm.plugins.modules.fetch import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils import contexts
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.download import Client, fetch_entries
from ansible_collections.desimages.farm.plugins.plugin_utils.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.run import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.store import Store

SAY_EVERY = 5  # seconds between two lines about one image


class ActionModule(FarmAction):
    """See plugins/modules/fetch.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self.check:
            return {"changed": False, "refused": []}
        began = time.monotonic()
        run = Run(arguments["state"], arguments["run"])
        planned = run.load("plan")
        fetch = Fetch(planned["plan"], planned["sources"], planned["build"], arguments, self.say)
        refused: dict[Key, str] = {}
        images: dict[str, list[Key]] = {}
        for key in planned["todo"]:
            images.setdefault(key.image, []).append(key)
        for image, keys in images.items():
            refused.update(fetch.image(image, keys))
        fetch.keep()
        run.save("fetch", {"refused": refused, "unpacked": fetch.unpacked, "trees": fetch.trees, "seconds": time.monotonic() - began})
        return {"changed": fetch.changed, "refused": [{"unit": str(key), "error": error} for key, error in refused.items()]}


class Fetch:
    """Fetches image by image; `unpacked`, `trees` (all files of each unit) and `changed` grow with each."""

    def __init__(self, plan: Plan, sources: dict[str, Sources], build: Any, arguments: dict[str, Any], say: Any) -> None:
        self.plan, self.sources, self.build, self.say = plan, sources, build, say
        self.state = Path(arguments["state"])
        self.store = Store(self.state / "store")
        self.origins = Origins(arguments["origins"])
        self.client = Client(self.origins.here)
        self.archive = Archive(Registry(arguments["registry"]), arguments["namespace"], self.store)
        self.unpacked: dict[tuple[str, str], str] = {}
        self.trees: dict[Key, dict[str, solve.File]] = {}
        self.changed = False

    def image(self, image: str, keys: list[Key]) -> dict[Key, str]:
        """Everything that the given units of one image need; returns those that cannot have it, and why."""
        recipe, sources = self.plan.recipes[image], self.sources[image]
        contexts.keep(recipe, sources, self.store)
        units = [self.plan.units[key] for key in keys]
        wanted = {unit.key: solve.entries(self.plan, unit, self.build) for unit in units}
        errors = self._get(image, recipe.lock.snapshot, {entry for entries in wanted.values() for entry in entries})
        refused = {key: "\n".join(sorted({str(errors[entry]) for entry in entries if errors[entry]}))
                   for key, entries in wanted.items() if any(errors[entry] for entry in entries)}
        whole = [unit for unit in units if unit.key not in refused]
        for name in {name for unit in whole for name in unit.unpacked}:
            entries = recipe.lock.of(name, str(self.build))
            self.unpacked[(image, name)] = self.archive.unpacked(f"{image} {name}", entries, self.build, recipe.lock.epoch)
        self.trees.update({unit.key: self._files(unit.key) for unit in whole})
        for key, error in refused.items():
            self.say(f"{key}: cannot be built: {error}")
        return refused

    def keep(self) -> None:
        """Archives all that was fetched. Which unit it belongs to is archived when that unit is there."""
        self.changed = bool(self.archive.keep(file for tree in self.trees.values() for file in tree.values())) or self.changed

    def _get(self, image: str, snapshot: str, entries: set[Entry]) -> dict[Entry, FarmError | None]:
        """The entries into the store; for each what stood in the way, or None."""
        ordered = sorted(entries, key=lambda entry: entry.key)
        lacking = self.archive.recall(ordered)
        said = time.monotonic()

        def progress(done: int, total: int, size: int) -> None:
            nonlocal said
            if done == total or time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                self.say(f"{image}: fetched {done} of {total} files, {size / 1e6:.0f} MB")

        found = fetch_entries([(entry, snapshot) for entry in lacking], self.origins, self.store, scratch=self.state / "cache" / "go",
                              progress=progress, client=self.client) if lacking else {}
        self.changed = self.changed or bool(lacking)
        return {entry: found.get(entry) for entry in ordered}

    def _files(self, key: Key) -> dict[str, solve.File]:
        """All files that a unit is made of, by a path in its artifact."""
        unit, sources = self.plan.units[key], self.sources[key.image]
        tree = {f"context/{path}": solve.File(sha, size, mode) for path, (mode, sha, size) in sources.files.items()}
        tree.update(solve.definition(self.plan.recipes[key.image], sources))
        for context, names, platform in (("inputs", unit.inputs, key.platform), ("build-inputs", unit.build_inputs, self.build)):
            tree.update({f"{context}/{path}": file for path, file in solve.inputs_tree(self.plan, unit, names, platform, sources).items()})
        return tree
