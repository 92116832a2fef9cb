//! The kernel's bytes for a rule and back: `struct audit_rule_data`, `linux/audit.h`.

use netlink_packet_audit::RuleBuffer;
use netlink_packet_audit::constants::AUDIT_FILTER_PREPEND;

use super::rule::{Action, Field, FieldId, List, MAX_FIELDS, Op, Rule, SyscallMask, Value};
use crate::netlink::u32_at;

/// Length of the structure without its strings.
const FIXED_LEN: usize = 4 * (4 + 64 + 3 * MAX_FIELDS);

/// The bytes are no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They end too early.
    #[error("a rule of {0} bytes is cut")]
    Cut(usize),
    /// More fields than there is room for.
    #[error("a rule with {0} fields; the kernel knows at most 64")]
    TooManyFields(u32),
    /// A string is longer than what is left.
    #[error("string {index} of a rule reaches beyond the end of its strings")]
    StringBeyondEnd {
        /// Which field.
        index: usize,
    },
}

impl Rule {
    /// The kernel's bytes, as auditctl would send them.
    pub fn encode(&self) -> Vec<u8> {
        // `push` and `decode` keep this true; the limit stands here once more since a 65th field would overwrite others.
        let fields = &self.fields[..self.fields.len().min(MAX_FIELDS)];
        let strings: Vec<u8> = fields
            .iter()
            .filter_map(|field| match &field.value {
                Value::Text(text) => Some(&text[..]),
                Value::Number(_) => None,
            })
            .collect::<Vec<_>>()
            .concat();
        let mut bytes = vec![0; FIXED_LEN + strings.len()];
        let mut buffer = RuleBuffer::new(&mut bytes[..]);
        buffer.set_flags(
            self.list.number()
                | if self.prepend {
                    AUDIT_FILTER_PREPEND
                } else {
                    0
                },
        );
        buffer.set_action(self.action.number());
        buffer.set_field_count(fields.len() as u32);
        buffer
            .syscalls_mut()
            .chunks_exact_mut(4)
            .zip(self.syscalls.0)
            .for_each(|(to, word)| to.copy_from_slice(&word.to_ne_bytes()));
        for (index, field) in fields.iter().enumerate() {
            buffer.set_field(index, field.id.0);
            buffer.set_field_flags(index, field.op.number());
            buffer.set_value(
                index,
                match &field.value {
                    Value::Number(number) => *number,
                    Value::Text(text) => text.len() as u32,
                },
            );
        }
        buffer.set_buflen(strings.len() as u32);
        buffer.buf_mut().copy_from_slice(&strings);
        bytes
    }

    /// Reads the kernel's bytes; what follows the last string (padding) does not count.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        // The crate's own check adds two numbers that it trusts.
        if bytes.len() < FIXED_LEN
            || u32_at(bytes, FIXED_LEN - 4).is_none_or(|n| n as usize > bytes.len() - FIXED_LEN)
        {
            return Err(DecodeError::Cut(bytes.len()));
        }
        let buffer = RuleBuffer::new_checked(bytes).map_err(|_| DecodeError::Cut(bytes.len()))?;
        let count = buffer.field_count();
        if count as usize > MAX_FIELDS {
            return Err(DecodeError::TooManyFields(count));
        }
        let mut syscalls = SyscallMask::none();
        for (index, word) in syscalls.0.iter_mut().enumerate() {
            *word = u32_at(buffer.syscalls(), 4 * index).unwrap_or(0);
        }
        let mut rest = buffer.buf();
        let mut fields = Vec::with_capacity(count as usize);
        for index in 0..count as usize {
            let word = |words: &[u8]| u32_at(words, 4 * index).unwrap_or(0);
            let (id, number) = (FieldId(word(buffer.fields())), word(buffer.values()));
            let value = if id.is_text() {
                let (text, tail) = rest
                    .split_at_checked(number as usize)
                    .ok_or(DecodeError::StringBeyondEnd { index })?;
                rest = tail;
                Value::Text(text.to_vec())
            } else {
                Value::Number(number)
            };
            let op = Op::from_number(word(buffer.field_flags()));
            fields.push(Field { id, op, value });
        }
        Ok(Self {
            list: List::from_number(buffer.flags() & !AUDIT_FILTER_PREPEND),
            action: Action::from_number(buffer.action()),
            prepend: buffer.flags() & AUDIT_FILTER_PREPEND != 0,
            syscalls,
            fields,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field() -> impl Strategy<Value = Field> {
        let op = prop_oneof![
            (0usize..8).prop_map(|n| Op::NAMED[n].0),
            (1u32..1000).prop_map(Op::Other)
        ];
        let id = prop_oneof![
            0u32..30,
            100u32..115,
            200u32..204,
            Just(210u32),
            300u32..310
        ];
        (
            id,
            op,
            any::<u32>(),
            proptest::collection::vec(1u8.., 0..40),
        )
            .prop_map(|(id, op, number, text)| {
                let id = FieldId(id);
                let value = if id.is_text() {
                    Value::Text(text)
                } else {
                    Value::Number(number)
                };
                Field { id, op, value }
            })
    }

    pub(crate) fn rule() -> impl Strategy<Value = Rule> {
        (
            0u32..9,
            0u32..4,
            any::<bool>(),
            proptest::collection::vec(0u32..2048, 0..40),
            proptest::collection::vec(field(), 0..=64),
        )
            .prop_map(|(list, action, prepend, calls, fields)| {
                let mut mask = SyscallMask::none();
                assert!(calls.into_iter().all(|call| mask.insert(call)));
                let mut rule =
                    Rule::new(List::from_number(list), Action::from_number(action), mask);
                rule.set_prepend(prepend);
                assert!(fields.into_iter().all(|field| rule.push(field)));
                rule
            })
    }

    proptest! {
        #[test]
        fn a_rule_survives_its_bytes(rule in rule(), padding in 0usize..4) {
            let mut bytes = rule.encode();
            bytes.resize(bytes.len() + padding, 0);
            prop_assert_eq!(Rule::decode(&bytes), Ok(rule));
        }

        #[test]
        fn no_bytes_panic(rule in rule(), at in 0usize..1100, byte: u8, cut in 0usize..1200) {
            let mut bytes = rule.encode();
            if let Some(b) = bytes.get_mut(at) { *b = byte; }
            let _ = Rule::decode(&bytes);
            let _ = Rule::decode(&bytes[..cut.min(bytes.len())]);
        }

        #[test]
        fn bytes_of_others_come_back_as_they_were(rule in rule(), at in 0usize..1040, byte: u8) {
            // Any list, action, comparison and field that a newer program may use: what the kernel lists is what is loaded again.
            let mut bytes = rule.encode();
            bytes[at] = byte;
            if let Ok(decoded) = Rule::decode(&bytes) {
                let again = decoded.encode();
                prop_assert_eq!(Rule::decode(&again), Ok(decoded.clone()));
                // What lies behind the last field and the last string is nobody's.
                let used = |array: usize| {
                    let start = FIXED_LEN - 4 - 4 * MAX_FIELDS * (3 - array);
                    start..start + 4 * decoded.fields().len()
                };
                for part in [0..12 + 4 * 64, used(0), used(1), used(2)] {
                    prop_assert_eq!(&again[part.clone()], &bytes[part]);
                }
            }
        }

        #[test]
        fn the_crates_own_encoder_agrees_where_it_is_right(pid: u32, perm in 0u32..16, dir in "/[a-z]{1,20}", key in "[a-z]{1,9}", call in 0u32..2048) {
            use netlink_packet_audit::{RuleAction, RuleField, RuleFieldFlags, RuleFlags, RuleMessage};
            use netlink_packet_core::Emitable;
            let mut theirs = RuleMessage::new();
            theirs.flags = RuleFlags::FilterExit;
            theirs.action = RuleAction::Always;
            theirs.syscalls.set(call);
            theirs.fields = vec![
                (RuleField::Pid(pid), RuleFieldFlags::NotEqual),
                (RuleField::Dir(dir.clone()), RuleFieldFlags::Equal),
                (RuleField::Perm(perm), RuleFieldFlags::Equal),
                (RuleField::Filterkey(key.clone()), RuleFieldFlags::Equal),
            ];
            let mut bytes = vec![0; theirs.buffer_len()];
            theirs.emit(&mut bytes);
            let mut mask = SyscallMask::none();
            prop_assert!(mask.insert(call));
            let mut ours = Rule::new(List::Exit, Action::Always, mask);
            let not_pid = Field { id: FieldId::PID, op: Op::NotEqual, value: Value::Number(pid) };
            prop_assert!(ours.push(not_pid));
            prop_assert!(ours.push(Field::text(FieldId::DIR, dir)));
            prop_assert!(ours.push(Field::number(FieldId::PERM, perm)));
            prop_assert!(ours.push(Field::text(FieldId::KEY, key)));
            prop_assert_eq!(ours.encode(), bytes);
        }
    }

    #[test]
    fn the_sixty_fifth_field_is_refused() {
        let mut rule = Rule::new(List::Exit, Action::Always, SyscallMask::all());
        for n in 0..64 {
            assert!(rule.push(Field::number(FieldId::PID, n)));
        }
        assert!(!rule.push(Field::number(FieldId::PID, 64)));
        assert_eq!(Rule::decode(&rule.encode()).unwrap().fields().len(), 64);
        let mut bytes = rule.encode();
        bytes[8] = 65;
        assert_eq!(Rule::decode(&bytes), Err(DecodeError::TooManyFields(65)));
    }
}
