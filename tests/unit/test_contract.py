"""What a contract repeats of its Dockerfile is compared with it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.contract import Contract, Refusal, Request, mistakes

from .conftest import Catalog

SERVICE = """FROM scratch AS other
EXPOSE 1
FROM scratch AS first
EXPOSE 5000 5001/TCP
VOLUME ["/data"]
USER 0
FROM first
COPY . /a
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
        ('5000/v2/"', '5000/v"',
         ['9: contract: health promises http://127.0.0.1:5000/v, but the Dockerfile says HEALTHCHECK CMD '
          '["/health", "http", "http://127.0.0.1:5000/v2/"]']),
        ('{http: "http://127.0.0.1:5000/v2/", status: 200}', '{tcp: "127.0.0.1:500"}',
         ['9: contract: health promises 127.0.0.1:500, but the Dockerfile says HEALTHCHECK CMD '
          '["/health", "http", "http://127.0.0.1:5000/v2/"]']),
        ('{http: "http://127.0.0.1:5000/v2/"', '{http: "http://10.0.0.1:5000/v2/"',  # it is told once
         ["9: contract: health asks http://10.0.0.1:5000/v2/: an image is checked on its own loopback: write 127.0.0.1 "
          "instead of 10.0.0.1"]),
        ("status: 200", "status: 401",
         ['9: contract: health promises 401, but the Dockerfile says HEALTHCHECK CMD ["/health", "http", '
          '"http://127.0.0.1:5000/v2/"]']),
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
        (SERVICE.replace("127.0.0.1:5000/v2/", "$HOST/"), ""),
        (SERVICE.replace("FROM first\nCOPY . /a", "EXPOSE 5000 5001/tcp\nVOLUME /data\nCOPY --from=other /a /a"), ""),
        (SERVICE.replace("HEALTHCHECK", "# HEALTHCHECK"), "is promised, but the Dockerfile has no HEALTHCHECK"),
        (f"{SERVICE[:SERVICE.index('HEALTHCHECK')]}HEALTHCHECK none\n",
         "promises http://127.0.0.1:5000/v2/, but the Dockerfile says HEALTHCHECK none"),
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


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("5000 5001/TCP", '"5000" 5001/TCP'),
        ("5000 5001/TCP", "5000-5001"),
        ("5000 5001/TCP", "8080:5000 5001/"),
        ('["/data"]', '[ "/data" ]'),
        ('["/data"]', "'/data'"),
        ("2000:2000", '"2000"'),
        ("2000:2000", "service"),  # who that is, is in a file of the image
        ('"/health", "http",', '"/health","http" ,'),
        ('"http://127.0.0.1:5000/v2/"', '"http:\\/\\/127.0.0.1:5000/v2\\u002f"'),
    ],
)
def test_a_dockerfile_may_write_the_same_in_another_way(empty: Catalog, old: str, new: str) -> None:
    assert old in SERVICE
    empty.image("a", SERVICE.replace(old, new), CONTRACT)
    empty.plan()


def test_a_part_of_the_checks_command_may_have_several_words(empty: Catalog) -> None:
    contract = CONTRACT.replace('{http: "http://127.0.0.1:5000/v2/", status: 200}', '{command: "/health http"}')
    empty.image("a", SERVICE, contract)
    empty.plan()


def test_root_has_the_number_0(empty: Catalog) -> None:
    empty.image("a", SERVICE.replace("USER 2000:2000", "USER root"), CONTRACT.replace("user: 2000", "user: 0"))
    empty.plan()
    empty.image("a", SERVICE.replace("USER 2000:2000", "USER root:2000"), CONTRACT)
    assert empty.problems() == ["images/a/image.yml:6: contract: user is 2000, but the Dockerfile says USER root:2000"]


@pytest.mark.parametrize(("old", "new"), [("USER 2000:2000", f"USER {'9' * 5000}"), ("5001/TCP", "5" * 5000)])
def test_a_number_of_thousands_of_digits_is_refused(empty: Catalog, old: str, new: str) -> None:
    """Python reads none."""
    empty.image("a", SERVICE.replace(old, new), CONTRACT)
    assert [problem.partition(" ")[0] for problem in empty.problems()]


def test_a_range_of_ports_is_each_of_them(empty: Catalog) -> None:
    empty.image("a", SERVICE.replace("5000 5001/TCP", "5000-5002"), CONTRACT)
    assert empty.problems() == ["images/a/image.yml:7: contract: ports has no 5002/tcp, but EXPOSE of the Dockerfile "
                                "names it"]


PARENT = 'FROM scratch AS files\nEXPOSE 1\nFROM scratch\nEXPOSE 9\nVOLUME /above\nHEALTHCHECK CMD ["x"]\nCMD ["y"]\n'
CHILD = """contract:
  command: [y]
  ports: {mine: 8/tcp, its: 9/tcp}
  volumes: [/above]
  health: {command: x}
"""


def test_what_an_image_of_the_catalog_says_counts_for_those_that_are_from_it(empty: Catalog) -> None:
    empty.image("parent", PARENT)
    empty.image("between", "FROM parent\n")
    empty.image("a", "FROM between\nEXPOSE 8\n", CHILD)
    empty.plan()
    empty.image("a", "FROM between\nEXPOSE 8\n", CHILD.replace("its: 9", "its: 1").replace("[y]", "[z]"))
    assert empty.problems() == [
        "images/a/image.yml:6: contract: command is ['z'], but an image that it is based on says CMD [\"y\"]",
        "images/a/image.yml:7: contract: ports has 1/tcp, but no EXPOSE of the Dockerfile names it"]
    empty.image("a", 'FROM between\nEXPOSE 8\nENTRYPOINT ["z"]\n', CHILD.replace("[y]", "[z]"))
    empty.plan()
    empty.image("parent", PARENT.replace("HEALTHCHECK", "# HEALTHCHECK"))
    assert empty.problems() == ["images/a/image.yml:9: contract: health is promised, but the Dockerfile has no "
                                "HEALTHCHECK"]


def test_what_an_image_of_others_says_is_not_known_and_not_compared(empty: Catalog) -> None:
    empty.image("a", "FROM theirs\nEXPOSE 8\n", "inputs: {theirs: {image: example.org/theirs:1}}\n" + CHILD)
    said = [problem for problem in empty.problems() if "contract:" in problem]
    assert said == []
    empty.image("a", "FROM theirs\nEXPOSE 8 7\n", "inputs: {theirs: {image: example.org/theirs:1}}\n" + CHILD)
    said = [problem for problem in empty.problems() if "contract:" in problem]
    assert said == ["images/a/image.yml:8: contract: ports has no 7/tcp, but EXPOSE of the Dockerfile names it"]


COMMAND = CONTRACT + "  command: [serve, /config]\n"


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        (SERVICE, ""),
        (SERVICE + 'CMD ["serve", "/config"]\n', ""),
        (SERVICE + 'CMD ["serve", "/other"]\n', 'CMD ["serve", "/other"] (line 13)'),
        (SERVICE + 'CMD ["serve", \\\n  "/other"]\nCMD ["serve", "/config"]\n', ""),
        (SERVICE + 'CMD ["serve", "/config"]\ncmd []\n', "CMD [] (line 14)"),
        (SERVICE + "CMD serve /config\n", "CMD serve /config (line 13)"),
        (SERVICE + 'CMD ["serve", "$CONFIG"]\n', 'CMD ["serve", "$CONFIG"] (line 13)'),  # nobody expands it
        (SERVICE.replace("USER 0", 'CMD ["x"]'), 'CMD ["x"] (line 6)'),
        (SERVICE.replace("USER 0", 'CMD ["x"]') + 'ENTRYPOINT ["/srv"]\n', ""),
        (SERVICE.replace("USER 0", 'CMD ["serve", "/config"]\nENTRYPOINT ["/srv"]'), ""),
        (SERVICE + 'CMD ["x"]\nENTRYPOINT ["/srv"]\n', 'CMD ["x"] (line 13)'),
        (SERVICE.replace("EXPOSE 1\n", 'CMD ["x"]\n'), ""),  # of a stage that it does not descend from
    ],
)
def test_a_command_is_the_one_of_the_dockerfile(empty: Catalog, dockerfile: str, said: str) -> None:
    empty.image("a", dockerfile, COMMAND)
    if not said:
        empty.plan()
        return
    with pytest.raises(BadInput) as error:
        empty.plan()
    assert error.value.problems == ["images/a/image.yml:10: contract: command is ['serve', '/config'], but the "
                                    f"Dockerfile says {said}"]


def test_what_ends_by_itself_and_a_command_for_a_shell_may_say_more_than_the_dockerfile(empty: Catalog) -> None:
    empty.image("a", 'FROM scratch\nCMD ["bash"]\n', "contract:\n  command: [bash, -c, 'apt-get --version']\n")
    empty.image("b", SERVICE + "CMD serve /config\n", CONTRACT + '  command: [/bin/sh, -c, "serve /config"]\n')
    empty.plan()


def test_all_differences_and_mistakes_are_told_at_once(empty: Catalog) -> None:
    empty.image("a", SERVICE + 'CMD ["x"]\n', COMMAND.replace("5001/tcp", "5002/tcp").replace("/data, ", "") + (
        '  metrics: "http://127.0.0.1:5001/metrics"\n'
        '  answers:\n    - {http: "http://127.0.0.1:5000/", says: "(open"}\n'
        '    - {command: [a, "b c"], status: 404, method: POST}\n'
        '  refuses:\n    - {command: [x], says: "a{2,1}"}\n    - {says: anything}\n'))
    with pytest.raises(BadInput) as error:
        empty.plan()
    assert [problem.removeprefix("images/a/image.yml:") for problem in error.value.problems] == [
        "7: contract: ports has 5002/tcp, but no EXPOSE of the Dockerfile names it",
        "7: contract: ports has no 5001/tcp, but EXPOSE of the Dockerfile names it",
        "8: contract: volumes has no /data, but VOLUME of the Dockerfile names it",
        "10: contract: command is ['serve', '/config'], but the Dockerfile says CMD [\"x\"] (line 13)",
        "11: contract: metrics asks http://127.0.0.1:5001/metrics: no port in ports is 5001/tcp, so nobody could read "
        "them from outside; TCP ports: 5000/tcp, 5002/tcp",
        "13: contract: answers.0.says is '(open', which is not a regular expression: missing ), unterminated "
        "subpattern at position 0",
        "14: contract: answers.1.method is for a request by http, and this answer has the command a 'b c'",
        "14: contract: answers.1.status is for a request by http, and this answer has the command a 'b c'",
        "16: contract: refuses.0.says is 'a{2,1}', which is not a regular expression: min repeat greater than max "
        "repeat at position 2",
        "17: contract: refuses.1 is the example run itself: give it a wrong command or environment"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"health": {"http": "http://127.0.0.1:9/"}, "ports": {"a": "1/tcp"}}, []),  # only the check itself asks it
        ({"health": {"http": "http://example.org:9/"}}, [
            "health asks http://example.org:9/: an image is checked on its own loopback: write 127.0.0.1 instead of "
            "example.org"]),
        ({"health": {"http": "http://[::1]:9/"}, "answers": [{"http": "http://localhost/"}]}, []),
        ({"health": {"http": "http://127.0.0.1:99999/"}}, [
            "health asks http://127.0.0.1:99999/: it is not a URL: write a host, and a port from 1 to 65535, as in "
            "http://127.0.0.1:8080/"]),
        ({"ports": {"a": "80/udp"}, "metrics": "http://127.0.0.1/"}, [
            "metrics asks http://127.0.0.1/: no port in ports is 80/tcp, so nobody could read them from outside; TCP "
            "ports: none"]),
        ({"ports": {"a": "443/tcp"}, "metrics": "https://127.0.0.1/"}, []),
        ({"ports": {"a": "1/tcp", "b": "1/udp", "c": "1/tcp"}}, [
            "ports.c is 1/tcp, which a is already: leave one of them out"]),
        ({"ports": {"a": "1/tcp"}, "answers": [{"command": ["a"], "again": True}]}, [
            "answers.0.again asks whether data were kept, but the image has no volumes that could keep them: leave it "
            "out, or name the volumes"]),
        ({"ports": {"a": "1/tcp"}, "volumes": ["/a"], "answers": [{"command": ["a"], "again": True}]}, []),
        ({"command": ["a"], "answers": [{"command": ["a"]}]}, [
            "answers belong to a service, but this image has neither ports nor health"]),
        ({"exceptions": {"privileges": {"seccomp": "why"}}}, []),
        ({"exceptions": {"privileges": {"all": "why"}}}, [
            "exceptions.privileges.all must be one of no-new-privileges, seccomp, apparmor"]),
        ({"exceptions": {"capabilities": {"SETUID": "why", "CAP_NET_RAW": "why", "chown": "why", "ALL": "why"}}}, []),
        ({"exceptions": {"capabilities": {"SETUIDS": "why", "*": "why"}}}, [
            "exceptions.capabilities.SETUIDS is no capability (did you mean 'SETUID'?); see capabilities(7)",
            "exceptions.capabilities.* is no capability; see capabilities(7)"]),
        ({"health": {"tcp": "127.0.0.1:1", "status": 200}}, [
            "health.status needs http or rtsp, and health has neither"]),
        ({"command": ["a"], "environment": {"A": "1"}, "refuses": [{"environment": {"A": "1"}}, {"command": ["a"]}]}, [
            f"refuses.{number} is the example run itself: give it a wrong command or environment"
            for number in (0, 1)]),
        ({"command": ["a"], "environment": {"A": "1"}, "refuses": [{"environment": {"A": "2"}}, {"command": ["b"]}]},
         []),
    ],
)
def test_what_a_contract_says_without_a_meaning_is_told(said: dict[str, Any], told: list[str]) -> None:
    assert [words for _path, words in mistakes(Contract.parse(said))] == told


@pytest.mark.parametrize(("pattern", "told"), [
    *((pattern, True) for pattern in (".*", "a*", "x|", "^", "^.*", "a?$", "$", r"\s*", "(ok)?", "(?i)x*")),
    *((pattern, False) for pattern in (".", "ok", "^$", "^a?$", "^(?!.*error)", r"\b", "x+|y", r"a?\$", "[^a]")),
])
def test_an_expression_that_every_text_matches_is_told(pattern: str, told: bool) -> None:
    said = {"ports": {"a": "1/tcp"}, "answers": [{"command": ["a"], "says": pattern}],
            "command": ["a"], "refuses": [{"command": ["b"], "says": pattern}]}
    words = [words for _path, words in mistakes(Contract.parse(said)) if "not a regular expression" not in words]
    assert words == [f"{part}.0.says is {pattern!r}, which every text matches, so it could never fail: name a word "
                     "that must be there, or leave it out" for part in ("answers", "refuses") if told]


def test_an_empty_expression_counts_where_something_must_be_said() -> None:
    said = {"ports": {"a": "1/tcp"}, "answers": [{"command": ["a"]}], "command": ["a"],
            "refuses": [{"command": ["b"], "says": ""}, {"command": ["c"]}]}
    assert [path for path, _words in mistakes(Contract.parse(said))] == [("refuses", 0, "says")]


def test_who_promises_no_health_needs_no_check(empty: Catalog) -> None:
    empty.image("a", SERVICE.replace("HEALTHCHECK", "# HEALTHCHECK"), CONTRACT[:CONTRACT.index("  health")])
    empty.plan()


def test_a_contract_holds_what_its_recipe_says() -> None:
    said = {"command": ["-x"], "user": 0, "ports": {"a": "1/tcp"}, "health": {"http": "http://a/"},
            "metrics": "http://a/m", "volumes": ["/a"]}
    more = {"environment": {"A": "b"}, "tmpfs": ["/run"], "multicast": True, "exceptions": {"pie": {"/a": "why"}},
            "answers": [{"command": ["ask", "it"], "says": "yes", "again": True}], "refuses": [{"command": ["-y"]}]}
    assert Contract.parse({**said, **more}) == Contract(
        ("-x",), {"A": "b"}, 0, {"a": "1/tcp"}, {"http": "http://a/"}, "http://a/m", ("/a",), ("/run",), True,
        (Request(command=("ask", "it"), says="yes", again=True),), (Refusal(("-y",)),), {"pie": {"/a": "why"}})
    assert Contract.parse({}) == Contract()


def test_a_volume_without_a_folder_is_none(chain: Catalog) -> None:
    chain.image("box", "FROM static\nVOLUME []\n", "contract: {volumes: [/data]}\n")
    assert chain.problems() == [
        "images/box/Dockerfile:2: VOLUME []: the list is empty",
        "images/box/image.yml:5: contract: volumes has /data, but no VOLUME of the Dockerfile names it"]
