# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a run, in words for people and in JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Built, Fetched, Planned, Share
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import LEFT_OUT, Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import GOOD, Outcome, State
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

SHOWN = 10  # failures that the verdict explains
OFFLINE = re.compile(  # apt, curl and git, npm, Go, Python
    r"Temporary failure (in name resolution|resolving)|Could not resolve|EAI_AGAIN|dial (tcp|udp)"
    r"|Network is unreachable|Name or service not known", re.I)
NOT_THERE = re.compile(r'failed to calculate checksum of ref \S+ (?="[^"]*": not found)')


def summary(plan: Plan, outcomes: dict[Key, Outcome], moved: list[str], published: list[str],
            by: Mapping[Key, str]) -> dict[str, Any]:
    """The run in JSON. `by` says which node built a unit."""
    states = {str(key): {"state": o.state.value, "digest": o.digest, "error": o.error, "node": by.get(key, "")}
              for key, o in outcomes.items()}
    return {"units": states, "left_out": lacking(plan, outcomes), "moved": moved, "published": published}


def units(outcomes: dict[Key, Outcome]) -> list[str]:
    """How many units are in each state."""
    counts = {state: sum(outcome.state == state for outcome in outcomes.values()) for state in State}
    return ["Units: " + ", ".join(f"{number} {state.value}" for state, number in counts.items() if number)]


def unsigned(tags: Mapping[Key, str]) -> list[str]:
    """A warning for units whose tags are not believed; [] if there are none."""
    if not tags:
        return []
    names = [str(key) for key in tags]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{amount(len(names), 'unit', 'is', 'are')} in the registry without a signature that this farm accepts, "
            f"and will be built again: {', '.join(names[:SHOWN])}{more}. If they are your own (older than the farm's "
            "signing key, or signed with a key that was lost), sign them as they are: run once with "
            "-e farm_adopt=true (docs/security.md)"]


def adopted(tags: Mapping[str, str], *, check: bool) -> list[str]:
    """What a person had signed without a check (`repository:tag` -> digest)."""
    return [f"Adopted: {'would sign' if check else 'signed'} {amount(len(tags), 'tag')} without a check",
            *(f"  {name} {digest}" for name, digest in sorted(tags.items()))]


def own_platform(plan: Plan, outcomes: Mapping[Key, Outcome]) -> list[str]:
    """Which of the units that were built ran code of their own platform, and why; [] if nothing was built."""
    built = [key for key, outcome in outcomes.items() if outcome.state == State.BUILT]
    found: dict[str, list[str]] = {}
    for key in built:
        recipe = plan.recipes[key.image]
        if plan.units[key].runs != recipe.build_platforms:
            views = recipe.views(key.target)[key.platform].values()
            lines = sorted({line for view in views for line in view.running})
            where = ", ".join(f"{recipe.folder}/Dockerfile:{line}" for line in lines)
            found.setdefault(f"a stage with RUN is not FROM --platform=$BUILDPLATFORM ({where})", []).append(str(key))
    if not built:
        return []
    count = sum(map(len, found.values()))
    return [f"Not cross-built: {count or 'none'} of {amount(len(built), 'built unit')}",
            *(f"  {', '.join(names)}: {why}" for why, names in found.items())]


def rebuilt(again: set[Key], outcomes: dict[Key, Outcome], differs: dict[Key, tuple[str, str]]) -> list[str]:
    """How units compare that existed before, or that another run built meanwhile."""
    same = [key for key in again if outcomes[key].state == State.BUILT and key not in differs]
    found = [f"Built again: {len(same)} of {len(again)} with the same digests as before"] if again else []
    return found + [f"NOT REPRODUCIBLE: {key} was built as {came} this time; {kept} is kept"
                    for key, (kept, came) in sorted(differs.items())]


def pushed(moved: list[str], published: list[str], tagged: str = "Tagged", copied: str = "Published") -> list[str]:
    """The tags that moved, here and in the other registry."""
    return [f"{word}: {', '.join(names)}" for word, names in ((tagged, moved), (copied, published)) if names]


def lacking(plan: Plan, outcomes: dict[Key, Outcome]) -> dict[str, list[str]]:
    """Unit -> the suites that it lacks, or has only in the state of a time (`trixie@20260912T075541Z`); only units that
    exist."""
    return {str(key): plan.units[key].labels[LEFT_OUT].split() for key, outcome in outcomes.items()
            if outcome.state in GOOD and LEFT_OUT in plan.units[key].labels}


def left_out(plan: Plan, outcomes: dict[Key, Outcome]) -> list[str]:
    """Which units may lack security updates, and since when."""
    found: dict[str, list[str]] = {}
    for unit, suites in lacking(plan, outcomes).items():
        found.setdefault(" ".join(suites), []).append(unit)
    return [f"NOT UP TO DATE, security updates may be missing: {', '.join(names)}: when the lock was made, the mirror "
            f"could not serve completely: {suites}"
            for suites, names in found.items()]


def times(run: Run, whole: float) -> list[str]:
    """How long a run that built took, `whole` seconds in all: until the plan (waiting for another run, provisioning),
    fetching, building, and each image from the start of its first batch to the end of its last."""
    if not run.has(Built):
        return []
    spans: dict[str, tuple[float, float]] = {}
    for batch in run.load(Built).timings:
        began, ended = spans.get(batch["image"], (batch["began"], batch["ended"]))
        spans[batch["image"]] = min(began, batch["began"]), max(ended, batch["ended"])
    if not spans:
        return []
    build = max(ended for _began, ended in spans.values()) - min(began for began, _ended in spans.values())
    parts = ", ".join(f"{image} {clock(ended - began)}" for image, (began, ended) in spans.items())
    before, fetch = run.load(Planned).before, run.load(Fetched).seconds
    return [f"Time: {clock(whole)}: until the plan {clock(before)}, fetch {clock(fetch)}, build {clock(build)}, of "
            f"that {parts}"]


def unbuilt(planned: Planned, lost: Mapping[str, str]) -> Built:
    """What is left of a run that had no node to build on: those of it are lost (name -> why), or it had none."""
    why = "no node could build: " + "; ".join(f"{name}: {reason}" for name, reason in lost.items())
    if not lost:
        why = "no host of this run is a node, so nothing could be built: change --limit"
    return Built({key: Outcome(State.LEFT, error=why) for key in planned.todo}, error=why)


def nodes(built: Built, lost: Mapping[str, str]) -> list[str]:
    """A table of what each node did, if there are several, and which were lost at the start (name -> why)."""
    shares = {**{name: Share(out=why) for name, why in lost.items()}, **built.nodes}
    if not lost and len(shares) < 2:
        return []
    from ansible_collections.desimages.farm.plugins.filter.table import table

    return table([
        {"node": name, "units": share.units, "solves": clock(share.seconds), "native": share.units - share.emulated,
         "emulated": share.emulated, "failed": share.failures, "": f"lost: {share.out}" if share.out else ""}
        for name, share in shares.items()])


def clock(seconds: float) -> str:
    """75.2 -> `1:15`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def step(state: dict[str, Any]) -> str:
    """How far a solve is, from its job's state: `step 3 of 21, 0:37, [build 1/2] RUN go build ...`, without mounts."""
    name = " ".join(word for word in state.get("running", "").split() if not word.startswith("--mount="))
    far = f"step {state.get('done', 0)} of {state['steps']}, {clock(state['elapsed'])}"
    return far + (f", {name[:100]}" if name else "")


def advice(state: dict[str, Any]) -> str:
    """What to do about a step that failed by itself, from its job's state; '' if nobody but its author knows."""
    if any(OFFLINE.search(line) for line in state.get("tail", [])):
        return "build steps have no network: make what the step downloads an input in image.yml"
    if NOT_THERE.search(state.get("error") or ""):
        return ("look where COPY or ADD takes it from: the stage or image after --from, or the image's folder without "
                "what an ignore file names")
    return ""


def failure(error: str, hint: str, state: dict[str, Any], log: Path) -> str:
    """Why a solve failed, from its job's state: the step, its last lines, where the whole log is, what to do."""
    text = NOT_THERE.sub("", error)
    text += f"\n  step: {state['failed_step']}" if state.get("failed_step") else ""
    # the last one is `error` once more
    lines = [line for line in state.get("tail", []) if not line.startswith("error: failed to solve: ")]
    tail = "\n".join(f"  | {line}" for line in lines[-8:])
    return (text + (f"\n{tail}" if tail else "") + f"\n  whole log: {log}"
            + (f"\n  what to do: {hint}" if hint else ""))


def verdict(bad: dict[Key, Outcome], run: Run) -> str:
    """Which units are missing, and why. Units that only lost a parent are named without a reason."""
    own = [f"{key}: {outcome.error}" for key, outcome in bad.items()
           if outcome.state not in (State.PARENT_FAILED, State.LEFT)]
    text = f"{amount(len(bad), 'unit', 'is', 'are')} missing.\n" + "\n".join(own[:SHOWN])
    if len(own) > SHOWN:
        text += f"\nand {len(own) - SHOWN} more: see summary.json"
    for state in (State.PARENT_FAILED, State.LEFT):
        if lost := [str(key) for key, outcome in bad.items() if outcome.state == state]:
            text += f"\n{state.value}: {', '.join(lost)}"
    return f"{text}\nEvidence: {run.folder}"
