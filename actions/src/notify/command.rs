//! A command of root's configuration, run without a shell: the message as JSON on its standard input, the short things in its
//! environment. Exit status 0 is "taken", 75 (`EX_TEMPFAIL` of sysexits.h) "try again", anything else "not this one".

use std::process::Stdio;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command as Process;

use super::{LIMIT, Notifier, NotifyError, Outcome, tidy};
use crate::message::{Message, plain};

/// `EX_TEMPFAIL`.
const TRY_AGAIN: i32 = 75;
/// Most of its error output that is read.
const OUTPUT: u64 = 4096;

/// A command.
#[derive(Clone, Debug)]
pub struct Command {
    words: Vec<String>,
}

impl Command {
    /// Program and arguments.
    ///
    /// # Errors
    /// [`NotifyError::Address`] when there is no program, or it is not named by its whole path.
    pub fn new(words: &[String]) -> Result<Self, NotifyError> {
        let absolute = words
            .first()
            .is_some_and(|program| program.starts_with('/'));
        if !absolute {
            return Err(NotifyError::Address {
                kind: "command",
                why: "the first word is the program, by its whole path (/usr/local/bin/…)".into(),
            });
        }
        Ok(Self {
            words: words.to_vec(),
        })
    }

    async fn run(&self, message: &Message, repeat: bool) -> Result<(Option<i32>, String), String> {
        let Some((program, arguments)) = self.words.split_first() else {
            return Err("there is no program".into());
        };
        let mut command = Process::new(program);
        command
            .args(arguments)
            // Our own environment may hold secrets.
            .env_clear()
            .envs(
                ["PATH", "HOME", "LANG"]
                    .into_iter()
                    .filter_map(|k| std::env::var_os(k).map(|v| (k, v))),
            )
            .env(
                "SYSCALL_MONITOR_ALERT",
                message.alert.as_deref().unwrap_or(""),
            )
            .env("SYSCALL_MONITOR_SEVERITY", message.severity.name())
            .env("SYSCALL_MONITOR_REPEAT", if repeat { "1" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|e| format!("cannot start {program}: {e}"))?;
        let mut body = serde_json::to_value(message).map_err(|e| e.to_string())?;
        body["text"] = plain::text(message, repeat).into();
        let body = body.to_string();
        let (input, error) = (child.stdin.take(), child.stderr.take());
        let write = async {
            if let Some(mut input) = input {
                // It need not read it.
                let _ = input.write_all(body.as_bytes()).await;
            }
        };
        let read = async {
            let mut text = Vec::new();
            if let Some(mut error) = error {
                let _ = (&mut error).take(OUTPUT).read_to_end(&mut text).await;
                // What it says beyond that is let go, so that it can end.
                let _ = tokio::io::copy(&mut error, &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&text).into_owned()
        };
        let ((), said) = tokio::join!(write, read);
        let status = child.wait().await.map_err(|e| format!("{program}: {e}"))?;
        Ok((status.code(), said))
    }
}

impl Notifier for Command {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn deliver<'a>(&'a self, message: &'a Message, repeat: bool) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let refused = |permanent: bool, why: String| Outcome::Refused {
                permanent,
                channel: false,
                why: tidy(&why),
                retry_after_ms: None,
            };
            match tokio::time::timeout(LIMIT, self.run(message, repeat)).await {
                Ok(Ok((Some(0), _))) => Outcome::Accepted {
                    remote_id: None,
                    quiet_ms: None,
                },
                Ok(Ok((Some(TRY_AGAIN), said))) => {
                    refused(false, format!("it asks to be tried again: {said}"))
                }
                Ok(Ok((Some(code), said))) => {
                    refused(true, format!("it ended with {code}: {said}"))
                }
                Ok(Ok((None, _))) => Outcome::Unknown {
                    why: "it was ended by a signal".into(),
                },
                Ok(Err(why)) => refused(false, why),
                Err(_) => Outcome::Unknown {
                    why: format!("it was ended after {} s", LIMIT.as_secs()),
                },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use detector::Severity;

    async fn outcome(script: &str) -> String {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let message = Message {
            alert: Some("A-7".into()),
            ..Message::notice(Severity::High, "Title", "why", 0)
        };
        format!(
            "{:?}",
            Command::new(&words).unwrap().deliver(&message, true).await
        )
    }

    #[tokio::test]
    async fn it_gets_the_message_and_its_exit_status_is_the_answer() {
        let all = r#"grep -q '"title":"Title"' && test "$SYSCALL_MONITOR_ALERT/$SYSCALL_MONITOR_SEVERITY/$SYSCALL_MONITOR_REPEAT" = A-7/high/1 && test -z "$CARGO_PKG_NAME""#;
        assert!(outcome(all).await.starts_with("Accepted"));
        assert!(
            outcome("exit 0").await.starts_with("Accepted"),
            "it need not read"
        );
        assert!(
            outcome("echo full >&2; exit 75")
                .await
                .contains("permanent: false")
        );
        assert!(
            outcome("echo no >&2; exit 3")
                .await
                .contains("ended with 3: no")
        );
        assert!(outcome("kill -9 $$").await.starts_with("Unknown"));
        let words = ["/nowhere/program".to_owned()];
        let message = Message::notice(Severity::High, "t", "w", 0);
        let gone = Command::new(&words).unwrap().deliver(&message, false).await;
        assert!(format!("{gone:?}").contains("cannot start"));
    }

    #[test]
    fn a_program_is_named_by_its_whole_path() {
        assert!(Command::new(&[]).is_err());
        assert!(Command::new(&["page".to_owned()]).is_err());
    }
}
