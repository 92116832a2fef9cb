//! What a container runtime's arguments say: which program it is and which container it serves.
//!
//! Only a process outside every container may be asked; the caller sees to that. Syntax after runc 1.1's and crun's
//! `--help` and containerd's `runtime/v2` shim interface.

use crate::container::Engine;

/// A runtime, told by its program and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeArgs {
    /// Supervisor of one container: containerd-shim, conmon.
    Shim {
        /// Container.
        id: String,
        /// Engine, as far as the arguments tell (`-namespace moby` is Docker).
        engine: Engine,
    },
    /// runc, crun, youki: its children set a container up.
    Runtime {
        /// Container.
        id: String,
        /// What it does.
        verb: Verb,
    },
}

/// What a runtime was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `create`, `run`, `restore`: the first program of a container.
    Create,
    /// `exec`: a program more in a container that runs.
    Exec,
    /// Anything else; its children are the host's.
    Other,
}

/// Reads the arguments of a program at `exe` (the path that the kernel recorded) with `argv`.
pub fn read(exe: &str, argv: &[String]) -> Option<RuntimeArgs> {
    let program = base(exe);
    if is_shim(program) {
        return shim(argv);
    }
    if program == "conmon" || program == "conmonrs" {
        let id = flag(argv, &["-c", "--cid"])?;
        return is_id(id).then(|| RuntimeArgs::Shim {
            id: id.to_owned(),
            engine: Engine::Unknown,
        });
    }
    is_runtime(program).then(|| runtime(argv)).flatten()
}

/// Is this the name of a low-level runtime's program?
pub fn is_runtime(program: &str) -> bool {
    matches!(
        program,
        "runc"
            | "crun"
            | "youki"
            | "docker-runc"
            | "buildkit-runc"
            | "runc.amd64"
            | "nvidia-container-runtime"
    )
}

/// The runtime behind a supervisor that puts a kernel of its own between the container and the host: gVisor, Kata.
pub fn isolated(program: &str) -> Option<&'static str> {
    [("runsc", "runsc"), ("gvisor", "runsc"), ("kata", "kata")]
        .into_iter()
        .find_map(|(part, name)| (is_shim(program) && program.contains(part)).then_some(name))
}

fn is_shim(program: &str) -> bool {
    program.starts_with("containerd-shim") || program == "docker-containerd-shim"
}

/// Last component of a path.
pub fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Are these the arguments of runc's own first stage inside the new container (`runc init`)?
pub fn is_init(argv: &[String]) -> bool {
    argv.len() == 2 && argv[1] == "init"
}

fn shim(argv: &[String]) -> Option<RuntimeArgs> {
    let id = flag(argv, &["-id", "--id"])?;
    let engine = match flag(argv, &["-namespace", "--namespace"]) {
        Some("moby") => Engine::Docker,
        Some("k8s.io") => Engine::Kubernetes,
        _ => Engine::Containerd,
    };
    is_id(id).then(|| RuntimeArgs::Shim {
        id: id.to_owned(),
        engine,
    })
}

/// Value of a flag, `-f v` or `-f=v`.
fn flag<'a>(argv: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut args = argv.iter().skip(1);
    while let Some(arg) = args.next() {
        for name in names {
            if arg == name {
                return args.next().map(String::as_str);
            }
            if let Some(value) = arg
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='))
            {
                return Some(value);
            }
        }
    }
    None
}

fn runtime(argv: &[String]) -> Option<RuntimeArgs> {
    const GLOBAL_WITH_VALUE: [&str; 7] = [
        "--root",
        "--log",
        "--log-format",
        "--criu",
        "--rootless",
        "--log-level",
        "--cgroup-manager",
    ];
    let (verb_at, verb) = positional(argv, 1, &GLOBAL_WITH_VALUE)?;
    let (verb, with_value): (Verb, &[&str]) = match verb {
        "create" | "run" | "restore" => (
            Verb::Create,
            &[
                "--bundle",
                "-b",
                "--console-socket",
                "--pid-file",
                "--preserve-fds",
                "--config",
                "-f",
                "--image-path",
                "--work-path",
                "--parent-path",
                "--page-server",
                "--manage-cgroups-mode",
                "--empty-ns",
            ],
        ),
        "exec" => (
            Verb::Exec,
            &[
                "--console-socket",
                "--cwd",
                "--env",
                "-e",
                "--user",
                "-u",
                "--additional-gids",
                "-g",
                "--process",
                "-p",
                "--pid-file",
                "--process-label",
                "--apparmor",
                "--cap",
                "-c",
                "--preserve-fds",
                "--cgroup",
            ],
        ),
        "start" | "kill" | "delete" | "state" | "pause" | "resume" | "update" | "ps" | "events" => {
            (
                Verb::Other,
                &[
                    "--format",
                    "-f",
                    "--interval",
                    "--resources",
                    "-r",
                    "--memory",
                    "-m",
                    "--pids-limit",
                ],
            )
        }
        _ => return None,
    };
    let (_, id) = positional(argv, verb_at + 1, with_value)?;
    is_id(id).then(|| RuntimeArgs::Runtime {
        id: id.to_owned(),
        verb,
    })
}

/// The first argument from `from` on that is neither a flag nor a flag's value.
fn positional<'a>(
    argv: &'a [String],
    from: usize,
    with_value: &[&str],
) -> Option<(usize, &'a str)> {
    let mut at = from;
    while let Some(arg) = argv.get(at) {
        if !arg.starts_with('-') {
            return Some((at, arg));
        }
        at += if with_value.contains(&arg.as_str()) {
            2
        } else {
            1
        };
    }
    None
}

/// Ids as the runtimes allow them (libcontainer's `validateID`), and short enough.
fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+-.".contains(&b))
        && text != "."
        && text != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "d86231afc67a4ad3adb7f690cf16faa293853d2468b72a8117aa03e21cf6c4f6";

    fn argv(text: &str) -> Vec<String> {
        text.replace("ID", ID)
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn captured_command_lines() {
        // Docker 20.10, containerd 1.6.20, runc 1.1.5.
        let runc =
            "runc --root /var/run/docker/runtime-runc/moby --log /l/ID/log.json --log-format json";
        for (line, verb) in [
            (
                "create --bundle /var/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/ID --pid-file /x/init.pid ID",
                Verb::Create,
            ),
            ("start ID", Verb::Other),
            (
                "exec --process /tmp/runc-process1 --detach --pid-file /x/1.pid ID",
                Verb::Exec,
            ),
            ("kill --all ID 9", Verb::Other),
            ("delete ID", Verb::Other),
            ("delete --force ID", Verb::Other),
        ] {
            let got = read("/usr/sbin/runc", &argv(&format!("{runc} {line}")));
            assert_eq!(
                got,
                Some(RuntimeArgs::Runtime {
                    id: ID.into(),
                    verb
                }),
                "{line}"
            );
        }
        let shim = argv(
            "/usr/bin/containerd-shim-runc-v2 -namespace moby -id ID -address /var/run/docker/containerd/containerd.sock",
        );
        assert_eq!(
            read("/usr/bin/containerd-shim-runc-v2", &shim),
            Some(RuntimeArgs::Shim {
                id: ID.into(),
                engine: Engine::Docker
            })
        );
    }

    #[test]
    fn supervisors_of_isolated_containers_are_known() {
        assert_eq!(isolated("containerd-shim-runsc-v1"), Some("runsc"));
        assert_eq!(isolated("containerd-shim-kata-v2"), Some("kata"));
        assert_eq!(isolated("containerd-shim-runc-v2"), None);
        assert_eq!(isolated("kata-runtime"), None, "no supervisor");
    }

    #[test]
    fn other_runtimes() {
        let crun = argv(
            "/usr/bin/crun --systemd-cgroup --root=/run/crun create --bundle /b --pid-file /p ID",
        );
        assert_eq!(
            read("/usr/bin/crun", &crun),
            Some(RuntimeArgs::Runtime {
                id: ID.into(),
                verb: Verb::Create
            })
        );
        let conmon = argv("/usr/bin/conmon --api-version 1 -c ID -u ID -r /usr/bin/crun");
        assert_eq!(
            read("/usr/bin/conmon", &conmon),
            Some(RuntimeArgs::Shim {
                id: ID.into(),
                engine: Engine::Unknown
            })
        );
        let build = argv(
            "runc --log /x/log.json --log-format json run --bundle /x --keep x1kqv7rm0c3gq9qkqk2m0c3gq",
        );
        assert!(matches!(
            read("/usr/sbin/runc", &build),
            Some(RuntimeArgs::Runtime {
                verb: Verb::Create,
                ..
            })
        ));
    }

    #[test]
    fn what_is_no_runtime() {
        assert_eq!(read("/usr/bin/docker", &argv("docker run ID")), None);
        assert_eq!(read("/usr/sbin/runc", &argv("runc --version")), None);
        assert_eq!(read("/usr/sbin/runc", &argv("runc init")), None);
        assert_eq!(read("/usr/sbin/runc", &argv("runc create --bundle")), None);
        assert_eq!(read("/usr/sbin/runc", &argv("runc create ../../x")), None);
        assert!(is_init(&argv("runc init")) && !is_init(&argv("runc init x")));
    }
}
