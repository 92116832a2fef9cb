//! Activities made by hand, and detectors over the packs of this repository.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use collector::event::{Event, EventId};
use detector::{Detected, Detector, Options, Pack, Severity};
use enricher::activity::{
    Activity, Ancestor, Attribution, Category, PathInfo, Phase, Process, SocketInfo, Source,
    SyscallInfo, Target,
};
use enricher::container::{Container, Profile};

/// Id of the container of every activity, unless it says otherwise.
pub const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Folder of the rule packs.
pub fn packs_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../audit-rules")
}

/// Packs by name.
pub fn packs(names: &[&str]) -> Vec<Pack> {
    names
        .iter()
        .map(|name| Pack {
            name: (*name).to_owned(),
            dir: packs_dir().join(name).join("alerts"),
        })
        .collect()
}

/// A detector with every pack.
pub fn all_packs() -> Detector {
    match Detector::load(
        &packs(&["common", "openclaw", "clawbot", "moltbot"]),
        Options::default(),
    ) {
        Ok(detector) => detector,
        Err(error) => panic!("{error}"),
    }
}

/// A detector over one file's text, in the common pack.
pub fn with_rule(text: &str) -> Result<Detector, detector::LoadError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rule.yml"), text).unwrap();
    Detector::load(
        &[Pack {
            name: "common".to_owned(),
            dir: dir.path().to_owned(),
        }],
        Options::default(),
    )
}

/// An activity under construction.
#[derive(Clone, Debug)]
pub struct Act(pub Activity);

/// A call of a node process in an openclaw gateway.
pub fn call(name: &str) -> Act {
    Act(Activity {
        event: Event::new(EventId::local(1_795_353_018_414, 5)),
        category: Category::Other,
        phase: Phase::Running,
        entered: false,
        health_check: false,
        syscall: Some(SyscallInfo {
            name: name.into(),
            number: 0,
            arch: "x86_64".into(),
            success: Some(true),
            ..SyscallInfo::default()
        }),
        process: Process {
            pid: 4321,
            ppid: 4300,
            exe: "/usr/local/bin/node".into(),
            comm: "node".into(),
            argv: vec!["node".into(), "dist/index.js".into(), "gateway".into()],
            cwd: Some("/app".into()),
            uid: Some(1000),
            euid: Some(1000),
            ancestors: vec![
                Ancestor {
                    pid: 4300,
                    comm: "node".into(),
                    exe: "/usr/local/bin/node".into(),
                },
                Ancestor {
                    pid: 4200,
                    comm: "tini".into(),
                    exe: "/usr/bin/tini".into(),
                },
            ],
            ..Process::default()
        },
        container: Some(Arc::new(Container {
            id: CONTAINER.into(),
            name: Some("openclaw-gateway".into()),
            image: Some("openclaw:local".into()),
            profile: Some(Profile::Openclaw),
            agent: Some("openclaw-gateway".into()),
            ..Container::default()
        })),
        attribution: Attribution {
            source: Source::Table,
            certain: true,
        },
        paths: Vec::new(),
        socket: None,
        target: None,
        keys: Vec::new(),
        alerts: Vec::new(),
    })
}

/// An exec: `exec("/usr/bin/curl", "curl -fsS http://x")`, arguments split at blanks.
pub fn exec(exe: &str, command_line: &str) -> Act {
    exec_args(exe, &command_line.split(' ').collect::<Vec<_>>())
}

/// An exec of `/bin/sh -c SCRIPT` by a real shell.
pub fn shell(script: &str) -> Act {
    exec_args("/usr/bin/dash", &["sh", "-c", script])
}

/// An exec with arguments one by one.
pub fn exec_args(exe: &str, argv: &[&str]) -> Act {
    let mut act = call("execve");
    act.0.category = Category::Process;
    act.0.keys.push("sm-exec".into());
    act.0.process.exe = exe.into();
    act.0.process.comm = exe.rsplit('/').next().unwrap().chars().take(15).collect();
    act.0.process.argv = argv.iter().map(|a| (*a).to_owned()).collect();
    act.path(exe, "NORMAL")
}

impl Act {
    /// Changes the activity in place.
    pub fn with(mut self, change: impl FnOnce(&mut Activity)) -> Self {
        change(&mut self.0);
        self
    }

    /// The call failed.
    pub fn refused(self, errno: &str) -> Self {
        self.with(|a| {
            if let Some(call) = &mut a.syscall {
                call.success = Some(false);
                call.errno = Some(errno.into());
                call.exit = -1;
            }
        })
    }

    /// Registers.
    pub fn args(self, args: [u64; 4]) -> Self {
        self.with(|a| a.syscall.as_mut().unwrap().args = args)
    }

    /// One more path.
    pub fn path(self, path: &str, nametype: &str) -> Self {
        self.with(|a| {
            a.paths.push(PathInfo {
                name: path.into(),
                path: path.into(),
                nametype: nametype.into(),
                ..PathInfo::default()
            });
        })
    }

    /// One more path, on a mount from the host.
    pub fn host_path(self, path: &str, host: &str, undeclared: bool) -> Self {
        self.path(path, "NORMAL").with(|a| {
            let last = a.paths.last_mut().unwrap();
            last.host_path = Some(host.into());
            last.undeclared = undeclared;
        })
    }

    /// Key of the kernel rule.
    pub fn key(self, key: &str) -> Self {
        self.with(|a| a.keys = vec![key.into()])
    }

    /// Address.
    pub fn socket(self, family: &str, address: &str, port: Option<u16>) -> Self {
        self.with(|a| {
            a.socket = Some(SocketInfo {
                family: family.into(),
                address: address.into(),
                port,
            })
        })
    }

    /// Process aimed at.
    pub fn target(self, comm: &str, container: Option<&str>) -> Self {
        self.with(|a| {
            a.target = Some(Target {
                pid: 99,
                comm: comm.into(),
                container: container.map(str::to_owned),
            })
        })
    }

    /// Program of the actor.
    pub fn exe(self, exe: &str) -> Self {
        self.with(|a| a.process.exe = exe.into())
    }

    /// Parent's program.
    pub fn parent(self, exe: &str) -> Self {
        self.with(|a| {
            let comm = exe.rsplit('/').next().unwrap();
            a.process.ancestors.insert(
                0,
                Ancestor {
                    pid: 4311,
                    comm: comm.into(),
                    exe: exe.into(),
                },
            );
            a.process.ppid = 4311;
        })
    }

    /// Phase.
    pub fn phase(self, phase: Phase) -> Self {
        self.with(|a| a.phase = phase)
    }

    /// The container's profile.
    pub fn profile(self, profile: Option<Profile>) -> Self {
        self.container(|c| c.profile = profile)
    }

    /// Changes the container.
    pub fn container(self, change: impl FnOnce(&mut Container)) -> Self {
        self.with(|a| {
            let mut container = a.container.as_deref().cloned().unwrap();
            change(&mut container);
            a.container = Some(Arc::new(container));
        })
    }

    /// Not in a container.
    pub fn host(self) -> Self {
        self.with(|a| {
            a.container = None;
            a.phase = Phase::Host;
        })
    }

    /// Milliseconds after the first activity.
    pub fn at(self, ms: u64) -> Self {
        self.with(|a| a.event.id.millis = 1_795_353_018_414 + ms)
    }
}

/// Evaluates one activity.
pub fn evaluate(detector: &mut Detector, act: &Act) -> Vec<Detected> {
    let mut out = Vec::new();
    detector.evaluate(&act.0, &mut out);
    out
}

/// Files of the rules that matched, without folder and ending (`common/mount-call`).
pub fn rules_of(detector: &Detector, detected: &[Detected]) -> Vec<String> {
    detected
        .iter()
        .map(|d| name_of(detector, &d.alert().rule))
        .collect()
}

/// `common/mount-call` for a rule id.
pub fn name_of(detector: &Detector, id: &str) -> String {
    let rule = detector.rule(id).unwrap();
    format!(
        "{}/{}",
        rule.pack,
        rule.file.file_stem().unwrap().to_str().unwrap()
    )
}

/// What people would be told of.
pub fn told(detected: &[Detected]) -> Vec<String> {
    let told = detected
        .iter()
        .map(Detected::alert)
        .filter(|a| a.severity >= Severity::Medium);
    told.map(|a| format!("{} {}", a.severity, a.title))
        .collect()
}
