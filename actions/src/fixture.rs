//! Alerts for tests.

use detector::alert::{Alert, AlertContainer, Response, Severity};
use enricher::activity::{Ancestor, Attribution, PathInfo, Source};
use enricher::container::Profile;

/// A certain critical mount in an agent.
pub(crate) fn alert(id: u64) -> Alert {
    Alert {
        id,
        time_ms: 1_772_361_015_042,
        severity: Severity::Critical,
        response: Response::Quarantine,
        rule: "6f1d2f0a-0000-4000-8000-000000000001".into(),
        title: "Mount in a container".into(),
        description:
            "An agent has no reason to mount anything; it is the first step out of a container."
                .into(),
        tags: vec!["attack.t1611".into()],
        event: "1772361015.042:5".into(),
        matched: vec![("syscall".into(), "mount".into())],
        syscall: "mount".into(),
        errno: Some("EPERM".into()),
        container: Some(AlertContainer {
            id: "ab".repeat(32),
            name: "openclaw-gateway".into(),
            image: Some("openclaw:local".into()),
            profile: Some(Profile::Openclaw),
            agent: Some("openclaw-gateway".into()),
        }),
        attribution: Attribution {
            source: Source::Table,
            certain: true,
        },
        pid: 4242,
        exe: "/usr/bin/mount".into(),
        comm: "mount".into(),
        argv: vec![
            "mount".into(),
            "-t".into(),
            "tmpfs".into(),
            "none".into(),
            "/mnt".into(),
        ],
        uid: Some(1000),
        user: Some("node".into()),
        ancestors: vec![
            Ancestor {
                pid: 4200,
                comm: "sh".into(),
                exe: "/bin/sh".into(),
            },
            Ancestor {
                pid: 4100,
                comm: "node".into(),
                exe: "/usr/local/bin/node".into(),
            },
        ],
        paths: vec![PathInfo {
            name: "/mnt".into(),
            path: "/mnt".into(),
            nametype: "NORMAL".into(),
            ..PathInfo::default()
        }],
        count: 1,
    }
}
