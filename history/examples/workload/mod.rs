//! Events made from captured ones: the corpora of collector and enricher, each event many times with other processes, containers, files,
//! registers and times.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use collector::{Event, EventId, RecordType};
use enricher::activity::{Ancestor, Attribution, Phase, Source};
use enricher::{Activity, Container, Enricher};

pub const CONTAINERS: u64 = 30;
pub const RARE: &str = "/usr/bin/rare";
const PROGRAMS: u64 = 400;

pub fn exe(number: u64) -> String {
    match number % 8 {
        0 | 1 => "/usr/local/bin/node".to_owned(),
        2 => "/usr/bin/git".to_owned(),
        3 => "/bin/sh".to_owned(),
        4 => "/usr/bin/python3.11".to_owned(),
        _ => format!("/usr/bin/tool{}", number % PROGRAMS),
    }
}

/// Processes live for some two thousand events.
pub fn pid(number: u64) -> u64 {
    4_000 + number / 2_000 * 7 % 4_000_000 + number % 40
}

/// About 5,000 events a second, in ticks of 4 ms.
pub fn time_ms(number: u64) -> u64 {
    1_795_353_000_000 + number / 20 * 4
}

/// Numbers that look random and are the same in every run (splitmix64).
pub struct Rng(u64);

impl Rng {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

type Template = Vec<(RecordType, Vec<u8>)>;

pub struct Workload {
    templates: Vec<Template>,
    containers: Vec<Arc<Container>>,
    enricher: Enricher,
    rng: Rng,
    calls: BTreeMap<String, u64>,
    categories: BTreeMap<&'static str, u64>,
    made: u64,
}

fn number_of(name: &str) -> Option<u16> {
    Some(match name {
        "SYSCALL" => 1300,
        "PATH" => 1302,
        "IPC" => 1303,
        "CONFIG_CHANGE" => 1305,
        "SOCKADDR" => 1306,
        "CWD" => 1307,
        "EXECVE" => 1309,
        "OBJ_PID" => 1318,
        "BPRM_FCAPS" => 1321,
        "MMAP" => 1323,
        "PROCTITLE" => 1327,
        "OPENAT2" => 1337,
        _ => return None,
    })
}

impl Workload {
    pub fn read() -> Result<Self, Box<dyn Error>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let log =
            std::fs::read_to_string(root.join("collector/tests/corpus/linux-6.18-x86_64.log"))?;
        let docker = std::fs::read_to_string(
            root.join("enricher/tests/corpus/docker-20.10-runc-1.1.5.txt"),
        )?;
        let mut events: BTreeMap<(u8, String), Template> = BTreeMap::new();
        for line in log.lines() {
            let parts = line
                .strip_prefix("type=")
                .and_then(|l| l.split_once(" msg=audit("))
                .and_then(|(kind, rest)| Some((number_of(kind)?, rest.split_once("): ")?)));
            if let Some((kind, (id, body))) = parts {
                let body = body.as_bytes().to_vec();
                events
                    .entry((0, id.to_owned()))
                    .or_default()
                    .push((RecordType(kind), body));
            }
        }
        for line in docker.lines() {
            let parts = line
                .strip_prefix("A ")
                .and_then(|l| l.split_once(" audit("))
                .and_then(|(kind, rest)| Some((kind.parse().ok()?, rest.split_once("): ")?)));
            if let Some((kind, (id, body))) = parts {
                let body = body.as_bytes().to_vec();
                events
                    .entry((1, id.to_owned()))
                    .or_default()
                    .push((RecordType(kind), body));
            }
        }
        // Setting up a container is rare beside what runs in it: of its mounts every eighth is taken. Files and programs come more often than
        // what the corpus has once for each call. Two events that were made for their long arguments are left out.
        let mut templates = Vec::new();
        for (place, ((corpus, _), event)) in events.into_iter().enumerate() {
            let size: usize = event.iter().map(|(_, body)| body.len() + 60).sum();
            if event.first().is_none_or(|(kind, _)| kind.0 != 1300) || size > 4096 {
                continue;
            }
            let has = |number: u16| event.iter().any(|(kind, _)| kind.0 == number);
            let times = match (corpus, has(1309), has(1302)) {
                (0, false, true) => 12,
                (0, _, _) => 4,
                (_, true, _) => 3,
                _ => usize::from(place % 8 == 0),
            };
            templates.extend(std::iter::repeat_n(event, times));
        }
        let containers = (0..CONTAINERS)
            .map(|number| {
                let mut c = Container::from_id(format!("{number:02x}9f").repeat(16));
                c.name = Some(format!("agent-{number}"));
                c.image = Some("ghcr.io/openclaw/openclaw:2026.9.6".to_owned());
                c.agent = Some(format!("agent-{number}"));
                c.init_pid = 3000 + number as u32;
                Arc::new(c)
            })
            .collect();
        Ok(Self {
            templates,
            containers,
            enricher: Enricher::offline(),
            rng: Rng(42),
            calls: BTreeMap::new(),
            categories: BTreeMap::new(),
            made: 0,
        })
    }

    /// The activity with this number.
    pub fn make(&mut self, number: u64) -> Activity {
        let rng = &mut self.rng;
        let template = &self.templates[rng.next(self.templates.len() as u64) as usize];
        let pid = pid(number);
        let mut event = Event::new(EventId::local(time_ms(number), number as u32));
        event.complete = true;
        let program = if number % 217_391 == 7 {
            RARE.to_owned()
        } else {
            exe(pid)
        };
        for (kind, body) in template {
            let body = vary(body, *kind, pid, &program, rng);
            event.push(*kind, &body);
        }
        let mut activity = self.enricher.enrich(event);
        let container = if program == RARE { 7 } else { pid % CONTAINERS };
        activity.container = Some(Arc::clone(&self.containers[container as usize]));
        activity.attribution = Attribution {
            source: Source::Table,
            certain: true,
        };
        activity.phase = Phase::Running;
        activity.process.user = Some("node".to_owned());
        activity.process.ancestors = vec![
            Ancestor {
                pid: pid as u32 - 1,
                comm: "node".into(),
                exe: "/usr/local/bin/node".into(),
            },
            Ancestor {
                pid: 3000 + container as u32,
                comm: "tini".into(),
                exe: "/sbin/tini".into(),
            },
        ];
        self.made += 1;
        if self.made.is_multiple_of(97) {
            let call = activity.syscall.as_ref().map_or("none", |c| &c.name);
            *self.calls.entry(call.to_owned()).or_default() += 1;
            *self
                .categories
                .entry(crate::stored::category(activity.category))
                .or_default() += 1;
        }
        activity
    }

    /// System calls and categories, in percent.
    pub fn mix(&self) -> String {
        let list = |counts: Vec<(&str, u64)>| {
            let sum: u64 = counts.iter().map(|(_, n)| n).sum();
            let mut counts = counts;
            counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
            let each = counts
                .iter()
                .take(14)
                .map(|(name, n)| format!("{name} {:.1}", *n as f64 * 100.0 / sum.max(1) as f64));
            each.collect::<Vec<_>>().join(", ")
        };
        format!(
            "mix in percent: {}\n  calls: {}",
            list(self.categories.iter().map(|(k, n)| (*k, *n)).collect()),
            list(self.calls.iter().map(|(k, n)| (k.as_str(), *n)).collect())
        )
    }
}

/// The record with other numbers and names.
fn vary(body: &[u8], kind: RecordType, pid: u64, program: &str, rng: &mut Rng) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let mut out = String::with_capacity(text.len() + 64);
    for (place, word) in text.split(' ').enumerate() {
        if place > 0 {
            out.push(' ');
        }
        let Some((key, value)) = word.split_once('=') else {
            out.push_str(word);
            continue;
        };
        out.push_str(key);
        out.push('=');
        match (kind.0, key) {
            (1300, "pid") => out.push_str(&pid.to_string()),
            (1300, "ppid") => out.push_str(&(pid - 1).to_string()),
            (1300, "a1" | "a2") if value.len() > 6 => {
                out.push_str(&format!("7f{:010x}", rng.next(1 << 40)));
            }
            (1300, "exe") => out.push_str(&format!("\"{program}\"")),
            (1300, "comm") => {
                let comm: String = program
                    .rsplit('/')
                    .next()
                    .unwrap_or("")
                    .chars()
                    .take(15)
                    .collect();
                out.push_str(&format!("\"{comm}\""));
            }
            (1302, "inode") => out.push_str(&(100_000 + rng.next(400_000)).to_string()),
            (1302, "name") if value.starts_with('"') && rng.next(4) > 0 => {
                let file = rng.next(3000);
                out.push_str(&format!(
                    "\"/home/node/.openclaw/workspace/project{}/src/file{file}.ts\"",
                    file % 40
                ));
            }
            _ => out.push_str(value),
        }
    }
    out.into_bytes()
}
