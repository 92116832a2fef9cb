//! Slack by incoming webhook (docs.slack.dev: "Sending messages using incoming webhooks", "Blocks"). Everything stands in blocks of type
//! `plain_text`, in which nothing is markup; the text beside them, which notifications show, has markup switched off and is escaped.

use futures_util::future::BoxFuture;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use super::webhook::outcome;
use super::{Notifier, NotifyError, Outcome, Secret, check, client, failed};
use crate::message::{Message, slack};

/// Slack.
#[derive(Clone, Debug)]
pub struct Slack {
    url: Secret,
    client: reqwest::Client,
}

impl Slack {
    /// Channel for the address of an incoming webhook. `base_url` stands in the place of the address's scheme, host and port.
    ///
    /// # Errors
    /// [`NotifyError::Address`], without the address in it.
    pub fn new(url: &Secret, base_url: Option<&str>) -> Result<Self, NotifyError> {
        let kind = "slack";
        let bad = |why: &str| NotifyError::Address {
            kind,
            why: why.to_owned(),
        };
        let mut address = Url::parse(url.expose()).map_err(|_| {
            bad("it is no URL; it looks like https://hooks.slack.com/services/T…/B…/…")
        })?;
        if !address.path().starts_with("/services/") && !address.path().starts_with("/workflows/") {
            return Err(bad("its path does not begin with /services/"));
        }
        if let Some(base) = base_url {
            let mut moved = Url::parse(base).map_err(|_| bad("base_url is no URL"))?;
            moved.set_path(address.path());
            address = moved;
        }
        let loopback = check(kind, &address, false)?;
        Ok(Self {
            url: Secret::new(address.as_str()),
            client: client(loopback)?,
        })
    }

    async fn post(&self, body: &Value) -> Result<reqwest::Response, Outcome> {
        let request = self.client.post(self.url.expose()).json(body);
        request.send().await.map_err(failed)
    }
}

impl Notifier for Slack {
    fn kind(&self) -> &'static str {
        "slack"
    }

    fn deliver<'a>(&'a self, message: &'a Message, repeat: bool) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let mut response = match self.post(&slack::body(message, repeat)).await {
                Ok(response) => response,
                Err(outcome) => return outcome,
            };
            if response.status() == StatusCode::BAD_REQUEST {
                let minimal = json!({ "text": slack::minimal(message), "mrkdwn": false });
                response = match self.post(&minimal).await {
                    Ok(response) => response,
                    Err(outcome) => return outcome,
                };
            }
            outcome(response, "Slack", &self.url).await
        })
    }
}
