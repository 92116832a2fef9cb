use std::sync::Arc;

use super::role::image;
use super::*;
use crate::activity::{Phase, Source};
use crate::clock::Window;
use crate::runtime_args::{RuntimeArgs, Verb};

const MS: u64 = 1_000_000;

fn table() -> Table {
    let mut table = Table::new(TableLimits {
        rows: 1000,
        dead: 100,
        dead_ns: 30_000 * MS,
    });
    table.seed(Seed {
        pid: 1,
        ppid: 0,
        threads: 1,
        start_ns: 0,
        read_ns: 1,
        image: image("/sbin/init", "init"),
        standing: Standing::HOST,
    });
    table
}

fn at(ms: u64) -> Window {
    Window {
        from: ms * MS,
        to: (ms + 5) * MS,
    }
}

fn exec(table: &mut Table, pid: u32, ms: u64, exe: &str, argv: &str) -> Standing {
    let image = image(exe, argv);
    let whole = Arc::clone(&image);
    let row = table.find(pid, at(ms), None).unwrap().row;
    table
        .assign(row, at(ms), image, &whole, |args| match args {
            RuntimeArgs::Shim { id, .. } | RuntimeArgs::Runtime { id, .. } => id.parse().ok(),
        })
        .unwrap()
        .now
}

fn standing(table: &mut Table, pid: u32, ms: u64) -> Standing {
    let row = table.find(pid, at(ms), None).unwrap().row;
    let index = table.epoch_of_call(row, at(ms));
    table.standing(row, index).unwrap_or(Standing::UNKNOWN)
}

/// pid 20 is container 7's first program at 130 ms; the connector is ahead of every record.
fn with_container() -> Table {
    let mut t = table();
    t.fork(100 * MS, 1, 10);
    t.exec(101 * MS, 10);
    t.fork(110 * MS, 10, 20);
    t.comm(20, b"runc:[2:INIT]\0\0\0");
    t.exec(130 * MS, 20);
    t.fork(140 * MS, 20, 21);
    assert!(matches!(
        exec(&mut t, 10, 100, "/usr/sbin/runc", "runc create 7").role,
        Role::Runtime(7, Verb::Create)
    ));
    assert_eq!(
        exec(&mut t, 20, 129, "/bin/sh", "sh").role,
        Role::Contained(7, Phase::Running)
    );
    t
}

#[test]
fn a_child_forked_after_the_exec_is_no_setup_although_the_record_comes_later() {
    let mut t = table();
    t.fork(100 * MS, 1, 10);
    t.exec(101 * MS, 10);
    t.fork(110 * MS, 10, 20);
    t.comm(20, b"runc:[2:INIT]\0\0\0");
    t.exec(130 * MS, 20);
    t.fork(131 * MS, 20, 21);
    exec(&mut t, 10, 100, "/usr/sbin/runc", "runc create 7");
    // 21 mounts at once; its parent's exec record is not there yet, and will never be.
    let child = standing(&mut t, 21, 131);
    assert_eq!(
        (child.role, child.certain),
        (Role::Contained(7, Phase::Running), true)
    );
    // What 20 did before its exec is setup, in the order of the stream, although the connector has said that it executed.
    let row = t.find(20, at(128), None).unwrap().row;
    let index = t.epoch_of_call(row, at(128));
    assert_eq!(
        t.standing(row, index).unwrap().role,
        Role::SetupClone(7, Verb::Create)
    );
}

#[test]
fn a_lost_exec_record_does_not_prolong_setup() {
    let mut t = table();
    t.fork(100 * MS, 1, 10);
    t.exec(101 * MS, 10);
    t.fork(110 * MS, 10, 20);
    t.comm(20, b"runc:[2:INIT]\0\0\0");
    t.exec(130 * MS, 20);
    exec(&mut t, 10, 100, "/usr/sbin/runc", "runc create 7");
    assert_eq!(
        standing(&mut t, 20, 150).role,
        Role::Contained(7, Phase::Running)
    );
}

#[test]
fn a_name_inside_gains_nothing() {
    let mut t = with_container();
    t.fork(150 * MS, 21, 22);
    t.comm(22, b"runc:[2:INIT]\0\0\0");
    assert_eq!(
        standing(&mut t, 22, 151).role,
        Role::Contained(7, Phase::Running)
    );
    t.exec(160 * MS, 22);
    assert_eq!(
        exec(&mut t, 22, 159, "/usr/sbin/runc", "runc create 8").role,
        Role::Contained(7, Phase::Running)
    );
    t.fork(170 * MS, 22, 23);
    t.comm(23, b"runc:[2:INIT]\0\0\0");
    assert_eq!(
        standing(&mut t, 23, 171).role,
        Role::Contained(7, Phase::Running)
    );
}

#[test]
fn a_pid_used_again_is_another_process() {
    let mut t = with_container();
    t.exit(200 * MS, 21);
    t.fork(300 * MS, 1, 21);
    assert_eq!(
        standing(&mut t, 21, 150).role,
        Role::Contained(7, Phase::Running)
    );
    assert_eq!(
        standing(&mut t, 21, 310).role,
        Role::Host { entered: false }
    );
    assert!(t.find(21, at(310), None).unwrap().other.is_none());
}

#[test]
fn within_a_tick_two_processes_are_possible() {
    let mut t = with_container();
    t.exit(200 * MS, 21);
    t.fork(201 * MS, 1, 21);
    let found = t.find(21, at(199), None).unwrap();
    assert!(found.other.is_some());
    // The parent that the record names chooses.
    let by_parent = |ppid| {
        t.get(t.find(21, at(199), Some(ppid)).unwrap().row)
            .unwrap()
            .ppid
    };
    assert_eq!((by_parent(20), by_parent(1)), (20, 1));
}

#[test]
fn a_coarse_clock_that_is_late_does_not_choose_the_dead() {
    let mut t = with_container();
    t.exit(200 * MS, 21);
    t.fork(240 * MS, 1, 21);
    assert_eq!(
        standing(&mut t, 21, 230).role,
        Role::Host { entered: false },
        "stamped 5 ms before its own fork"
    );
}

#[test]
fn a_coarse_clock_that_is_late_does_not_choose_whoever_ended_a_moment_ago() {
    let mut t = with_container();
    // A process of the host whose end was not seen; its pid is used again in the container.
    t.fork(150 * MS, 1, 30);
    t.fork(540 * MS, 21, 30);
    let first = t.find(30, at(530), Some(1)).unwrap();
    let second = t.find(30, at(530), Some(21)).unwrap();
    let neither = t.find(30, at(530), Some(99)).unwrap();
    let ppid = |row| t.get(row).unwrap().ppid;
    assert_eq!((ppid(first.row), ppid(second.row)), (1, 21));
    for found in [first, second, neither] {
        assert!(found.other.is_some(), "it is not sure: {found:?}");
    }
    // Long before, it can only have been the first.
    let long_before = t.find(30, at(160), Some(21)).unwrap();
    assert_eq!((long_before.row, long_before.other), (first.row, None));
}

#[test]
fn orphans_keep_their_container_and_grandparents_may_be_gone() {
    let mut t = with_container();
    t.fork(150 * MS, 21, 22);
    t.fork(151 * MS, 22, 23);
    t.exit(152 * MS, 22);
    t.exit(153 * MS, 21);
    t.advance(60_000 * MS);
    assert_eq!(
        standing(&mut t, 23, 60_000).role,
        Role::Contained(7, Phase::Running)
    );
}

#[test]
fn a_process_whose_first_thread_ended_still_acts() {
    let mut t = with_container();
    t.thread(150 * MS, 21, 1);
    t.exit(160 * MS, 21);
    t.advance(100_000 * MS);
    assert_eq!(
        standing(&mut t, 21, 100_000).role,
        Role::Contained(7, Phase::Running)
    );
}

#[test]
fn a_full_table_forgets_the_dead_first_and_stays_right() {
    let mut t = with_container();
    for n in 0..5000u32 {
        let (pid, ms) = (1000 + n, 200 + u64::from(n));
        t.fork(ms * MS, 21, pid);
        assert_eq!(
            standing(&mut t, pid, ms).role,
            Role::Contained(7, Phase::Running)
        );
        t.exit(ms * MS + 1, pid);
    }
    let counters = t.counters();
    assert!(
        counters.rows <= 300 && counters.dropped_early > 0,
        "{counters:?}"
    );
    assert_eq!(
        standing(&mut t, 20, 9000).role,
        Role::Contained(7, Phase::Running)
    );
}

#[test]
fn a_table_full_of_the_living_is_bounded_and_knows_the_latest() {
    // With the connector, of processes that live; without it, of processes of which nobody says that they ended.
    let mut with = with_container();
    let mut without = table();
    for n in 0..5000u32 {
        let (pid, ms) = (1000 + n, 200 + u64::from(n));
        with.fork(ms * MS, 20, pid);
        without.deduce(pid, 1, None, at(ms));
    }
    for mut table in [with, without] {
        let counters = table.counters();
        assert!(
            counters.rows <= 1000 && counters.dropped_early >= 4000,
            "{counters:?}"
        );
        let latest = table.find(5999, at(5199), None).unwrap().row;
        assert!(table.standing(latest, 0).is_some());
        assert!(table.find(1000, at(200), None).is_none());
    }
}

#[test]
fn executing_in_a_loop_is_bounded() {
    let mut t = with_container();
    for n in 0..500 {
        t.exec((200 + n) * MS, 21);
        t.fork((200 + n) * MS + 1, 21, 5000 + n as u32);
    }
    let row = t.find(21, at(800), None).unwrap().row;
    assert!(t.get(row).unwrap().epochs.len() <= MAX_EPOCHS);
    assert_eq!(
        standing(&mut t, 5000, 200).role,
        Role::Contained(7, Phase::Running)
    );
    assert_eq!(
        standing(&mut t, 5499, 800).role,
        Role::Contained(7, Phase::Running)
    );
}

#[test]
fn a_repair_amid_an_exec_puts_right_what_was_before_it_too() {
    let mut t = with_container();
    // What was lost: 20 ended, and a process of container 9 got its pid.
    t.overrun();
    t.fork(300 * MS, 20, 30);
    t.exec(301 * MS, 30);
    // The repair reads /proc before the record of the exec comes.
    t.seed(Seed {
        pid: 30,
        ppid: 20,
        threads: 1,
        start_ns: 300 * MS,
        read_ns: 302 * MS,
        image: image("/bin/job", "job"),
        standing: Standing {
            role: Role::Contained(9, Phase::Running),
            source: Source::Proc,
            certain: true,
            health: false,
        },
    });
    let now = exec(&mut t, 30, 300, "/bin/job", "job");
    assert_eq!(now.role, Role::Contained(9, Phase::Running));
    assert_eq!(t.counters().contradicted, 1);
}

#[test]
fn a_seeded_process_is_not_doubled_by_its_own_fork() {
    let mut t = table();
    let seed = |start_ns| Seed {
        pid: 50,
        ppid: 1,
        threads: 2,
        start_ns,
        read_ns: 500 * MS,
        image: image("/bin/sh", "sh"),
        standing: Standing {
            role: Role::Contained(9, Phase::Running),
            source: Source::Proc,
            certain: true,
            health: false,
        },
    };
    t.seed(seed(400 * MS));
    t.fork(405 * MS, 1, 50);
    t.exec(406 * MS, 50);
    assert_eq!(
        standing(&mut t, 50, 600).role,
        Role::Contained(9, Phase::Running)
    );
    t.fork(700 * MS, 50, 51);
    assert_eq!(standing(&mut t, 51, 701).source, Source::Table);
}

#[test]
fn deduced_rows_are_never_sure() {
    let mut t = with_container();
    let row = {
        let parent = t.find(21, at(150), None).map(|f| f.row);
        t.deduce(90, 21, parent, at(150))
    };
    let standing = t.standing(row, 0).unwrap();
    assert_eq!(
        (standing.role, standing.certain),
        (Role::Contained(7, Phase::Running), false)
    );
}

#[test]
fn a_hundred_thousand_processes_fit() {
    let mut t = Table::new(TableLimits {
        rows: 200_000,
        dead: 1000,
        dead_ns: 30_000 * MS,
    });
    t.seed(Seed {
        pid: 1,
        ppid: 0,
        threads: 1,
        start_ns: 0,
        read_ns: 1,
        image: image("/sbin/init", "init"),
        standing: Standing::HOST,
    });
    for pid in 2..100_002 {
        t.fork(u64::from(pid) * 1000, 1, pid);
    }
    let row = size_of::<(u32, Option<Instance>)>()
        + 2 * size_of::<(u32, Row)>()
        + size_of::<(Row, u64)>();
    assert!(row * 131_072 < 40 << 20, "{row} bytes a row");
    assert_eq!(t.counters().rows, 100_001);
}
