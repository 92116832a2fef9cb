//! Kernel rules for single containers: which, for whom, and how many.
//!
//! In: containers as they are seen and gone. Out: a list of rules that the keeper makes true in the kernel. It talks to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use collector::rules::dynamic::{self, Perm};
use collector::rules::{self, Rule};
use enricher::Runtime;

/// Rules for single containers at most: each is walked at every call that it names.
pub const MAX_DYNAMIC: usize = 400;

/// The rules of each container that runs. Two that watch the same file of the host share a rule, which stays until both are gone.
#[derive(Debug, Default)]
pub struct PerContainer {
    rules: BTreeMap<String, Vec<Rule>>,
    /// For whom there was no room, the oldest first.
    waiting: Vec<(String, Vec<Rule>)>,
}

impl PerContainer {
    /// A container was seen, or what is declared of its mounts changed. Did the list change?
    pub fn seen(&mut self, id: &str, rules: Vec<Rule>) -> bool {
        self.waiting.retain(|(waits, _)| waits != id);
        let before = self.rules.remove(id).unwrap_or_default();
        let changed = if self.fits(&rules) {
            let changed = before != rules;
            self.rules.insert(id.to_owned(), rules);
            changed
        } else {
            self.waiting.push((id.to_owned(), rules));
            !before.is_empty()
        };
        let others = self.admit();
        changed || others
    }

    /// A container is gone; whoever waited for room may get it. Did the list change?
    pub fn gone(&mut self, id: &str) -> bool {
        self.waiting.retain(|(waits, _)| waits != id);
        match self.rules.remove(id) {
            Some(rules) if !rules.is_empty() => {
                self.admit();
                true
            }
            _ => false,
        }
    }

    /// Gives room to those who wait for it and fit.
    fn admit(&mut self) -> bool {
        let mut any = false;
        for (id, rules) in std::mem::take(&mut self.waiting) {
            if self.fits(&rules) {
                any |= !rules.is_empty();
                self.rules.insert(id, rules);
            } else {
                self.waiting.push((id, rules));
            }
        }
        any
    }

    fn fits(&self, more: &[Rule]) -> bool {
        let mut all: BTreeSet<Vec<u8>> = self.rules().map(Rule::encode).collect();
        all.extend(more.iter().map(Rule::encode));
        all.len() <= MAX_DYNAMIC
    }

    /// Every rule once.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let mut seen = BTreeSet::new();
        self.rules
            .values()
            .flatten()
            .filter(move |rule| seen.insert(rule.encode()))
    }

    /// Whose they are.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Vec<Rule>)> {
        self.rules.iter()
    }

    /// Containers that have no rules of their own for want of room.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// Folders of the host in which every process reads or writes all day. A rule on the whole of one would drown the
/// host; what an attacker looks for below it is watched instead.
const BUSY: [&str; 16] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/run",
    "/sys", "/tmp", "/usr", "/var", "/var/lib",
];

const ALL: Perm = Perm::ACCESS;

/// What an attacker looks for on a host, as far as a busy folder holds it: path, folder or not, permissions.
const PRIZES: [(&str, bool, Perm); 9] = [
    ("/etc/shadow", false, ALL),
    ("/etc/gshadow", false, ALL),
    ("/etc/sudoers", false, ALL),
    ("/etc/hostname", false, ALL),
    ("/etc/ssh", true, ALL),
    ("/etc", true, Perm::CHANGE),
    ("/root", true, ALL),
    ("/home", true, Perm::CHANGE),
    ("/usr/local/bin", true, Perm::CHANGE),
];

/// Rules for one container: writes to its /proc (for /proc/PID/mem), and what it has of the host without having declared it.
pub fn container_rules(runtime: &Runtime) -> Vec<Rule> {
    let mut out = Vec::new();
    if let Some((_, minor)) = runtime.proc_dev {
        out.extend(dynamic::container_proc_writes(minor, "sm-proc"));
    }
    let mut seen = BTreeSet::new();
    for mount in &runtime.mounts {
        if mount.declared || !seen.insert(mount.host_path.clone()) {
            continue;
        }
        let path = mount.host_path.trim_end_matches('/');
        let path = if path.is_empty() { "/" } else { path };
        if is_socket(path) {
            out.extend(connect_rules(path));
        }
        if BUSY.contains(&path) {
            for (prize, folder, perm) in PRIZES {
                if path == "/" || prize == path || prize.starts_with(&format!("{path}/")) {
                    out.extend(dynamic::watch_path(prize, folder, perm, "sm-hostfs"));
                }
            }
        } else {
            out.extend(dynamic::watch_path(
                path,
                Path::new(path).is_dir(),
                ALL,
                "sm-hostfs",
            ));
        }
    }
    out
}

fn is_socket(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|m| m.file_type().is_socket())
}

/// connect(2) to a socket of the host: the kernel's `perm=` classes do not know that call. A path that auditctl's syntax cannot
/// write (with blanks) has no rule; opening it is watched all the same.
fn connect_rules(path: &str) -> Vec<Rule> {
    let text = format!(
        "-a always,exit -F arch=b64 -S connect -F path={path} -F key=sm-hostfs\n-a always,exit -F arch=b32 -S connect,socketcall -F path={path} -F key=sm-hostfs\n"
    );
    rules::parse_rules(&text, "connect")
        .map(|list| list.into_iter().map(|p| p.rule).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use enricher::BindMount;

    use super::*;

    /// A container with its own `/proc` and so many undeclared folders of the host.
    fn runtime(id: &str, minor: u32, folders: &[&str]) -> Runtime {
        Runtime {
            id: id.to_owned(),
            proc_dev: Some((0, minor)),
            mounts: folders
                .iter()
                .map(|path| BindMount {
                    destination: "/mnt".into(),
                    host_path: (*path).to_owned(),
                    writable: true,
                    declared: false,
                    dev: (254, 0),
                })
                .collect(),
            ..Runtime::default()
        }
    }

    fn count(per: &PerContainer) -> usize {
        per.rules().count()
    }

    #[test]
    fn rules_come_with_a_container_and_go_with_it() {
        let mut per = PerContainer::default();
        let rules = container_rules(&runtime("a", 50, &["/srv/data"]));
        assert!(!rules.is_empty());
        assert!(per.seen("a", rules.clone()));
        assert!(!per.seen("a", rules.clone()), "nothing is new");
        assert_eq!(count(&per), rules.len());
        // The engine told that the mount is declared.
        let fewer = container_rules(&runtime("a", 50, &[]));
        assert!(per.seen("a", fewer.clone()));
        assert_eq!(count(&per), fewer.len());
        assert!(per.gone("a"));
        assert!(!per.gone("a"));
        assert_eq!(count(&per), 0);
    }

    #[test]
    fn each_rule_names_its_calls() {
        let rules = container_rules(&runtime("a", 50, &["/", "/srv/data", "/etc/shadow"]));
        assert!(rules.len() > 8, "{}", rules.len());
        for rule in &rules {
            assert!(
                !rule.syscalls().is_all() && !rule.syscalls().is_none(),
                "{rule:?} would be walked at every call"
            );
        }
    }

    #[test]
    fn a_rule_that_two_share_stays_until_both_are_gone() {
        let mut per = PerContainer::default();
        let shared = |minor| container_rules(&runtime("x", minor, &["/srv/data"]));
        per.seen("a", shared(50));
        let one = count(&per);
        per.seen("b", shared(51));
        let two = count(&per);
        assert!(two < 2 * one, "{two} of {one}");
        per.gone("a");
        assert_eq!(count(&per), one);
    }

    #[test]
    fn they_are_bounded_and_who_waits_gets_the_room_of_who_went() {
        let mut per = PerContainer::default();
        let names: Vec<String> = (0..300).map(|n| format!("c{n:03}")).collect();
        for (minor, name) in (50u32..).zip(&names) {
            per.seen(name, container_rules(&runtime(name, minor, &[])));
            assert!(count(&per) <= MAX_DYNAMIC);
        }
        let waiting = per.waiting();
        assert!(waiting > 0 && per.iter().count() + waiting == names.len());
        assert!(per.gone("c000"));
        assert_eq!(per.waiting(), waiting - 1);
        assert!(count(&per) <= MAX_DYNAMIC);
        // The one that waited longest has them now.
        let first = &names[names.len() - waiting];
        assert!(per.iter().any(|(id, _)| id == first));
        for name in &names {
            per.gone(name);
        }
        assert_eq!((per.waiting(), count(&per)), (0, 0));
    }
}
