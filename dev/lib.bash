# Shared by the scripts of dev/: the places of things, and output. Sourced, not run.
# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this use what it sets

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build=${HV_BUILD:-$root/build}
# Debian's own: another python3 on PATH need not have what meson and the tests use.
python=/usr/bin/python3
meson=/usr/bin/meson

# Set the colours if the file descriptor is a terminal, or none.
colours_for() {
    bold='' dim='' red='' green='' plain=''
    if [[ -t $1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
        bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
    fi
}

# Messages go to stderr, so that a script's result can be piped.
colours_for 2

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    printf '%s%s:%s %s\n' "$red" "${0##*/}" "$plain" "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

# The comment at the top of a script is its help.
usage() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
}

# Run a command and show its output only if it fails.
quietly() {
    local output status=0
    output=$("$@" 2>&1 </dev/null) || status=$?
    ((status == 0)) || printf '%s\n' "$output" >&2
    return "$status"
}
