//! The command line's way to the running daemon: HTTP and JSON over its Unix socket.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One line of an answer.
#[derive(Debug)]
pub enum Line<T> {
    Row(T),
    /// So much of so much is done.
    Progress(u64, u64),
    /// The answer to a question that has one.
    Result(Value),
    /// So many rows of the live stream were passed over: we were too slow.
    Lost(u64),
}

fn read_line<T: DeserializeOwned>(line: &[u8]) -> anyhow::Result<Line<T>> {
    const BROKEN: &str = "the daemon's answer broke off";
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum About {
        Error(String),
        Progress(u64, u64),
        Result(Value),
        Lost(u64),
    }
    // Rows are by far the most, and begin otherwise.
    let about = [
        &b"{\"error\""[..],
        b"{\"progress\"",
        b"{\"result\"",
        b"{\"lost\"",
    ];
    if !about.iter().any(|start| line.starts_with(start)) {
        return Ok(Line::Row(serde_json::from_slice(line).context(BROKEN)?));
    }
    Ok(match serde_json::from_slice(line).context(BROKEN)? {
        About::Error(text) => bail!("{text}"),
        About::Progress(done, total) => Line::Progress(done, total),
        About::Result(value) => Line::Result(value),
        About::Lost(count) => Line::Lost(count),
    })
}

/// A daemon that answers.
pub struct Client {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// `None` when nothing listens on the socket, so that the caller can open the store itself.
    pub fn connect(socket: &Path) -> anyhow::Result<Option<Self>> {
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                bail!(
                    "the daemon's socket {} is not for this user; use sudo, or be in the group that `[api] group` names",
                    socket.display()
                )
            }
            Err(e) => {
                return Err(e).with_context(|| {
                    format!("cannot connect to the daemon's socket {}", socket.display())
                });
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Some(Self {
            socket: socket.to_owned(),
            runtime,
        }))
    }

    /// GET, one JSON document.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let mut whole = Vec::new();
        self.call("GET", path, None, &mut |chunk| {
            whole.extend_from_slice(chunk);
            Ok(true)
        })?;
        serde_json::from_slice(&whole).with_context(|| format!("the daemon's answer to {path} is not what this version expects; is the daemon older than the program?"))
    }

    /// POST, one JSON document.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        let mut whole = Vec::new();
        self.call("POST", path, Some(body), &mut |chunk| {
            whole.extend_from_slice(chunk);
            Ok(true)
        })?;
        serde_json::from_slice(&whole).with_context(|| format!("the daemon's answer to {path} is not what this version expects; is the daemon older than the program?"))
    }

    /// POST, JSON lines; `each` returns false to stop.
    pub fn lines<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        each: &mut dyn FnMut(Line<T>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        self.chunks(path, body, &mut |lines| {
            for line in lines {
                if !each(line)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// As [`Client::lines`], with the lines that came together handed over together.
    pub fn chunks<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        each: &mut dyn FnMut(Vec<Line<T>>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut rest = Vec::new();
        self.call("POST", path, Some(body), &mut |chunk| {
            rest.extend_from_slice(chunk);
            let (mut from, mut lines) = (0, Vec::new());
            while let Some(end) = rest[from..].iter().position(|b| *b == b'\n') {
                let line = read_line(&rest[from..from + end]);
                from += end + 1;
                match line {
                    Ok(line) => lines.push(line),
                    Err(error) => {
                        // What came before it counts.
                        each(std::mem::take(&mut lines))?;
                        return Err(error);
                    }
                }
            }
            rest.drain(..from);
            if lines.is_empty() {
                return Ok(true);
            }
            each(lines)
        })
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        chunk: &mut dyn FnMut(&[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let stream = tokio::net::UnixStream::connect(&self.socket)
                .await
                .context("the daemon went away")?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let driver = tokio::spawn(connection);
            let request = hyper::Request::builder()
                .method(method)
                .uri(path)
                .header("host", "syscall-monitor")
                .header("content-type", "application/json")
                .body(Full::new(
                    body.map(|b| Bytes::from(b.to_string())).unwrap_or_default(),
                ))?;
            let mut response = sender
                .send_request(request)
                .await
                .context("the daemon did not answer")?;
            if !response.status().is_success() {
                let status = response.status();
                let text = response.into_body().collect().await?.to_bytes();
                let said = serde_json::from_slice::<Value>(&text)
                    .ok()
                    .and_then(|v| v.get("error").and_then(Value::as_str).map(str::to_owned));
                bail!(
                    "{}",
                    said.unwrap_or_else(|| format!("the daemon answered {status} to {path}"))
                );
            }
            while let Some(frame) = response.frame().await {
                if let Some(data) = frame.context("the daemon's answer broke off")?.data_ref()
                    && !chunk(data)?
                {
                    break;
                }
            }
            driver.abort();
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_rows_progress_results_and_errors_apart() {
        let read = |text: &str| read_line::<Value>(text.as_bytes());
        assert!(matches!(
            read(r#"{"progress":[3,9]}"#),
            Ok(Line::Progress(3, 9))
        ));
        assert!(matches!(read(r#"{"result":{"a":1}}"#), Ok(Line::Result(_))));
        assert!(matches!(
            read(r#"{"kind":"x","error":"data"}"#),
            Ok(Line::Row(_))
        ));
        assert!(matches!(read(r#"{"lost":2}"#), Ok(Line::Lost(2))));
        assert_eq!(read(r#"{"error":"no"}"#).unwrap_err().to_string(), "no");
        assert!(read("{").is_err());
    }
}
