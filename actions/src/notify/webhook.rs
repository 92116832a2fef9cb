//! A webhook of one's own: `POST` with JSON, signed when there is a key, in a form of one's own when there is a template.
//!
//! `X-Syscall-Monitor-Signature: t=SECONDS,v1=HEX`, where HEX is HMAC-SHA256 (RFC 2104) of `SECONDS.BODY` with the key: a receiver
//! refuses what is old or signed by nobody. `X-Syscall-Monitor-Alert` names the alert, `X-Syscall-Monitor-Repeat: 1` says that it may
//! have arrived before.

use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Url;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    Notifier, NotifyError, Outcome, Secret, body, check, client, failed, header_seconds, tidy,
};
use crate::message::{Message, plain, text::rfc3339_millis};

/// What a template may name.
const FIELDS: [&str; 15] = [
    "id",
    "severity",
    "title",
    "why",
    "container",
    "container_id",
    "image",
    "agent",
    "process",
    "sure",
    "action",
    "release",
    "time",
    "host",
    "text",
];

/// A webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    url: Secret,
    key: Option<Secret>,
    template: Option<String>,
    client: reqwest::Client,
}

impl Webhook {
    /// Channel for an address. `private` allows plain http to a private address beside this host. A template is JSON with
    /// `{{title}}` and the like in its strings.
    ///
    /// # Errors
    /// [`NotifyError`], without the address in it.
    pub fn new(
        url: &Secret,
        key: Option<Secret>,
        template: Option<&str>,
        private: bool,
    ) -> Result<Self, NotifyError> {
        let kind = "webhook";
        let bad = |why: String| NotifyError::Address { kind, why };
        let address = Url::parse(url.expose()).map_err(|_| bad("it is no URL".into()))?;
        let loopback = check(kind, &address, private)?;
        if key.as_ref().is_some_and(Secret::is_empty) {
            return Err(NotifyError::Token {
                kind,
                why: "the key that signs is empty".into(),
            });
        }
        if let Some(template) = template {
            let sample = Message::notice(detector::Severity::Low, "\"t\"\\", "w", 0);
            let filled = fill(template, &sample, false).map_err(|name| {
                bad(format!(
                    "the template names {{{{{name}}}}}; it may name {}",
                    FIELDS.join(", ")
                ))
            })?;
            serde_json::from_str::<Value>(&filled)
                .map_err(|e| bad(format!("the template makes no JSON: {e}")))?;
        }
        Ok(Self {
            url: Secret::new(address.as_str()),
            key,
            template: template.map(str::to_owned),
            client: client(loopback)?,
        })
    }

    /// Posts a body of our own, as the trust webhook does.
    pub async fn post(&self, body: Vec<u8>, alert: Option<&str>, repeat: bool) -> Outcome {
        let mut request = self
            .client
            .post(self.url.expose())
            .header("content-type", "application/json");
        if let Some(alert) = alert {
            request = request.header("x-syscall-monitor-alert", alert);
        }
        if repeat {
            request = request.header("x-syscall-monitor-repeat", "1");
        }
        if let Some(key) = &self.key {
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or(Duration::ZERO)
                .as_secs();
            request = request.header("x-syscall-monitor-signature", signature(key, now, &body));
        }
        match request.body(body).send().await {
            Ok(response) => self.outcome(response).await,
            Err(error) => failed(error),
        }
    }

    async fn outcome(&self, response: reqwest::Response) -> Outcome {
        outcome(response, "the webhook", &self.url).await
    }
}

/// What the answer of a service without a language of its own means.
pub(super) async fn outcome(response: reqwest::Response, who: &str, url: &Secret) -> Outcome {
    let status = response.status();
    let after = header_seconds(&response, "retry-after");
    let said = String::from_utf8_lossy(&body(response).await).into_owned();
    if status.is_success() {
        return Outcome::Accepted {
            remote_id: None,
            quiet_ms: None,
        };
    }
    let why = tidy(&url.scrub(&format!("{who} answered {}: {said}", status.as_u16())));
    match status.as_u16() {
        401 | 403 | 404 | 410 => Outcome::Refused {
            permanent: true,
            channel: true,
            why,
            retry_after_ms: None,
        },
        408 | 425 | 429 | 500 | 503 => Outcome::later(why, after),
        502 | 504 => Outcome::Unknown { why },
        300..=499 => Outcome::Refused {
            permanent: true,
            channel: false,
            why,
            retry_after_ms: None,
        },
        _ => Outcome::later(why, after),
    }
}

/// The signature of a body that is sent now.
fn signature(key: &Secret, seconds: u64, body: &[u8]) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("t={seconds},v1={hex}")
}

/// Our own form.
fn own(message: &Message, repeat: bool) -> Value {
    let more = message.more.clone().unwrap_or_default();
    json!({
        "schema": "syscall-monitor/message/1",
        "id": message.alert,
        "severity": message.severity,
        "title": message.title,
        "why": message.why,
        "container": message.container,
        "container_id": message.container_id,
        "image": message.image,
        "agent": message.agent,
        "process": message.process,
        "fields": message.fields.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
        "sure": message.sure,
        "action": message.action,
        "release": message.release,
        "time": rfc3339_millis(message.time_ms),
        "host": message.host,
        "more": { "count": more.count, "ids": more.ids },
        "repeat": repeat,
        "text": plain::text(message, repeat),
    })
}

/// The template with values in it, each escaped as the inside of a JSON string. Err: a name that is none.
fn fill(template: &str, message: &Message, repeat: bool) -> Result<String, String> {
    let all = own(message, repeat);
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let (name, behind) = after.split_once("}}").ok_or_else(|| after.to_owned())?;
        let name = name.trim();
        if !FIELDS.contains(&name) {
            return Err(name.to_owned());
        }
        let value = all.get(name).and_then(Value::as_str).unwrap_or_default();
        let quoted = Value::from(value).to_string();
        out.push_str(&quoted[1..quoted.len() - 1]);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

impl Notifier for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn deliver<'a>(&'a self, message: &'a Message, repeat: bool) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let body = match &self.template {
                None => own(message, repeat).to_string(),
                Some(template) => match fill(template, message, repeat) {
                    Ok(body) => body,
                    Err(name) => {
                        return Outcome::Refused {
                            permanent: true,
                            channel: true,
                            why: format!("the template names {name:?}, which is no field"),
                            retry_after_ms: None,
                        };
                    }
                },
            };
            self.post(body.into_bytes(), message.alert.as_deref(), repeat)
                .await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256() {
        // openssl: printf '7.body' | openssl dgst -sha256 -hmac key
        let signed = signature(&Secret::new("key"), 7, b"body");
        assert_eq!(
            signed,
            "t=7,v1=64089aa581edb495748bb7a47e979f6a761baedb9e06713d14122ec6b656948e"
        );
    }

    #[test]
    fn a_template_is_filled_as_json_whatever_the_text_is() {
        let message = Message::notice(detector::Severity::High, "a \"quote\" \\ {{why}}", "w", 0);
        let filled = fill(
            r#"{"t": "{{ title }}", "s": "{{severity}}!"}"#,
            &message,
            false,
        )
        .unwrap();
        let value: Value = serde_json::from_str(&filled).unwrap();
        assert_eq!(value, json!({"t": "a \"quote\" \\ {{why}}", "s": "high!"}));
    }

    #[test]
    fn a_template_that_cannot_work_is_refused_at_once() {
        let new = |template| {
            let url = Secret::new("https://example.invalid/hook/S3CRET");
            Webhook::new(&url, None, Some(template), false)
        };
        for (template, why) in [
            (r#"{"t": "{{titel}}"}"#, "titel"),
            (r#"{"t": "{{title"}"#, "title"),
            (r#"{"t": {{title}}}"#, "no JSON"),
        ] {
            let error = new(template).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("S3CRET"), "{error}");
        }
        new(r#"{"t": "{{title}}"}"#).unwrap();
    }
}
