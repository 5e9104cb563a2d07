#!/bin/sh
# Runs tests under another Python than the newest: test-under.sh VERSION REQUIREMENTS TESTS... REQUIREMENTS are names of
# files, in one word.
# In place of tests stands a script of ours that is one, with its words.
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
scripts/environment.sh "$venv" "$python" "$requirements"
export PATH="$PWD/$venv/bin:$PATH"
case $1 in scripts/*) exec "$venv/bin/python" "$@" ;; esac
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
