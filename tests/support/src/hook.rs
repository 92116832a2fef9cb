//! A webhook of one's own: takes JSON, and remembers each body byte by byte with the headers that sign it.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::peer::{Manners, Peer, Verdict};

/// Path, with a token in it.
pub const PATH: &str = "/hook/FakeHookTokenAbCdEfGhIjKl";

/// One request as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    /// Body.
    pub body: Vec<u8>,
    /// `X-Syscall-Monitor-Signature`.
    pub signature: Option<String>,
    /// `X-Syscall-Monitor-Alert`.
    pub alert: Option<String>,
    /// `X-Syscall-Monitor-Repeat`.
    pub repeat: Option<String>,
}

/// The service; see [`Peer`] for script and what was received.
#[derive(Debug)]
pub struct Hook {
    peer: Peer,
    raw: Arc<Mutex<Vec<Raw>>>,
}

impl Hook {
    /// Starts it on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let raw = Arc::new(Mutex::default());
        Self {
            peer: Peer::start(Ways(raw.clone())),
            raw,
        }
    }

    /// Address.
    pub fn url(&self) -> String {
        format!("{}{PATH}", self.peer.base_url())
    }

    /// Every request so far, byte by byte.
    pub fn raw(&self) -> Vec<Raw> {
        self.raw
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Deref for Hook {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

struct Ways(Arc<Mutex<Vec<Raw>>>);

impl Manners for Ways {
    fn raw(&self, headers: &hyper::HeaderMap, body: &[u8]) {
        let header = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let raw = Raw {
            body: body.to_vec(),
            signature: header("x-syscall-monitor-signature"),
            alert: header("x-syscall-monitor-alert"),
            repeat: header("x-syscall-monitor-repeat"),
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(raw);
    }

    fn look(&self, path: &str, _query: &str, content_type: &str, body: &Value) -> Verdict {
        let wrong = |status, why: &str| Verdict::Wrong(status, why.into(), why.to_owned());
        if path != PATH {
            return wrong(404, "no such hook");
        }
        if content_type != "application/json" || body.is_null() {
            return wrong(400, "no JSON");
        }
        Verdict::Right {
            answer: Box::new(|_| (204, Value::Null)),
            text: None,
        }
    }

    fn refusal(&self, status: u16, _retry_after: Option<f64>) -> Value {
        format!("{status}").into()
    }

    fn retry_after_header(&self) -> bool {
        true
    }
}
