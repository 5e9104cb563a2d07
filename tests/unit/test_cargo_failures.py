"""A cargo command's complaint is told as what it is."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.cargo_failures import failure

GOT = "failed to get `mid` as a dependency of package `own v0.1.0 (/x)`\n\nCaused by:\n  "


@pytest.mark.parametrize(
    ("output", "kind", "hint"),
    [
        ("error: checksum for `leaf v1.1.0` changed between lock files", HashMismatch, CHANGED),
        ("error: failed to verify the checksum of `leaf v1.0.0`", HashMismatch, CHANGED),
        ("failed to write `/x`\n\nCaused by:\n  No space left on device (os error 28)", NoSpace, "room"),
        ("Caused by:\n  Disk quota exceeded (os error 122)", NoSpace, "room"),
        (f"{GOT}[6] Couldn't resolve host name (Could not resolve host: index.example)", Unreachable, "farm_origins"),
        (f"{GOT}[7] Could not connect to server (Failed to connect to 127.0.0.1 port 1)", Unreachable, "farm_origins"),
        (f"{GOT}[28] Timeout was reached (Connection timed out)", Unreachable, "farm_origins"),
        (f"{GOT}[56] Failure when receiving data from the peer (Recv failure: Connection reset by peer)", Unreachable,
         "farm_origins"),
        (f"{GOT}failed to get successful HTTP response from `https://x/` (1.2.3.4), got 503\nbody:\n", Unreachable,
         "farm_origins"),
        (f"{GOT}failed to get successful HTTP response from `https://x/` (1.2.3.4), got 429\nbody:\n", Unreachable,
         "farm_origins"),
        (f"{GOT}failed to get successful HTTP response from `https://x/` (1.2.3.4), got 403\nbody:\n", FarmError,
         "cargo login"),
        (f"{GOT}[56] Failure (CONNECT tunnel failed, response 407)", FarmError, "cargo login"),
        (f"{GOT}authenticated registries require a credential-provider to be configured", FarmError, "cargo login"),
        (f"{GOT}no token found for `corp`, please run `cargo login --registry corp`", FarmError, "cargo login"),
        (f"{GOT}token rejected for `corp`", FarmError, "cargo login"),
        (f"{GOT}[60] SSL peer certificate or SSH remote key was not OK (SSL certificate problem: self-signed "
         "certificate)", FarmError, "http.cainfo"),
        ("error: no matching package named `nothere` found\nlocation searched: `d` index", Missing, "farm_origins"),
        ('error: failed to select a version for the requirement `leaf = "=9.9.9"`\n  version 9.9.9 is yanked', Missing,
         "farm_origins"),
        ("error: no matching package named `mid` found\nAs a reminder, you're using offline mode (--offline) which can "
         "sometimes cause surprising resolution failures", FarmError, "net.offline"),
        ("lock file version `5` was found, but this version of Cargo does not understand this lock file", FarmError,
         "newer cargo"),
        ("feature `edition2024` is required\n\nThe package requires the Cargo feature called `edition2024`", FarmError,
         ""),
        (f"{GOT}failed to load source for dependency `mid`\n\nCaused by:\n  failed to read `/a/Cargo.toml`\n\n"
         "Caused by:\n  No such file or directory (os error 2)", FarmError, "by `path` must be in the image's folder"),
        (f"{GOT}failed to query replaced source registry `crates-io`\n\nCaused by:\n  expected value at line 1 "
         "column 1", FarmError, "no registry of crates"),
        (f"{GOT}failed to query replaced source registry `crates-io`\n\nCaused by:\n  invalid type: null, expected "
         "struct RegistryConfig at line 1 column 4", FarmError, "no registry of crates"),
        # names say nothing
        ("error: `timeout got 503` and https://no.example/timed out: x", FarmError, ""),
        ("error: something else", FarmError, ""),
    ],
)
def test_what_cargo_says_is_judged(output, kind, hint):
    error = failure("cargo update", output, 101)
    assert error.__class__ is kind
    assert hint in error.hint
    assert error.where["exit_code"] == 101


def test_the_reason_is_shown_and_no_password():
    output = ("    Updating `d` index\nwarning: spurious network error (3 tries remaining): x\nerror: the reason\n"
              "Caused by:\n  at https://me:secret@index.example/\n")
    said = str(failure("cargo update", output))
    assert "the reason" in said
    assert not any(word in said for word in ("secret", "spurious", "Updating", "exit_code"))
