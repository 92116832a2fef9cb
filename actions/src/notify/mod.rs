//! Channels that people are told through. Courier side.
//!
//! An address with a token in it is a secret: it is in no error and no log line, not even in a debug print. Redirects are
//! not followed (a token would follow them), and only https or this very host is spoken to.

mod command;
mod discord;
mod email;
mod secret;
mod slack;
mod syslog;
mod telegram;
mod webhook;

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use command::Command;
pub use discord::Discord;
pub use email::{Email, EmailOptions, Encryption};
pub use secret::Secret;
pub use slack::Slack;
pub use syslog::Syslog;
pub use telegram::{PollError, Telegram};
pub use webhook::Webhook;

use crate::message::Message;
use crate::message::text::{cut, visible};

/// Time limit of one request, from its begin to the end of the answer.
pub const LIMIT: Duration = Duration::from_secs(10);

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The service has it.
    Accepted {
        /// The service's id of the message, for a later edit.
        remote_id: Option<String>,
        /// The service asks for this much quiet before the next one, milliseconds.
        #[serde(default)]
        quiet_ms: Option<u64>,
    },
    /// The service does not have it, surely.
    Refused {
        /// Trying this message again is of no use.
        permanent: bool,
        /// No message will come through until somebody repairs the channel (401, 403, 404): with `permanent`.
        #[serde(default)]
        channel: bool,
        /// Why, without any secret.
        why: String,
        /// When to try again, if the service says so, milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// It was sent and no answer came: it may have arrived.
    Unknown {
        /// Why, without any secret.
        why: String,
    },
}

impl Outcome {
    fn later(why: String, retry_after_ms: Option<u64>) -> Self {
        Self::Refused {
            permanent: false,
            channel: false,
            why,
            retry_after_ms,
        }
    }
}

/// A channel.
pub trait Notifier: Send + Sync {
    /// Kind, `discord`.
    fn kind(&self) -> &'static str;
    /// Sends one message; comes back within about [`LIMIT`]. `repeat`: it may have arrived before, say so in it.
    fn deliver<'a>(&'a self, message: &'a Message, repeat: bool) -> BoxFuture<'a, Outcome>;
    /// Puts a message in the place of one that was sent before. A service that cannot says that it is done: what was told stays.
    fn edit<'a>(&'a self, message: &'a Message, remote_id: &'a str) -> BoxFuture<'a, Outcome> {
        let _ = (message, remote_id);
        Box::pin(std::future::ready(Outcome::Accepted {
            remote_id: None,
            quiet_ms: None,
        }))
    }
}

/// A message that is gone cannot be edited, and that says nothing about the channel.
fn of_edit(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Refused {
            permanent: true,
            why,
            ..
        } => Outcome::Refused {
            permanent: true,
            channel: false,
            why,
            retry_after_ms: None,
        },
        // Made twice it is the same.
        Outcome::Unknown { why } => Outcome::later(why, None),
        outcome => outcome,
    }
}

/// A channel cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// Not an address; the address itself is not shown, for it may hold a token.
    #[error("the {kind} address is not usable: {why}")]
    Address {
        /// `discord`, `telegram`.
        kind: &'static str,
        /// Why.
        why: String,
    },
    /// The token has not the form of one.
    #[error("the {kind} token is not usable: {why}")]
    Token {
        /// `telegram`.
        kind: &'static str,
        /// Why.
        why: String,
    },
    /// The HTTP client.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

/// The client of all channels.
fn client(loopback: bool) -> Result<reqwest::Client, NotifyError> {
    // A second call is refused, and that is right: the first provider stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(LIMIT)
        .connect_timeout(LIMIT / 2)
        .user_agent(concat!("syscall-monitor/", env!("CARGO_PKG_VERSION")));
    if loopback {
        // What is on this host is not asked through a proxy.
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|e| NotifyError::Client(e.without_url().to_string()))
}

/// May this address be spoken with without encryption: this very host, and with `private` the networks of one's own (RFC 1918, RFC 4193)?
fn is_allowed(ip: IpAddr, private: bool) -> bool {
    ip.is_loopback()
        || private
            && match ip {
                IpAddr::V4(ip) => ip.is_private(),
                IpAddr::V6(ip) => ip.is_unique_local(),
            }
}

/// Checks that an address is https, or http to this very host (with `private` also to a private address); says whether it is this host.
fn check(kind: &'static str, url: &reqwest::Url, private: bool) -> Result<bool, NotifyError> {
    let bad = |why: &str| {
        Err(NotifyError::Address {
            kind,
            why: why.to_owned(),
        })
    };
    let Some(host) = url.host_str() else {
        return bad("it names no host");
    };
    let name = host.trim_matches(['[', ']']);
    let loopback = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(loopback),
        "http" if loopback => Ok(true),
        "http" if name.parse().is_ok_and(|ip| is_allowed(ip, private)) => Ok(false),
        "http" => {
            bad("plain http is spoken with this host (127.0.0.1, ::1, localhost) only; use https")
        }
        _ => bad("only https is spoken"),
    }
}

/// What an error of the client means for the message. Its text never holds the address.
fn failed(error: reqwest::Error) -> Outcome {
    let connect = error.is_connect();
    let timeout = error.is_timeout();
    let builder = error.is_builder();
    let mut why = error.without_url().to_string();
    if timeout {
        why = format!("no answer within {} s", LIMIT.as_secs());
    }
    if connect {
        // Nothing of the message was sent.
        return Outcome::later(format!("cannot connect: {}", tidy(&why)), None);
    }
    if builder {
        return Outcome::Refused {
            permanent: true,
            channel: true,
            why: tidy(&why),
            retry_after_ms: None,
        };
    }
    Outcome::Unknown { why: tidy(&why) }
}

/// Words of a service in one short line.
fn tidy(text: &str) -> String {
    cut(&visible(text.trim()), 200)
}

/// At most this much of an answer is read; a service that sends more is not asked to finish.
const ANSWER: usize = 64 << 10;

/// Reads an answer up to [`ANSWER`]; what came before an error counts.
async fn body(response: reqwest::Response) -> Vec<u8> {
    body_up_to(response, ANSWER).await
}

async fn body_up_to(mut response: reqwest::Response, most: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= most {
            break;
        }
    }
    body
}

/// Seconds, also with a fraction, as milliseconds rounded up.
fn seconds_to_ms(seconds: f64) -> Option<u64> {
    // A day is more than any service asks for; what is more is a mistake or malice.
    (seconds.is_finite() && seconds >= 0.0).then(|| (seconds.min(86_400.0) * 1000.0).ceil() as u64)
}

fn header_seconds(response: &reqwest::Response, name: &str) -> Option<u64> {
    seconds_to_ms(
        response
            .headers()
            .get(name)?
            .to_str()
            .ok()?
            .trim()
            .parse()
            .ok()?,
    )
}

#[cfg(test)]
mod tests;
