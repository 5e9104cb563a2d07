#!/bin/sh
# Runs the tests of what travels to nodes under Python 3.9, the oldest that a node may have. Says so where this machine has none.
set -eu
cd "$(dirname "$0")/.."
venv=.cache/py39
python=
for candidate in python3.9 "$HOME"/.pyenv/versions/3.9.*/bin/python3.9 /usr/bin/python3.9; do
    if "$candidate" -c '' 2>/dev/null; then python=$candidate && break; fi
done
[ -n "$python" ] || { echo 'test39: this machine has no Python 3.9; left out' >&2; exit 0; }
if ! cmp -s requirements-py39.txt $venv/requirements; then
    rm -rf $venv
    "$python" -m venv $venv
    $venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements-py39.txt
    cp requirements-py39.txt $venv/requirements
fi
set --
for name in catalog dockerfile gobuild golden lockfile oci plan runner schedule settings state supervised; do
    set -- "$@" tests/unit/test_$name.py
done
exec $venv/bin/python -m pytest -q -p no:cacheprovider "$@"
