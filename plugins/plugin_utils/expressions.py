# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people choose with a jmespath expression. No I/O."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import jmespath


def chosen(expression: str, things: list[dict[str, Any]], key: str) -> set[str]:
    """The `key` of each of the things that a jmespath expression chooses. Raises ValueError, which says why it chooses
    none."""
    try:
        found = jmespath.search(expression, things)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except jmespath.exceptions.JMESPathError as error:  # the lines after the first one draw where it is
        raise ValueError(str(error).partition("\n")[0].removesuffix(":")) from None
    except (TypeError, KeyError, AttributeError, ArithmeticError) as error:  # such as `ceil` of infinity
        raise ValueError(f"jmespath cannot evaluate it ({error})") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) and isinstance(one.get(key), str) for one in found):
        given = {dict: "a mapping", list: "a list of something else", str: "a text", bool: "true or false",
                 int: "a number", float: "a number", type(None): "nothing"}[type(found)]
        raise ValueError(f"it gives {given}, not a list of these")
    return {one[key] for one in found}
