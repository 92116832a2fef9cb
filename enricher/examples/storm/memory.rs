//! What the table and the registry hold in memory, as the kernel counts it.

use anyhow::Context;
use collector::proc_events::{ProcEvent, ProcEventKind};
use collector::{Event, EventId, RecordType};
use enricher::container::Mount;
use enricher::{Container, Enricher, Options};

use crate::verdict::row;

const CONTAINERS: u32 = 1000;
const EACH: u32 = 100;

/// Resident memory of this process, bytes (`VmRSS` of proc(5)).
fn resident() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

struct Feed {
    enricher: Enricher,
    at_ns: u64,
    serial: u32,
}

impl Feed {
    fn tick(&mut self) -> u64 {
        self.at_ns += 20_000;
        self.at_ns
    }

    fn fork(&mut self, parent: u32, child: u32) {
        let at_ns = self.tick();
        let kind = ProcEventKind::Fork {
            parent_pid: parent,
            parent_tgid: parent,
            child_pid: child,
            child_tgid: child,
        };
        self.enricher.on_proc_event(&ProcEvent {
            at_ns,
            cpu: 0,
            seq: 0,
            kind,
        });
    }

    /// Both of what an exec brings: the connector's message and the records.
    fn exec(&mut self, ppid: u32, pid: u32, exe: &str, argv: &[&str]) {
        let at_ns = self.tick();
        self.enricher.on_proc_event(&ProcEvent {
            at_ns,
            cpu: 0,
            seq: 0,
            kind: ProcEventKind::Exec { pid, tgid: pid },
        });
        self.serial += 1;
        let mut event = Event::new(EventId::local(at_ns / 1_000_000, self.serial));
        let comm = exe.rsplit('/').next().unwrap_or_default();
        event.push(
            RecordType::SYSCALL,
            format!("arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=1 ppid={ppid} pid={pid} auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=\"{comm}\" exe=\"{exe}\" key=\"sm-exec\"").as_bytes(),
        );
        let args: String = argv
            .iter()
            .enumerate()
            .map(|(n, a)| format!(" a{n}=\"{a}\""))
            .collect();
        event.push(
            RecordType::EXECVE,
            format!("argc={}{args}", argv.len()).as_bytes(),
        );
        event.complete = true;
        self.enricher.enrich(event);
    }
}

/// 1,000 containers of 100 processes each, all alive; every second process executed a program with arguments of its own. Each
/// container is known to the engine, with labels and mounts.
pub fn measure() -> anyhow::Result<bool> {
    let before = resident()?;
    let mut feed = Feed {
        enricher: Enricher::captured(Options::default(), 0, 4_000_000),
        at_ns: 1_000_000_000,
        serial: 0,
    };
    feed.enricher.assume_host(&[1]);
    let mut pid = 1000;
    let mut next = || {
        pid += 1;
        pid
    };
    for n in 0..CONTAINERS {
        let id = format!("{n:064x}");
        let (shim, runtime, init, clone) = (next(), next(), next(), next());
        feed.fork(1, shim);
        feed.exec(
            1,
            shim,
            "/usr/bin/containerd-shim-runc-v2",
            &[
                "/usr/bin/containerd-shim-runc-v2",
                "-namespace",
                "moby",
                "-id",
                &id,
                "-address",
                "/run/containerd.sock",
            ],
        );
        feed.fork(shim, runtime);
        feed.exec(
            shim,
            runtime,
            "/usr/sbin/runc",
            &[
                "runc",
                "--root",
                "/run/docker",
                "create",
                "--bundle",
                "/b",
                &id,
            ],
        );
        feed.fork(runtime, init);
        feed.exec(runtime, init, "/usr/sbin/runc", &["runc", "init"]);
        feed.fork(init, clone);
        feed.exec(
            runtime,
            clone,
            "/usr/bin/node",
            &["node", "/srv/gateway.mjs", "--port", "18789"],
        );
        feed.enricher.update_container(Container {
            name: Some(format!("agent-{n}")),
            image: Some("registry.example/openclaw/openclaw:2026.9.6".into()),
            image_id: Some(format!("sha256:{n:064x}")),
            labels: (0..10)
                .map(|l| {
                    (
                        format!("com.example.label.{l}"),
                        format!("value {l} of container {n}"),
                    )
                })
                .collect(),
            mounts: (0..6)
                .map(|m| Mount {
                    source: format!("/srv/agents/{n}/volume-{m}"),
                    destination: format!("/home/node/volume-{m}"),
                    kind: "bind".into(),
                    writable: true,
                    declared: false,
                })
                .collect(),
            network_mode: Some("bridge".into()),
            ports: vec![format!("127.0.0.1:{}->18789/tcp", 20_000 + n)],
            ..Container::from_id(id)
        });
        for k in 0..EACH - 4 {
            let child = next();
            feed.fork(clone, child);
            if k % 2 == 0 {
                feed.exec(
                    clone,
                    child,
                    "/usr/bin/busybox",
                    &[
                        "sh",
                        "-c",
                        "while read line; do echo \"$line\"; done",
                        &format!("{n}-{k}"),
                    ],
                );
            }
        }
    }
    let bytes = resident()?.saturating_sub(before);
    let counters = feed.enricher.counters();
    let mib = bytes as f64 / f64::from(1 << 20);
    let whole = counters.table.rows >= u64::from(CONTAINERS * EACH)
        && counters.containers == u64::from(CONTAINERS);
    println!(
        "    {} rows, {} containers, {} of {} execs certain, {:.0} bytes a process",
        counters.table.rows,
        counters.containers,
        counters.events - counters.uncertain,
        counters.events,
        bytes as f64 / f64::from(CONTAINERS * EACH)
    );
    Ok(row(
        "memory: 100,000 processes, 1,000 containers",
        "<= 64 MiB",
        &format!("{mib:.1} MiB resident"),
        mib <= 64.0 && whole,
    ))
}
