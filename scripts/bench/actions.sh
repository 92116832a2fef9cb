#!/usr/bin/env bash
# How long an attacker runs on after his call. See --help.
set -euo pipefail

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"

usage() {
    cat <<'TEXT'
usage: scripts/bench/actions.sh [--quick]

From the return of mount(2) in a container to its last instruction: the attacker stamps a clock, or creates files, until it is
held. Idle and beside a container that makes 10,000 events a second, with and without the real-time setting.
Needs root, system call audit, and a Docker engine that runs.

ROUNDS attacks a row (200, with --quick 30), but no new one after PART_SECONDS (600, with --quick 60); both are taken from the environment.
TEXT
}

case ${1:-} in
    --quick) export ROUNDS=${ROUNDS:-30} PART_SECONDS=${PART_SECONDS:-60} ;;
    '') export ROUNDS=${ROUNDS:-200} PART_SECONDS=${PART_SECONDS:-600} ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac
cd "$REPO"
SYSCALL_MONITOR_KERNEL_TESTS=1 cargo bench --locked --bench quarantine
