//! Ids that were seen last, to tell a repeat from something new without a look at the disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::dictionary::Keyed;
use crate::entry::Kind;

/// Where a row lies: lane and number of the block.
pub(crate) type Spot = (usize, u64);

/// What is hashed is a hash already.
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The newest ids of the kinds that share it, bounded.
pub(crate) struct Recent {
    /// Keyed with random numbers: nobody can make one id look like another.
    seed: Keyed,
    spots: HashMap<u64, Spot, BuildHasherDefault<Taken>>,
    order: VecDeque<u64>,
    most: usize,
    /// For each lane, the first block whose ids are all here.
    floor: BTreeMap<usize, u64>,
}

impl Recent {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            seed: Keyed::new(),
            spots: HashMap::default(),
            order: VecDeque::new(),
            most: most.max(1),
            floor: BTreeMap::new(),
        }
    }

    fn hash(&self, kind: Kind, id: &[u8]) -> u64 {
        self.seed.hash(kind as u8, id)
    }

    pub(crate) fn get(&self, kind: Kind, id: &[u8]) -> Option<Spot> {
        self.spots.get(&self.hash(kind, id)).copied()
    }

    /// The newest.
    pub(crate) fn insert(&mut self, kind: Kind, id: &[u8], spot: Spot) {
        let hash = self.hash(kind, id);
        if self.spots.insert(hash, spot).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > self.most {
            if let Some((lane, block)) = self
                .order
                .pop_front()
                .and_then(|oldest| self.spots.remove(&oldest))
            {
                self.raise(lane, block + 1);
            }
        }
    }

    /// Blocks of the lane before this one may hold ids that are not here.
    pub(crate) fn raise(&mut self, lane: usize, block: u64) {
        let floor = self.floor.entry(lane).or_default();
        *floor = block.max(*floor);
    }

    /// First block of the lane whose ids are all here.
    pub(crate) fn floor(&self, lane: usize) -> u64 {
        self.floor.get(&lane).copied().unwrap_or(0)
    }
}
