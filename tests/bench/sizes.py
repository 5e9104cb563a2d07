"""Compressed sizes of every image on every platform, from the manifests in a registry, beside the targets and the
field's best.

    python tests/bench/sizes.py [--registry HOST:PORT] [--namespace NAME] [--tag TAG]

Without --registry the bench's farm is asked, and builds what it does not have yet.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from common import PLATFORMS, PROJECT, Farm, load, table

# isort: split
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

TARGETS = {"static": 1.5, "debian": 22, "base": 23, "registry": 18}  # MB, amd64
# MB; of a registry none is known
BEST = {"static": "distroless static 2", "debian": "debian slim 27 to 30", "base": "debian slim 27 to 30"}


def sizes(registry: Registry, repository: str, tag: str) -> dict[str, float]:
    """Platform -> MB of the layers and the configuration; empty where there is no such image."""
    data = registry.manifest(repository, tag)
    found = {}
    for child in json.loads(data)["manifests"] if data else []:
        manifest = json.loads(registry.manifest(repository, child["digest"]) or b"{}")
        platform = "/".join(child["platform"][key] for key in ("os", "architecture", "variant")
                            if child["platform"].get(key))
        found[platform] = sum(part["size"] for part in [manifest["config"], *manifest["layers"]]) / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", help="default: that of the bench's farm")
    parser.add_argument("--namespace", default="desimages")
    parser.add_argument("--tag", default="latest")
    parser.add_argument("--images", default="",
                        help="separated by commas; default: all of the catalog that the registry has")
    arguments = parser.parse_args()
    images = [name for name in arguments.images.split(",")
              if name] or [path.parent.name for path in sorted(Path(PROJECT / "images").glob("*/image.yml"))]
    address = arguments.registry
    if not address:
        farm = Farm(variables={"farm_images": images if arguments.images else []})
        address = farm.registry
        print(f"built, or found, {arguments.images or 'the usual images'}: {farm.play('build.yml')}")
    registry = Registry(address)
    rows = []
    for image in images:
        found = sizes(registry, f"{arguments.namespace}/{image}", arguments.tag)
        if found:
            rows.append([image, *(f"{found[platform]:.2f}" if platform in found else "-" for platform in PLATFORMS),
                         TARGETS.get(image, "-"), BEST.get(image, "-")])
    print(f"MB, compressed, of {address}/{arguments.namespace}/*:{arguments.tag}; {load()}")
    print(table(["image", *(platform.partition("/")[2] for platform in PLATFORMS), "to reach (amd64)",
                 "the field's best"], rows))


if __name__ == "__main__":
    main()
