//! One entry or amendment: is it new, and where does it go?

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Writer;
use crate::block::{MOST_ROWS, Placed};
use crate::entry::{Entry, Kind, Row};
use crate::error::Result;
use crate::hot::Change;
use crate::intake::{Amendment, lock};
use crate::live::{self, FINDINGS, LANES};
use crate::recent::Spot;
use crate::{find, keys, terms, value};

/// A block is sealed when its rows take this much memory.
const BLOCK_BYTES: usize = 3 << 20;

impl Writer {
    /// Takes in one entry: a repeat is counted, a later state amends, anything else is a new row.
    pub(super) fn admit(&mut self, entry: Entry) -> Result<()> {
        let spot = self.spot_of(entry.kind, &entry.id, Some(entry.time_ms))?;
        // A later state of what retention took is a new row; an activity stays gone.
        if let Some(spot) = spot.filter(|spot| entry.kind == Kind::Activity || self.is_held(*spot))
        {
            if entry.kind == Kind::Activity {
                self.shared
                    .counts
                    .duplicates
                    .fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            self.shared
                .counts
                .superseded
                .fetch_add(1, Ordering::Relaxed);
            return self.put_change(
                spot,
                entry.kind,
                &entry.id,
                Change {
                    terms: entry.terms.iter().map(|(f, t)| (f, t.to_vec())).collect(),
                    body: Some(entry.body),
                },
            );
        }
        if entry.terms.len() > terms::MOST {
            let cut = (entry.terms.len() - terms::MOST) as u64;
            self.shared
                .counts
                .terms_cut
                .fetch_add(cut, Ordering::Relaxed);
        }
        let lane = live::lane_of(&entry);
        let number = self.lanes[lane].state.open;
        let recent = if entry.kind == Kind::Activity {
            &mut self.activities
        } else {
            &mut self.others
        };
        recent.insert(entry.kind, entry.id.as_bytes(), (lane, number));
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.shared.subscribers.any() {
            self.shared.subscribers.send(&Arc::new(Row {
                kind: entry.kind,
                time_ms: entry.time_ms,
                id: entry.id.clone(),
                body: entry.body.clone(),
                seq,
            }));
        }
        let open = &mut self.lanes[lane];
        open.born.get_or_insert_with(Instant::now);
        open.bytes += entry.weight();
        open.dictionary.add(&entry.terms);
        open.rows.push(Arc::new(Placed { seq, entry }));
        open.fresh += 1;
        if open.rows.len() >= self.shared.options.block_rows.clamp(1, MOST_ROWS)
            || open.bytes >= BLOCK_BYTES
        {
            self.seal(lane)?;
        }
        Ok(())
    }

    /// Where the row with this id is. The newest ids are in memory; older blocks are asked only if one of them can have it.
    fn spot_of(&mut self, kind: Kind, id: &str, time_ms: Option<u64>) -> Result<Option<Spot>> {
        let recent = if kind == Kind::Activity {
            &self.activities
        } else {
            &self.others
        };
        if let Some(spot) = recent.get(kind, id.as_bytes()) {
            return Ok(Some(spot));
        }
        // Only an activity is sure to come with its own time again.
        let time_ms = time_ms.filter(|_| kind == Kind::Activity);
        let mut blocks = Vec::new();
        for lane in if kind == Kind::Activity {
            0..LANES
        } else {
            FINDINGS..LANES
        } {
            let floor = recent.floor(lane);
            if floor <= self.lanes[lane].state.base {
                continue;
            }
            let live = lock(&self.shared.live);
            let (until, latest) = &mut self.lanes[lane].older;
            if *until < floor {
                let new = live[lane]
                    .blocks
                    .iter()
                    .filter(|b| b.number >= *until && b.number < floor);
                *latest = new.map(|b| b.max_ms).fold(*latest, u64::max);
                *until = floor;
            }
            if time_ms.is_some_and(|time| time > *latest) {
                continue;
            }
            blocks.extend(live::blocks(&live, |of, info| {
                of == lane
                    && info.number < floor
                    && info.kinds[kind.index()] > 0
                    && time_ms.is_none_or(|time| info.min_ms <= time && time <= info.max_ms)
            }));
        }
        let found = find::locate(
            &self.shared.db,
            blocks.into_iter().rev().collect(),
            kind,
            id,
        )?;
        Ok(found.map(|found| (found.seen.lane, found.seen.info.number)))
    }

    /// Has retention left the block?
    fn is_held(&self, (lane, number): Spot) -> bool {
        number >= self.lanes[lane].state.base
    }

    pub(super) fn amend(&mut self, amendment: Amendment) -> Result<()> {
        let Amendment {
            kind,
            id,
            time_ms,
            terms,
            body,
        } = amendment;
        let mut spot = self.spot_of(kind, &id, Some(time_ms))?;
        if spot.is_none() && kind == Kind::Activity {
            // The time given was not the entry's own.
            spot = self.spot_of(kind, &id, None)?;
        }
        match spot {
            Some(spot) if !self.is_held(spot) && kind == Kind::Activity => Ok(()),
            Some(spot) if self.is_held(spot) => {
                self.put_change(spot, kind, &id, Change { terms, body })
            }
            // Nothing to amend: better kept than lost.
            _ => self.admit(Entry {
                kind,
                time_ms,
                id,
                terms: terms.into(),
                body: body.unwrap_or_default(),
            }),
        }
    }

    /// Puts a later state beside its row. Terms gather, the body is the latest.
    fn put_change(
        &mut self,
        (lane, number): Spot,
        kind: Kind,
        id: &str,
        mut change: Change,
    ) -> Result<()> {
        let key = keys::amendment(lane, number, kind as u8, id);
        let before = match self.amended.remove(&key) {
            Some(before) => Some(before),
            None => find::change(&self.shared.db, lane, number, kind, id).unwrap_or_default(),
        };
        if let Some(before) = before {
            let new = std::mem::replace(&mut change.terms, before.terms);
            for term in new {
                if !change.terms.contains(&term) {
                    change.terms.push(term);
                }
            }
            change.body = change.body.or(before.body);
        }
        change.terms.truncate(terms::MOST);
        value::remove(&self.shared.db, &mut self.batch, &key)?;
        let (hash, _) = value::put(&mut self.batch, &key, &change.encode(&mut self.packer)?)?;
        self.batch.insert(
            keys::pending(lane, number, kind as u8, id),
            sled::IVec::default(),
        );
        let named = key.get(2..).unwrap_or_default().to_vec();
        self.lanes[lane].pending.insert(named, hash);
        let flag = lock(&self.shared.live)[lane].amended.get(&number).copied();
        let brings = flag == Some(true) || !change.terms.is_empty();
        if flag != Some(brings) {
            let flag: &[u8] = if brings { b"terms" } else { b"" };
            self.batch
                .insert(keys::block(keys::AMENDED, lane, number), flag);
        }
        self.amended.insert(key, change);
        // The tree first: a reader that hears of an amendment finds it.
        self.apply()?;
        lock(&self.shared.live)[lane].amended.insert(number, brings);
        Ok(())
    }
}
