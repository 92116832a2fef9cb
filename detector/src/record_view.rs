//! One record of an event as `service: auditd` rules see it.
//!
//! SigmaHQ writes these rules for single records: `a0` is an argument in EXECVE and a register in SYSCALL, and a
//! selection never mixes two records. Our own fields answer as well, so that such a rule can be narrowed to a container.

use std::borrow::Cow;
use std::cell::RefCell;

use collector::record::{Fields, RawValue, Record, RecordType};
use collector::text::to_text;
use rsigma_eval::{Event, EventValue};
use serde_json::Value;
use smallvec::SmallVec;

use crate::view::ActivityView;
use crate::{calls, fields};

/// Fields with their names.
type Passed<'a> = SmallVec<[(&'a [u8], RawValue<'a>); 32]>;

/// One record under evaluation, with the activity that it belongs to.
pub(crate) struct RecordView<'a> {
    record: Record<'a>,
    /// Fields that were passed on the way to another one, and where to go on: the record is read once, whoever asks.
    read: RefCell<(Passed<'a>, Fields<'a>)>,
    activity: &'a ActivityView<'a>,
}

impl<'a> RecordView<'a> {
    pub(crate) fn new(record: Record<'a>, activity: &'a ActivityView<'a>) -> Self {
        Self {
            record,
            read: RefCell::new((SmallVec::new(), record.fields())),
            activity,
        }
    }

    /// The first field of that name.
    fn get(&self, name: &str) -> Option<RawValue<'a>> {
        let (seen, rest) = &mut *self.read.borrow_mut();
        let name = name.as_bytes();
        if let Some((_, value)) = seen.iter().find(|(n, _)| *n == name) {
            return Some(*value);
        }
        for field in rest {
            seen.push(field);
            if field.0 == name {
                return Some(field.1);
            }
        }
        None
    }

    /// Value of a field of the record itself, decoded.
    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.get(name)?.decode() {
            Cow::Borrowed(bytes) => Some(to_text(bytes)),
            Cow::Owned(bytes) => Some(Cow::Owned(to_text(&bytes).into_owned())),
        }
    }

    /// Number and name of the call: rules in the wild use either. Around an operation of a ring the record is of the call that
    /// was made meanwhile.
    fn syscall(&self) -> Option<EventValue<'_>> {
        let number = EventValue::Str(self.text("syscall")?);
        match self.activity.activity.syscall.as_ref() {
            Some(call) => {
                let within = call.within.as_deref();
                let own = within.filter(|_| self.record.kind == RecordType::SYSCALL);
                let meant = own.unwrap_or_else(|| calls::name(call));
                let also = own.is_none() && meant != call.name;
                let names = [meant, &call.name].into_iter().take(1 + usize::from(also));
                Some(EventValue::Array(
                    [number]
                        .into_iter()
                        .chain(names.map(|name| EventValue::Str(Cow::Borrowed(name))))
                        .collect(),
                ))
            }
            None => Some(number),
        }
    }
}

impl Event for RecordView<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        match path {
            "type" => Some(EventValue::Str(Cow::Owned(self.record.kind.to_string()))),
            "syscall" | "SYSCALL" => self.syscall(),
            // The enriched fields of an audit log in user words; unset is what ausearch prints for 4294967295.
            "AUID" if self.record.kind == RecordType::SYSCALL => match self.text("auid")? {
                auid if auid == "4294967295" => Some(EventValue::Str(Cow::Borrowed("unset"))),
                auid => Some(EventValue::Str(auid)),
            },
            _ if path.contains('.') || path == "phase" => self.activity.get_field(path),
            _ => self.text(path).map(EventValue::Str),
        }
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        self.all_string_values().iter().any(|text| pred(text))
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        self.record
            .fields()
            .map(|(_, value)| Cow::Owned(to_text(&value.decode()).into_owned()))
            .collect()
    }

    fn to_json(&self) -> Value {
        let known = fields::AUDITD
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.get_field(name)?.to_json())));
        Value::Object(known.collect())
    }
}
