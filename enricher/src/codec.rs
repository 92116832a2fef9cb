//! An activity as bytes: the records as they came, and what cannot be had from them again.
//!
//! The form is a version byte and postcard. A reader of a later version must go on reading the earlier ones: postcard writes the
//! fields of a struct one behind the other, so a later form is the earlier one with more behind it.

use std::borrow::Cow;
use std::sync::Arc;

use collector::{Event, RecordType};
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::activity::{Activity, Ancestor, Attribution, Phase};
use crate::container::{Container, Engine, Profile};
use crate::derive;

/// Version of the form that is written.
const VERSION: u8 = 2;

/// The bytes are no activity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a later version of this program.
    #[error(
        "an event of form {0} cannot be read by this version, which knows forms up to {VERSION}; use the version that wrote it"
    )]
    Version(u8),
    /// Not what was written.
    #[error(
        "an event cannot be read, its bytes are damaged ({0}); `history verify` finds out what else is"
    )]
    Damaged(String),
}

/// Form 2.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    first: StoredFirst<'a>,
    health_check: bool,
    /// Item, and where its links lead.
    #[serde(borrow)]
    real_paths: Vec<(u32, Cow<'a, str>)>,
}

/// Form 1.
#[derive(Serialize, Deserialize)]
struct StoredFirst<'a> {
    #[serde(borrow)]
    event: Cow<'a, Event>,
    phase: Phase,
    entered: bool,
    attribution: Attribution,
    #[serde(borrow)]
    container: Option<StoredContainer<'a>>,
    #[serde(borrow)]
    process: StoredProcess<'a>,
    /// Item, and what differs from the records.
    #[serde(borrow)]
    paths: Vec<StoredPath<'a>>,
    target_container: Option<Cow<'a, str>>,
    alerts: Cow<'a, [CompactString]>,
}

/// What an event shows of its container; labels and mounts are the registry's.
#[derive(Serialize, Deserialize)]
struct StoredContainer<'a> {
    id: Cow<'a, str>,
    name: Option<Cow<'a, str>>,
    image: Option<Cow<'a, str>>,
    engine: Engine,
    profile: Option<Profile>,
    agent: Option<Cow<'a, str>>,
    privileged: bool,
    init_pid: u32,
}

#[derive(Serialize, Deserialize)]
struct StoredProcess<'a> {
    /// `None` where the records say it.
    exe: Option<Cow<'a, str>>,
    comm: Option<Cow<'a, str>>,
    argv: Option<Cow<'a, [String]>>,
    user: Option<Cow<'a, str>>,
    previous_exe: Option<Cow<'a, str>>,
    ancestors: Cow<'a, [Ancestor]>,
}

#[derive(Serialize, Deserialize)]
struct StoredPath<'a> {
    item: u32,
    path: Option<Cow<'a, str>>,
    host_path: Option<Cow<'a, str>>,
    undeclared: bool,
}

/// postcard writing behind what is in a vector already.
struct Onto<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Onto<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl Activity {
    /// Appends the activity's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // What the records say is not written again: an exec has its arguments, a SYSCALL record exe and comm, and a name is
        // joined in the same way each time unless it started from a descriptor.
        let has = |kind| self.event.record(kind).is_some();
        let (argv, names) = (!has(RecordType::EXECVE), !has(RecordType::SYSCALL));
        let looked_up = self
            .syscall
            .as_ref()
            .is_some_and(|c| derive::dirfd(&c.name, &c.args).is_some());
        let paths = self.paths.iter().enumerate().filter_map(|(item, now)| {
            let path = StoredPath {
                item: u32::try_from(item).ok()?,
                path: looked_up.then(|| Cow::from(&now.path)),
                host_path: now.host_path.as_deref().map(Cow::from),
                undeclared: now.undeclared,
            };
            (path.path.is_some() || path.host_path.is_some() || path.undeclared).then_some(path)
        });
        let first = StoredFirst {
            event: Cow::Borrowed(&self.event),
            phase: self.phase,
            entered: self.entered,
            attribution: self.attribution,
            container: self.container.as_ref().map(|c| StoredContainer {
                id: Cow::from(&c.id),
                name: c.name.as_deref().map(Cow::from),
                image: c.image.as_deref().map(Cow::from),
                engine: c.engine,
                profile: c.profile,
                agent: c.agent.as_deref().map(Cow::from),
                privileged: c.privileged,
                init_pid: c.init_pid,
            }),
            process: StoredProcess {
                exe: names.then(|| Cow::from(&self.process.exe)),
                comm: names.then(|| Cow::from(&self.process.comm)),
                argv: argv.then(|| Cow::from(&self.process.argv)),
                user: self.process.user.as_deref().map(Cow::from),
                previous_exe: self.process.previous_exe.as_deref().map(Cow::from),
                ancestors: Cow::from(&self.process.ancestors),
            },
            paths: paths.collect(),
            target_container: self
                .target
                .as_ref()
                .and_then(|t| t.container.as_deref().map(Cow::from)),
            alerts: Cow::from(&self.alerts),
        };
        let stored = Stored {
            first,
            health_check: self.health_check,
            real_paths: self
                .paths
                .iter()
                .enumerate()
                .filter_map(|(item, p)| {
                    Some((
                        u32::try_from(item).ok()?,
                        Cow::from(p.real_path.as_deref()?),
                    ))
                })
                .collect(),
        };
        let start = out.len();
        out.push(VERSION);
        if let Err(error) = postcard::serialize_with_flavor(&stored, Onto(out)) {
            // postcard fails on values whose length it is not told; there are none here.
            tracing::error!(%error, "an event could not be written");
            out.truncate(start);
        }
    }

    /// Reads what [`Activity::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are damaged or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (version, rest) = bytes
            .split_first()
            .ok_or_else(|| DecodeError::Damaged("it is empty".to_owned()))?;
        let Stored {
            first: stored,
            health_check,
            real_paths,
        } = match *version {
            0 => return Err(DecodeError::Damaged("no version".to_owned())),
            1 => Stored {
                first: read(rest)?,
                health_check: false,
                real_paths: Vec::new(),
            },
            VERSION => read(rest)?,
            later => return Err(DecodeError::Version(later)),
        };
        let mut activity = derive::derive(stored.event.into_owned());
        activity.phase = stored.phase;
        activity.entered = stored.entered;
        activity.health_check = health_check;
        activity.attribution = stored.attribution;
        activity.container = stored.container.map(|c| {
            Arc::new(Container {
                name: c.name.map(Cow::into_owned),
                image: c.image.map(Cow::into_owned),
                engine: c.engine,
                profile: c.profile,
                agent: c.agent.map(Cow::into_owned),
                privileged: c.privileged,
                init_pid: c.init_pid,
                ..Container::from_id(c.id)
            })
        });
        let process = &mut activity.process;
        let set = |to: &mut String, from: Option<Cow<'_, str>>| {
            if let Some(from) = from {
                *to = from.into_owned();
            }
        };
        set(&mut process.exe, stored.process.exe);
        set(&mut process.comm, stored.process.comm);
        if let Some(argv) = stored.process.argv {
            process.argv = argv.into_owned();
        }
        process.user = stored.process.user.map(Cow::into_owned);
        process.previous_exe = stored.process.previous_exe.map(Cow::into_owned);
        process.ancestors = stored.process.ancestors.into_owned();
        for path in stored.paths {
            if let Some(to) = activity.paths.get_mut(path.item as usize) {
                set(&mut to.path, path.path);
                to.host_path = path.host_path.map(Cow::into_owned);
                to.undeclared = path.undeclared;
            }
        }
        for (item, real) in real_paths {
            if let Some(to) = activity.paths.get_mut(item as usize) {
                to.real_path = Some(real.into_owned());
            }
        }
        if let Some(target) = &mut activity.target {
            target.container = stored.target_container.map(Cow::into_owned);
        }
        activity.alerts = stored.alerts.into_owned();
        Ok(activity)
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    postcard::from_bytes(bytes).map_err(|e| DecodeError::Damaged(e.to_string()))
}
