//! Compares what the monitor said with what the tokens say.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Context;
use enricher::EnricherCounters;

/// What one monitor, or several one after the other, told.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Events with a token, by kind.
    pub events: BTreeMap<String, u64>,
    /// In another container than the token says, or in one although it is the host's.
    pub wrong: Vec<String>,
    /// Of those, the ones that were said to be certain.
    pub wrong_and_certain: usize,
    /// A container's event without a container.
    pub unattributed: Vec<String>,
    /// Said to be certain.
    pub certain: u64,
    /// In a container, with a phase that is not `Running`.
    pub out_of_phase: Vec<String>,
    /// Sources.
    pub sources: BTreeMap<String, u64>,
    /// Names at the end, by id.
    pub names: HashMap<String, String>,
    /// Events, median, 99 %, longest, nanoseconds from recv; processor time of all that followed, printing the answers included.
    pub latency: Option<[u64; 5]>,
    /// Lost in the kernel since boot; dropped in the queue.
    pub lost: Option<(u64, u64)>,
    /// Of the last monitor that ended in order.
    pub counters: Option<EnricherCounters>,
    /// What the watcher of Docker said.
    pub docker: Vec<String>,
}

impl Verdict {
    /// Reads a file of answers; `ids` maps a token's number to the container that it names, and holds no number of the host.
    /// `only` chooses by that number.
    pub fn add(
        &mut self,
        file: &Path,
        ids: &HashMap<u32, String>,
        only: impl Fn(u32) -> bool,
    ) -> anyhow::Result<()> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        // A monitor that was killed may leave half a line.
        for line in text
            .split_inclusive('\n')
            .filter_map(|l| l.strip_suffix('\n'))
        {
            let f: Vec<&str> = line.split('\t').collect();
            match f.as_slice() {
                ["E", kind, truth, got, source, certain, phase, _, _] => {
                    let truth: u32 = truth.parse()?;
                    if !only(truth) {
                        continue;
                    }
                    let wanted = ids.get(&truth).map(String::as_str);
                    *self.events.entry((*kind).to_owned()).or_default() += 1;
                    *self.sources.entry((*source).to_owned()).or_default() += 1;
                    let sure = *certain == "true";
                    self.certain += u64::from(sure);
                    match (wanted, *got) {
                        (None, "-") => {}
                        (Some(_), "-") => self.unattributed.push(line.to_owned()),
                        (wanted, got) if wanted != Some(got) => {
                            self.wrong.push(format!("{line}\twanted {wanted:?}"));
                            self.wrong_and_certain += usize::from(sure);
                        }
                        _ if *phase != "Running" => self.out_of_phase.push(line.to_owned()),
                        _ => {}
                    }
                }
                ["N", id, name] if *name != "-" => {
                    self.names.insert((*id).to_owned(), (*name).to_owned());
                }
                ["L", n, median, most, longest, cpu] => {
                    self.latency = Some([
                        n.parse()?,
                        median.parse()?,
                        most.parse()?,
                        longest.parse()?,
                        cpu.parse()?,
                    ]);
                }
                ["K", lost, dropped] => self.lost = Some((lost.parse()?, dropped.parse()?)),
                ["C", counters] => self.counters = Some(serde_json::from_str(counters)?),
                ["D", rest @ ..] => self.docker.push(rest.join(" ")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Events with a token.
    pub fn all(&self) -> u64 {
        self.events.values().sum()
    }

    /// Of so many, the part in percent.
    fn part(&self, n: u64) -> f64 {
        100.0 * n as f64 / self.all().max(1) as f64
    }

    /// Attributed, percent: a container's event has a container, a host's event has none.
    pub fn attributed(&self) -> f64 {
        self.part(self.all() - self.unattributed.len() as u64)
    }

    /// Certain, percent.
    pub fn sure(&self) -> f64 {
        self.part(self.certain)
    }

    /// Some lines of what was not as it should be, for whoever looks for the reason.
    pub fn samples(&self) -> String {
        let some = |what: &str, list: &[String]| {
            list.iter()
                .take(5)
                .map(|l| format!("    {what}: {l}\n"))
                .collect::<String>()
        };
        some("wrong", &self.wrong)
            + &some("not attributed", &self.unattributed)
            + &some("phase", &self.out_of_phase)
    }
}

/// One row of the table that is printed.
pub fn row(what: &str, goal: &str, measured: &str, reached: bool) -> bool {
    println!(
        "{:<44} {:<26} {:<44} {}",
        what,
        goal,
        measured,
        if reached { "reached" } else { "NOT REACHED" }
    );
    reached
}
