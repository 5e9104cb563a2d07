"""Runs a module of the collection as a host does: parameters in, JSON out."""

from __future__ import annotations

import copy
import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args


def result(main: Callable[[], None], *, check: bool = False, **params: Any) -> dict[str, Any]:
    """What a module's `main` answers."""
    out = io.StringIO()
    module = sys.modules[main.__module__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ARGUMENTS", copy.deepcopy(module.ARGUMENTS))  # AnsibleModule writes into its defaults
        asked = patch_module_args({**params, "_ansible_check_mode": check})
        with asked, redirect_stdout(out), pytest.raises(SystemExit):
            main()
    return dict(json.loads(out.getvalue()))
