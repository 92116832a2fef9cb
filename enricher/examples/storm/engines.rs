//! Engines beside Docker that can be had on a test machine: containerd by `ctr`, Podman by its service.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::monitor::Orders;
use crate::verdict::{Verdict, row};
use crate::world::{IMAGE, Monitor, World, output, wait_until};

const NUMBER: u32 = 600;
const NAME: &str = "smstorm-600";
const LIMIT: Duration = Duration::from_secs(120);

/// Kills and removes when it is dropped, whatever happened.
struct Undo(Vec<(String, Vec<String>)>);

impl Drop for Undo {
    fn drop(&mut self) {
        for (program, args) in &self.0 {
            let _ = Command::new(program)
                .args(args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn archive(world: &World) -> anyhow::Result<PathBuf> {
    let tar = world.file("saved.tar");
    output(world.docker().args(["save", "-o"]).arg(&tar).arg(IMAGE))?;
    Ok(tar)
}

fn judge(name: &str, v: &Verdict, made: u64) -> bool {
    let seen = v.events.get("exec").copied().unwrap_or(0);
    print!("{}", v.samples());
    row(
        &format!("{name}: execs seen, wrong, without, certain"),
        &format!("{made}, 0, 0, >= 99.9 %"),
        &format!(
            "{seen}, {}, {}, {:.2} %, phase {}",
            v.wrong.len(),
            v.unattributed.len(),
            v.sure(),
            v.out_of_phase.len()
        ),
        seen == made
            && v.wrong.is_empty()
            && v.unattributed.is_empty()
            && v.out_of_phase.is_empty()
            && v.sure() >= 99.9,
    )
}

/// A container of containerd's own namespace, with an id that a person chose; seen from its start, and again by a monitor that
/// came later.
pub fn ctr(n: u32) -> anyhow::Result<bool> {
    let socket = [
        "/run/containerd/containerd.sock",
        "/var/run/docker/containerd/containerd.sock",
    ]
    .into_iter()
    .find(|s| Path::new(s).exists())
    .context("no containerd listens where Debian's docker.io starts it")?;
    let mut world = World::new(None, None)?;
    let tar = archive(&world)?;
    let ctr = |text: &str| {
        let mut command = Command::new("ctr");
        command.args(["-a", socket]).args(words(text));
        command
    };
    let undo = |text: &str| ("ctr".to_owned(), words(&format!("-a {socket} {text}")));
    let image = format!("docker.io/library/{IMAGE}:latest");
    let _undo = Undo(vec![
        undo(&format!("tasks kill -s SIGKILL {NAME}")),
        undo(&format!("tasks rm -f {NAME}")),
        undo(&format!("containers rm {NAME}")),
        undo(&format!("images rm {image}")),
    ]);
    output(&mut ctr(&format!("images import {}", tar.display())))?;
    let mut fine = true;
    for late in [false, true] {
        let orders = Orders {
            docker: None,
            ..Orders::new(world.file(&format!("answers-{late}")))
        };
        let mut monitor = if late {
            None
        } else {
            Some(Monitor::start(&orders)?)
        };
        let gate = world.file("gate").display().to_string();
        output(&mut ctr(&format!(
            "run -d --mount type=bind,src={gate},dst=/gate,options=rbind:ro {image} {NAME} /storm exec c{NUMBER} {n} /gate/go"
        )))?;
        world.ids.insert(NUMBER, NAME.to_owned());
        let monitor = match monitor.take() {
            Some(monitor) => monitor,
            None => Monitor::start(&orders)?,
        };
        world.open()?;
        let mut list = ctr("tasks ls");
        wait_until("the task of ctr", LIMIT, || {
            output(&mut list).is_ok_and(|o| {
                o.lines()
                    .any(|l| l.starts_with(NAME) && l.contains("STOPPED"))
            })
        })?;
        output(&mut ctr(&format!("tasks rm {NAME}")))?;
        output(&mut ctr(&format!("containers rm {NAME}")))?;
        world.shut()?;
        let mut v = Verdict::default();
        v.add(&monitor.finish()?, &world.ids, |_| true)?;
        let name = if late {
            "ctr, monitor started later"
        } else {
            "ctr"
        };
        fine &= judge(name, &v, u64::from(n));
    }
    Ok(fine)
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container of Podman, named by its service through bollard.
pub fn podman(n: u32) -> anyhow::Result<bool> {
    if Command::new("podman")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        println!("podman: skipped, it is not installed (apt-get install podman)");
        return Ok(true);
    }
    let mut world = World::new(None, None)?;
    let tar = archive(&world)?;
    let store = format!(
        "--root {} --runroot {} --cgroup-manager cgroupfs --events-backend file",
        world.file("podman").display(),
        world.file("podman-run").display()
    );
    let podman = |text: &str| {
        let mut command = Command::new("podman");
        command.args(words(&store)).args(words(text));
        command
    };
    let _undo = Undo(vec![
        (
            "podman".to_owned(),
            words(&format!("{store} rm -f -t 0 {NAME}")),
        ),
        ("podman".to_owned(), words(&format!("{store} rmi -f -a"))),
    ]);
    output(&mut podman(&format!("load -i {}", tar.display())))?;
    let socket = world.file("podman.sock");
    let log = std::fs::File::create(world.file("podman.log"))?;
    let _service = Service(
        podman(&format!("system service -t 0 unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?,
    );
    wait_until("podman's service", LIMIT, || socket.exists())?;
    let monitor = Monitor::start(&Orders {
        docker: Some(socket),
        ..Orders::new(world.file("answers"))
    })?;
    let gate = world.file("gate").display().to_string();
    let id = output(&mut podman(&format!(
        "run -d --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network none --name {NAME} -v {gate}:/gate:ro {IMAGE} /storm exec c{NUMBER} {n} /gate/go"
    )))?;
    world.ids.insert(NUMBER, id.clone());
    world.open()?;
    let mut list = podman("ps -q");
    wait_until("podman's container", LIMIT, || {
        output(&mut list).is_ok_and(|o| o.is_empty())
    })?;
    let mut v = Verdict::default();
    v.add(&monitor.finish()?, &world.ids, |_| true)?;
    println!("    the watcher said: {}", v.docker.join("; "));
    let name = v.names.get(&id).map_or("none", String::as_str);
    let named = row("podman: name from its service", NAME, name, name == NAME);
    Ok(named & judge("podman", &v, u64::from(n)))
}
