//! Owner or listener, and from one to the other.

use super::stream::{Flood, Serials};
use super::*;

#[test]
fn beside_an_owner_the_stream_is_shared() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (owner, mut owned) = start(Mode::Auto);
    assert_eq!(owner.mode(), ActiveMode::Exclusive, "nobody else owns it");
    let (tx, _rx) = mpsc::channel(16);
    let exclusive = ReaderOptions {
        mode: Mode::Exclusive,
        ..ReaderOptions::default()
    };
    let me = std::process::id();
    assert!(
        matches!(Reader::start(exclusive, tx), Err(LiveError::OwnerExists { pid }) if pid == me)
    );
    let (shared, mut rx) = start(Mode::Auto);
    assert_eq!(shared.mode(), ActiveMode::Shared);
    assert_settings(&mut control, &Wanted::default()).unwrap();
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S execve -F key=sm-test"))
        .unwrap();
    assert!(Command::new("true").status().unwrap().success());
    for rx in [&mut rx, &mut owned] {
        until(rx, |batch| {
            batch.records().any(|(kind, _)| kind == RecordType::EXECVE)
        });
    }
    assert!(
        owner.counters().replace_requests.load(Ordering::Relaxed) >= 2,
        "the kernel asked whether the owner lives"
    );
    shared.stop().unwrap();
    owner.stop().unwrap();
}

#[test]
fn a_listener_without_ownership_does_not_hear_itself() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (reader, mut rx) = start(Mode::Shared);
    assert_eq!(
        (reader.mode(), control.status().unwrap().pid),
        (ActiveMode::Shared, 0)
    );
    // Audit is on already, as on a host with auditd. Then the kernel writes a SYSCALL record, without a key, beside the
    // CONFIG_CHANGE of each rule that we load (`auditsc_get_stamp` makes the context of our sendto one to record).
    assert_settings(&mut control, &Wanted::default()).unwrap();
    let watched = rule("-a always,exit -F arch=b64 -S umask -F key=sm-test");
    let except = dynamic::except_pid_from(std::process::id(), std::slice::from_ref(&watched));
    let changes = diff(&[watched, except], &control.rules().unwrap());
    assert_eq!(apply(&mut control, &changes).unwrap().added, 2);
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    let shell = Command::new("sh").args(["-c", "umask 0"]).spawn().unwrap();
    let (child, me) = (shell.id().to_string(), std::process::id().to_string());
    let mut shell = shell;
    shell.wait().unwrap();
    let (mut heard, mut changes) = (false, 0);
    until(&mut rx, |batch| {
        for (kind, payload) in batch.records() {
            changes += usize::from(kind == RecordType::CONFIG_CHANGE);
            if kind == RecordType::SYSCALL {
                let key = field(payload, "key");
                assert!(
                    field(payload, "pid") != Some(&me) || key == Some("(null)"),
                    "we hear ourselves: {}",
                    String::from_utf8_lossy(payload)
                );
                heard |= field(payload, "pid") == Some(&child);
            }
        }
        heard
    });
    assert!(changes >= 2, "one for each rule");
    reader.stop().unwrap();
}

/// Takes batches until `enough`; nothing between the first and the last serial may be missing.
fn follow(
    rx: &mut Receiver<Batch>,
    serials: &mut Serials,
    mut enough: impl FnMut(&Serials) -> bool,
) {
    until(rx, |batch| {
        serials.note(&batch);
        enough(serials)
    });
}

/// Takes what is there until nothing is missing any more: the two sockets of a change are read one after the other.
fn nothing_is_missing(rx: &mut Receiver<Batch>, serials: &mut Serials) {
    let end = Instant::now() + Duration::from_secs(20);
    while !serials.missing().is_empty() {
        assert!(Instant::now() < end, "missing: {:?}", serials.missing());
        if let Ok(batch) = rx.try_recv() {
            serials.note(&batch);
        } else {
            std::thread::yield_now();
        }
    }
}

#[test]
fn when_the_owner_goes_we_take_the_stream_and_when_another_wants_it_we_listen() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let mut owner = Owner::start();
    let (reader, mut rx) = start(Mode::Auto);
    let switch = reader.switch();
    assert_eq!(reader.mode(), ActiveMode::Shared);
    let owns = control.status().unwrap().pid;
    assert_eq!(switch.follow(owns).unwrap(), None, "it lives");
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S umask -F key=sm-test"))
        .unwrap();
    let _flood = Flood::start();
    let mut serials = Serials::default();
    follow(&mut rx, &mut serials, |s| s.len() > 3_000);

    // The owner dies. The kernel still names it until it next cannot send to it.
    owner.kill();
    let became = switch.follow(owns).unwrap();
    assert_eq!(became, Some(ActiveMode::Exclusive));
    assert_eq!(
        (reader.mode(), control.status().unwrap().pid),
        (ActiveMode::Exclusive, std::process::id())
    );
    let before = serials.len();
    follow(&mut rx, &mut serials, |s| s.len() > before + 3_000);
    nothing_is_missing(&mut rx, &mut serials);
    assert_eq!(switch.follow(std::process::id()).unwrap(), None);

    // We let go, and another takes it.
    switch.to(ActiveMode::Shared).unwrap();
    let owner = Owner::start();
    let owns = control.status().unwrap().pid;
    assert_eq!(owns, owner.pid());
    assert_eq!(switch.follow(owns).unwrap(), None);
    assert!(
        matches!(
            switch.to(ActiveMode::Exclusive),
            Err(LiveError::OwnerExists { pid }) if pid == owns
        ),
        "and we do not take it from it"
    );
    let before = serials.len();
    follow(&mut rx, &mut serials, |s| s.len() > before + 3_000);
    nothing_is_missing(&mut rx, &mut serials);
    let counters = reader.counters();
    assert_eq!(counters.switches.load(Ordering::Relaxed), 2);
    assert_eq!(counters.queue_dropped_records.load(Ordering::Relaxed), 0);
    reader.stop().unwrap();
}

#[test]
fn an_owner_that_the_kernel_gave_up_becomes_one_again() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (reader, mut rx) = start(Mode::Exclusive);
    // From outside it looks like this: we read, and the kernel knows no owner.
    let nobody = Change {
        pid: Some(0),
        ..Change::default()
    };
    control.set(&nobody).unwrap();
    assert_settings(&mut control, &Wanted::default()).unwrap();
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S umask -F key=sm-test"))
        .unwrap();
    let owner = control.status().unwrap().pid;
    assert_eq!(owner, 0);
    assert_eq!(
        reader.switch().follow(owner).unwrap(),
        Some(ActiveMode::Exclusive)
    );
    assert_eq!(control.status().unwrap().pid, std::process::id());
    let _flood = Flood::start();
    let mut serials = Serials::default();
    follow(&mut rx, &mut serials, |s| s.len() > 1_000);
    reader.stop().unwrap();
}
