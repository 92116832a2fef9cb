# shellcheck shell=bash
# The kernel's audit state, of which there is one on a machine: read it, and put it back.
#
# In: common.sh, auditctl. Out: audit_state, audit_save, audit_restore.

# Rules and settings as text; the same text means the same state. A dead owner is nobody.
audit_state() {
    auditctl -s | awk '$1 ~ /^(enabled|failure|rate_limit|backlog_limit|backlog_wait_time)$/ {print $1, $2}'
    auditctl -l | grep '^-' || true
}

audit_owner() {
    local pid
    pid=$(auditctl -s | awk '$1 == "pid" {print $2}')
    [[ $pid != 0 && -d /proc/$pid ]] && printf '%s\n' "$pid"
}

# audit_save FILE
audit_save() { audit_state >"$1"; }

# audit_restore FILE: changes only what differs, and says so. Never locks audit and never asks for a panic.
audit_restore() {
    local now rule name value
    now=$(mktemp)
    audit_state >"$now"
    if cmp -s "$1" "$now"; then
        rm -f "$now"
        return
    fi
    if ! cmp -s <(grep '^-' "$1") <(grep '^-' "$now"); then
        auditctl -D >/dev/null
        while read -r rule; do
            # shellcheck disable=SC2086 # auditctl's own words, separated by spaces
            auditctl $rule >/dev/null || warn "could not put this audit rule back: $rule"
        done < <(grep '^-' "$1" || true)
        note "audit rules put back"
    fi
    while read -r name value; do
        grep -qxF "$name $value" "$now" && continue
        case $name in
            enabled) [[ $value == 2 ]] || auditctl -e "$value" >/dev/null ;;
            failure) [[ $value == 2 ]] || auditctl -f "$value" >/dev/null ;;
            rate_limit) auditctl -r "$value" >/dev/null ;;
            backlog_limit) auditctl -b "$value" >/dev/null ;;
            backlog_wait_time) auditctl --backlog_wait_time "$value" >/dev/null ;;
        esac
        note "audit's $name put back to $value"
    done < <(grep -v '^-' "$1")
    rm -f "$now"
}
