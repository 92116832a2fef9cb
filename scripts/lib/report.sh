# shellcheck shell=bash
# What a person must know after a start: does it see, whom does it watch, what can it not see, who is told, who reads along.
#
# In: common.sh, daemon.sh. Out: self_check, restart_old_agents, report (its status is the script's).

SELF_CHECK_LIMIT=20
RATE_LIMIT=30

# Runs a harmless program with a word that nobody else uses, and waits until it is in the history.
self_check() {
    local token waited=0
    token="self-check-$$-$(date +%s%N)"
    /bin/true "$token"
    while ((waited < SELF_CHECK_LIMIT * 4)); do
        if "$PROGRAM" history --since 1m --text "$token" --limit 1 --output jsonl 2>/dev/null | grep -qF -- "$token"; then
            note "a program that this script ran came back as an event"
            return
        fi
        sleep 0.25
        waited=$((waited + 1))
    done
    tell_log
    die "the monitor runs, but a program that this script ran did not come back as an event within $SELF_CHECK_LIMIT s" \
        "it does not see this machine's system calls: $PROGRAM status says more"
}

# Channels that the caller's environment or ~/.asf/config names, kept for the daemon in files of root's.
adopt_channels() {
    local webhook token chat
    webhook=$(caller_setting DISCORD_WEBHOOK)
    token=$(caller_setting TELEGRAM_BOT_TOKEN)
    chat=$(caller_setting TELEGRAM_CHAT_ID)
    if [[ -n $webhook && ! -e $CONFIG_DIR/discord.url ]]; then
        adopt discord "$webhook" "$CONFIG_DIR/discord.url"
    fi
    if [[ -n $token && -n $chat && ! -e $CONFIG_DIR/telegram.token ]]; then
        adopt telegram "$token"$'\n'"$chat" "$CONFIG_DIR/telegram.token" "$CONFIG_DIR/telegram.chat"
    fi
}

# adopt CHANNEL SECRET FILE…: the secret goes through standard input, never over a command line.
adopt() {
    local channel=$1 secret=$2 file
    shift 2
    make_dir "$CONFIG_DIR"
    if "$PROGRAM" notify add "$channel" <<<"$secret" >/dev/null; then
        for file in "$@"; do record secret "$file"; done
        note "$channel: taken from the environment or ~/.asf/config into $1 (0600)"
        CHANGED=$((CHANGED + 1))
    else
        warn "$channel: what the environment or ~/.asf/config holds was refused; set it up with: syscall-monitor notify add $channel"
    fi
}

# A setting from the environment, else from the caller's ~/.asf/config (KEY=VALUE lines), else nothing.
caller_setting() {
    if [[ -n ${!1:-} ]]; then
        printf '%s\n' "${!1}"
        return
    fi
    local file
    file=$(home_of "${SUDO_USER:-$(id -un)}")/.asf/config
    [[ -r $file ]] || return 0
    sed -n "s/^[[:space:]]*\(export[[:space:]]\+\)\?$1[[:space:]]*=[[:space:]]*//p" "$file" | tail -n1 |
        sed "s/[[:space:]]*\$//; s/^\"\(.*\)\"\$/\1/; s/^'\(.*\)'\$/\1/"
}

# An agent is a container that matches a profile that was asked for.
OLD_AGENTS='.containers[]? | select(.profile != null and .older_than_audit and (.quarantined | not)) | .name'

restart_old_agents() {
    local -a names
    mapfile -t names < <(status_field "$OLD_AGENTS")
    ((${#names[@]})) || return 0
    local name waited=0
    for name in "${names[@]}"; do
        note "restarting $name"
        docker restart "$name" >/dev/null || warn "docker restart $name failed"
    done
    while [[ -n $(status_field "$OLD_AGENTS") ]] && ((waited < 60)); do
        sleep 0.5
        waited=$((waited + 1))
    done
}

report_containers() {
    local agents
    agents=$(status_field '.containers[]? | select(.profile != null) | "\(.name)  (\(.profile))"')
    if [[ -n $agents ]]; then
        say "Agents that are watched:"
        while IFS= read -r line; do note "$line"; done <<<"$agents"
        return
    fi
    say "No running container is an agent (${PROFILES[*]})."
    if [[ $(status_field .docker.connected) != true ]]; then
        note "no Docker engine is connected; agents are watched from the moment it is"
        return
    fi
    local candidates
    candidates=$(status_field '.containers[]? | "\(.name)  (\(.image // "image not known"))"')
    if [[ -z $candidates ]]; then
        note "no container runs at all; one that matches is watched from its start"
        return
    fi
    note "these run; if one is your agent, say so:  $CALLED ${PROFILES[*]/#/--} --container NAME"
    while IFS= read -r line; do note "  $line"; done <<<"$candidates"
}

report_blind_spots() {
    local -a old
    mapfile -t old < <(status_field "$OLD_AGENTS")
    ((${#old[@]})) || return 0
    say "Older than audit: the kernel shows nothing of what these agents' own processes do until they are restarted."
    local name
    for name in "${old[@]}"; do note "docker restart $name"; done
    note "or let this script do it: --restart-agents; --audit-at-boot keeps it from happening after a reboot"
}

# The daemon needs some seconds to know its rate; what the script itself does is part of it.
megabytes_a_day() {
    local volume='' waited=0
    while ((waited < RATE_LIMIT * 2)); do
        volume=$(status_field '.mb_per_day // empty | ceil')
        if [[ -n $volume ]]; then
            echo "about $volume MB a day"
            return
        fi
        sleep 0.5
        waited=$((waited + 1))
    done
    echo "a volume that --status tells later"
}

report_readers() {
    local others volume
    others=$(status_field '.others[]? | "\(.name) (\(.how))"')
    volume=$(megabytes_a_day)
    if [[ -z $others ]]; then
        say "Nobody else receives these audit records, $volume as text."
        return
    fi
    say "Others receive the same audit records, $volume as text:"
    while IFS= read -r line; do note "$line"; done <<<"$others"
}

report_channels() {
    local told
    told=$(status_field '[.channels[]? | select(.configured) | .name] | join(", ")')
    if [[ -n $told ]]; then
        say "Alerts go to: $told.  Try it:  syscall-monitor notify test"
        return
    fi
    say "NOBODY WILL BE TOLD: no channel is set up. Alerts are only in the history. One of these changes that:"
    note "syscall-monitor notify add discord"
    note "syscall-monitor notify add telegram"
}

# The last words. 0: healthy. 3: it watches, but not all of it can be seen.
report() {
    local state
    [[ -n $(status_field '.mb_per_day // empty') ]] || note "measuring how much is recorded (some seconds)"
    state=$(status_field .state)
    report_containers
    report_blind_spots
    report_readers
    report_channels
    say "See what happens:  syscall-monitor alerts --follow      Undo a freeze:  syscall-monitor quarantine release NAME"
    ((CHANGED)) || say "Nothing had to be changed."
    if [[ $state == healthy ]]; then
        step "healthy: it watches (${PROFILES[*]})"
        return 0
    fi
    step "$state: it watches (${PROFILES[*]}), but not everything:"
    while IFS= read -r line; do note "$line"; done < <(status_field '.reasons[]?')
    local lost
    lost=$(status_field '[.losses | to_entries[] | select(.value > 0) | "\(.key | gsub("_"; " ")) \(.value)"] | join(", ")')
    [[ -z $lost ]] || note "lost so far: $lost"
    return 3
}
