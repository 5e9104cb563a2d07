"""In the trial of an image that is found by multicast, groups can be joined."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import trial_container, trial_lan, trial_network

from ..unit.test_trial_lan import talk


def test_a_container_and_its_second_start_can_speak_to_a_group_and_nothing_is_left(docker: Any) -> None:
    before = {one.id for one in docker.images.list(all=True)}
    label = {trial_container.LABEL: trial_container.new_mark()}
    image = trial_lan.holder_image(docker, label)
    with trial_lan.lan(docker, image, label) as network:
        container = docker.containers.create(image, ["/holder"], network_mode=network, stdin_open=True,
                                             cap_drop=["ALL"])
        for _start in range(2):
            container.start()
            container.reload()
            assert trial_network.inside(container.attrs["State"]["Pid"], talk) == b"who is there?"
            container.stop(timeout=1)
        container.remove()
    docker.images.remove(image, force=True)
    assert not docker.containers.list(all=True, filters={"label": trial_container.LABEL})
    assert {one.id for one in docker.images.list(all=True)} == before
