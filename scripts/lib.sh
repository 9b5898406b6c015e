# Sourced by the scripts beside it: what the project needs, installed on first use.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
# Only the system's own Python sees the real BCC, which no package registry for Python has
system_python=/usr/bin/python3
run_packages=(python3-bpfcc python3-venv libbpf1)
test_packages=(postgresql chromium chromium-driver nginx redis-server wrk nftables iproute2 conntrack unbound bind9-dnsutils docker.io openssl prometheus prometheus-alertmanager)
bench_packages=(bpftrace gcc libc6-dev redis-tools softflowd tcpdump wrk)
# a statically linked busybox is what the emulated machine starts from
kernel_packages=(qemu-system-x86 kmod busybox-static xz-utils debian-archive-keyring)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

# Prints which of the named system packages are not installed.
missing_packages() {
    local name
    for name in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] ||
            printf '%s\n' "$name"
    done
}

# Installs system packages that are missing; where it cannot, says what is missing and goes on.
need_packages() {
    local missing
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        "$system_python" -c 'import bcc; bcc.BPF' 2>/dev/null ||
            say "BCC for $system_python is missing: install your distribution's package" \
                "(Fedora: python3-bcc, Arch: python-bcc, Alpine: py3-bcc)"
        return 0
    fi
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        say "missing: ${missing[*]}; install them with: sudo apt-get install ${missing[*]}"
        return 0
    fi
    say "installing ${missing[*]}"
    (
        # The packages bring services along that nobody asked to run
        policy=/usr/sbin/policy-rc.d
        if [[ ! -e $policy ]]; then
            trap 'rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -qq -y --no-install-recommends "${missing[@]}" ||
            { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}"; }
    ) >&2 </dev/null || say "could not install ${missing[*]}: is there a network?"
}

# Makes .venv hold what pyproject.toml asks for; instant when it does already.
# $1: "run", "test" or "kernels"; each holds the one before.
need_python() {
    local stamp=$root/.venv/.installed-$1 wanted
    exec 9<"$root/pyproject.toml"
    flock 9
    wanted=$(sha256sum <"$root/pyproject.toml")$("$system_python" --version)
    if [[ ! -x $python || $(cat "$stamp" 2>/dev/null) != "$wanted" ]]; then
        "$system_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            { say "Python 3.11 or newer is needed at $system_python"; exit 1; }
        if ! "$python" -m pip --version >/dev/null 2>&1; then
            say "creating .venv"
            "$system_python" -m venv --clear --system-site-packages "$root/.venv" >&2 ||
                { say "cannot create .venv: install python3-venv"; exit 1; }
        fi
        say "installing what pyproject.toml asks for"
        "$system_python" "$root/scripts/dependencies.py" "$1" |
            "$python" -m pip install --quiet --disable-pip-version-check -r /dev/stdin >&2 ||
            { say "pip could not install it: is there a network?"; exit 1; }
        [[ $1 == run ]] || printf '%s' "$wanted" >"$root/.venv/.installed-run"
        [[ $1 != kernels ]] || printf '%s' "$wanted" >"$root/.venv/.installed-test"
        printf '%s' "$wanted" >"$stamp"
    fi
    exec 9<&-
}
