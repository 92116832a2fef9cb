//! The courier process: no capability, no audit right, no store. It talks to Docker and to the services.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use actions::courier::CourierOptions;
use actions::notify::{Discord, Notifier, Outcome, Telegram};
use anyhow::Context;

use super::{Options, privileges};
use crate::channels::Channels;
use crate::config::Config;

/// Runs until the sensor ends or says so.
pub fn run(options: &Options) -> anyhow::Result<()> {
    // Secrets first: a file of another user (~/.asf/config) needs a right that is given up next.
    let channels = Channels::resolve(&options.config);
    let trust_webhook = crate::channels::trust_webhook(&options.config);
    privileges::courier()?;
    for (name, why) in &channels.problems {
        tracing::warn!("{name}: {why}");
    }
    let destinations = notifiers(&options.config, &channels)?;
    let phone = phone(&options.config, &channels)?;
    let trust_webhook = trust_webhook.unwrap_or_else(|e| {
        tracing::error!("{e:#}");
        None
    });
    let stream = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("the courier has no standard input; it is started by the sensor")?;
    let stream = std::os::unix::net::UnixStream::from(stream);
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::from_std(stream)?;
        let options = CourierOptions {
            docker_socket: options.config.docker.socket.display().to_string(),
            destinations,
            phone,
            trust_hook: options.config.trust.hook.clone(),
            trust_webhook,
            ..CourierOptions::default()
        };
        actions::courier::run(stream, options)
            .await
            .context("the conversation with the sensor broke off")
    })
}

/// The channels that are set up, by name of the destination.
pub fn notifiers(
    config: &Config,
    channels: &Channels,
) -> anyhow::Result<BTreeMap<String, Arc<dyn Notifier>>> {
    let mut list: BTreeMap<String, Arc<dyn Notifier>> = BTreeMap::new();
    if let Some(found) = &channels.discord {
        let discord = Discord::new(&found.secret, config.notify.discord.base_url.as_deref())
            .with_context(|| format!("discord ({})", found.from))?;
        list.insert("discord".into(), Arc::new(discord));
    }
    if let Some(telegram) = telegram(config, channels)? {
        list.insert("telegram".into(), Arc::new(telegram));
    }
    for channel in &channels.further {
        list.insert(channel.name.into(), channel.notifier.clone());
    }
    Ok(list)
}

/// The bot whose buttons are listened to: only where somebody may press them.
fn phone(config: &Config, channels: &Channels) -> anyhow::Result<Option<Telegram>> {
    if config.notify.telegram.answer_from.is_empty() {
        return Ok(None);
    }
    telegram(config, channels)
}

fn telegram(config: &Config, channels: &Channels) -> anyhow::Result<Option<Telegram>> {
    let Some((found, chat)) = &channels.telegram else {
        return Ok(None);
    };
    Telegram::new(
        &found.secret,
        chat,
        config.notify.telegram.base_url.as_deref(),
    )
    .with_context(|| format!("telegram ({})", found.from))
    .map(Some)
}

/// What a service answered, for people; and whether it took the message.
pub fn describe(outcome: &Outcome) -> (bool, String) {
    match outcome {
        Outcome::Accepted { .. } => (true, "delivered".into()),
        Outcome::Refused { why, .. } => (false, format!("refused: {why}")),
        Outcome::Unknown { why } => (false, format!("no answer, it may have arrived: {why}")),
    }
}
