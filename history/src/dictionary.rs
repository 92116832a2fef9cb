//! The terms of an open block, each once, and which rows have them.
//!
//! A term is hashed once when its row comes in; what is written to the hot log and into the sealed block are numbers from here. The hash
//! is keyed with a random number: nobody can choose terms that fall together.

use std::hash::{BuildHasher, RandomState};

use crate::entry::{Field, Terms};
use crate::terms;

/// A term: field, where its bytes lie, and a part of its hash.
#[derive(Clone, Copy, Debug)]
struct Known {
    field: u8,
    start: u32,
    end: u32,
    hash: u32,
}

/// Keyed hash of short byte strings: folded multiplication, eight bytes a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed(u64, u64);

impl Keyed {
    pub(crate) fn new() -> Self {
        let state = RandomState::new();
        Self(state.hash_one(1u8), state.hash_one(2u8) | 1)
    }

    pub(crate) fn hash(self, first: u8, bytes: &[u8]) -> u64 {
        let fold = |a: u64, b: u64| {
            let wide = u128::from(a) * u128::from(b);
            (wide as u64) ^ ((wide >> 64) as u64)
        };
        let mut hash = fold(
            self.0 ^ u64::from(first) ^ ((bytes.len() as u64) << 8),
            self.1,
        );
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word), self.1);
        }
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        fold(hash ^ u64::from_le_bytes(last) ^ self.0, self.1)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Dictionary {
    key: Keyed,
    /// Numbers of terms plus one, by hash; a power of two, at most half full.
    slots: Vec<u32>,
    terms: Vec<Known>,
    bytes: Vec<u8>,
    /// Numbers of the terms of all rows, one row after the other, and where each ends.
    rows: Vec<u32>,
    ends: Vec<u32>,
}

impl Dictionary {
    pub(crate) fn new() -> Self {
        Self {
            key: Keyed::new(),
            slots: vec![0; 4096],
            terms: Vec::new(),
            bytes: Vec::new(),
            rows: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Forgets everything, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.slots.fill(0);
        self.terms.clear();
        self.bytes.clear();
        self.rows.clear();
        self.ends.clear();
    }

    /// Adds the next row.
    pub(crate) fn add(&mut self, terms: &Terms) {
        for (field, term) in terms.iter().take(terms::MOST) {
            let number = self.number(field as u8, &terms::stored(term));
            self.rows.push(number);
        }
        self.ends.push(self.rows.len() as u32);
    }

    fn number(&mut self, field: u8, term: &[u8]) -> u32 {
        let hash = self.key.hash(field, term);
        let mask = self.slots.len() - 1;
        let (mut place, short) = (hash as usize & mask, (hash >> 32) as u32);
        while let Some(number) = self.slots[place].checked_sub(1) {
            let known = self.terms[number as usize];
            if known.hash == short
                && known.field == field
                && self.bytes[known.start as usize..known.end as usize] == *term
            {
                return number;
            }
            place = (place + 1) & mask;
        }
        let (number, start) = (self.terms.len() as u32, self.bytes.len() as u32);
        self.bytes.extend_from_slice(term);
        self.terms.push(Known {
            field,
            start,
            end: self.bytes.len() as u32,
            hash: short,
        });
        self.slots[place] = number + 1;
        if self.terms.len() * 2 > self.slots.len() {
            self.grow();
        }
        number
    }

    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        self.slots.clear();
        self.slots.resize(size, 0);
        for number in 0..self.terms.len() {
            let known = self.terms[number];
            let term = &self.bytes[known.start as usize..known.end as usize];
            let mut place = self.key.hash(known.field, term) as usize & (size - 1);
            while self.slots[place] != 0 {
                place = (place + 1) & (size - 1);
            }
            self.slots[place] = number as u32 + 1;
        }
    }

    /// Different terms so far.
    pub(crate) fn len(&self) -> usize {
        self.terms.len()
    }

    /// Field and bytes of a term.
    pub(crate) fn term(&self, number: usize) -> (u8, &[u8]) {
        let known = self.terms[number];
        (
            known.field,
            &self.bytes[known.start as usize..known.end as usize],
        )
    }

    /// Numbers of the terms of a row.
    pub(crate) fn row(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start as usize..self.ends[row] as usize]
    }

    /// Numbers of all terms by field, in the order in which they came.
    pub(crate) fn by_field(&self) -> [Vec<u32>; Field::ALL.len()] {
        let mut out: [Vec<u32>; Field::ALL.len()] = Default::default();
        for (number, known) in self.terms.iter().enumerate() {
            out[usize::from(known.field)].push(number as u32);
        }
        out
    }

    /// For each term its rows, in order, one after the other; and where each term's begin, and the last ends.
    pub(crate) fn postings(&self) -> (Vec<u16>, Vec<u32>) {
        let mut starts = vec![0u32; self.terms.len() + 1];
        for number in &self.rows {
            starts[*number as usize + 1] += 1;
        }
        for place in 1..starts.len() {
            starts[place] += starts[place - 1];
        }
        let mut next = starts.clone();
        let mut list = vec![0u16; self.rows.len()];
        for row in 0..self.ends.len() {
            for number in self.row(row) {
                let at = &mut next[*number as usize];
                list[*at as usize] = row as u16;
                *at += 1;
            }
        }
        (list, starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_has_the_terms_that_it_came_with(rows in proptest::collection::vec(proptest::collection::vec((0usize..20, "[ab]{0,9}"), 0..12), 1..60)) {
            let mut dictionary = Dictionary::new();
            for round in 0..2 {
                dictionary.clear();
                let all: Vec<Terms> = rows.iter().map(|row| row.iter().map(|(f, t)| (Field::ALL[*f], t.repeat(round + 1).into_bytes())).collect()).collect();
                all.iter().for_each(|terms| dictionary.add(terms));
                let (list, starts) = dictionary.postings();
                for (row, terms) in all.iter().enumerate() {
                    let mine: Vec<_> = dictionary.row(row).iter().map(|n| dictionary.term(*n as usize)).collect();
                    let expected: Vec<_> = terms.iter().map(|(f, t)| (f as u8, t)).collect();
                    prop_assert_eq!(mine, expected);
                    for number in dictionary.row(row) {
                        let of_term = &list[starts[*number as usize] as usize..starts[*number as usize + 1] as usize];
                        prop_assert!(of_term.contains(&(row as u16)) && of_term.is_sorted());
                    }
                }
                prop_assert_eq!(dictionary.by_field().iter().map(Vec::len).sum::<usize>(), dictionary.len());
            }
        }
    }

    #[test]
    fn many_terms_make_it_grow() {
        let mut dictionary = Dictionary::new();
        for number in 0..10_000u32 {
            dictionary.add(
                &[(Field::Pid, number.to_string().into_bytes())]
                    .into_iter()
                    .collect(),
            );
        }
        assert_eq!(dictionary.len(), 10_000);
        assert_eq!(dictionary.term(9_999), (Field::Pid as u8, &b"9999"[..]));
    }
}
