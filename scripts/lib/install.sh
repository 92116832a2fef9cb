# shellcheck shell=bash
# What goes under /usr/local: the program, its rules, its unit. All of it is root's; each thing that is made is written down, so
# that --uninstall can undo it. A thing that is there already and the same is left alone.
#
# In: common.sh, paths.sh, BUILT. Out: install_* and CHANGED (how many things were changed).

CHANGED=0

record() {
    local line="$1 $2"
    [[ -d $SHARE ]] || make_dir "$SHARE"
    touch "$MANIFEST"
    grep -qxF -- "$line" "$MANIFEST" || printf '%s\n' "$line" >>"$MANIFEST"
}

# A folder of root's, recorded when it was not there.
make_dir() {
    [[ -d $1 ]] && return
    local parent
    parent=$(dirname "$1")
    [[ -d $parent ]] || make_dir "$parent"
    install -d -o root -g root -m 0755 "$1"
    [[ $1 == "$SHARE" ]] && : >"$MANIFEST"
    record dir "$1"
    CHANGED=$((CHANGED + 1))
}

is_same() { [[ -f $2 && ! -L $2 ]] && cmp -s "$1" "$2" && [[ $(stat -c '%U:%G %a' "$2") == "root:root ${3#0}" ]]; }

# install_file SOURCE TARGET MODE: put beside the target and renamed, so that a running program is never half replaced.
install_file() {
    local source=$1 target=$2 mode=$3
    is_same "$source" "$target" "$mode" && return
    would "install $target" && return
    make_dir "$(dirname "$target")"
    install -o root -g root -m "$mode" "$source" "$target.new"
    mv -f "$target.new" "$target"
    record file "$target"
    note "installed $target"
    CHANGED=$((CHANGED + 1))
}

install_needed_packages() {
    local -a packages
    mapfile -t packages < <(needed_packages)
    ((${#packages[@]})) || return 0
    would "install the packages ${packages[*]}" && return
    have apt-get || die "missing: ${packages[*]} (Debian's names), and there is no apt-get here" \
        "install a C compiler and jq with this system's own tool, then run this again"
    note "installing ${packages[*]}"
    local new
    new=$(mktemp)
    install_packages "${packages[@]}" 3>"$new"
    local package
    while read -r package; do record package "$package"; done <"$new"
    rm -f "$new"
    CHANGED=$((CHANGED + 1))
}

install_program() {
    if [[ ! -e $BUILT ]]; then
        would "install $PROGRAM"
        return
    fi
    install_file "$BUILT" "$PROGRAM" 0755
}

# Manual pages and the shell's completions, as the program itself writes them.
install_docs() {
    if [[ ! -x $PROGRAM ]]; then
        would "install manual pages and completions"
        return
    fi
    local made file before=$CHANGED
    made=$(mktemp -d)
    "$PROGRAM" man "$made" >/dev/null
    for file in "$made"/*.8; do install_file "$file" "$MAN/$(basename "$file")" 0644 >/dev/null; done
    "$PROGRAM" completions bash >"$made/bash"
    install_file "$made/bash" "$COMPLETIONS" 0644 >/dev/null
    rm -rf "$made"
    ((CHANGED == before)) || note "installed manual pages (man syscall-monitor) and completions for bash"
}

# The rule packs, and nothing else in that folder: a pack that is gone from the sources goes from the machine.
install_rules() {
    local file name changed=0
    while IFS= read -r -d '' file; do
        name=${file#"$REPO"/audit-rules/}
        is_same "$file" "$RULES/$name" 0644 && continue
        changed=$((changed + 1))
        ((DRY_RUN)) || install_file "$file" "$RULES/$name" 0644 >/dev/null
    done < <(find "$REPO/audit-rules" -type f -print0 | sort -z)
    ((changed == 0)) || would "install $changed files of rules in $RULES" || note "installed $changed files of rules in $RULES"
    [[ -d $RULES ]] || return 0
    while IFS= read -r -d '' file; do
        name=${file#"$RULES"/}
        [[ -f $REPO/audit-rules/$name ]] && continue
        would "remove $file, which is no rule any more" && continue
        rm -f -- "$file"
        note "removed $file, which is no rule any more"
        CHANGED=$((CHANGED + 1))
    done < <(find "$RULES" -type f -print0)
}

# The unit with the daemon's arguments in it (they hold no character that systemd would change: see parse_arguments).
install_unit() {
    local unit
    unit=$(mktemp)
    # shellcheck disable=SC2153 # UNIT is in paths.sh
    sed "s|@ARGUMENTS@|${DAEMON_ARGUMENTS[*]}|" "$REPO/scripts/$UNIT" >"$unit"
    local before=$CHANGED
    install_file "$unit" "$UNIT_FILE" 0644
    rm -f "$unit"
    ((CHANGED == before)) || systemctl daemon-reload
}

# audit=1 on the kernel's command line: then no process is older than audit.
audit_at_boot() {
    # shellcheck disable=SC2016 # grub expands it, not this script
    local line='GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX audit=1"'
    if grep -qw 'audit=1' /proc/cmdline; then
        note "this kernel was booted with audit=1 already"
        return
    fi
    if [[ -f $BOOT_FILE ]] && grep -qxF "$line" "$BOOT_FILE"; then
        note "$BOOT_FILE has it already; it takes effect at the next boot"
        return
    fi
    if ! have update-grub || [[ ! -d /etc/default ]]; then
        note "this machine has no update-grub; add to the kernel's command line by hand:  audit=1"
        return
    fi
    would "write $BOOT_FILE and run update-grub" && return
    make_dir "$(dirname "$BOOT_FILE")"
    printf '# Made by enable-syscall-monitor.sh --audit-at-boot; --uninstall removes it.\n%s\n' "$line" >"$BOOT_FILE"
    record boot "$BOOT_FILE"
    CHANGED=$((CHANGED + 1))
    update-grub >/dev/null 2>&1 || die "update-grub failed after $BOOT_FILE was written" "run update-grub to see why, or remove that file"
    note "audit=1 is on the kernel's command line from the next boot on ($BOOT_FILE)"
}
