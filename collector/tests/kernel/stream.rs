//! The stream as its owner: nothing missing, nothing in the way.

use super::*;

#[test]
fn the_owner_gets_every_record_and_each_process_before_its_records() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    const PROGRAMS: usize = 1200;
    let mut control = control();
    let (reader, mut rx) = start(Mode::Exclusive);
    assert_eq!(reader.mode(), ActiveMode::Exclusive);
    assert_eq!(control.status().unwrap().pid, std::process::id());
    assert_settings(&mut control, &Wanted::default()).unwrap();
    let mut lost = KernelLost::new(&control.status().unwrap());
    // Whoever is not here now is born under our eyes.
    let mut born: HashSet<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    control
        .add_rule(&rule(
            "-a always,exit -F arch=b64 -S execve,umask -F key=sm-test",
        ))
        .unwrap();
    let one = "i=0; while [ $i -lt 300 ]; do (umask 0; umask 0; umask 0); i=$((i+1)); done";
    let mut shell = Command::new("sh")
        .args(["-c", &format!("for j in 1 2 3 4; do ({one}) & done; wait")])
        .spawn()
        .unwrap();
    let waiter = std::thread::spawn(move || shell.wait().unwrap());
    let mut seen = HashSet::new();
    until(&mut rx, |batch| {
        assert!(!batch.connector_overrun && !batch.audit_overrun && batch.dropped_before == 0);
        for event in &batch.proc_events {
            if let ProcEventKind::Fork { child_tgid, .. } = event.kind {
                born.insert(child_tgid);
            }
        }
        for (kind, payload) in batch.records() {
            assert!(
                payload.starts_with(b"audit(") && !payload.ends_with(b"\0"),
                "{kind:?}"
            );
            if kind == RecordType::SYSCALL {
                let pid: u32 = field(payload, "pid").unwrap().parse().unwrap();
                assert!(
                    born.contains(&pid),
                    "a record of {pid} came before its birth"
                );
                if field(payload, "comm") == Some("\"sh\"") {
                    seen.insert(pid);
                }
            }
        }
        seen.len() >= PROGRAMS
    });
    assert!(waiter.join().unwrap().success());
    let counters = reader.counters();
    reader.stop().unwrap();
    assert_eq!(
        control.status().unwrap().pid,
        0,
        "the stream has no owner any more"
    );
    let losses = Losses::snapshot(&counters, lost.update(&control.status().unwrap()));
    assert!(!losses.any(), "{losses:?}");
    assert!(counters.records.load(Ordering::Relaxed) >= 3 * PROGRAMS as u64);
}

/// Serial numbers of what was received, in a set that says what is missing between the first and the last.
#[derive(Default)]
pub struct Serials(HashSet<u32>);

impl Serials {
    pub fn note(&mut self, batch: &Batch) {
        self.0.extend(
            batch
                .records()
                .filter_map(|(_, payload)| collector::parse_header(payload))
                .map(|header| header.serial),
        );
    }

    pub fn missing(&self) -> Vec<u32> {
        let (first, last) = (self.0.iter().min(), self.0.iter().max());
        match (first, last) {
            (Some(first), Some(last)) => (*first..*last).filter(|n| !self.0.contains(n)).collect(),
            _ => vec![],
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A shell that calls umask for ever; dropped, it ends.
pub struct Flood(std::process::Child);

impl Flood {
    pub fn start() -> Self {
        let shell = Command::new("sh")
            .args(["-c", "while :; do umask 022; done"])
            .spawn();
        Self(shell.unwrap())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_flood_is_taken_in_and_stopping_amid_it_loses_nothing_that_was_sent() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (reader, mut rx) = start(Mode::Exclusive);
    assert_settings(&mut control, &Wanted::default()).unwrap();
    let lost = control.status().unwrap().lost;
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S umask -F key=sm-test"))
        .unwrap();
    let flood = Flood::start();
    let (mut records, mut serials) = (0, Serials::default());
    until(&mut rx, |batch| {
        records += batch.len();
        serials.note(&batch);
        records > 50_000
    });
    let counters = reader.counters();
    let drain = std::thread::spawn(move || {
        while let Some(batch) = rx.blocking_recv() {
            serials.note(&batch);
        }
        serials
    });
    let began = Instant::now();
    reader.stop().unwrap();
    let took = began.elapsed();
    println!(
        "stopped within {took:?}, {} left in the kernel",
        counters.left_behind.load(Ordering::Relaxed)
    );
    // By design 0.8 s at most; the machine may be busy.
    assert!(took < Duration::from_secs(5), "{took:?}");
    let serials = drain.join().unwrap();
    drop(flood);
    assert_eq!(counters.queue_dropped_records.load(Ordering::Relaxed), 0);
    assert_eq!(control.status().unwrap().pid, 0);
    if control.status().unwrap().lost == lost {
        assert_eq!(serials.missing(), Vec::<u32>::new());
    }
    assert!(serials.len() > 15_000);
}

#[test]
fn a_pause_of_four_seconds_costs_nothing_while_there_is_room() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    // Some 12 MB of records, of the 16 MiB that are held.
    const CALLS: usize = 25_000;
    let mut control = control();
    let (tx, mut rx) = mpsc::channel(1);
    let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
    let options = ReaderOptions {
        mode: Mode::Exclusive,
        heartbeat: Some(write_end),
        ..ReaderOptions::default()
    };
    let reader = Reader::start(options, tx).unwrap();
    assert_settings(&mut control, &Wanted::default()).unwrap();
    let lost = control.status().unwrap().lost;
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S umask -F key=sm-test"))
        .unwrap();
    let began = Instant::now();
    let caller = std::thread::spawn(|| umask_calls(CALLS));
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let mut ended = false;
    // Nobody takes anything meanwhile; the caller goes through, and the heart beats.
    while began.elapsed() < Duration::from_secs(4) || !ended {
        assert!(began.elapsed() < Duration::from_secs(60), "the host waits");
        if matches!(rustix::io::read(&read_end, &mut [0; 64]), Ok(n) if n > 0) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        ended = caller.is_finished();
        std::thread::yield_now();
    }
    assert!(caller.join().unwrap().success());
    let counters = reader.counters();
    println!(
        "longest pause of the heart {longest:?}, {} turns held",
        counters.held_turns.load(Ordering::Relaxed)
    );
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert!(counters.held_turns.load(Ordering::Relaxed) > 0);
    let (mut serials, mut ends) = (Serials::default(), 0);
    until(&mut rx, |batch| {
        assert_eq!(batch.dropped_before, 0);
        serials.note(&batch);
        ends += batch
            .records()
            .filter(|(kind, _)| *kind == RecordType::EOE)
            .count();
        ends >= CALLS
    });
    assert_eq!(counters.queue_dropped_records.load(Ordering::Relaxed), 0);
    assert_eq!(
        control.status().unwrap().lost,
        lost,
        "the kernel lost nothing"
    );
    assert_eq!(serials.missing(), Vec::<u32>::new());
    reader.stop().unwrap();
}

#[test]
fn a_receiver_that_stops_costs_records_that_are_counted_and_nothing_else() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (tx, mut rx) = mpsc::channel(2);
    let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
    let options = ReaderOptions {
        mode: Mode::Exclusive,
        heartbeat: Some(write_end),
        ..ReaderOptions::default()
    };
    let reader = Reader::start(options, tx).unwrap();
    assert_settings(&mut control, &Wanted::default()).unwrap();
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S umask -F key=sm-test"))
        .unwrap();
    let flood = Flood::start();
    let counters = reader.counters();
    let end = Instant::now() + Duration::from_secs(60);
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while counters.queue_dropped_records.load(Ordering::Relaxed) < 5_000 {
        assert!(Instant::now() < end);
        if matches!(rustix::io::read(&read_end, &mut [0; 64]), Ok(n) if n > 0) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        std::thread::yield_now();
    }
    drop(flood);
    // The machine may be busy; without load the longest pause was below 45 ms.
    assert!(
        longest < Duration::from_secs(2),
        "the heart stood still for {longest:?}"
    );
    let mut dropped = 0;
    until(&mut rx, |batch| {
        dropped += batch.dropped_before;
        dropped > 0
    });
    let drain = std::thread::spawn(move || {
        let mut dropped = 0;
        while let Some(batch) = rx.blocking_recv() {
            dropped += batch.dropped_before;
        }
        dropped
    });
    reader.stop().unwrap();
    dropped += drain.join().unwrap();
    assert_eq!(
        counters.queue_dropped_records.load(Ordering::Relaxed),
        dropped,
        "each dropped record is told once"
    );
}

/// Sends a record of ours to every audit socket of the machine; says how many took it.
fn forge() -> usize {
    let forged = collector::netlink::message(
        1300,
        0,
        0,
        b"audit(1.000:1): arch=c000003e syscall=59 forged",
    );
    let socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_AUDIT).unwrap();
    let table = std::fs::read_to_string("/proc/net/netlink").unwrap();
    table
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next()? == "9")
                .then(|| words.next()?.parse::<u32>().ok())
                .flatten()
        })
        .filter(|port| *port != 0)
        .filter(|port| {
            let to = netlink_sys::SocketAddr::new(*port, 0);
            socket.send_to(&forged, &to, 0).is_ok()
        })
        .count()
}

#[test]
fn nobody_but_the_kernel_can_send_to_the_owner() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let (reader, mut rx) = start(Mode::Exclusive);
    assert_eq!(forge(), 0, "the socket is connected to the kernel");
    reader.stop().unwrap();
    while let Ok(batch) = rx.try_recv() {
        assert!(
            batch
                .records()
                .all(|(_, payload)| !payload.ends_with(b"forged"))
        );
    }
}

#[test]
fn what_others_send_to_a_listener_is_counted_and_is_no_record() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let (reader, mut rx) = start(Mode::Shared);
    assert!(forge() > 0);
    let counters = reader.counters();
    let end = Instant::now() + Duration::from_secs(5);
    while counters.foreign.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < end, "the forgery never came");
        std::thread::yield_now();
    }
    reader.stop().unwrap();
    while let Ok(batch) = rx.try_recv() {
        assert!(
            batch
                .records()
                .all(|(_, payload)| !payload.ends_with(b"forged"))
        );
    }
}
