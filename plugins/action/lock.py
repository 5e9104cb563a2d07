# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves the inputs of images and writes their locks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.modules.lock import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils import setting_checks
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.lock import versions
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.apart import apart
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.below import over, parents_first
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locker, alone, workplace
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.told import (
    choose,
    described,
    difference,
    failed,
    refuse_sealed,
    summary,
    warnings,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount


class ActionModule(FarmAction):
    """See plugins/modules/lock.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if allowed := setting_checks.time(arguments["snapshot"]):
            raise BadInput([f"farm_snapshot is {arguments['snapshot']!r}, it must be {allowed}"], what="the choice")
        catalog = load_catalog(arguments["catalog"], need_locks=False)
        upgrades = versions.chosen(catalog, arguments["upgrade"])
        named = arguments["images"] or sorted(upgrades)  # who moves a version means that image alone
        recipes = parents_first(catalog, choose(catalog, named, arguments["select"]))
        versions.refuse_unchosen(upgrades, recipes)
        if not self.check:
            refuse_sealed(recipes)
        locks = {name: recipe.lock for name, recipe in catalog.items()}
        with workplace(Path(arguments["state"]), self.check) as state, alone(state):
            locker = Locker(Origins(arguments["origins"]), state, snapshot=arguments["snapshot"],
                            keyring=arguments["keyring"],
                            allow_missing_suites=arguments["allow_missing_suites"], say=self.say)
            locker.prepare(recipes)
            images: list[dict[str, Any]] = []
            failures: dict[str, FarmError] = {}
            differences: list[dict[str, str]] = []
            for recipe in recipes:
                started = time.monotonic()
                try:
                    moved = versions.moved(locker, recipe, upgrades.get(recipe.name, ()))
                    locked = locker.lock(over(catalog, locks, moved.recipe))
                    if not self.check:
                        moved.write(locked)
                except FarmError as error:
                    failures[recipe.name] = error
                else:
                    locks[recipe.name] = locked.lock
                    images.append(described(recipe, locked, round(time.monotonic() - started, 1), moved.lines))
                    differences += [moved.difference] if moved.changed else []
        for text in (*warnings(images), *apart(catalog, locks, {recipe.name for recipe in recipes})):
            self.warn(text)
        result: dict[str, Any] = {"changed": any(image["changed"] for image in images), "images": images,
                                  "failures": [{"name": name, "msg": str(error)} for name, error in failures.items()],
                                  "summary": [summary(image) for image in images]}
        if self.diff:
            result["diff"] = [*differences, *({"prepared": difference(image)} for image in images if image["changed"])]
        if failures:
            result["failed"] = True
            kept = "it keeps its old lock" if len(failures) == 1 else "they keep their old locks"
            few = f"{len(failures)} of {amount(len(recipes), 'image')} could not be locked"
            result["msg"] = f"{few}; {kept}:\n{failed(failures)}"
        return result
