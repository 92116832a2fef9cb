//! syscall-monitor: watches what containers that run AI agents do to the kernel, through the audit subsystem alone.
//!
//! This crate is the program: command line, configuration, the daemon's wiring and its local API. What it is made of lives in
//! the rooms `collector`, `enricher`, `detector`, `history` and `actions`.

#![allow(
    missing_docs,
    reason = "a program has no public items; the rooms document theirs"
)]

mod channels;
mod cli;
mod client;
mod config;
mod daemon;
mod entries;
mod except;
mod nearest;
mod offline;
mod output;
mod query;
mod search;
mod show;
mod stored;
mod times;
mod views;

fn main() -> std::process::ExitCode {
    cli::main()
}
