"""Runs a module of the collection as a host does: parameters in, JSON out."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
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


def run_command(words: list[str], **options: Any) -> tuple[int, str, str]:
    """As AnsibleModule.run_command."""
    found = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    return found.returncode, found.stdout, found.stderr


def module_of(folder: Path) -> SimpleNamespace:
    """What of an AnsibleModule the functions of state_folder use."""
    return SimpleNamespace(params={"path": str(folder)}, check_mode=False, run_command=run_command)
