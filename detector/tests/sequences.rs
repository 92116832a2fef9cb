//! Rules over several activities.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use detector::Severity;

fn child(exe: &str, argv: &[&str], ms: u64) -> Act {
    exec_args(exe, argv).parent("/usr/bin/dash").at(ms)
}

fn titles(acts: &[Act]) -> Vec<String> {
    let mut detector = all_packs();
    acts.iter()
        .flat_map(|act| told(&evaluate(&mut detector, act)))
        .collect()
}

const DOWNLOAD: &str = "high Downloader and a shell that reads a pipe, side by side";
const DECODE: &str = "high Decoder and a shell that reads a pipe, side by side";

#[test]
fn a_downloader_and_a_bare_shell_of_one_parent_are_a_pipe() {
    let curl = child("/usr/bin/curl", &["curl", "-s", "x"], 0);
    let bare = child("/usr/bin/dash", &["sh"], 3);
    assert_eq!(titles(&[curl.clone(), bare.clone()]), [DOWNLOAD]);
    assert_eq!(titles(&[bare, curl]), [DOWNLOAD], "in either order");
}

#[test]
fn a_decoder_and_a_bare_shell_are_a_pipe_in_busybox_too() {
    let decode = exec_args("/bin/busybox", &["base64", "-d"]).parent("/bin/busybox");
    let bare = exec_args("/bin/busybox", &["sh"])
        .parent("/bin/busybox")
        .at(2);
    assert_eq!(titles(&[decode, bare]), [DECODE]);
}

#[test]
fn what_is_apart_is_no_pipe() {
    let curl = child("/usr/bin/curl", &["curl", "-s", "x"], 0);
    let bare = child("/usr/bin/dash", &["sh"], 3);
    let empty: [String; 0] = [];
    assert_eq!(
        titles(&[curl.clone(), bare.clone().at(60_000)]),
        empty,
        "a minute later"
    );
    assert_eq!(
        titles(&[curl.clone(), bare.clone().with(|a| a.process.ppid = 1)]),
        empty,
        "another parent"
    );
    assert_eq!(
        titles(&[
            curl.clone(),
            bare.clone().container(|c| c.id = "other".into())
        ]),
        empty,
        "another container"
    );
    assert_eq!(
        titles(&[
            curl.clone(),
            bare.clone().with(|a| a.process.tty = Some("pts0".into()))
        ]),
        empty,
        "a person at a terminal"
    );
    assert_eq!(
        titles(&[curl.clone(), child("/usr/bin/dash", &["sh", "build.sh"], 3)]),
        empty,
        "a script"
    );
    assert_eq!(
        titles(&[curl, child("/usr/bin/dash", &["sh", "-c", "id"], 3)]),
        empty,
        "a command"
    );
    assert_eq!(titles(&[bare]), empty, "alone");
}

#[test]
fn the_halves_of_a_sequence_are_no_alerts_of_their_own() {
    let mut detector = all_packs();
    let detected = evaluate(
        &mut detector,
        &child("/usr/bin/curl", &["curl", "-s", "x"], 0),
    );
    assert!(detected.is_empty(), "{:?}", told(&detected));
    let detected = evaluate(&mut detector, &child("/usr/bin/dash", &["sh"], 3));
    assert_eq!(detected.len(), 1);
    let alert = detected[0].alert();
    assert_eq!(alert.severity, Severity::High);
    assert!(
        alert
            .matched
            .iter()
            .any(|(field, value)| field == "process.ppid" && value == "4311"),
        "{:?}",
        alert.matched
    );
}
