//! A set of row numbers of one block.

/// Bitmap over the rows of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowSet {
    words: Vec<u64>,
    rows: usize,
}

impl RowSet {
    pub(crate) fn empty(rows: usize) -> Self {
        Self {
            words: vec![0; rows.div_ceil(64)],
            rows,
        }
    }

    pub(crate) fn full(rows: usize) -> Self {
        let mut set = Self {
            words: vec![u64::MAX; rows.div_ceil(64)],
            rows,
        };
        set.trim();
        set
    }

    /// Bits behind the last row stay zero.
    fn trim(&mut self) {
        if let (Some(last), used @ 1..) = (self.words.last_mut(), self.rows % 64) {
            *last &= (1 << used) - 1;
        }
    }

    /// A row behind the end is ignored: row numbers come from disk.
    pub(crate) fn insert(&mut self, row: usize) {
        if row < self.rows {
            self.words[row / 64] |= 1 << (row % 64);
        }
    }

    /// Puts a row in or takes it out.
    pub(crate) fn set(&mut self, row: usize, wanted: bool) {
        self.insert(row);
        if row < self.rows && !wanted {
            self.words[row / 64] &= !(1 << (row % 64));
        }
    }

    pub(crate) fn insert_all(&mut self) {
        *self = Self::full(self.rows);
    }

    /// Bits as bytes, row 0 lowest in the first.
    pub(crate) fn insert_bits(&mut self, bytes: &[u8]) {
        for (place, byte) in bytes.iter().enumerate().take(self.words.len() * 8) {
            self.words[place / 8] |= u64::from(*byte) << (place % 8 * 8);
        }
        self.trim();
    }

    pub(crate) fn contains(&self, row: usize) -> bool {
        row < self.rows && self.words[row / 64] & (1 << (row % 64)) != 0
    }

    pub(crate) fn and(&mut self, other: &Self) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a &= b;
        }
    }

    pub(crate) fn invert(&mut self) {
        self.words.iter_mut().for_each(|w| *w = !*w);
        self.trim();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    /// How many rows are in it.
    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Keeps the rows that are wanted.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(usize) -> bool) {
        for (place, word) in self.words.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                if !wanted(place * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(place, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                (word != 0).then(|| {
                    let bit = word.trailing_zeros() as usize;
                    word &= word - 1;
                    place * 64 + bit
                })
            })
        })
    }
}
