//! One record of an event as `service: auditd` rules see it.
//!
//! SigmaHQ writes these rules for single records: `a0` is an argument in EXECVE and a register in SYSCALL, and a
//! selection never mixes two records. Our own fields answer as well, so that such a rule can be narrowed to a container.

use std::borrow::Cow;

use collector::record::{Record, RecordType};
use collector::text::to_text;
use rsigma_eval::{Event, EventValue};
use serde_json::Value;

use crate::fields;
use crate::view::ActivityView;

/// One record under evaluation, with the activity that it belongs to.
pub(crate) struct RecordView<'a> {
    record: Record<'a>,
    activity: &'a ActivityView<'a>,
}

impl<'a> RecordView<'a> {
    pub(crate) fn new(record: Record<'a>, activity: &'a ActivityView<'a>) -> Self {
        Self { record, activity }
    }

    /// Value of a field of the record itself, decoded.
    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.record.get(name)?.decode() {
            Cow::Borrowed(bytes) => Some(to_text(bytes)),
            Cow::Owned(bytes) => Some(Cow::Owned(to_text(&bytes).into_owned())),
        }
    }

    /// Number and name of the call: rules in the wild use either.
    fn syscall(&self) -> Option<EventValue<'_>> {
        let number = EventValue::Str(self.text("syscall")?);
        match self.activity.activity.syscall.as_ref() {
            Some(call) => Some(EventValue::Array(vec![
                number,
                EventValue::Str(Cow::Borrowed(&call.name)),
            ])),
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
