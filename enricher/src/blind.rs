//! What is not seen of a container, in sentences for people.
//!
//! In: what is known of the container, and how the monitor runs. Nothing here is read from the kernel.

use crate::container::Container;

/// How the monitor runs, as far as it decides over what is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The container's first process started before audit was first enabled since the boot.
    pub older_than_audit: bool,
    /// A rule on the list of io_uring is loaded.
    pub io_uring: bool,
    /// Another program owns the audit stream, and only the narrow rules are loaded.
    pub shared: bool,
}

/// A runtime that puts a kernel of its own between the container and the host's; its name for people.
pub fn isolation(oci_runtime: &str) -> Option<&'static str> {
    let name = oci_runtime.to_ascii_lowercase();
    if name.contains("runsc") || name.contains("gvisor") {
        Some("gVisor")
    } else if name.contains("kata") {
        Some("Kata")
    } else {
        None
    }
}

/// Every blind spot that is known, the largest first.
pub fn spots(container: &Container, watch: Watch) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(name) = container.oci_runtime.as_deref().and_then(isolation) {
        out.push(format!(
            "everything: it runs under {name}, which has a kernel of its own; what its programs do never reaches the audit of this host"
        ));
    }
    if watch.older_than_audit {
        out.push("what its first processes do themselves: it started before audit was enabled; restart it".to_owned());
    }
    if container.name.is_none() {
        out.push("its engine has not told what it is: whether seccomp, the host's network or the host's processes hide something is not known".to_owned());
    } else {
        let unconfined = container.privileged
            || container
                .security_opt
                .iter()
                .any(|o| matches!(o.as_str(), "seccomp=unconfined" | "seccomp:unconfined"));
        if !unconfined {
            out.push("calls that its seccomp profile refuses (mount, unshare, bpf, … without the capability): they leave no record".to_owned());
        }
    }
    if watch.shared {
        out.push("file access: another program owns the audit stream, so only exec, mount and ptrace are watched".to_owned());
    }
    if !watch.io_uring {
        out.push("what it does through io_uring: no rule on its operations is loaded; only that a ring is made is seen".to_owned());
    }
    match container.network_mode.as_deref() {
        Some("host") => out.push("whose its connections are, by address: it shares the host's network, so its sockets are the host's, and quarantine cannot disconnect it".to_owned()),
        Some(mode) if mode.starts_with("container:") => out.push(format!(
            "whose its connections are, by address: it shares the network of {}, and quarantine cannot disconnect it",
            mode.trim_start_matches("container:").get(..12).unwrap_or(mode)
        )),
        _ => {}
    }
    match container.pid_mode.as_deref() {
        Some("host") => out.push("the line between its processes and the host's: it shares the host's pid namespace, sees every process, and its end does not end what it started".to_owned()),
        Some(mode) if mode.starts_with("container:") => out.push(format!(
            "the line between its processes and those of {}: they share a pid namespace",
            mode.trim_start_matches("container:").get(..12).unwrap_or(mode)
        )),
        _ => {}
    }
    out.push("writes through files that are open already, environment variables, what is sent over a connection".to_owned());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Watch = Watch {
        older_than_audit: false,
        io_uring: true,
        shared: false,
    };

    fn named() -> Container {
        Container {
            name: Some("web".into()),
            security_opt: vec!["seccomp=unconfined".into()],
            network_mode: Some("bridge".into()),
            ..Container::from_id("a".repeat(64))
        }
    }

    fn says(container: &Container, watch: Watch, words: &str) -> bool {
        spots(container, watch).iter().any(|s| s.contains(words))
    }

    #[test]
    fn where_all_is_seen_only_what_no_audit_sees_is_left() {
        assert_eq!(spots(&named(), ALL).len(), 1);
    }

    #[test]
    fn started_before_audit() {
        let watch = Watch {
            older_than_audit: true,
            ..ALL
        };
        assert!(says(&named(), watch, "started before audit was enabled"));
        assert!(!says(&named(), ALL, "before audit"));
    }

    #[test]
    fn seccomp_hides_refused_calls_unless_it_is_off() {
        let mut c = named();
        c.security_opt.clear();
        assert!(says(&c, ALL, "seccomp profile refuses"));
        c.security_opt = vec!["seccomp={\"defaultAction\":\"SCMP_ACT_ERRNO\"}".into()];
        assert!(
            says(&c, ALL, "seccomp profile refuses"),
            "a profile of its own refuses too"
        );
        c.privileged = true;
        assert!(!says(&c, ALL, "seccomp"));
        assert!(!says(&named(), ALL, "seccomp"));
    }

    #[test]
    fn what_the_engine_has_not_told_is_not_taken_for_seen() {
        let unknown = Container::from_id("a".repeat(64));
        assert!(says(&unknown, ALL, "has not told"));
        assert!(!says(&unknown, ALL, "seccomp profile refuses"));
    }

    #[test]
    fn no_rule_on_io_uring() {
        assert!(says(
            &named(),
            Watch {
                io_uring: false,
                ..ALL
            },
            "io_uring"
        ));
        assert!(!says(&named(), ALL, "io_uring"));
    }

    #[test]
    fn the_hosts_network_and_pid_namespace() {
        let mut c = named();
        c.network_mode = Some("host".into());
        assert!(says(&c, ALL, "shares the host's network"));
        c.network_mode = Some(format!("container:{}", "b".repeat(64)));
        assert!(says(&c, ALL, "shares the network of bbbbbbbbbbbb"));
        c.pid_mode = Some("host".into());
        assert!(says(&c, ALL, "shares the host's pid namespace"));
        assert!(!says(&named(), ALL, "pid namespace"));
    }

    #[test]
    fn gvisor_and_kata_are_said_to_be_not_observable() {
        for (runtime, name) in [
            ("runsc", "gVisor"),
            ("io.containerd.runsc.v1", "gVisor"),
            ("kata-runtime", "Kata"),
            ("io.containerd.kata.v2", "Kata"),
        ] {
            let c = Container {
                oci_runtime: Some(runtime.into()),
                ..named()
            };
            assert!(
                spots(&c, ALL)[0].contains(&format!("runs under {name}")),
                "{runtime}"
            );
        }
        for runtime in ["runc", "crun", "io.containerd.runc.v2", "nvidia"] {
            assert_eq!(isolation(runtime), None);
        }
    }

    #[test]
    fn another_owner_of_the_stream() {
        assert!(says(
            &named(),
            Watch {
                shared: true,
                ..ALL
            },
            "another program owns"
        ));
    }
}
