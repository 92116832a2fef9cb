//! E-mail by SMTP: TLS from the start or by STARTTLS, never without but to this very host. One plain text part: nothing in it is markup.

use std::time::Duration;

use futures_util::future::BoxFuture;
use lettre::message::{Mailbox, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::{LIMIT, Notifier, NotifyError, Outcome, Secret, tidy};
use crate::message::text::cut;
use crate::message::{Message, plain};

/// Longest subject; RFC 5322 wants lines below 998 characters, people less.
const SUBJECT: usize = 150;

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// STARTTLS, and nothing before it (port 587).
    #[default]
    StartTls,
    /// TLS from the start (port 465).
    Tls,
    /// None: to this very host only (a mail server that passes it on).
    None,
}

/// Settings.
#[derive(Clone, Debug, Default)]
pub struct EmailOptions {
    /// Name of the server.
    pub server: String,
    /// Port; `None` is 587, 465 or 25.
    pub port: Option<u16>,
    /// Encryption.
    pub encryption: Encryption,
    /// Login, with its password.
    pub login: Option<(String, Secret)>,
    /// From.
    pub from: String,
    /// To.
    pub to: Vec<String>,
    /// A certificate (PEM) that is trusted beside the well-known ones: a server with one of its own.
    pub certificate: Option<Vec<u8>>,
}

/// A mailbox.
#[derive(Clone)]
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    password: Option<Secret>,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Email")
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl Email {
    /// Channel for a server.
    ///
    /// # Errors
    /// [`NotifyError`], without the password in it.
    pub fn new(options: EmailOptions) -> Result<Self, NotifyError> {
        let kind = "email";
        let bad = |why: String| NotifyError::Address { kind, why };
        // A second call is refused, and that is right: the first provider stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mailbox = |text: &String| {
            text.parse::<Mailbox>()
                .map_err(|e| bad(format!("{text:?} is no address: {e}")))
        };
        if options.to.is_empty() {
            return Err(bad("there is nobody in `to`".into()));
        }
        let server = options.server.trim();
        let this_host = server == "localhost"
            || server
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback());
        let parameters = || {
            let mut builder = TlsParameters::builder(server.to_owned());
            if let Some(pem) = &options.certificate {
                let certificate = Certificate::from_pem(pem)
                    .map_err(|e| bad(format!("the certificate cannot be read: {e}")))?;
                builder = builder.add_root_certificate(certificate);
            }
            builder
                .build_rustls()
                .map_err(|e| bad(format!("TLS cannot be set up: {e}")))
        };
        let (tls, port) = match options.encryption {
            Encryption::StartTls => (Tls::Required(parameters()?), 587),
            Encryption::Tls => (Tls::Wrapper(parameters()?), 465),
            Encryption::None if this_host => (Tls::None, 25),
            Encryption::None => {
                return Err(bad(
                    "mail without TLS is handed to this host only (127.0.0.1, ::1, localhost)"
                        .into(),
                ));
            }
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
            .port(options.port.unwrap_or(port))
            .tls(tls)
            .timeout(Some(LIMIT - Duration::from_secs(1)));
        if let Some((user, password)) = &options.login {
            builder =
                builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        Ok(Self {
            transport: builder.build(),
            from: mailbox(&options.from)?,
            to: options.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            password: options.login.map(|(_, password)| password),
        })
    }

    fn letter(&self, message: &Message, repeat: bool) -> Result<lettre::Message, String> {
        let id = message.alert.as_deref().unwrap_or("notice");
        let subject = cut(
            &format!(
                "[{}] {id}: {}",
                message.severity.name().to_uppercase(),
                message.title
            ),
            SUBJECT,
        );
        let host: String = message
            .host
            .as_deref()
            .unwrap_or("host")
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
            .collect();
        // The same for a repeat, so that a mail program shows one.
        let message_id = format!("<{id}.{}.{host}@syscall-monitor.invalid>", message.time_ms);
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .message_id(Some(message_id))
            .header(header::ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder
            .body(plain::text(message, repeat))
            .map_err(|e| e.to_string())
    }

    async fn send(&self, message: &Message, repeat: bool) -> Outcome {
        let letter = match self.letter(message, repeat) {
            Ok(letter) => letter,
            Err(why) => {
                return Outcome::Refused {
                    permanent: true,
                    channel: false,
                    why: tidy(&why),
                    retry_after_ms: None,
                };
            }
        };
        let error = match self.transport.send(letter).await {
            Ok(_) => {
                return Outcome::Accepted {
                    remote_id: None,
                    quiet_ms: None,
                };
            }
            Err(error) => error,
        };
        let mut why = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            why.push_str(": ");
            why.push_str(&inner.to_string());
            source = inner.source();
        }
        if let Some(password) = &self.password {
            why = password.scrub(&why);
        }
        let why = tidy(&why);
        let code = error.status().map(|c| c.to_string());
        match code.as_deref() {
            // RFC 4954: the login is refused.
            Some("530" | "534" | "535" | "538") => Outcome::Refused {
                permanent: true,
                channel: true,
                why,
                retry_after_ms: None,
            },
            Some(code) if code.starts_with('5') => Outcome::Refused {
                permanent: true,
                channel: false,
                why,
                retry_after_ms: None,
            },
            Some(_) => Outcome::later(why, None),
            None if error.is_timeout() => Outcome::Unknown { why },
            // A server that cannot be reached or not be trusted got nothing; one that closed the connection in the middle may have it.
            None if error.is_tls()
                || why.to_lowercase().contains("connect")
                || why.contains("refused") =>
            {
                Outcome::later(why, None)
            }
            None => Outcome::Unknown { why },
        }
    }
}

impl Notifier for Email {
    fn kind(&self) -> &'static str {
        "email"
    }

    fn deliver<'a>(&'a self, message: &'a Message, repeat: bool) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send(message, repeat))
    }
}
