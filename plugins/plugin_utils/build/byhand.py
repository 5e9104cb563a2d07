# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A solve as a command line of `docker buildx build`, whose options differ from buildctl's."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.desimages.farm.plugins.plugin_utils.build.solve import IMAGE, MAIN, Solve, csv


def doubled(solve: Solve) -> dict[str, dict[str, str]]:
    """The contexts that exist for several platforms: name -> platform -> image. buildx allows one context of a name."""
    found: dict[str, dict[str, str]] = {}
    for name, value in solve.options.items():
        kind, _colon, rest = name.partition(":")
        context, _colons, platform = rest.partition("::")
        if kind == "context":
            found.setdefault(context, {})[platform] = value.removeprefix(IMAGE)
    return {context: images for context, images in found.items() if len(images) > 1}


def buildx_words(solve: Solve, folders: Mapping[str, str], metadata: str, indexes: Mapping[str, str]) -> list[str]:
    """The arguments of `docker buildx` for a solve of one platform; `indexes` has one image for each name in `doubled`.

    The network is off for RUN. There is no source policy, so buildx would look for a missing context on the internet.
    """
    (platform,) = solve.platforms
    words = ["build", f"--platform={platform}", "--network=none", "--provenance=false", f"--metadata-file={metadata}"]
    words.append(f"--file={folders[solve.options['dockerfilekey']]}/Dockerfile")
    for name, value in sorted(solve.options.items()):
        kind, _colon, rest = name.partition(":")
        if kind == "build-arg":
            words.append(f"--build-arg={rest}={value}")
        elif kind == "label":
            words.append(f"--label={rest}={value}")
        elif kind == "target":
            words.append(f"--target={value}")
        elif kind == "context":
            context = rest.partition("::")[0]
            if context not in indexes:
                words.append(f"--build-context={context}={folders.get(value.removeprefix('local:'), value)}")
    words += [f"--build-context={context}={IMAGE}{image}" for context, image in sorted(indexes.items())]
    words.append("--output=" + ",".join(csv(f"{name}={value}") for name, value in solve.output.items()))
    return [*words, folders[MAIN]]
