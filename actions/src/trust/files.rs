//! The files of the trust directory: one for each agent, replaced atomically, and the event log.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::{EVENTS, SCHEMA, TrustChange, TrustState};
use crate::seclog::SecurityLogError;

/// Largest file that is read; one of 200 reasons has about 80 KB.
const SIZE: u64 = 4 << 20;

/// The trust files could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file or the directory.
    #[error("cannot {tried} {path}: {source}")]
    Io {
        /// Verb.
        tried: &'static str,
        /// File.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Not a trust file of ours.
    #[error(
        "{path} is not a trust file of schema {SCHEMA} ({why}); it was set aside as {aside}, and the agent starts anew"
    )]
    Unreadable {
        /// File.
        path: String,
        /// Why.
        why: String,
        /// New name.
        aside: String,
    },
    /// The security log.
    #[error(transparent)]
    Log(SecurityLogError),
    /// No such agent.
    #[error("no agent {0:?} has a trust score; `syscall-monitor trust list` shows all")]
    Unknown(String),
}

fn error(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TrustError {
    let path = path.display().to_string();
    move |source| TrustError::Io {
        tried,
        path,
        source,
    }
}

/// Can this agent's name be a file's name? The enricher makes it so; this looks again, since a label is hostile data.
pub(super) fn is_safe(agent: &str) -> bool {
    !agent.is_empty()
        && agent.len() <= 200
        && !agent.starts_with('.')
        && !agent.contains(['/', '\\'])
        && !agent.chars().any(char::is_control)
}

pub(super) fn load(
    dir: &Path,
) -> Result<(BTreeMap<String, TrustState>, Vec<TrustError>), TrustError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)
        .map_err(error("make the directory", dir))?;
    let mut agents = BTreeMap::new();
    let mut problems = Vec::new();
    for entry in fs::read_dir(dir)
        .map_err(error("read the directory", dir))?
        .flatten()
    {
        let path = entry.path();
        let name = entry.file_name();
        let Some(agent) = name
            .to_str()
            .and_then(|n| n.strip_suffix(".json"))
            .filter(|a| is_safe(a))
        else {
            continue;
        };
        if !entry.file_type().is_ok_and(|t| t.is_file()) {
            continue;
        }
        let read = match entry.metadata() {
            Ok(m) if m.len() > SIZE => Err(format!("it has {} bytes", m.len())),
            _ => fs::read(&path).map_err(|e| e.to_string()),
        };
        let state = read.and_then(|text| {
            serde_json::from_slice::<TrustState>(&text).map_err(|e| e.to_string())
        });
        match state {
            Ok(state) if state.schema == SCHEMA && state.agent == agent => {
                agents.insert(agent.to_owned(), state);
            }
            Ok(state) => problems.push(set_aside(
                &path,
                format!("schema {:?} of agent {:?}", state.schema, state.agent),
            )),
            Err(why) => problems.push(set_aside(&path, why)),
        }
    }
    Ok((agents, problems))
}

fn set_aside(path: &Path, why: String) -> TrustError {
    let aside = path.with_extension("unreadable");
    match fs::rename(path, &aside) {
        Ok(()) => TrustError::Unreadable {
            path: path.display().to_string(),
            why,
            aside: aside.display().to_string(),
        },
        Err(e) => error("set aside", path)(e),
    }
}

/// Writes an agent's file: a new one beside it, synced, then renamed over it. A reader sees the old or the new one, whole.
pub(super) fn save(dir: &Path, state: &TrustState) -> Result<(), TrustError> {
    let path = dir.join(format!("{}.json", state.agent));
    let beside = dir.join(format!(".{}.new", state.agent));
    let mut text = serde_json::to_vec_pretty(state).map_err(|e| error("write", &path)(e.into()))?;
    text.push(b'\n');
    // A leftover of a crash.
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&beside)
        .map_err(error("create", &beside))?;
    // The umask may have taken the group's right to read.
    file.set_permissions(fs::Permissions::from_mode(0o640))
        .map_err(error("set the mode of", &beside))?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(error("write", &beside))?;
    fs::rename(&beside, &path).map_err(error("replace", &path))?;
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(error("sync", dir))
}

/// Appends to the event log, in one write.
pub(super) fn append(dir: &Path, change: &TrustChange) -> Result<(), TrustError> {
    let path = dir.join(EVENTS);
    let mut line = serde_json::to_vec(change).map_err(|e| error("write", &path)(e.into()))?;
    line.push(b'\n');
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .map_err(error("open", &path))?;
    file.write_all(&line).map_err(error("append to", &path))
}
