#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run an image as its contract promises, and report the promises that it breaks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: contract
short_description: Run an image as its contract promises, and report the promises that it breaks
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Brings one image of the farm's registry to a Docker Engine or Podman on this host, by digest and with its layers
    unpacked. Runs it with a read-only root, without capabilities, new privileges and a network, and checks what its
    recipe promises. docs/contract.md describes each check.
  - Afterwards, removes the containers and volumes that it made in the engine, and the image unless O(keep) is set. The
    engine's own settings stay as they are.
  - Some checks run programs of the image's platform. If neither this host nor an emulator can run these, nothing is
    run, and RV(ran_by) says so.
  - Tries one image at a time, even if two controllers share this host.
requirements:
  - docker (the Python SDK), 5.0.3 or later
  - zstandard
attributes:
  check_mode:
    support: full
    description: In check mode nothing is run.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It leaves no change behind.
options:
  state_dir:
    description: The farm's state folder, which is made if it is missing. While the image is tried, its unpacked files
      are in C(tester) in this folder.
    type: path
    required: true
  socket:
    description: The engine's unix socket.
    type: path
    required: true
  unit:
    description: The name of the unit, for messages.
    type: str
    required: true
  reference:
    description: How people name the image, for the commands in findings.
    type: str
    required: true
  platform:
    description: The image's platform.
    type: str
    required: true
  image:
    description: Where the image is, with C(url) (the registry's), C(repository), C(config) and C(layers). The last two
      have C(digest), C(size) and C(mediaType).
    type: dict
    required: true
  promises:
    description: The contract of the recipe, with all its keys.
    type: dict
    required: true
  keep:
    description:
      - The digests of the configurations of all images that this run tries. If given, the engine is the farm's own.
        These images stay in it until the next run, so that layers are transferred once. All other images are removed.
      - If not given, the image is removed afterwards, and other images are left alone.
    type: list
    elements: str
    default: []
  ca:
    description: PEM certificates. For the registry, only these are trusted. If empty, the CAs of the system are
      trusted.
    type: str
    default: ""
  user:
    description: The user at the registry.
    type: str
    default: ""
  password:
    description: The password of O(user).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Check one image
  desimages.farm.contract:
    state_dir: /var/lib/desimages
    socket: /var/lib/desimages/tester/docker.sock
    unit: tools linux/amd64
    reference: 127.0.0.1:5000/desimages/tools@sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
    platform: linux/amd64
    image: "{{ images[0] }}"
    promises: "{{ promises }}"
"""

RETURN = r"""
findings:
  description: The broken promises, each with C(check), C(subject), C(words) and C(by_hand), the command that shows it.
  returned: success
  type: list
  elements: dict
  sample:
    - check: stops
      subject: "137"
      words: it did not end within 10 s of SIGTERM
      by_hand: docker run --rm ...
facts:
  description: What was measured (seconds until it was healthy, seconds until it had stopped), and the text of its
    metrics, with the command that asks for it (C(by_hand)).
  returned: success
  type: dict
  sample: {healthy: 1.2, stops: 0.3}
ran_by:
  description: What ran it. C(native) means the host itself, C(emulated) an emulator, and C(not) that nothing was run.
  returned: success
  type: str
  sample: native
emulator:
  description: The emulator as it names itself, or an empty string.
  returned: success
  type: str
  sample: qemu-s390x 7.2.22
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 6.1
"""

import os
import re
import shutil
import tempfile
import time
import traceback
from contextlib import suppress

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.desimages.farm.plugins.module_utils import abilities, files, state
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, system_error
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.module_utils.trial import Trial
from ansible_collections.desimages.farm.plugins.module_utils.trial_container import (
    engine_process,
    images_of,
    remove_orphans,
)
from ansible_collections.desimages.farm.plugins.module_utils.trial_image import load

try:
    import docker
    import zstandard
    from requests.exceptions import RequestException
except ImportError:
    LACKING = traceback.format_exc()
else:
    LACKING = ""

ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
    "socket": {"type": "path", "required": True},
    "unit": {"type": "str", "required": True},
    "reference": {"type": "str", "required": True},
    "platform": {"type": "str", "required": True},
    "image": {"type": "dict", "required": True},
    "promises": {"type": "dict", "required": True},
    "keep": {"type": "list", "elements": "str", "default": []},
    "ca": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
}
NOTHING = {"changed": False, "findings": [], "facts": {}, "ran_by": abilities.NOT, "emulator": "", "seconds": 0.0}
PATIENCE = 660  # seconds for an answer of the engine: a command may say nothing for ten minutes under emulation
TURN = 1800.0  # seconds to wait for the trial of another controller
FOLDER = "trial-"  # how the names of folders begin in which images are unpacked
BROUGHT = "image"  # the file there with the ids of the image, if the engine had it not before
NAMELESS = ("<none>@", "moby-dangling@")  # what engines say of an image that has no name


def main() -> None:
    state.open_umask()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if LACKING:
        module.fail_json(msg=missing_required_lib("docker and zstandard"), exception=LACKING)
    if module.check_mode:
        module.exit_json(**NOTHING)
    began = time.monotonic()
    place = os.path.join(module.params["state_dir"], "tester")
    try:
        state.claim(module.params["state_dir"])
        os.makedirs(place, mode=0o700, exist_ok=True)
        platform = Platform.parse(module.params["platform"])
        ran_by, emulator = abilities.run_by(platform, place)
        if ran_by == abilities.NOT:
            module.exit_json(**NOTHING)
        with files.locked(os.path.join(place, "lock"), TURN):
            before = engine_process(module.params["socket"])
            trial = unpacked(module.params, place, emulated=ran_by == abilities.EMULATED)
            if engine_process(module.params["socket"]) != before:
                raise FarmError(f"the engine at {module.params['socket']} was restarted while the image ran")
    except FarmError as error:
        module.fail_json(**error.as_result())
    except (docker.errors.DockerException, RequestException) as error:
        module.fail_json(msg=f"the engine at {module.params['socket']} fails: {spoken(error)}")
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    module.exit_json(changed=False, findings=trial.findings, facts=trial.facts, ran_by=ran_by, emulator=emulator,
                     seconds=round(time.monotonic() - began, 1))


def spoken(error: BaseException) -> str:
    """An error of the SDK in words. It holds one of requests, which holds one of urllib3, which holds one of Python;
    what an engine itself says, the SDK says in words."""
    if not isinstance(error, docker.errors.APIError):
        error = error.__cause__ or error
    while error.args and isinstance(error.args[-1], Exception):
        error = error.args[-1]
    return re.sub(r"^\w+\([^()]*\): ", "", str(error))


def unpacked(params: dict, place: str, *, emulated: bool) -> Trial:
    """Tries the image in a folder of its own, in which it is unpacked. Removes what others left that were killed."""
    brought = []
    for name in os.listdir(place):
        if name.startswith(FOLDER):
            with suppress(FileNotFoundError), open(os.path.join(place, name, BROUGHT), encoding="ascii") as file:
                brought += file.read().split()
            shutil.rmtree(os.path.join(place, name))
    folder = tempfile.mkdtemp(prefix=FOLDER, dir=place)
    try:
        return tried(params, folder, brought, emulated=emulated)
    finally:
        shutil.rmtree(folder)


def tried(params: dict, folder: str, brought: list, *, emulated: bool) -> Trial:
    """Brings the image, runs its trial, and removes it. `brought` are images that trials left that were killed."""
    access = {"url": params["image"]["url"], "user": params["user"], "password": params["password"]}
    if params["ca"]:
        access["ca"] = os.path.join(folder, "ca.pem")
        with open(access["ca"], "w", encoding="ascii") as file:
            file.write(params["ca"])
    # "auto": the SDK of Debian 12 takes a version of its own by default, which newer engines refuse
    engine = docker.DockerClient(base_url=f"unix://{params['socket']}", version="auto", timeout=PATIENCE)
    try:
        remove_orphans(engine)  # first: the image of a container that runs cannot be removed
        for other in brought:
            take_back(engine, other)
        known = {image["Id"] for image in images_of(engine)}
        for other in known - set(params["keep"]) if params["keep"] else ():
            with suppress(docker.errors.APIError):  # a person runs it by hand: it takes room, and nothing else
                engine.images.remove(other, force=True)
        expected = params["image"]["config"]["digest"]  # the image's id in most engines
        write_down(folder, {expected} - known if not params["keep"] else ())  # a kill may come before its id
        image = load(engine, params["image"], access, folder,
                     lambda packed: zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True),
                     known=bool(params["keep"]))
        new = {image} - known if not params["keep"] else set()
        write_down(folder, new)
        try:
            trial = Trial(engine, image, params["promises"], refused=docker.errors.APIError,
                          shown=params["reference"], emulated=emulated)
            trial.run()
            return trial
        finally:
            for brought_now in new:
                take_back(engine, brought_now)
    finally:
        engine.close()


def write_down(folder: str, images) -> None:
    """Says which images go when the trial ends, or if it is killed, when the next one begins."""
    with open(os.path.join(folder, BROUGHT), "w", encoding="ascii") as file:
        file.write("".join(f"{image}\n" for image in images))


def take_back(engine, image: str) -> None:
    """Removes an image that a trial brought, unless a person uses it meanwhile: has named it, pulled it by its digest,
    or has a container of it."""
    with suppress(docker.errors.APIError):
        found = engine.images.get(image)
        pulled = [name for name in found.attrs.get("RepoDigests") or () if not name.startswith(NAMELESS)]
        if not found.tags and not pulled:
            engine.images.remove(image, force=False)


if __name__ == "__main__":
    main()
