//! Made-up activities, so that what rules build at their first use is built before the first event.

use std::collections::HashMap;

use collector::event::{Event, EventId};
use enricher::activity::{
    Activity, Ancestor, Attribution, Category, PathInfo, Phase, Process, SocketInfo, SyscallInfo,
};
use rsigma_eval::matcher::CompiledMatcher;
use rsigma_eval::{CompiledDetection, EventValue};

use crate::matching::Matching;
use crate::view::ActivityView;

/// What commands look like; a regular expression runs through all of it.
const TEXTS: [&str; 3] = [
    "bash -c cd /home/node/work && git status --short | grep -v 'x y' > \"$HOME/out.txt\"; curl -fsSL https://example.org/a.tgz | tar xz 2>&1",
    "/usr/local/bin/node /usr/local/lib/node_modules/npm/bin/npm-cli.js install --no-audit -e require('net')",
    "/usr/lib/python3/dist-packages/urllib3/connection.py",
];

/// Calls that a host makes all day.
const CALLS: [(&str, Category); 12] = [
    ("execve", Category::Process),
    ("openat", Category::File),
    ("open", Category::File),
    ("unlink", Category::File),
    ("unlinkat", Category::File),
    ("rename", Category::File),
    ("mkdir", Category::File),
    ("chmod", Category::File),
    ("connect", Category::Network),
    ("sendto", Category::Network),
    ("bind", Category::Network),
    ("mount", Category::Mount),
];

pub(crate) fn warm_up(matching: &mut Matching) {
    let sample = activity("execve", Category::Process, Phase::Running, true);
    let view = ActivityView::new(&sample);
    for rule in matching.rules() {
        detections(&rule.detections, &view);
    }
    // Plans are made for the activities that come first.
    let mut forgotten = Vec::new();
    for (name, category) in CALLS {
        for phase in [Phase::Running, Phase::Exec, Phase::Setup, Phase::Host] {
            for success in [true, false] {
                let sample = activity(name, category, phase, success);
                matching.evaluate(&ActivityView::new(&sample), &mut forgotten);
                forgotten.clear();
            }
        }
    }
}

fn detections(detections: &HashMap<String, CompiledDetection>, view: &ActivityView<'_>) {
    detections.values().for_each(|d| detection(d, view));
}

/// Every matcher by itself: in a rule one that fails keeps the next from being asked.
fn detection(detection: &CompiledDetection, view: &ActivityView<'_>) {
    match detection {
        CompiledDetection::AllOf(items) => {
            items.iter().for_each(|item| matcher(&item.matcher, view));
        }
        CompiledDetection::AnyOf(children) | CompiledDetection::And(children) => {
            children
                .iter()
                .for_each(|child| self::detection(child, view));
        }
        CompiledDetection::Keywords(words) => matcher(words, view),
        CompiledDetection::ArrayMatch { body, .. } => self::detection(body, view),
        CompiledDetection::Conditional { named, .. } => detections(named, view),
    }
}

fn matcher(matcher: &CompiledMatcher, view: &ActivityView<'_>) {
    match matcher {
        CompiledMatcher::AnyOf(children)
        | CompiledMatcher::AllOf(children)
        | CompiledMatcher::CaseInsensitiveGroup { children, .. } => {
            children.iter().for_each(|child| self::matcher(child, view));
        }
        CompiledMatcher::Not(child) => self::matcher(child, view),
        one => {
            for text in TEXTS {
                one.matches(&EventValue::Str(text.into()), view);
            }
        }
    }
}

fn activity(name: &str, category: Category, phase: Phase, success: bool) -> Activity {
    let network = category == Category::Network;
    Activity {
        event: Event::new(EventId::local(0, 0)),
        category,
        phase,
        entered: false,
        health_check: false,
        syscall: Some(SyscallInfo {
            name: name.into(),
            arch: "x86_64".into(),
            success: Some(success),
            ..SyscallInfo::default()
        }),
        process: Process {
            exe: "/usr/local/bin/node".to_owned(),
            comm: "node".to_owned(),
            argv: TEXTS.map(str::to_owned).to_vec(),
            cwd: Some("/home/node".to_owned()),
            ancestors: vec![Ancestor {
                pid: 1,
                comm: "tini".into(),
                exe: "/usr/bin/tini".into(),
            }],
            ..Process::default()
        },
        container: None,
        attribution: Attribution::default(),
        paths: vec![PathInfo {
            name: "work/a.txt".to_owned(),
            path: "/home/node/work/a.txt".to_owned(),
            nametype: "NORMAL".into(),
            ..PathInfo::default()
        }],
        socket: network.then(|| SocketInfo {
            family: "inet".into(),
            address: "192.0.2.1".to_owned(),
            port: Some(443),
        }),
        target: None,
        keys: Vec::new(),
        alerts: Vec::new(),
    }
}
