//! An exception: a Sigma filter that takes exactly one case out of a rule, made of the alert about it.

use std::path::{Path, PathBuf};

use actions::redact::MARK;
use anyhow::{Context, bail};
use detector::Alert;
use serde_json::{Map, Value, json};

/// Folder of the exceptions below `state_dir`. It is a pack `common` beside those of `[rules] dirs`.
pub const DIR: &str = "exceptions";

/// So many files of an event are in its alert; of more the alert does not tell.
const PATHS: usize = 16;

/// The filter as YAML: the same rule, container, program, arguments, call and files.
///
/// # Errors
/// When the alert does not say enough to be told from others, or more than it has kept.
pub fn filter(alert: &Alert) -> anyhow::Result<String> {
    let Some(container) = &alert.container else {
        bail!(
            "{} happened on the host, and exceptions are for containers",
            alert.short_id()
        );
    };
    if alert.rule.len() != 36 {
        bail!("{} names no rule", alert.short_id());
    }
    let mut selection = Map::new();
    let mut add = |field: &str, values: Vec<&str>| -> anyhow::Result<()> {
        for value in &values {
            if value.ends_with('…') || value.contains(MARK) {
                bail!("{field} was not kept whole, so the case cannot be told from others");
            }
        }
        let values: Vec<String> = values.into_iter().map(literal).collect();
        match values.as_slice() {
            [] => {}
            [one] => drop(selection.insert(format!("{field}|cased"), json!(one))),
            _ => drop(selection.insert(format!("{field}|cased|all"), json!(values))),
        }
        Ok(())
    };
    add("container.name", vec![&container.name])?;
    add("process.exe", vec![&alert.exe])?;
    add("syscall.name", vec![&alert.syscall])?;
    let line = alert.argv.join(" ");
    if !alert.argv.is_empty() {
        if alert
            .argv
            .iter()
            .any(|a| a.ends_with('…') || a.contains(MARK))
        {
            bail!("its arguments were not kept whole, so the case cannot be told from others");
        }
        add("process.command_line", vec![&line])?;
    }
    let mut paths: Vec<&str> = alert
        .paths
        .iter()
        .filter(|p| p.nametype != "PARENT" && !p.path.is_empty())
        .map(|p| p.path.as_str())
        .collect();
    if alert.paths.len() >= PATHS {
        bail!("its files were not all kept, so the case cannot be told from others");
    }
    if paths.is_empty() && !matches!(alert.syscall.as_str(), "execve" | "execveat") {
        bail!(
            "{} names no file, and an exception would be for every such call of this program, whatever it is made on; a filter by hand can say more (docs/fields.md)",
            alert.syscall
        );
    }
    paths.sort_unstable();
    paths.dedup();
    add("path.path", paths)?;
    let filter = json!({
        "title": format!("Exception for {}", alert.short_id()),
        "description": format!("Made of {}: {}", alert.short_id(), alert.title),
        "filter": {
            "rules": [alert.rule],
            "selection": Value::Object(selection),
            "condition": "not selection",
        },
    });
    Ok(ascii(&format!("{filter:#}\n")))
}

/// JSON as YAML reads it, so that no text of a container is ever YAML's own syntax. YAML takes no DEL, no C1 control character and no
/// U+FFFE as it is (YAML 1.2.2, 5.1), so all that is not printable ASCII is escaped; what lies above U+FFFF with eight digits, for YAML
/// knows no surrogates (5.7).
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match u32::from(c) {
            0x7f => out.push_str("\\u007F"),
            0..0x80 => out.push(c),
            n @ 0x80..=0xffff => out.push_str(&format!("\\u{n:04X}")),
            n => out.push_str(&format!("\\U{n:08X}")),
        }
    }
    out
}

/// A value without Sigma's wildcards.
fn literal(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '*' | '?' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Writes the exception into the folder, whole or not at all; gives the file. The same again changes nothing.
///
/// # Errors
/// As [`filter`]; what the disk says.
pub fn write(dir: &Path, alert: &Alert) -> anyhow::Result<PathBuf> {
    let text = filter(alert)?;
    let dir = dir.join("common/alerts");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let file = dir.join(format!("except-{}.yml", alert.short_id()));
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::File::open(&beside)
        .and_then(|f| f.sync_all())
        .with_context(|| format!("cannot sync {}", beside.display()))?;
    std::fs::rename(&beside, &file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use detector::alert::AlertContainer;
    use detector::{Detected, Detector, Pack};
    use enricher::Activity;

    const RULE: &str = "title: Any\nid: 5707a000-0000-4000-8000-000000000001\nlogsource:\n  product: linux\n  category: process_creation\ndetection:\n  one:\n    Image|endswith: '/curl'\n  condition: one\nlevel: medium\n";

    fn exec(container: &str, argv: &[&str]) -> Activity {
        use collector::{Event, EventId, RecordType};
        let mut event = Event::new(EventId::local(1, 1));
        event.push(RecordType::SYSCALL, br#"arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=0 ppid=7 pid=8 uid=0 comm="curl" exe="/usr/bin/curl""#);
        let mut activity = enricher::Enricher::offline().enrich(event);
        activity.process.argv = argv.iter().map(|a| (*a).to_owned()).collect();
        let mut known = enricher::Container::from_id("ab".repeat(32));
        known.name = Some(container.into());
        activity.container = Some(std::sync::Arc::new(known));
        activity.phase = enricher::activity::Phase::Running;
        activity
    }

    fn detector(dirs: &[&Path]) -> Detector {
        let packs: Vec<Pack> = dirs
            .iter()
            .map(|d| Pack {
                name: "common".into(),
                dir: d.join("common/alerts"),
            })
            .collect();
        Detector::load(&packs, detector::Options::default()).unwrap()
    }

    fn alerts(detector: &mut Detector, activity: &Activity) -> Vec<Alert> {
        let mut found = vec![];
        detector.evaluate(activity, &mut found);
        found
            .into_iter()
            .map(|d| match d {
                Detected::New(a) | Detected::Repeat { alert: a, .. } => a,
            })
            .collect()
    }

    #[test]
    fn an_exception_takes_its_case_out_and_no_other() {
        let (rules, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = rules.path().join("common/alerts");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.yml"), RULE).unwrap();
        let odd = [
            "curl",
            "https://x/*?\\ \"'\n: {}",
            "#",
            "\u{7f}\u{80}\u{85}\u{9f}ä\u{202e}\u{fffe}\u{ffff}\u{f7ff}😀",
        ];
        let case = exec("gateway", &odd);
        let alert = alerts(&mut detector(&[rules.path()]), &case).remove(0);
        write(state.path(), &alert).unwrap();
        write(state.path(), &alert).unwrap();
        let mut with = detector(&[rules.path(), state.path()]);
        assert!(alerts(&mut with, &case).is_empty());
        for other in [
            exec("gateway2", &odd),
            exec(
                "gateway",
                &["curl", "https://x/abc\\ \"'\n: {}", "#", odd[3]],
            ),
            exec("gateway", &odd[..3]),
            exec("gateway", &["curl"]),
        ] {
            assert_eq!(
                alerts(&mut with, &other).len(),
                1,
                "{:?}",
                other.process.argv
            );
        }
    }

    #[test]
    fn what_is_not_known_whole_is_no_exception() {
        let (rules, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = rules.path().join("common/alerts");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.yml"), RULE).unwrap();
        let alert = alerts(&mut detector(&[rules.path()]), &exec("g", &["curl", "x"])).remove(0);
        let host = Alert {
            container: None,
            ..alert.clone()
        };
        let cut = Alert {
            argv: vec!["curl".into(), "x…".into()],
            ..alert.clone()
        };
        let redacted = Alert {
            argv: vec!["curl".into(), MARK.into()],
            ..alert.clone()
        };
        let no_rule = Alert {
            rule: "not-kept".into(),
            ..alert.clone()
        };
        let no_object = Alert {
            syscall: "ptrace".into(),
            ..alert.clone()
        };
        let long = Alert {
            container: Some(AlertContainer {
                name: "a…".into(),
                ..AlertContainer::default()
            }),
            ..alert
        };
        for bad in [host, cut, redacted, no_rule, no_object, long] {
            assert!(write(state.path(), &bad).is_err(), "{bad:?}");
        }
        assert!(!state.path().join("common").exists());
    }
}
