from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.lockfile import Entry, Lock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

text = st.text(min_size=1, max_size=12)
platforms = st.sampled_from(list(map(str, ALL)))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(sorted(lockfile.FIELDS)))
    facts = tuple((name, draw(text)) for name in lockfile.FIELDS[kind] if name != "platform")
    platform = draw(platforms if kind == "debian" else st.one_of(st.just(""), platforms))
    sha256 = draw(st.text("0123456789abcdef", min_size=64, max_size=64))
    return Entry(draw(text), kind, sha256, draw(st.integers(0, 1 << 40)), platform, facts)


def inside(entry: Entry) -> bool:
    """Whether its path is one that a context can have: others are refused, see test_catalog."""
    return not {"", ".", ".."} & set(entry.path.split("/"))


locks = st.builds(
    Lock,
    st.lists(entries().filter(inside), max_size=6).map(tuple),
    st.sampled_from(["", "20261123T112238Z", "19700101T000000Z"]),
    st.dictionaries(platforms, st.sampled_from([("trixie-security",), ("trixie-security", "trixie-updates")])),
    st.dictionaries(platforms, st.just({"trixie": "20260912T075541Z"})),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no finding
@given(locks)
def test_a_lock_reads_back_as_it_was_and_has_one_form(lock):
    written = lockfile.dump(lock)
    found = lockfile.parse(written, "lock.jsonl")
    assert set(found.entries) == set(lock.entries)
    assert (found.snapshot, found.left_out, found.older) == (lock.snapshot, lock.left_out, lock.older)
    assert lockfile.dump(found) == written
    assert lockfile.dump(Lock(tuple(reversed(lock.entries)), lock.snapshot, lock.left_out, lock.older)) == written


GOOD = '{"input":"plex","kind":"url","url":"https://x/","sha256":"' + "a" * 64 + '","size":1}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GOOD.replace("a" * 64, "a" * 63), "64 hex digits"),
        (GOOD.replace("a" * 64, "A" * 64), "64 hex digits"),
        (GOOD.replace("url", "urn"), "kind"),
        (GOOD.replace('"size":1', '"size":-1'), "size"),
        (GOOD.replace('"size":1', '"size":true'), "size"),
        (GOOD.replace('"size":1', '"size":1,"sizes":1'), "unknown sizes"),
        (GOOD.replace(',"size":1', ""), "lacks size"),
        (GOOD[:-3], "lock.jsonl:2"),
        ("[]", "not an object"),
    ],
)
def test_a_bad_line_is_named_by_its_number(line, said):
    with pytest.raises(BadInput, match=said):
        lockfile.parse(f'{{"lock":1}}\n{line}\n', "lock.jsonl")


@pytest.mark.parametrize("header", ['{"lock":2}', "{}", '{"lock":1,"snapshot":"yesterday"}', '{"lock":1,"left_out":[]}',
                                    '{"lock":1,"older":{"linux/arm64":["trixie"]}}', ""])
def test_a_bad_header_is_refused(header):
    with pytest.raises(BadInput, match="lock.jsonl"):
        lockfile.parse(header, "lock.jsonl")


def test_all_bad_lines_are_named_at_once():
    with pytest.raises(BadInput) as error:
        lockfile.parse('{"lock":1}\n[]\n' + GOOD + "\n{}\n", "lock.jsonl")
    assert [problem.split(":")[1] for problem in error.value.problems] == ["2", "4"]


def test_the_epoch_is_the_snapshot():
    assert Lock(snapshot="20261123T112238Z").epoch == 1795432958
