//! The trust hook: a command of root's configuration, told of each change (ASF-38, item 2).

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::wire::HookResult;
use crate::trust::TrustChange;

/// Most output that is read.
const OUTPUT: u64 = 64 << 10;

/// Runs the command without a shell: event as JSON on its standard input, `ASF_AGENT`, `ASF_SCORE`, `ASF_RULE`,
/// `ASF_SEVERITY`, `ASF_CONTAINER` in its environment, of which it inherits nothing but `PATH` and `HOME` (our own holds
/// secrets). Ended at the limit.
pub async fn run(command: &[String], change: &TrustChange, limit: Duration) -> HookResult {
    let failed = |why: String| HookResult {
        exit: None,
        base_score: None,
        why: Some(why),
    };
    let Some((program, arguments)) = command.split_first() else {
        return failed("the command is empty".into());
    };
    let mut child = Command::new(program);
    child
        .args(arguments)
        .env_clear()
        .envs(
            ["PATH", "HOME", "LANG"]
                .into_iter()
                .filter_map(|k| std::env::var_os(k).map(|v| (k, v))),
        )
        .env("ASF_AGENT", &change.agent)
        .env("ASF_SCORE", change.score.to_string())
        .env("ASF_RULE", change.rule.as_deref().unwrap_or(""))
        .env("ASF_SEVERITY", change.severity.map_or("", |s| s.name()))
        .env("ASF_CONTAINER", change.container.name.replace('\0', ""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = match child.spawn() {
        Ok(child) => child,
        Err(error) => return failed(format!("cannot start {program}: {error}")),
    };
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let event = serde_json::to_vec(change).unwrap_or_default();
    let work = async {
        let write = async {
            if let Some(mut input) = input {
                // A hook need not read it.
                let _ = input.write_all(&event).await;
            }
        };
        let read = async {
            let mut text = Vec::new();
            if let Some(output) = output {
                let _ = output.take(OUTPUT).read_to_end(&mut text).await;
            }
            text
        };
        let ((), text) = tokio::join!(write, read);
        (child.wait().await, text)
    };
    match tokio::time::timeout(limit, work).await {
        Ok((Ok(status), text)) => HookResult {
            exit: status.code(),
            base_score: base_score(&String::from_utf8_lossy(&text)),
            why: (!status.success()).then(|| format!("{program} ended with {status}")),
        },
        Ok((Err(error), _)) => failed(format!("{program}: {error}")),
        Err(_) => failed(format!("{program} was ended after {} s", limit.as_secs())),
    }
}

/// The last line `Trust Score: N`, N from 0 to 100, as `asf-trust-check.py` prints it (also `N/100`, `N%`).
fn base_score(output: &str) -> Option<u8> {
    output.lines().rev().find_map(|line| {
        let at = line.find("Trust Score:")?;
        let number: String = line[at + 12..]
            .trim_start()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        number.parse::<u8>().ok().filter(|n| *n <= 100)
    })
}

#[cfg(test)]
mod tests {
    use super::base_score;

    #[test]
    fn the_score_is_found_in_the_output() {
        assert_eq!(base_score("checking…\nTrust Score: 87/100\n"), Some(87));
        assert_eq!(base_score("Trust Score: 50\nTrust Score: 60%"), Some(60));
        assert_eq!(base_score("Trust Score: 101"), None);
        assert_eq!(base_score("Trust Score: none"), None);
    }
}
