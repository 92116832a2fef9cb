//! `notify`: set up and test the channels that tell people. A secret comes from a hidden prompt or standard input, never
//! from the command line, where every user of the host could read it.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

use actions::notify::Secret;
use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::channels::{Channels, chat_file};
use crate::client::Client;
use crate::config::Config;
use crate::output;

#[derive(Args)]
pub struct NotifyArgs {
    #[command(subcommand)]
    pub command: NotifyCommand,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Channel {
    Discord,
    Telegram,
    Slack,
    Webhook,
    Email,
}

#[derive(Subcommand)]
pub enum NotifyCommand {
    /// Set up a channel; the secret is asked for (hidden), or read from standard input
    Add {
        channel: Channel,
        /// Telegram chat to send to (a user, group or channel; the bot must be in it)
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        chat_id: Option<String>,
    },
    /// Which channels are set up
    List,
    /// Send a test message to every channel, and say what each service answered
    Test,
}

pub fn run(config: Option<&Path>, args: &NotifyArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    match &args.command {
        NotifyCommand::Add { channel, chat_id } => add(&config, *channel, chat_id.as_deref()),
        NotifyCommand::List => list(&config),
        NotifyCommand::Test => test(&config),
    }
}

impl Channel {
    fn name(self) -> &'static str {
        match self {
            Self::Discord => "discord",
            Self::Telegram => "telegram",
            Self::Slack => "slack",
            Self::Webhook => "webhook",
            Self::Email => "email",
        }
    }
}

fn add(config: &Config, channel: Channel, chat_id: Option<&str>) -> anyhow::Result<ExitCode> {
    if channel != Channel::Telegram && chat_id.is_some() {
        bail!("--chat-id is Telegram's; the others know where they write to");
    }
    let mut lines = Input::new()?;
    match channel {
        Channel::Discord => {
            let url = lines.secret(
                "Discord webhook address (Server settings → Integrations → Webhooks → Copy): ",
            )?;
            actions::notify::Discord::new(
                &Secret::new(&url),
                config.notify.discord.base_url.as_deref(),
            )?;
            write_secret(&config.notify.discord.url_file, &url)?;
        }
        Channel::Slack => {
            let url = lines
                .secret("Slack incoming webhook address (https://hooks.slack.com/services/…): ")?;
            let settings = &config.notify.slack;
            actions::notify::Slack::new(&Secret::new(&url), settings.base_url.as_deref())?;
            write_secret(&settings.url_file, &url)?;
        }
        Channel::Webhook => {
            let url = lines.secret("Webhook address: ")?;
            let settings = &config.notify.webhook;
            let secret = Secret::new(&url);
            actions::notify::Webhook::new(&secret, None, None, settings.allow_private)?;
            // Nothing typed: nothing is signed.
            let key = lines
                .secret("Key that signs what is posted (empty: none): ")
                .unwrap_or_default();
            write_secret(&settings.url_file, &url)?;
            if !key.is_empty() {
                write_secret(&settings.key_file, &key)?;
            }
        }
        Channel::Email => {
            if config.notify.email.user.is_none() {
                bail!(
                    "there is no login to give a password to: set [notify.email] server, user, from and to first"
                );
            }
            let password = lines.secret("Password of the mail account: ")?;
            write_secret(&config.notify.email.password_file, &password)?;
        }
        Channel::Telegram => {
            let token = lines.secret("Telegram bot token (from @BotFather): ")?;
            let chat = match chat_id
                .map(str::to_owned)
                .or_else(|| config.notify.telegram.chat_id.clone())
            {
                Some(chat) => chat,
                None => {
                    lines.line("Chat id (write to the bot first; @userinfobot tells your id): ")?
                }
            };
            actions::notify::Telegram::new(
                &Secret::new(&token),
                &chat,
                config.notify.telegram.base_url.as_deref(),
            )?;
            write_secret(&config.notify.telegram.token_file, &token)?;
            write_secret(&chat_file(config), &chat)?;
        }
    }
    if let Some((name, why)) = Channels::resolve(config)
        .problems
        .iter()
        .find(|(name, _)| *name == channel.name())
    {
        eprintln!("syscall-monitor: {name} is not complete yet: {why}");
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "kept in a file that only root can read")?;
    if let Some(client) = Client::connect(&config.socket())? {
        let _: Value = client.post("/v1/channels/reload", &json!({}))?;
        writeln!(
            out,
            "the running monitor uses it from now on; try it: syscall-monitor notify test"
        )?;
    } else {
        writeln!(
            out,
            "the monitor does not run yet; try the channel: syscall-monitor notify test"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers, hidden on a terminal, lines of standard input otherwise.
struct Input {
    piped: Option<std::vec::IntoIter<String>>,
}

impl Input {
    fn new() -> anyhow::Result<Self> {
        if std::io::stdin().is_terminal() {
            return Ok(Self { piped: None });
        }
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(16 << 10)
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        let lines: Vec<String> = text
            .lines()
            .map(|l| l.trim().to_owned())
            .filter(|l| !l.is_empty())
            .collect();
        Ok(Self {
            piped: Some(lines.into_iter()),
        })
    }

    fn secret(&mut self, prompt: &str) -> anyhow::Result<String> {
        let text = match &mut self.piped {
            Some(lines) => lines.next().context(
                "standard input is empty; pipe the secret in, or run this on a terminal",
            )?,
            None => rpassword::prompt_password(prompt)
                .context("cannot read the secret from the terminal")?,
        };
        Ok(text.trim().to_owned())
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<String> {
        if let Some(lines) = &mut self.piped {
            return lines.next().context("the chat id is missing; add it as --chat-id ID, or as a second line of standard input");
        }
        eprint!("{prompt}");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

/// A new file with mode 0600 in place of the old one: a secret is never readable by others, not even for a moment.
fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    let dir = path.parent().context("no folder")?;
    if !dir.exists() {
        std::fs::create_dir_all(dir).with_context(|| {
            format!(
                "cannot make {}; setting up a channel needs root",
                dir.display()
            )
        })?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    }
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| {
            format!(
                "cannot write {}; setting up a channel needs root",
                temporary.display()
            )
        })?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

fn list(config: &Config) -> anyhow::Result<ExitCode> {
    let mut table = output::table(&["CHANNEL", "STATE"]);
    for c in Channels::resolve(config).states() {
        table.add_row(vec![output::cell(&c.name), output::cell(&c.state)]);
    }
    output::print_table(&table, "")?;
    Ok(ExitCode::SUCCESS)
}

fn test(config: &Config) -> anyhow::Result<ExitCode> {
    let channels = Channels::resolve(config);
    let mut out = std::io::stdout().lock();
    if channels.is_empty() {
        for (name, why) in &channels.problems {
            writeln!(out, "{name}: {why}")?;
        }
        bail!(
            "no channel is set up; `syscall-monitor notify add discord` (telegram, slack, webhook) does it, and [notify.email], [notify.syslog], [notify.command] in the configuration"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut failed = false;
    let message = actions::Message::notice(
        detector::Severity::Informational,
        "Test message of syscall-monitor",
        "Whoever reads this is told about alerts.",
        crate::times::now_ms(),
    );
    for (name, notifier) in crate::daemon::courier::notifiers(config, &channels)? {
        let outcome = runtime.block_on(notifier.deliver(&message, false));
        let (ok, said) = crate::daemon::courier::describe(&outcome);
        failed |= !ok;
        writeln!(out, "{name}: {said}")?;
    }
    // Half configured is not set up: nobody is told there.
    for (name, why) in &channels.problems {
        failed = true;
        writeln!(out, "{name}: {why}")?;
    }
    Ok(if failed {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}
