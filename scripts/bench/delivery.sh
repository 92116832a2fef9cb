#!/usr/bin/env bash
# The figures of delivery: hostile text through every channel, and a storm while Discord is down. See --help.
set -euo pipefail

REPO=$(readlink -f "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..")
SCENARIOS=(hostile storm)

usage() {
    cat <<TEXT
usage: scripts/bench/delivery.sh [--quick] [SCENARIO...]

  hostile       10,000 generated texts (mentions, markdown, ANSI, NULs, 100 KB arguments, invalid UTF-8) and 200 planted secrets through every
                channel, to services that keep their limits: all taken, nothing is markup, no secret leaves (actions/tests/hostile.rs)
  storm         1,000 alerts of real events while Discord is down for a minute and the daemon is killed twice: none lost, none repeated, the
                reader never waits (tests/e2e/storm.rs; root, audit without an owner, a Docker engine; takes the lock of the tests)

  --quick       150 texts; 60 alerts in some seconds
  --help        this text
TEXT
}

LONG=1
WANTED=()
while (($#)); do
    case $1 in
        --quick) LONG=0 ;;
        -h | --help) usage; exit 0 ;;
        *)
            [[ " ${SCENARIOS[*]} " == *" $1 "* ]] || { printf 'there is no scenario %s\n\n' "$1" >&2; usage >&2; exit 2; }
            WANTED+=("$1")
            ;;
    esac
    shift
done
((${#WANTED[@]})) || WANTED=("${SCENARIOS[@]}")

cd "$REPO"
((!LONG)) || export SYSCALL_MONITOR_LONG=1
export RUST_TEST_NOCAPTURE=1
for scenario in "${WANTED[@]}"; do
    case $scenario in
        hostile) cargo test --quiet --release --locked -p actions --test hostile ;;
        storm) scripts/test.sh --kernel --only a_storm_with_discord_down ;;
    esac
done
