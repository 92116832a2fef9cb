//! What of the processor the evaluation of an event costs, with every pack and 188 rules more.
//!
//! ```text
//! cargo run --release -p detector --example evaluate [-- --quick] [LOG...]
//! ```
//!
//! Activities come out of captures of the kernel's audit stream (those of this repository, or LOGs) and are put into the container of
//! an agent. The same activities, in the same order, go through two detectors in turn: one that finds rules by its index, one that
//! asks rsigma's engine as it is. Figures are CPU time of this thread, the median of the rounds.

mod rules;
mod workload;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use detector::{Detector, Options, Pack, Search};
use enricher::activity::Activity;
use enricher::container::Profile;

/// Goals of an event, microseconds: of the mix, and when all are exec.
const GOALS: [f64; 2] = [3.0, 6.0];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evaluate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut quick = false;
    let mut logs: Vec<PathBuf> = Vec::new();
    for argument in std::env::args_os().skip(1) {
        if argument == "--quick" {
            quick = true;
        } else {
            logs.push(argument.into());
        }
    }
    let repository = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if logs.is_empty() {
        logs.push(repository.join("collector/tests/corpus/package-install.log.zst"));
    }
    let mut mix = Vec::new();
    for log in &logs {
        mix.extend(workload::read(log)?);
    }
    workload::into_container(&mut mix, Some(Profile::Openclaw));
    let execs: Vec<Activity> = mix
        .iter()
        .filter(|a| {
            a.syscall
                .as_ref()
                .is_some_and(|c| c.name.starts_with("execve") && c.success != Some(false))
        })
        .cloned()
        .collect();
    let more = tempfile::tempdir()?;
    for (name, text) in rules::rules() {
        std::fs::write(more.path().join(name), text)?;
    }
    let packs: Vec<Pack> = ["common", "openclaw", "clawbot", "moltbot"]
        .iter()
        .map(|name| Pack {
            name: (*name).to_owned(),
            dir: repository.join("audit-rules").join(name).join("alerts"),
        })
        .chain([Pack {
            name: "common".to_owned(),
            dir: more.path().to_owned(),
        }])
        .collect();
    print_mix(&mix);
    let load = |search| {
        let options = Options {
            search,
            ..Options::default()
        };
        Detector::load(&packs, options)
    };
    let start = Instant::now();
    let mut index = load(Search::Candidates)?;
    println!(
        "rules           {} ({} made up), loaded in {:.1} ms, {} always tried",
        index.rules().len(),
        rules::rules().len(),
        start.elapsed().as_secs_f64() * 1e3,
        index.always_tried().count(),
    );
    first_of_kind(&mut load(Search::Candidates)?, &mix, "first, cold     ");
    let start = Instant::now();
    index.warm_up();
    println!(
        "warm-up         {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    first_of_kind(&mut index, &mix, "first, warmed up");

    let mut engine = load(Search::Engine)?;
    let rounds = if quick { 3 } else { 11 };
    for ((name, activities), goal) in [("mix", &mix), ("all exec", &execs)].into_iter().zip(GOALS) {
        if activities.is_empty() {
            println!("{name:<15} no such event in the capture");
            continue;
        }
        let (mut new, mut old) = (Vec::new(), Vec::new());
        let before = index.counters();
        for _ in 0..rounds {
            new.push(micros(&mut index, activities));
            old.push(micros(&mut engine, activities));
        }
        let after = index.counters();
        #[allow(clippy::cast_precision_loss)]
        let met = (after.evaluated - before.evaluated) as f64
            / (after.activities - before.activities) as f64;
        let (new, old) = (median(new), median(old));
        println!(
            "{name:<15} {new:.2} us an event by the index, {old:.2} by rsigma's engine ({:.1} times); goal {goal}: {}; \
             {met:.2} rules met an event, {} events",
            old / new,
            if new <= goal { "reached" } else { "missed" },
            activities.len(),
        );
    }
    Ok(())
}

/// The calls and their shares.
fn print_mix(activities: &[Activity]) {
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for activity in activities {
        let name = activity.syscall.as_ref().map_or("none", |c| &c.name);
        *calls.entry(name).or_default() += 1;
    }
    let mut calls: Vec<(&str, usize)> = calls.into_iter().collect();
    calls.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    #[allow(clippy::cast_precision_loss)]
    let share = |count: usize| 100.0 * count as f64 / activities.len() as f64;
    let shares: Vec<String> = calls
        .iter()
        .map(|(name, count)| format!("{name} {:.1} %", share(*count)))
        .collect();
    println!(
        "mix             {} events: {}",
        activities.len(),
        shares.join(", ")
    );
}

/// The longest evaluations of the first events, which find nothing prepared.
fn first_of_kind(detector: &mut Detector, activities: &[Activity], name: &str) {
    let mut times = Vec::new();
    let mut out = Vec::new();
    for activity in activities.iter().take(2000) {
        let start = Instant::now();
        detector.evaluate(black_box(activity), &mut out);
        times.push(start.elapsed().as_secs_f64() * 1e6);
        out.clear();
    }
    let first = times.first().copied().unwrap_or_default();
    times.sort_by(f64::total_cmp);
    let at = |part: usize| {
        times
            .get(times.len() * part / 1000)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{name} {first:.0} us the very first, {:.0} us the longest of the first {}, 99 % {:.1} us (wall clock)",
        times.last().copied().unwrap_or_default(),
        times.len(),
        at(990),
    );
}

/// CPU time of an event in one pass over the activities, microseconds.
fn micros(detector: &mut Detector, activities: &[Activity]) -> f64 {
    let mut out = Vec::new();
    let start = cpu_nanos();
    for activity in activities {
        detector.evaluate(black_box(activity), &mut out);
        out.clear();
    }
    #[allow(clippy::cast_precision_loss)]
    let per_event = (cpu_nanos() - start) as f64 / 1e3 / activities.len() as f64;
    per_event
}

fn cpu_nanos() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
