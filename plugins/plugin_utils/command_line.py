# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody gives with `-e` for one run, and what of it Ansible or the playbook would ignore. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils import setting_checks as checks

LOST = "_raw_params"  # here Ansible puts the words of an -e that are not NAME=VALUE
PLAYBOOKS = ("build", "check", "clean", "context", "licences", "lock", "move", "outdated", "provision", "remove",
             "status", "stop", "verify")
# variables that choose for one run -> the playbooks that use them
USED_BY: Mapping[str, tuple[str, ...]] = {
    "farm_images": ("build", "verify", "lock", "outdated", "licences"),
    "farm_platforms": ("build", "verify", "context"),
    "farm_select": ("build", "verify"),
    **dict.fromkeys(("farm_adopt", "farm_partial", "farm_publish", "farm_rebuild", "farm_tags", "farm_plan_json"),
                    ("build",)),
    "farm_lock_select": ("lock", "outdated", "licences"),
    **dict.fromkeys(("farm_snapshot", "farm_upgrade"), ("lock",)),
    **dict.fromkeys(("farm_repair", "farm_check_json"), ("check",)),
    **{f"farm_{name}_json": (name,) for name in ("status", "verify", "outdated", "licences")},
    **dict.fromkeys(("farm_from", "farm_from_ca", "farm_from_user", "farm_from_password", "farm_from_state"),
                    ("move",)),
    "image": ("remove", "context"), "to": ("context",), "build_platform": ("context",),
}
# those that do nothing for any tag: they run no roles, or only for what a task without a tag has found
OF_ONE: Mapping[str, Callable[[Any], str]] = {  # those that are no settings; see setting_checks.py
    "image": lambda value: checks.names(value) and "the name of an image, or for remove.yml a list of names",
    "to": lambda value: "" if isinstance(value, str) and value.isprintable() else "the path of a folder",
    "build_platform": checks.text,
}
UNTAGGED = ("check", "clean", "context", "licences", "lock", "outdated", "remove", "status", "stop", "verify")


def mistakes(extra: Mapping[Any, Any], known: Collection[str], playbooks: Iterable[str] = ()) -> list[str]:
    """What is wrong with the variables that `-e` gives these playbooks (paths); `known` are those of the farm."""
    found = [f"-e has {extra[LOST]!r}, which sets nothing: write a list without spaces, as in "
             "-e farm_images=registry,base, and a value with spaces in quotes of its own, as in "
             "-e \"name='a b'\""] if extra.get(LOST) else []
    found += [f"-e has the name {json.dumps(name, default=str)}, which is no text, so it sets nothing: put it in quotes"
              for name in extra if not isinstance(name, str)]
    names = {PurePath(path).stem for path in playbooks}
    found += [f"{name} (-e) is {json.dumps(extra[name], default=str)}, it must be {said}"
              for name, check in OF_ONE.items() if names & set(USED_BY[name]) and extra.get(name) not in (None, "")
              and (said := check(extra[name]))]
    return found + [f"{name} is not a variable of the farm: did you mean {_usual(name)}?"
                    for name in _texts(extra) if name not in known and _usual(name) in known]


def warnings(extra: Iterable[Any], known: Collection[str], playbooks: Iterable[str]) -> list[str]:
    """What is not used, by these playbooks (paths). Somebody's own playbook may use anything."""
    names = {PurePath(path).stem for path in playbooks}
    if not names or not names <= set(PLAYBOOKS):
        return []
    found = [f"{name} (-e) is not a variable of the farm: did you mean farm_{_usual(name)}?"
             for name in _texts(extra) if name not in known and name not in USED_BY and f"farm_{_usual(name)}" in known]
    return found + [f"{name} (-e) is not used here, but by {', '.join(f'{one}.yml' for one in USED_BY[name])}"
                    for name in _texts(extra) if name in USED_BY and not names & set(USED_BY[name])]


def left_out(tags: Collection[str], playbooks: Iterable[str]) -> list[str]:
    """What to say of the tags that were chosen if these playbooks (paths) do nothing for any tag."""
    names = {PurePath(path).stem for path in playbooks}
    if not names or not names <= set(UNTAGGED) or {"all", "untagged"} & set(tags):
        return []
    return [f"no task of {', '.join(f'{name}.yml' for name in sorted(names))} has a tag, so -t {','.join(tags)} leaves "
            "out all that it does"]


def _texts(extra: Iterable[Any]) -> list[str]:
    """The names in order, without those of YAML that are no text, such as `on`."""
    return sorted(name for name in extra if isinstance(name, str))


def _usual(name: str) -> str:
    """A name as the farm writes names: `FARM-Images` -> `farm_images`."""
    return name.lower().replace("-", "_")
