//! Names of values in the one tree: a letter for what it is, then big-endian numbers, so that order in the tree is order in time.

/// Rows of a block, compressed: `b lane block frame`.
pub(crate) const FRAME: u8 = b'b';
/// What is in a block, and the hash of the block before: `m lane block`.
pub(crate) const META: u8 = b'm';
/// Summaries of the 64 blocks of a super-block: `s lane super`.
pub(crate) const SUPER: u8 = b's';
/// Which blocks of a super-block hold which terms: `x lane part super`.
pub(crate) const INDEX: u8 = b'x';
/// Rows of the open block as format 1 kept them: `h lane block chunk`.
pub(crate) const HOT_1: u8 = b'h';
/// Rows of the open block, not sealed yet: `i lane block chunk`.
pub(crate) const HOT: u8 = b'i';
/// An amendment that no sealed block names yet: `y lane block kind id`.
pub(crate) const PENDING: u8 = b'y';
/// A later state of a row: `v lane block kind id`.
pub(crate) const AMENDMENT: u8 = b'v';
/// A block has amendments: `w lane block`.
pub(crate) const AMENDED: u8 = b'w';
/// Where the chain of a lane begins and ends: `l lane`.
pub(crate) const LANE: u8 = b'l';
/// A number that only grows: `n name`.
pub(crate) const COUNTER: u8 = b'n';
/// Value of an area: `a length-of-name name key`.
pub(crate) const AREA: u8 = b'a';
/// Item of a queue: `q length-of-name name id`.
pub(crate) const QUEUE: u8 = b'q';
/// Number of the last commit: `c`.
pub(crate) const COMMIT: u8 = b'c';
/// What did not fit into the first part of a value: `p key-of-value part`.
pub(crate) const PART: u8 = b'p';

/// Keys without a value between two sorts of keys, so that what changes often never shares a page of the tree with what is large: sled
/// writes a page of up to 16 neighbours anew when one of them has changed ten times.
pub(crate) fn fences() -> impl Iterator<Item = Vec<u8>> {
    [FRAME, LANE, META, INDEX]
        .into_iter()
        .flat_map(|what| (0..24).map(move |number| vec![what, u8::MAX, number]))
}

/// Key or prefix of a lane.
pub(crate) fn lane(what: u8, lane: usize) -> Vec<u8> {
    vec![what, lane as u8]
}

/// Key or prefix of a block, or of a super-block.
pub(crate) fn block(what: u8, lane: usize, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&[what, lane as u8]);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Number of the block in a key that [`block`] made, or made the beginning of.
pub(crate) fn block_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(2..10)?.try_into().ok()?))
}

/// Frame of a block.
pub(crate) fn frame(lane: usize, number: u64, frame: u16) -> Vec<u8> {
    let mut key = block(FRAME, lane, number);
    key.extend_from_slice(&frame.to_be_bytes());
    key
}

/// Chunk of the hot log.
pub(crate) fn hot(lane: usize, number: u64, chunk: u32) -> Vec<u8> {
    let mut key = block(HOT, lane, number);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// Amendment that waits for its block, as [`amendment`].
pub(crate) fn pending(lane: usize, number: u64, kind: u8, id: &str) -> Vec<u8> {
    let mut key = amendment(lane, number, kind, id);
    if let Some(what) = key.first_mut() {
        *what = PENDING;
    }
    key
}

/// Part of the index of a super-block. The part stands first, so that one term's parts of all super-blocks lie together.
pub(crate) fn index(lane: usize, part: u8, number: u64) -> Vec<u8> {
    let mut key = vec![INDEX, lane as u8, part];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Amendment of a row.
pub(crate) fn amendment(lane: usize, number: u64, kind: u8, id: &str) -> Vec<u8> {
    let mut key = block(AMENDMENT, lane, number);
    key.push(kind);
    key.extend_from_slice(id.as_bytes());
    key
}

/// Key or prefix under a name. Names are at most 255 bytes; longer ones are cut, they are the program's own constants.
pub(crate) fn named(what: u8, name: &str, rest: &[u8]) -> Vec<u8> {
    let name = &name.as_bytes()[..name.len().min(255)];
    let mut key = Vec::with_capacity(2 + name.len() + rest.len());
    key.extend_from_slice(&[what, name.len() as u8]);
    key.extend_from_slice(name);
    key.extend_from_slice(rest);
    key
}
