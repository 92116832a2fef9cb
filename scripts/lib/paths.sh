# shellcheck shell=bash
# shellcheck disable=SC2034 # used by the files that source this one
# Where things are on the machine. The same names are in docs and in the program's defaults.

PROGRAM=/usr/local/bin/syscall-monitor
SHARE=/usr/local/share/syscall-monitor
RULES=$SHARE/audit-rules
# One line for each thing that was made: "file PATH", "dir PATH", "package NAME", "secret PATH", "boot PATH".
MANIFEST=$SHARE/installed.txt
MAN=/usr/local/share/man/man8
COMPLETIONS=/usr/local/share/bash-completion/completions/syscall-monitor
UNIT=syscall-monitor.service
UNIT_FILE=/usr/local/lib/systemd/system/$UNIT
CONFIG_DIR=/etc/syscall-monitor
STATE_DIR=/var/lib/syscall-monitor
RUN_DIR=/run/syscall-monitor
PID_FILE=$RUN_DIR/daemon.pid
LOG=/var/log/syscall-monitor.log
# The framework's own log, which other tools write as well.
SECURITY_LOG=/var/log/asf/security.log
BOOT_FILE=/etc/default/grub.d/99-syscall-monitor.cfg
# Not in /run/lock, where everybody may make files.
SETUP_LOCK=/run/syscall-monitor-setup.lock
