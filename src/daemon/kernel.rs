//! The kernel's rules and settings: saved before the first change, put back at the end.

use std::path::Path;

use anyhow::{Context, bail};
use collector::control::Control;
use collector::rules::{ParsedRule, Rule, parse_rules};
use collector::settings::SavedState;
use serde::{Deserialize, Serialize};

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
                Ok(rules) => all.extend(rules),
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
    let wanted = ["sm-exec", "sm-mount", "sm-ptrace"];
    rules
        .into_iter()
        .map(|p| p.rule)
        .filter(|r| r.keys().any(|k| wanted.iter().any(|w| k == w.as_bytes())))
        .collect()
}
