"""The golden build's inputs and settings. Each figure here is a promise: with another one, every image is built
again."""

from __future__ import annotations

import hashlib

from ansible_collections.desimages.farm.plugins.module_utils import golden


def test_the_inputs_are_the_same_bytes_everywhere():
    found = hashlib.sha256(b"".join(repr(entry).encode() for entry in golden.context())).hexdigest()
    assert found == "1faeb04a1d8ecae6d181fb5a3ec10b5e5e1c555f7cd0d7418f58a9824cfcbc18"


def test_the_archive_is_the_same_bytes_on_every_python():
    found = hashlib.sha256(golden.archive()).hexdigest()
    assert found == "13832250fdb9604166126a5bba0a7e1d97eefeafdc3bbaf280d0c33d4c1227bc"


def test_the_golden_build_pushes_nothing_and_takes_nothing_from_the_cache():
    words = golden.command("buildctl", "unix:///run/x.sock", "/context", "/image.tar", "/metadata.json", golden.OUTPUT)
    assert "--no-cache" in words
    assert [word for word in words if word.startswith("type=")] == [
        "type=oci,dest=/image.tar,compression=zstd,compression-level=11,force-compression=true,oci-mediatypes=true,"
        "rewrite-timestamp=true"
    ]
    words = golden.command("buildctl", "unix:///run/x.sock", "/context", "/image.tar", "/metadata.json", golden.GZIP)
    assert [word for word in words if word.startswith("type=")] == [
        "type=oci,dest=/image.tar,compression=gzip,compression-level=9,force-compression=true,oci-mediatypes=true,"
        "rewrite-timestamp=true"
    ]
