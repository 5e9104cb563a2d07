#!/bin/sh
# Runs tests under an older Python: test-under.sh VERSION REQUIREMENTS TESTS...
# REQUIREMENTS are names of files, in one word. Instead of TESTS you can give one of our scripts with its arguments.
# If this machine has no such Python, it says so; if CI is set, that is a failure.
set -eu
cd "$(dirname "$0")/.."
version=$1 requirements=$2
shift 2
newest=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$newest" != "$version" ] || exit 0 # the tests have run under it
venv=.cache/python$version
python=
name=python$version
for candidate in "$name" "${PYENV_ROOT:-${HOME:-/root}/.pyenv}/versions/$version".*/bin/"$name" "/usr/bin/$name"; do
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
