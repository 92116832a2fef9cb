//! Where people are told: which channels are configured, and their secrets.
//!
//! A secret comes from a 0600 file that `notify add` wrote, else from the environment, else from the calling user's
//! `~/.asf/config`. It is read by the process that sends, and never printed.

use std::path::{Path, PathBuf};

use std::sync::Arc;

use actions::notify::{
    Command, Email, EmailOptions, Encryption, Notifier, Secret, Slack, Syslog, Webhook,
};
use anyhow::Context;

use crate::config::{Config, MailEncryption};
use crate::daemon::state::ChannelState;

/// Where a secret was found.
pub struct Found {
    pub secret: Secret,
    pub from: String,
}

/// One of the channels that need nothing but their settings.
pub struct Further {
    pub name: &'static str,
    pub from: String,
    pub min_severity: detector::Severity,
    /// Least time between two messages, milliseconds.
    pub pace_ms: u64,
    pub notifier: Arc<dyn Notifier>,
}

/// Names of all channels.
pub const NAMES: [&str; 7] = [
    "discord", "telegram", "slack", "webhook", "email", "syslog", "command",
];

/// What is configured.
pub struct Channels {
    pub discord: Option<Found>,
    pub telegram: Option<(Found, String)>,
    /// Slack, a webhook, mail, the system log, a command.
    pub further: Vec<Further>,
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
        let further = further(config, &mut problems);
        Self {
            discord,
            telegram,
            further,
            problems,
        }
    }

    /// Is there none at all?
    pub fn is_empty(&self) -> bool {
        self.discord.is_none() && self.telegram.is_none() && self.further.is_empty()
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
        let from = |name: &str| match name {
            "discord" => self.discord.as_ref().map(|f| f.from.as_str()),
            "telegram" => self.telegram.as_ref().map(|(f, _)| f.from.as_str()),
            name => {
                let found = self.further.iter().find(|f| f.name == name);
                found.map(|f| f.from.as_str())
            }
        };
        NAMES.iter().map(|name| state(name, from(name))).collect()
    }
}

/// Slack, webhook, mail, system log and command, as far as they are configured; what is wrong with one is a problem of its own.
fn further(config: &Config, problems: &mut Vec<(String, String)>) -> Vec<Further> {
    let notify = &config.notify;
    let settings = [
        ("slack", notify.slack.min_severity, 1000, slack(config)),
        ("webhook", notify.webhook.min_severity, 0, webhook(config)),
        ("email", notify.email.min_severity, 1000, email(config)),
        ("syslog", notify.syslog.min_severity, 0, syslog(config)),
        ("command", notify.command.min_severity, 0, command(config)),
    ];
    let mut list = vec![];
    for (name, min_severity, pace_ms, found) in settings {
        match found {
            Ok(Some((from, notifier))) => list.push(Further {
                name,
                from,
                min_severity,
                pace_ms,
                notifier,
            }),
            Ok(None) => {}
            Err(e) => problems.push((name.to_owned(), format!("{e:#}"))),
        }
    }
    list
}

/// A channel and where its settings are; none when it is not configured.
type Built = anyhow::Result<Option<(String, Arc<dyn Notifier>)>>;

const CONFIGURATION: &str = "the configuration";

fn slack(config: &Config) -> Built {
    let settings = &config.notify.slack;
    let Some(url) = read_secret(&settings.url_file)? else {
        return Ok(None);
    };
    let slack = Slack::new(&Secret::new(&url), settings.base_url.as_deref())?;
    Ok(Some((
        settings.url_file.display().to_string(),
        Arc::new(slack),
    )))
}

fn webhook(config: &Config) -> Built {
    let settings = &config.notify.webhook;
    let Some(url) = read_secret(&settings.url_file)? else {
        return Ok(None);
    };
    let key = read_secret(&settings.key_file)?.map(|k| Secret::new(&k));
    let template = settings
        .template_file
        .as_ref()
        .map(|file| {
            std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the template {}", file.display()))
        })
        .transpose()?;
    let url = Secret::new(&url);
    let webhook = Webhook::new(&url, key, template.as_deref(), settings.allow_private)?;
    Ok(Some((
        settings.url_file.display().to_string(),
        Arc::new(webhook),
    )))
}

fn email(config: &Config) -> Built {
    let settings = &config.notify.email;
    let Some(server) = &settings.server else {
        return Ok(None);
    };
    let login = match &settings.user {
        None => None,
        Some(user) => {
            let file = &settings.password_file;
            let password = read_secret(file)?.with_context(|| {
                format!(
                    "there is no password in {}: `syscall-monitor notify add email` asks for it",
                    file.display()
                )
            })?;
            Some((user.clone(), Secret::new(&password)))
        }
    };
    let certificate = settings
        .certificate_file
        .as_ref()
        .map(|file| std::fs::read(file).with_context(|| format!("cannot read {}", file.display())))
        .transpose()?;
    let email = Email::new(EmailOptions {
        server: server.clone(),
        port: settings.port,
        encryption: match settings.encryption {
            MailEncryption::Starttls => Encryption::StartTls,
            MailEncryption::Tls => Encryption::Tls,
            MailEncryption::None => Encryption::None,
        },
        login,
        from: settings.from.clone(),
        to: settings.to.clone(),
        certificate,
    })?;
    Ok(Some((CONFIGURATION.into(), Arc::new(email))))
}

fn syslog(config: &Config) -> Built {
    let settings = &config.notify.syslog;
    let Some(address) = &settings.address else {
        return Ok(None);
    };
    let syslog = Syslog::new(address, settings.allow_private)?;
    Ok(Some((CONFIGURATION.into(), Arc::new(syslog))))
}

fn command(config: &Config) -> Built {
    let words = &config.notify.command.command;
    if words.is_empty() {
        return Ok(None);
    }
    Ok(Some((CONFIGURATION.into(), Arc::new(Command::new(words)?))))
}

/// Where each change of trust is posted, if anywhere.
pub fn trust_webhook(config: &Config) -> anyhow::Result<Option<Webhook>> {
    let Some(file) = &config.trust.webhook_file else {
        return Ok(None);
    };
    let url = read_secret(file)?.with_context(|| {
        format!(
            "trust.webhook_file names {}, which is empty or not there",
            file.display()
        )
    })?;
    let key = match &config.trust.webhook_key_file {
        Some(file) => read_secret(file)?.map(|k| Secret::new(&k)),
        None => None,
    };
    Ok(Some(Webhook::new(&Secret::new(&url), key, None, false)?))
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
