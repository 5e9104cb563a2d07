#!/bin/sh
# Creates a virtual environment: environment.sh FOLDER PYTHON REQUIREMENTS. REQUIREMENTS are names of files with hashes,
# in one word. Does nothing if the environment exists and was made from the same files.
set -eu
folder=$1 python=$2 requirements=$3
# shellcheck disable=SC2086 # several names
wanted="# $("$python" -V)
$(cat $requirements)"
if ! printf '%s\n' "$wanted" | cmp -s - "$folder/installed"; then
    rm -rf "$folder"
    "$python" -m venv "$folder"
    printf '%s\n' "$wanted" >"$folder/requirements.txt"
    "$folder/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$folder/requirements.txt"
    mv "$folder/requirements.txt" "$folder/installed"
fi
