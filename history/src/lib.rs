//! What happened: the store of activities, alerts, decisions and notices.
//!
//! In come [`Entry`]s, named things with a time, terms to find them by, and a body that only the program understands. Out come [`Row`]s,
//! by [`Query`], by id, and live. Beside that a durable [`Queue`] and [`Area`] for the rooms behind us. This room alone opens sled. It must
//! not know what an activity or an alert is, nor anything of delivery or of the kernel.
//!
//! ```text
//! append ─▶ intake ─▶ writer thread ─▶ open block ─(1,024 rows)─▶ sealed block ─(64)─▶ index of a super-block
//!           bounded                        │ every 180 ms
//!                                          └──▶ hot log, removed in the batch that seals
//! ```
//! One tree, one batch for what belongs together, one thread that writes. Rows lie compressed in blocks; each block knows the hash of the
//! one before it. Acknowledged means that the flush that covers it has returned, so it survives kill -9; fsync follows within 200 ms.
//! `docs` of the files tell the rest: `keys.rs` the layout of the tree, `value.rs` of a value, `block.rs` of a block, `index.rs` of an index,
//! `writer.rs` the order of things, `scan.rs` how a query is answered, `verify.rs` what is proven.
#![forbid(unsafe_code)]

mod anchor;
mod area;
mod block;
mod dictionary;
mod entry;
mod error;
mod find;
mod hot;
mod index;
mod intake;
mod keys;
mod lane;
mod layout;
mod live;
mod maintain;
mod manifest;
mod numbers;
mod prepare;
mod query;
mod recent;
mod recover;
mod reserve;
mod retention;
mod rowset;
mod scan;
mod search;
mod shared;
mod snapshot;
mod stats;
mod store;
mod sync;
mod tail;
mod tally;
mod terms;
mod ticket;
mod value;
mod verify;
mod wire;
mod writer;

pub use anchor::{Anchor, AnchorCheck, AnchorError};
pub use area::{Area, Queue};
pub use entry::{Cursor, CursorError, Entry, Field, Kind, Row, Terms};
pub use error::{Dropped, StoreError, Why};
pub use intake::Amendment;
pub use layout::Share;
pub use maintain::{Compacted, compact, probe, salvage, set_aside, was_closed};
pub use manifest::FORMAT;
pub use numbers::Numbers;
pub use query::{BodyTest, Clause, Pattern, Query, QueryStats, TestOfBytes};
pub use retention::Retention;
pub use search::{Search, SearchError};
pub use shared::Subscription;
pub use stats::{Head, Stats};
pub use store::{Options, Store};
pub use tally::{Counts, Tally, TallyOf};
pub use ticket::Ticket;
pub use verify::{Problem, Progress, VerifyReport};
