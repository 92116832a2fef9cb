//! On the running kernel and a real Docker engine. Needs root, an audit subsystem without an owner and
//! `SYSCALL_MONITOR_KERNEL_TESTS=1`; whoever runs it holds the lock on the kernel's audit state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use collector::control::Control;
use collector::live::{Mode, Reader, ReaderOptions};
use collector::rules::parse_rules;
use collector::settings::{SavedState, Wanted, assert_settings};
use collector::{Assembled, Assembler, Limits, parse_header};
use enricher::activity::Phase;
use enricher::docker::{DockerOptions, DockerUpdate};
use enricher::{Activity, Enricher, Notice, Options};

const IMAGE: &str = "sm-enricher-test";
/// Containers of the test.
const N: usize = 8;
/// Containers of the test that have a name of ours: those, `smenr-old`, `smenr-a`, `smenr-link` and `smenr-evil`.
const NAMED: usize = N + 4;
const RULES: &str = "-a always,exit -F arch=b64 -S execve,execveat -k sm-exec\n\
    -a always,exit -F arch=b64 -S mount,umount2,pivot_root,fsopen,fsmount,move_mount,open_tree,mount_setattr,setns,unshare -k sm-mount\n\
    -a always,exit -F arch=b64 -S chmod,fchmodat,unlink,unlinkat -k sm-link\n";

fn sh(script: &str) -> String {
    let out = Command::new("sh")
        .arg("-ec")
        .arg(script)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn image() {
    sh(&format!(
        "docker image inspect {IMAGE} >/dev/null 2>&1 && exit 0; d=$(mktemp -d); mkdir -p $d/bin $d/etc $d/tmp $d/proc $d/sys $d/dev $d/mnt; \
         cp $(command -v busybox) $d/bin/busybox; for a in sh ls cat sleep echo true mount cp; do ln -s busybox $d/bin/$a; done; \
         echo 'root:x:0:0:inside:/root:/bin/sh' > $d/etc/passwd; echo 'node:x:1000:1000::/:/bin/sh' >> $d/etc/passwd; \
         tar -C $d -c . | docker import - {IMAGE} >/dev/null; rm -rf $d"
    ));
}

/// Puts the kernel's state back and removes the containers, also when the test fails.
struct Restore(SavedState);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = Control::open().map(|mut c| self.0.restore(&mut c));
        let _ = Command::new("sh")
            .args(["-c", "docker rm -f $(docker ps -aq --filter label=syscall-monitor.test=enricher) >/dev/null 2>&1"])
            .status();
    }
}

struct Seen {
    activities: Vec<Activity>,
    notices: Vec<Notice>,
    enricher: Enricher,
}

/// Watches while `scenario` runs, and half a second longer.
fn watch(scenario: impl FnOnce() + Send + 'static) -> Seen {
    let mut control = Control::open().unwrap();
    let saved = Restore(SavedState::capture(&mut control).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (tx, mut rx) = tokio::sync::mpsc::channel(1024);
    let options = ReaderOptions {
        mode: Mode::Exclusive,
        ..ReaderOptions::default()
    };
    let reader = Reader::start(options, tx).unwrap();
    assert_settings(&mut control, &Wanted::default()).unwrap();
    for rule in parse_rules(RULES, "test").unwrap() {
        control.add_rule(&rule.rule).unwrap();
    }
    let mut enricher = Enricher::new(Options::default());
    enricher.seed();
    let (docker_tx, mut docker_rx) = tokio::sync::mpsc::channel(64);
    let docker = runtime.spawn(enricher::docker::watch(DockerOptions::default(), docker_tx));

    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    let world = std::thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(scenario));
        flag.store(true, Ordering::SeqCst);
        result
    });
    let mut assembler = Assembler::new(Limits::default());
    let mut out = Vec::new();
    let mut seen = Seen {
        activities: Vec::new(),
        notices: Vec::new(),
        enricher,
    };
    let mut end: Option<Instant> = None;
    let mut took: Vec<Duration> = Vec::new();
    runtime.block_on(async {
        loop {
            while let Ok(update) = docker_rx.try_recv() {
                match update {
                    DockerUpdate::Container(c) => seen.enricher.update_container(c),
                    DockerUpdate::Stopped { id } | DockerUpdate::Removed { id } => {
                        seen.enricher.container_stopped(&id)
                    }
                    _ => {}
                }
            }
            let batch = tokio::time::timeout(Duration::from_millis(20), rx.recv()).await;
            let now = Instant::now();
            if let Ok(Some(batch)) = batch {
                if batch.connector_overrun {
                    seen.enricher.on_connector_overrun();
                }
                batch
                    .proc_events
                    .iter()
                    .for_each(|e| seen.enricher.on_proc_event(e));
                for (kind, payload) in batch.records() {
                    if let Some(header) = parse_header(payload) {
                        assembler.push(
                            None,
                            kind,
                            header.millis,
                            header.serial,
                            header.body,
                            now,
                            &mut out,
                        );
                    }
                }
            }
            assembler.tick(now, &mut out);
            for item in out.drain(..) {
                if let Assembled::Event(event) = item {
                    let started = Instant::now();
                    seen.activities.push(seen.enricher.enrich(event));
                    took.push(started.elapsed());
                }
            }
            seen.notices.extend(seen.enricher.drain_notices());
            if done.load(Ordering::SeqCst) {
                // Half a second for records that are on their way, and until Docker has told the names, in its own time.
                let end = *end.get_or_insert(now + Duration::from_millis(500));
                let named = seen
                    .enricher
                    .containers()
                    .filter(|c| c.name.as_deref().is_some_and(|n| n.starts_with("smenr-")))
                    .count();
                if now > end && named >= NAMED || now > end + Duration::from_secs(60) {
                    break;
                }
            }
        }
    });
    docker.abort();
    reader.stop().unwrap();
    drop(control);
    drop(saved);
    world.join().unwrap().unwrap();
    took.sort();
    if !took.is_empty() {
        println!(
            "enrich: median {:?}, 99 % {:?}, {} events",
            took[took.len() / 2],
            took[took.len() * 99 / 100],
            took.len()
        );
    }
    println!("{:?}", seen.enricher.counters());
    seen
}

fn is_exec(a: &Activity) -> bool {
    a.syscall
        .as_ref()
        .is_some_and(|s| s.name.starts_with("exec") && s.success == Some(true))
}

#[test]
fn containers_are_told_apart_on_the_running_system() {
    if std::env::var("SYSCALL_MONITOR_KERNEL_TESTS").as_deref() != Ok("1") {
        println!("skipped: SYSCALL_MONITOR_KERNEL_TESTS is not 1");
        return;
    }
    image();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap().to_owned();
    let run = String::from("docker run --label syscall-monitor.test=enricher --network none");
    // One that was there before us.
    sh(&format!(
        "{run} -d --name smenr-old --cidfile {root}/old {IMAGE} /bin/sh -c 'while :; do /bin/sleep 0.2 tok-old; done' >/dev/null 2>&1 || true; test -s {root}/old"
    ));
    let script = format!(
        "for i in $(seq 1 {N}); do ( \
           {run} -d --name smenr-$i --cidfile {root}/$i --health-cmd '/bin/true tok-'$i --health-interval 1s -v {root}:/data {IMAGE} \
             /bin/sh -c \"/bin/echo tok-$i; ( ( /bin/true tok-$i & ) & ); while :; do sleep 1; done\" >/dev/null; \
           docker exec smenr-$i /bin/sh -c \"/bin/echo tok-$i; /bin/true tok-$i\" >/dev/null; \
           {run} --rm --cidfile {root}/rm-$i {IMAGE} /bin/true tok-rm-$i ) & \
           test $((i % 4)) = 0 && wait || true; done; wait; \
         docker exec smenr-old /bin/true tok-old; docker exec -u 1000 smenr-1 /bin/true tok-1 by-node; \
         docker exec smenr-1 /bin/sh -c '/bin/cp /bin/busybox /data/echo; /data/echo tok-1'; \
         nsenter -t $(docker inspect -f '{{{{.State.Pid}}}}' smenr-1) -m /bin/echo entered; \
         b=$(docker inspect -f '{{{{.GraphDriver.Data.MergedDir}}}}' smenr-1); $b/bin/busybox true backup-of-b; \
         {run} --name smenr-a --cidfile {root}/a -v $b:/b {IMAGE} /b/bin/busybox true touched-by-a; \
         {run} --rm --name smenr-link --cidfile {root}/link {IMAGE} /bin/sh -c '/bin/busybox mkdir /etc/deep; echo x > /etc/deep/victim; \
           /bin/busybox ln -s /etc/deep /tmp/d; /bin/busybox ln -s ../etc/passwd /tmp/l; /bin/busybox chmod 600 /tmp/l; \
           /bin/busybox chmod 600 /tmp/d/../passwd; /bin/busybox rm /tmp/d/victim; sleep 1'; \
         {run} --rm --name smenr-evil --cidfile {root}/evil --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined {IMAGE} \
           /bin/sh -c 'printf \"runc:[2:INIT]\" > /proc/self/comm; /bin/mount -t tmpfs tok-evil /mnt; \
             printf \"#!/bin/sh\\n/bin/mount -t tmpfs tok-evil /mnt\\n\" > /tmp/runc; /bin/busybox chmod 755 /tmp/runc; /tmp/runc init' ; \
         sleep 1.2; docker rm -f smenr-old smenr-a $(seq -f smenr-%g 1 {N}) >/dev/null"
    );
    let seen = watch(move || {
        sh(&script);
    });
    let id = |name: &str| std::fs::read_to_string(Path::new(&root).join(name)).unwrap();
    let ids: HashMap<String, String> = (1..=N)
        .flat_map(|i| {
            [
                (format!("tok-{i}"), id(&i.to_string())),
                (format!("tok-rm-{i}"), id(&format!("rm-{i}"))),
            ]
        })
        .chain([
            ("tok-old".to_owned(), id("old")),
            ("tok-evil".to_owned(), id("evil")),
        ])
        .collect();

    // The truth is the token in the arguments; the container's busybox lies in /bin, the host's does not.
    let mut checked = 0;
    let mut wrong = Vec::new();
    for a in seen.activities.iter().filter(|a| is_exec(a)) {
        let exe = a.process.exe.as_str();
        let inside = exe == "/bin/busybox" || exe == "/data/echo";
        let token = a.process.argv.iter().find_map(|arg| {
            ids.keys()
                .find(|t| arg.split([' ', ';', '&', ')']).any(|w| w == t.as_str()))
        });
        if !inside {
            continue;
        }
        let got = a.container.as_ref().map(|c| c.id.clone());
        let fine = match token {
            Some(token) => got.as_ref() == ids.get(token),
            None => got.is_some() || a.entered,
        };
        checked += 1;
        if !fine
            || !(a.attribution.certain || a.entered)
            || (a.phase == Phase::Host && !a.entered)
            || a.phase == Phase::Setup
        {
            wrong.push(format!(
                "{} {:?} {:?} {:?} {:?}",
                a.event.id, a.process.argv, a.phase, a.attribution, got
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {checked}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(checked > 12 * N, "{checked}");

    let mounts: Vec<&Activity> = seen
        .activities
        .iter()
        .filter(|a| {
            matches!(a.phase, Phase::Running | Phase::Exec)
                && a.keys.iter().any(|k| k == "sm-mount")
        })
        .collect();
    let evil = id("evil");
    assert_eq!(
        mounts.len(),
        2,
        "{:?}",
        mounts.iter().map(|a| a.to_json()).collect::<Vec<_>>()
    );
    // The container is certain at once; its name comes from Docker, in its own time.
    for mount in &mounts {
        assert!(mount.attribution.certain, "{:?}", mount.attribution);
        let container = mount.container.as_ref().unwrap();
        assert_eq!(container.id, evil);
        assert!(
            matches!(container.name.as_deref(), None | Some("smenr-evil")),
            "{:?}",
            container.name
        );
    }
    assert!(
        seen.activities
            .iter()
            .filter(|a| a.process.comm.starts_with("runc:[") && a.process.exe == "/")
            .all(|a| a.phase == Phase::Setup)
    );

    let entered: Vec<_> = seen
        .activities
        .iter()
        .filter(|a| a.entered)
        .map(|a| a.process.argv.join(" "))
        .collect();
    assert_eq!(entered, ["/bin/echo entered"]);

    // A container and a backup of the host execute a file of container 1: the file's device is that container's, the actor is not.
    let runtime_of_b = seen.notices.iter().find_map(|n| match n {
        Notice::ContainerSeen { id: seen, runtime } if *seen == id("1") => Some(runtime),
        _ => None,
    });
    let root_dev = runtime_of_b.and_then(|r| r.root_dev).unwrap();
    for (token, wanted) in [("backup-of-b", None), ("touched-by-a", Some(id("a")))] {
        let touched = seen
            .activities
            .iter()
            .find(|a| {
                // The command line of Docker has the word in it too.
                is_exec(a)
                    && a.process.exe.ends_with("/bin/busybox")
                    && a.process.argv.last().is_some_and(|l| l == token)
            })
            .unwrap_or_else(|| panic!("{token} was not seen"));
        assert_eq!(
            touched.paths[0].dev.as_deref(),
            Some(format!("{:02x}:{:02x}", root_dev.0, root_dev.1).as_str()),
            "{token} touches a file of container 1"
        );
        assert_eq!(
            touched.container.as_ref().map(|c| c.id.clone()),
            wanted,
            "{token}"
        );
        assert!(touched.attribution.certain && !touched.entered, "{token}");
    }

    // Links in the container's own root, an overlay: followed inside of it, also where `..` comes behind one.
    let link = id("link");
    for (name, path, real) in [
        ("/tmp/l", "/tmp/l", "/etc/passwd"),
        ("/tmp/d/../passwd", "/tmp/passwd", "/etc/passwd"),
        ("/tmp/d/victim", "/tmp/d/victim", "/etc/deep/victim"),
    ] {
        let item = seen
            .activities
            .iter()
            .filter(|a| a.container.as_ref().is_some_and(|c| c.id == link))
            .filter(|a| a.keys.iter().any(|k| k == "sm-link"))
            .flat_map(|a| &a.paths)
            .find(|p| p.name == name)
            .unwrap_or_else(|| panic!("{name} was not seen"));
        assert_eq!(
            (item.path.as_str(), item.real_path.as_deref()),
            (path, Some(real)),
            "{item:?}"
        );
    }

    let bind = seen
        .activities
        .iter()
        .find(|a| is_exec(a) && a.process.exe == "/data/echo")
        .unwrap();
    assert_eq!(
        bind.paths[0].host_path.as_deref(),
        Some(format!("{root}/echo").as_str())
    );
    assert!(bind.paths[0].undeclared);
    assert_eq!(bind.process.user.as_deref(), Some("root"));

    // The container's own passwd names its users.
    let by_node = seen
        .activities
        .iter()
        .find(|a| is_exec(a) && a.process.argv == ["/bin/true", "tok-1", "by-node"])
        .unwrap();
    assert_eq!(
        (by_node.process.uid, by_node.process.user.as_deref()),
        (Some(1000), Some("node"))
    );

    // Each of them was seen before its first program ran, with everything that freezing it needs.
    for i in 1..=N {
        let id = id(&i.to_string());
        let runtime = seen.notices.iter().find_map(|n| match n {
            Notice::ContainerSeen { id: seen, runtime } if *seen == id => Some(runtime),
            _ => None,
        });
        let runtime = runtime.unwrap_or_else(|| panic!("{id} was not seen"));
        assert!(
            runtime.init_pid != 0
                && runtime.init_start_ticks != 0
                && runtime.root_dev.is_some()
                && runtime.proc_dev.is_some(),
            "{runtime:?}"
        );
        assert!(
            runtime.cgroup_v2.is_some() || runtime.cgroup_freezer.is_some(),
            "{runtime:?}"
        );
        let open: Vec<&str> = runtime
            .mounts
            .iter()
            .filter(|m| !m.declared)
            .map(|m| m.destination.as_str())
            .collect();
        assert_eq!(open, ["/data"], "{runtime:?}");
        let gone = seen
            .notices
            .iter()
            .any(|n| *n == Notice::ContainerGone { id: id.clone() });
        assert!(gone, "{id} did not go");
        assert_eq!(
            seen.enricher.container(&id).and_then(|c| c.name.clone()),
            Some(format!("smenr-{i}"))
        );
    }
}
