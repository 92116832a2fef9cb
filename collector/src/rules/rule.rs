//! One rule: `struct audit_rule_data` of `linux/audit.h`, taken apart.

use netlink_packet_audit::constants as c;

/// Fields that the kernel takes in one rule.
pub(super) const MAX_FIELDS: usize = c::AUDIT_MAX_FIELDS;
/// The byte between several keys of one rule (`AUDIT_KEY_SEPARATOR` of libaudit).
pub(super) const KEY_SEPARATOR: u8 = 1;
/// `AUDIT_SADDR_FAM`; netlink-packet-audit does not have it.
pub(super) const SADDR_FAM: u32 = 113;
/// `AUDIT_FILTER_URING_EXIT`; where netlink-packet-audit has the number of filters of older kernels.
pub(super) const FILTER_URING_EXIT: u32 = 7;

/// The kernel's list that a rule belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// Messages from user space.
    User,
    /// Making of a task.
    Task,
    /// End of a system call.
    Exit,
    /// Record types to leave out.
    Exclude,
    /// File systems to leave out.
    Filesystem,
    /// End of an io_uring operation; the mask then holds operations (`IORING_OP_*`).
    IoUring,
    /// A list that has no name here.
    Other(u32),
}

impl List {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::User => c::AUDIT_FILTER_USER,
            Self::Task => c::AUDIT_FILTER_TASK,
            Self::Exit => c::AUDIT_FILTER_EXIT,
            Self::Exclude => c::AUDIT_FILTER_TYPE,
            Self::Filesystem => c::AUDIT_FILTER_FS,
            Self::IoUring => FILTER_URING_EXIT,
            Self::Other(number) => number,
        }
    }

    pub(super) fn from_number(number: u32) -> Self {
        match number {
            c::AUDIT_FILTER_USER => Self::User,
            c::AUDIT_FILTER_TASK => Self::Task,
            c::AUDIT_FILTER_EXIT => Self::Exit,
            c::AUDIT_FILTER_TYPE => Self::Exclude,
            c::AUDIT_FILTER_FS => Self::Filesystem,
            FILTER_URING_EXIT => Self::IoUring,
            number => Self::Other(number),
        }
    }

    /// Do rules of this list name system calls (or operations)?
    pub fn has_syscalls(self) -> bool {
        matches!(self, Self::Exit | Self::IoUring | Self::Other(_))
    }
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// No record.
    Never,
    /// Obsolete.
    Possible,
    /// A record.
    Always,
    /// One that has no name here.
    Other(u32),
}

impl Action {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Never => c::AUDIT_NEVER,
            Self::Possible => c::AUDIT_POSSIBLE,
            Self::Always => c::AUDIT_ALWAYS,
            Self::Other(number) => number,
        }
    }

    pub(super) fn from_number(number: u32) -> Self {
        match number {
            c::AUDIT_NEVER => Self::Never,
            c::AUDIT_POSSIBLE => Self::Possible,
            c::AUDIT_ALWAYS => Self::Always,
            number => Self::Other(number),
        }
    }
}

/// How a field's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `&`: any of the bits.
    AnyBit,
    /// `&=`: all of the bits.
    AllBits,
    Other(u32),
}

impl Op {
    pub(super) const NAMED: [(Self, u32, &str); 8] = [
        // Longer signs first: the parser takes the first that fits.
        (Self::AllBits, c::AUDIT_BIT_TEST, "&="),
        (Self::NotEqual, c::AUDIT_NOT_EQUAL, "!="),
        (Self::LessOrEqual, c::AUDIT_LESS_THAN_OR_EQUAL, "<="),
        (Self::GreaterOrEqual, c::AUDIT_GREATER_THAN_OR_EQUAL, ">="),
        (Self::Equal, c::AUDIT_EQUAL, "="),
        (Self::Less, c::AUDIT_LESS_THAN, "<"),
        (Self::Greater, c::AUDIT_GREATER_THAN, ">"),
        (Self::AnyBit, c::AUDIT_BIT_MASK, "&"),
    ];

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Other(number) => number,
            named => Self::NAMED
                .iter()
                .find(|(op, ..)| *op == named)
                .map_or(0, |(_, number, _)| *number),
        }
    }

    pub(super) fn from_number(number: u32) -> Self {
        Self::NAMED
            .iter()
            .find(|(_, n, _)| *n == number)
            .map_or(Self::Other(number), |(op, ..)| *op)
    }

    /// auditctl's sign for it.
    pub fn sign(self) -> &'static str {
        Self::NAMED
            .iter()
            .find(|(op, ..)| *op == self)
            .map_or("?", |(.., sign)| sign)
    }
}

/// Which field of a task, call or file is compared (`AUDIT_PID` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldId(pub u32);

#[allow(missing_docs)]
impl FieldId {
    pub const PID: Self = Self(c::AUDIT_PID);
    pub const ARCH: Self = Self(c::AUDIT_ARCH);
    pub const MSGTYPE: Self = Self(c::AUDIT_MSGTYPE);
    pub const DEVMINOR: Self = Self(c::AUDIT_DEVMINOR);
    pub const EXIT: Self = Self(c::AUDIT_EXIT);
    pub const PATH: Self = Self(c::AUDIT_WATCH);
    pub const PERM: Self = Self(c::AUDIT_PERM);
    pub const DIR: Self = Self(c::AUDIT_DIR);
    pub const FIELD_COMPARE: Self = Self(c::AUDIT_FIELD_COMPARE);
    pub const EXE: Self = Self(c::AUDIT_EXE);
    pub const KEY: Self = Self(c::AUDIT_FILTERKEY);

    /// Is its value a string (the number is then the string's length)? As `audit_data_to_entry` in `kernel/auditfilter.c`.
    pub fn is_text(self) -> bool {
        matches!(
            self.0,
            c::AUDIT_SUBJ_USER..=c::AUDIT_SUBJ_CLR
                | c::AUDIT_OBJ_USER..=c::AUDIT_OBJ_LEV_HIGH
                | c::AUDIT_WATCH
                | c::AUDIT_DIR
                | c::AUDIT_EXE
                | c::AUDIT_FILTERKEY
        )
    }
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// A number; negative ones as the kernel holds them.
    Number(u32),
    /// A string, without a NUL.
    Text(Vec<u8>),
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// What.
    pub id: FieldId,
    /// How.
    pub op: Op,
    /// With what.
    pub value: Value,
}

impl Field {
    /// `id = number`.
    pub fn number(id: FieldId, number: u32) -> Self {
        Self {
            id,
            op: Op::Equal,
            value: Value::Number(number),
        }
    }

    /// `id = text`.
    pub fn text(id: FieldId, text: impl Into<Vec<u8>>) -> Self {
        Self {
            id,
            op: Op::Equal,
            value: Value::Text(text.into()),
        }
    }
}

/// The system calls (or io_uring operations) of a rule: 2048 bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SyscallMask(pub(super) [u32; c::AUDIT_BITMASK_SIZE]);

impl SyscallMask {
    /// Bits in it.
    pub const BITS: u32 = 32 * c::AUDIT_BITMASK_SIZE as u32;
    /// Words that hold calls alone. The top half of the last one holds the classes of calls that `kernel/auditfilter.c` turns
    /// into calls when a rule is loaded, so that a full mask comes back from the kernel without them.
    const WHOLE_WORDS: usize = c::AUDIT_BITMASK_SIZE - 1;
    const LAST_WORD_CALLS: u32 = 0xffff;

    /// No call.
    pub fn none() -> Self {
        Self([0; c::AUDIT_BITMASK_SIZE])
    }

    /// Every call, with every bit set, as auditctl sends it.
    pub fn all() -> Self {
        Self([u32::MAX; c::AUDIT_BITMASK_SIZE])
    }

    /// Are the calls the same, whatever the bits of the classes?
    pub fn same_calls(&self, other: &Self) -> bool {
        let last = |mask: &Self| mask.0[Self::WHOLE_WORDS] & Self::LAST_WORD_CALLS;
        (self.is_all() && other.is_all())
            || (self.0[..Self::WHOLE_WORDS] == other.0[..Self::WHOLE_WORDS]
                && last(self) == last(other))
    }

    /// Adds a call; `false` when its number does not fit.
    pub fn insert(&mut self, number: u32) -> bool {
        self.0
            .get_mut(number as usize / 32)
            .map(|word| *word |= 1 << (number % 32))
            .is_some()
    }

    /// Adds every call of another mask.
    pub fn union(&mut self, other: &Self) {
        self.0
            .iter_mut()
            .zip(&other.0)
            .for_each(|(word, other)| *word |= other);
    }

    /// Is the call in it?
    pub fn contains(&self, number: u32) -> bool {
        self.0
            .get(number as usize / 32)
            .is_some_and(|word| word & (1 << (number % 32)) != 0)
    }

    /// Is every call in it?
    pub fn is_all(&self) -> bool {
        self.0[..Self::WHOLE_WORDS]
            .iter()
            .all(|word| *word == u32::MAX)
    }

    /// Is it empty?
    pub fn is_none(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The numbers in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..Self::BITS).filter(|number| self.contains(*number))
    }
}

impl std::fmt::Debug for SyscallMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_all() {
            f.write_str("all")
        } else {
            f.debug_set().entries(self.iter()).finish()
        }
    }
}

/// A kernel rule. Its fields are at most 64, which every way to make one checks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    pub(super) list: List,
    pub(super) action: Action,
    pub(super) prepend: bool,
    pub(super) syscalls: SyscallMask,
    pub(super) fields: Vec<Field>,
}

impl Rule {
    /// A rule without a condition.
    pub fn new(list: List, action: Action, syscalls: SyscallMask) -> Self {
        Self {
            list,
            action,
            prepend: false,
            syscalls,
            fields: Vec::new(),
        }
    }

    /// Adds a condition; `false` when there are 64 already or the string holds a NUL, and nothing is added.
    #[must_use]
    pub fn push(&mut self, field: Field) -> bool {
        let fits = self.fields.len() < MAX_FIELDS
            && match &field.value {
                Value::Text(text) => field.id.is_text() && !text.contains(&0),
                Value::Number(_) => !field.id.is_text(),
            };
        if fits {
            self.fields.push(field);
        }
        fits
    }

    /// Puts the rule in front of its list when it is loaded (`-A`). The kernel does not remember this.
    pub fn set_prepend(&mut self, prepend: bool) {
        self.prepend = prepend;
    }

    /// Is it to be put in front of its list?
    pub fn prepend(&self) -> bool {
        self.prepend
    }

    /// The kernel's list.
    pub fn list(&self) -> List {
        self.list
    }

    /// What it does.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The system calls.
    pub fn syscalls(&self) -> &SyscallMask {
        &self.syscalls
    }

    /// The conditions, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The string of the first field of that kind.
    pub fn text_of(&self, id: FieldId) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| field.id == id)
            .and_then(|field| match &field.value {
                Value::Text(text) => Some(&text[..]),
                Value::Number(_) => None,
            })
    }

    /// The number of the first field of that kind.
    pub fn number_of(&self, id: FieldId) -> Option<u32> {
        self.fields
            .iter()
            .find(|field| field.id == id)
            .and_then(|field| match field.value {
                Value::Number(number) => Some(number),
                Value::Text(_) => None,
            })
    }

    /// Its keys.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.text_of(FieldId::KEY)
            .into_iter()
            .flat_map(|keys| keys.split(|byte| *byte == KEY_SEPARATOR))
            .filter(|key| !key.is_empty())
    }

    /// Is it ours: does a key start with `sm-`?
    pub fn is_ours(&self) -> bool {
        self.keys()
            .any(|key| key.starts_with(super::KEY_PREFIX.as_bytes()))
    }

    /// Do two rules mean the same to the kernel? (Where in the list it is to be put is no part of a rule.)
    pub fn same_as(&self, other: &Self) -> bool {
        self.list == other.list
            && self.action == other.action
            && self.syscalls.same_calls(&other.syscalls)
            && self.fields == other.fields
    }
}
