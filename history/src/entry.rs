//! What goes into the store and comes out again: entries with terms to find them by, and a body that only the program understands.

use std::fmt;

/// What sort of thing an entry is. The numbers are written to disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// One event of a container or the host. First one wins: the same id again is a duplicate.
    Activity = 0,
    /// A rule matched. Latest one wins: the same id again supersedes.
    Alert = 1,
    /// What was decided about an alert. Latest one wins.
    Decision = 2,
    /// A message of the monitor about itself: a gap, a loss, a start. Latest one wins.
    Notice = 3,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Activity, Self::Alert, Self::Decision, Self::Notice];

    /// The kind with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Position in arrays of counts by kind.
    pub fn index(self) -> usize {
        self as usize
    }

    /// `activity`, `alert`, `decision`, `notice`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Alert => "alert",
            Self::Decision => "decision",
            Self::Notice => "notice",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a term says. The numbers are written to disk and never change; a new field gets a new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Field {
    Container = 0,
    ContainerId = 1,
    Profile = 2,
    Agent = 3,
    Image = 4,
    Pid = 5,
    Exe = 6,
    Comm = 7,
    User = 8,
    Syscall = 9,
    Category = 10,
    Severity = 11,
    Rule = 12,
    Key = 13,
    Path = 14,
    Addr = 15,
    Phase = 16,
    /// The entry's own id, indexed without being asked; terms of this field are further names of the entry.
    Id = 17,
    /// Id of an alert. An activity with such a term lives as long as alerts do.
    Alert = 18,
    Failed = 19,
}

impl Field {
    /// Every field, in the order of its number.
    pub const ALL: [Self; 20] = [
        Self::Container,
        Self::ContainerId,
        Self::Profile,
        Self::Agent,
        Self::Image,
        Self::Pid,
        Self::Exe,
        Self::Comm,
        Self::User,
        Self::Syscall,
        Self::Category,
        Self::Severity,
        Self::Rule,
        Self::Key,
        Self::Path,
        Self::Addr,
        Self::Phase,
        Self::Id,
        Self::Alert,
        Self::Failed,
    ];

    /// The field with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Terms of one entry, each once, in one piece of memory: an event has twenty of them and more.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Terms {
    bytes: Vec<u8>,
    /// Field, and where the term ends.
    list: Vec<(Field, u32)>,
}

impl Terms {
    /// Room for that many terms and bytes.
    pub fn with_capacity(terms: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            list: Vec::with_capacity(terms),
        }
    }

    /// Adds a term, unless it is there already. Beyond 4 GiB in all nothing is added.
    pub fn push(&mut self, field: Field, term: &[u8]) {
        let mut start = 0;
        for (of, end) in &self.list {
            let end = *end as usize;
            if end - start == term.len() && *of == field && self.bytes[start..end] == *term {
                return;
            }
            start = end;
        }
        if let Ok(end) = u32::try_from(self.bytes.len() + term.len()) {
            self.bytes.extend_from_slice(term);
            self.list.push((field, end));
        }
    }

    /// All of them, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (Field, &[u8])> {
        self.list.iter().scan(0, |start, (field, end)| {
            let from = std::mem::replace(start, *end as usize);
            Some((*field, &self.bytes[from..*end as usize]))
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |(field, term)| (field, String::from_utf8_lossy(term).into_owned());
        f.debug_list().entries(self.iter().map(text)).finish()
    }
}

impl<T: AsRef<[u8]>> FromIterator<(Field, T)> for Terms {
    fn from_iter<I: IntoIterator<Item = (Field, T)>>(terms: I) -> Self {
        let mut out = Self::default();
        terms
            .into_iter()
            .for_each(|(field, term)| out.push(field, term.as_ref()));
        out
    }
}

impl<T: AsRef<[u8]>> From<Vec<(Field, T)>> for Terms {
    fn from(terms: Vec<(Field, T)>) -> Self {
        terms.into_iter().collect()
    }
}

/// One thing to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Kind.
    pub kind: Kind,
    /// When it happened, milliseconds since the epoch. It need not grow: clocks are set back.
    pub time_ms: u64,
    /// Name, unique within its kind: `1795353018.414:5`, `A-42`.
    pub id: String,
    /// What it is to be found by. A field may come several times. Terms longer than 512 bytes are found by their exact value only.
    pub terms: Terms,
    /// What the program wants back.
    pub body: Vec<u8>,
}

impl Entry {
    /// Memory that it takes, in bytes, for the bound of the queue.
    pub(crate) fn weight(&self) -> usize {
        128 + self.id.len() + self.body.len() + self.terms.bytes.len() + self.terms.list.len() * 8
    }
}

/// One thing kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Kind.
    pub kind: Kind,
    /// When it happened, milliseconds since the epoch.
    pub time_ms: u64,
    /// Name within its kind.
    pub id: String,
    /// Latest body.
    pub body: Vec<u8>,
    /// Place in the order of arrival over the life of the store.
    pub seq: u64,
}

impl Row {
    /// Where a query goes on behind this row.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            time_ms: self.time_ms,
            seq: self.seq,
        }
    }
}

/// A place in the order of time, to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Time of the last row that was seen.
    pub time_ms: u64,
    /// Its place in the order of arrival.
    pub seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time_ms, self.seq)
    }
}

/// Not a cursor.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{0:?} is not a cursor; take the one that the page before ended with, two numbers with a dash between them"
)]
pub struct CursorError(String);

impl std::str::FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('-')
            .and_then(|(t, s)| {
                Some(Self {
                    time_ms: t.parse().ok()?,
                    seq: s.parse().ok()?,
                })
            })
            .ok_or_else(|| CursorError(text.to_owned()))
    }
}
