//! The events that left lately, so that a late record finds that it is late, and a repeated one that it is a repetition.
//!
//! Two tables with one place for each value of the serial number's low bits: serial numbers count up, so they hold the last
//! events of a machine, and nothing has ever to be removed. Of the last [`PLACES`] it is known which records they had; of the
//! last [`KNOWN`], more than the kernel makes while an event waits for its end, only that they left.

use smallvec::SmallVec;

use super::Key;
use crate::event::Event;
use crate::record::RecordType;

const PLACES: usize = 1 << 14;
/// At the 46,000 events a second that a kernel was seen to make, these are nearly three seconds.
const KNOWN: usize = 1 << 17;
/// The key of nothing: no calendar reaches its time.
const NONE: Key = Key {
    millis: u64::MAX,
    serial: 0,
    node: 0,
};
/// So many records of an event are remembered. Of a larger one the rest may be taken for late.
const MAX_PRINTS: usize = 4096;

#[derive(Clone, Debug, Default)]
struct Place {
    key: Option<Key>,
    prints: SmallVec<[u64; 7]>,
}

#[derive(Debug)]
pub(super) struct Closed {
    places: Vec<Place>,
    known: Vec<Key>,
}

impl Closed {
    pub(super) fn new() -> Self {
        Self {
            places: vec![Place::default(); PLACES],
            known: vec![NONE; KNOWN],
        }
    }

    fn at(key: Key, places: usize) -> usize {
        // Machines of one log count independently of each other: spread them.
        (key.serial ^ key.node.wrapping_mul(0x9E37_79B9)) as usize % places
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.known[Self::at(key, KNOWN)] == key
    }

    pub(super) fn insert(&mut self, key: Key, event: &Event) {
        self.known[Self::at(key, KNOWN)] = key;
        let place = &mut self.places[Self::at(key, PLACES)];
        place.key = Some(key);
        place.prints.clear();
        place.prints.shrink_to_fit();
        place.prints.extend(
            event
                .records()
                .take(MAX_PRINTS)
                .map(|r| print(r.kind, r.body)),
        );
    }

    /// Remembers a late record; `false` when it was there already. Of an event that is known by its key alone nobody can say:
    /// rather once too often than lost.
    pub(super) fn note(&mut self, key: Key, kind: RecordType, body: &[u8]) -> bool {
        let place = &mut self.places[Self::at(key, PLACES)];
        if place.key != Some(key) {
            return true;
        }
        let print = print(kind, body);
        if place.prints.contains(&print) {
            return false;
        }
        if place.prints.len() < MAX_PRINTS {
            place.prints.push(print);
        }
        true
    }
}

/// Sixty-four bits that stand for a record: two different ones of one event are the same with a chance of 2^-64.
fn print(kind: RecordType, body: &[u8]) -> u64 {
    let mix = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        (wide >> 64) as u64 ^ wide as u64
    };
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let mut state = (body.len() as u64) << 16 | u64::from(kind.0);
    let mut chunks = body.chunks_exact(16);
    for chunk in &mut chunks {
        let (a, b) = chunk.split_at(8);
        state = mix(
            word(a) ^ 0x2D35_8DCC_AA6C_78A5 ^ state,
            word(b) ^ 0x8BB8_4B93_962E_ACC9 ^ state.rotate_left(32),
        );
    }
    let rest = chunks.remainder();
    let (a, b) = rest.split_at(rest.len().min(8));
    mix(
        word(a) ^ 0x4B33_A62E_D433_D4A3 ^ state,
        word(b) ^ 0x4D5A_2DA5_1DE1_AA47,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_records_have_different_prints() {
        let body = [b'a'; 40];
        let mut prints: Vec<u64> = (0..=body.len())
            .map(|n| print(RecordType::PATH, &body[..n]))
            .collect();
        prints.extend((0..body.len()).map(|n| {
            let mut changed = body;
            changed[n] = b'b';
            print(RecordType::PATH, &changed)
        }));
        prints.push(print(RecordType::CWD, &body));
        let all = prints.len();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), all);
    }
}
