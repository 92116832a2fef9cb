//! What several test programs use.
#![allow(dead_code)]

mod memory;

pub use actions::{Ledger, LedgerError};
pub use memory::Memory;
