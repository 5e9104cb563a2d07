"""The HomeKit images' own programs, as far as they need no library that only the images have."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

IMAGES = Path(__file__).resolve().parents[2] / "images"


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.SimpleNamespace]:
    """The modules; what they import of HAP-python's is not used here."""
    before = set(sys.modules)
    for folder in ("homekit", "homekit-alsa"):
        monkeypatch.syspath_prepend(str(IMAGES / folder))
    names = ("prometheus_client", "pyhap", "pyhap.accessory", "pyhap.accessory_driver", "pyhap.const")
    for name in names:
        monkeypatch.setitem(sys.modules, name, _Anything(name))
    yield types.SimpleNamespace(settings=importlib.import_module("homekit.settings"),
                                mixer=importlib.import_module("homekit_alsa.mixer"),
                                bridge=importlib.import_module("homekit.bridge"))
    for name in set(sys.modules) - before:
        if name.startswith("homekit"):
            del sys.modules[name]


class _Anything(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        return type(name, (), {"__init__": lambda self, *words: None})


def test_settings_name_things_in_order(programs):
    found = programs.settings.read({"LAMPS": " Kitchen = 192.168.1.20 ;Desk=a=b:1; ", "ADDRESS": "10.0.0.1"}, "LAMPS",
                                   "x")
    assert found.things == (("Kitchen", "192.168.1.20"), ("Desk", "a=b:1"))
    assert (found.name, found.code, found.address) == ("Desimages", "", "10.0.0.1")


def test_all_mistakes_in_settings_are_told_at_once(programs):
    with pytest.raises(programs.settings.Mistakes) as error:
        programs.settings.read({"LAMPS": "a=1; a=2; b; =c", "CODE": "1234", "ADDRESS": "here"}, "LAMPS", "x")
    assert str(error.value).splitlines() == [
        "LAMPS: there are two 'a'", "LAMPS: 'b' is not NAME=WHAT, such as x", "LAMPS: '=c' is not NAME=WHAT, such as x",
        "CODE is not of the form 031-45-154", "ADDRESS: 'here' is not an IPv4 address"]


@pytest.mark.parametrize("code", ["000-00-000", "999-99-999", "123-45-678", "876-54-321"])
def test_a_code_that_everybody_would_guess_is_refused(programs, code):
    with pytest.raises(programs.settings.Mistakes, match="HomeKit refuses"):
        programs.settings.read({"LAMPS": "a=1", "CODE": code}, "LAMPS", "x")


@pytest.mark.parametrize(("channels", "level", "switch", "on"), [
    (["Mono:", "Front Left: Playback 26214 [40%] [on]", "Front Right: Playback 26870 [41%] [on]"], 41, True, True),
    (["Mono: Playback 60 [69%] [-20.25dB] [off]"], 69, False, False),
    (["Mono:", "Front Left: Playback 0 [0%] [-99999.99dB]", "Front Right: Playback 0 [0%] [-99999.99dB]"], 0, None,
     False),
    (["Mono: Playback [on]"], 100, True, True),
    (["Front Left: Playback 5 [50%] [off] Capture 9 [90%] [on]", "Front Right: Capture 9 [95%] [on]"], 50, False,
     False),
])
def test_what_amixer_says_of_a_control_is_understood(programs, channels, level, switch, on):
    head = ["Simple mixer control 'Master',0", "  Capabilities: pvolume pswitch", "  Limits: Playback 0 - 65536"]
    found = programs.mixer.parse("\n".join([*head, *(f"  {channel}" for channel in channels)]) + "\n")
    assert (found.level, found.switch) == (level, switch)
    assert found.state == programs.bridge.State(on, level)


def test_a_control_without_volume_and_switch_is_none(programs):
    with pytest.raises(programs.bridge.Unreachable, match="neither a volume nor a switch"):
        programs.mixer.parse("Simple mixer control 'Input Source',0\n  Items: 'Mic' 'Line'\n  Item0: 'Mic'\n")


@pytest.mark.parametrize("where", ["Master", ":Master", "default:", ""])
def test_a_control_is_of_a_device(programs, where):
    with pytest.raises(ValueError, match="is not DEVICE:CONTROL"):
        programs.mixer.Control(where)
    assert programs.mixer.Control("hw:1:PCM").device == "hw:1"
