//! Where people are told: which channels are configured, and their secrets.
//!
//! A secret comes from a 0600 file that `notify add` wrote, else from the environment, else from the calling user's
//! `~/.asf/config`. It is read by the process that sends, and never printed.

use std::path::{Path, PathBuf};

use actions::notify::Secret;
use anyhow::Context;

use crate::config::Config;
use crate::daemon::state::ChannelState;

/// Where a secret was found.
pub struct Found {
    pub secret: Secret,
    pub from: String,
}

/// What is configured.
pub struct Channels {
    pub discord: Option<Found>,
    pub telegram: Option<(Found, String)>,
    /// What is half configured, with the next step.
    pub problems: Vec<(String, String)>,
}

impl Channels {
    /// Looks in files, the environment and `~/.asf/config`.
    pub fn resolve(config: &Config) -> Self {
        let asf = asf_config();
        let mut problems = Vec::new();
        let mut find = |channel: &str, file: &Path, variable: &str| -> Option<Found> {
            match read_secret(file) {
                Ok(Some(text)) => {
                    return Some(Found {
                        secret: Secret::new(&text),
                        from: file.display().to_string(),
                    });
                }
                Ok(None) => {}
                Err(e) => problems.push((channel.to_owned(), format!("{e:#}"))),
            }
            if let Some(value) = std::env::var(variable)
                .ok()
                .filter(|v| !v.trim().is_empty())
            {
                return Some(Found {
                    secret: Secret::new(value.trim()),
                    from: format!("the environment ({variable})"),
                });
            }
            let value = &asf.iter().find(|(k, _)| k == variable)?.1;
            Some(Found {
                secret: Secret::new(value),
                from: format!("~/.asf/config ({variable})"),
            })
        };
        let discord = find(
            "discord",
            &config.notify.discord.url_file,
            "DISCORD_WEBHOOK",
        );
        let token = find(
            "telegram",
            &config.notify.telegram.token_file,
            "TELEGRAM_BOT_TOKEN",
        );
        let chat = config
            .notify
            .telegram
            .chat_id
            .clone()
            .or_else(|| read_secret(&chat_file(config)).ok().flatten())
            .or_else(|| {
                std::env::var("TELEGRAM_CHAT_ID")
                    .ok()
                    .filter(|v| !v.is_empty())
            })
            .or_else(|| {
                asf.iter()
                    .find(|(k, _)| k == "TELEGRAM_CHAT_ID")
                    .map(|(_, v)| v.clone())
            });
        let telegram = match (token, chat) {
            (Some(token), Some(chat)) => Some((token, chat)),
            (Some(_), None) => {
                problems.push(("telegram".into(), "there is a token but no chat: `syscall-monitor notify add telegram --chat-id ID` sets it".into()));
                None
            }
            (None, _) => None,
        };
        Self {
            discord,
            telegram,
            problems,
        }
    }

    /// For `status`, when no daemon can say more.
    pub fn states(&self) -> Vec<ChannelState> {
        let state = |name: &str, from: Option<&str>| {
            let problem = self
                .problems
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, p)| p.clone());
            let state = problem.unwrap_or_else(|| {
                from.map_or_else(|| "not configured".into(), |f| format!("configured in {f}"))
            });
            ChannelState {
                name: name.into(),
                configured: from.is_some(),
                state,
                waiting: 0,
            }
        };
        vec![
            state("discord", self.discord.as_ref().map(|f| f.from.as_str())),
            state(
                "telegram",
                self.telegram.as_ref().map(|(f, _)| f.from.as_str()),
            ),
        ]
    }
}

/// The chat's id lies beside the token.
pub fn chat_file(config: &Config) -> PathBuf {
    config
        .notify
        .telegram
        .token_file
        .with_file_name("telegram.chat")
}

/// A one-line secret; refuses a file that others may read.
fn read_secret(file: &Path) -> anyhow::Result<Option<String>> {
    use std::os::unix::fs::PermissionsExt;
    let meta = match std::fs::metadata(file) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot look at {}", file.display())),
    };
    if meta.permissions().mode() & 0o077 != 0 {
        anyhow::bail!(
            "{} can be read by others (mode {:o}); `chmod 600` it",
            file.display(),
            meta.permissions().mode() & 0o777
        );
    }
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Some(text.trim().to_owned()).filter(|t| !t.is_empty()))
}

/// `KEY=VALUE` lines of the calling user's `~/.asf/config` (under sudo, the user who called it).
fn asf_config() -> Vec<(String, String)> {
    let home = match std::env::var("SUDO_USER") {
        Ok(user) => home_of(&user),
        Err(_) => std::env::var_os("HOME").map(PathBuf::from),
    };
    let Some(text) = home.and_then(|h| std::fs::read_to_string(h.join(".asf/config")).ok()) else {
        return vec![];
    };
    parse_asf(&text)
}

fn parse_asf(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(|l| l.trim().trim_start_matches("export "))
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_once('='))
        .map(|(k, v)| {
            (
                k.trim().to_owned(),
                v.trim().trim_matches(['"', '\'']).to_owned(),
            )
        })
        .filter(|(_, v)| !v.is_empty())
        .collect()
}

fn home_of(user: &str) -> Option<PathBuf> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f.first() == Some(&user))
        .and_then(|f| f.get(5).map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asf_config_is_shell_like() {
        let text = "# c\nexport DISCORD_WEBHOOK=\"https://x\"\nTELEGRAM_CHAT_ID = 5 \nEMPTY=\n";
        assert_eq!(
            parse_asf(text),
            [
                ("DISCORD_WEBHOOK".into(), "https://x".into()),
                ("TELEGRAM_CHAT_ID".into(), "5".into())
            ]
        );
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("discord.url");
        std::fs::write(&file, "https://example.invalid/x\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            read_secret(&file)
                .unwrap_err()
                .to_string()
                .contains("chmod 600")
        );
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(
            read_secret(&file).unwrap().as_deref(),
            Some("https://example.invalid/x")
        );
    }
}
