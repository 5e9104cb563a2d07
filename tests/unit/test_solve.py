"""What a solve asks of BuildKit, and what it may take from where."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.golden import GZIP, GZIP_ID, WITHOUT_INDEX
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build.solve import Solve, context_name, csv, make, policy
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, reasons
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import File, Sources

from .conftest import DEFAULTS, Catalog
from .test_plan import STAGES, X, whole

REGISTRY = "127.0.0.1:5000"
DIGEST = "sha256:" + "1" * 64


def allowed(source: str) -> bool:
    """As BuildKit reads the policy: of the rules that match, the last holds; a `*` matches any text; what no rule
    matches is allowed."""
    found = "ALLOW"
    for rule in policy(REGISTRY, "desimages")["rules"]:
        assert rule["selector"]["match_type"] == "WILDCARD"
        if re.fullmatch(".*".join(map(re.escape, rule["selector"]["identifier"].split("*"))), source):
            found = rule["action"]
    return found == "ALLOW"


@pytest.mark.parametrize(
    ("source", "may"),
    [
        ("local://context", True),
        (f"docker-image://{REGISTRY}/desimages/debian@{DIGEST}", True),
        (f"docker-image://{REGISTRY}/desimages/debian:latest", False),
        (f"docker-image://{REGISTRY}/desimages/debian", False),
        (f"docker-image://{REGISTRY}/others/debian@{DIGEST}", False),
        (f"docker-image://{REGISTRY}/desimages-2/debian@{DIGEST}", False),
        (f"docker-image://127.0.0.1:5001/desimages/debian@{DIGEST}", False),
        (f"docker-image://docker.io/library/debian@{DIGEST}", False),
        ("docker-image://docker.io/library/debian:latest", False),
        ("https://example.org/x", False),
        ("http://127.0.0.1/x", False),
        ("git://example.org/x.git", False),
        (f"oci-layout://x@{DIGEST}", False),
    ],
)
def test_only_contexts_and_the_farms_own_images_by_digest_may_be_used(source: str, may: bool) -> None:
    assert allowed(source) is may


def test_all_is_denied_before_anything_is_allowed() -> None:
    first, *others = policy(REGISTRY, "desimages")["rules"]
    assert first == {"action": "DENY", "selector": {"identifier": "*", "match_type": "WILDCARD"}}
    assert {rule["action"] for rule in others} == {"ALLOW"}


def test_a_solve_has_the_policy_of_its_farm_no_network_and_the_built_in_frontend(chain: Catalog) -> None:
    plan = chain.plan()
    unit = plan.units[Key("base", "", AMD64)]
    digests = {name: {str(AMD64): DIGEST} for name in ("debian", "static")}
    solve = make([unit], plan, Sources({}), build=AMD64, registry=REGISTRY, repository="desimages/base",
                 digests=digests, unpacked={})
    assert solve.policy == policy(REGISTRY, "desimages")
    words = solve.words({name: f"/contexts/{name}" for name in solve.contexts}, "/job/policy.json",
                        "/job/metadata.json")
    assert {"--source-policy-file=/job/policy.json", "--opt=force-network-mode=none",
            "--frontend=dockerfile.v0"} <= set(words)
    parents = [value for name, value in solve.options.items() if name.startswith("context:")]
    assert parents and all(allowed(value) for value in parents), "what the farm itself names is within its policy"


def test_units_of_one_solve_have_what_each_of_them_needs(chain: Catalog) -> None:
    """Stages of one platform may take from a parent or an input that other platforms do not take from."""
    text = ("FROM scratch AS x-amd64\nCOPY --from=static /a /a\nCOPY --from=build-inputs /one /a\n"
            "FROM --platform=$BUILDPLATFORM debian AS made\nRUN true\n"
            "FROM scratch AS x-arm64\nCOPY --from=debian /a /a\nCOPY --from=made /a /a\n"
            "COPY --from=unpacked-two / /\nFROM x-$TARGETARCH\n")
    inputs = ("inputs:\n  one: {url: 'https://example.org/one', for: build}\n"
              "  two: {debian: [two], for: build}\n")
    deb = {"archive": "debian", "name": "two", "version": "1", "architecture": "all", "path": "pool/two_1_all.deb"}
    made_for = {"one": {"url": "https://example.org/one", "for": "build"},
                "two": {"packages": ["two"], "essential": False, "suites": ["trixie"], "for": "build"}}
    lines: list[dict[str, object]] = [
        {"lock": 2, "snapshot": "20261123T112238Z", "made_for": made_for},
        {"input": "one", "kind": "url", "url": "https://example.org/one", "sha256": "1" * 64, "size": 1},
        *({"input": "two", "kind": "debian", **deb, "platform": f"linux/{name}", "sha256": "2" * 64, "size": 1}
          for name in ("amd64", "arm64")),
    ]
    chain.image("many", text, inputs)
    chain.write("many/lock.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    plan = chain.plan()
    units = [plan.units[Key("many", "", platform)] for platform in (AMD64, ARM64)]
    assert units[0].labels == units[1].labels and units[0].epoch == units[1].epoch, "so they are one batch"
    digests = {name: {str(platform): DIGEST for platform in (AMD64, ARM64)} for name in ("debian", "static")}
    with pytest.raises(FarmError, match="its packages two were not unpacked for linux/amd64"):
        make(units, plan, Sources({}), build=AMD64, registry=REGISTRY, repository="desimages/many", digests=digests,
             unpacked={})
    solve = make(units, plan, Sources({}), build=AMD64, registry=REGISTRY, repository="desimages/many", digests=digests,
                 unpacked={"two": f"desimages/archive@{DIGEST}"})
    contexts = {name for name in solve.options if name.startswith("context:")}
    assert contexts == {"context:static::linux/amd64", "context:debian::linux/arm64", "context:debian::linux/amd64",
                        "context:build-inputs::linux/amd64", "context:build-inputs::linux/arm64",
                        "context:unpacked-two"}
    assert solve.options["context:unpacked-two"] == f"docker-image://{REGISTRY}/desimages/archive@{DIGEST}"
    files = {name: set(solve.contexts[solve.options[f"context:build-inputs::linux/{name}"].removeprefix("local:")])
             for name in ("amd64", "arm64")}
    assert files == {"amd64": {"one"}, "arm64": {"two/two_1_all.deb"}}, "no unit sees what its record does not have"
    assert solve.output["compression-level"] == "11", "it has an index, so it is pulled by many"
    many = replace(plan.recipes["many"], compression="gzip")
    solve = make(units, replace(plan, recipes={**plan.recipes, "many": many}), Sources({}), build=AMD64,
                 registry=REGISTRY, repository="desimages/many", digests=digests,
                 unpacked={"two": f"desimages/archive@{DIGEST}"})
    assert GZIP.items() <= solve.output.items()


def test_gzip_is_part_of_the_id_of_each_image_with_an_index_and_the_reason_to_build(chain: Catalog) -> None:
    before = chain.plan().units
    chain.write("defaults.yml", f"{DEFAULTS}compression: gzip\n")
    after = chain.plan().units
    debian, builder = Key("debian", "", AMD64), Key("builder", "go", AMD64)
    assert after[debian].record["output"] == {**GZIP, "id": GZIP_ID}
    assert reasons(after[debian].record, before[debian].record)[0] == "how its layers are compressed changed"
    assert after[builder].record["output"] == before[builder].record["output"] == WITHOUT_INDEX
    chain.write("defaults.yml", f"{DEFAULTS}compression: zstd\n")
    assert {key: unit.id for key, unit in chain.plan().units.items()} == {
        key: unit.id for key, unit in before.items()}


SOURCES = Sources({"a": (0o755, "0000010" + "d" * 57, 7), ".dockerignore": (0o644, "0" * 64, 1)},
                  {"x": {"go.mod": (0o644, "9" * 64, 2)}, "cc": {"main.go": (0o644, "8" * 64, 4)}})


def solved(chain: Catalog, *platforms: Any) -> Solve:
    """The solve of many-go for these platforms, on a machine that is amd64."""
    plan = whole(chain)
    digests = {"static": {str(AMD64): "sha256:1", str(ARM64): "sha256:2"}, "debian": {str(AMD64): "sha256:3"}}
    return make([plan.units[Key("many", "go", platform)] for platform in platforms], plan, SOURCES, build=AMD64,
                registry=REGISTRY, repository="ns/many-go", digests=digests, unpacked={})


def test_all_that_a_solve_asks_for(chain: Catalog) -> None:
    solve = solved(chain, AMD64, ARM64)
    units = whole(chain).units
    labels = units[Key("many", "go", ARM64)].labels
    assert (solve.name, solve.platforms) == ("many-go amd64, arm64", (AMD64, ARM64))
    contexts = {key: solve.options[key] for key in solve.options if key == "dockerfilekey" or key.endswith("inputs")
                or key.startswith("context:inputs::")}
    image = f"docker-image://{REGISTRY}/ns"
    assert {key: value for key, value in solve.options.items() if key not in contexts} == {
        "platform": "linux/amd64,linux/arm64", "force-network-mode": "none", "filename": "Dockerfile", "target": "go",
        "build-arg:BUILDKIT_MULTI_PLATFORM": "1", "build-arg:SOURCE_DATE_EPOCH": "1795432958", "build-arg:LEVEL": "2",
        **{f"label:{name}": text for name, text in labels.items()},
        "context:static::linux/amd64": f"{image}/static@sha256:1",
        "context:static::linux/arm64": f"{image}/static@sha256:2",
        "context:debian::linux/amd64": f"{image}/debian@sha256:3"}
    assert solve.output == {
        "type": "image", "name": f"{REGISTRY}/ns/many-go", "push": "true", "push-by-digest": "true",
        "name-canonical": "true", "compression": "zstd", "compression-level": "3", "force-compression": "true",
        "oci-mediatypes": "true", "rewrite-timestamp": "true",
        **{f"annotation.{name}": text for name, text in labels.items()}}

    text = "".join(STAGES.values()).encode()
    empty = b"# What is ignored has been left out already.\n"
    trees = {key: solve.contexts[name.removeprefix("local:")] for key, name in contexts.items()}
    assert trees == {
        "dockerfilekey": {"Dockerfile": File(hashlib.sha256(text).hexdigest(), len(text)),
                          "Dockerfile.dockerignore": File(hashlib.sha256(empty).hexdigest(), len(empty))},
        "context:build-inputs": {"cc": File("c" * 64, 3), "cc/main.go": File("8" * 64, 4)},
        "context:inputs::linux/amd64": {"x": File(X["linux/amd64"], 5), "x/go.mod": File("9" * 64, 2)},
        "context:inputs::linux/arm64": {"x": File(X["linux/arm64"], 5), "x/go.mod": File("9" * 64, 2)}}
    assert all(context_name(tree) in solve.contexts for tree in trees.values())
    assert solve.trees()["context"] == {
        "a": ["0000010" + "d" * 57, 7, 0o755, 10**18 + 16],
        ".dockerignore": ["0" * 64, 1, 0o644, 10**18]}


def test_inputs_that_are_the_same_for_all_platforms_are_one_context(chain: Catalog) -> None:
    """With a platform in its name, BuildKit would ask for it once a platform."""
    assert [key for key in solved(chain, ARM64).options if key.startswith("context:inputs")] == ["context:inputs"]
    plan = chain.plan()
    unit = plan.units[Key("debian", "", AMD64)]
    files = {path: facts for path, facts in SOURCES.files.items() if path == "a"}
    plain = make([unit], plan, Sources(files), build=AMD64, registry=REGISTRY, repository="ns/debian", digests={},
                 unpacked={})
    assert {key for key in plain.options if key.startswith("context:") or key == "target"} == set()
    assert plain.trees()["context"]["a"][3] == 10**18 + 16, "whatever the snapshot's time is"
    assert list(plain.contexts[plain.options["dockerfilekey"]]) == ["Dockerfile"]


def test_the_words_for_buildctl_are_in_order_and_quoted() -> None:
    """Each --output is a list with commas, as RFC 4180 has them."""
    solve = Solve("x", (AMD64,), {"context": {}, "c1": {}}, {"b": "2", "a": "1"},
                  {"type": "image", "annotation.x": 'a "b", c', "annotation.y": "d\ne"})
    assert solve.words({"c1": "/1", "context": "/2"}, "/policy", "/metadata") == [
        "build", "--progress=rawjson", "--frontend=dockerfile.v0", "--source-policy-file=/policy",
        "--metadata-file=/metadata", "--local=c1=/1", "--local=context=/2", "--opt=a=1", "--opt=b=2",
        '--output=type=image,"annotation.x=a ""b"", c","annotation.y=d\ne"']
    assert [csv(text) for text in ("x a", "a,b", 'a"b', "a\nb")] == ["x a", '"a,b"', '"a""b"', '"a\nb"']


def test_a_context_is_named_by_all_that_it_is_made_of() -> None:
    """BuildKit takes what it was sent before for the same where name, size and mtime are."""
    tree = {"a": File("1" * 64, 1), "b": File("2" * 64, 1)}
    first = tree["a"]
    others = [{"a": first}, {"c": first, "b": tree["b"]},
              *({**tree, "a": other} for other in (replace(first, sha256="3" * 64), replace(first, mode=0o755),
                                                   replace(first, mtime=1)))]
    assert len({context_name(each) for each in (tree, *others)}) == 6
    assert re.fullmatch("c[0-9a-f]{24}", context_name(tree))
    assert context_name(dict(reversed(tree.items()))) == context_name(tree)
