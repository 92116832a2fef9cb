//! Telegram by bot: `POST /botTOKEN/sendMessage` (core.telegram.org/bots/api, "Making requests", "ResponseParameters"), and the presses
//! of buttons: `getUpdates` by long polling, `answerCallbackQuery`.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ANSWER, Notifier, NotifyError, Outcome, Secret, body, check, client, failed, header_seconds,
    of_edit, tidy,
};
use crate::message::{Message, telegram, text::cut};
use crate::phone::Press;

/// Where Telegram is.
const BASE_URL: &str = "https://api.telegram.org";

/// A bot and the chat that it writes to.
#[derive(Clone, Debug)]
pub struct Telegram {
    /// Address with the token, up to the name of the method.
    base: Secret,
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
        let loopback = check(kind, &address, false)?;
        let method = address.as_str();
        Ok(Self {
            base: Secret::new(method.strip_suffix("sendMessage").unwrap_or(method)),
            url: Secret::new(method),
            token: token.clone(),
            chat_id: chat_id.to_owned(),
            client: client(loopback)?,
        })
    }

    async fn post(&self, text: &str, message: &Message) -> Result<reqwest::Response, Outcome> {
        self.client
            .post(self.url.expose())
            .json(&telegram::body(&self.chat_id, text, message))
            .send()
            .await
            .map_err(failed)
    }

    async fn send(&self, message: &Message, repeat: bool) -> Outcome {
        let response = match self.post(&telegram::html(message, repeat), message).await {
            Ok(response) => response,
            Err(outcome) => return outcome,
        };
        let refused_form = response.status() == StatusCode::BAD_REQUEST;
        let outcome = self.outcome(response).await;
        if !refused_form || matches!(outcome, Outcome::Refused { channel: true, .. }) {
            return outcome;
        }
        tracing::warn!(channel = "telegram", why = ?outcome, "the service refused a message, its shortest form is sent");
        match self.post(&telegram::minimal(message), message).await {
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

/// Presses could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollError {
    /// Never again with this token.
    Stop(String),
    /// Try again.
    Later {
        /// Why, without any secret.
        why: String,
        /// When, if Telegram says so.
        after: Option<Duration>,
    },
}

#[derive(Deserialize)]
struct Updates {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    result: Vec<Value>,
}

impl Telegram {
    /// Updates that are not confirmed yet, by number; those that are no press of a button come without one. Asking with an
    /// `offset` confirms all before it. Telegram holds the answer back for up to `wait` while there is nothing.
    ///
    /// # Errors
    /// [`PollError`].
    pub async fn updates(
        &self,
        offset: Option<i64>,
        wait: Duration,
    ) -> Result<Vec<(i64, Option<Press>)>, PollError> {
        let mut question = json!({ "timeout": wait.as_secs(), "allowed_updates": ["callback_query"], "limit": 20 });
        if let Some(offset) = offset {
            question["offset"] = offset.into();
        }
        let later = |outcome: Outcome| match outcome {
            Outcome::Refused {
                why,
                retry_after_ms,
                ..
            } => PollError::Later {
                why,
                after: retry_after_ms.map(Duration::from_millis),
            },
            Outcome::Unknown { why } => PollError::Later { why, after: None },
            Outcome::Accepted { .. } => PollError::Later {
                why: String::new(),
                after: None,
            },
        };
        let response = self
            .client
            .post(format!("{}getUpdates", self.base.expose()))
            .timeout(wait + super::LIMIT)
            .json(&question)
            .send()
            .await
            .map_err(|e| later(failed(e)))?;
        let status = response.status();
        if matches!(status.as_u16(), 401 | 404) {
            let why = "the token is not (or no longer) valid";
            return Err(PollError::Stop(why.into()));
        }
        if !status.is_success() {
            // 409: another program polls for the same bot, or a webhook is set.
            return Err(match self.outcome(response).await {
                Outcome::Refused {
                    channel: false,
                    permanent: true,
                    why,
                    ..
                } => PollError::Later { why, after: None },
                outcome => later(outcome),
            });
        }
        // Twenty presses are far below this.
        let body = super::body_up_to(response, ANSWER * 4).await;
        let updates: Updates = serde_json::from_slice(&body).map_err(|_| PollError::Later {
            why: "the answer is not Telegram's".into(),
            after: None,
        })?;
        if !updates.ok {
            return Err(PollError::Later {
                why: "the answer is not Telegram's".into(),
                after: None,
            });
        }
        let number = |v: &Value, p: &str| v.pointer(p).and_then(Value::as_i64);
        let text = |v: &Value, p: &str, most| {
            let text = v.pointer(p).and_then(Value::as_str).unwrap_or_default();
            cut(text, most)
        };
        Ok(updates
            .result
            .iter()
            .filter_map(|u| {
                let update_id = number(u, "/update_id")?;
                let press = number(u, "/callback_query/from/id").map(|user| Press {
                    update_id,
                    callback_id: text(u, "/callback_query/id", 256),
                    user,
                    name: match text(u, "/callback_query/from/username", 64) {
                        name if name.is_empty() => text(u, "/callback_query/from/first_name", 64),
                        name => name,
                    },
                    chat: number(u, "/callback_query/message/chat/id"),
                    data: text(u, "/callback_query/data", 64),
                });
                Some((update_id, press))
            })
            .collect())
    }

    /// Tells who pressed what came of it. That it does not arrive changes nothing: the history has it.
    pub async fn answer(&self, callback_id: &str, text: &str) {
        let sent = self
            .client
            .post(format!("{}answerCallbackQuery", self.base.expose()))
            // 200 characters at most (Bot API, "answerCallbackQuery").
            .json(&json!({ "callback_query_id": callback_id, "text": cut(text, 200), "show_alert": true }))
            .send()
            .await;
        match sent {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => tracing::debug!(
                channel = "telegram",
                status = response.status().as_u16(),
                "the answer to a press was refused"
            ),
            Err(error) => {
                tracing::debug!(channel = "telegram", why = ?failed(error), "the answer to a press was not sent")
            }
        }
    }

    /// Number of the chat, unless it is a `@channel`.
    pub fn chat(&self) -> Option<i64> {
        self.chat_id.parse().ok()
    }
}

impl Notifier for Telegram {
    fn kind(&self) -> &'static str {
        "telegram"
    }

    fn deliver<'a>(&'a self, message: &'a Message, repeat: bool) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send(message, repeat))
    }

    fn edit<'a>(&'a self, message: &'a Message, remote_id: &'a str) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let text = telegram::html(message, false);
            let mut body = telegram::body(&self.chat_id, &text, message);
            body["message_id"] = remote_id.parse::<i64>().unwrap_or_default().into();
            let sent = self
                .client
                .post(format!("{}editMessageText", self.base.expose()))
                .json(&body)
                .send()
                .await;
            match sent {
                Ok(response) => of_edit(self.outcome(response).await),
                Err(error) => of_edit(failed(error)),
            }
        })
    }
}
