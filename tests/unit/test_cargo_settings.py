"""The proxy, the CA and the token that cargo would use."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.cargo_settings import Settings, merged, read

CORP = {"registries": {"corp-eu": {"index": "sparse+https://corp.example/index/"}}}


@pytest.mark.parametrize(
    ("config", "index", "name"),
    [
        ({}, "", "crates-io"),
        ({"source": {"crates-io": {"replace-with": "corp-eu"}}, **CORP}, "", "corp-eu"),
        ({"source": {"crates-io": {"replace-with": "m"},
                     "m": {"registry": "sparse+https://corp.example/index"}}, **CORP}, "", "corp-eu"),
        ({"source": {"crates-io": {"replace-with": "m"}, "m": {"replace-with": "corp-eu"}}, **CORP}, "", "corp-eu"),
        ({"source": {"crates-io": {"replace-with": "m"}, "m": {"registry": "sparse+https://m.example/"}}}, "", ""),
        ({"source": {"crates-io": {"replace-with": "a"}, "a": {"replace-with": "crates-io"}}}, "", "crates-io"),
        (CORP, "sparse+https://corp.example/index/", "corp-eu"),
        (CORP, "sparse+https://other.example/", ""),
        ({"source": 3, "registries": 4}, "", "crates-io"),
    ],
)
def test_the_registry_in_use_has_a_name(config, index, name):
    assert Settings(config).registry(index) == name


def test_the_environment_names_a_registry_too():
    given = {"CARGO_REGISTRIES_CORP_EU_INDEX": "sparse+https://moved.example/"}
    assert Settings(CORP, environment=given).registry("sparse+https://moved.example/") == "corp-eu"


@pytest.mark.parametrize(
    ("name", "environment", "token"),
    [("corp-eu", {}, "kept"), ("corp-eu", {"CARGO_REGISTRIES_CORP_EU_TOKEN": "given"}, "given"), ("other", {}, ""),
     ("", {"CARGO_REGISTRIES__TOKEN": "x"}, "")],
)
def test_a_token_comes_from_the_environment_or_the_credentials(name, environment, token):
    assert Settings({}, {"corp-eu": "kept"}, environment).token(name) == token


def test_no_token_is_shown():
    assert "secret" not in repr(Settings({}, {"a": "secret"}, {"CARGO_REGISTRIES_A_TOKEN": "secret"}))
    assert "secret" not in repr(Machine(tokens={"https://a.example": "secret"}))


def test_of_several_files_the_nearest_counts():
    near, far = {"http": {"proxy": "near"}, "a": 1}, {"http": {"proxy": "far", "cainfo": "far"}, "a": {"b": 1}}
    assert merged([near, far]) == {"http": {"proxy": "near", "cainfo": "far"}, "a": 1}


def test_files_are_found_on_the_way_up_and_in_cargos_own_folder(tmp_path: Path):
    for place, name, text in (
        ("a/.cargo", "config.toml", '[http]\nproxy = "http://near.example:1"\n'),
        (".cargo", "config.toml", '[http]\nproxy = "http://far.example:1"\ncainfo = "ca.pem"\n'),
        ("home", "config", '[http]\ncainfo = "/never/ca.pem"\n[source.crates-io]\nreplace-with = "corp"\n'),
        ("home", "config.toml", "this one is not read\n"),
        ("home", "credentials.toml", '[registries.corp]\ntoken = "sesam"\n'),
    ):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / name).write_text(text)
    found = read(tmp_path / "a", tmp_path / "home", {})
    assert (found.http("proxy"), found.http("cainfo")) == ("http://near.example:1", str(tmp_path / "ca.pem"))
    assert (found.registry(), found.token("corp")) == ("corp", "sesam")
    assert read(tmp_path / "a", tmp_path / "home", {"CARGO_HTTP_PROXY": "http://p:1"}).http("proxy") == "http://p:1"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"https_proxy": "http://machine:1"}),
        ({"http": {"proxy": "http://p:1"}}, {"https_proxy": "http://p:1", "http_proxy": "http://p:1"}),
        ({"http": {"cainfo": "/ca.pem"}}, {"https_proxy": "http://machine:1", "SSL_CERT_FILE": "/ca.pem"}),
    ],
)
def test_the_farms_client_uses_them(config, expected):
    here = Machine(environment={"https_proxy": "http://machine:1"})
    assert Settings(config).machine(here).environment == expected


def test_a_token_goes_to_its_server_alone():
    here = Machine(tokens={"https://corp.example:8443": "sesam"})
    assert here.token("https://corp.example:8443/crates/x") == "sesam"
    assert not any(map(here.token, ("https://corp.example/x", "http://corp.example:8443/x", "https://a.example/")))
