#!/usr/bin/env bash
# The figures of the collector on logs: lines a CPU-second, against ausearch and auparse on the same input. See --help.
set -euo pipefail

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"

LOCK=/run/lock/syscall-monitor-test.lock
CORPUS=$REPO/collector/tests/corpus/package-install.log.zst
ROUNDS=5 EVENTS=200000 CAPTURE=1

usage() {
    cat <<'TEXT'
usage: scripts/bench/collector.sh [--quick] [--corpus]

Prints, for each of two inputs, lines of an audit log a CPU-second (user and system time of the whole process, the best of
several rounds, in turn):

  parsed and assembled into events     syscall-monitor replay LOG -o none       goal 3,000,000
  also decoded, enriched, as JSON      syscall-monitor replay LOG -o jsonl      goal 1,000,000
  ausearch --raw -if LOG, auparse      Debian's, when they are installed (auparse: libauparse-dev and cc)

Inputs, built by the script and removed:
  made      200,000 execve events of seven records each, four at a time one record in turn
  install   a real package installation: debootstrap of Debian's minbase under rules on exec, open, rename, unlink, mkdir, link,
            chmod, chown and connect, captured from the kernel by collector/examples/capture.rs (root, debootstrap, a mirror;
            about a minute with the tests' lock held), every record of it, EOE too

  --quick   a tenth of the made input, and for the other the capture that is kept in collector/tests/corpus
  --corpus  the kept capture also without --quick, twenty times over with serials and times of their own

ausearch gets the first 20,000 lines: its time grows with the square of how many events two seconds hold. auparse only walks over the records.
TEXT
}

while (($#)); do
    case $1 in
        --quick) ROUNDS=3 EVENTS=20000 CAPTURE=0 ;;
        --corpus) CAPTURE=0 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}
cd "$REPO"
cargo build --release --locked --quiet -p syscall-monitor
cargo build --release --locked --quiet -p collector --example capture
PROGRAM=$CARGO_TARGET_DIR/release/syscall-monitor
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# --- inputs ----------------------------------------------------------------------------------------------------------

made() {
    awk -v events="$EVENTS" '
        function head(kind) { return sprintf("type=%s msg=audit(%d.%03d:%d): ", kind, 1795353018 + int(ms / 1000), ms % 1000, n + 1) }
        BEGIN {
            for (group = 0; group < events; group += 4) {
                for (cpu = 0; cpu < 4; cpu++) {
                    n = group + cpu; ms = int(n / 46); pid = 1000 + n % 30000
                    r[cpu, 0] = head("SYSCALL") sprintf("arch=c000003e syscall=59 success=yes exit=0 a0=55d0c8a3f%06x a1=55d0c8a41%06x a2=55d0c8a2e010 a3=8 items=2 ppid=%d pid=%d auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=\"sh\" exe=\"/bin/busybox\" key=\"openclaw-exec\"", n, n, pid - 1, pid)
                    r[cpu, 1] = head("EXECVE") sprintf("argc=3 a0=\"sh\" a1=\"-c\" a2=6563686F2068656C6C6F20%08X", n)
                    r[cpu, 2] = head("CWD") "cwd=\"/home/node/.openclaw/workspace\""
                    tail = "dev=00:2b mode=0100755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
                    r[cpu, 3] = head("PATH") sprintf("item=0 name=\"/bin/sh\" inode=1048%d %s", n % 1000, tail)
                    r[cpu, 4] = head("PATH") sprintf("item=1 name=\"/lib/ld-musl-x86_64.so.1\" inode=1049%d %s", n % 1000, tail)
                    r[cpu, 5] = head("PROCTITLE") sprintf("proctitle=7368002D63006563686F2068656C6C6F20%08X", n)
                    r[cpu, 6] = head("EOE")
                }
                for (record = 0; record < 7; record++) for (cpu = 0; cpu < 4; cpu++) print r[cpu, record]
            }
        }'
}

# The kept capture again and again, each time a thousand seconds and ten million serials later.
repeated() {
    zstd -dcq "$CORPUS" >"$work/once.log"
    awk -v times="$1" '
        { line[NR] = $0 }
        END {
            for (t = 0; t < times; t++) for (i = 1; i <= NR; i++) {
                at = index(line[i], "msg=audit("); end = index(line[i], "):")
                split(substr(line[i], at + 10, end - at - 10), id, /[.:]/)
                printf "%smsg=audit(%d.%s:%d%s\n", substr(line[i], 1, at - 1), id[1] + 1000 * t, id[2], id[3] + 10000000 * t, substr(line[i], end)
            }
        }' "$work/once.log"
}

# The login id marks what the installation does, so that nothing else of the machine is recorded.
captured() {
    local rule="-a always,exit -F arch=b64 -S execve,openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,symlink,symlinkat,link,linkat,chmod,fchmod,fchmodat,chown,fchownat,connect -F auid=4242 -F key=install"
    # shellcheck disable=SC2016 # it is the inner shell that puts $0 in
    flock "$LOCK" timeout --signal=INT 300 "$CARGO_TARGET_DIR/release/examples/capture" "$work/install.log" --rule "$rule" -- \
        sh -c 'echo 4242 >/proc/self/loginuid && exec debootstrap --variant=minbase bookworm "$0" >"$0.log" 2>&1' "$work/root" >&2
    rm -rf "$work/root"
}

# --- measuring ---------------------------------------------------------------------------------------------------------

# CPU seconds of a command.
cpu() {
    local TIMEFORMAT='%U %S'
    { time "$@" >/dev/null 2>&1; } 2>&1 | awk '{ print $1 + $2 }'
}

# name, goal, lines, command...
row() {
    local name=$1 goal=$2 lines=$3 best='' seconds
    shift 3
    for ((i = 0; i < ROUNDS; i++)); do
        seconds=$(cpu "$@")
        best=$(awk -v a="${best:-$seconds}" -v b="$seconds" 'BEGIN { print (b < a ? b : a) }')
    done
    awk -v name="$name" -v goal="$goal" -v lines="$lines" -v best="$best" 'BEGIN {
        if (best <= 0) best = 0.01
        rate = lines / best
        verdict = goal == "" ? "" : rate >= goal ? "reached" : "missed"
        printf "| %-42s | %9s | %9d | %7.2f s | %s |\n", name, goal, rate, best, verdict
    }'
}

auparse() {
    [[ -e /usr/include/auparse.h ]] && command -v cc >/dev/null || return 1
    cat >"$work/auparse.c" <<'C'
#include <auparse.h>
int main(int argc, char **argv) {
    auparse_state_t *au = auparse_init(AUSOURCE_FILE, argv[1]);
    long records = 0;
    while (au && auparse_next_event(au) > 0)
        if (auparse_first_record(au) > 0) do records++; while (auparse_next_record(au) > 0);
    auparse_destroy(au);
    return records == 0;
}
C
    cc -O2 -o "$work/auparse" "$work/auparse.c" -lauparse
}

measure() {
    local log=$1 lines
    lines=$(wc -l <"$log")
    head -n 20000 "$log" >"$work/head.log"
    printf '\n%s: %s lines, %s MB\n' "$2" "$lines" "$(($(stat -c %s "$log") / 1000000))"
    printf '| %-42s | %9s | %9s | %9s | |\n' "lines a CPU-second" goal measured "CPU"
    row "parsed and assembled into events" 3000000 "$lines" "$PROGRAM" replay "$log" --output none
    row "also decoded, enriched, as JSON lines" 1000000 "$lines" "$PROGRAM" replay "$log" --output jsonl
    ROUNDS=2
    command -v ausearch >/dev/null && row "ausearch --raw (20,000 lines)" "" "$(wc -l <"$work/head.log")" ausearch --raw -if "$work/head.log"
    auparse && row "auparse, every record, no field read" "" "$lines" "$work/auparse" "$log"
    return 0
}

made >"$work/made.log"
(measure "$work/made.log" "made")
rm "$work/made.log"
if ((CAPTURE)) && [[ $EUID -eq 0 ]] && command -v debootstrap >/dev/null && captured; then
    measure "$work/install.log" "install, captured just now"
else
    ((CAPTURE)) && echo "no fresh capture (root, debootstrap and a mirror are needed): the kept one"
    repeated "$((EVENTS / 10000))" >"$work/install.log"
    measure "$work/install.log" "install, the kept capture $((EVENTS / 10000)) times"
fi
