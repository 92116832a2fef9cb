//! What sensor and courier say to each other: a length of four bytes, big endian, then that many bytes of JSON.
//!
//! Neither side trusts the other with its memory: a frame has a limit, and one that cannot be read ends the conversation.

use std::io;

use enricher::docker::DockerUpdate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::docker::{Before, Cut, PauseFailure, Paused};
use crate::freeze::How;
use crate::message::Message;
use crate::notify::Outcome;
use crate::phone::Press;
use crate::quarantine::Quarantine;
use crate::trust::TrustChange;

/// Longest frame, bytes.
pub const FRAME: usize = 4 << 20;
/// Most of a container's output that goes into one answer, bytes; JSON makes six of one at worst.
pub const LOG_BYTES: usize = 512 << 10;

/// How the container is held while Docker is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handover {
    /// Frozen by another file than Docker's: pause at once.
    Frozen,
    /// Stopped by signals ([`crate::freeze::handover`]), because Docker's file is ours: pause at once as well.
    Stopped,
    /// Not held at all (it could not be frozen directly): Docker's pause is the freeze.
    None,
}

impl Handover {
    /// What a freeze of this kind needs.
    pub fn of(how: Option<How>) -> Self {
        match how {
            None => Self::None,
            Some(how) if how.needs_handover() => Self::Stopped,
            Some(_) => Self::Frozen,
        }
    }
}

/// Sensor to courier.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "to")]
pub enum ToCourier {
    /// Deliver a message of the outbox.
    Deliver {
        /// Number in the outbox.
        queue_id: u64,
        /// Name of the destination.
        destination: String,
        /// What.
        message: Box<Message>,
        /// It may have arrived before: say so in it.
        repeat: bool,
        /// The service's id of the message that it takes the place of.
        #[serde(default)]
        edit: Option<String>,
    },
    /// Let Docker pause a container.
    Pause {
        /// Full id.
        container_id: String,
        /// How it is held meanwhile.
        handover: Handover,
    },
    /// Set the restart policy to `no`; asked for when what was found is durable.
    DisableRestart {
        /// Full id.
        container_id: String,
    },
    /// Take it off its networks; asked for when what was found is durable.
    Cut {
        /// Full id.
        container_id: String,
        /// Leave it in those that would not come back exactly.
        exact_only: bool,
        /// As it was found.
        was: Box<Before>,
    },
    /// Kill it.
    Stop {
        /// Full id.
        container_id: String,
    },
    /// Restore networks and restart policy, and unpause.
    Release {
        /// With what was found.
        quarantine: Box<Quarantine>,
    },
    /// Ask Docker about a container.
    Inspect {
        /// Id or name.
        container_id: String,
    },
    /// Ask Docker for what it knows of a quarantined container.
    Describe {
        /// Full id.
        container_id: String,
    },
    /// Make an image of a quarantined container's files.
    Commit {
        /// Full id.
        container_id: String,
        /// Name of the image.
        repo: String,
        /// Its tag.
        tag: String,
    },
    /// A press of a button was handled: it is confirmed, and who pressed is told.
    Handled {
        /// Number of the update.
        update_id: i64,
        /// What came of it.
        text: String,
    },
    /// Run the trust hook for a change.
    TrustHook {
        /// What changed.
        change: Box<TrustChange>,
    },
    /// Finish what runs (within a limit), then end.
    Shutdown,
}

/// What a release did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseReport {
    /// Each thing that was done or was not needed, in words for a person.
    pub said: Vec<String>,
    /// Everything on Docker's side is as it was before, or cannot be since the container is gone.
    pub complete: bool,
    /// The container is gone.
    pub gone: bool,
    /// Docker did not answer in time, and nothing was changed.
    #[serde(default)]
    pub unanswered: bool,
    /// Docker holds it paused and cannot unpause it, since the runtime finds it running: somebody thawed Docker's own file.
    #[serde(default)]
    pub adrift: bool,
}

/// What Docker says of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Full id.
    pub container_id: String,
    /// Name without the leading slash.
    pub name: String,
    /// `running`, `paused`, `exited`, … in Docker's words; empty when it did not say.
    pub status: String,
    /// Host pid of the first process, 0 when it does not run.
    pub init_pid: u32,
    /// Digest of the image.
    pub image_id: Option<String>,
    /// Restart policy and networks.
    pub before: Before,
}

/// Answer of a trust hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookResult {
    /// Exit status; `None` when it was ended by its time limit or a signal, or was not started.
    pub exit: Option<i32>,
    /// `Trust Score: N` from its output.
    pub base_score: Option<u8>,
    /// What went wrong.
    pub why: Option<String>,
}

/// Courier to sensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum FromCourier {
    /// News of the engine.
    Docker {
        /// What.
        update: Box<DockerUpdate>,
    },
    /// A delivery ended.
    Delivered {
        /// Number in the outbox.
        queue_id: u64,
        /// How.
        outcome: Outcome,
    },
    /// A pause ended.
    Paused {
        /// Full id.
        container_id: String,
        /// How.
        result: Result<Paused, PauseFailure>,
    },
    /// The restart policy was set to `no`, or was not.
    RestartDisabled {
        /// Full id.
        container_id: String,
        /// Why not.
        result: Result<(), String>,
    },
    /// It was taken off its networks, or was not.
    Cut {
        /// Full id.
        container_id: String,
        /// What came of it, or why it failed.
        result: Result<Cut, String>,
    },
    /// It was killed, or was not.
    Stopped {
        /// Full id.
        container_id: String,
        /// Why not.
        result: Result<(), String>,
    },
    /// A release ended.
    Released {
        /// Key of the quarantine.
        key: String,
        /// Full id.
        container_id: String,
        /// What was done.
        report: ReleaseReport,
    },
    /// Docker's answer.
    Inspected {
        /// As asked.
        container_id: String,
        /// What, or why not.
        result: Result<Box<Inspection>, String>,
    },
    /// What Docker knows of a container, for its evidence.
    Described {
        /// As asked.
        container_id: String,
        /// The answer to `inspect` as JSON, or why there is none.
        inspect: Result<String, String>,
        /// The last of its output, [`LOG_BYTES`] at most, or why there is none.
        log: Result<String, String>,
    },
    /// An image was made of it, or was not.
    Committed {
        /// Full id.
        container_id: String,
        /// `sha256:…` of the image, or why there is none.
        result: Result<String, String>,
    },
    /// Somebody pressed a button below a message.
    Pressed {
        /// What Telegram says of it.
        press: Press,
    },
    /// The trust hook ended.
    TrustHooked {
        /// Agent.
        agent: String,
        /// How.
        result: HookResult,
    },
}

/// Writes one frame.
///
/// # Errors
/// `InvalidInput` for a frame that is longer than [`FRAME`]; what the stream says.
pub async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let length = frame.len() - 4;
    if length > FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a frame of {length} bytes is longer than {FRAME}"),
        ));
    }
    let head = u32::try_from(length)
        .map_err(io::Error::other)?
        .to_be_bytes();
    frame[..4].copy_from_slice(&head);
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// Reads one frame; `None` at the end of the conversation. Not to be dropped halfway: keep it in a task of its own.
///
/// # Errors
/// `InvalidData` for a frame that is too long or cannot be read; what the stream says.
pub async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    match stream.read_exact(&mut head).await {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let length = u32::from_be_bytes(head) as usize;
    if length > FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes is longer than {FRAME}"),
        ));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    serde_json::from_slice(&body)
        .map(Some)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
