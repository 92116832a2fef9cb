#!/usr/bin/env bash
# What the history costs and how fast it answers. See --help.
set -euo pipefail

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"

usage() {
    cat <<'TEXT'
usage: scripts/bench/history.sh [--quick]

Writes 10,000,000 events made from the captured corpora (their mix is printed) and measures CPU from the activity to the durable block, bytes,
first pages, a rare combination, scans of everything, memory while 1,000 events a second go on being written; the write path again at 5,000 and
at 1,000 events a second; and ausearch on the text of 500,000 of the same events. Takes 20 GB below TMPDIR and removes them.

  --quick   500,000 events, and text of 50,000
TEXT
}

EVENTS=10000000 TEXT=500000 PACED=30
case ${1:-} in
    --quick) EVENTS=500000 TEXT=50000 PACED=10 ;;
    '') ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac
cd "$REPO"
DIR=$(mktemp -d)
trap 'rm -rf "$DIR"' EXIT
cargo build --locked --release -p history --example bench_store
BENCH=${CARGO_TARGET_DIR:-$REPO/target}/release/examples/bench_store

run() { "$BENCH" --dir "$DIR/store" "$@" | tee "$DIR/out"; }
figure() { awk -v name="$1" '$1 == "FIGURE" && $2 == name {print $3}' "$DIR/out"; }
table=()
row() { table+=("$(printf '| %s | %s | %s |' "$1" "$2" "$3")"); }

step "$EVENTS events as fast as they are taken"
run --events "$EVENTS" --queries
row 'write path CPU, full speed, µs an event' 4 "$(figure cpu_us_per_event)"
row 'values, bytes an event' 120 "$(figure value_bytes_per_event)"
row 'file by values' 1.5 "$(figure file_by_values)"
row 'first page, median, ms (library alone)' 10 "$(figure first_page_median_ms)"
row 'first page, 99 %, ms (library alone)' 50 "$(figure first_page_p99_ms)"
row 'rare combination, ms' 10 "$(figure rare_median_ms)"
for scan in scan_literal scan_regex scan_regex_classes; do
    row "$scan, events a second of the clock" 1,500,000 "$(figure ${scan}_events_per_s)"
    row "$scan, events a second of one processor" '' "$(figure ${scan}_events_per_cpu_s)"
done
row 'resident while written, MiB (bench and store)' 192 "$(figure resident_mib_while_written)"
row 'resident after the queries, MiB (bench and store)' 192 "$(figure resident_mib_after_queries)"
for rate in 5000 1000; do
    step "$rate events a second"
    run --events $((rate * PACED)) --rate "$rate"
    row "write path CPU at $rate a second, µs an event" "$([[ $rate == 5000 ]] && echo 4 || echo 12)" "$(figure cpu_us_per_event)"
    row "file by values at $rate a second" 1.5 "$(figure file_by_values)"
done
if command -v ausearch > /dev/null; then
    step "ausearch on the text of $TEXT events"
    run --events "$TEXT" --text "$DIR/audit.log" > /dev/null
    lines=$(wc -l < "$DIR/audit.log")
    before=$(date +%s.%N)
    ausearch --raw -if "$DIR/audit.log" -x /usr/bin/rare > /dev/null 2>&1 || true
    row 'ausearch by program, lines a second' '' "$(awk -v l="$lines" -v a="$before" -v b="$(date +%s.%N)" 'BEGIN {printf "%.0f", l / (b - a)}')"
fi
printf '\n| what | goal | measured |\n|---|---|---|\n'
printf '%s\n' "${table[@]}"
