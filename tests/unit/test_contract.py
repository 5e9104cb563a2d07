"""What a contract repeats of its Dockerfile is compared with it."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.contract import Contract, Refusal, Request

from .conftest import Catalog

SERVICE = """FROM scratch AS other
EXPOSE 1
FROM scratch AS first
EXPOSE 5000 5001/TCP
VOLUME ["/data"]
USER 0
FROM first
COPY a /a
EXPOSE 53/udp
VOLUME /certs /more
USER 2000:2000
HEALTHCHECK --interval=10s CMD ["/health", "http", "http://127.0.0.1:5000/v2/"]
"""
CONTRACT = """contract:
  user: 2000
  ports: {registry: 5000/tcp, metrics: 5001/tcp, dns: 53/udp}
  volumes: [/data, /certs, /more]
  health: {http: "http://127.0.0.1:5000/v2/", status: 200}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", []),
        ("5001/tcp", "5002/tcp", ["7: contract: ports has 5002/tcp, but no EXPOSE of the Dockerfile names it",
                                  "7: contract: ports has no 5001/tcp, but EXPOSE of the Dockerfile names it"]),
        (", dns: 53/udp", "", ["7: contract: ports has no 53/udp, but EXPOSE of the Dockerfile names it"]),
        ("{registry: 5000/tcp, metrics: 5001/tcp, dns: 53/udp}", "{a: 1/tcp, b: 2/tcp, c: 3/tcp, d: 4/tcp}",
         ["7: contract: ports has 1/tcp, 2/tcp, 3/tcp, 4/tcp, but no EXPOSE of the Dockerfile names it",
          "7: contract: ports has no 5000/tcp, 5001/tcp, 53/udp, but EXPOSE of the Dockerfile names it"]),
        ("/data, ", "", ["8: contract: volumes has no /data, but VOLUME of the Dockerfile names it"]),
        ("user: 2000", "user: 0", ["6: contract: user is 0, but the Dockerfile says USER 2000:2000"]),
        ('5000/v2/"', '5000/v3/", within: 5',
         ['9: contract: health promises http://127.0.0.1:5000/v3/, but the Dockerfile says HEALTHCHECK CMD '
          '["/health", "http", "http://127.0.0.1:5000/v2/"]']),
        ("  volumes: [/data, /certs, /more]\n", "", []),
        ("  user: 2000\n", "", []),
    ],
)
def test_a_contract_that_says_something_else_is_told_with_its_line(empty: Catalog, old: str, new: str,
                                                                   said: list[str]) -> None:
    assert old in CONTRACT
    empty.image("a", SERVICE, CONTRACT.replace(old, new))
    if not said:
        empty.plan()
        return
    with pytest.raises(BadInput) as error:
        empty.plan()
    assert len(error.value.problems) == len(said)
    assert error.value.problems == [f"images/a/image.yml:{wanted}" for wanted in said]


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        (SERVICE.replace("5000 5001/TCP", "$PORT"), ""),
        (SERVICE.replace("USER 2000:2000", "USER $WHO"), ""),
        (SERVICE.replace("USER", "# USER"), ""),
        (SERVICE.replace("127.0.0.1:5000/v2/", "$HOST/"), ""),
        (SERVICE.replace("FROM first\nCOPY a /a", "EXPOSE 5000 5001/tcp\nVOLUME /data\nCOPY --from=other /a /a"), ""),
        (SERVICE.replace("HEALTHCHECK", "# HEALTHCHECK"), "is promised, but the Dockerfile has no HEALTHCHECK"),
        (SERVICE.replace('CMD ["/health"', "none  # CMD"), "promises a check, but the Dockerfile says HEALTHCHECK"),
    ],
)
def test_what_a_variable_decides_is_not_compared_and_what_is_promised_must_be_asked_for(empty: Catalog,
                                                                                        dockerfile: str,
                                                                                        said: str) -> None:
    empty.image("a", dockerfile, CONTRACT)
    if not said:
        empty.plan()
        return
    with pytest.raises(BadInput) as error:
        empty.plan()
    problem, = error.value.problems
    assert problem.startswith(f"images/a/image.yml:9: contract: health {said}")


def test_who_promises_no_health_needs_no_check(empty: Catalog) -> None:
    empty.image("a", SERVICE.replace("HEALTHCHECK", "# HEALTHCHECK"), CONTRACT[:CONTRACT.index("  health")])
    empty.plan()


def test_a_contract_holds_what_its_recipe_says() -> None:
    said = {"command": ["-x"], "user": 0, "ports": {"a": "1/tcp"}, "health": {"http": "http://a/"},
            "metrics": "http://a/m", "volumes": ["/a"]}
    more = {"environment": {"A": "b"}, "tmpfs": ["/run"], "exceptions": {"pie": {"/a": "why"}},
            "answers": [{"command": ["ask", "it"], "says": "yes", "again": True}], "refuses": [{"command": ["-y"]}]}
    assert Contract.parse({**said, **more}) == Contract(
        ("-x",), {"A": "b"}, 0, {"a": "1/tcp"}, {"http": "http://a/"}, "http://a/m", ("/a",), ("/run",),
        (Request(command=("ask", "it"), says="yes", again=True),), (Refusal(("-y",)),), {"pie": {"/a": "why"}})
    assert Contract.parse({}) == Contract()
