"""The variables of the roles that provision are checked with the farm's own, before a host is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.plugin_utils import role_settings, settings

PROJECT = Path(__file__).resolve().parents[2]
GOOD = {"farm_state": "/srv/a", "farm_registry": "127.0.0.1:5000", "farm_namespace": "a", "farm_catalog": ["/a"]}
ZEROS = "0" * 64


def mistakes(name: str, value: Any) -> list[str]:
    return settings.mistakes({**GOOD, name: value}, {"nodes": ["localhost"]})


@pytest.mark.parametrize(("name", "values", "said"), [
    ("buildkitd_memory", ["lots", "3 G", "-1", "0", "0M", "3GB", "50%", 3, "3", "all ", True, "1.5G"], "900M or 3G"),
    ("buildkitd_weight", [0, -1, 10001, "high", 1.5, True, "", None], "a number from 1 to 10000"),
    ("buildkitd_reserved", ["big", "-5GB", "200%", "10", 5, "%", "1.5%"], "a size with a unit, such as 20GB"),
    ("buildkitd_most", ["", "60", "101%", None, "sixty%"], "a size with a unit"),
    ("buildkitd_free", ["10", "x%", "-1%", 10], "a size with a unit"),
    ("buildkitd_archives", [[], "x", {"linux/arm64": "/srv/x.tar.gz"}, {"linux/amd64": None},
                            {"arm64": {"source": "/x", "sha256": ZEROS}}, {"linux/amd64": {"source": "/x"}},
                            {"linux/amd64": {"source": "/x", "sha256": "0" * 63}},
                            {"linux/amd64": {"source": "x.tar.gz", "sha256": ZEROS}},
                            {"linux/amd64": {"source": "ftp://example.org/x", "sha256": ZEROS}},
                            {"linux/amd64": {"source": "/x", "sha256": 0}},
                            {"linux/amd64": {"source": "/x", "sha256": ZEROS, "url": "x"}}], "to a source"),
    ("buildkitd_parallelism", [-1, "x", 1e9], "a number from 0 to 999"),
    ("buildkitd_socket", ["rel", "/" + "x" * 120, "/tmp/a b", True], "an absolute path of at most"),
    ("buildkitd_platform", ["linux/mips", "amd64", True, ""], "one of linux/amd64"),
    ("buildkitd_log_level", ["loud"], "one of trace"), ("registry_log_level", ["trace"], "one of error"),
    ("buildkitd_debug_address", ["0.0.0.0:6060", "x", ":6060"], "on loopback"),
    ("buildkitd_frontends", [["dockerfile.v1"], None, 5, "dockerfile.v0"], "a list of frontends"),
    ("buildkitd_plain_registries", [["http://x"], [1], None], "a list of HOST:PORT"),
    ("buildkitd_runc", ["runc", None], "an absolute path"), ("buildkitd_cache", ["x", ""], "an absolute path"),
    ("binfmt_platforms", [["linux/mips"], "linux/s390x", "", None, [["linux/386"]]], "a list of platforms out of"),
    ("buildkitd_weigth", [20], "did you mean buildkitd_weight?"),
    ("registry_certificat", ["/x"], "did you mean registry_certificate?"),
])
def test_a_wrong_value_is_told_before_anything_starts(name: str, values: list[Any], said: str) -> None:
    for value in values:
        (found,) = mistakes(name, value)
        assert found.startswith(name) and said in found, value


@pytest.mark.parametrize(("name", "values"), [
    ("buildkitd_memory", ["", None, "all", "900M", "3G", "1T"]), ("buildkitd_weight", [1, "20", 10000]),
    ("buildkitd_reserved", ["", None, "10GB", "1.5 GB", "512m", "20GiB", "0", 0, "20%"]),
    ("buildkitd_most", ["60%", "100%", "200GB"]), ("buildkitd_parallelism", [0, "4"]),
    ("buildkitd_archives", [{}, {"linux/arm64": {"source": "https://example.org/b.tar.gz", "sha256": ZEROS}},
                            {"linux/arm/v6": {"source": "/srv/my archives/b.tar.gz", "sha256": "a" * 64}}]),
    ("buildkitd_frontends", [[], ["dockerfile.v0", "gateway.v0"]]),
    ("buildkitd_plain_registries", [[], ["127.0.0.1:5000", "[::1]:1"]]), ("buildkitd_runc", ["", "/usr/bin/runc"]),
    ("binfmt_platforms", [[], ["linux/s390x"]]), ("buildkitd_debug_address", ["", "127.0.0.1:6060"]),
    ("registry_password", ["x"]), ("buildkitd_socket", ["/run/b.sock"]),
    ("buildkitd_cache", ["/home/me/my clone/.cache"]),
])
def test_a_right_value_is_taken(name: str, values: list[Any]) -> None:
    for value in values:
        assert mistakes(name, value) == [], value


@pytest.mark.parametrize("role", [*settings.ROLES, "tester"])
def test_every_variable_of_a_role_is_known_and_its_default_is_right(role: str) -> None:
    defaults = yaml.safe_load((PROJECT / f"roles/{role}/defaults/main.yml").read_text(encoding="utf-8"))
    assert set(defaults) <= {*role_settings.CHECKS, *role_settings.OTHERS}
    for name, value in defaults.items():
        if name in role_settings.CHECKS and "{{" not in str(value):
            assert role_settings.CHECKS[name](value) == ""


@pytest.mark.parametrize(("native", "platform"), [
    ([], "linux/arm64"), ("", "linux/arm64"), (["linux/arm/v7", "linux/arm/v6"], "linux/arm/v7"),
    ("linux/arm/v7", "linux/arm/v7"), ("linux/arm/v7,linux/arm/v6", "linux/arm/v7"), (None, "linux/arm64"),
])
def test_buildkit_is_compiled_for_the_first_of_farm_native(native: Any, platform: str) -> None:
    """Which is a text if the command line gives it."""
    text = yaml.safe_load((PROJECT / "roles/buildkitd/defaults/main.yml").read_text())["buildkitd_platform"]
    machines = yaml.safe_load((PROJECT / "roles/buildkitd/vars/main.yml").read_text())["__buildkitd_machines"]
    values = {"ansible_facts": {"architecture": "aarch64"}, "__buildkitd_machines": machines,
              **({} if native is None else {"farm_native": native})}
    templar = Templar(loader=DataLoader(), variables=values)
    assert templar.template(trust_as_template(text)) == platform


@pytest.mark.parametrize(("check", "own", "name", "tried"), [
    (True, True, "r.example:1", False), (False, True, "r.example:1", True), (True, False, "r.example:1", True),
    (False, False, "r.example:1", True), (False, False, "127.0.0.1:1", False),
])
def test_a_registry_that_check_mode_has_not_made_is_not_tried(check: bool, own: bool, name: str, tried: bool) -> None:
    tasks = yaml.safe_load((PROJECT / "roles/buildkitd/tasks/prove.yml").read_text(encoding="utf-8"))
    (text,) = [task["desimages.farm.node"]["registry"] for task in tasks if "desimages.farm.node" in task]
    values = {"ansible_check_mode": check, "groups": {"registries": ["pi"] if own else []}, "farm_registry": name}
    own_test = "is desimages.farm.loopback"  # which has tests of its own
    assert own_test in text
    text = text.replace(own_test, f"in {[name] if references.loopback(name) else []}")
    templar = Templar(loader=DataLoader(), variables=values)
    assert templar.template(trust_as_template(text)) == (name if tried else "")
