//! The monitor of the measurement: reader, assembler and enricher in a process of its own, so that it can be killed.
//!
//! Out, into a file, a line for each event that carries a token: what the token says and what the enricher says. It ends when
//! its standard input does.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use collector::control::Control;
use collector::live::{Mode, Reader, ReaderOptions};
use collector::rules::parse_rules;
use collector::settings::{Wanted, assert_settings};
use collector::{Assembled, Assembler, Limits, parse_header};
use enricher::docker::{DockerOptions, DockerUpdate};
use enricher::{Activity, Enricher, Options};
use rustix::time::{ClockId, clock_gettime};

/// Calls that are selected by flags and lengths that nobody but `storm.c` uses (`-F a2=`).
const RULES: &str = "-a always,exit -F arch=b64 -S execve,execveat -k sm-exec\n\
    -a always,exit -F arch=b64 -S mount,umount2,pivot_root,fsopen,fsmount,move_mount,open_tree,mount_setattr,setns,unshare -k sm-mount\n\
    -a always,exit -F arch=b64 -S ptrace -k sm-ptrace\n\
    -a always,exit -F arch=b64 -S connect -F a2=77 -k sm-net\n\
    -a always,exit -F arch=b64 -S openat -F a2=919552 -k sm-open\n";

/// What the monitor is asked to do.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Where the lines go.
    pub out: PathBuf,
    /// Docker's socket; `None`: nobody is asked.
    pub docker: Option<PathBuf>,
    /// Listen to the proc connector?
    pub connector: bool,
    /// Receive buffer of the audit socket.
    pub buffer: usize,
    /// Receive buffer of the connector.
    pub connector_buffer: usize,
    /// Its priority, as nice(1) takes it.
    pub nice: i32,
}

impl Orders {
    /// For a file, with everything.
    pub fn new(out: PathBuf) -> Self {
        Self {
            out,
            docker: Some(PathBuf::from("/var/run/docker.sock")),
            connector: true,
            buffer: ReaderOptions::default().receive_buffer,
            connector_buffer: ReaderOptions::default().connector_buffer,
            nice: 0,
        }
    }

    /// As arguments of a process.
    pub fn args(&self) -> Vec<String> {
        let docker = self
            .docker
            .as_deref()
            .map_or("-".into(), |d| d.display().to_string());
        vec![
            "monitor".into(),
            self.out.display().to_string(),
            docker,
            self.connector.to_string(),
            self.buffer.to_string(),
            self.connector_buffer.to_string(),
        ]
    }

    /// The same, read.
    pub fn parse(args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let args: Vec<String> = args.collect();
        let [out, docker, connector, buffer, connector_buffer] = args.as_slice() else {
            bail!("usage: storm monitor OUT DOCKER|- CONNECTOR BUFFER CONNECTOR_BUFFER");
        };
        Ok(Self {
            out: out.into(),
            docker: (docker != "-").then(|| docker.into()),
            connector: connector.parse()?,
            buffer: buffer.parse()?,
            connector_buffer: connector_buffer.parse()?,
            nice: 0,
        })
    }
}

/// The number in the token, and what kind of event carries it.
fn truth(a: &Activity) -> Option<(&'static str, u32)> {
    let call = a.syscall.as_ref()?;
    let of_path = |prefix: &str| {
        let name = a.paths.iter().find_map(|p| p.name.strip_prefix(prefix))?;
        number(name)
    };
    match call.name.as_str() {
        "execve" | "execveat" if call.success == Some(true) => {
            let argv = a.event.argv()?;
            let arg = |i: usize| Some(String::from_utf8_lossy(argv.get(i)?).into_owned());
            match arg(0)?.rsplit('/').next()? {
                "one" => Some(("exec", number(&arg(1)?)?)),
                "storm" => Some(("first", number(&arg(2)?)?)),
                _ => None,
            }
        }
        "openat" => Some(("openat", of_path("/tmp/")?)),
        "connect" => {
            let address = a.socket.as_ref()?.address.strip_prefix("/tmp/")?;
            Some(("connect", number(address)?))
        }
        "mount" | "umount2" => Some(("mount", of_path("/mnt/")?)),
        "ptrace" if call.args[2] >> 24 == 0x57 => {
            Some(("ptrace", u32::try_from(call.args[2] & 0xff_ffff).ok()?))
        }
        _ => None,
    }
}

/// `c17-3` is 17.
fn number(token: &str) -> Option<u32> {
    let digits = token.trim_start_matches(|c: char| c.is_ascii_lowercase());
    digits.split('-').next()?.parse().ok()
}

/// Watches until standard input ends, and until it is quiet after that.
pub fn run(orders: Orders) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create(&orders.out).context("make the file of answers")?);
    let mut control = Control::open()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (tx, mut rx) = tokio::sync::mpsc::channel(256);
    let options = ReaderOptions {
        mode: Mode::Exclusive,
        proc_events: orders.connector,
        receive_buffer: orders.buffer,
        connector_buffer: orders.connector_buffer,
        ..ReaderOptions::default()
    };
    let reader = Reader::start(options, tx)?;
    assert_settings(&mut control, &Wanted::default())?;
    for rule in parse_rules(RULES, "storm").map_err(|e| anyhow::anyhow!("{e:?}"))? {
        match control.add_rule(&rule.rule) {
            Ok(()) | Err(collector::control::ControlError::RuleExists { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut enricher = Enricher::new(Options::default());
    enricher.seed();
    let (docker_tx, mut docker_rx) = tokio::sync::mpsc::channel(64);
    if let Some(socket) = orders.docker.clone() {
        // In the product it is another process.
        std::thread::spawn(move || {
            let options = DockerOptions {
                socket,
                ..DockerOptions::default()
            };
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            {
                runtime.block_on(enricher::docker::watch(options, docker_tx));
            }
        });
    }
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::SeqCst);
    });
    println!("ready");
    std::io::stdout().flush()?;

    let mut assembler = Assembler::new(Limits::default());
    let mut ready = Vec::new();
    let mut told = Vec::new();
    let mut took: Vec<u64> = Vec::new();
    let mut last = Instant::now();
    let cpu_before = thread_cpu_ns();
    let mut end: Option<Instant> = None;
    runtime.block_on(async {
        loop {
            while let Ok(update) = docker_rx.try_recv() {
                match update {
                    DockerUpdate::Container(c) => enricher.update_container(c),
                    DockerUpdate::Stopped { id } | DockerUpdate::Removed { id } => {
                        enricher.container_stopped(&id)
                    }
                    DockerUpdate::Connected { containers, .. } => {
                        writeln!(out, "D\tup\t{containers}")?
                    }
                    DockerUpdate::Disconnected { why } => writeln!(out, "D\tdown\t{why}")?,
                    _ => {}
                }
            }
            let batch = tokio::time::timeout(Duration::from_millis(20), rx.recv()).await;
            let Ok(batch) = batch else {
                assembler.tick(Instant::now(), &mut ready);
                out.flush()?;
                if done.load(Ordering::SeqCst) {
                    let end = *end.get_or_insert(Instant::now() + Duration::from_secs(20));
                    if last.elapsed() > Duration::from_millis(700) || Instant::now() > end {
                        return anyhow::Ok(());
                    }
                }
                continue;
            };
            let Some(batch) = batch else {
                bail!("the reader ended")
            };
            if batch.connector_overrun {
                enricher.on_connector_overrun();
            }
            batch
                .proc_events
                .iter()
                .for_each(|e| enricher.on_proc_event(e));
            for (kind, payload) in batch.records() {
                if let Some(h) = parse_header(payload) {
                    assembler.push(
                        None,
                        kind,
                        h.millis,
                        h.serial,
                        h.body,
                        batch.received,
                        &mut ready,
                    );
                }
                for item in ready.drain(..) {
                    let Assembled::Event(event) = item else {
                        continue;
                    };
                    last = Instant::now();
                    let activity = enricher.enrich(event);
                    took.push(
                        u64::try_from(batch.received.elapsed().as_nanos()).unwrap_or(u64::MAX),
                    );
                    told.push(activity);
                }
            }
            // Written behind the clock's back: the product hands the activity on, it does not print it.
            for activity in told.drain(..) {
                tell(&mut out, &activity)?;
            }
            enricher.drain_notices();
            out.flush()?;
        }
    })?;
    let counters = reader.counters();
    let lost = control.status().map_or(0, |s| s.lost);
    reader.stop()?;
    for container in enricher.containers() {
        let name = container.name.as_deref().unwrap_or("-");
        writeln!(out, "N\t{}\t{name}", container.id)?;
    }
    let cpu_ns = thread_cpu_ns() - cpu_before;
    took.sort_unstable();
    let at = |percent: usize| {
        took.get(took.len().saturating_sub(1) * percent / 100)
            .copied()
            .unwrap_or(0)
    };
    writeln!(
        out,
        "L\t{}\t{}\t{}\t{}\t{cpu_ns}",
        took.len(),
        at(50),
        at(99),
        at(100)
    )?;
    writeln!(
        out,
        "K\t{lost}\t{}",
        counters.queue_dropped_records.load(Ordering::Relaxed)
    )?;
    writeln!(out, "C\t{}", serde_json::to_string(&enricher.counters())?)?;
    out.flush()?;
    Ok(())
}

/// Time that this thread had a processor, nanoseconds.
fn thread_cpu_ns() -> i64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

fn tell(out: &mut impl Write, a: &Activity) -> anyhow::Result<()> {
    let Some((kind, truth)) = truth(a) else {
        return Ok(());
    };
    let container = a.container.as_ref();
    writeln!(
        out,
        "E\t{kind}\t{truth}\t{}\t{:?}\t{}\t{:?}\t{}\t{}",
        container.map_or("-", |c| c.id.as_str()),
        a.attribution.source,
        a.attribution.certain,
        a.phase,
        a.event.id,
        a.process.pid,
    )?;
    Ok(())
}
