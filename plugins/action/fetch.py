"""Step 2 of a run: every input of the units that will be built, from the archive or its origin, checked, archived."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.modules.fetch import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.build import solve
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Fetched, Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import contexts
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.fetching import fetch_entries
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, File, Sources
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

SAY_EVERY = 5  # seconds between two lines about one image


class ActionModule(FarmAction):
    """See plugins/modules/fetch.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self.check:
            return {"changed": False, "refused": []}
        began = time.monotonic()
        run = Run.of(arguments["state"], controller())
        planned = run.load(Planned)
        fetch = Fetch(planned.plan, planned.sources, planned.build, arguments, self.say)
        refused: dict[Key, str] = {}
        images: dict[str, list[Key]] = {}
        for key in planned.todo:
            images.setdefault(key.image, []).append(key)
        for image, keys in images.items():
            refused.update(fetch.image(image, keys))
        fetch.keep()
        run.save(Fetched(refused, fetch.unpacked, fetch.trees, time.monotonic() - began))
        return {"changed": fetch.changed, "refused": [{"unit": str(key), "error": error} for key, error in refused.items()]}


class Fetch:
    """Fetches image by image; `unpacked`, `trees` (all files of each unit) and `changed` grow with each."""

    def __init__(self, plan: Plan, sources: dict[str, Sources], build: Any, arguments: dict[str, Any], say: Any) -> None:
        self.plan, self.sources, self.build, self.say = plan, sources, build, say
        self.store = Store(f"{arguments['state']}/store", tell=say)
        origins = Origins(arguments["origins"])
        self.desk = Desk(origins, Path(arguments["state"]), self.store, Client(origins.here))
        self.archive = Archive(Registry(arguments["registry"]), arguments["namespace"], self.store)
        self.unpacked: dict[str, dict[str, str]] = {}
        self.trees: dict[Key, dict[str, File]] = {}
        self.changed = False

    def image(self, image: str, keys: list[Key]) -> dict[Key, str]:
        """Everything that the given units of one image need; returns those that cannot have it, and why."""
        recipe, sources = self.plan.recipes[image], self.sources[image]
        contexts.keep(recipe, sources, self.store)
        units = [self.plan.units[key] for key in keys]
        wanted = {unit.key: self.plan.entries(unit, self.build) for unit in units}
        errors = self._get(image, recipe.lock.snapshot, {entry for entries in wanted.values() for entry in entries})
        refused = {key: "\n".join(sorted({str(errors[entry]) for entry in entries if errors[entry]}))
                   for key, entries in wanted.items() if any(errors[entry] for entry in entries)}
        whole = [unit for unit in units if unit.key not in refused]
        for name in {name for unit in whole for name in unit.unpacked}:
            entries = recipe.lock.of(name, str(self.build))
            self.unpacked.setdefault(image, {})[name] = self.archive.unpacked(f"{image} {name}", entries, self.build, recipe.lock.epoch)
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

        found = fetch_entries([(entry, snapshot) for entry in lacking], self.desk, progress) if lacking else {}
        self.changed = self.changed or bool(lacking)
        return {entry: found.get(entry) for entry in ordered}

    def _files(self, key: Key) -> dict[str, File]:
        """All files that a unit is made of, by a path in its artifact."""
        unit, sources = self.plan.units[key], self.sources[key.image]
        tree = {f"context/{path}": File(sha, size, mode) for path, (mode, sha, size) in sources.files.items()}
        tree["Dockerfile"] = solve.dockerfile(self.plan.recipes[key.image])
        for context, names, platform in (("inputs", unit.inputs, key.platform), ("build-inputs", unit.build_inputs, self.build)):
            tree.update({f"{context}/{path}": file for path, file in solve.inputs_tree(self.plan, unit, names, platform, sources).items()})
        return tree
