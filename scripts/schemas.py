"""Writes docs/*.schema.json, for editors, from the schemas that the farm checks recipes with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "collections"))

from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import schema  # noqa: E402

for name, made in schema.FILES.items():
    (PROJECT / "docs" / name).write_text(json.dumps(made(), indent=2) + "\n", encoding="utf-8")
