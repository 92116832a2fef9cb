//! `[collector] realtime`: which thread gets what, and that all of it is told.

use collector_sys::{Scheduling, scheduling};
use test_support::{eventually, kernel};

use crate::{PATIENCE, gateway, paused, world};

/// How a thread of a process is scheduled, by the thread's name.
fn thread(pid: u32, name: &str) -> Scheduling {
    let found = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let comm = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            (comm.trim() == name).then(|| entry.file_name().to_str()?.parse().ok())?
        })
        .next();
    scheduling(found.unwrap_or_else(|| panic!("{pid} has no thread {name}"))).unwrap()
}

#[test]
fn the_reader_has_the_realtime_priority_of_the_configuration_and_the_stages_one_less() {
    if !kernel::wanted("realtime") {
        return;
    }
    let world = world().config("[collector]\nrealtime = 3\n").start();
    let sensor = world.pid_of("sensor");
    let status = world.status();
    let refused = status["reasons"].to_string().contains("was refused");
    for (name, wanted) in [("audit-reader", 3), ("stages", 2)] {
        let found = thread(sensor, name);
        if refused {
            assert!(!found.is_realtime(), "{name}: {found:?}");
        } else {
            assert!(found.is_realtime(), "{name}: {found:?}");
            assert_eq!(found.priority, wanted, "{name}");
        }
    }
    assert!(!thread(sensor, "responder").is_realtime());
    let realtime = &status["realtime"];
    assert_eq!(realtime["reader"]["priority"], 3, "{realtime}");
    assert_eq!(realtime["stages"]["priority"], 2, "{realtime}");
    assert_eq!(realtime["stages"]["held"], !refused, "{realtime}");
    assert_eq!(realtime["stages"]["given_up"], 0, "{realtime}");

    // And it freezes as ever.
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    eventually("the container is frozen", PATIENCE, || {
        container.is_frozen().then_some(())
    });
    paused(&container);
}
