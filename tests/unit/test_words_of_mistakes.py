"""A mistake is told so that a stranger understands it the first time: what is wrong, what is allowed, and only once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import NAMED
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import schema
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.pace import cause
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import nearest

from .conftest import Catalog

URL = "inputs:\n  i: {url: 'https://example.org/y'}\n"


def said(catalog: Catalog, path: str = "images/a/") -> list[str]:
    """The mistakes, without the place and without that there is no lock."""
    return [problem.removeprefix(path) for problem in catalog.problems() if "run `make lock`" not in problem]


def patterns(part: Any) -> list[dict[str, Any]]:
    """The parts of a schema that have a pattern, but for those that only tell kinds of inputs apart."""
    if isinstance(part, list):
        return [found for one in part for found in patterns(one)]
    if not isinstance(part, dict):
        return []
    own = [part] if isinstance(part.get("pattern"), str) else []
    return own + [found for key, one in part.items() if key not in ("if", "not") for found in patterns(one)]


@pytest.mark.parametrize("made", [schema.recipe, schema.defaults])
def test_no_message_shows_a_regular_expression(made: Any) -> None:
    found = patterns(made())
    assert found and [part["pattern"] for part in found if "$comment" not in part and part["pattern"] != r"^\./"] == []


@pytest.mark.parametrize("text", [
    "''", "' '", "' x'", "'x '", '"a\\nb"', "|\n  a\n", '"a\\u202eb"', '"\\ufeffx"', '"x\\u200b"', '"a\\tb"'])
@pytest.mark.parametrize("key", ["version", "title"])
def test_a_label_is_one_line_that_a_person_can_see(empty: Catalog, key: str, text: str) -> None:
    empty.image("a", "FROM scratch\n", f"{key}: {text}\n")
    (found,) = said(empty)
    assert f"{key} is " in found and "it must be one line, without spaces or a line break around it" in found


@pytest.mark.parametrize("given", [
    "{url: 'https://example.org:99999/x'}", "{url: 'https://.../x'}", "{url: 'https://[1:2]/x'}",
    "{url: 'http://a:0/'}",
    "{url: {linux/amd64: 'http://127.1/x', linux/arm64: 'https://example.org./x'}}", "{url: 'https://-a/x'}",
    "{git: 'https://example.org:99999/x.git', ref: v1}", "{git: 'ssh://git@[1:2]/x.git', ref: v1}",
])
def test_an_address_whose_host_cannot_be_is_refused_before_it_is_asked(empty: Catalog, given: str) -> None:
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\n", f"inputs:\n  x: {given}\n")
    (found,) = said(empty)
    assert found.startswith("image.yml:6: x: nothing can be at ") and "there is no such host or port" in found


@pytest.mark.parametrize("given", [
    "{git: 'ssh://git@example.org:22/x', ref: v1}", "{git: 'git@example.org:x.git', ref: v1}",
    "{url: 'https://example.org./x'}", "{url: 'https://[::1]:80?x=https://[1:2]/'}",
])
def test_an_address_whose_host_may_be_is_taken(empty: Catalog, given: str) -> None:
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\n", f"inputs:\n  x: {given}\n")
    assert said(empty) == []


def test_a_label_may_have_any_letters(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\n", "title: ما می‌خواهیم 👩‍💻 Čeština — «»\n")
    assert empty.plan().units


@pytest.mark.parametrize(("key", "value"), [
    ("home", "'https://'"), ("home", "'https:// x'"), ("home", "'https:///x'"), ("home", "'https://?x'"),
])
def test_an_address_has_a_host_and_no_spaces(empty: Catalog, key: str, value: str) -> None:
    empty.image("a", "FROM scratch\n")
    empty.write("a/image.yml", f"description: x\nlicense: MIT\n{key}: {value}\n")
    (found,) = said(empty)
    assert "it must be an address by http or https, without spaces, such as https://example.org" in found


@pytest.mark.parametrize("folder", ["data", "/", "/data/", "/a/../b", "/a/./b", "//a", "/a:/b", "/a,b", "/a b", "/.."])
@pytest.mark.parametrize("part", ["volumes", "tmpfs"])
def test_a_folder_is_written_in_one_way(empty: Catalog, part: str, folder: str) -> None:
    empty.image("a", "FROM scratch\n", f"contract: {{{part}: ['{folder}']}}\n")
    (found,) = said(empty)
    assert f"contract.{part}.0 is '{folder}', it must be an absolute path without . and .., spaces, : and " in found


def test_a_folder_is_kept_or_it_is_not(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nVOLUME /a\n", "contract: {volumes: [/a], tmpfs: [/b, /a]}\n")
    assert said(empty) == [
        "image.yml:5: contract: tmpfs has /a, which is in volumes too: its data are kept, or they are not"]


def test_a_user_without_an_instruction_is_told(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\n", "contract: {user: 5}\n")
    assert said(empty) == ["image.yml:5: contract: user is 5, but the Dockerfile has no USER, so it runs as root"]
    empty.image("b", "FROM scratch\nUSER 5\n")
    empty.image("a", "FROM b\n", "contract: {user: 5}\n")
    assert empty.plan().units


def test_an_address_of_tcp_has_a_port(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nHEALTHCHECK CMD x 127.0.0.1:80\n", "contract: {health: {tcp: 127.0.0.1}}\n")
    (found,) = said(empty)
    assert found.endswith("contract.health.tcp is '127.0.0.1', it must be HOST:PORT, such as 127.0.0.1:8080")


@pytest.mark.parametrize(("name", "words"), [
    ("debian:trixie", "; names in the catalog have no tag: make an image of another registry an `image` input"),
    ("ghcr.io/x/y", "make an image of another registry an `image` input, and name that here"),
    ("scrach", " (did you mean 'scratch'?)"), ("SCRATCH", " (did you mean 'scratch'?)"), ("A", " (did you mean 'a'?)"),
    ("scr\u0430tch", " (did you mean 'scratch', without \\u0430, which is not ASCII?)"),
])
def test_what_was_meant_by_a_name_in_from_is_told(empty: Catalog, name: str, words: str) -> None:
    empty.image("a", f"FROM {name}\n")
    (found,) = said(empty)
    assert f"'{name}' is not an image of the catalog" in found and words in found


@pytest.mark.parametrize(("name", "near"), [
    ("licence", "license"), ("INPUTS", "inputs"), ("gp", "go"), ("from", ""), ("name", ""),
    ("linux/ARM64", "linux/arm64"),
])
def test_only_what_is_near_is_said_to_be_meant(name: str, near: str) -> None:
    allowed = ["license", "inputs", "home", "go", "c", "linux/arm64"]
    assert nearest(name, allowed) == (f" (did you mean '{near}'?)" if near else "")


@pytest.mark.parametrize(("name", "near"), [
    ("linux/x86_64", "linux/amd64"), ("x86_64", "linux/amd64"), ("amd64", "linux/amd64"), ("armhf", "linux/arm/v7"),
    ("Linux/AARCH64", "linux/arm64"), ("linux/i386", "linux/386"), ("linux/armv6l", "linux/arm/v6"),
    ("armel", "linux/arm/v6"), ("ppc64el", "linux/ppc64le"),
])
def test_a_platform_is_known_by_its_other_names(name: str, near: str) -> None:
    assert nearest(name, list(NAMED)) == f" (did you mean {near!r}?)"
    assert "linux" not in nearest(name, ["machine", "arm"])


def test_an_input_with_a_mistake_is_told_once(empty: Catalog) -> None:
    empty.image("a", "FROM i\n", "inputs:\n  i: {image: 'debian'}\n")
    (found,) = said(empty)
    assert found.startswith("image.yml:6: inputs.i.image is 'debian', it must name the registry")


@pytest.mark.parametrize("use", [
    "COPY --from=inputs / /x", "COPY --from=inputs /* /x", "COPY --from=inputs /$N /x",
    "RUN --mount=type=bind,from=inputs,target=/x true",
])
def test_an_input_is_named(empty: Catalog, use: str) -> None:
    empty.image("a", f"FROM scratch\nCOPY --from=inputs /i /i\n{use}\n", URL)
    (found,) = said(empty)
    assert found.startswith("Dockerfile:3: /")
    assert "of inputs names no input: write the name of one out, as in /i; inputs: i" in found


@pytest.mark.parametrize(("mount", "words"), [
    ("type=bnd,target=/x", "type is 'bnd', it must be bind or cache or tmpfs"),
    ("type=$X,id=x", "type is '$X', it must be bind or cache or tmpfs"),
    ("bind,target=/x", "'bind' is no option of a mount"),
    ("type=cache,targt=/x", "'targt' is no option of a mount (did you mean 'target'?); options: type, from, "),
])
def test_a_mount_is_checked_before_the_build(empty: Catalog, mount: str, words: str) -> None:
    empty.image("a", f"FROM scratch\nARG X=secret\nRUN --mount={mount} true\n")
    (found,) = said(empty)
    assert found.startswith(f"Dockerfile:3: RUN --mount={mount}: {words}")


def test_what_is_no_package_is_taken_from_where_it_is(empty: Catalog) -> None:
    empty.image("a", "FROM unpacked-i\n", URL)
    assert said(empty) == ["Dockerfile:1: unpacked-i: only Debian packages are unpacked; take i from inputs"]


def test_a_flag_that_an_instruction_has_not_is_told_once(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nADD --from=x f /\n")
    (found,) = said(empty)
    assert found.startswith("Dockerfile:2: ADD --from: there is no such flag")


@pytest.mark.parametrize(("text", "words"), [
    ("FROM scratch\n" * 501, "Dockerfile:501: more than 500 stages"),
    ("ARG a=b\n" * 1001 + "FROM scratch\n", "Dockerfile:1001: more than 1000 arguments before the first FROM"),
])
def test_the_limit_that_was_reached_is_told(empty: Catalog, text: str, words: str) -> None:
    empty.image("a", text)
    assert said(empty) == [words]


def test_a_catalog_of_targets_has_nothing_to_build(empty: Catalog) -> None:
    empty.image("a", "FROM scratch AS b\n", "targets: [b]\n")
    with pytest.raises(BadInput) as error:
        select(empty.plan(), None, [], [], "")
    (found,) = error.value.problems
    assert found.startswith("there is nothing to build: every image of the catalog has targets")


def test_a_name_is_told_with_the_variable_that_has_it(chain: Catalog) -> None:
    with pytest.raises(BadInput) as error:
        select(chain.plan(), None, ["x"], [], "", called="image")
    assert error.value.problems[0].startswith("image: 'x' is not an image of the catalog")


@pytest.mark.parametrize(("reason", "said"), [
    ("_Connection(host='127.0.0.1', port=1): Failed to connect", "Failed to connect"),
    ("<urllib3.connection.HTTPConnection object at 0x7f>: Failed to connect", "Failed to connect"),
    ("Read timed out", "Read timed out"),
])
def test_a_trouble_of_the_network_is_told_without_objects_of_python(reason: str, said: str) -> None:
    error = OSError(reason)
    assert cause(error) == said
    outer = OSError("x")
    outer.reason = error  # type: ignore[attr-defined]
    assert cause(outer) == said


def refused(*catalog: str) -> list[str]:
    with pytest.raises(BadInput) as error:
        load_catalog(catalog)
    return error.value.problems


def test_a_folder_of_farm_catalog_that_is_none_is_told(empty: Catalog, tmp_path: Path) -> None:
    empty.image("a", "FROM scratch\n")
    file = str(empty.root / "a/image.yml")
    allowed = "; it lists folders of images, each by its absolute path or as desimages.farm"
    assert refused(str(empty.root), "/nowhere", file, "Desimages.farm", "/a\0b") == sorted([
        f"farm_catalog: '/nowhere' does not exist{allowed}", f"farm_catalog: '{file}' is not a folder{allowed}",
        f"farm_catalog: 'Desimages.farm' does not exist (did you mean 'desimages.farm'?){allowed}",
        f"farm_catalog: '/a\\x00b' is not a folder{allowed}"])


def test_a_folder_that_is_named_twice_is_told_as_that(empty: Catalog, tmp_path: Path) -> None:
    empty.image("a", "FROM scratch\n")
    (tmp_path / "link").symlink_to(empty.root)
    assert refused(str(empty.root), str(tmp_path / "link")) == [
        f"farm_catalog: '{tmp_path}/link' is a folder that it has already; remove one"]


def test_a_catalog_without_an_image_says_where_one_would_be(tmp_path: Path) -> None:
    assert refused(str(tmp_path)) == [
        f"no image in any folder of farm_catalog ({tmp_path}): one is a folder with an image.yml, right in one of "
        "these"]


@pytest.mark.parametrize(("step", "words"), [
    ("COPY confg /etc/", "the image's folder has no 'confg' (did you mean 'config'?)"),
    ("ADD config/nginx.cnf config/nginx.conf /etc/", "the image's folder has no 'config/nginx.cnf' (did you mean "
                                                     "'config/nginx.conf'?)"),
    ('COPY ["./gone file", "/"]', "the image's folder has no 'gone file'"),
    ("COPY secret.env /", "'secret.env' is left out of the context: by an ignore file, or because it is the farm's "
                          "own"),
    ("COPY /image.yml /", "'image.yml' is left out of the context: by an ignore file, or because it is the farm's "
                          "own"),
])
def test_what_copy_does_not_find_is_told_before_the_build(empty: Catalog, step: str, words: str) -> None:
    empty.write("a/config/nginx.conf", "x")
    empty.write("a/secret.env", "x")
    empty.write("a/.dockerignore", "*.env\n")
    empty.image("a", f"FROM scratch\n{step}\n")
    assert said(empty) == [f"Dockerfile:2: {words}"]


@pytest.mark.parametrize("step", [
    "COPY . /", "COPY / /", "COPY config/ ./config/../config/nginx.conf ../config /x", "COPY c*g /", "COPY $X /",
    "COPY --parents config/./nginx.conf /", "COPY <<a /x\nhello\na", "COPY --from=used /gone /",
])
def test_what_copy_finds_or_may_find_is_not_told(empty: Catalog, step: str) -> None:
    empty.write("a/config/nginx.conf", "x")
    empty.image("a", f"FROM scratch AS unused\nCOPY gone /\nFROM scratch AS used\nFROM scratch\nARG X\n{step}\n")
    empty.plan()


def test_what_copy_does_not_find_on_some_platforms_is_told_for_these(empty: Catalog) -> None:
    empty.image("a", "FROM scratch AS of-amd64\nFROM scratch AS of-arm64\nCOPY gone /\nFROM of-$TARGETARCH\n")
    assert said(empty) == ["Dockerfile:3: the image's folder has no 'gone' (for linux/arm64)"]


def test_a_file_that_is_no_text_hides_no_mistake_in_another_one() -> None:
    garbage = [f"images/a/Dockerfile:{line}: bad" for line in range(1, 70_001)]
    error = BadInput([*garbage, "images/b/image.yml:3: worse", *["farm_x: wrong"] * 60])
    lines = str(error).split("\n")
    assert lines[0] == "70061 mistakes in the catalog:" and len(error.problems) == 70_061
    assert lines[50:53] == ["images/a/Dockerfile:50: bad", "images/b/image.yml:3: worse", "farm_x: wrong"]
    assert len(lines) == 113 and lines[-1] == "images/a/Dockerfile: and 69950 more"
