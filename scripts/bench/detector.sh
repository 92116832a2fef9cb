#!/usr/bin/env bash
# What of the processor the evaluation of an event costs. See --help.
set -euo pipefail

REPO=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..

usage() {
    cat <<TEXT
usage: scripts/bench/detector.sh [--quick] [LOG...]

Evaluates the events of a captured workload (of this repository, or of LOGs) against every pack and 188 more rules, made up in the shapes
of SigmaHQ's Linux rules. Prints the mix, and CPU time an event for the mix and for its execs alone, by the index and by
rsigma's engine in the same run; the longest first evaluations with and without warming up. Needs no privileges.

  --quick   3 rounds instead of 11
  --help    this text
TEXT
}

case ${1-} in
    -h | --help) usage; exit 0 ;;
esac

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}
exec cargo run -q --release --locked --manifest-path "$REPO/Cargo.toml" -p detector --example evaluate -- "$@"
