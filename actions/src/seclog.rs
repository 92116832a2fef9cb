//! The framework's security log: `2026-03-01T10:30:15Z WARN MOLTBOT TRUST Trust score dropped below 80: agent-42`, that is
//! TIME LEVEL COMPONENT EVENT_TYPE message, one line each (ASF-38; AGENTS-AND-ASF.md).
//!
//! Every word that comes from outside is made visible first, so nobody can write a line of his own into it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use detector::Alert;
use enricher::container::Profile;

use crate::message::text::visible;
use crate::redact::redact;

/// Longest line, bytes.
const LINE: usize = 2000;

/// Word in the second column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Info,
    Warn,
    Error,
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// The log could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {tried} the security log {path}: {source}")]
pub struct SecurityLogError {
    tried: &'static str,
    path: String,
    source: std::io::Error,
}

/// The file. It is opened for each line, so a log rotation needs no signal.
#[derive(Clone, Debug)]
pub struct SecurityLog {
    path: PathBuf,
}

impl SecurityLog {
    /// Log at `path` (`/var/log/asf/security.log`); its directory is made when it is missing.
    ///
    /// # Errors
    /// [`SecurityLogError`] when the directory cannot be made.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SecurityLogError> {
        let path = path.into();
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|source| SecurityLogError {
                tried: "make the directory of",
                path: path.display().to_string(),
                source,
            })?;
        }
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line, in one write.
    ///
    /// # Errors
    /// [`SecurityLogError`].
    pub fn write(
        &self,
        now_ms: u64,
        level: Level,
        component: &str,
        event: &str,
        message: &str,
    ) -> Result<(), SecurityLogError> {
        let error = |tried, source| SecurityLogError {
            tried,
            path: self.path.display().to_string(),
            source,
        };
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&self.path)
            .map_err(|e| error("open", e))?;
        file.write_all(line(now_ms, level, component, event, message).as_bytes())
            .map_err(|e| error("append to", e))
    }

    /// Writes the line of an alert (the story's HIGH row: alert and log).
    ///
    /// # Errors
    /// [`SecurityLogError`].
    pub fn alert(&self, alert: &Alert) -> Result<(), SecurityLogError> {
        let level = match alert.severity {
            detector::Severity::Critical => Level::Critical,
            detector::Severity::High => Level::Warn,
            _ => Level::Info,
        };
        let container = alert.container.as_ref();
        let message = format!(
            "{} {}: {} container={} exe={} command={}",
            alert.short_id(),
            alert.title,
            alert.syscall,
            container.map_or("(host)", |c| c.name.as_str()),
            alert.exe,
            crate::redact::command_line(&alert.argv),
        );
        self.write(
            alert.time_ms,
            level,
            component(container.and_then(|c| c.profile)),
            "SYSCALL",
            &message,
        )
    }
}

/// Third column for a profile.
pub fn component(profile: Option<Profile>) -> &'static str {
    match profile {
        Some(Profile::Openclaw) => "OPENCLAW",
        Some(Profile::Clawbot) => "CLAWBOT",
        Some(Profile::Moltbot) => "MOLTBOT",
        None => "SYSCALL-MONITOR",
    }
}

fn word(text: &str) -> String {
    let text = visible(text).replace(char::is_whitespace, "_");
    if text.is_empty() { "-".into() } else { text }
}

fn line(now_ms: u64, level: Level, component: &str, event: &str, message: &str) -> String {
    let message = redact(message);
    let mut line = format!(
        "{} {} {} {} {}",
        crate::message::text::rfc3339_seconds(now_ms),
        level.name(),
        word(component),
        word(event),
        visible(&message)
    );
    if line.len() > LINE {
        let cut = (0..=LINE - 4)
            .rev()
            .find(|i| line.is_char_boundary(*i))
            .unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_framework_s_form() {
        let text = line(
            1_772_361_015_000,
            Level::Warn,
            "MOLTBOT",
            "TRUST",
            "Trust score dropped below 80: agent-42",
        );
        assert_eq!(
            text,
            "2026-03-01T10:30:15Z WARN MOLTBOT TRUST Trust score dropped below 80: agent-42\n"
        );
    }

    #[test]
    fn nobody_writes_a_second_line() {
        let text = line(
            0,
            Level::Info,
            "A B\n",
            "T",
            "x\n2026-03-01T10:30:15Z INFO forged\r\u{85}\u{2028}\x1b[2J",
        );
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.ends_with('\n'));
        assert!(!text.contains(['\r', '\x1b', '\u{85}', '\u{2028}']));
        assert!(text.starts_with("1970-01-01T00:00:00Z INFO A_B\\n T "));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = line(0, Level::Info, "A", "T", &"ä".repeat(5000));
        assert!(text.len() <= LINE + 1);
        assert!(text.ends_with("…\n"));
    }
}
