#!/bin/sh
# Runs the integration tests that a marker expression chooses, in two halves at the same time: a playbook mostly waits,
# and leaves a processor idle. Each half has a farm of its own. What uses the project's own chain is one half.
#
#   scripts/integration.sh 'not full and not catalog' [arguments of pytest]
set -u
chosen=$1
shift
other=$(mktemp)
trap 'rm -f "$other"' EXIT

DESIMAGES_TEST_STATE=/var/tmp/desimages-also DESIMAGES_TEST_REGISTRY=127.0.0.1:5991 \
    pytest tests/integration -m "not chain and ($chosen)" "$@" > "$other" 2>&1 &
pid=$!
pytest tests/integration -m "chain and ($chosen)" "$@"
first=$?
wait "$pid"
second=$?
cat "$other"
[ "$first" -eq 0 ] && [ "$second" -eq 0 ]
