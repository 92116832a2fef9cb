//! `status`: is it watching, what does it see, what was lost?

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::args::Output;
use crate::client::Client;
use crate::config::Config;
use crate::daemon::pidfile;
use crate::daemon::state::{ContainerState, PriorityState, Report};
use crate::output::{self, visible};

/// Is it watching, what does it see, what was lost? Exit status 0 when it watches (healthy or partial), else 1.
#[derive(Args)]
pub struct StatusArgs {
    /// Say everything about one container
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// Again every two seconds
    #[arg(long)]
    pub watch: bool,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

pub fn run(config: Option<&Path>, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    loop {
        let report = report(&config)?;
        let mut out = std::io::stdout().lock();
        if args.watch && output::on_terminal() {
            write!(out, "\x1b[H\x1b[2J")?;
        }
        drop(out);
        output::one(args.output, &serde_json::to_value(&report)?, || {
            let text = text(&report, args.container.as_deref())?;
            write!(std::io::stdout().lock(), "{text}")?;
            Ok(())
        })?;
        if !args.watch {
            let watching = matches!(report.state.as_str(), "healthy" | "partial");
            return Ok(if watching {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(1)
            });
        }
        std::io::stdout().lock().flush()?;
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// From the daemon, or what can be said without it.
pub fn report(config: &Config) -> anyhow::Result<Report> {
    if let Some(client) = Client::connect(&config.socket())? {
        return client.get("/v1/status");
    }
    let pid = pidfile::holder(&config.pid_file())?;
    // A daemon that starts needs the store for itself.
    let quarantined = if pid.is_some() {
        vec![]
    } else {
        quarantined_offline(config)
    };
    let (state, reason) = match pid {
        Some(pid) => (
            "starting",
            format!(
                "a daemon (pid {pid}) holds {} but does not answer on {} yet; look at its log",
                config.pid_file().display(),
                config.socket().display()
            ),
        ),
        None => (
            "stopped",
            "no daemon runs; start it with scripts/enable-syscall-monitor.sh --full".to_owned(),
        ),
    };
    let mut reasons = vec![reason];
    if pid.is_none() && config.saved_state_file().exists() {
        reasons.push("it ended without restoring the kernel's audit rules; `syscall-monitor restore` puts them back".into());
    }
    Ok(Report {
        schema: "syscall-monitor/status/1".into(),
        state: state.into(),
        reasons,
        version: env!("CARGO_PKG_VERSION").into(),
        pid,
        mode: None,
        dry_run: false,
        profiles: vec![],
        uptime_s: 0,
        kernel: None,
        docker: Default::default(),
        containers: vec![],
        channels: crate::channels::Channels::resolve(config).states(),
        losses: Default::default(),
        others: vec![],
        mb_per_day: None,
        events: 0,
        alerts: 0,
        quarantined,
        history: None,
        rules: Default::default(),
        realtime: None,
    })
}

/// Without a daemon the store itself knows who is quarantined; a store that is not there knows nobody.
fn quarantined_offline(config: &Config) -> Vec<String> {
    let dir = config.history_dir();
    if !dir.exists() {
        return vec![];
    }
    let Ok(store) = history::Store::open(&dir, history::Options::default()) else {
        return vec![];
    };
    let ledger = std::sync::Arc::new(crate::daemon::ledger::StoreLedger::new(store));
    let Ok((quarantines, _)) = actions::quarantine::Quarantines::open(ledger) else {
        return vec![];
    };
    quarantines.standing().map(|q| q.name.clone()).collect()
}

fn text(r: &Report, only: Option<&str>) -> anyhow::Result<String> {
    use std::fmt::Write;
    let mut s = String::new();
    if let Some(name) = only {
        let Some(c) = r
            .containers
            .iter()
            .find(|c| c.name == name || c.id.starts_with(name))
        else {
            anyhow::bail!(
                "no running container {name:?} is known; `syscall-monitor status` lists them"
            );
        };
        container(&mut s, c)?;
        return Ok(s);
    }
    let dry = if r.dry_run {
        ", dry run: nothing is frozen and nobody is told"
    } else {
        ""
    };
    writeln!(s, "syscall-monitor {}{dry}", r.state)?;
    for reason in &r.reasons {
        writeln!(s, "  ! {}", visible(reason))?;
    }
    if let Some(pid) = r.pid {
        writeln!(
            s,
            "daemon      pid {pid}, up {}, profiles {}",
            duration(r.uptime_s),
            r.profiles.join(" ")
        )?;
    }
    if let (Some(k), Some(mode)) = (&r.kernel, &r.mode) {
        writeln!(
            s,
            "kernel      {mode}, {} rules ({} for single containers), queue {} of {}",
            r.rules.kernel, r.rules.per_container, k.backlog, k.backlog_limit
        )?;
        if !r.rules.skipped.is_empty() {
            writeln!(
                s,
                "            not watched: {}",
                visible(&r.rules.skipped.join(", "))
            )?;
        }
    }
    if let Some(realtime) = &r.realtime {
        writeln!(
            s,
            "real-time   {}; {}",
            priority("reader", &realtime.reader),
            priority("stages", &realtime.stages)
        )?;
    }
    writeln!(
        s,
        "docker      {}",
        match (&r.docker.version, r.docker.connected) {
            (Some(v), true) => format!("connected, {v}"),
            _ => format!(
                "not connected{}",
                r.docker
                    .why
                    .as_deref()
                    .map(|w| format!(": {}", visible(w)))
                    .unwrap_or_default()
            ),
        }
    )?;
    let told: Vec<_> = r.channels.iter().filter(|c| c.configured).collect();
    if told.is_empty() {
        writeln!(
            s,
            "channels    none: NOBODY WILL BE TOLD. `syscall-monitor notify add discord` (or telegram) sets one up"
        )?;
    }
    for c in told {
        let waiting = if c.waiting > 0 {
            format!(", {} waiting", c.waiting)
        } else {
            String::new()
        };
        writeln!(s, "channel     {}: {}{waiting}", c.name, visible(&c.state))?;
    }
    if let Some(h) = &r.history {
        writeln!(
            s,
            "history     {} entries, {} in {}{}",
            h.entries,
            output::bytes(h.bytes),
            h.dir,
            h.oldest
                .as_deref()
                .map(|o| format!(", since {o}"))
                .unwrap_or_default()
        )?;
    }
    if r.pid.is_some() {
        writeln!(
            s,
            "seen        {} events, {} alerts ({} alert rules)",
            r.events, r.alerts, r.rules.alert
        )?;
        let l = serde_json::to_value(&r.losses)?;
        let lost: Vec<String> = l
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, v)| v.as_u64() != Some(0))
            .map(|(k, v)| format!("{} {v}", k.replace('_', " ")))
            .collect();
        writeln!(
            s,
            "lost        {}",
            if lost.is_empty() {
                "nothing".to_owned()
            } else {
                lost.join(", ")
            }
        )?;
    }
    for o in &r.others {
        let volume = r
            .mb_per_day
            .map(|m| format!(", about {m:.0} MB a day"))
            .unwrap_or_default();
        writeln!(s, "also reads  {} ({}{volume})", o.name, o.how)?;
    }
    if !r.quarantined.is_empty() {
        writeln!(
            s,
            "quarantined {}   (syscall-monitor quarantine release NAME)",
            visible(&r.quarantined.join(", "))
        )?;
    }
    if !r.containers.is_empty() {
        let mut table = output::table(&["CONTAINER", "IMAGE", "AGENT", "PROFILE", "STATE"]);
        for c in &r.containers {
            let mut state = vec![];
            if c.quarantined {
                state.push("quarantined");
            }
            if c.older_than_audit {
                state.push("partly blind: restart it");
            }
            table.add_row(vec![
                output::cell(&c.name),
                output::cell(c.image.as_deref().unwrap_or("-")),
                output::cell(c.agent.as_deref().unwrap_or("-")),
                output::cell(c.profile.as_deref().unwrap_or("-")),
                output::cell(
                    if state.is_empty() {
                        "watched".to_owned()
                    } else {
                        state.join(", ")
                    }
                    .as_str(),
                ),
            ]);
        }
        writeln!(s)?;
        for line in table.to_string().lines() {
            writeln!(s, "{}", line.trim_end())?;
        }
    }
    Ok(s)
}

/// A real-time priority in words.
fn priority(who: &str, p: &PriorityState) -> String {
    if p.priority == 0 {
        return format!("{who} ordinary");
    }
    let mut text = format!("{who} {}", p.priority);
    if !p.held {
        text += ", ordinary now";
    }
    if p.given_up > 0 {
        text += &format!(
            " (given up {} times, taken back {}: it used nearly all of a processor)",
            p.given_up, p.taken_back
        );
    }
    text
}

fn container(s: &mut String, c: &ContainerState) -> std::fmt::Result {
    use std::fmt::Write;
    writeln!(
        s,
        "{}  {}",
        visible(&c.name),
        c.id.get(..12).unwrap_or(&c.id)
    )?;
    writeln!(
        s,
        "  image       {}",
        visible(c.image.as_deref().unwrap_or("not known"))
    )?;
    writeln!(
        s,
        "  agent       {} ({})",
        visible(c.agent.as_deref().unwrap_or("none")),
        c.profile.as_deref().unwrap_or("no profile")
    )?;
    writeln!(
        s,
        "  quarantined {}",
        if c.quarantined { "yes" } else { "no" }
    )?;
    if c.blind.is_empty() {
        writeln!(s, "  blind spots none known")?;
    }
    for b in &c.blind {
        writeln!(s, "  not seen    {}", visible(b))?;
    }
    Ok(())
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
