# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The README of an image: what its recipe says, then the part that people write. No I/O."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from ansible_collections.desimages.farm.plugins.module_utils.trial_run import security
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Recipe

MARK = "<!-- Made from the recipe by `make readmes`, down to here. What follows is written by hand, and stays. -->"
PLACE = "127.0.0.1:5000/desimages"  # where the farm of one machine has its images
_LABEL = "org.opencontainers.image."


def readme(recipe: Recipe, before: str) -> str:
    """The README of an image. `before` is the one that it has: its own part stays."""
    parts = [f"# {recipe.name}", _about(recipe), "\n".join(_table(recipe))]
    if recipe.contract.service:
        parts += [f"```sh\n{run(recipe)}\n```", "As a compose file:", f"```yaml\n{compose(recipe)}```"]
    text = "\n\n".join([*parts, MARK]) + "\n"
    return f"{text}\n{mine}\n" if (mine := own(before)) else text


def own(before: str) -> str:
    """The part of a README that people wrote; of one that was not made here, all but its title."""
    _made, mark, rest = before.partition(MARK)
    return rest.strip() if mark else re.sub(r"\A# .*", "", before).strip()


def _about(recipe: Recipe) -> str:
    said = {key: recipe.labels.get(_LABEL + key, "") for key in ("description", "url", "licenses", "version")}
    home = f" ([home]({said['url']}))" if said["url"] else ""
    version = f" Version {said['version']}." if said["version"] else ""
    return f"{said['description'].rstrip('.')}{home}.{version} Licence: {said['licenses']}."


def _table(recipe: Recipe) -> Iterator[str]:
    promised = recipe.contract
    yield "| | |"
    yield "|---|---|"
    if recipe.targets:
        names = ", ".join(f"`{recipe.name}-{target}`" for target in recipe.targets)
        yield f"| for builds | {names}; they have no tag |"
    yield f"| platforms | {', '.join(map(str, recipe.platforms))} |"
    if recipe.inputs:
        kinds = sorted({KINDS[found.kind].key for found in recipe.inputs})
        yield f"| made of | {', '.join(f'`{kind}`' for kind in kinds)} inputs |"
    for name, port in promised.ports.items():
        yield f"| port {port} | {name} |"
    for folder in promised.volumes:
        yield f"| volume `{folder}` | what it keeps |"
    for folder in promised.tmpfs:
        yield f"| `{folder}` | needs a file system in memory |"
    for name, value in environment(recipe.dockerfile.text).items():
        yield f"| environment `{name}` | `{value}` unless set |"
    for name, value in promised.environment.items():
        yield f"| environment `{name}` | for example `{value}` |"
    if promised.health:
        how = ", ".join(f"{key} `{value}`" for key, value in promised.health.items())
        yield f"| health | {how} |"
    if promised.service:
        yield f"| metrics | {f'`{promised.metrics}`' if promised.metrics else 'none'} |"
    for check, subjects in promised.exceptions.items():
        yield f"| exception: {check} | {'; '.join(f'{one}: {why}' for one, why in subjects.items())} |"


def environment(dockerfile: str) -> dict[str, str]:
    """What the ENV of the last stage sets, but for PATH."""
    last = re.split(r"(?m)^FROM ", dockerfile.replace("\\\n", " "))[-1]
    pairs = [word.partition("=") for line in re.findall(r"(?m)^ENV (.*)$", last) for word in shlex.split(line)]
    return {name: value for name, _sign, value in pairs if name != "PATH"}


def _command(recipe: Recipe) -> list[str]:
    """The arguments that a run needs: none if the image has its own."""
    return [] if re.search(r"(?m)^CMD ", recipe.dockerfile.text) else list(recipe.contract.command)


def _volumes(recipe: Recipe) -> dict[str, str]:
    """volume -> folder"""
    return {recipe.name if number == 0 else f"{recipe.name}-{folder.strip('/').replace('/', '-')}": folder
            for number, folder in enumerate(recipe.contract.volumes)}


def _published(recipe: Recipe) -> list[str]:
    """The ports as Docker publishes them: metrics for this machine alone. What is found by multicast shares the network
    of the machine, as no other passes it on."""
    found: list[str] = []
    if recipe.contract.multicast:
        return found
    for name, port in recipe.contract.ports.items():
        number, _slash, protocol = port.partition("/")
        here = "127.0.0.1:" if name == "metrics" else ""
        found.append(f"{here}{number}:{number}" + ("" if protocol == "tcp" else f"/{protocol}"))
    return found


def _security(recipe: Recipe) -> list[str]:
    """What the image runs with of Docker's options of that name: it has only what its contract excepts."""
    return security(recipe.contract.exceptions.get("privileges", {}))


def run(recipe: Recipe) -> str:
    """A command that runs the image."""
    words = [" ".join([f"docker run --detach --name {recipe.name} --read-only --cap-drop ALL",
                       *(f"--security-opt {option}" for option in _security(recipe))])]
    capable = [f"--cap-add {name}" for name in sorted(recipe.contract.exceptions.get("capabilities", ()))]
    for options in (
        *(capable[start:start + 4] for start in range(0, len(capable), 4)),
        ["--network host"] if recipe.contract.multicast else [],
        [f"--publish {port}" for port in _published(recipe)],
        [f"--volume {volume}:{folder}" for volume, folder in _volumes(recipe).items()],
        [f"--tmpfs {folder}" for folder in recipe.contract.tmpfs],
        [f"--env {shlex.quote(f'{name}={value}')}" for name, value in recipe.contract.environment.items()],
        [f"{PLACE}/{recipe.name} {shlex.join(_command(recipe))}".strip()],
    ):
        words += [" ".join(options)] if options else []
    return " \\\n    ".join(words)


def compose(recipe: Recipe) -> str:
    """A compose file that does the same."""
    promised, volumes = recipe.contract, _volumes(recipe)
    service: dict[str, Any] = {
        "image": f"{PLACE}/{recipe.name}", "restart": "unless-stopped", "read_only": True, "cap_drop": ["ALL"],
        "cap_add": sorted(promised.exceptions.get("capabilities", ())),
        "security_opt": [option.replace("no-new-privileges", "no-new-privileges:true") for option in _security(recipe)],
        "network_mode": "host" if recipe.contract.multicast else "", "ports": _published(recipe),
        "volumes": [f"{volume}:{folder}" for volume, folder in volumes.items()], "tmpfs": list(promised.tmpfs),
        # a compose file fills variables in
        "environment": {name: value.replace("$", "$$") for name, value in promised.environment.items()},
        "command": [word.replace("$", "$$") for word in _command(recipe)],
    }
    whole: Mapping[str, Any] = {"services": {recipe.name: {key: value for key, value in service.items() if value}},
                                **({"volumes": {volume: {} for volume in volumes}} if volumes else {})}
    return yaml.safe_dump(whole, sort_keys=False, width=110)
