"""How long it takes to check the contract of one small service on the platform of this machine.

    python tests/bench/verify.py [--image kept] [--runs 3]

`kept` is the smallest service of the tests; any other name is an image of the catalog. The farm of the benches builds
it if it does not have it. The first run also starts the engine and brings the image's layers. The aim is 8 seconds for
the contract itself: reading the files, and all runs of the image.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from common import PROJECT, STATE, Farm, load, table

# isort: split
sys.path.insert(0, str(PROJECT))
from ansible_collections.desimages.farm.plugins.module_utils.platforms import KERNEL

from tests.integration import bad_images

AIM = 8.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="kept")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    platform = str(KERNEL[os.uname().machine])
    folder = Path(f"{STATE}-work/verify")
    if not folder.exists():
        bad_images.image(folder / "images/kept", bad_images.Bad("kept"), platform)
    farm = Farm(variables={"farm_images": [arguments.image], "farm_platforms": [platform],
                           "farm_catalog": [str(PROJECT / "images"), str(folder / "images")]})
    farm.provision()
    print(f"{arguments.image} {platform}: built, or found, in {farm.play('build.yml')}", flush=True)
    verdict = folder / "verdict.json"
    rows, slowest = [], 0.0
    for number in range(arguments.runs + 1):
        whole = farm.play("playbooks/verify.yml", farm_verify_json=str(verdict)).seconds
        found, = json.loads(verdict.read_text())["images"]
        facts = found["facts"]
        took = facts["read"] + facts["seconds"]
        slowest = max(slowest, took) if number else 0.0
        rows.append([number if number else "first", f"{took:.1f} s", f"{facts['read']:.1f} s",
                     f"{facts['seconds']:.1f} s", f"{facts['healthy']:.1f} s", f"{facts['stops']:.1f} s",
                     f"{whole:.1f} s"])
    print(table(["run", "contract", "files", "runs", "until healthy", "until stopped", "whole playbook"], rows))
    print(f"the slowest after the first: {slowest:.1f} s; the aim is {AIM:.0f} s; {load()}")
    sys.exit(slowest > AIM)


if __name__ == "__main__":
    main()
