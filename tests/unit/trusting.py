"""Keys and signatures for tests."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.desimages.farm.plugins.plugin_utils.pki import signing
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.known import Known
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust

from .faulty import Faulty, to


def trust(registry: Faulty | Registry, folder: Path, namespace: str = "desimages", key: str = "own",
          trusted: tuple[str, ...] = ()) -> Trust:
    """A controller with its state in `folder`, and a key of that name there, made if it is missing."""
    keys = signing.load(str(folder / key), "", trusted, check=False)
    return Trust(registry if isinstance(registry, Registry) else to(registry), namespace, keys, Known(str(folder)))
