//! The command line's way to the running daemon: HTTP and JSON over its Unix socket.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;

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
        each: &mut dyn FnMut(T) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut rest = Vec::new();
        self.call("POST", path, Some(body), &mut |chunk| {
            rest.extend_from_slice(chunk);
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let value: Value =
                    serde_json::from_slice(&line).context("the daemon's answer broke off")?;
                if let Some(error) = value.get("error").and_then(Value::as_str) {
                    bail!("{error}");
                }
                if !each(serde_json::from_value(value)?)? {
                    return Ok(false);
                }
            }
            Ok(true)
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
