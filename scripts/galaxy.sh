#!/bin/sh
# Checks the collection with the tools that others use on it: antsibull for its changelog and documentation,
# ansible-builder for its dependencies, and Ansible Galaxy's importer for the package. Their warnings are failures here.
set -eu
cd "$(dirname "$0")/.."
venv=$PWD/.cache/galaxy
scripts/environment.sh "$venv" .venv/bin/python requirements-galaxy.txt
export PATH="$venv/bin:$PATH" ANSIBLE_COLLECTIONS_PATH="$PWD/collections"
unset ANSIBLE_CONFIG
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

antsibull-changelog lint
antsibull-docs lint-collection-docs --plugin-docs .

ansible-builder introspect --write-pip "$work/pip" --write-bindep "$work/bindep" collections >/dev/null
if ! grep -q '^urllib3 >=' "$work/pip" || ! grep -q '^gpgv ' "$work/bindep"; then
    echo "galaxy: ansible-builder finds no need for urllib3 and gpgv; look at meta/execution-environment.yml" >&2
    exit 1
fi

ansible-galaxy collection build --output-path "$work" . >/dev/null
cd "$work" # it leaves a file there
export GALAXY_IMPORTER_RUN_ANSIBLE_LINT=false # `make lint` has run it already, more strictly, on all files
python -m galaxy_importer.main ./*.tar.gz >said 2>&1 || { cat said; exit 1; }
if grep -E '^(WARNING|ERROR)' said; then exit 1; fi
