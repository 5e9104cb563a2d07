# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON Schemas of recipes and of a catalog's defaults, including the part of each kind of input. docs/ has them as
files, for editors."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.golden import COMPRESSIONS
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.checks import CHECKS

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLATFORM = {"enum": list(map(str, ALL))}
_PLATFORMS = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"$ref": "#/$defs/platform"}}
_SUITES = {"type": "array", "minItems": 1, "uniqueItems": True,
           "items": {"type": "string", "pattern": "^[a-z][a-z-]*$", "examples": ["trixie"],
                     "$comment": "be the name of a suite"},
           "description": "Debian suites, the release first."}


# Characters that a reader does not see, some of which turn the order of those that he does.
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "pattern": rf"^(?!\s)[^{_UNSEEN}]+(?<!\s)$", "description": description, "$comment": (
        "be one line, without spaces or a line break around it, and without invisible characters")}


def _address(*examples: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "pattern": r"^https?://[^\s/?#]\S*$", "examples": list(examples),
            "$comment": "be an address by http or https, without spaces", **more}


def _input() -> dict[str, Any]:
    """An input: it has exactly one kind, and must match that kind's schema."""
    known = sorted({name for kind in KINDS.values() for name in kind.schema["properties"]})
    return {
        "type": "object", "additionalProperties": False, "properties": dict.fromkeys(known, True),
        "oneOf": [{"required": [key]} for key in sorted({kind.key for kind in KINDS.values()})],
        "allOf": [{"if": kind.when, "then": kind.schema} for kind in KINDS.values()],
    }


_WORD = {"type": "string", "pattern": r"\S", "$comment": "have a letter or a sign"}
_WORDS = {"type": "array", "items": {"type": "string"}}
_VALUES = {"type": "object", "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
                                               "$comment": "be letters, digits and _, and begin with no digit"},
           "additionalProperties": {"type": "string"}}
_FOLDERS = {"type": "array", "uniqueItems": True, "items": {
    "type": "string", "pattern": r"^(/(?!\.{1,2}(/|$))[^/\s:,]+)+$", "examples": ["/data"],
    "$comment": "be an absolute path without . and .., spaces, : and a comma, and no / at its end"}}
_URL = _address("http://127.0.0.1:8080/health")
_NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,99}$",
         "$comment": "be at most 100 lower case letters, digits and -, and not begin with -"}
_PORT = ("^(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})/(tcp|udp)$")
_PAIR = {"type": "string", "pattern": r"^\S+:[0-9]{1,5}$", "examples": ["127.0.0.1:8080"], "$comment": "be HOST:PORT"}
_CONTRACT = {
    "type": "object", "additionalProperties": False,
    "description": "What the image promises at run time.",
    "properties": {
        "command": {**_WORDS, "description": "The arguments of an example run."},
        "environment": {**_VALUES, "description": "The environment of the example run."},
        "user": {"type": "integer", "minimum": 0, "maximum": (1 << 32) - 2,
                 "description": "The number of the user that it runs as."},
        "ports": {"type": "object",
                  "additionalProperties": {"type": "string", "pattern": _PORT, "examples": ["8080/tcp"],
                                           "$comment": "be a port from 1 to 65535 with its protocol, tcp or udp"},
                  "description": "A name for each port in EXPOSE: `{http: 8080/tcp}`."},
        "health": {
            "type": "object", "additionalProperties": False, "description": "How to check health.",
            "oneOf": [{"required": [name]} for name in ("http", "tcp", "dns", "rtsp", "command")],
            "properties": {
                "http": _URL, "tcp": _PAIR, "dns": _WORD, "rtsp": _WORD,
                "command": {**_WORD, "description": "A part of the HEALTHCHECK's command."},
                "status": {"type": "integer", "minimum": 100, "maximum": 599},
                "within": {"type": "integer", "minimum": 1, "maximum": 600,
                           "description": "Seconds from the start until it is healthy; 30 by default."},
            },
        },
        "metrics": {**_URL, "description": "The URL of its metrics, inside its network."},
        "volumes": {**_FOLDERS, "description": "Folders whose data are kept."},
        "tmpfs": {**_FOLDERS, "description": "Folders in memory that it needs besides its volumes."},
        "multicast": {"type": "boolean", "description": "Others find it by multicast, such as mDNS, so it needs a "
                                                        "network that passes multicast on."},
        "answers": {
            "type": "array", "description": "Requests, and what is answered.",
            "items": {
                "type": "object", "additionalProperties": False,
                "oneOf": [{"required": [name]} for name in ("http", "command")],
                "properties": {
                    "http": _URL, "command": {**_WORDS, "minItems": 1, "description": "Runs in the image."},
                    "method": {"enum": ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]}, "body": {"type": "string"},
                    "status": {"type": "integer", "minimum": 100, "maximum": 599},
                    "says": {"type": "string", "format": "regex", "description": "A regular expression."},
                    "again": {"type": "boolean", "description": "Ask again after a restart."},
                },
            },
        },
        "refuses": {
            "type": "array", "description": "Wrong configurations, which it must refuse with a message.",
            "items": {
                "type": "object", "additionalProperties": False, "minProperties": 1,
                "properties": {"command": _WORDS, "environment": _VALUES,
                               "says": {"type": "string", "format": "regex"}},
            },
        },
        "exceptions": {
            "type": "object", "propertyNames": {"enum": list(CHECKS)},
            "description": "Exceptions to checks: check -> subject (may have wildcards) -> reason.",
            "additionalProperties": {"type": "object", "minProperties": 1,
                                     "additionalProperties": {"type": "string", "minLength": 1}},
        },
    },
}


def recipe() -> dict[str, Any]:
    """The schema of an image.yml."""
    automatic = (r"^(?!BUILDKIT_|SOURCE_DATE_EPOCH$|(BUILD|TARGET)(PLATFORM|OS|OSVERSION|ARCH|VARIANT)$|TARGETSTAGE$|"
                 # every RUN would have it, and BuildKit's cache does not know of it
                 r"([Hh][Tt][Tt][Pp][Ss]?|[Ff][Tt][Pp]|[Nn][Oo]|[Aa][Ll][Ll])_[Pp][Rr][Oo][Xx][Yy]$)"
                 r"[A-Za-z_][A-Za-z0-9_]*$")
    return {
        "$schema": _DRAFT,
        "title": "A recipe of Desimages (images/<name>/image.yml)",
        "type": "object",
        "additionalProperties": False,
        "required": ["description", "license"],
        "properties": {
            "description": _text("One line for people; becomes org.opencontainers.image.description."),
            "title": _text("The image's title; by default its name."),
            "home": _address("https://example.org", description=(
                "The home page of the packaged software; becomes org.opencontainers.image.url.")),
            "license": _text("An SPDX licence expression."),
            "version": _text("The version of the packaged software; by default that of the input with the image's "
                             "name."),
            "inputs": {
                "type": "object", "description": "What enters the build, by name: `COPY --from=inputs /<name>`.",
                "propertyNames": _NAME,
                "additionalProperties": {"$ref": "#/$defs/input"},
            },
            "platforms": {
                "description": "`all`, a list, or all platforms but those in `except`, each with its reason.",
                "oneOf": [
                    {"const": "all"},
                    _PLATFORMS,
                    {"type": "object", "additionalProperties": False, "required": ["except"], "properties": {
                        "except": {"type": "object", "minProperties": 1, "propertyNames": {"$ref": "#/$defs/platform"},
                                   "additionalProperties": {"type": "string", "minLength": 1}}}},
                ],
            },
            "suites": {"$ref": "#/$defs/suites"},
            "targets": {
                "type": "array", "minItems": 1, "uniqueItems": True,
                "items": _NAME,
                "description": "Stages that are units of their own, used as `<image>-<target>`. Such an image has no "
                               "index.",
            },
            "args": {
                "type": "object",
                "description": "Build arguments; those that the farm and BuildKit set themselves, and proxies, are "
                               "refused.",
                "propertyNames": {"pattern": automatic, "$comment": (
                    "be letters, digits and _, and no name that the farm, BuildKit or a proxy uses")},
                "additionalProperties": {"type": "string"},
            },
            "contract": {"$ref": "#/$defs/contract"},
        },
        "$defs": {"platform": _PLATFORM, "suites": _SUITES, "input": _input(), "contract": _CONTRACT},
    }


def defaults() -> dict[str, Any]:
    """The schema of a catalog's defaults.yml."""
    return {
        "$schema": _DRAFT,
        "title": "Defaults of a Desimages catalog (images/defaults.yml)",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "platforms": {**_PLATFORMS, "description": "What `platforms: all` means."},
            "build_platforms": {**_PLATFORMS, "description": "The platforms that can build for others; locks have "
                                                             "build inputs for each."},
            "suites": _SUITES,
            "images": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string"},
                       "description": "The images of this folder that are built if nobody chooses any; by default "
                                      "all."},
            "compression": {"enum": list(COMPRESSIONS), "description": (
                "How layers are compressed: zstd (the default), or gzip for engines that cannot read zstd, such as "
                "Docker 20.10 and skopeo of Debian 12. The layers of an image from another catalog are compressed "
                "again.")},
            "vendor": _text("org.opencontainers.image.vendor"),
            "source": _address("https://example.org/images.git", description="org.opencontainers.image.source"),
        },
        "$defs": {"platform": _PLATFORM},
    }


FILES = {"recipe.schema.json": recipe, "defaults.schema.json": defaults}  # in docs/, made by `make schemas`
