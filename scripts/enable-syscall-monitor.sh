#!/usr/bin/env bash
# Sets syscall-monitor up on this machine and starts it, or stops it, or takes it away again. See --help.
set -euo pipefail

CALLED=$0
ALL_ARGUMENTS=("$@")
LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib
# shellcheck source=scripts/lib/common.sh
source "$LIB/common.sh"
# shellcheck source=scripts/lib/paths.sh
source "$LIB/paths.sh"
# shellcheck source=scripts/lib/preflight.sh
source "$LIB/preflight.sh"
# shellcheck source=scripts/lib/build.sh
source "$LIB/build.sh"
# shellcheck source=scripts/lib/install.sh
source "$LIB/install.sh"
# shellcheck source=scripts/lib/daemon.sh
source "$LIB/daemon.sh"
# shellcheck source=scripts/lib/report.sh
source "$LIB/report.sh"
# shellcheck source=scripts/lib/remove.sh
source "$LIB/remove.sh"

usage() {
    cat <<'TEXT'
usage: enable-syscall-monitor.sh --openclaw | --clawbot | --moltbot | --full  [options]
       enable-syscall-monitor.sh --status | --stop | --uninstall  [options]

Sets everything up and starts watching; run again, it changes only what is different.
  --openclaw             watch OpenClaw's containers
  --clawbot, --clawdbot  watch Clawdbot's containers
  --moltbot              watch Moltbot's containers
  --full                 all of them, and alert on every other container too
                         (the four may be combined)
  --container NAME       this container is an agent, whatever it is called (repeat for more)
  --restart-agents       restart agents that are older than audit: until then their own calls are invisible
  --audit-at-boot        put audit=1 on the kernel's command line, so that no agent is older than audit

  --status               how is it
  --stop                 stop it, and put the kernel's audit rules and settings back as they were found
  --uninstall            the same, and remove all that was installed; history, evidence and configuration stay
  --purge                with --uninstall: remove those as well
  --release-all          with --stop or --uninstall: let frozen containers run again
  --keep-quarantined     with --stop or --uninstall: leave frozen containers frozen

  --dry-run              say what would be done, and do nothing
  --help                 this text

Needs root (asks sudo for it on a terminal); compiles as the calling user, with that user's Rust.
Exit status: 0 healthy, and a system call that this script made came back as an event; 1 failed; 2 wrong usage;
3 it watches, but cannot see everything (it says what, and what to do).
TEXT
}

wrong() {
    printf '%s\n\n' "$1" >&2
    usage >&2
    exit 2
}

# --- the command line ------------------------------------------------------------------------------------------------

ACTION=enable
PROFILES=()
CONTAINERS=()
PURGE=0
FROZEN_CHOICE=''
RESTART_AGENTS=0
AUDIT_AT_BOOT=0
DAEMON_ARGUMENTS=()

add_profile() {
    local known
    for known in "${PROFILES[@]}"; do [[ $known != "$1" ]] || return 0; done
    PROFILES+=("$1")
}

set_action() {
    [[ $ACTION == enable || $ACTION == "$1" ]] || wrong "--$ACTION and --$1 exclude each other"
    ACTION=$1
}

set_frozen_choice() {
    [[ -z $FROZEN_CHOICE || $FROZEN_CHOICE == "$1" ]] || wrong "--release-all and --keep-quarantined exclude each other"
    FROZEN_CHOICE=$1
}

parse_arguments() {
    while (($#)); do
        case $1 in
            --openclaw | --moltbot | --full) add_profile "${1#--}" ;;
            --clawbot | --clawdbot) add_profile clawbot ;;
            --container)
                (($# >= 2)) || wrong "--container needs a name"
                # Docker's own rule for names; nothing else may get into a unit file.
                [[ $2 =~ ^[a-zA-Z0-9][a-zA-Z0-9_.-]*$ ]] || wrong "$2 is no name of a container"
                CONTAINERS+=("$2")
                shift
                ;;
            --restart-agents) RESTART_AGENTS=1 ;;
            --audit-at-boot) AUDIT_AT_BOOT=1 ;;
            --status | --stop | --uninstall) set_action "${1#--}" ;;
            --purge) PURGE=1 ;;
            --release-all) set_frozen_choice release ;;
            --keep-quarantined) set_frozen_choice keep ;;
            --dry-run) DRY_RUN=1 ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) wrong "unknown option: $1" ;;
        esac
        shift
    done
}

check_arguments() {
    if [[ $ACTION == enable ]]; then
        ((${#PROFILES[@]})) || wrong "name at least one profile"
        [[ -z $FROZEN_CHOICE ]] || wrong "--release-all and --keep-quarantined belong to --stop and --uninstall"
    else
        ((${#PROFILES[@]} == 0)) || wrong "--$ACTION takes no profile"
        ((${#CONTAINERS[@]} + RESTART_AGENTS + AUDIT_AT_BOOT == 0)) ||
            wrong "--container, --restart-agents and --audit-at-boot belong to a profile"
        [[ -z $FROZEN_CHOICE || $ACTION != status ]] || wrong "--status changes nothing"
    fi
    ((!PURGE)) || [[ $ACTION == uninstall ]] || wrong "--purge belongs to --uninstall"
}

daemon_arguments() {
    local word
    DAEMON_ARGUMENTS=(run)
    for word in "${PROFILES[@]}"; do DAEMON_ARGUMENTS+=(--profile "$word"); done
    for word in "${CONTAINERS[@]}"; do DAEMON_ARGUMENTS+=(--container "$word"); done
}

# --- root ------------------------------------------------------------------------------------------------------------

# On a terminal, asks sudo and begins again; the build still runs as the caller (SUDO_USER).
become_root() {
    [[ $EUID -ne 0 ]] || return 0
    ((!DRY_RUN)) || return 0
    if [[ -t 0 ]] && have sudo; then
        say "This needs root: continuing with sudo (the build runs as $(id -un))."
        local -a keep=()
        [[ -z ${DISCORD_WEBHOOK:-}${TELEGRAM_BOT_TOKEN:-} ]] ||
            keep=("--preserve-env=DISCORD_WEBHOOK,TELEGRAM_BOT_TOKEN,TELEGRAM_CHAT_ID")
        exec sudo "${keep[@]}" -- "$(readlink -f "${BASH_SOURCE[0]}")" "${ALL_ARGUMENTS[@]}"
    fi
    die "this needs root, because audit rules are root's" "run it with sudo: sudo $CALLED ${ALL_ARGUMENTS[*]}"
}

# One set-up at a time.
take_turn() {
    ((!DRY_RUN)) || return 0
    exec 8>"$SETUP_LOCK"
    flock -n 8 || die "another run of this script is at work" "wait until it has ended"
}

# --- what is asked for -----------------------------------------------------------------------------------------------

enable() {
    step "Looking at this machine"
    check_kernel
    check_audit
    check_docker
    step "Packages"
    install_needed_packages
    step "Building"
    build_program
    step "Installing"
    local before=$CHANGED
    install_program
    install_docs
    install_rules
    ! has_systemd || install_unit
    local replaced=$((CHANGED - before))
    ((replaced)) || ((DRY_RUN)) || note "nothing to do: program, rules and unit are the same"
    if ((AUDIT_AT_BOOT)); then
        step "audit=1 at boot"
        audit_at_boot
    fi
    step "Starting"
    start_if_needed "$replaced"
    if ((DRY_RUN)); then
        say "Dry run: nothing was changed."
        return
    fi
    await_daemon
    step "Checking that it sees"
    self_check
    adopt_channels
    ((!RESTART_AGENTS)) || restart_old_agents
    report
}

# start_if_needed REPLACED: leaves a daemon alone that is the same and was started with the same words.
start_if_needed() {
    if is_current && (($1 == 0)); then
        note "it runs already (pid $(daemon_pid)) as asked for: ${DAEMON_ARGUMENTS[*]}"
        return
    fi
    if is_running; then
        would "restart the monitor: ${DAEMON_ARGUMENTS[*]}" && return
        note "it runs with something else: $(running_arguments "$(daemon_pid)"); restarting"
        stop_daemon
    else
        would "start the monitor: ${DAEMON_ARGUMENTS[*]}" && return
    fi
    start_daemon
    CHANGED=$((CHANGED + 1))
    note "started: ${DAEMON_ARGUMENTS[*]}"
}

status() {
    [[ -x $PROGRAM ]] || die "syscall-monitor is not installed here" "install and start it: $CALLED --full"
    exec "$PROGRAM" status
}

# --stop and --uninstall begin alike. Nothing to do is no failure.
stop() {
    step "Stopping"
    if [[ -x $PROGRAM ]]; then
        stop_everything
    else
        note "syscall-monitor is not installed here"
    fi
}

main() {
    parse_arguments "$@"
    check_arguments
    daemon_arguments
    become_root
    ((EUID == 0)) || note "not root: this dry run cannot see what only root can (a running monitor, audit's state)"
    case $ACTION in
        status) status ;;
        enable)
            take_turn
            enable
            ;;
        stop)
            take_turn
            stop
            ((DRY_RUN)) || note "it stays stopped until this script starts it again"
            ;;
        uninstall)
            take_turn
            stop
            uninstall
            ;;
    esac
}

main "$@"
