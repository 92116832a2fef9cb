#!/usr/bin/env bash
# The figures of docs/benchmarks.md, measured again. See --help.
set -euo pipefail

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"

# One script a room, each with a help of its own.
BENCH=$REPO/scripts/bench

usage() {
    cat <<TEXT
usage: scripts/bench.sh [--quick] [ROOM...]

Measures and prints, beside the goal, what docs/benchmarks.md tells. Without ROOM all of them, one after the other.

  --quick   a short form of each: the same figures from less input, good for comparing, not for quoting
  --help    this text

Rooms: $(rooms | tr '\n' ' ')

Each builds its own input and removes it. Live figures need root, system call audit without an owner, and some a Docker engine; they
take the lock that the tests take and put the kernel's state back. Run them on an idle machine: figures are CPU time or
ratios from one run where that is possible, and still a busy neighbour is seen in them.
TEXT
}

rooms() {
    local script
    for script in "$BENCH"/*.sh; do basename "$script" .sh; done
}

QUICK=()
ROOMS=()
while (($#)); do
    case $1 in
        --quick) QUICK=(--quick) ;;
        -h | --help) usage; exit 0 ;;
        -*) printf 'unknown option: %s\n\n' "$1" >&2; usage >&2; exit 2 ;;
        *)
            [[ -f $BENCH/$1.sh ]] || { printf 'there is no room %s\n\n' "$1" >&2; usage >&2; exit 2; }
            ROOMS+=("$1")
            ;;
    esac
    shift
done
((${#ROOMS[@]})) || mapfile -t ROOMS < <(rooms)

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}
step "$(uname -srm), $(nproc) CPUs, $(rustc --version)"
failed=()
for room in "${ROOMS[@]}"; do
    step "$room"
    # Every room is measured, also after one that failed.
    "$BENCH/$room.sh" "${QUICK[@]}" || failed+=("$room")
done
((${#failed[@]} == 0)) || die "could not be measured: ${failed[*]}"
