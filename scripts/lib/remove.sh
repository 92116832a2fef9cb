# shellcheck shell=bash
# --stop and --uninstall: frozen containers first, then the daemon and the kernel's rules, then what was installed. History,
# evidence and what a person wrote stay, unless --purge.
#
# In: common.sh, paths.sh, daemon.sh, FROZEN_CHOICE (release, keep or nothing), PURGE. Out: stop_everything, uninstall.

frozen_containers() {
    local json
    have jq || die "jq is missing, so this script cannot read which containers are frozen" "apt-get install jq, then run this again"
    json=$("$PROGRAM" quarantine list --output json) ||
        die "cannot tell which containers are frozen, so nothing was stopped" "$PROGRAM quarantine list says why"
    jq -r '.[] | .name' <<<"$json"
}

# Nothing is stopped over the head of a frozen container: it is released, or left frozen, because a person said so.
settle_frozen() {
    local -a frozen
    local list name line
    list=$(frozen_containers)
    [[ -n $list ]] || return 0
    mapfile -t frozen <<<"$list"
    say "Frozen containers:"
    for name in "${frozen[@]}"; do note "$name"; done
    case $FROZEN_CHOICE in
        release)
            for name in "${frozen[@]}"; do
                would "release $name" && continue
                "$PROGRAM" quarantine release "$name" | while IFS= read -r line; do note "$name: $line"; done || die "could not release $name; nothing was stopped"
            done
            ;;
        keep)
            note "they stay frozen, and their restart policy stays \"no\""
            if [[ $ACTION == uninstall ]]; then
                note "without the program these bring one back:  docker unpause NAME; then, where it is still frozen,"
                note "  for f in \$(find /sys/fs/cgroup -path '*ID*' -name cgroup.freeze); do echo 0 >\$f; done;  docker update --restart=POLICY NAME"
            else
                note "syscall-monitor quarantine release NAME  brings one back, also while the monitor does not run"
            fi
            ;;
        *) die "${#frozen[@]} container(s) are frozen, and without the monitor nobody watches them" \
            "add --release-all to let them run again, or --keep-quarantined to leave them frozen" ;;
    esac
}

stop_everything() {
    settle_frozen
    local pid
    if pid=$(daemon_pid); then
        would "stop the monitor (pid $pid) and put the kernel's audit rules and settings back" && return
    else
        note "the monitor does not run"
        would "put the kernel's audit rules and settings back where it was killed" && return
    fi
    stop_daemon
    restore_kernel
}

# recorded KIND: the paths or names of that kind, last made first.
recorded() { [[ -f $MANIFEST ]] && sed -n "s/^$1 //p" "$MANIFEST" | tac; }

# Packages that we installed, unless something else needs them by now.
remove_packages() {
    local -a packages
    mapfile -t packages < <(recorded package)
    ((${#packages[@]})) || return 0
    would "remove the packages ${packages[*]}" && return
    local others
    others=$(apt-get -s remove "${packages[@]}" 2>/dev/null | awk '$1 == "Remv" {print $2}' |
        grep -vxF -f <(printf '%s\n' "${packages[@]}") || true)
    if [[ -n $others ]]; then
        note "kept the packages ${packages[*]}: other packages need them by now ($(tr '\n' ' ' <<<"$others"))"
        return
    fi
    if DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 remove -y "${packages[@]}" </dev/null >/dev/null 2>&1; then
        note "removed the packages ${packages[*]}"
    else
        warn "could not remove the packages ${packages[*]}" "apt-get remove ${packages[*]} says why"
    fi
}

remove_path() {
    [[ -e $1 || -L $1 ]] || return 0
    would "remove $1" && return
    rm -rf -- "$1"
    note "removed $1"
}

# Folders that we made and that are empty now.
remove_dirs() {
    local dir
    for dir in "$@"; do
        [[ -d $dir ]] || continue
        would "remove $dir where it is empty" && continue
        rmdir --ignore-fail-on-non-empty "$dir" 2>/dev/null || true
        [[ -d $dir ]] || note "removed $dir"
    done
}

uninstall() {
    local path
    local -a files dirs secrets boots
    mapfile -t files < <(recorded file)
    mapfile -t dirs < <(recorded dir)
    mapfile -t secrets < <(recorded secret)
    mapfile -t boots < <(recorded boot)
    step "Undoing what was installed"
    for path in "${boots[@]}"; do
        remove_path "$path"
        ((DRY_RUN)) || ! have update-grub || update-grub >/dev/null 2>&1 || warn "update-grub failed; run it by hand"
    done
    remove_packages
    # Also what no list names, should the list be gone; the rules go with their folder.
    while IFS= read -r path; do
        [[ -z $path || $path == "$RULES"/* ]] || remove_path "$path"
    done < <(printf '%s\n' "${secrets[@]}" "${files[@]}" "$PROGRAM" "$UNIT_FILE" "$RULES" "$RUN_DIR" | awk '!seen[$0]++')
    ((DRY_RUN)) || ! has_systemd || systemctl daemon-reload
    if ((PURGE)); then
        for path in "$STATE_DIR" "$CONFIG_DIR" "$LOG"; do remove_path "$path"; done
    fi
    remove_path "$MANIFEST"
    remove_dirs "${dirs[@]}"
    for path in "$STATE_DIR" "$CONFIG_DIR" "$LOG"; do
        [[ ! -e $path ]] || ((PURGE)) || note "kept $path ($(kept_for "$path")); --uninstall --purge removes it"
    done
    [[ ! -e $SECURITY_LOG ]] || note "kept $SECURITY_LOG, which belongs to all of the framework's tools"
    ((DRY_RUN)) || rm -f "$SETUP_LOCK"
    [[ ! -d $REPO/target ]] || note "kept $REPO/target, what the compiler made in your clone"
}

kept_for() {
    case $1 in
        "$STATE_DIR") echo 'history, evidence and trust' ;;
        "$CONFIG_DIR") echo 'your configuration and channels' ;;
        *) echo "the monitor's log" ;;
    esac
}
