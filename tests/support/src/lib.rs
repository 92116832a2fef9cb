//! What the end-to-end tests stand on: a world for one test (folders, configuration, daemon, Docker, audit state), a program that
//! attacks from inside a container (`attacker/`), peers that play Discord and Telegram, and a Docker that
//! is slow.
//!
//! All of this is test code. A helper that cannot do its work panics and says what it tried: that is how a test fails.
#![allow(clippy::panic, reason = "a panic is how a test fails")]

pub mod discord;
pub mod docker;
pub mod gateway;
pub mod hook;
pub mod image;
pub mod kernel;
pub mod load;
pub mod peer;
pub mod process;
pub mod slack;
pub mod slow_docker;
pub mod smtp;
pub mod telegram;
pub mod wait;
pub mod world;

pub use discord::Discord;
pub use docker::{Container, Docker, Network};
pub use peer::{Behaviour, Received};
pub use process::Output;
pub use rustix::process::Signal;
pub use slow_docker::SlowDocker;
pub use telegram::Telegram;
pub use wait::{eventually, within};
pub use world::World;
