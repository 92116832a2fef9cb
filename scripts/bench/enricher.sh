#!/usr/bin/env bash
# The figures of attribution, on the running kernel and a real Docker engine. See --help.
set -euo pipefail

REPO=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..
LOCK=/run/lock/syscall-monitor-test.lock
LABEL=syscall-monitor.test=enr
SCENARIOS=(exec calls short late restart dockerd slow never ctr podman overrun alone latency memory)

usage() {
    cat <<TEXT
usage: scripts/bench/enricher.sh [--quick] [SCENARIO...]

Attribution: is every event in the right container? Prints goal and measured value of each row. Processes that live a millisecond carry
the truth as a token in their arguments, paths, addresses and registers (enricher/examples/storm/storm.c). Needs root, cc, a Docker engine,
audit without an owner. Each scenario takes the lock of the tests; pid_max (8192 meanwhile), audit state and containers are put back.

Scenarios: ${SCENARIOS[*]}

  --quick   a tenth of the processes
  --help    this text
TEXT
}

QUICK=()
WANTED=()
while (($#)); do
    case $1 in
        --quick) QUICK=(--quick) ;;
        -h | --help) usage; exit 0 ;;
        -*) printf 'unknown option: %s\n\n' "$1" >&2; usage >&2; exit 2 ;;
        *) WANTED+=("$1") ;;
    esac
    shift
done
((${#WANTED[@]})) || WANTED=("${SCENARIOS[@]}")

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}
(cd "$REPO" && cargo build -q --release --locked -p enricher --example storm)
STORM=$CARGO_TARGET_DIR/release/examples/storm

# The program puts everything back by itself; this is for the case that it is killed.
PID_MAX=$(</proc/sys/kernel/pid_max)
# shellcheck disable=SC2317 # called by the trap
put_back() {
    [[ $(</proc/sys/kernel/pid_max) == "$PID_MAX" ]] || echo "$PID_MAX" >/proc/sys/kernel/pid_max
    docker ps -aq --filter "label=$LABEL" 2>/dev/null | xargs -r docker rm -f >/dev/null
}
trap put_back EXIT

failed=0
for scenario in "${WANTED[@]}"; do
    # One lock a scenario, so that nobody waits for all of them.
    flock "$LOCK" "$STORM" "${QUICK[@]}" "$scenario" || failed=1
done
exit "$failed"
