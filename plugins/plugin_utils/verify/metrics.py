# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether metrics can be read by Prometheus. No I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import prometheus
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding

TYPE = re.compile(r"^# TYPE (\S+) ", re.M)


def added(facts: Mapping[str, str], promises: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is wrong with the metrics that a trial read, if it read some: an empty answer has no sample."""
    return findings(facts["metrics"], promises["metrics"], facts.get("by_hand", "")) if "metrics" in facts else []


def findings(text: str, url: str, asked: str = "") -> list[dict[str, str]]:
    """What is wrong with an answer in Prometheus' text format. `asked` is the command that asks for it."""
    by_hand = f"{asked or f'curl -s {url}'} | promtool check metrics"
    try:
        samples = [(sample.name, *sorted(sample.labels.items()), sample.timestamp)
                   for family in prometheus.text_string_to_metric_families(text) for sample in family.samples]
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:  # some of them without words
        said = str(error) or "a line lacks something"
        return [Finding("metrics", url, f"{url} cannot be parsed: {said}", by_hand).as_dict()]
    twice = [word for words in (TYPE.findall(text), samples) for word, count in Counter(words).items() if count > 1]
    said = "has no sample" if not samples else f"has {_name(twice[0])} twice" if twice else ""
    return [Finding("metrics", url, f"{url} {said}", by_hand).as_dict()] if said else []


def _name(one: Any) -> str:
    """A type, or a sample as it is written."""
    if isinstance(one, str):
        return f"the type of {one}"
    labels = ",".join(f'{name}="{value}"' for name, value in one[1:-1])
    return f"{one[0]}{{{labels}}}" if labels else str(one[0])
