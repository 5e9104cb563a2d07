"""A solve as words that a person types: `docker buildx build`, whose names for the same things differ from buildctl's."""

from __future__ import annotations

from collections.abc import Mapping

from .solve import MAIN, Solve, csv


def buildx_can(solve: Solve) -> bool:
    """Whether no context comes for two platforms: buildx has no names for these."""
    names = [name.partition("::")[0] for name in solve.options if name.startswith("context:")]
    return len(names) == len(set(names))


def buildx_words(solve: Solve, folders: Mapping[str, str], metadata: str) -> list[str]:
    """The arguments of `docker buildx` for a solve of one platform (buildx knows no contexts that differ by platform).

    The network is off for RUN; there is no source policy in it, so that a missing context would be looked for on the internet.
    """
    (platform,) = solve.platforms
    words = ["build", f"--platform={platform}", "--network=none", "--provenance=false", f"--metadata-file={metadata}"]
    words.append(f"--file={folders[solve.options['dockerfilekey']]}/Dockerfile")
    for name, value in sorted(solve.options.items()):
        kind, _, rest = name.partition(":")
        if kind == "build-arg":
            words.append(f"--build-arg={rest}={value}")
        elif kind == "label":
            words.append(f"--label={rest}={value}")
        elif kind == "target":
            words.append(f"--target={value}")
        elif kind == "context":
            place = value.removeprefix("local:")
            words.append(f"--build-context={rest.partition('::')[0]}={folders.get(place, value)}")
    words.append("--output=" + ",".join(csv(f"{name}={value}") for name, value in solve.output.items()))
    return [*words, folders[MAIN]]
