# shellcheck shell=bash
# Messages, the person who called, packages. Sourced by the scripts beside this folder; it changes nothing by itself.
#
# In: DRY_RUN (1: say what would be done). Out: functions, and REPO, the root of the clone.

REPO=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../..")
: "${DRY_RUN:=0}"

BOLD='' PLAIN=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    BOLD=$'\e[1m' PLAIN=$'\e[0m'
fi

say() { printf '%s\n' "$*"; }
step() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN"; }
note() { printf '    %s\n' "$*"; }
warn() {
    printf 'warning: %s\n' "$1" >&2
    shift
    [[ $# -eq 0 ]] || printf '         %s\n' "$@" >&2
}

# What failed, why, and what to do next; each argument is a line.
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    [[ $# -eq 0 ]] || printf '       %s\n' "$@" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Says what would be done and succeeds when this is a dry run: `would "install X" || install X`.
would() {
    ((DRY_RUN)) || return 1
    note "would $*"
}

# --- the person who called -------------------------------------------------------------------------------------------

# Who builds: the person who called sudo, else the owner of the clone. Root builds only what root owns and called itself.
build_user() {
    if [[ $EUID -ne 0 ]]; then
        id -un
    elif [[ -n ${SUDO_USER:-} && $SUDO_USER != root ]]; then
        printf '%s\n' "$SUDO_USER"
    else
        stat -c %U "$REPO"
    fi
}

home_of() { getent passwd "$1" | cut -d: -f6; }

# Runs a command as the user who builds, with that user's home and toolchain: sudo hides both.
as_builder() {
    local user home
    user=$(build_user)
    home=$(home_of "$user")
    local -a setting=(env "HOME=$home" "USER=$user" "PATH=$home/.cargo/bin:$PATH")
    if [[ $user == "$(id -un)" ]]; then
        "${setting[@]}" "$@"
        return
    fi
    # A toolchain that root's environment names is not that user's.
    setting=(env -u CARGO_HOME -u RUSTUP_HOME "${setting[@]:1:3}")
    if have runuser; then
        runuser -u "$user" -- "${setting[@]}" "$@"
    else
        sudo -u "$user" -- "${setting[@]}" "$@"
    fi
}

# --- packages --------------------------------------------------------------------------------------------------------

package_installed() { [[ $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) == 'install ok installed' ]]; }

# Prints those of the named Debian packages that are missing.
missing_packages() {
    local package
    for package in "$@"; do
        package_installed "$package" || printf '%s\n' "$package"
    done
}

# Installs packages without starting any service that comes with them, and prints (to file descriptor 3) all that are new,
# dependencies too. File descriptor 3 must be open.
install_packages() {
    local before log policy=/usr/sbin/policy-rc.d own_policy=0
    before=$(mktemp) log=$(mktemp)
    dpkg-query -W -f '${Package}\n' | sort -u >"$before"
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
        own_policy=1
    fi
    local failed=0
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o Dpkg::Use-Pty=0 update >"$log" 2>&1 || note "apt-get update failed; trying with the lists that are here"
    apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >>"$log" 2>&1 </dev/null || failed=1
    ((own_policy)) && rm -f "$policy"
    dpkg-query -W -f '${Package}\n' | sort -u | comm -13 "$before" - >&3
    if ((failed)); then
        tail -n 15 "$log" >&2
    fi
    rm -f "$before" "$log"
    ((failed)) && die "could not install: $*" "apt's last words are above; install them by hand and run this again"
    return 0
}
