"""Variables in a Dockerfile. tests/integration/test_names.py holds the same against BuildKit's lexer."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.expansion import (
    BadExpansion,
    Unknown,
    expand,
    heredocs,
)

VALUES = {"A": "amd64", "E": "", "P": "a/b.c/d", "X": "xx-yy-xx", "Q": "'$A'", "S": "\\x", "N": "l1\nl2",
          "T": "<$0${0}$1$$>", "xA": "x"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A-${A}-$U-$", "amd64-amd64--$"),
        ("${U:-d}${E:-d}${U-d}${E-d}${A-d}|", "dddamd64|"),
        ("${A:+s}${E:+s}${U:+s}|${A+s}${E+s}${U+s}|", "s|ss|"),
        ("${A:?m}${A?m}${E?m}", "amd64amd64"),
        ("${U:-${E:-${A}}}", "amd64"),
        ("${U:-\"a b\"'$A'}", "a b$A"),
        ("${P#*/}|${P##*/}|${P%/*}|${P%%/*}", "b.c/d|d|a/b.c|a"),
        ("${A#amd}${A#64}${A%64}${A%?}${A#\ufeffa}", "64amd64amdamd6md64"),
        ("${X/xx/z}|${X//xx/z}|${X//-/}|${X/?y/}|${X/x*x/}", "z-yy-xx|z-yy-z|xxyyxx|xxy-xx|"),
        ("${X//x/<$$0>}|${X/x/<$$0>}", "<0><0>-yy-<0><0>|<0>x-yy-xx"),
        ("${P/\\//:}|${P//\\//:}", "a:b.c/d|a:b.c:d"),
        ("${A///+}|${E///+}|${E/x/+}|${U/x/+}|${X//x*/+}", "+a+m+d+6+4+|+|||+"),
        ("${N/*/}|${N//*/+}|${N//?/+}", "\nl2|+\n+|++\n++"),
        ("${X//x/$T}|${X/x/$T}", "<xx$><xx$>-yy-<xx$><xx$>|<$0${0}$1$$>x-yy-xx"),
        # escape signs and quotes in what follows a variable's name
        ("${S#'\\'}|${S#\"\\\\\"}|${S%\\\\x}|${S/'\\'x/+}|${S#\"\\x\"}", "x|x||+|"),
        ("${A/a/'\\'}|${A/a/\\/}|${A/a/\"\\x\"}|${A/a/\"\\$\"}", "\\md64|\\/md64|\\\\xmd64|\\$md64"),
        ("'a\\b'|\"\\$A\"|\"\\\\\"", "a\\b|$A|\\"),
        ("a<b<< c << d<", "a<b<< c << d<"),
        ("'$A'\"$A\"\\$A", "$Aamd64$A"),
        ('"a\\"b\\c"', 'a"b\\c'),
        ("$Q", "'$A'"),
        ("$$A|$1|$12a|$?", "A||a|"),
        ("$@A$*A$#A$-A$!A$xA", "AAAAAx"),
        ("\ufeff$A'b'\"c\"\\d", "amd64bcd"),
        ("\ufeffa", "a"),
        ("a\\", "a"),
        ("plain", "plain"),
    ],
)
def test_a_text_expands_as_in_buildkit(text: str, result: str) -> None:
    assert expand(text, VALUES.get) == result


@pytest.mark.parametrize(
    "text",
    ["${", "${A", "${}", "${:a}", "${:-a}", "${{A}}", "${A:a}", "${A:#a}", "${A:%a}", "${A=a}", "${A:-a", "${A/a}",
     "${A/a/b", "'a", '"a', '"a\\', "${U?}", "${E:?m}", "${A#\\x}", "${A%a\\", "${A%\\x}", "${A/\\x/b}"],
)
def test_what_buildkit_refuses_is_refused(text: str) -> None:
    with pytest.raises(BadExpansion):
        expand(text, VALUES.get)


def test_the_reason_of_a_demanded_variable_is_told() -> None:
    with pytest.raises(BadExpansion, match="U: name the release"):
        expand("${U:?name the release}", VALUES.get)


def test_another_escape_sign_escapes() -> None:
    assert expand("`$A\\$A", VALUES.get, "`") == "$A\\amd64"


@pytest.mark.parametrize(
    "text", ["$L" * 70_000, '"' + "$L" * 70_000 + '"', "${L//a/$L}", "${L/" + "*a" * 20_000 + "b/}",
             "${U:-" * 300 + "}" * 300]
)
def test_no_text_takes_long_or_much_memory(text: str) -> None:
    with pytest.raises(Unknown):
        expand(text, {"L": "a" * 60_000}.get)


@pytest.mark.parametrize(
    ("size", "most", "more"),
    [
        (65_536, "$L", "$M"),
        (10_000, "${L#?}", "${M#?}"),
        (1, "${L/a/'" + "b" * 65_535 + "'}", "${L/a/'" + "b" * 65_536 + "'}"),
        (1, "${U:-}" * 50 + "${U:-" * 39 + "}" * 39, "${U:-}" * 50 + "${U:-" * 40 + "}" * 40),
    ],
)
def test_there_is_a_size_up_to_which_a_text_is_expanded(size: int, most: str, more: str) -> None:
    values = {"L": "a" * size, "M": "a" * (size + 1)}
    expand(most, values.get)
    with pytest.raises(Unknown):
        expand(more, values.get)


@pytest.mark.parametrize(
    ("line", "begun"),
    [
        ("RUN <<EOF", [("EOF", False)]),
        ("RUN cat << EOF << 'F'", [("EOF", False), ("F", False)]),
        ("RUN <<-'A' cat 3<<\"B C\"", [("A", True), ("B C", False)]),
        ("RUN echo $((1<<3)) '<<E' \"<<F\" <<<G", []),
        ("RUN it's <<EOF", []),
        ("RUN <<E\"O\"F", [("EOF", False)]),
        ("RUN a<<EOF", []),
        ("RUN 'a <<E' \"a <<E\" \\<<E a\\ <<E <<\"\" a\u200b<<E", []),
        ("RUN a\u2000<<E b\u200a<<F", [("E", False), ("F", False)]),
        ("RUN <<E\\\\ <<x y <<'a\\b' <<\"c\\d\"",
         [("E\\", False), ("x", False), ("a\\b", False), ("c\\d", False)]),
        ("RUN <<$X${X}x", [("$X${X}x", False)]),
        ("RUN ${X:-}<<E ${X%a}<<F ${X/a/b}<<G <<a${X:-b}", []),
        ("RUN ${X- <<E} ${X/a/b <<F}", [("E}", False), ("F}", False)]),
        ("RUN ${X-'" + "a" * 70_000 + "'} <<E", [("E", False)]),
    ],
)
def test_heredocs_are_words_of_their_own(line: str, begun: list[tuple[str, bool]]) -> None:
    assert heredocs(line) == begun
