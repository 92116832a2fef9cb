//! The alert rules as the sensor has them: read from the chosen packs, and warm before the first event.

use std::path::PathBuf;
use std::sync::Arc;

use collector::{Event, EventId};
use detector::{Detector, LoadError, Pack};
use enricher::activity::{
    Activity, Attribution, Category, PathInfo, Phase, Process, SocketInfo, SyscallInfo,
};
use enricher::container::{Container, Profile};

use super::Options;

/// Names of the packs that were chosen; `common` is always one of them.
pub fn pack_names(options: &Options) -> Vec<String> {
    std::iter::once("common".to_owned())
        .chain(options.chosen.profiles.iter().map(|p| p.name().to_owned()))
        .collect()
}

/// Reads the rules of the chosen packs and evaluates them once: an expression is compiled when it is first needed, which takes
/// milliseconds, and the first verdict is not to wait for that.
///
/// # Errors
/// Every problem of every rule file; and when there are no rules at all.
pub fn load_warm(options: &Options) -> anyhow::Result<Detector> {
    let mut detector = load(options)?;
    // Every expression by itself, also one that no made-up event comes to, and then the way of an event.
    detector.warm_up();
    warm(&mut detector, &options.chosen.profiles);
    Ok(detector)
}

fn load(options: &Options) -> anyhow::Result<Detector> {
    let exceptions = options.config.exceptions_dir();
    let detector = match read(options, Some(&exceptions)) {
        Ok(detector) => detector,
        // A broken exception must not end the watch; that there are more alerts is the lesser evil. A broken rule is an error either way.
        Err(problem) => {
            let detector = read(options, None)?;
            tracing::error!(
                "the exceptions in {} are NOT in force: {problem}; mend or remove the file and start anew",
                exceptions.display()
            );
            detector
        }
    };
    if detector.rules().is_empty() {
        let dirs: Vec<_> = options
            .config
            .rules
            .dirs
            .iter()
            .map(|d| d.display().to_string())
            .collect();
        anyhow::bail!(
            "no alert rules in {}; install them with scripts/enable-syscall-monitor.sh, or name their folder in the configuration: [rules] dirs",
            dirs.join(", ")
        );
    }
    Ok(detector)
}

/// Reads the chosen packs, and the exceptions where they are wanted.
fn read(options: &Options, exceptions: Option<&PathBuf>) -> Result<Detector, LoadError> {
    let mut packs = Vec::new();
    for dir in options.config.rules.dirs.iter().chain(exceptions) {
        for name in pack_names(options) {
            let dir = dir.join(&name).join("alerts");
            if dir.is_dir() {
                packs.push(Pack { name, dir });
            }
        }
    }
    Detector::load(&packs, detector::Options::default())
}

/// Calls that stand for their kind.
const KINDS: [(Category, &str); 14] = [
    (Category::Process, "execve"),
    (Category::File, "openat"),
    (Category::Network, "connect"),
    (Category::Mount, "mount"),
    (Category::Mount, "move_mount"),
    (Category::Ptrace, "ptrace"),
    (Category::Ptrace, "process_vm_readv"),
    (Category::Module, "init_module"),
    (Category::Namespace, "unshare"),
    (Category::Credential, "setuid"),
    (Category::Seccomp, "seccomp"),
    (Category::Config, "bpf"),
    (Category::Other, "kexec_load"),
    (Category::Other, "io_uring_setup"),
];

/// A container that cannot be: Docker's ids are 64 hexadecimal digits.
const NOWHERE: &str = "warm-up";

/// Evaluates a made-up event of each kind in a made-up container of each profile. What it finds is dropped and forgotten; the time of the events
/// is the beginning of the epoch, so that no correlation counts them.
fn warm(detector: &mut Detector, profiles: &[Profile]) {
    let mut found = Vec::new();
    for profile in profiles {
        let container = Arc::new(Container {
            name: Some(NOWHERE.to_owned()),
            image: Some(NOWHERE.to_owned()),
            profile: Some(*profile),
            ..Container::from_id(NOWHERE)
        });
        for (category, call) in KINDS {
            for success in [true, false] {
                detector.evaluate(&made_up(category, call, success, &container), &mut found);
                found.clear();
            }
        }
    }
    detector.forget(NOWHERE);
}

fn made_up(category: Category, call: &str, success: bool, container: &Arc<Container>) -> Activity {
    Activity {
        event: Event::new(EventId {
            node: None,
            millis: 0,
            serial: 0,
        }),
        category,
        phase: Phase::Running,
        health_check: false,
        entered: false,
        syscall: Some(SyscallInfo {
            name: call.into(),
            arch: "x86_64".into(),
            success: Some(success),
            ..SyscallInfo::default()
        }),
        process: Process {
            pid: 1,
            exe: "/warm/up".into(),
            comm: "up".into(),
            argv: vec!["/warm/up".into(), "-c".into(), "warm up".into()],
            cwd: Some("/warm".into()),
            ..Process::default()
        },
        container: Some(Arc::clone(container)),
        attribution: Attribution::default(),
        paths: vec![PathInfo {
            name: "/warm/file".into(),
            path: "/warm/file".into(),
            nametype: "CREATE".into(),
            ..PathInfo::default()
        }],
        socket: Some(SocketInfo {
            family: "inet".into(),
            address: "192.0.2.1".into(),
            port: Some(1),
        }),
        target: None,
        keys: vec!["warm-up".into()],
        alerts: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs(names: &[&str]) -> Vec<Pack> {
        let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("audit-rules");
        let pack = |name: &&str| Pack {
            name: (*name).to_owned(),
            dir: rules.join(name).join("alerts"),
        };
        names.iter().map(pack).collect()
    }

    #[test]
    fn every_kind_is_evaluated_for_every_profile_and_nothing_of_it_stays_open() {
        let packs = packs(&["common", "openclaw", "clawbot"]);
        let mut detector = Detector::load(&packs, detector::Options::default()).unwrap();
        let profiles = [Profile::Openclaw, Profile::Clawbot];
        warm(&mut detector, &profiles);
        let counters = detector.counters();
        assert_eq!(
            counters.activities,
            (KINDS.len() * 2 * profiles.len()) as u64
        );
        assert!(counters.new > 0, "the rules were not reached: {counters:?}");
        assert_eq!(counters.open, 0, "{counters:?}");
    }

    #[test]
    fn a_broken_exception_is_left_out_and_a_broken_rule_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("audit-rules");
        let mut config = crate::config::Config {
            state_dir: state.path().to_owned(),
            ..Default::default()
        };
        config.rules.dirs = vec![rules];
        let dir = config.exceptions_dir().join("common/alerts");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("except-A-1.yml"), "filter: [").unwrap();
        let mut options = Options {
            config_file: None,
            chosen: crate::config::Chosen::resolve(&[], &config),
            config,
            containers: vec![],
            mode: crate::config::Mode::Auto,
            dry_run: false,
        };
        assert!(!load(&options).unwrap().rules().is_empty());
        // The same file as a rule of root's.
        options
            .config
            .rules
            .dirs
            .push(options.config.exceptions_dir());
        assert!(load(&options).is_err());
    }
}
