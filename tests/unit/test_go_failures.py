"""A go command's complaint is told as what it is."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    Unreachable,
    redacted,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.go_failures import failure

SUMS = "https://sums.example/lookup/a.example/x@v1.2.3"
VERIFYING = f"go: a.example/x@v1.2.3: verifying module: a.example/x@v1.2.3: reading {SUMS}"


@pytest.mark.parametrize(
    ("output", "kind", "hint"),
    [
        ("verifying a.example/x@v1.0.0: checksum mismatch\n\tdownloaded: h1:a\n\tgo.sum: h1:b\n\nSECURITY ERROR",
         HashMismatch, CHANGED),
        ("verifying module: a.example/x@v1.50.3: checksum mismatch\n\tdownloaded: h1:x", HashMismatch, CHANGED),
        ("SECURITY ERROR\nThis download does NOT match the one reported by the server.", HashMismatch, CHANGED),
        # the checksum database is not what was asked for
        (f"{VERIFYING}: 410 Gone\n\tserver response: not found: invalid version: git ls-remote: terminal prompts "
         "disabled", FarmError, "GOPRIVATE"),
        (f"{VERIFYING}: 404 Not Found", FarmError, "GOPRIVATE"),
        (f"{VERIFYING}: 403 Forbidden", FarmError, "GOPRIVATE"),
        (f"{VERIFYING}: 429 Too Many Requests", Unreachable, "checksum database"),
        (f"{VERIFYING}: 503 Service Unavailable", Unreachable, "checksum database"),
        (f'verifying module: a@v1: Get "{SUMS}": dial tcp 127.0.0.1:1: connect: connection refused', Unreachable,
         "checksum database"),
        (f'verifying module: a@v1: Get "{SUMS}": context deadline exceeded', Unreachable, "checksum database"),
        (f'verifying module: a@v1: Get "{SUMS}": EOF', Unreachable, "checksum database"),
        (f'verifying module: a@v1: Get "{SUMS}": x509: certificate signed by unknown authority', FarmError,
         "CA certificate"),
        (f'verifying module: a@v1: Get "{SUMS}": proxyconnect tcp: Proxy Authentication Required', FarmError, "login"),
        ("go: initializing sumdb.Client: malformed verifier id", FarmError, "GOPRIVATE"),
        # the machine
        ("verifying module: a@v1: initializing sumdb.Client: could not locate sumdb file: missing $GOPATH", FarmError,
         "set HOME"),
        ("verifying module: a@v1: could not locate sumdb file", FarmError, "set HOME"),
        ("build cache is required, but could not be located: GOCACHE is not defined and neither $XDG_CACHE_HOME nor "
         "$HOME are defined", FarmError, "HOME"),
        ("write /x: no space left on device", NoSpace, "room"),
        ("write /x: disk quota exceeded", NoSpace, "room"),
        ("go: compile: signal: killed", FarmError, "memory"),
        ("go: a.example/x@v1.0.0 (replaced by ../x): reading ../x/go.mod: open /x/go.mod: no such file or directory",
         FarmError, "inside the program's folder"),
        ("go: a.example/x@v1.0.0 requires go >= 1.99.0 (running go 1.26.8)\ngo: switching to go >= 1.99.0: module "
         "golang.org/toolchain: reading https://p/golang.org/toolchain/@v/list: 404 Not Found", FarmError, "newer Go"),
        ("go: a.example/x@v1.0.0 requires go >= 1.99.0 (running go 1.26.8)\ngo: switching to go >= 1.99.0: module "
         "golang.org/toolchain: reading file:///p/golang.org/toolchain/@v/list: no such file or directory", FarmError,
         "newer Go"),
        # a module that is none
        ("-> unzip /x/v1.0.0.zip: a.example/x@v1.0.0/../../x: malformed file path", FarmError, "another version"),
        ("\ta.example/x: zip for a.example/x@v1.0.0 has unexpected file /etc/x", FarmError, "another version"),
        ("\ta.example/x: zip: not a valid zip file", FarmError, "another version"),
        ("\ta.example/x: a.example/x@v1.0.0: parsing go.mod: missing module line", FarmError, "another version"),
        # the proxy
        ("go: a@v1.0.0: reading http://p/a/@v/v1.0.0.zip: 404 Not Found", Missing, "GOPROXY"),
        ("reading https://p/x/@v/v1.zip: 410 Gone", Missing, "GOPROXY"),
        ("reading https://p/x/@v/v1.zip: 429 Too Many Requests", Unreachable, "GOPROXY"),
        ("go: x: reading http://x/: 503 Service Unavailable", Unreachable, "GOPROXY"),
        *((f"reading https://p/x/@v/v1.zip: {status} x", Unreachable, "GOPROXY")
          for status in (408, 425, 429, 500, 502, 503, 504, 520, 524)),
        ('a.example/y@v1.0.0: invalid response from proxy "http://p": invalid character \'<\' looking for beginning of '
         "value", FarmError, "no Go proxy"),
        *((f"reading https://p/x/@v/v1.zip: {status} x", FarmError, "login") for status in (401, 403, 407)),
        ("reading https://p/x/@v/v1.zip: 400 Bad Request", FarmError, ""),
        ("git@git.example: Permission denied (publickey).", FarmError, "login"),
        ("fatal: could not read Username for 'https://git.example'", FarmError, "login"),
        ('Get "https://p/x": EOF\nand more', Unreachable, "GOPROXY"),
        ('Get "https://p/x": lookup p: Temporary failure in name resolution', Unreachable, "GOPROXY"),
        ('Get "https://p/x": tls: failed to verify certificate: it is not for p', FarmError, "CA certificate"),
        ("a.example/x: unrecognized import path", Missing, "GOPROXY"),
        ("go: updates to go.mod needed", FarmError, "go mod tidy"),
        ('go: a@v1: Get "http://x/": dial tcp: lookup x: no such host', Unreachable, "GOPROXY"),
        ('Get "https://p/x": net/http: TLS handshake timeout', Unreachable, "GOPROXY"),
        ('Get "https://p/x": read tcp 1.2.3.4:5->6.7.8.9:443: read: connection reset by peer', Unreachable, "GOPROXY"),
        ('Get "https://p/x": proxyconnect tcp: dial tcp 127.0.0.1:3128: connect: connection refused', Unreachable,
         "https_proxy"),
        ('Get "https://p/x": tls: failed to verify certificate: x509: certificate has expired or is not yet valid',
         FarmError, "CA certificate"),
        ("reading file:///srv/proxy/a/@v/v1.0.0.zip: no such file or directory", Missing, "farm_origins"),
        ("a.example/x@v9.9.9: invalid version: unknown revision v9.9.9", Missing, "GOPROXY"),
        # words in names and versions say nothing
        ("go: github.com/a/b500 v1: malformed module path", FarmError, ""),
        ("go: github.com/a/timeout@v1.429.0: malformed module path", FarmError, ""),
        ("go: github.com/dial-tcp/EOF@v0.0.0-503: something", FarmError, ""),
        ("go: h1:GOAWAY=: something", FarmError, ""),
        ("missing go.sum entry for module providing package x", FarmError, "go mod tidy"),
        ("go: something else", FarmError, ""),
    ],
)
def test_what_the_go_command_complains_of(output, kind, hint):
    found = failure("go mod tidy", output)
    assert found.__class__ is kind
    assert hint in found.hint if hint else found.hint == ""


def test_the_end_of_an_output_is_shown_and_how_the_command_ended() -> None:
    found = failure("go", "".join(f"{number}\n \n" for number in range(20)), 3)
    assert str(found).startswith("go failed:\n    12\n    13\n    14\n    15\n    16\n    17\n    18\n    19")
    assert found.where["exit_code"] == 3
    assert "exit_code" not in failure("go", "x").where


@pytest.mark.parametrize("said", [
    'parse "https://me:secret@proxy.example:port": invalid port ":port" after host',
    'parse "https://me:the secret@proxy.example": net/url: invalid userinfo',
])
def test_no_password_of_an_address_that_is_none_is_in_a_message(said):
    """The go command hides passwords in addresses that it can read."""
    assert "secret" not in str(failure("go mod download", f"a.go:2:8: {said}"))
    assert "secret" not in redacted(said) and "proxy.example" in redacted(said)


def test_no_password_of_a_proxy_is_in_a_message():
    assert "secret" not in str(failure("go", 'Get "http://me:secret@p/y": dial tcp'))
