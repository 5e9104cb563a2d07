#!/bin/sh
# Runs the integration tests that a marker expression chooses, in two halves at the same time: a playbook mostly waits,
# and leaves a processor idle. Each half has a farm of its own. The project's own chain is built in the first alone, and
# emulators, which are the whole kernel's, are registered in the first alone.
#
#   scripts/integration.sh 'not full and not catalog' [arguments of pytest]
set -u
chosen=$1
shift
first='' others=''
for name in chain compiled farm images locks node podman python registries testers verify; do
    first="$first tests/integration/test_$name.py"
    others="$others --ignore=tests/integration/test_$name.py"
done
said=$(mktemp)
trap 'rm -f "$said"' EXIT

# shellcheck disable=SC2086 # words
DESIMAGES_TEST_STATE=/var/tmp/desimages-also DESIMAGES_TEST_REGISTRY=127.0.0.1:5991 \
    pytest tests/integration $others -m "$chosen" "$@" > "$said" 2>&1 &
pid=$!
# shellcheck disable=SC2086
pytest $first -m "$chosen" "$@"
code=$?
wait "$pid"
also=$?
cat "$said"
[ "$code" -eq 0 ] && [ "$also" -eq 0 ]
