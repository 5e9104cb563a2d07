"""What apt says that it would do, and its settings, are read as it prints them."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.installation import Plan, fetching, parse_versions

SIMULATED = """\
NOTE: This is only a simulation!
The following packages will be REMOVED:
  containerd.io docker-ce
Remv docker-ce [5:28.1-1~debian]
Remv containerd.io:arm64 [1.7.27-1] [docker-ce:amd64 ]
Inst libc6 [2.36-9] (2.36-9+deb12u10 Debian:12/stable, Debian-Security:12/stable-security [amd64]) []
Inst libseccomp2 (2.5.4-1+deb12u1 Debian:12.15/oldstable [amd64])
Inst runc (1.1.5+ds1-1+deb12u1 Debian:12.15/oldstable [amd64])
Conf libc6 (2.36-9+deb12u10 Debian:12/stable [amd64])
Conf libseccomp2 (2.5.4-1+deb12u1 Debian:12.15/oldstable [amd64])
Conf zfs-zed (28  [amd64])
Conf runc (1.1.5+ds1-1+deb12u1 Debian:12.15/oldstable [amd64])
Purg old:i386 [1]
"""
PLAN = Plan(
    new={"libseccomp2": "2.5.4-1+deb12u1", "runc": "1.1.5+ds1-1+deb12u1"},
    moved={"libc6": ("2.36-9", "2.36-9+deb12u10")},
    removed={"docker-ce": "5:28.1-1~debian", "containerd.io:arm64": "1.7.27-1", "old:i386": "1"},
    finished={"zfs-zed": "28"},
)


def test_a_simulation_is_read_as_apt_prints_it():
    assert Plan.parse(SIMULATED) == PLAN
    assert Plan.parse("Reading package lists...\ncontainerd.io is already the newest version (1).\n") == Plan()


@pytest.mark.parametrize(
    ("plan", "names", "harm"),
    [
        (Plan(new={"a": "1", "b": "1"}), ["a"], []),
        (Plan(removed={"b": "1", "a": "2"}), ["c"], ["remove a 2, b 1"]),
        (Plan(moved={"a": ("1", "2")}), ["c"], ["change a from 1 to 2"]),
        (
            Plan(moved={"a": ("2", "1")}, finished={"b": "1"}),
            ["c"],
            ["change a from 2 to 1", "configure b, whose installation something else began"],
        ),
        (Plan(moved={"a": ("1", "1")}, finished={"b": "1"}), ["a", "b"], []),  # half-installed is what they were
        (
            PLAN,
            ["runc"],
            [
                "remove containerd.io:arm64 1.7.27-1, docker-ce 5:28.1-1~debian, old:i386 1",
                "change libc6 from 2.36-9 to 2.36-9+deb12u10",
                "configure zfs-zed, whose installation something else began",
            ],
        ),
    ],
)
def test_whatever_is_more_than_an_installation_is_harm(plan, names, harm):
    assert [what for what, hint in plan.harm(names)] == harm
    assert all(hint for what, hint in plan.harm(names))


@pytest.mark.parametrize(
    ("plan", "lacking"),
    [
        (Plan(), ["a", "b"]),
        (Plan(new={"a": "1"}), ["b"]),
        (Plan(new={"a:i386": "1"}, finished={"b": "1"}), []),
        (Plan(moved={"a": ("1", "2")}), ["b"]),
    ],
)
def test_a_package_for_which_apt_takes_another_is_lacking(plan, lacking):
    assert plan.lacks(["a", "b"]) == lacking


def test_only_installed_packages_have_a_version():
    assert parse_versions("runc\tii \t1.1.5\nrunit\tun \t\nold\trc \t2\nheld\thi \t3\nhalf\tiF \t4\n") == {
        "runc": "1.1.5",
        "held": "3",
    }


def test_of_apts_settings_only_what_fetching_needs_is_taken():
    dump = (
        'APT "";\nAPT::Architecture "amd64";\nAPT::Update "";\nAPT::Update::Post-Invoke:: "rm -f /x";\nDir "/";\n'
        'Dir::Etc "etc/apt";\nDir::Ignore-Files-Silently:: "\\.bak$";\n'
        'Acquire::http::Proxy "http://proxy.example.org";\nDPkg::Post-Invoke:: "rm -f /y";\n'
        'Acquire::odd "a "b" c";\nunattended-upgrade "";\n'
    )
    assert fetching(dump).splitlines() == [
        'APT "";',
        'APT::Architecture "amd64";',
        'APT::Update "";',
        'Dir "/";',
        'Dir::Etc "etc/apt";',
        'Dir::Ignore-Files-Silently:: "\\.bak$";',
        'Acquire::http::Proxy "http://proxy.example.org";',
        'Dir::Etc::main "/dev/null";',
        'Dir::Etc::parts "/dev/null";',
    ]
