#!/usr/bin/env bash
# The live figures of the collector: events a second, CPU a record and memory, against a program that only calls recv(2). See --help.
set -euo pipefail

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"

LOCK=/run/lock/syscall-monitor-test.lock

usage() {
    cat <<'TEXT'
usage: scripts/bench/collector-live.sh [--quick]

Alternates, in one run, a program that only calls recv(2) with our reader (decoding in its own thread, and behind its channel),
each as the owner of the audit stream, while one process calls umask in a loop under one rule. Prints each round, and the medians of
the rounds' ratios beside their goals. All of them, and the kernel's audit thread, run at nice -20 meanwhile, so that what else the machine
does disturbs less; the kernel's thread gets its own value back. Needs root and system call audit without an owner; takes the lock of the tests and
puts the kernel's state back.
TEXT
}

ROUNDS=5 EVENTS=100000
case ${1:-} in
    --quick) ROUNDS=3 EVENTS=60000 ;;
    -h | --help) usage; exit 0 ;;
    '') ;;
    *) usage >&2; exit 2 ;;
esac
if [[ $EUID -ne 0 ]]; then
    echo "skipped: this is not root"
    exit 0
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}
cd "$REPO"
cargo build --release --locked --quiet -p collector --example live_bench
KAUDITD=$(pgrep -x -P 2 kauditd)
NICE=$(ps -o ni= -p "$KAUDITD" | tr -d ' ')
exec 9>"$LOCK"
flock 9
trap 'renice -n "$NICE" -p "$KAUDITD" >/dev/null' EXIT
renice -n -20 -p "$KAUDITD" >/dev/null
nice -n -20 "$CARGO_TARGET_DIR/release/examples/live_bench" --rounds "$ROUNDS" --events "$EVENTS" 9>&-
