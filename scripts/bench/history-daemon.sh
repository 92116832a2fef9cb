#!/usr/bin/env bash
# First pages of a large history through the running daemon. See --help.
set -euo pipefail

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"

LOCK=/run/lock/syscall-monitor-test.lock
EVENTS=10000000 ROUNDS=200 STORE=''

usage() {
    cat <<'TEXT'
usage: scripts/bench/history-daemon.sh [--quick] [--store DIR]

Makes a store of 10,000,000 events (--quick: 200,000) from the captured workload, starts a daemon on it, and asks over its socket for first
pages by container, exe, pid, id, path and severity, while events are written; prints median and 99 % beside the goals, and the memory of
the daemon. --store DIR takes a store that is there; new events are added to it. Needs root and system call audit without an owner; takes
the lock of the tests and puts the kernel's state back.
TEXT
}

while (($#)); do
    case $1 in
        --quick) EVENTS=200000 ROUNDS=50 ;;
        --store)
            (($# >= 2)) || { usage >&2; exit 2; }
            STORE=$(readlink -f "$2")
            shift
            ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
if [[ $EUID -ne 0 ]]; then
    echo "skipped: this is not root"
    exit 0
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}
cd "$REPO"
cargo build --release --locked --quiet --bin syscall-monitor --bench history_api
if [[ -z $STORE ]]; then
    cargo build --release --locked --quiet -p history --example bench_store
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    # As text, and in through `import`: the way that an old log takes.
    mkfifo "$WORK/text"
    "$CARGO_TARGET_DIR/release/syscall-monitor" history import --store "$WORK/store" "$WORK/text" &
    IMPORT=$!
    (cd history && "$CARGO_TARGET_DIR/release/examples/bench_store" --events "$EVENTS" --dir "$WORK/made" --text "$WORK/text" >/dev/null)
    wait "$IMPORT"
    STORE=$WORK/store
fi
SYSCALL_MONITOR_BENCH_STORE=$STORE ROUNDS=$ROUNDS SYSCALL_MONITOR_KERNEL_TESTS=1 flock "$LOCK" \
    env SYSCALL_MONITOR_TEST_LOCK_HELD=1 cargo bench --locked --bench history_api
