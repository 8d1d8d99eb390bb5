# What the scripts of dev/ share: where things are, and how they talk. Sourced, not run.
# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is used by those who source it

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build=${HV_BUILD:-$root/build}
# Debian's own: another python3 on PATH need not have what meson and the tests use.
python=/usr/bin/python3
meson=/usr/bin/meson

# Set the colours as they fit what a file descriptor is.
colours_for() {
    bold='' dim='' red='' green='' plain=''
    if [[ -t $1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
        bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
    fi
}

# Messages go to stderr, so that what a script prints as its result can be piped.
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

# Run a command and keep its output to ourselves, unless it fails.
quietly() {
    local output status=0
    output=$("$@" 2>&1 </dev/null) || status=$?
    ((status == 0)) || printf '%s\n' "$output" >&2
    return "$status"
}
