//! Telegram by bot: `POST /botTOKEN/sendMessage` (core.telegram.org/bots/api, "Making requests", "ResponseParameters").

use futures_util::future::BoxFuture;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Notifier, NotifyError, Outcome, Secret, body, check, client, failed, header_seconds, tidy,
};
use crate::message::{Message, telegram};

/// Where Telegram is.
const BASE_URL: &str = "https://api.telegram.org";

/// A bot and the chat that it writes to.
#[derive(Clone, Debug)]
pub struct Telegram {
    url: Secret,
    token: Secret,
    chat_id: String,
    client: reqwest::Client,
}

#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    description: String,
    result: Option<Sent>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Sent {
    message_id: Option<i64>,
}

#[derive(Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

impl Telegram {
    /// Channel for a bot. `base_url` stands in the place of <https://api.telegram.org>.
    ///
    /// # Errors
    /// [`NotifyError`], without the token in it.
    pub fn new(token: &Secret, chat_id: &str, base_url: Option<&str>) -> Result<Self, NotifyError> {
        let kind = "telegram";
        let form = token.expose().split_once(':').is_some_and(|(id, key)| {
            !id.is_empty()
                && id.bytes().all(|b| b.is_ascii_digit())
                && key.len() >= 20
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        });
        if !form {
            return Err(NotifyError::Token {
                kind,
                why: "it looks like 123456789:AA…, as BotFather gives it".into(),
            });
        }
        let chat_id = chat_id.trim();
        let chat = chat_id
            .strip_prefix('@')
            .map_or_else(|| chat_id.parse::<i64>().is_ok(), |name| !name.is_empty());
        if !chat {
            return Err(NotifyError::Address {
                kind,
                why: "chat_id is a number (groups: negative) or @channel".into(),
            });
        }
        let base = base_url.unwrap_or(BASE_URL).trim_end_matches('/');
        let address =
            Url::parse(&format!("{base}/bot{}/sendMessage", token.expose())).map_err(|_| {
                NotifyError::Address {
                    kind,
                    why: "base_url is no URL".into(),
                }
            })?;
        let loopback = check(kind, &address)?;
        Ok(Self {
            url: Secret::new(address.as_str()),
            token: token.clone(),
            chat_id: chat_id.to_owned(),
            client: client(loopback)?,
        })
    }

    async fn post(&self, text: &str) -> Result<reqwest::Response, Outcome> {
        self.client
            .post(self.url.expose())
            .json(&telegram::body(&self.chat_id, text))
            .send()
            .await
            .map_err(failed)
    }

    async fn send(&self, message: &Message, repeat: bool) -> Outcome {
        let response = match self.post(&telegram::html(message, repeat)).await {
            Ok(response) => response,
            Err(outcome) => return outcome,
        };
        let refused_form = response.status() == StatusCode::BAD_REQUEST;
        let outcome = self.outcome(response).await;
        if !refused_form || matches!(outcome, Outcome::Refused { channel: true, .. }) {
            return outcome;
        }
        tracing::warn!(channel = "telegram", why = ?outcome, "the service refused a message, its shortest form is sent");
        match self.post(&telegram::minimal(message)).await {
            Ok(response) => self.outcome(response).await,
            Err(outcome) => outcome,
        }
    }

    async fn outcome(&self, response: reqwest::Response) -> Outcome {
        let status = response.status();
        let header = header_seconds(&response, "retry-after");
        let body = body(response).await;
        let parsed = serde_json::from_slice::<Value>(&body).ok();
        let answer: Answer = parsed
            .and_then(|v| serde_json::from_value(v).ok())
            .unwrap_or_default();
        if status.is_success() {
            // A success without `ok` is not Telegram's; a success that is cut short is one.
            let remote_id = answer
                .result
                .and_then(|r| r.message_id)
                .map(|id| id.to_string());
            if answer.ok || body.is_empty() || remote_id.is_some() {
                return Outcome::Accepted {
                    remote_id,
                    quiet_ms: None,
                };
            }
            return Outcome::Unknown {
                why: "the answer was a success and not Telegram's".into(),
            };
        }
        let words = if answer.description.is_empty() {
            String::from_utf8_lossy(&body)
        } else {
            answer.description.into()
        };
        let why = tidy(
            &self
                .token
                .scrub(&format!("Telegram answered {}: {words}", status.as_u16())),
        );
        let stop = |hint: &str| Outcome::Refused {
            permanent: true,
            channel: true,
            why: format!("{why}; {hint}"),
            retry_after_ms: None,
        };
        let lower = words.to_lowercase();
        match status.as_u16() {
            429 => {
                let asked = answer
                    .parameters
                    .and_then(|p| p.retry_after)
                    .map(|s| s.min(86_400) * 1000);
                Outcome::later(why, asked.or(header))
            }
            401 | 404 => stop(
                "the token is not (or no longer) valid: ask BotFather and `syscall-monitor notify add telegram`",
            ),
            403 => stop("the bot was blocked or removed from the chat: let it in again"),
            400 if answer
                .parameters
                .as_ref()
                .is_some_and(|p| p.migrate_to_chat_id.is_some()) =>
            {
                let id = answer
                    .parameters
                    .and_then(|p| p.migrate_to_chat_id)
                    .unwrap_or(0);
                stop(&format!("the group has a new id: set chat_id to {id}"))
            }
            400 if lower.contains("chat not found") || lower.contains("chat_id is empty") => {
                stop("chat_id is wrong, or nobody wrote to the bot yet")
            }
            502 | 504 => Outcome::Unknown { why },
            408 => Outcome::later(why, header),
            300..=499 => Outcome::Refused {
                permanent: true,
                channel: false,
                why,
                retry_after_ms: None,
            },
            _ => Outcome::later(why, header),
        }
    }
}

impl Notifier for Telegram {
    fn kind(&self) -> &'static str {
        "telegram"
    }

    fn deliver<'a>(&'a self, message: &'a Message, repeat: bool) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send(message, repeat))
    }
}
