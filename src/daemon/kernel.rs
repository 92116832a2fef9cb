//! The kernel's rules and settings: saved before the first change, put back at the end.

use std::path::Path;

use anyhow::{Context, bail};
use collector::control::Control;
use collector::rules::{ParsedRule, Rule, parse_rules};
use collector::settings::SavedState;
use serde::{Deserialize, Serialize};

use super::state::Shared;
use crate::config::Config;
use crate::times;

/// When audit was first enabled since boot. A task that started before has no audit context: its own calls are invisible.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FirstEnabled {
    pub boot_id: String,
    /// `None`: it was on before we ever looked.
    pub at_ms: Option<u64>,
}

fn write_atomically(path: &Path, text: &str) -> anyhow::Result<()> {
    let dir = path.parent().context("no folder")?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)
        .with_context(|| format!("cannot write {}", temporary.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

fn read_saved(path: &Path) -> anyhow::Result<Option<SavedState>> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is damaged; look at the kernel's state with `auditctl -s` and `auditctl -l`, then remove the file", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Saves the kernel's state before the first change. A file of this boot is kept: then a run before us ended without restoring.
pub fn save_before(config: &Config, control: &mut Control) -> anyhow::Result<()> {
    let path = config.saved_state_file();
    let kept = read_saved(&path)?.filter(SavedState::matches_boot);
    let status = control
        .status()
        .context("cannot ask the kernel for its audit status")?;
    if status.enabled == 2 {
        bail!(
            "the kernel's audit configuration is locked until the next boot (enabled 2); remove `-e 2` from the audit rules of this host and reboot"
        );
    }
    if kept.is_none() {
        let saved = SavedState::capture(control).context("cannot read the kernel's audit rules")?;
        write_atomically(&path, &serde_json::to_string_pretty(&saved)?)?;
    }
    let file = config.state_dir.join("audit-enabled.json");
    let boot_id = boot_id();
    let known = std::fs::read_to_string(&file)
        .ok()
        .and_then(|t| serde_json::from_str::<FirstEnabled>(&t).ok());
    if known.is_none_or(|k| k.boot_id != boot_id) {
        let at_ms = (status.enabled == 0).then(times::now_ms);
        write_atomically(
            &file,
            &serde_json::to_string(&FirstEnabled { boot_id, at_ms })?,
        )?;
    }
    Ok(())
}

/// When audit was first enabled, as far as we know.
pub fn first_enabled_ms(config: &Config) -> Option<u64> {
    let text = std::fs::read_to_string(config.state_dir.join("audit-enabled.json")).ok()?;
    let known: FirstEnabled = serde_json::from_str(&text).ok()?;
    (known.boot_id == boot_id())
        .then_some(known.at_ms)
        .flatten()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Puts everything back; one line for each change. Nothing saved means nothing to do.
pub fn restore(config: &Config) -> anyhow::Result<Vec<String>> {
    let path = config.saved_state_file();
    let Some(saved) = read_saved(&path)? else {
        return Ok(vec![]);
    };
    let mut lines = vec![];
    if saved.matches_boot() {
        let mut control = Control::open().context("cannot open the audit socket")?;
        lines = summary(
            saved
                .restore(&mut control)
                .context("cannot restore the kernel's audit state")?,
        );
    }
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(lines)
}

/// The `realtime` setting for the kernel's own audit thread (the reader's is set when it starts), and a bound for both of our
/// process's: a real-time thread that does not once wait for two seconds gets SIGXCPU, which ends the sensor. What the kernel's
/// thread had is in the saved state.
pub fn raise_priority(config: &Config, shared: &Shared) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let priority = config.collector.realtime;
    if priority == 0 {
        return;
    }
    let bound = Rlimit {
        current: Some(2_000_000),
        maximum: Some(3_000_000),
    };
    if let Err(e) = setrlimit(Resource::Rttime, bound) {
        tracing::warn!("cannot bound the time of real-time threads: {e}");
    }
    if let Err(e) = collector::realtime::raise_kauditd(priority) {
        shared.reason(
            "realtime-kernel",
            format!("{e}; freezing takes a little longer on a busy host"),
        );
    }
}

/// Our own rules are one line, whatever their number; what belongs to others is named one by one.
fn summary(lines: Vec<String>) -> Vec<String> {
    let (ours, mut rest): (Vec<_>, Vec<_>) = lines
        .into_iter()
        .partition(|l| l.starts_with("deleted our rule"));
    if !ours.is_empty() {
        rest.insert(
            0,
            format!("removed {} kernel rules of the monitor", ours.len()),
        );
    }
    rest
}

/// Kernel rules of the chosen packs: `common/kernel.rules` and those of the profiles, from every folder.
pub fn static_rules(config: &Config, packs: &[String]) -> anyhow::Result<Vec<ParsedRule>> {
    let all = located_rules(config, packs)?;
    Ok(all.into_iter().map(|(_, parsed)| parsed).collect())
}

/// The same, each with the file that it is in.
pub fn located_rules(
    config: &Config,
    packs: &[String],
) -> anyhow::Result<Vec<(String, ParsedRule)>> {
    let mut all = Vec::new();
    for dir in &config.rules.dirs {
        for pack in packs {
            let file = dir.join(pack).join("kernel.rules");
            let name = file.display().to_string();
            let text = match std::fs::read_to_string(&file) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e).with_context(|| format!("cannot read {name}")),
            };
            match parse_rules(&text, &name) {
                Ok(rules) => all.extend(rules.into_iter().map(|rule| (name.clone(), rule))),
                Err(errors) => {
                    let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
                    bail!("{}", list.join("\n"));
                }
            }
        }
    }
    if all.is_empty() {
        let dirs: Vec<_> = config
            .rules
            .dirs
            .iter()
            .map(|d| d.display().to_string())
            .collect();
        bail!(
            "no kernel rules in {}; install them with scripts/enable-syscall-monitor.sh, or name their folder in the configuration: [rules] dirs",
            dirs.join(", ")
        );
    }
    Ok(all)
}

/// In shared mode somebody else's log gets our volume too: only exec, mount and ptrace.
pub fn narrow(rules: Vec<ParsedRule>) -> Vec<Rule> {
    rules
        .into_iter()
        .map(|p| p.rule)
        .filter(is_narrow)
        .collect()
}

/// Is a rule loaded in shared mode too?
pub fn is_narrow(rule: &Rule) -> bool {
    rule.keys()
        .any(|key| [&b"sm-exec"[..], b"sm-mount", b"sm-ptrace"].contains(&key))
}

/// A rule as it travels to the command line: the kernel's bytes in hexadecimal, which are exact where text is not.
pub fn rule_to_hex(rule: &Rule) -> String {
    rule.encode().iter().map(|b| format!("{b:02x}")).collect()
}

/// And back; `None` when it is none.
pub fn rule_from_hex(hex: &str) -> Option<Rule> {
    let digits = hex.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    Rule::decode(&digits.collect::<Option<Vec<u8>>>()?).ok()
}
