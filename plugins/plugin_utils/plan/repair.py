# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done about damage in the farm's registry, according to the plan of the current tree. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.damage import GONE, Damage
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import OWN, SIGNED

ELSEWHERE = "it is not on a registry host of the farm: ask the owner of that registry to remove it, then repair again"
UNVERIFIED = "this controller never verified it: build again, or sign what the registry has (docs/security.md)"
Unpacked = tuple[str, str, Platform]  # an input whose packages are unpacked: image, name, build platform
OTHER = ("this tree does not make it: check out the commit that made it and repair again, or remove the image "
         "(remove.yml)")


@dataclass
class Work:
    """What to do: archived blobs to push again (digest -> units that have them), artifacts and unpacked inputs to make
    again, units to build again, images whose index to make again, signatures (of a
    repository's tag) to make again; and what is `left`, and why."""

    blobs: dict[str, list[Key]] = field(default_factory=dict)
    artifacts: list[Key] = field(default_factory=list)
    unpacked: list[Unpacked] = field(default_factory=list)
    units: list[Key] = field(default_factory=list)
    indexes: dict[str, list[Damage]] = field(default_factory=dict)
    signatures: list[tuple[str, str]] = field(default_factory=list)
    left: list[tuple[Damage, str]] = field(default_factory=list)


def work(damages: Iterable[Damage], plan: Plan, build: Platform, archive: str, unpacked: Mapping[str, Unpacked],
         *, own: bool, signed: Mapping[str, tuple[str, str]] | None = None) -> Work:
    """Sorts damage by how to repair it.

    `build` is the platform of a node that can build; `archive` is the archive's repository; `unpacked` maps its tags to
    unpacked inputs; `own` says that damaged data was removed, so that the same content can be pushed again;
    `signed` maps tags of signatures to what they sign (repository, tag), as far as this controller verified it.
    """
    ids = {unit.id: key for key, unit in plan.units.items()}
    found = Work()
    for damage in damages:
        tags = [tag for tag in damage.tags if tag.rpartition(":")[0] in damage.places]
        keys, inputs = _keys(tags, ids, archive), _inputs(tags, unpacked, archive)
        signatures = [name for _place, name in _split(tags) if SIGNED.match(name)]
        if signatures and damage.kind == "manifest":
            _signatures(found, damage, signatures, signed or {})
        elif damage.problem != GONE and not own:
            found.left.append((damage, ELSEWHERE))
        elif archive in damage.places:
            _archived(found, damage, keys.archived, inputs)
        elif keys.built:
            found.units += [key for key in _first(keys.built, plan, build) if key not in found.units]
        elif image := _image(damage, plan):
            found.indexes.setdefault(image, []).append(damage)
        else:
            found.left.append((damage, OTHER))
    return found


def _archived(found: Work, damage: Damage, keys: list[Key], inputs: list[Unpacked]) -> None:
    if inputs:
        found.unpacked += [one for one in inputs if one not in found.unpacked]
    if keys and damage.kind == "manifest":
        found.artifacts += [key for key in keys if key not in found.artifacts]
    if damage.kind == "blob" and not inputs:
        found.blobs[damage.digest] = keys  # if empty, no unit of this tree has it, but the store may
    elif not keys and not inputs:
        found.left.append((damage, OTHER))


def _signatures(found: Work, damage: Damage, names: list[str], signed: Mapping[str, tuple[str, str]]) -> None:
    """They are made again, with another digest, so it does not matter what the registry keeps of the old ones."""
    found.signatures += [signed[name] for name in names if name in signed]
    if not all(name in signed for name in names):
        found.left.append((damage, UNVERIFIED))


@dataclass(frozen=True)
class _Keys:
    archived: list[Key]
    built: list[Key]


def _keys(tags: Iterable[str], ids: Mapping[str, Key], archive: str) -> _Keys:
    """The units of this tree whose artifact or image these tags name."""
    found = _Keys([], [])
    for repository, name in _split(tags):
        tag = OWN.match(name)
        if tag and tag[2] in ids and (tag[1] == "a") == (repository == archive):
            (found.archived if tag[1] == "a" else found.built).append(ids[tag[2]])
    return found


def _inputs(tags: Iterable[str], unpacked: Mapping[str, Unpacked], archive: str) -> list[Unpacked]:
    return [unpacked[name] for repository, name in _split(tags) if repository == archive and name in unpacked]


def _split(tags: Iterable[str]) -> list[tuple[str, str]]:
    return [(repository, name) for repository, _colon, name in (tag.rpartition(":") for tag in tags)]


def _first(keys: list[Key], plan: Plan, build: Platform) -> list[Key]:
    """Of units that share a layer, one for each image that made it: an image has the layers of its parents too."""
    found: dict[str, Key] = {}
    for key in (key for key in plan.units if key in keys):
        if not any(parent in keys for parent in plan.parents(plan.units[key], build)):
            found.setdefault(key.image, key)
    return list(found.values())


def _image(damage: Damage, plan: Plan) -> str:
    """The image whose index a damaged manifest may be; '' if it is not one of this tree."""
    names = {place.rpartition("/")[2] for place in damage.places if damage.kind == "manifest"}
    return next((name for name in sorted(names) if name in plan.recipes and plan.recipes[name].index), "")
