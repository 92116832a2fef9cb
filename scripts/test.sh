#!/usr/bin/env bash
# All tests: unit and property tests, then those that need the real kernel and a real Docker engine. See --help.
set -euo pipefail

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"
# shellcheck source=scripts/lib/audit.sh
source "$LIB/audit.sh"

LOCK=/run/lock/syscall-monitor-test.lock
LABEL=syscall-monitor.test
# What the tests need of Debian, and the command or file that shows that it is there.
NEEDS=(auditctl:auditd dockerd:docker.io docker:docker.io /bin/busybox:busybox-static jq:jq cc:gcc flock:util-linux)
TARGET_TRIPLE=x86_64-unknown-linux-gnu

usage() {
    cat <<'TEXT'
usage: scripts/test.sh [--long] [--kernel] [--only NAME]

  --long        also the whole form of tests that run for many minutes
  --kernel      only the tests on the real kernel and Docker
  --only NAME   only tests whose name contains NAME
  --help        this text

Unit and property tests run for everybody. The tests on the real kernel and Docker need root and system call audit: without
them they are skipped, which is an error when CI=true. They take a lock that all test runs on this machine share, install what
is missing (Debian's auditd for auditctl, docker.io, busybox-static), start a Docker engine when none runs, touch only containers
with the label syscall-monitor.test, put the kernel's audit state back, and stop what they started.

What fails is tried once more, a test on the kernel alone: what passes then is named at the end as unsteady, what fails again has
failed.
TEXT
}

LONG=0
KERNEL=0
ONLY=''
while (($#)); do
    case $1 in
        --long) LONG=1 ;;
        --kernel) KERNEL=1 ;;
        --only)
            (($# >= 2)) || { usage >&2; exit 2; }
            ONLY=$2
            shift
            ;;
        -h | --help) usage; exit 0 ;;
        *) printf 'unknown option: %s\n\n' "$1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}
# What the tests ask; a test with a long form says so in its own words.
((!LONG)) || export SYSCALL_MONITOR_LONG=1 PROPTEST_CASES=${PROPTEST_CASES:-5000}
cd "$REPO"

# What passed only at the second attempt.
UNSTEADY=()

# --- tests for everybody ---------------------------------------------------------------------------------------------

# Not the benchmarks, which would run; lints compile them.
TARGETS=(--lib --bins --tests --examples)

cargo_() { as_builder env CARGO_TARGET_DIR="$CARGO_TARGET_DIR" cargo "$@"; }

unit_tests() {
    step "Unit and property tests"
    if ! cargo_ test --locked --workspace "${TARGETS[@]}" --no-fail-fast -- ${ONLY:+"$ONLY"}; then
        note "once more: the unit and property tests"
        cargo_ test --locked --workspace "${TARGETS[@]}" --no-fail-fast -- ${ONLY:+"$ONLY"}
        UNSTEADY+=("unit and property tests (the names are in the output of the first run)")
    fi
    [[ -n $ONLY ]] || cargo_ test --locked --workspace --doc
}

# --- tests on the kernel ---------------------------------------------------------------------------------------------

# Says in one line why the kernel's tests cannot run, or nothing.
obstacle() {
    if [[ $EUID -ne 0 ]]; then
        echo "this is not root (try: sudo $0)"
    elif [[ $(uname -m) != x86_64 ]]; then
        echo "the attacker of the tests is built for x86_64 only"
    elif ! auditctl -s >/dev/null 2>&1; then
        echo "the kernel's audit cannot be reached (a container, or a kernel without CONFIG_AUDIT)"
    elif auditctl -s | grep -qx 'enabled 2'; then
        echo "audit is locked until the next boot (enabled 2)"
    fi
}

# The same, once the lock is ours: before that another test run's daemon may own the stream.
owner_in_the_way() {
    if audit_owner >/dev/null; then
        echo "$(cat "/proc/$(audit_owner)/comm") (pid $(audit_owner)) owns the audit stream; stop it first"
    fi
}

install_needs() {
    local pair
    local -a missing=()
    for pair in "${NEEDS[@]}"; do
        if ! have "${pair%%:*}"; then missing+=("${pair#*:}"); fi
    done
    [[ -e /usr/lib/x86_64-linux-gnu/libc.a ]] || missing+=(libc6-dev)
    ((${#missing[@]})) || return 0
    have apt-get || die "missing: ${missing[*]} (Debian's names), and there is no apt-get here"
    note "installing ${missing[*]}"
    install_packages "${missing[@]}" 3>/dev/null
}

WORK=''
DOCKERD_PID=''

# Everything that this run changed, undone; also after a failure and Ctrl-C.
clean_up() {
    local status=$?
    trap - EXIT
    # One step that fails must not keep the others from being done.
    set +e
    # Ctrl-C again must not stop half-way.
    trap '' INT TERM
    if [[ -e $WORK/audit-before ]]; then
        end_daemons
        remove_containers
        audit_restore "$WORK/audit-before"
        stop_dockerd
    fi
    rm -rf "$WORK"
    exit "$status"
}

# A test that was killed leaves its daemon behind: end what runs our build's program.
end_daemons() {
    local exe pid signal
    for signal in CONT TERM KILL; do
        for exe in /proc/[0-9]*/exe; do
            [[ $(readlink "$exe" 2>/dev/null) == "$CARGO_TARGET_DIR"/debug/syscall-monitor* ]] || continue
            pid=${exe#/proc/}
            pid=${pid%/exe}
            kill -s "$signal" "$pid" 2>/dev/null || true
            [[ $signal != TERM ]] || timeout 15 tail --pid="$pid" -f /dev/null || true
        done
    done
}

remove_containers() {
    local id
    docker ps -aq --no-trunc --filter "label=$LABEL=e2e" 2>/dev/null | while read -r id; do
        thaw "$id"
        docker unpause "$id" >/dev/null 2>&1 || true
        timeout 30 docker rm -f -v "$id" >/dev/null 2>&1 || warn "could not remove the test container $id"
    done
    docker image ls -q --filter "label=$LABEL=e2e" 2>/dev/null | sort -u | xargs -r docker image rm -f >/dev/null 2>&1 || true
}

# What the monitor froze without Docker's knowledge, `docker rm` would wait for.
thaw() {
    local dir
    while IFS= read -r -d '' dir; do
        [[ ! -e $dir/cgroup.freeze ]] || echo 0 >"$dir/cgroup.freeze"
        [[ ! -e $dir/freezer.state ]] || echo THAWED >"$dir/freezer.state"
    done < <(find /sys/fs/cgroup -maxdepth 5 -type d -name "*$1*" -print0 2>/dev/null)
}

# Uses the engine that runs; else starts one, without packet filtering where the kernel has none.
start_dockerd() {
    if timeout 10 docker version >/dev/null 2>&1; then
        note "Docker engine $(docker version --format '{{.Server.Version}}') runs already"
        return
    fi
    local -a options
    local attempt
    for attempt in plain bare; do
        options=()
        [[ $attempt == plain ]] || options=(--iptables=false --ip6tables=false)
        setsid dockerd "${options[@]}" >"$WORK/dockerd.log" 2>&1 9>&- </dev/null &
        DOCKERD_PID=$!
        if await_dockerd; then
            note "started a Docker engine${options[*]:+ (${options[*]})}"
            return
        fi
        stop_dockerd
    done
    tail -n 15 "$WORK/dockerd.log" >&2
    die "the Docker engine does not start; its last words are above"
}

await_dockerd() {
    local waited
    for ((waited = 0; waited < 150; waited++)); do
        ! timeout 5 docker version >/dev/null 2>&1 || return 0
        kill -0 "$DOCKERD_PID" 2>/dev/null || return 1
        sleep 0.2
    done
    return 1
}

stop_dockerd() {
    [[ -n $DOCKERD_PID ]] || return 0
    kill -TERM "$DOCKERD_PID" 2>/dev/null || true
    timeout 30 tail --pid="$DOCKERD_PID" -f /dev/null || kill -KILL "$DOCKERD_PID" 2>/dev/null || true
    DOCKERD_PID=''
}

# Built apart: linked statically, so that it runs in an image that holds only busybox.
build_attacker() {
    local target=$CARGO_TARGET_DIR/attacker folder
    folder=$target/$TARGET_TRIPLE/debug
    as_builder env RUSTFLAGS='-C target-feature=+crt-static' \
        cargo build --locked -p attacker --target "$TARGET_TRIPLE" --target-dir "$target"
    as_builder cc -O1 -static -o "$folder/attacker-mount-setattr" tests/support/attacker/mount_setattr.c
    as_builder cc -O1 -static -o "$folder/attacker-raw" tests/support/attacker/raw.c
    export SYSCALL_MONITOR_ATTACKER=$folder
}

# Whether a test program has tests that ask whether they may use the kernel; SOURCE is its main file, alone or with its folder.
asks_for_kernel() {
    local source=$1
    [[ $(basename "$source") != @(main|lib).rs ]] || source=$(dirname "$source")
    grep -rqE --include='*.rs' 'SYSCALL_MONITOR_KERNEL_TESTS|kernel::wanted' "$source"
}

PROGRAMS=()

# Everything is compiled before the lock is taken, and by the owner of the build: no file of root's gets into the clone. The choice of
# packages is that of the unit tests: with another one cargo would compile nearly everything again, with other features.
build_kernel_tests() {
    step "Compiling the tests on the kernel and Docker"
    local manifest source executable
    build_attacker
    cargo_ test --locked --workspace "${TARGETS[@]}" --no-run --message-format=json 2>"$WORK/build.log" >"$WORK/build.json" ||
        { cat "$WORK/build.log" >&2; die "the tests do not compile"; }
    while IFS=$'\t' read -r manifest source executable; do
        if asks_for_kernel "$source"; then PROGRAMS+=("$manifest"$'\t'"$executable"); fi
    done < <(jq -r 'select(.reason == "compiler-artifact" and .profile.test and .executable != null
        and ([.target.kind[]] - ["bench", "example"] != [])) | [.manifest_path, .target.src_path, .executable] | @tsv' "$WORK/build.json" | sort)
    ((${#PROGRAMS[@]})) || die "cargo named no test program; the end of what it said: $(tail -n 3 "$WORK/build.log")"
}

# The real gateway in an image, for the one test that runs it. Without it (empty) that test fails with CI=true, else it is skipped.
gateway_image() {
    [[ -z $ONLY || the_real_gateway_is_quiet_until_it_is_attacked == *"$ONLY"* ]] || return 0
    SYSCALL_MONITOR_GATEWAY_IMAGE=$("$LIB/gateway-image.sh" 9>&-) || warn "there is no image of the real gateway"
    export SYSCALL_MONITOR_GATEWAY_IMAGE
}

# Run by root, one after the other: there is one kernel.
kernel_tests() {
    step "Tests on the kernel and Docker"
    export SYSCALL_MONITOR_KERNEL_TESTS=1 SYSCALL_MONITOR_TEST_LOCK_HELD=1
    local -a failed=()
    local program
    for program in "${PROGRAMS[@]}"; do
        note "$(basename "$program")"
        # Every one runs, also after a failure: a person wants to see all that is broken.
        run_program "$program" ${ONLY:+"$ONLY"} 2>&1 | tee "$WORK/output" || try_again "$program" || failed+=("$(basename "$program")")
    done
    ((${#failed[@]} == 0)) || die "failed: ${failed[*]}"
}

# PROGRAM is "MANIFEST<tab>EXECUTABLE"; the rest are arguments of the test harness.
run_program() {
    local folder executable=${1#*$'\t'}
    folder=$(dirname "${1%%$'\t'*}")
    (cd "$folder" && CARGO_MANIFEST_DIR=$folder "$executable" --test-threads=1 "${@:2}" 9>&-)
}

# The tests that failed in the run before, each once more and alone. A test waits for a real kernel and a real engine, on a machine that
# may be busy with something else for seconds: one failure in two is told as unsteady, two are a failure.
try_again() {
    local name
    local -a names=()
    mapfile -t names < <(sed -n '/^failures:$/,/^test result:/s/^    \([a-z0-9_:]\+\)$/\1/p' "$WORK/output" | sort -u)
    ((${#names[@]})) || return 1
    for name in "${names[@]}"; do
        note "once more: $name"
        run_program "$1" --exact "$name" || return 1
        UNSTEADY+=("$name")
    done
}

# One test run at a time uses the kernel. A caller that holds the lock already says so.
take_lock() {
    exec 9>"$LOCK"
    [[ ${SYSCALL_MONITOR_TEST_LOCK_HELD:-} != 1 ]] || return 0
    flock -n 9 || { note "another test run uses the kernel; waiting"; flock 9; }
}

# Without root or audit there is nothing that could be tried; with CI=true that is an error.
skip() {
    [[ ${CI:-} != true ]] || die "the tests on the kernel and Docker cannot run, and CI=true: $1"
    step "Skipped: the tests on the kernel and Docker. $1"
    exit 0
}

main() {
    ((KERNEL)) || unit_tests
    [[ $EUID -ne 0 ]] || install_needs
    local why
    why=$(obstacle)
    [[ -z $why ]] || skip "$why"
    WORK=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    build_kernel_tests
    take_lock
    why=$(owner_in_the_way)
    [[ -z $why ]] || skip "$why"
    audit_save "$WORK/audit-before"
    start_dockerd
    gateway_image
    kernel_tests
    ((${#UNSTEADY[@]} == 0)) || warn "passed only at the second attempt: ${UNSTEADY[*]}"
    step "All tests passed"
}

main
