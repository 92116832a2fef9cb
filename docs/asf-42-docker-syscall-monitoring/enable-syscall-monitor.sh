#!/usr/bin/env bash
# The path under which other ASF scripts call the set-up; it takes and gives back what scripts/enable-syscall-monitor.sh does.
set -euo pipefail

script=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../scripts/enable-syscall-monitor.sh
if [[ ! -x $script ]]; then
    printf 'error: %s is missing\n       this wrapper needs the whole clone of syscall-monitor around it\n' "$script" >&2
    exit 1
fi
exec "$script" "$@"
