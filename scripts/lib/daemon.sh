# shellcheck shell=bash
# The daemon: is it running, with what, start it, stop it, ask it. With systemd it is a unit; without, a process in a session of
# its own, which the program's own supervisor keeps alive.
#
# In: common.sh, paths.sh, DAEMON_ARGUMENTS. Out: start_daemon, stop_daemon, status_field, …

START_LIMIT=60
STOP_LIMIT=30

has_systemd() { [[ -d /run/systemd/system ]]; }

# True for a process of the installed program, also one whose file was replaced meanwhile.
is_ours() {
    local exe
    exe=$(readlink "/proc/$1/exe" 2>/dev/null) && [[ $exe == "$PROGRAM" || $exe == "$PROGRAM (deleted)" ]]
}

# Prints the supervisor's pid, or fails.
daemon_pid() {
    local pid
    pid=$(cat "$PID_FILE" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] && is_ours "$pid" && printf '%s\n' "$pid"
}

is_running() { daemon_pid >/dev/null; }

# The running daemon's arguments, one line.
running_arguments() { tr '\0' ' ' <"/proc/$1/cmdline" | sed 's/^[^ ]* //; s/ $//'; }

# True when what runs is this program, with these arguments and rules that were not changed.
is_current() {
    local pid
    pid=$(daemon_pid) || return 1
    [[ $(readlink "/proc/$pid/exe") == "$PROGRAM" && $(running_arguments "$pid") == "${DAEMON_ARGUMENTS[*]}" ]]
}

status_json() { "$PROGRAM" status --output json 2>/dev/null || true; }

# status_field FILTER: what jq makes of the status; nothing when there is none. Names come from containers: no control characters.
status_field() { { status_json | jq -r "$1" 2>/dev/null || true; } | tr -d '\000-\010\013-\037\177'; }

start_daemon() {
    if has_systemd; then
        systemctl enable --quiet "$UNIT"
        systemctl start "$UNIT"
        return
    fi
    [[ -e $LOG ]] || install -o root -g root -m 0640 /dev/null "$LOG"
    start_detached "$PROGRAM" "${DAEMON_ARGUMENTS[@]}"
}

# In a session of its own, and without our files: a lock that a caller holds must not live on in the daemon.
start_detached() {
    (
        local fd
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            ((fd > 2)) && eval "exec $fd>&-"
        done
        cd /
        exec setsid "$@" </dev/null >>"$LOG" 2>&1
    ) &
    disown
}

# Waits until the daemon says healthy or partial.
await_daemon() {
    local state='' waited=0
    while ((waited < START_LIMIT * 2)); do
        # Not asked before its pid file is there: without a daemon, status opens the store itself, which the daemon wants now.
        if is_running; then
            state=$(status_field .state)
            [[ $state == healthy || $state == partial ]] && return
            [[ $state == failed ]] && break
        elif ((waited >= 10)) && ! has_systemd; then
            break
        fi
        sleep 0.5
        waited=$((waited + 1))
    done
    tell_log
    die "the monitor did not start (state: ${state:-unknown})" "its last words are above; correct the cause and run this again"
}

tell_log() {
    if has_systemd; then
        journalctl -u "$UNIT" -n 20 --no-pager -o cat >&2 || true
    else
        tail -n 20 "$LOG" >&2 || true
    fi
    local reason
    while read -r reason; do
        [[ -z $reason ]] || printf '    %s\n' "$reason" >&2
    done < <(status_field '.reasons[]?')
}

# Ends the daemon, which puts rules and settings back; `restore` does that where it was killed before.
stop_daemon() {
    local pid waited=0
    if has_systemd && [[ -e $UNIT_FILE ]]; then
        systemctl disable --quiet --now "$UNIT" || true
    fi
    if pid=$(daemon_pid); then
        kill -TERM "$pid"
        while is_ours "$pid"; do
            ((waited < STOP_LIMIT * 10)) || die "the monitor (pid $pid) does not end after SIGTERM" \
                "look into its log ($LOG), then: kill -9 $pid; $PROGRAM restore"
            sleep 0.1
            waited=$((waited + 1))
        done
        note "stopped the monitor (pid $pid)"
    fi
}

restore_kernel() {
    local line
    "$PROGRAM" restore | while IFS= read -r line; do note "$line"; done
}
