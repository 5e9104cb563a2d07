# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What BuildKit 0.34 refuses in the flags and words of an instruction, so that it is told before anything is built.

Sources: frontend/dockerfile/instructions/parse.go and dockerfile2llb/convert*.go; tests/integration compares the two.
What depends on the value of a variable is left to BuildKit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import NoReturn

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.expansion import BadExpansion, Unknown, expand
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.instructions import (
    Instruction,
    array,
    plain_words,
    words,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import nearest

FLAGS = {  # of each instruction
    "ADD": ("checksum", "chmod", "chown", "exclude", "keep-git-dir", "link", "unpack"), "ARG": (), "CMD": (),
    "COPY": ("chmod", "chown", "exclude", "from", "link", "parents"), "ENTRYPOINT": (), "ENV": (), "EXPOSE": (),
    "FROM": ("platform",), "HEALTHCHECK": ("interval", "retries", "start-interval", "start-period", "timeout"),
    "LABEL": (), "MAINTAINER": (), "ONBUILD": (), "RUN": ("device", "mount", "network", "security"), "SHELL": (),
    "STOPSIGNAL": (), "USER": (), "VOLUME": (), "WORKDIR": (),
}
MOST_FLAGS = 500  # in an instruction
MOST_PORT = 65535
_SWITCHES = ("keep-git-dir", "link", "parents", "unpack")  # flags that may have no value
_SEVERAL = ("device", "exclude", "mount")  # flags that may come more than once
_ELSEWHERE = ("device", "mount", "network", "security")  # flags whose values dockerfile.py judges
_BARE = ("CMD", "ENTRYPOINT", "FROM", "ONBUILD", "RUN")  # BuildKit takes these without words, or another check tells
_LISTS = ("ADD", "CMD", "COPY", "ENTRYPOINT", "HEALTHCHECK", "RUN", "SHELL", "VOLUME")  # may have a JSON array
_QUOTED = re.compile(r"""\[['"\u2018-\u201f]""")  # how no command or path begins
_COUNT = re.compile("[0-9]{1,9}")
_DURATION = re.compile(r"\+?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|\xb5s|\u03bcs|ms|s|m|h))+)")  # Go's time.ParseDuration
_CHANGE = r"[ugoa]*([-+=][rwxXstugo]*)+"
_MODE = re.compile(rf"0*[0-7]{{1,4}}|{_CHANGE}(,{_CHANGE})*")
_PORTS = re.compile(r"\+?([0-9]{1,9})(?:-\+?([0-9]{1,9}))?(?:/(?:tcp|udp|sctp)?)?", re.I)
_SIGNAL = re.compile(  # https://github.com/moby/sys/blob/main/signal/signal_linux.go
    r"[+-]?0*[1-9][0-9]{0,17}|(SIG)?(ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|"
    r"SEGV|STKFLT|STOP|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR[12]|VTALRM|WINCH|XCPU|XFSZ|RTMIN(\+([1-9]|1[0-5]))?|"
    r"RTMAX(-([1-9]|1[0-4]))?)", re.I)


def wrong(step: Instruction, escape: str, *, expanded: bool = True) -> Iterator[str]:
    """Everything that BuildKit refuses in an instruction. Without `expanded`, another check expands its words."""
    if step.keyword not in FLAGS:
        yield f"{step.keyword[:80]} is not an instruction{nearest(step.keyword, list(FLAGS))}"
    elif len(step.flags) > MOST_FLAGS:
        yield f"{step.keyword} has {len(step.flags)} flags; at most {MOST_FLAGS} are allowed"
    else:
        yield from _flags(step)
        shape = next(_shape(step, escape), "")
        yield from [shape] if shape else [*_values(step, escape), *(_expansions(step, escape) if expanded else ())]


def _flags(step: Instruction) -> Iterator[str]:
    """Flags that there are not, that come twice, or that have a wrong value."""
    known = FLAGS[step.keyword]
    for flag in dict.fromkeys(name for name, _value in step.flags if name not in known):
        near = nearest(flag, list(known))
        yield f"{step.keyword} --{flag}: there is no such flag{near}; allowed: {', '.join(known) or 'none'}"
    names = [name for name, _value in step.flags if name in known and name not in _SEVERAL]
    yield from (f"{step.keyword} has --{name} more than once: leave one" for name in dict.fromkeys(names)
                if names.count(name) > 1)
    none = step.keyword == "HEALTHCHECK" and step.rest.upper() == "NONE"  # here BuildKit does not look at them
    for name, value in step.flags:
        if name in known and name not in _ELSEWHERE and not none and (said := _flag(name, value)):
            yield f"{step.keyword} --{name}{f'={value}' if value else ''}: {said}"
    given = dict(step.flags)
    by_name = [part for part in given.get("chown", "").split(":") if not part.isdecimal()]
    if given.get("link", "false").lower() in ("", "true") and by_name and "$" not in given.get("chown", "$"):
        yield (f"{step.keyword} --chown={given['chown']}: with --link, nobody looks up names: give the numbers of the"
               " user and the group")


def _flag(name: str, value: str) -> str:
    """What a flag must be, or ''."""
    if name in _SWITCHES:
        return "" if value.lower() in ("", "true", "false") else "it must be true or false"
    if not value:
        return f"it has no value: write --{name}=VALUE, or leave it out"
    if "$" in value and name not in FLAGS["HEALTHCHECK"]:  # there, BuildKit expands nothing
        return ""
    if name == "chmod" and not _MODE.fullmatch(value):
        return "it must be an octal number up to 07777, as 755, or a change in letters, as u+x"
    if name == "retries" and not _COUNT.fullmatch(value):
        return "it must be a whole number"
    if name in FLAGS["HEALTHCHECK"] and name != "retries" and not _DURATION.fullmatch(value):
        return "it must be a time with its unit, such as 30s"
    return ""


def _shape(step: Instruction, escape: str) -> Iterator[str]:
    """Why the words of an instruction cannot be what it needs."""
    plain, listed = plain_words(step.rest), array(step.rest)
    first = plain[0].upper() if plain else ""
    if step.keyword not in _BARE and not plain:
        yield f"{step.keyword} has no words: say what it is for"
    elif step.keyword in _LISTS and _mixed(said := step.rest[3:].strip() if first == "CMD" else step.rest):
        yield f"{step.keyword} {step.rest}: a JSON array may have only strings: put each part in quotes"
    elif step.keyword in _LISTS and _QUOTED.match(said) and array(said) is None:
        yield (f"{step.keyword} {step.rest}: this is no JSON array, so it would be taken as plain words: write"
               ' ["a", "b"], with double quotes, and no comma before the ]')
    elif step.keyword in ("ADD", "COPY") and len(plain if listed is None else listed) < 2:
        yield f"{step.keyword} {step.rest}: it needs what it copies and where to, as in COPY config/ /config/"
    elif step.keyword in ("RUN", "VOLUME") and listed == []:
        yield f"{step.keyword} []: the list is empty"
    elif step.keyword == "SHELL" and not listed:
        yield f'SHELL {step.rest}: it must be a JSON array, as in SHELL ["/bin/sh", "-c"]'
    elif step.keyword == "HEALTHCHECK" and (first not in ("CMD", "NONE") or (first == "NONE") != (len(plain) == 1)
                                            or array(step.rest[3:].strip()) == []):
        yield f"HEALTHCHECK {step.rest}: it must be NONE, or CMD and a command"
    elif step.keyword in ("ARG", "ENV", "LABEL"):
        yield from _pairs(step, escape)


def _mixed(text: str) -> bool:
    """Whether a text is a JSON array with something else than strings."""
    try:
        found = json.loads(text, parse_constant=_not_json) if text.startswith("[") else []
    except (ValueError, RecursionError):
        return False
    return any(not isinstance(each, str) for each in found)


def _not_json(word: str) -> NoReturn:
    """Raises for NaN and Infinity, which only Python reads."""
    raise ValueError(word)


def _pairs(step: Instruction, escape: str) -> Iterator[str]:
    """What is wrong with NAME=VALUE; ENV and LABEL may also say one NAME VALUE."""
    found = words(step.rest, escape)
    named = step.keyword == "ARG" or "=" in found[0]
    if named and (nameless := [word for word in found if word.startswith("=")]):
        yield f"{step.keyword} {nameless[0]}: there is no name before the =; write NAME=VALUE without spaces around it"
    elif step.keyword == "ARG":
        return
    elif not named and len(plain_words(step.rest)) < 2:
        yield f"{step.keyword} {found[0]}: it has no value; write {found[0]}=VALUE"
    elif named and (alone := [word for word in found if "=" not in word]):
        yield (f"{step.keyword}: {alone[0]!r} has no =; write NAME=VALUE, and put a value with spaces in quotes (a"
               " comment must have a line of its own)")


def _values(step: Instruction, escape: str) -> Iterator[str]:
    """Wrong values in an instruction."""
    if step.keyword == "EXPOSE":
        yield from (f"EXPOSE {word}: it must be a port from 0 to {MOST_PORT}, or a range of these, as 8080/tcp"
                    for word in _known(plain_words(step.rest), escape) if not _port(word))
    elif step.keyword == "VOLUME":
        listed = array(step.rest)
        folders = _known(plain_words(step.rest) if listed is None else listed, escape)
        yield from [f"VOLUME {step.rest}: the name of a folder is empty"] if any(not one.strip() for one in folders
                                                                                 ) else []
    elif step.keyword == "STOPSIGNAL":
        yield from (f"STOPSIGNAL {step.rest}: it must be the name or the number of a signal, as SIGTERM"
                    for word in _known([step.rest], escape) if not _SIGNAL.fullmatch(word))
    elif step.keyword in ("ADD", "COPY") and array(step.rest) is None and plain_words(step.rest)[-1][:2] == "<<":
        yield f"{step.keyword} {step.rest}: the last word says where to, which cannot be a heredoc"


def _known(texts: Iterable[str], escape: str) -> Iterator[str]:
    """The words without their quotes; not those that a variable decides, or that cannot be read."""
    for text in texts:
        try:
            if "$" not in text:
                yield expand(text, lambda _name: None, escape)
        except ValueError:
            continue


def _port(word: str) -> bool:
    ports = _PORTS.fullmatch(word.rpartition(":")[2])
    return ports is not None and int(ports[1]) <= int(ports[2] or ports[1]) <= MOST_PORT


def _expansions(step: Instruction, escape: str) -> Iterator[str]:
    """The words with a variable or a quote that cannot be read, whatever the values of variables are."""
    for word in _expanded(step, escape):
        try:
            expand(word, lambda _name: "x", escape)
        except BadExpansion as error:
            yield f"{step.keyword} {word}: {error}"
        except Unknown:
            continue


def _expanded(step: Instruction, escape: str) -> list[str]:
    """The words of an instruction that BuildKit expands."""
    listed = array(step.rest)
    if step.keyword in ("ADD", "COPY"):
        given = [value for name, value in step.flags if name in ("checksum", "chmod", "chown")]
        return given + [word for word in (plain_words(step.rest) if listed is None else listed)
                        if not word.startswith("<<")]
    if step.keyword in ("EXPOSE", "VOLUME"):
        return plain_words(step.rest) if listed is None or step.keyword == "EXPOSE" else listed
    if step.keyword in ("ENV", "LABEL"):
        found = words(step.rest, escape)
        return found if "=" in found[0] else [step.rest]
    if step.keyword == "ARG":
        return [value for _name, _sign, value in (word.partition("=") for word in words(step.rest, escape))]
    return [step.rest] if step.keyword in ("STOPSIGNAL", "USER", "WORKDIR") else []
