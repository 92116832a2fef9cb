# shellcheck shell=bash
# What may be in the way, said before anything is changed: the kernel, audit's lock, another owner, Docker.
#
# In: common.sh. Out: check_kernel, check_audit, check_docker.

# Prints y, n, or ? when this kernel's configuration cannot be read.
kernel_option() {
    local text=''
    if [[ -r /proc/config.gz ]] && have zcat; then
        text=$(zcat /proc/config.gz)
    elif [[ -r /boot/config-$(uname -r) ]]; then
        text=$(<"/boot/config-$(uname -r)")
    fi
    if [[ -z $text ]]; then
        echo '?'
    elif grep -qx "$1=y" <<<"$text"; then
        echo y
    else
        echo n
    fi
}

check_kernel() {
    [[ $(uname -s) == Linux ]] || die "this is $(uname -s); the Linux audit subsystem is needed"
    case $(kernel_option CONFIG_AUDITSYSCALL) in
        n) die "this kernel ($(uname -r)) has no system call audit (CONFIG_AUDITSYSCALL is not set)" \
            "boot a kernel that has it: the standard kernels of Debian and Ubuntu do" ;;
        '?') note "this kernel's configuration cannot be read; the monitor will say whether it has system call audit" ;;
    esac
    if grep -qwE 'audit=(0|off)' /proc/cmdline; then
        die "audit is turned off on the kernel's command line (audit=0)" "remove audit=0 there, reboot, run this again"
    fi
}

# Asks through auditctl where that is installed (whoever locked audit has it); otherwise the monitor itself finds out.
check_audit() {
    have auditctl && [[ $EUID -eq 0 ]] || return 0
    local status enabled owner
    status=$(auditctl -s 2>/dev/null) || return 0
    enabled=$(awk '$1 == "enabled" {print $2}' <<<"$status")
    owner=$(awk '$1 == "pid" {print $2}' <<<"$status")
    if [[ $enabled == 2 ]] && ! is_running; then
        die "audit is locked until the next boot (enabled 2): its rules cannot be changed" \
            "take \"-e 2\" out of /etc/audit/rules.d/*.rules, reboot, run this again; or boot with this monitor first"
    fi
    if [[ -n $owner && $owner != 0 && -d /proc/$owner ]] && ! is_ours "$owner"; then
        note "$(owner_name "$owner") (pid $owner) owns the audit stream: the monitor reads along (shared mode) with the narrow"
        note "exec, mount and ptrace rules only, so that its log does not fill up; file access is not watched then"
    fi
}

owner_name() { cat "/proc/$1/comm" 2>/dev/null || echo 'another program'; }

check_docker() {
    if [[ ! -S /var/run/docker.sock ]]; then
        note "no Docker engine here (no /var/run/docker.sock): the monitor watches the host and waits for the engine"
    elif have docker && ! docker version >/dev/null 2>&1; then
        note "the Docker engine does not answer: the monitor watches the host and waits for it"
    fi
}
