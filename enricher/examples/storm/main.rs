//! Measures attribution on the running kernel with a real Docker engine, and prints what was to be reached beside what was.
//!
//! The truth is a token that every process of `storm.c` carries in its arguments, paths, addresses or registers; whatever is
//! attributed to another container than the one that the token names is wrong. Needs root, Docker, `cc`, an audit subsystem
//! without an owner; whoever runs it holds the lock on the kernel's audit state (`scripts/bench/enricher.sh` does).

mod engines;
mod memory;
mod monitor;
mod peer;
mod scenarios;
mod verdict;
mod world;

use anyhow::{Context, bail};

const USAGE: &str = "usage: storm [--quick] SCENARIO...
  exec       30 containers, 2,000 processes each, pids wrap (pid_max 8192)
  calls      mount, ptrace, connect, openat by children that execute nothing
  short      containers with --rm that live 50 ms
  late       the monitor starts while 30 containers run
  restart    the monitor is killed and started again, three times
  dockerd    a second Docker engine of our own is killed and started again
  slow       Docker's API answers after 5 s
  never      Docker's API does not answer at all
  ctr        a container of containerd with an id that a person chose
  podman     a container of Podman, if that is installed
  overrun    the proc connector overflows
  alone      without the proc connector: what lineage and /proc tell
  latency    from recv to the attributed event at 5,000 events a second
  memory     100,000 live processes, 1,000 containers
  all        all of them
exit status 0: everything was reached, 1: something was not, 2: wrong usage";

fn main() -> anyhow::Result<std::process::ExitCode> {
    let mut quick = false;
    let mut names = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "monitor" => {
                monitor::run(monitor::Orders::parse(args)?)?;
                return Ok(std::process::ExitCode::SUCCESS);
            }
            "--quick" => quick = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(std::process::ExitCode::SUCCESS);
            }
            name if scenarios::ALL.contains(&name) => names.push(name.to_owned()),
            "all" => names.extend(scenarios::ALL.iter().map(|n| (*n).to_owned())),
            other => {
                eprintln!("unknown scenario {other:?}\n{USAGE}");
                return Ok(std::process::ExitCode::from(2));
            }
        }
    }
    if names.is_empty() {
        bail!("no scenario was named\n{USAGE}");
    }
    let mut reached = true;
    for name in &names {
        reached &= scenarios::run(name, quick).with_context(|| format!("scenario {name}"))?;
    }
    Ok(if reached {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::from(1)
    })
}
