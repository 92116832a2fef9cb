//! What a process is for a container, and how fork and exec change that.
//!
//! The rules follow runc 1.1's `nsexec.c` and containerd's shim, as captured on a live system:
//! `shim → runc create ID → runc init (executed twice) → runc:[1:CHILD] → runc:[2:INIT] → the container's first program`,
//! where the two clones use CLONE_PARENT, so that their parent is runc too, just as that of an OCI hook.

use std::sync::Arc;

use crate::activity::{Phase, Source};
use crate::runtime_args::{self, RuntimeArgs, Verb};

use super::Image;

/// Number of a container in the registry.
pub type Key = u32;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of the host; `entered` when it went into a container's namespaces.
    Host {
        /// By nsenter or setns.
        entered: bool,
    },
    /// Supervisor of a container, on the host.
    Shim(Key),
    /// Forked by a supervisor, nothing executed yet.
    ShimChild(Key),
    /// runc or its like at work, on the host.
    Runtime(Key, Verb),
    /// Forked by a runtime, nothing executed yet: a hook, `runc init`, or one of its clones.
    RuntimeChild(Key, Verb),
    /// `runc init`, executed by the runtime: still the runtime's own program, whatever it executes next.
    SetupInit(Key, Verb),
    /// A clone of `runc init` that prepares the container: what it executes is the container's program.
    SetupClone(Key, Verb),
    /// The container's own.
    Contained(Key, Phase),
    /// Not known: nothing was seen of it, or a record that decides is missing.
    Unknown,
}

impl Role {
    /// The container that acts when this process acts, and the phase. Shims and runtimes act as the host.
    pub fn actor(self) -> Option<(Option<Key>, Phase)> {
        match self {
            Self::Host { .. }
            | Self::Shim(_)
            | Self::ShimChild(_)
            | Self::Runtime(..)
            | Self::RuntimeChild(..) => Some((None, Phase::Host)),
            Self::SetupInit(key, _) | Self::SetupClone(key, _) => Some((Some(key), Phase::Setup)),
            Self::Contained(key, phase) => Some((Some(key), phase)),
            Self::Unknown => None,
        }
    }
}

/// A role, how it was told, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Role.
    pub role: Role,
    /// Strongest source.
    pub source: Source,
    /// Sure?
    pub certain: bool,
    /// Of an exec session: did the engine start it to see whether the container is well?
    pub health: bool,
}

impl Standing {
    /// Nothing known.
    pub const UNKNOWN: Self = Self {
        role: Role::Unknown,
        source: Source::None,
        certain: false,
        health: false,
    };

    /// Of the host, surely.
    pub const HOST: Self = Self {
        role: Role::Host { entered: false },
        source: Source::Table,
        certain: true,
        health: false,
    };

    /// Is it a container's own, or the host's and no runtime at work?
    pub(crate) fn is_settled(self) -> bool {
        matches!(self.role, Role::Host { .. } | Role::Contained(..))
    }

    /// What a child is at its fork. `named` says that it gave itself the name of a runtime's clone (`runc:[2:INIT]`): only
    /// asked of a child of a runtime, where nothing of the container has run yet.
    pub fn of_child(self, named: bool) -> Self {
        let role = match self.role {
            Role::Host { entered } => Role::Host { entered },
            Role::Shim(key) | Role::ShimChild(key) => Role::ShimChild(key),
            Role::Runtime(key, verb @ (Verb::Create | Verb::Exec))
            | Role::RuntimeChild(key, verb) => {
                if named {
                    Role::SetupClone(key, verb)
                } else {
                    Role::RuntimeChild(key, verb)
                }
            }
            Role::Runtime(_, Verb::Other) => Role::Host { entered: false },
            Role::SetupInit(key, verb) | Role::SetupClone(key, verb) => Role::SetupClone(key, verb),
            Role::Contained(key, phase) => Role::Contained(key, phase),
            Role::Unknown => Role::Unknown,
        };
        let source = match (role, self.source) {
            (Role::SetupClone(..), _) => Source::Lineage,
            (
                Role::Contained(..) | Role::Host { .. },
                Source::Table | Source::Lineage | Source::Proc,
            ) => Source::Table,
            (_, source) => source,
        };
        Self {
            role,
            source,
            certain: self.certain,
            health: self.health,
        }
    }

    /// What an exec makes of a process when its arguments are not known; `None` when they decide.
    pub fn after_any_exec(self) -> Option<Self> {
        let role = match self.role {
            Role::Contained(..) | Role::SetupInit(..) => return Some(self),
            Role::SetupClone(key, verb) => Role::Contained(key, first_phase(verb)),
            Role::Unknown => return Some(self),
            _ => return None,
        };
        Some(Self {
            role,
            source: Source::Lineage,
            ..self
        })
    }

    /// What an exec makes of a process. `forked` says that its fork was seen (and not only deduced from a record's ppid);
    /// `key` gives the number of a container's id.
    pub fn after_exec(
        self,
        image: &Image,
        forked: bool,
        mut key: impl FnMut(&RuntimeArgs) -> Option<Key>,
    ) -> Self {
        if let Some(same) = self.after_any_exec() {
            return same;
        }
        self.by_arguments(image, forked, &mut key)
    }

    /// For logs, where nothing can be asked about a process that was there before the log begins: if it executes a runtime, it
    /// is taken for one, not surely. On a live system that would let a container's process forge lineage.
    pub fn after_unknown_exec(
        self,
        image: &Image,
        mut key: impl FnMut(&RuntimeArgs) -> Option<Key>,
    ) -> Self {
        let as_host = Self {
            role: Role::Host { entered: false },
            source: Source::Lineage,
            certain: false,
            health: false,
        };
        match as_host.by_arguments(image, false, &mut key) {
            Self {
                role: Role::Host { .. },
                ..
            } => self,
            told => Self {
                certain: false,
                ..told
            },
        }
    }

    fn by_arguments(
        self,
        image: &Image,
        forked: bool,
        key: &mut impl FnMut(&RuntimeArgs) -> Option<Key>,
    ) -> Self {
        let host = Self {
            role: Role::Host { entered: false },
            ..self
        };
        match self.role {
            Role::RuntimeChild(of, verb) => {
                let program = runtime_args::base(&image.exe);
                // The re-executed copy is a memfd or a read-only bind mount, which the kernel shows as `/`.
                let own = runtime_args::is_runtime(program)
                    || image.exe == "/"
                    || image.exe.starts_with("/memfd:");
                if own && runtime_args::is_init(&image.argv) {
                    return Self {
                        role: Role::SetupInit(of, verb),
                        source: Source::Lineage,
                        ..self
                    };
                }
                if verb == Verb::Exec && !own {
                    // `exec` runs no hooks; crun executes the program itself. Seen by no other sign, so not sure.
                    return Self {
                        role: Role::Contained(of, Phase::Exec),
                        source: Source::Lineage,
                        certain: false,
                        health: false,
                    };
                }
                host
            }
            _ => match runtime_args::read(&image.exe, &image.argv) {
                Some(args) => {
                    let Some(of) = key(&args) else { return host };
                    let role = match args {
                        RuntimeArgs::Shim { .. } => Role::Shim(of),
                        RuntimeArgs::Runtime { verb, .. } => Role::Runtime(of, verb),
                    };
                    // Anybody on the host can start a program of that name; only root's decides over containers.
                    Self {
                        role,
                        source: Source::Lineage,
                        certain: self.certain && image.by_root,
                        health: false,
                    }
                }
                None => match self.role {
                    // Without the forks, what a shim's child executes is a first program whose clone was never seen.
                    Role::ShimChild(of) if !forked => Self {
                        role: Role::Contained(of, Phase::Running),
                        source: Source::Lineage,
                        certain: false,
                        health: false,
                    },
                    Role::Host { entered } => Self {
                        role: Role::Host { entered },
                        ..self
                    },
                    _ => host,
                },
            },
        }
    }

    /// A system call other than exec by a runtime's child that has executed nothing: no hook, but a clone that prepares.
    pub fn after_call(self) -> Self {
        match self.role {
            Role::RuntimeChild(key, verb) => Self {
                role: Role::SetupClone(key, verb),
                source: Source::Lineage,
                ..self
            },
            _ => self,
        }
    }
}

fn first_phase(verb: Verb) -> Phase {
    match verb {
        Verb::Exec => Phase::Exec,
        Verb::Create | Verb::Other => Phase::Running,
    }
}

/// An image for tests.
#[cfg(test)]
pub fn image(exe: &str, argv: &str) -> Arc<Image> {
    Arc::new(Image {
        exe: exe.into(),
        comm: runtime_args::base(exe).into(),
        argv: argv.split_whitespace().map(str::to_owned).collect(),
        by_root: true,
    })
}

/// An image as the table shares it between a process and its children.
pub type SharedImage = Arc<Image>;

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: Standing = Standing {
        role: Role::Runtime(1, Verb::Create),
        source: Source::Lineage,
        certain: true,
        health: false,
    };

    fn exec(from: Standing, exe: &str, argv: &str) -> Standing {
        from.after_exec(&image(exe, argv), true, |_| Some(1))
    }

    #[test]
    fn runc_create_as_captured() {
        let child = CREATED.of_child(false);
        let init = exec(child, "/usr/sbin/runc", "runc init");
        assert_eq!(init.role, Role::SetupInit(1, Verb::Create));
        let again = exec(init, "/", "runc init");
        assert_eq!(
            again.role,
            Role::SetupInit(1, Verb::Create),
            "the copy of itself is not the container's program"
        );
        let clone = CREATED.of_child(true);
        assert_eq!(clone.role, Role::SetupClone(1, Verb::Create));
        let first = exec(clone, "/bin/busybox", "/bin/sh");
        assert_eq!(
            (first.role, first.source, first.certain),
            (Role::Contained(1, Phase::Running), Source::Lineage, true)
        );
        assert_eq!(first.of_child(false).source, Source::Table);
    }

    #[test]
    fn a_hook_is_the_hosts() {
        let hook = exec(
            CREATED.of_child(false),
            "/usr/sbin/dockerd",
            "libnetwork-setkey -exec-root=/var/run/docker x y",
        );
        assert_eq!(hook.role, Role::Host { entered: false });
    }

    #[test]
    fn a_runtime_in_a_container_gains_nothing() {
        let inside = Standing {
            role: Role::Contained(1, Phase::Running),
            source: Source::Table,
            certain: true,
            health: false,
        };
        for argv in [
            "runc init",
            "runc create abc",
            "containerd-shim-runc-v2 -id abc",
        ] {
            for exe in ["/usr/sbin/runc", "/", "/usr/bin/containerd-shim-runc-v2"] {
                let after = inside.after_exec(&image(exe, argv), true, |_| {
                    panic!("no container is looked up")
                });
                assert_eq!(after, inside);
                assert_eq!(after.of_child(true).role, inside.role);
            }
        }
    }

    #[test]
    fn exec_sessions_have_their_own_phase() {
        let exec_clone = Standing {
            role: Role::Runtime(1, Verb::Exec),
            ..CREATED
        }
        .of_child(true);
        assert_eq!(
            exec(exec_clone, "/bin/sh", "sh").role,
            Role::Contained(1, Phase::Exec)
        );
    }

    #[test]
    fn only_roots_runtime_is_believed() {
        let user = Image {
            by_root: false,
            ..(*image("/home/me/runc", "runc exec abc")).clone()
        };
        assert!(!Standing::HOST.after_exec(&user, true, |_| Some(1)).certain);
    }
}
