"""What a solve asks of BuildKit, and what it may take from where."""

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build.solve import make, policy
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Sources

from .conftest import Catalog

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
    solve = make(units, plan, Sources({}), build=AMD64, registry=REGISTRY, repository="desimages/many", digests=digests,
                 unpacked={"two": f"desimages/archive@{DIGEST}"})
    contexts = {name for name in solve.options if name.startswith("context:")}
    assert contexts == {"context:static::linux/amd64", "context:debian::linux/arm64", "context:debian::linux/amd64",
                        "context:build-inputs", "context:unpacked-two"}
    files = solve.contexts[solve.options["context:build-inputs"].removeprefix("local:")]
    assert set(files) == {"one", "two/two_1_all.deb"}
