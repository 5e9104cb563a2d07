#!/bin/sh
# Runs tests under another Python than the newest: test-under.sh VERSION REQUIREMENTS TESTS..., REQUIREMENTS being names of files, in one word.
# Where this machine has no such Python it says so; where CI is set that is a failure.
set -eu
cd "$(dirname "$0")/.."
version=$1 requirements=$2
shift 2
[ "$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != "$version" ] || exit 0 # the tests have run under it
venv=.cache/python$version
python=
for candidate in "python$version" "${PYENV_ROOT:-${HOME:-/root}/.pyenv}"/versions/"$version".*/bin/"python$version" "/usr/bin/python$version"; do
    if "$candidate" -c '' 2>/dev/null; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
    echo "test-under: this machine has no Python $version; left out" >&2
    [ -z "${CI:-}" ]
    exit
fi
# shellcheck disable=SC2086
if ! cat $requirements | cmp -s - "$venv/installed"; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
    cat $requirements >"$venv/requirements.txt"
    "$venv/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$venv/requirements.txt"
    mv "$venv/requirements.txt" "$venv/installed"
fi
PATH=$PWD/$venv/bin:$PATH exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
