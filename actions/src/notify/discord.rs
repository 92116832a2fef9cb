//! Discord by webhook: `POST …/api/webhooks/ID/TOKEN?wait=true` (Discord developer portal, "Execute Webhook").

use futures_util::future::BoxFuture;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Notifier, NotifyError, Outcome, Secret, body, check, client, failed, header_seconds, of_edit,
    seconds_to_ms, tidy,
};
use crate::message::{Message, discord};

/// A webhook.
#[derive(Clone, Debug)]
pub struct Discord {
    url: Secret,
    client: reqwest::Client,
}

/// Answer to a message that was accepted.
#[derive(Deserialize)]
struct Accepted {
    id: Option<String>,
}

/// Answer to one that was not.
#[derive(Default, Deserialize)]
struct Refused {
    #[serde(default)]
    message: Value,
    #[serde(default)]
    code: Value,
    retry_after: Option<f64>,
    #[serde(default)]
    global: bool,
}

impl Discord {
    /// Channel for the address of a webhook. `base_url` stands in the place of the address's scheme, host and port.
    ///
    /// # Errors
    /// [`NotifyError::Address`], without the address in it.
    pub fn new(url: &Secret, base_url: Option<&str>) -> Result<Self, NotifyError> {
        let kind = "discord";
        let bad = |why: &str| NotifyError::Address {
            kind,
            why: why.to_owned(),
        };
        let mut address = Url::parse(url.expose()).map_err(|_| {
            bad("it is no URL; it looks like https://discord.com/api/webhooks/ID/TOKEN")
        })?;
        let parts: Vec<String> = address
            .path_segments()
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect();
        let place = parts
            .iter()
            .position(|p| p == "webhooks")
            .ok_or_else(|| bad("its path has no /webhooks/"))?;
        if parts
            .get(place + 1)
            .is_none_or(|id| id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()))
            || parts.get(place + 2).is_none_or(String::is_empty)
        {
            return Err(bad("its path does not end in /webhooks/ID/TOKEN"));
        }
        if let Some(base) = base_url {
            let base = Url::parse(base).map_err(|_| bad("base_url is no URL"))?;
            let mut moved = base.clone();
            moved.set_path(address.path());
            moved.set_query(address.query());
            address = moved;
        }
        // Without it Discord answers 204 and no id, also for a message that it drops.
        address.query_pairs_mut().append_pair("wait", "true");
        let loopback = check(kind, &address, false)?;
        Ok(Self {
            url: Secret::new(address.as_str()),
            client: client(loopback)?,
        })
    }

    async fn post(&self, value: &Value) -> Result<reqwest::Response, Outcome> {
        let request = self.client.post(self.url.expose()).json(value);
        request.send().await.map_err(failed)
    }

    async fn send(&self, message: &Message, repeat: bool) -> Outcome {
        let response = match self.post(&discord::embed(message, repeat)).await {
            Ok(response) => response,
            Err(outcome) => return outcome,
        };
        if response.status() != StatusCode::BAD_REQUEST {
            return self.outcome(response).await;
        }
        // The form was refused, so nothing has arrived: better a short word than none.
        let why = self.outcome(response).await;
        tracing::warn!(
            channel = "discord",
            ?why,
            "the service refused a message, its shortest form is sent"
        );
        match self.post(&discord::minimal(message)).await {
            Ok(response) => self.outcome(response).await,
            Err(outcome) => outcome,
        }
    }

    async fn outcome(&self, response: reqwest::Response) -> Outcome {
        let status = response.status();
        let header = header_seconds(&response, "retry-after");
        let quiet_ms = match response
            .headers()
            .get("x-ratelimit-remaining")
            .map(|v| v.as_bytes() == b"0")
        {
            Some(true) => header_seconds(&response, "x-ratelimit-reset-after"),
            _ => None,
        };
        let body = body(response).await;
        if status.is_success() {
            let remote_id = serde_json::from_slice::<Accepted>(&body)
                .ok()
                .and_then(|a| a.id);
            return Outcome::Accepted {
                remote_id,
                quiet_ms,
            };
        }
        let said: Refused = serde_json::from_slice(&body).unwrap_or_default();
        let words = match &said.message {
            Value::String(words) => format!("{words} (code {})", said.code),
            _ => String::from_utf8_lossy(&body).into_owned(),
        };
        let why = tidy(
            &self
                .url
                .scrub(&format!("Discord answered {}: {words}", status.as_u16())),
        );
        match status.as_u16() {
            429 => {
                // The body is exact, the header is rounded; of a proxy's 429 there is only the header.
                let wait = said.retry_after.and_then(seconds_to_ms).or(header);
                let why = if said.global {
                    format!("{why} (global limit)")
                } else {
                    why
                };
                Outcome::later(why, wait)
            }
            401 | 403 | 404 => Outcome::Refused {
                permanent: true,
                channel: true,
                why: format!(
                    "{why}; the webhook was deleted or its token changed: make a new one and `syscall-monitor notify add discord`"
                ),
                retry_after_ms: None,
            },
            // A gateway gave up waiting: what stands behind it may have taken the message.
            502 | 504 => Outcome::Unknown { why },
            408 | 425 => Outcome::later(why, header),
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

impl Notifier for Discord {
    fn kind(&self) -> &'static str {
        "discord"
    }

    fn deliver<'a>(&'a self, message: &'a Message, repeat: bool) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send(message, repeat))
    }

    fn edit<'a>(&'a self, message: &'a Message, remote_id: &'a str) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let url = Url::parse(self.url.expose())
                .ok()
                .filter(|_| !remote_id.is_empty() && remote_id.bytes().all(|b| b.is_ascii_digit()));
            let Some(mut url) = url else {
                return of_edit(Outcome::later(
                    "the message to edit has no number".into(),
                    None,
                ));
            };
            url.set_path(&format!("{}/messages/{remote_id}", url.path()));
            url.set_query(None);
            let request = self.client.patch(url).json(&discord::embed(message, false));
            match request.send().await {
                Ok(response) => of_edit(self.outcome(response).await),
                Err(error) => of_edit(failed(error)),
            }
        })
    }
}
