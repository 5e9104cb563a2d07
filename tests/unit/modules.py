"""Runs a module of the collection as a host does: parameters in, JSON out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args


def result(main: Callable[[], None], *, check: bool = False, **params: Any) -> dict[str, Any]:
    """What a module's `main` answers."""
    out = io.StringIO()
    with patch_module_args({**params, "_ansible_check_mode": check}), redirect_stdout(out), pytest.raises(SystemExit):
        main()
    return dict(json.loads(out.getvalue()))
