# shellcheck shell=bash
# From the clone to a program: toolchain, memory, disk, packages, cargo. Everything in the clone is done by the user who owns the
# build, so that no file of root's is left in it.
#
# In: common.sh. Out: build_program, which sets BUILT to the program's path, and BUILD_PACKAGES.

RUST_NEEDED=1.95
MEMORY_NEEDED_MB=2048
DISK_NEEDED_MB=4096
BUILT=''

# Where cargo puts its output: in the clone, or with a caller who may not write there in that caller's own cache.
target_dir() {
    if [[ -n ${CARGO_TARGET_DIR:-} ]]; then
        printf '%s\n' "$CARGO_TARGET_DIR"
    elif as_builder test -w "$REPO/target" || { [[ ! -e $REPO/target ]] && as_builder test -w "$REPO"; }; then
        printf '%s/target\n' "$REPO"
    else
        printf '%s/.cache/syscall-monitor/target\n' "$(home_of "$(build_user)")"
    fi
}

# True when the program was built after the last change of any source.
is_fresh() {
    local program=$1
    [[ -x $program ]] || return 1
    [[ -z $(find "$REPO/Cargo.toml" "$REPO/Cargo.lock" "$REPO"/src "$REPO"/collector "$REPO"/enricher "$REPO"/detector \
        "$REPO"/history "$REPO"/actions -type f -newer "$program" -print -quit) ]]
}

check_toolchain() {
    local user found
    user=$(build_user)
    if ! found=$(as_builder rustc --version 2>/dev/null); then
        die "no Rust compiler for user $user (looked in $(home_of "$user")/.cargo/bin and PATH)" \
            "as $user: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" \
            "then run this again"
    fi
    found=$(cut -d' ' -f2 <<<"$found")
    if [[ $(printf '%s\n%s\n' "$RUST_NEEDED" "$found" | sort -V | head -n1) != "$RUST_NEEDED" ]]; then
        die "Rust $RUST_NEEDED or newer is needed; user $user has $found" "as $user: rustup update stable" "then run this again"
    fi
    as_builder cargo --version >/dev/null 2>&1 ||
        die "there is rustc but no cargo for user $user" "as $user: rustup update stable" "then run this again"
    note "Rust $found of user $user"
}

check_memory() {
    local available
    available=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)
    ((available >= MEMORY_NEEDED_MB)) ||
        die "the build needs $MEMORY_NEEDED_MB MiB of free memory; $available MiB are available" \
            "stop something, or add swap and set CARGO_BUILD_JOBS=1, then run this again"
}

# The folder may not exist yet: asks its nearest parent that does.
check_disk() {
    local dir=$1 available
    while [[ ! -d $dir ]]; do dir=$(dirname "$dir"); done
    available=$(df -Pm "$dir" | awk 'NR == 2 {print $4}')
    ((available >= DISK_NEEDED_MB)) ||
        die "the build needs $DISK_NEEDED_MB MiB of disk in $dir; $available MiB are free" \
            "make room, or set CARGO_TARGET_DIR to a larger disk, then run this again"
}

# Prints the packages that are missing: a C compiler and its headers (for the cryptography and compression libraries),
# the certificates that Discord and Telegram are checked against, jq (to read what the program says).
needed_packages() {
    { have cc && [[ -e /usr/include/stdio.h ]]; } || missing_packages gcc libc6-dev
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing_packages ca-certificates
    have jq || missing_packages jq
}

# Compiles as the right user. Does nothing when the program is newer than every source.
build_program() {
    local target
    target=$(target_dir)
    BUILT=$target/release/syscall-monitor
    if is_fresh "$BUILT"; then
        note "$BUILT is newer than its sources: not built again"
        return
    fi
    check_toolchain
    check_memory
    check_disk "$target"
    would "build $BUILT as user $(build_user) (cargo build --release --locked)" && return
    note "as user $(build_user) into $target; the first time takes some minutes"
    (cd "$REPO" && as_builder env CARGO_TARGET_DIR="$target" cargo build --release --locked -p syscall-monitor --bin syscall-monitor) ||
        die "the build failed; the compiler's words are above" "run this again when the cause is gone"
    # cargo leaves an unchanged program's time alone; ours must say that it was checked against the sources as they are now.
    as_builder touch "$BUILT"
}
