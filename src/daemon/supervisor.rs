//! The supervisor: saves and restores the kernel's state, starts the sensor, ends it when it is stuck.
//!
//! With an owner that is stuck rather than gone, every audited program of the host waits for it. So the sensor's reader
//! writes a byte into a pipe at least every 50 ms; when none came for 300 ms and the kernel's queue is half full, or the
//! process is stopped, the sensor is killed. The kernel then knows that the stream has no owner, nobody waits any more, and a new
//! sensor reports the gap.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use collector::control::Control;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::sensor::{START_ANEW, private_dir};
use super::{Options, kernel, pidfile, privileges};

/// Silence after which a sensor is suspected.
const SILENCE: Duration = Duration::from_millis(300);
/// Silence after which it is killed whatever the queue says.
const LONG_SILENCE: Duration = Duration::from_secs(10);
/// How often the supervisor looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long a clean stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Runs until a signal says stop. Returns after the kernel's state was restored.
pub fn run(options: &Options) -> anyhow::Result<()> {
    // What is made below is not for everybody; where others must look in, the mode is set by name.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    private_dir(&options.config.run_dir, 0o755)?;
    private_dir(&options.config.state_dir, 0o755)?;
    let _pid_file = pidfile::take(&options.config.pid_file())?;
    let mut control = Control::open().context("cannot open the audit socket")?;
    kernel::save_before(&options.config, &mut control)?;
    privileges::supervisor()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(watch(options, &mut control));
    drop(control);
    match kernel::restore(&options.config) {
        Ok(lines) => {
            for line in lines {
                tracing::info!("{line}");
            }
            tracing::info!("stopped; the kernel's audit rules and settings are as they were found");
        }
        Err(e) => tracing::error!("{e:#}; run `syscall-monitor restore` as root"),
    }
    outcome
}

struct Sensor {
    child: Child,
    beat: tokio::net::unix::pipe::Receiver,
    /// `None` until the reader's first byte: a sensor that still opens its store holds nobody up.
    last_beat: Option<Instant>,
    started: Instant,
}

fn start(options: &Options) -> anyhow::Result<Sensor> {
    let (read, write): (OwnedFd, OwnedFd) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    rustix::io::ioctl_fionbio(&write, true)?;
    let child = Command::new("/proc/self/exe")
        .arg0("syscall-monitor")
        .arg("sensor")
        .env("SYSCALL_MONITOR_OPTIONS", serde_json::to_string(options)?)
        .stdin(Stdio::from(write))
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the sensor")?;
    let beat = tokio::net::unix::pipe::Receiver::from_owned_fd(read)
        .context("cannot read the heartbeat")?;
    Ok(Sensor {
        child,
        beat,
        last_beat: None,
        started: Instant::now(),
    })
}

async fn watch(options: &Options, control: &mut Control) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut sensor = start(options)?;
    let mut failures = 0u32;
    let mut last_look = Instant::now();
    loop {
        tokio::select! {
            _ = terminate.recv() => return stop(sensor).await,
            _ = interrupt.recv() => return stop(sensor).await,
            exit = sensor.child.wait() => {
                let exit = exit?;
                if sensor.started.elapsed() > Duration::from_secs(60) {
                    failures = 0;
                }
                let anew = exit.code() == Some(i32::from(START_ANEW));
                failures += u32::from(!anew);
                // A sensor that refuses at its first start has said why; trying again would say it for ever.
                if exit.code() == Some(2) || (failures == 1 && exit.code() == Some(1) && sensor.started.elapsed() < Duration::from_secs(5)) {
                    anyhow::bail!("the sensor could not start (its message is above)");
                }
                let how = exit.signal().map_or_else(|| format!("exit status {}", exit.code().unwrap_or(-1)), |s| format!("signal {s}"));
                let pause = Duration::from_millis(50u64 << failures.min(7));
                tracing::error!("the sensor ended ({how}); starting it again in {} ms", pause.as_millis());
                tokio::select! {
                    _ = tokio::time::sleep(pause) => {}
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                }
                sensor = start(options)?;
                last_look = Instant::now();
            }
            _ = tokio::time::sleep(LOOK) => {
                // When we ourselves did not run, the sensor may not have run either.
                let late = last_look.elapsed() > LOOK * 4;
                last_look = Instant::now();
                if read_beats(&mut sensor) || (late && sensor.last_beat.is_some()) {
                    sensor.last_beat = Some(Instant::now());
                } else {
                    end_if_stuck(&mut sensor, control).await;
                }
            }
        }
    }
}

/// Did the reader say that it lives?
fn read_beats(sensor: &mut Sensor) -> bool {
    let mut buffer = [0; 256];
    let mut any = false;
    while let Ok(n) = sensor.beat.try_read(&mut buffer) {
        if n == 0 {
            break;
        }
        any = true;
    }
    any
}

async fn end_if_stuck(sensor: &mut Sensor, control: &mut Control) {
    let Some(silent) = sensor
        .last_beat
        .map(|b| b.elapsed())
        .filter(|s| *s >= SILENCE)
    else {
        return;
    };
    let Some(pid) = sensor.child.id() else { return };
    let queue = control
        .status()
        .map(|s| (s.backlog, s.backlog_limit, s.pid));
    // Only an owner can hold the host up.
    let holds_up = queue
        .as_ref()
        .is_ok_and(|&(backlog, limit, owner)| owner == pid && backlog.saturating_mul(2) >= limit);
    let stopped = is_stopped(pid);
    if holds_up || (stopped && silent > SILENCE) || silent > LONG_SILENCE {
        let why = if stopped {
            "is stopped"
        } else {
            "does not read the audit stream"
        };
        let filled = queue.map_or_else(
            |e| format!("unknown: {e}"),
            |q| format!("{} of {}", q.0, q.1),
        );
        tracing::error!(
            "the sensor (pid {pid}) {why} for {} ms, the kernel's queue is {filled}; ending it so that the host does not wait",
            silent.as_millis()
        );
        if let Err(e) = sensor.child.start_kill() {
            tracing::error!("cannot end the sensor: {e}");
        }
        sensor.last_beat = None;
    }
}

/// State `T` or `t` in /proc/PID/stat: the field behind the name, which may itself hold blanks and brackets.
fn is_stopped(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|s| {
            s.rsplit_once(") ")
                .map(|(_, rest)| rest.starts_with(['T', 't']))
        })
        .unwrap_or(false)
}

async fn stop(mut sensor: Sensor) -> anyhow::Result<()> {
    if let Some(pid) = sensor
        .child
        .id()
        .and_then(|p| rustix::process::Pid::from_raw(i32::try_from(p).unwrap_or(0)))
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(STOP_LIMIT, sensor.child.wait())
        .await
        .is_err()
    {
        tracing::error!(
            "the sensor did not stop within {} s; ending it",
            STOP_LIMIT.as_secs()
        );
        sensor.child.kill().await.context("cannot end the sensor")?;
    }
    Ok(())
}
