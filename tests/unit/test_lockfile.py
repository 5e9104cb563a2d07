"""The lock file: the same bytes for the same resolution, and what is refused when it is read."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import LINES, cargo, cargo_lock
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

text = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/"), min_size=1, max_size=12)
names = st.from_regex(r"[a-z0-9][a-z0-9]{1,8}", fullmatch=True)
platforms = st.sampled_from(list(map(str, ALL)))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = LINES[draw(st.sampled_from(sorted(LINES)))]
    known = {"archive": st.sampled_from(["debian", "debian-security"]),
             "architecture": st.just("all"), "module": names, "version": names.map(lambda word: f"v{word}"),
             "path": text.map(lambda word: f"pool/{word}.deb"), "name": names, "file": st.sampled_from(["mod", "zip"]),
             "h1": st.binary(min_size=32, max_size=32).map(lambda data: "h1:" + b64encode(data).decode()),
             "url": text.map(lambda word: f"https://{word}"), "git": names.map(lambda word: f"https://{word}/x.git"),
             "ref": names, "commit": st.from_regex("[0-9a-f]{40}", fullmatch=True),
             "tree": st.from_regex("[0-9a-f]{64}", fullmatch=True),
             "submodules": st.sampled_from(["included", "empty"])}
    if kind.name == "cargo":
        known = {"name": st.from_regex(cargo_lock.NAME, fullmatch=True), "file": st.sampled_from(cargo.FILES),
                 "version": st.from_regex(cargo_lock.VERSION, fullmatch=True).filter(lambda word: len(word) < 100)}
    if kind.name == "maven":
        known.update(name=names.map(lambda word: f"org.{word}:{word}"), file=names.map(lambda word: f"{word}.jar"))
    if kind.name == "image":
        known.update(image=names.map(lambda word: f"{word}.example/{word}:1"),
                     file=st.sampled_from(["config", "manifest"]),
                     digest=st.from_regex("sha256:[0-9a-f]{64}", fullmatch=True))
    if kind.name == "npm":
        known["version"] = st.from_regex(r"[0-9]{1,3}\.[0-9]\.[0-9](-rc\.[0-9])?", fullmatch=True)
        known["integrity"] = st.binary(min_size=64, max_size=64).map(
            lambda data: "sha512-" + b64encode(data).decode())
    if kind.name == "pypi":
        known["version"] = st.from_regex(r"[0-9]{1,3}\.[0-9](rc[0-9])?", fullmatch=True)
    facts = {name: draw(known.get(name, text)) for name in kind.fields if name != "platform"}
    if kind.name == "pypi":
        facts["file"] = f"{facts['name']}-{facts['version']}-py3-none-any.whl"
    platform = draw(platforms if kind.name == "debian" else st.one_of(st.just(""), platforms))
    sha256 = draw(st.text("0123456789abcdef", min_size=64, max_size=64))
    return kind.entry(draw(names), sha256, draw(st.integers(0, 1 << 40)), platform, facts)


locks = st.builds(
    Lock,
    st.lists(entries(), max_size=6, unique_by=(lambda e: (e.input, e.path), lambda e: e.sha256)).map(tuple),
    st.sampled_from(["", "20261123T112238Z", "19700101T000000Z"]),
    st.dictionaries(st.just("trixie"), st.just("20260912T075541Z")),
    st.dictionaries(names, st.just({"packages": ["a", "b"], "essential": True})),
    st.dictionaries(platforms, st.sampled_from([("trixie-security",), ("trixie-security", "trixie-updates")])),
    st.dictionaries(platforms, st.just({"trixie": "20260912T075541Z"})),
)


GO = ('{"input":"g","kind":"go","module":"example.org/g","version":"v1.0.0","file":"zip",'
      f'"h1":"h1:{43 * "a"}=","sha256":"{64 * "b"}","size":1}}')
DEB = ('{"input":"d","kind":"debian","platform":"linux/amd64","archive":"debian","name":"a2","version":"1",'
       f'"architecture":"all",'
       f'"path":"pool/a2_1_all.deb","sha256":"{64 * "c"}","size":1}}')
GOOD = '{"input":"plex","kind":"url","url":"https://x/","sha256":"' + "a" * 64 + '","size":1}'


WRITTEN = (
    '{"lock":2,"lines":3,"snapshot":"20261123T112238Z",'
    '"releases":{"bookworm":"20261121T093512Z","trixie":"20261121T093512Z"},'
    '"made_for":{"a":{"for":"build","go":"x"},"d":{}},'
    '"left_out":{"linux/arm/v6":["a"],"linux/s390x":["trixie-security","trixie-updates"]},'
    '"older":{"linux/386":{"trixie":"20260912T075541Z"},"linux/s390x":{"a":"20260912T075541Z"}}}\n'
    f"{DEB}\n{GO}\n{GOOD}\n")


def test_a_lock_is_written_sorted_and_without_spaces() -> None:
    lock = lockfile.parse(WRITTEN, "lock.jsonl")
    assert lock.left_out == {"linux/arm/v6": ("a",), "linux/s390x": ("trixie-security", "trixie-updates")}
    turned = {field: dict(reversed(list(getattr(lock, field).items())))
              for field in ("releases", "made_for", "older", "left_out")}
    turned["made_for"]["a"] = dict(reversed(list(turned["made_for"]["a"].items())))
    turned["left_out"]["linux/s390x"] = ("trixie-updates", "trixie-security")
    assert lockfile.dump(replace(lock, entries=lock.entries[::-1] + lock.entries, **turned)) == WRITTEN
    assert [(entry.input, entry.platform, entry.path, entry.line) for entry in lock.entries] == [
        ("d", "linux/amd64", "d/a2_1_all.deb", 2), ("g", "", "g/proxy/example.org/g/@v/v1.0.0.zip", 3),
        ("plex", "", "plex", 4)]


@pytest.mark.parametrize(
    "line",
    [
        GOOD.replace('"size":1', '"size":0'),
        GOOD.replace('"size":1', f'"size":{(1 << 50) - 1}'),
        GOOD.replace('"plex"', '"0-a"'),
        DEB.replace("_1_all.deb", "b" * 243 + "_1_all.deb"),
        GOOD + "\n" + GOOD.replace("plex", "other"),
    ],
)
def test_a_line_may_say_what_is_possible(line: str) -> None:
    assert lockfile.parse(f'{{"lock":2,"snapshot":"19700101T000000Z"}}\n{line}', "lock.jsonl").entries


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GOOD.replace('"size":1', f'"size":{1 << 50}'), "size is 1125899906842624, it must be a whole number of bytes"),
        (GOOD.replace('"plex"', '""'), "input is '', it must be a string"),
        (GOOD.replace('"plex"', '"a b"'), "input is 'a b', it must be a string without spaces"),
        (GOOD.replace('"plex"', '"a\\n"'), "input is 'a\\n', it must be a string without spaces"),
        (GOOD.replace('"url":"https://x/",', "").replace(',"size":1', ""), "it has no size, url"),
        (GOOD.replace('"size":1', '"size":1,"b":1,"a":2'), "unknown 'a', 'b'; allowed"),
        (GOOD.replace('"url"', "7", 1), "kind is 7, it must be one of"),
        (GOOD.replace("url", "a" * 58, 1), f"kind is '{58 * 'a'}', it must be one of"),
        (GOOD.replace("url", "a" * 59, 1), f"kind is '{56 * 'a'}..., it must be one of"),
        (DEB.replace("_1_all.deb", "b" * 244 + "_1_all.deb"), "is not a valid path in a context"),
        (GO.replace("example.org/g", "a/../g"), "'g/proxy/a/../g/@v/v1.0.0.zip' is not a valid path in a context"),
        (GO.replace("example.org/g", "a/./g"), "is not a valid path in a context"),
        (GO.replace("example.org/g", "a//g"), "is not a valid path in a context"),
        (GOOD.replace('"plex"', '"plex","kind":"go","input":"x"'), "a key appears twice: input, kind"),
        (GOOD.replace("a" * 64, "a" * 63), "is not 64 hexadecimal digits in lower case"),
        (GOOD.replace("a" * 64, "A" * 64), "is not 64 hexadecimal digits in lower case"),
        (GOOD.replace("url", "urn"), "kind"),
        (GOOD.replace('"size":1', '"size":-1'), "size"),
        (GOOD.replace('"size":1', '"size":true'), "size"),
        (GOOD.replace('"size":1', '"size":1,"sizes":1'),
         "unknown 'sizes'; allowed: input, kind, platform, sha256, size, url"),
        (GOOD.replace('"size":1', '"size":1,"":1'), "unknown ''; allowed: "),
        (GOOD.replace(',"size":1', ""), "it has no size"),
        (GOOD[:-3], "lock.jsonl:2"),
        ("[]", "not a JSON object"),
        ("", "not JSON: the line is empty; run `make lock` again"),
        ("<<<<<<< HEAD", "git left a conflict here: run `make lock` again"), ("=======", "git left a conflict here"),
        ("[" * 100_000, "not JSON: it is nested too deep"),
        ("{'a': 1}", "not JSON: Expecting property name enclosed in double quotes, at character 2"),
        ('{"a":' + "9" * 5000 + "}", "not JSON: a number is too long"),
        ("{}", "it has no kind, which must be one of cargo, debian"),
        (GOOD.replace('"plex"', "7"), "input is 7, it must be a string"),
        (GOOD.replace("plex", "Plex"), "input is 'Plex', which is not a valid name"),
        (GOOD.replace("https://x/", "x"), "url 'x' is not a valid address"),
        (GOOD.replace("https://x/", "https://x/\\u0000"), "url is 'https://x/\\x00', it must be a string"),
        (GOOD.replace("https://x/", "https://x/\\ud800"), "url is"),
        (GOOD.replace('"size":1', '"size":1,"platform":"linux/amd46"'), "platform is 'linux/amd46', it must be one of"),
        (GOOD.replace('"size":1', '"size":1,"platform":7'), "platform is 7"),
        (GOOD.replace('"size":1', '"size":1e99'), "size"),
        (GO.replace("zip", "exe"), "file is 'exe', it must be one of mod, zip"),
        (GO.replace("h1:aaaa", "h1:a"), "not a valid hash of a module"),
        (GO.replace("example.org", "example\\u0000org"), "module is 'example\\x00org/g'"),
        (DEB.replace('"archive":"debian"', '"archive":"ubuntu"'), "archive is 'ubuntu', it must be one of"),
        (DEB.replace("pool/a", "../a"), "not a valid path of a .deb"),
        (DEB.replace("_1_all.deb", "_1_all.deb/.."), "not a valid path of a .deb"),
        (GOOD + "\n" + GOOD.replace("aaa", "bbb"), "plex is already on line 2"),
        (GOOD + "\n" + GOOD.replace("plex", "other").replace('"size":1', '"size":2'),
         "size is 2, but line 2 says 1 for the same content"),
    ],
)
def test_a_bad_line_is_named_by_its_number(line, said):
    with pytest.raises(BadInput, match=re.escape(said)):
        lockfile.parse(f'{{"lock":2}}\n{line}\n', "lock.jsonl")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ('{"lock":1}', "the lock has format 1, but this version reads format 2"),
        ('{"lock":true}', "format true"),
        ('{"lock":2.0}', "format 2.0"),
        ("{}", 'there is no header, which must be the first line, such as {"lock":2,...}: run `make lock` again'),
        ('{"lock":2,"snapshot":"yesterday"}', "snapshot is 'yesterday', it must be a time like"),
        ('{"lock":2,"snapshot":"19691231T235959Z"}', "snapshot is '19691231T235959Z'"),
        ('{"lock":2,"snapshot":"\u0662\u0660261123T112238Z"}', "snapshot is"),
        ('{"lock":2,"releases":[]}', "releases is [], it must be a mapping of suites to times"),
        ('{"lock":2,"releases":{"-":"20261121T093512Z"}}', "releases is"),
        ('{"lock":2,"older":{"moon":{}}}', "older is {'moon': {}}, it must be a mapping of platforms to suites"),
        ('{"lock":2,"made_for":[]}', "made_for is [], it must be a mapping of inputs"),
        ('{"lock":2,"made_for":{"A":{}}}', "made_for is {'A': {}}"),
        ('{"lock":2,"snapshot":false}', "snapshot is false, it must be a time like"),
        ('{"lock":2,"snapshot":"20261399T000000Z"}', "snapshot is '20261399T000000Z'"),
        ('{"lock":2,"left_out":[]}', "left_out is [], it must be a mapping of platforms to lists of suites"),
        ('{"lock":2,"left_out":{"linux/amd64":[1]}}', "left_out is {'linux/amd64': [1]}"),
        ('{"lock":2,"left_out":{"linux/amd64":"trixie"}}', "left_out is"),
        ('{"lock":2,"left_out":{"moon":["trixie"]}}', "left_out is {'moon': ['trixie']}"),
        ('{"lock":2,"left_out":{"linux/amd64":["a\\nb"]}}', "left_out is"),
        ('{"lock":2,"older":{"linux/arm64":["trixie"]}}', "older is"),
        ('{"lock":2,"older":{"linux/arm64":{"trixie":3}}}', "older is"),
        ('{"lock":2,"releases":{"trixie":"x"}}', "releases is"),
        ('{"lock":2,"made_for":{"a":"b"}}', "made_for is"),
        ('{"lock":2,"snapshto":"x"}', "unknown key 'snapshto' in the header"),
        ('{"lock":2,"lock":2}', "a key appears twice: lock"),
        ("", "not JSON: the line is empty; run `make lock` again"),
        ("<<<<<<< HEAD", "git left a conflict here: run `make lock` again"), ("=======", "git left a conflict here"),
        ("[" * 100_000, "not JSON: it is nested too deep"),
        ("{'a': 1}", "not JSON: Expecting property name enclosed in double quotes, at character 2"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_header_is_refused(header, said):
    with pytest.raises(BadInput) as error:
        lockfile.parse(header, "lock.jsonl")
    assert error.value.problems[0].startswith("lock.jsonl:1: ")
    assert said in error.value.problems[0]


@pytest.mark.parametrize("text", [
    "{}\n{}\n{}\n", "x\n" * 5, '{"lock":3}\n{"input":"a"}\n', "\n" * 1_000_000, "[]\n[]\n",
])
def test_what_follows_a_header_that_is_none_is_not_judged(text):
    with pytest.raises(BadInput) as error:
        lockfile.parse(text, "lock.jsonl")
    (said,) = error.value.problems
    assert said.startswith("lock.jsonl:1: ") and "run `make lock` again" in said


@pytest.mark.parametrize("line", ['{"kind":"gem"}', "x"])
def test_a_file_in_which_everything_is_wrong_is_not_read_to_its_end(line):
    with pytest.raises(BadInput) as error:
        lockfile.parse('{"lock":2}\n' + f"{line}\n" * 200_000, "lock.jsonl")
    assert len(error.value.problems) <= lockfile.MOST_WRONG + 1
    assert "what follows was not read: run `make lock` again" in error.value.problems[-1]


def test_two_locks_in_one_file_are_told_as_that():
    with pytest.raises(BadInput, match="lock.jsonl:2: a second header: two locks were merged into one file"):
        lockfile.parse('{"lock":2}\n{"lock":2,"lines":0}\n', "lock.jsonl")


def test_all_mistakes_of_a_header_are_told():
    with pytest.raises(BadInput) as error:
        lockfile.parse('{"lock":1,"snapshot":0,"older":0,"x":0}', "lock.jsonl")
    assert len(error.value.problems) == 4


def test_a_mark_of_the_byte_order_is_taken_and_what_is_no_utf8_is_named_by_its_line():
    assert lockfile.parse(b'\xef\xbb\xbf{"lock":2}\n' + GOOD.encode() + b"\n", "lock.jsonl").entries
    with pytest.raises(BadInput, match="lock.jsonl:3: not UTF-8"):
        lockfile.parse(b'{"lock":2}\n' + GOOD.encode() + b'\n{"input":"\xff"}\n', "lock.jsonl")


def test_all_bad_lines_are_named_at_once():
    with pytest.raises(BadInput) as error:
        lockfile.parse('{"lock":2}\n[]\n' + GOOD + "\n{\n{}\n", "lock.jsonl")
    assert [problem.split(":")[1] for problem in error.value.problems] == ["2", "4", "5"]


def test_the_epoch_is_the_snapshot():
    assert Lock(snapshot="20261123T112238Z").epoch == 1795432958


ONE = {"input": "x", "kind": "url", "url": "https://example.org/x", "sha256": 64 * "a", "size": 1}
PACKAGE = {"input": "x", "kind": "debian", "archive": "debian", "platform": "linux/amd64", "name": "curl",
           "version": "1", "architecture": "arm64", "path": "pool/curl_1_arm64.deb", "sha256": 64 * "a", "size": 1}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"lock": 2}, {**ONE, "input": "\ud800"}], "f:2: input is '\\ud800'"),
        ([{"lock": 2}, ONE, {**ONE, "platform": "linux/arm64"}], "f:3: x is already on line 2"),
        ([{"lock": 2}, PACKAGE], "f:2: architecture is 'arm64', for linux/amd64 it must be all or amd64"),
        ([{"lock": 2, "snapshot": "99991231T235959Z"}], "f:1: snapshot is '99991231T235959Z'"),
        ([{"lock": 2, "lines": 2}, ONE], "f:1: 2 lines should follow, but 1 do: the file was cut off"),
        ([{"lock": 2, "lines": 0}, ONE], "f:1: 0 lines should follow, but 1 do"),
        ([{"lock": 2, "lines": True}, ONE], "f:1: lines is true, it must be a number"),
    ],
)
def test_what_no_lock_step_writes_is_refused_by_line(lines: list[dict[str, object]], said: str) -> None:
    with pytest.raises(BadInput) as error:
        lockfile.parse("\n".join(map(json.dumps, lines)), "f")
    assert error.value.problems[0].startswith(said)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no finding
@given(locks)
def test_a_lock_reads_back_as_it_was_and_has_one_form(lock):
    written = lockfile.dump(lock)
    found = lockfile.parse(written, "lock.jsonl")
    assert set(found.entries) == set(lock.entries)
    assert replace(found, entries=()) == replace(lock, entries=())
    assert lockfile.dump(found) == written
    assert lockfile.dump(replace(lock, entries=tuple(reversed(lock.entries)))) == written
