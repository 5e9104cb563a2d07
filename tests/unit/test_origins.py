"""Where locked files come from: which origins are tried, in which order, and with which settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import client_settings
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine, pool, redact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins, archive_of
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.debian import KIND

from .entries import deb

ONE_LINE = """
# deb http://old.example/debian trixie main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian/ bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb-src http://mirror.example/src bookworm main
deb https://vendor.example/apt nodistro main
deb http://raspberrypi.example/debian trixie main
deb http://archive.ubuntu.example/ubuntu noble main
"""
NETRC = "machine mirror.example login me password secret\n"
DEB822 = """
Types: deb deb-src
URIs: http://one.example/debian
 http://two.example/debian
Suites: trixie trixie-updates
# a comment
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://one.example/security
Suites: trixie-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie

Types: deb-src
URIs: http://source.example/debian
Suites: trixie
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    root = tmp_path / "apt"
    (root / "sources.list.d").mkdir(parents=True)
    (root / "sources.list").write_text(ONE_LINE)
    (root / "sources.list.d" / "debian.sources").write_text(DEB822)
    (root / "sources.list.d" / "debian.sources.bak").write_text(DEB822.replace("one", "backup"))
    return root


def urls(origins: Origins, archive: str = "debian", pool: str = "pool/main") -> list[str]:
    """Where a package may be had."""
    entry = deb("libc6", "2+b~1", "linux/arm64", archive=archive, architecture="arm64",
                path=f"{pool}/g/glibc/libc6_2+b~1_arm64.deb")
    return KIND.urls(entry, "20261123T112238Z", origins)


def origins(apt: Path, configured: dict[str, object] | None = None, snapshots: bool = False) -> Origins:
    return Origins(configured, here=Machine(), snapshots=snapshots, apt_root=str(apt))


def test_debians_own_entries_are_found_in_both_formats(apt):
    assert client_settings.apt_bases("debian", str(apt)) == ("http://mirror.example/debian",
                                                             "http://one.example/debian", "http://two.example/debian")
    assert client_settings.apt_bases("debian-security", str(apt)) == ("http://mirror.example/debian-security",
                                                                      "http://one.example/security")


def test_a_list_of_mirrors_becomes_its_mirrors(tmp_path):
    (tmp_path / "mirrors.list").write_text("http://one.example/debian\tpriority:1\nhttp://two.example/debian\n")
    (tmp_path / "sources.list").write_text(f"deb mirror+file:{tmp_path}/mirrors.list trixie main\n")
    assert client_settings.apt_bases("debian", str(tmp_path)) == ("http://one.example/debian",
                                                                  "http://two.example/debian")


def test_a_snapshot_is_asked_before_the_machines_mirrors(apt):
    assert urls(origins(apt, snapshots=True))[:3] == [
        "http://snapshot.debian.org/archive/debian/20261123T112238Z/pool/main/g/glibc/libc6_2%2Bb~1_arm64.deb",
        "http://snapshot.debian.org/archive/debian/20261124T112238Z/pool/main/g/glibc/libc6_2%2Bb~1_arm64.deb",
        "http://mirror.example/debian/pool/main/g/glibc/libc6_2%2Bb~1_arm64.deb",
    ]


def test_what_the_inventory_names_is_asked_alone(apt):
    own = origins(apt, {"debian": ["file:///srv/debian/"]}, snapshots=True)
    assert urls(own) == ["file:///srv/debian/pool/main/g/glibc/libc6_2%2Bb~1_arm64.deb"]
    assert urls(own, "debian-security")[0].startswith("http://snapshot.debian.org/archive/debian-security/")


def test_a_package_is_also_looked_for_in_the_other_archive(apt):
    """A security update is in the main archive from the next point release on, in some mirrors of it later."""
    file = "g/glibc/libc6_2%2Bb~1_arm64.deb"
    assert urls(origins(apt)) == [
        f"http://mirror.example/debian/pool/main/{file}", f"http://one.example/debian/pool/main/{file}",
        f"http://two.example/debian/pool/main/{file}",
        f"http://mirror.example/debian-security/pool/updates/main/{file}",
        f"http://one.example/security/pool/updates/main/{file}"]
    both = origins(apt, {"debian": ["file:///srv/main"], "debian-security": ["file:///srv/security"]})
    assert urls(both, "debian-security", "pool/updates/main") == [
        f"file:///srv/security/pool/updates/main/{file}", f"file:///srv/main/pool/main/{file}"]


def test_without_an_origin_of_the_other_archive_its_own_is_asked(tmp_path):
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian trixie main\n")
    assert len(urls(origins(tmp_path))) == 1


def test_the_longest_prefix_of_a_url_is_replaced(apt):
    rules = {"url": {"https://up.example/": "http://mirror/", "https://up.example/big/": "file:///srv/"}}
    assert origins(apt, rules).rewritten("https://up.example/big/a.deb") == "file:///srv/a.deb"
    assert origins(apt).rewritten("https://up.example/big/a.deb") == "https://up.example/big/a.deb"


def test_a_resolution_does_not_mix_snapshots_and_mirrors(apt):
    found = origins(apt, snapshots=True).bases("debian", fallback=False)
    assert found == ("http://snapshot.debian.org/archive/debian/{snapshot}",)


def test_no_origin_at_all_says_how_to_name_one(tmp_path):
    with pytest.raises(FarmError, match="farm_origins"):
        origins(tmp_path).bases("debian")


def test_an_unknown_kind_of_origin_is_refused(tmp_path):
    with pytest.raises(FarmError, match="gem"):
        origins(tmp_path, {"gem": "x"})


def test_apts_logins_count_for_their_host_and_path(tmp_path):
    (tmp_path / "auth.conf.d").mkdir()
    (tmp_path / "auth.conf.d" / "x.conf").write_text(
        "machine https://mirror.example/debian\nlogin me\npassword secret\n"
        "machine plain.example login me password secret\n")
    here = Machine(logins=tuple(client_settings.apt_logins(str(tmp_path))))
    assert here.login("https://mirror.example/debian/pool/x.deb") == ("me", "secret")
    assert here.login("https://mirror.example/other") is None
    assert here.login("http://mirror.example/debian/x") is None
    assert here.login("https://plain.example/x") == ("me", "secret")
    assert here.login("http://plain.example/x") is None
    assert "secret" not in repr(here)


@pytest.mark.parametrize(
    ("text", "url", "login"),
    [
        (NETRC, "https://mirror.example/debian/x", ("me", "secret")),
        (NETRC, "https://other.example/x", None),
        (NETRC, "https://you:own@mirror.example/x", ("you", "own")),
        (NETRC + "default login anybody password open\n", "https://other.example/x", ("anybody", "open")),
        (NETRC + "nonsense\n", "https://mirror.example/debian/x", None),
        (None, "https://mirror.example/debian/x", None),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_netrc_is_read_where_it_is_named_or_in_the_home_folder(tmp_path, monkeypatch, named, text, url, login):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ("logins" if named else ".netrc")
    if text is not None:
        path.write_text(text)
    here = Machine(environment={"NETRC": str(path)} if named else {})
    assert here.login(url) == login


LISTED = "10.0.0.0/8, fd00::/8,[2001:db8::1]:5000,a.example:5000,x:y/z"


@pytest.mark.parametrize(
    ("apt", "environment", "url", "proxy"),
    [
        ({}, {}, "http://a.example/x", ""),
        ({}, {"http_proxy": "http://p:1"}, "http://a.example/x", "http://p:1"),
        ({}, {"HTTPS_PROXY": "http://p:1", "no_proxy": "a.example"}, "https://a.example/x", ""),
        *(({}, {"https_proxy": "http://p:1", "no_proxy": LISTED},
           f"https://{host}/x", proxy)
          for host, proxy in (("10.1.2.3:5000", ""), ("11.1.2.3", "http://p:1"), ("[fd00::1]:5000", ""),
                              ("[2001:db8::1]:5000", ""), ("[2001:db8::1]", "http://p:1"), ("a.example:5000", ""),
                              ("b.a.example:5000", ""), ("a.example", "http://p:1"), ("10.example", "http://p:1"))),
        ({"Acquire::http::Proxy": "http://apt:1"}, {"http_proxy": "http://p:1"}, "http://a.example/x", "http://apt:1"),
        ({"Acquire::http::Proxy": "http://apt:1", "Acquire::http::Proxy::a.example": "DIRECT"}, {},
         "http://a.example/x", ""),
    ],
)
def test_the_proxy_is_apts_or_the_environments(apt, environment, url, proxy):
    assert Machine(apt=apt, environment=environment).proxy(url, apt=True) == proxy


def test_archives_by_suite():
    assert [archive_of(suite) for suite in ("trixie", "trixie-updates",
                                            "trixie-security")] == ["debian", "debian", "debian-security"]


def test_a_password_is_taken_out_of_a_url():
    assert redact("http://me:secret@mirror.example:8080/debian") == "http://mirror.example:8080/debian"
    assert redact("me:secret@mirror.example:8080/debian@x") == "mirror.example:8080/debian@x"


@pytest.mark.parametrize("proxy", ["http://me:secret@proxy.example:port", "http://me:secret@[::1", "me:secret@:3128",
                                   "ftp://me:secret@proxy.example", "http://me:secret@proxy.example:0"])
def test_a_proxy_that_is_none_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(FarmError, match="is not an HTTP proxy") as error:
        pool(proxy)
    assert "secret" not in str(error.value)
