//! A process tree from events: who started whom, what each ran, and when it was seen.
//!
//! Events are read in order of time. An event names its process, the parent and the ancestors; so also processes that did nothing of note
//! themselves stand in the tree when a child of theirs did. The kernel uses a pid again: an event whose parent is another one, and no
//! ancestor that may have adopted the process, or whose program changed without an exec, is of a new process.

use std::collections::HashMap;
use std::ops::ControlFlow;

use anyhow::{Context, bail};
use detector::Alert;
use enricher::Activity;
use enricher::activity::Ancestor;
use history::Kind;
use serde::{Deserialize, Serialize};

use crate::query::{self, Spec, Watch};
use crate::times;

/// Processes in a tree; events of further ones are counted.
const MOST: usize = 50_000;
/// Programs that one process is shown to have run, one after the other.
const RUNS: usize = 8;
/// Longest command line that is kept, characters.
const COMMAND: usize = 400;
/// Before and after an alert, milliseconds, when no time was given.
const AROUND: u64 = 600_000;
/// Programs that hold containers: they are not a part of any.
const HOLDERS: [&str; 4] = ["containerd-shim", "conmon", "runc", "crun"];

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub pid: u32,
    /// Place of the parent in the list.
    pub parent: Option<usize>,
    /// How far from the top.
    pub depth: usize,
    /// Name of the container; `None` is the host.
    pub container: Option<String>,
    pub container_id: Option<String>,
    pub comm: String,
    pub exe: String,
    pub user: Option<String>,
    /// First and last sign of it, milliseconds since the epoch; 0 for one that is known from its children alone.
    pub first_ms: u64,
    pub last_ms: u64,
    pub first: Option<String>,
    pub last: Option<String>,
    pub events: u64,
    /// What it ran, in order.
    pub commands: Vec<String>,
    /// Alerts that it raised.
    pub alerts: Vec<String>,
}

/// The tree, from the top down: a child stands behind its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub nodes: Vec<Node>,
    pub events: u64,
    /// Events of processes that were too many.
    pub left_out: u64,
}

/// Makes the tree of the events that the question selects. With an alert: the process that raised it, its ancestors and descendants.
pub fn tree(
    store: &history::Store,
    spec: &Spec,
    alert: Option<&str>,
    watch: &Watch,
) -> anyhow::Result<Tree> {
    let mut spec = Spec {
        kinds: vec![Kind::Activity.name().into()],
        ..spec.clone()
    };
    let alert = alert.map(|id| find_alert(store, id)).transpose()?;
    if let Some(alert) = &alert {
        spec.since_ms
            .get_or_insert(alert.time_ms.saturating_sub(AROUND));
        spec.until_ms.get_or_insert(alert.time_ms + AROUND);
        if let Some(c) = &alert.container {
            spec = spec.and("container", vec![c.id.clone()]);
        }
    }
    let mut growing = Growing::default();
    query::rows(store, &spec, watch, &mut |row| {
        if let Ok(activity) = Activity::decode(&row.body) {
            growing.add(row.time_ms, &activity);
        }
        ControlFlow::Continue(())
    })?;
    let around = alert.map(|a| a.short_id());
    Ok(growing.finish(around.as_deref()))
}

fn find_alert(store: &history::Store, id: &str) -> anyhow::Result<Alert> {
    let row = store.get(Kind::Alert, id)?.with_context(|| {
        format!("there is no alert {id}; `syscall-monitor alerts --since 30d` lists them")
    })?;
    match serde_json::from_slice(&row.body) {
        Ok(alert) => Ok(alert),
        Err(e) => bail!(
            "alert {id} cannot be read ({e}); `syscall-monitor history verify` says what is damaged"
        ),
    }
}

#[derive(Default)]
struct Growing {
    nodes: Vec<Node>,
    /// The process that has this pid now.
    current: HashMap<u32, usize>,
    events: u64,
    left_out: u64,
}

impl Growing {
    fn add(&mut self, time_ms: u64, a: &Activity) {
        self.events += 1;
        let p = &a.process;
        let exec = a.syscall.as_ref().is_some_and(|s| {
            matches!(s.name.as_str(), "execve" | "execveat") && s.success != Some(false)
        });
        if self
            .current
            .get(&p.pid)
            .is_some_and(|known| self.is_another(*known, a, exec))
        {
            self.current.remove(&p.pid);
        }
        let inside = a.container.is_some();
        let line = lineage(&p.ancestors, p.ppid, inside);
        let Some(parent) = self.chain(&line, a) else {
            self.left_out += 1;
            return;
        };
        let Some(place) = self.place(p.pid) else {
            self.left_out += 1;
            return;
        };
        let node = &mut self.nodes[place];
        if node.parent.is_none() && parent != Some(place) {
            node.parent = parent;
        }
        if let Some(c) = &a.container {
            node.container = Some(c.display_name().to_owned());
            node.container_id = Some(c.id.clone());
        }
        if node.first_ms == 0 {
            node.first_ms = time_ms;
        }
        node.last_ms = node.last_ms.max(time_ms);
        node.events += 1;
        node.comm.clone_from(&p.comm);
        node.exe.clone_from(&p.exe);
        if p.user.is_some() {
            node.user.clone_from(&p.user);
        }
        let command = || {
            let words: Vec<String> = p.argv.iter().map(|w| crate::show::quote(w)).collect();
            crate::output::cut(&words.join(" "), COMMAND)
        };
        if !p.argv.is_empty() && (exec || node.commands.is_empty()) {
            let command = command();
            if node.commands.last() != Some(&command) && node.commands.len() < RUNS {
                node.commands.push(command);
            }
        }
        for alert in &a.alerts {
            if !node.alerts.iter().any(|known| known == alert.as_str()) && node.alerts.len() < 100 {
                node.alerts.push(alert.to_string());
            }
        }
    }

    /// Is the process of this event another one than that which had the pid?
    fn is_another(&self, known: usize, a: &Activity, exec: bool) -> bool {
        let node = &self.nodes[known];
        if node.first_ms == 0 {
            return false;
        }
        let p = &a.process;
        let parent = node.parent.map(|n| self.nodes[n].pid);
        // An orphan is adopted by an ancestor, so its parent changes to one that stands above it.
        let adopted = self.above(known).any(|n| self.nodes[n].pid == p.ppid);
        if parent.is_some_and(|pid| pid != p.ppid) && !adopted && p.ppid > 1 {
            return true;
        }
        let before = if exec {
            p.previous_exe.as_deref()
        } else {
            Some(p.exe.as_str())
        };
        before
            .is_some_and(|exe| !exe.is_empty() && !node.exe.is_empty() && exe != node.exe && !exec)
    }

    fn above(&self, from: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.nodes[from].parent, |n| self.nodes[*n].parent).take(256)
    }

    /// The parent and what is above it, made where they are not known. `None` when there is no room, `Some(None)` for one at the top.
    fn chain(&mut self, line: &[Ancestor], a: &Activity) -> Option<Option<usize>> {
        let mut above: Option<usize> = None;
        for ancestor in line.iter().rev() {
            let place = self.place(ancestor.pid)?;
            let node = &mut self.nodes[place];
            if node.first_ms == 0 && node.comm.is_empty() {
                node.comm = ancestor.comm.to_string();
                node.exe = ancestor.exe.to_string();
                if let Some(c) = &a.container {
                    node.container = Some(c.display_name().to_owned());
                    node.container_id = Some(c.id.clone());
                }
            }
            if node.parent.is_none() && above != Some(place) {
                node.parent = above;
            }
            above = Some(place);
        }
        Some(above)
    }

    fn place(&mut self, pid: u32) -> Option<usize> {
        if let Some(place) = self.current.get(&pid) {
            return Some(*place);
        }
        if self.nodes.len() >= MOST {
            return None;
        }
        self.nodes.push(Node {
            pid,
            ..Node::default()
        });
        self.current.insert(pid, self.nodes.len() - 1);
        Some(self.nodes.len() - 1)
    }

    /// Puts children behind their parents, oldest first, containers together; `around` keeps what has to do with one alert.
    fn finish(mut self, around: Option<&str>) -> Tree {
        self.cut_circles();
        let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
        let keep = around.map(|alert| self.family(alert));
        for n in 0..self.nodes.len() {
            if keep.as_ref().is_none_or(|keep| keep[n]) {
                children.entry(self.nodes[n].parent).or_default().push(n);
            }
        }
        let key = |n: &usize| {
            let node = &self.nodes[*n];
            let first = if node.first_ms == 0 { 0 } else { node.first_ms };
            (node.container.clone(), first, node.pid)
        };
        for list in children.values_mut() {
            list.sort_by_cached_key(key);
        }
        let mut out: Vec<Node> = Vec::new();
        // Own stack: a container can make a chain of processes as deep as it likes.
        let mut stack: Vec<(usize, Option<usize>, usize)> = children
            .get(&None)
            .into_iter()
            .flatten()
            .rev()
            .map(|n| (*n, None, 0))
            .collect();
        while let Some((n, parent, depth)) = stack.pop() {
            let place = out.len();
            let mut node = self.nodes[n].clone();
            node.parent = parent;
            node.depth = depth;
            if node.first_ms > 0 {
                node.first = Some(times::rfc3339(node.first_ms));
                node.last = Some(times::rfc3339(node.last_ms));
            }
            out.push(node);
            for child in children.get(&Some(n)).into_iter().flatten().rev() {
                stack.push((*child, Some(place), depth + 1));
            }
        }
        Tree {
            nodes: out,
            events: self.events,
            left_out: self.left_out,
        }
    }

    /// Records that contradict each other must not make a process its own ancestor.
    fn cut_circles(&mut self) {
        // 0 not seen, 1 on the way up that is being walked, 2 leads to a top.
        let mut state = vec![0u8; self.nodes.len()];
        for start in 0..self.nodes.len() {
            let (mut way, mut at) = (Vec::new(), Some(start));
            while let Some(n) = at {
                match state[n] {
                    0 => {
                        state[n] = 1;
                        way.push(n);
                        at = self.nodes[n].parent;
                    }
                    1 => {
                        self.nodes[n].parent = None;
                        break;
                    }
                    _ => break,
                }
            }
            way.into_iter().for_each(|n| state[n] = 2);
        }
    }

    /// The processes that raised an alert, everything above and everything below them.
    fn family(&self, alert: &str) -> Vec<bool> {
        let mine: Vec<bool> = self
            .nodes
            .iter()
            .map(|n| n.alerts.iter().any(|a| a == alert))
            .collect();
        let mut keep = mine.clone();
        // Is one of them above it? Each answer is found once.
        let mut below: Vec<Option<bool>> = vec![None; self.nodes.len()];
        for n in 0..self.nodes.len() {
            if mine[n] {
                let mut at = self.nodes[n].parent;
                while let Some(up) = at.filter(|up| !keep[*up]) {
                    keep[up] = true;
                    at = self.nodes[up].parent;
                }
            }
            let (mut way, mut at) = (Vec::new(), Some(n));
            let answer = loop {
                match at {
                    None => break false,
                    Some(up) if mine[up] => break true,
                    Some(up) => match below[up] {
                        Some(known) => break known,
                        None => {
                            way.push(up);
                            at = self.nodes[up].parent;
                        }
                    },
                }
            };
            way.into_iter().for_each(|up| below[up] = Some(answer));
        }
        keep.iter_mut()
            .zip(below)
            .for_each(|(keep, below)| *keep |= below == Some(true));
        keep
    }
}

/// Ancestors, nearest first, up to what holds the container; at least the parent.
fn lineage(ancestors: &[Ancestor], ppid: u32, inside: bool) -> Vec<Ancestor> {
    let holds = |a: &&Ancestor| HOLDERS.iter().any(|h| a.comm.starts_with(h));
    let mut line: Vec<Ancestor> = if inside {
        ancestors
            .iter()
            .take_while(|a| !holds(a))
            .cloned()
            .collect()
    } else {
        ancestors.to_vec()
    };
    if ancestors.is_empty() && ppid > 0 {
        line.push(Ancestor {
            pid: ppid,
            comm: Default::default(),
            exe: Default::default(),
        });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use collector::{Event, EventId, RecordType};

    fn event(serial: u32, pid: u32, ppid: u32, argv: &[&str], alerts: &[&str]) -> Activity {
        let mut event = Event::new(EventId::local(1_000_000 + u64::from(serial), serial));
        let name = argv[0];
        event.push(RecordType::SYSCALL, format!(r#"arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=0 ppid={ppid} pid={pid} uid=0 comm="{name}" exe="/bin/{name}""#).as_bytes());
        let args: Vec<String> = argv
            .iter()
            .enumerate()
            .map(|(n, a)| format!(r#"a{n}="{a}""#))
            .collect();
        event.push(
            RecordType::EXECVE,
            format!("argc={} {}", argv.len(), args.join(" ")).as_bytes(),
        );
        let mut activity = enricher::Enricher::offline().enrich(event);
        activity.alerts = alerts.iter().map(|a| (*a).into()).collect();
        activity
    }

    fn shape(tree: &Tree) -> Vec<String> {
        let line = |n: &Node| {
            format!(
                "{}{} {}",
                "  ".repeat(n.depth),
                n.pid,
                n.commands.join(" > ")
            )
        };
        tree.nodes.iter().map(line).collect()
    }

    fn grown(events: &[Activity], around: Option<&str>) -> Tree {
        let mut growing = Growing::default();
        for a in events {
            growing.add(a.event.id.millis, a);
        }
        growing.finish(around)
    }

    #[test]
    fn children_stand_behind_their_parents_with_all_that_a_process_ran() {
        let tree = grown(
            &[
                event(1, 10, 5, &["node", "app.js"], &[]),
                event(2, 20, 10, &["sh", "-c", "x"], &[]),
                event(3, 21, 20, &["curl", "evil"], &["A-1"]),
                event(4, 20, 10, &["nc", "-l"], &[]),
                event(5, 30, 10, &["ls"], &[]),
            ],
            None,
        );
        assert_eq!(
            shape(&tree),
            [
                "5 ",
                "  10 node app.js",
                "    20 sh -c x > nc -l",
                "      21 curl evil",
                "    30 ls"
            ]
        );
        assert_eq!(tree.nodes[3].alerts, ["A-1"]);
    }

    #[test]
    fn an_alert_keeps_its_family_only() {
        let tree = grown(
            &[
                event(1, 10, 5, &["node"], &[]),
                event(2, 20, 10, &["sh"], &["A-1"]),
                event(3, 21, 20, &["curl"], &[]),
                event(4, 30, 10, &["ls"], &[]),
            ],
            Some("A-1"),
        );
        assert_eq!(
            shape(&tree),
            ["5 ", "  10 node", "    20 sh", "      21 curl"]
        );
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let tree = grown(
            &[
                event(1, 10, 5, &["a"], &[]),
                event(2, 11, 6, &["b"], &[]),
                event(3, 20, 10, &["first"], &[]),
                event(4, 20, 11, &["second"], &[]),
            ],
            None,
        );
        assert_eq!(
            shape(&tree),
            [
                "5 ",
                "  10 a",
                "    20 first",
                "6 ",
                "  11 b",
                "    20 second"
            ]
        );
    }

    #[test]
    fn processes_that_name_each_other_as_parent_end() {
        let tree = grown(
            &[event(1, 10, 20, &["a"], &[]), event(2, 20, 10, &["b"], &[])],
            None,
        );
        assert_eq!(tree.nodes.len(), 2);
    }

    #[test]
    fn a_chain_of_many_thousand_processes_is_drawn() {
        let events: Vec<_> = (1..5000u32)
            .map(|n| event(n, n + 1, n, &["x"], &[]))
            .collect();
        let tree = grown(&events, None);
        assert_eq!(tree.nodes.last().map(|n| n.depth), Some(4999));
    }
}
