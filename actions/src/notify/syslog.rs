//! The system log, in the form of RFC 5424: over the local socket, over UDP (RFC 5426), or over TCP with counted octets (RFC 6587, 3.4.1).
//! Nothing in it is encrypted, so by default it is spoken with this host only.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use detector::Severity;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};

use super::{LIMIT, Notifier, NotifyError, Outcome};
use crate::message::text::{cut, rfc3339_millis};
use crate::message::{Message, plain};

/// What every receiver should take in one datagram (RFC 5424, 6.1).
pub const LONGEST: usize = 2048;
/// Facility `authpriv` (RFC 5424, 6.2.1).
const FACILITY: u8 = 10;
/// The number that RFC 5612 sets aside for examples and that nobody owns.
const ENTERPRISE: &str = "32473";

#[derive(Clone, Debug)]
enum Place {
    Unix(PathBuf),
    Udp(SocketAddr),
    Tcp(SocketAddr),
}

/// A log.
#[derive(Clone, Debug)]
pub struct Syslog {
    place: Place,
}

impl Syslog {
    /// Channel for `unix:/dev/log`, `udp://127.0.0.1:514` or `tcp://127.0.0.1:601`. `private` allows private addresses beside this host.
    ///
    /// # Errors
    /// [`NotifyError::Address`].
    pub fn new(address: &str, private: bool) -> Result<Self, NotifyError> {
        let bad = |why: &str| NotifyError::Address {
            kind: "syslog",
            why: why.to_owned(),
        };
        if let Some(path) = address.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(Self {
                    place: Place::Unix(path),
                }),
                false => Err(bad("the socket's path is not absolute")),
            };
        }
        let (scheme, rest) = address.split_once("://").ok_or_else(|| {
            bad("it looks like unix:/dev/log, udp://127.0.0.1:514 or tcp://127.0.0.1:601")
        })?;
        let place: SocketAddr = rest
            .parse()
            .map_err(|_| bad("behind :// stand an IP address, a colon and a port"))?;
        if !super::is_allowed(place.ip(), private) {
            return Err(bad(
                "nothing is encrypted on this way, so only this host is spoken with, or with allow_private a private address",
            ));
        }
        match scheme {
            "udp" => Ok(Self {
                place: Place::Udp(place),
            }),
            "tcp" => Ok(Self {
                place: Place::Tcp(place),
            }),
            _ => Err(bad("only unix:, udp:// and tcp:// are spoken")),
        }
    }

    async fn send(&self, line: &[u8]) -> io::Result<()> {
        match &self.place {
            Place::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.send_to(line, path).await.map(drop)
            }
            Place::Udp(to) => {
                let from: SocketAddr = match to {
                    SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                    SocketAddr::V6(_) => ([0u16; 8], 0).into(),
                };
                let socket = UdpSocket::bind(from).await?;
                // Connected, so that a refusal is told.
                socket.connect(to).await?;
                socket.send(line).await.map(drop)
            }
            Place::Tcp(to) => {
                let mut stream = TcpStream::connect(to).await?;
                let head = format!("{} ", line.len());
                stream.write_all(&[head.as_bytes(), line].concat()).await?;
                stream.shutdown().await
            }
        }
    }
}

/// One message of RFC 5424, [`LONGEST`] bytes at most.
pub fn line(message: &Message, repeat: bool) -> Vec<u8> {
    let severity = match message.severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Informational => 6,
    };
    let host: String = message
        .host
        .as_deref()
        .unwrap_or("-")
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    let head = format!(
        "<{}>1 {} {} syscall-monitor {} {} ",
        FACILITY * 8 + severity,
        rfc3339_millis(message.time_ms),
        if host.is_empty() { "-" } else { &host },
        std::process::id(),
        if message.alert.is_some() {
            "alert"
        } else {
            "notice"
        },
    );
    let mut data = format!("[syscall-monitor@{ENTERPRISE}");
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            data.push_str(&format!(" {name}=\"{}\"", parameter(value)));
        }
    };
    add("alert", message.alert.as_deref());
    add("severity", Some(message.severity.name()));
    add("container", message.container.as_deref());
    add("agent", message.agent.as_deref());
    add("repeat", repeat.then_some("true"));
    data.push(']');
    // The mark says that what follows is UTF-8 (6.4); line breaks of our own become what a log reads as one line.
    let text = plain::text(message, repeat);
    let digest = message.digest_line().unwrap_or_default();
    let text = match text.split_once('\n') {
        Some((first, rest)) if !digest.is_empty() => format!("{first} | {digest} | {rest}"),
        _ => text,
    };
    let text = text.trim_end().replace('\n', " | ");
    let mut out = format!("{head}{data} \u{feff}").into_bytes();
    for c in text.chars() {
        if out.len() + c.len_utf8() > LONGEST - '…'.len_utf8() {
            out.extend_from_slice("…".as_bytes());
            break;
        }
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out
}

/// A value between quotes (6.3.3), short enough that all of them leave room for the text.
fn parameter(value: &str) -> String {
    let mut out = String::new();
    for c in cut(value, 80).chars() {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

impl Notifier for Syslog {
    fn kind(&self) -> &'static str {
        "syslog"
    }

    fn deliver<'a>(&'a self, message: &'a Message, repeat: bool) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let line = line(message, repeat);
            match tokio::time::timeout(LIMIT, self.send(&line)).await {
                Ok(Ok(())) => Outcome::Accepted {
                    remote_id: None,
                    quiet_ms: None,
                },
                Ok(Err(e)) => Outcome::later(format!("the log cannot be reached: {e}"), None),
                Err(_) => Outcome::Unknown {
                    why: format!("no end within {} s", LIMIT.as_secs()),
                },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_of_rfc_5424() {
        let message = Message {
            alert: Some("A-7".into()),
            container: Some("a\"b]c\\d".into()),
            ..Message::notice(Severity::Critical, "Mount", "why", 1_772_361_015_042)
        }
        .on_host("host 1");
        let line = String::from_utf8(line(&message, true)).unwrap();
        let head = format!(
            "<82>1 2026-03-01T10:30:15.042Z host1 syscall-monitor {} alert [syscall-monitor@32473 alert=\"A-7\" severity=\"critical\" container=\"a\\\"b\\]c\\\\d\" repeat=\"true\"] \u{feff}CRITICAL A-7: Mount | possible repeat",
            std::process::id()
        );
        assert!(line.starts_with(&head), "{line}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn only_this_host_is_spoken_with_unless_it_was_allowed() {
        for (address, private, good) in [
            ("unix:/dev/log", false, true),
            ("unix:dev/log", false, false),
            ("udp://127.0.0.1:514", false, true),
            ("udp://[::1]:514", false, true),
            ("udp://10.0.0.1:514", false, false),
            ("udp://10.0.0.1:514", true, true),
            ("tcp://8.8.8.8:601", true, false),
            ("http://127.0.0.1:1", false, false),
            ("127.0.0.1:514", false, false),
        ] {
            assert_eq!(Syslog::new(address, private).is_ok(), good, "{address}");
        }
    }
}
