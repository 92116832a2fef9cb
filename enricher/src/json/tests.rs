//! What is written is held to a second, plain way of saying the same: a tree of values.

use std::sync::Arc;

use collector::record::Record;
use collector::text::to_text;
use collector::{Event, EventId, RecordType};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::activity::Ancestor;
use crate::container::Profile;

/// The event as a tree of values, as plainly as it can be said.
fn tree(a: &Activity) -> Value {
    let id = &a.event.id;
    let container = a.container.as_ref().map(|c| {
        json!({
            "id": c.id, "name": c.name, "image": c.image, "profile": c.profile, "agent": c.agent, "privileged": c.privileged,
            "engine": c.engine, "source": a.attribution.source, "certain": a.attribution.certain,
        })
    });
    let syscall = a.syscall.as_ref().map(|s| {
        let mut interpreted = Map::new();
        let arch = collector::decode::arch_number(&s.arch).unwrap_or(0);
        collector::decode::describe(arch, &s.name, s.args, &mut |name, text| {
            interpreted.insert(name.to_owned(), text.into());
        });
        let mut call = json!({
            "name": s.name, "number": s.number, "arch": s.arch, "success": s.success, "exit": s.exit, "errno": s.errno,
            "args": s.args.iter().map(|a| format!("{a:#x}")).collect::<Vec<_>>(),
        });
        if !interpreted.is_empty() {
            call["interpreted"] = interpreted.into();
        }
        if let Some(within) = &s.within {
            call["within"] = within.as_str().into();
        }
        if !s.operations.is_empty() {
            call["operations"] = json!(s.operations);
        }
        call
    });
    let p = &a.process;
    let process = json!({
        "pid": p.pid, "ppid": p.ppid, "exe": p.exe, "comm": p.comm, "argv": p.argv, "cwd": p.cwd, "title": p.title,
        "uid": p.uid, "euid": p.euid, "gid": p.gid, "auid": p.auid, "user": p.user, "tty": p.tty,
        "previous_exe": p.previous_exe,
        "ancestors": p.ancestors.iter().map(|a| json!({"pid": a.pid, "comm": a.comm, "exe": a.exe})).collect::<Vec<_>>(),
    });
    let path = |p: &PathInfo| {
        json!({
            "name": p.name, "path": p.path, "real_path": p.real_path, "host_path": p.host_path, "undeclared": p.undeclared, "inode": p.inode,
            "dev": p.dev, "mode": p.mode.map(|m| format!("{m:07o}")), "ouid": p.ouid, "nametype": p.nametype,
        })
    };
    json!({
        "schema": SCHEMA,
        "id": id.to_string(),
        "time": time(id.millis),
        "serial": id.serial,
        "node": id.node.as_deref(),
        "category": a.category,
        "phase": a.phase,
        "entered": a.entered,
        "health_check": a.health_check,
        "syscall": syscall,
        "process": process,
        "container": container,
        "attribution": {"source": a.attribution.source, "certain": a.attribution.certain},
        "paths": a.paths.iter().map(path).collect::<Vec<_>>(),
        "socket": a.socket.as_ref().map(|s| json!({"family": s.family, "address": s.address, "port": s.port})),
        "target": a.target.as_ref().map(|t| json!({"pid": t.pid, "comm": t.comm, "container": t.container})),
        "keys": a.keys,
        "alerts": a.alerts,
        "records": a.event.records().map(record_tree).collect::<Vec<_>>(),
        "complete": a.event.complete,
    })
}

fn time(millis: u64) -> String {
    let stamp = i64::try_from(millis)
        .ok()
        .filter(|ms| *ms < 253_402_207_200_000)
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| millis.to_string(), |t| format!("{t:.3}"))
}

fn record_tree(record: Record<'_>) -> Value {
    let mut fields = Map::new();
    for (name, value) in record.fields() {
        let name = to_text(name).into_owned();
        let value = Value::String(to_text(&value.decode()).into_owned());
        match fields.get_mut(&name) {
            None => {
                fields.insert(name, value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    let raw = fields.is_empty() && !record.body.is_empty();
    let mut words = Map::new();
    for (name, value) in record.fields() {
        if fields[to_text(name).as_ref()].is_string()
            && let Some(meaning) = collector::decode::interpret(record, name, value)
        {
            words.insert(to_text(name).into_owned(), meaning.into());
        }
    }
    let mut out = json!({"type": record.kind.to_string(), "fields": fields});
    if !words.is_empty() {
        out["interpreted"] = words.into();
    }
    if raw {
        out["raw"] = to_text(record.body).into();
    }
    out
}

fn written(activity: &Activity) -> Value {
    let mut out = b"before".to_vec();
    activity.write_json(&mut out);
    let text = std::str::from_utf8(&out)
        .unwrap()
        .strip_prefix("before")
        .unwrap();
    assert!(!text.contains(['\n', '\r']), "one line: {text}");
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn assert_same(activity: &Activity) {
    let tree = tree(activity);
    assert_eq!(written(activity), tree);
    assert_eq!(activity.to_json(), tree);
}

/// Records as they can come, whole and broken, with fields that come twice.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let field = (
        "[a-z]{1,3}[0-9]?|name|comm|exe|key|a0|a1|saddr|opid|syscall|proctitle",
        prop_oneof![
            "[0-9a-f]{0,6}".prop_map(String::into_bytes),
            "\"[ -~]{0,12}\"".prop_map(String::into_bytes),
            "([0-9A-F]{2}){1,9}".prop_map(String::into_bytes),
            any::<Vec<u8>>(),
        ],
    );
    let fields = prop::collection::vec(field, 0..80).prop_map(|fields| {
        fields
            .into_iter()
            .flat_map(|(name, value)| {
                [name.into_bytes(), b"=".to_vec(), value, b" ".to_vec()].concat()
            })
            .collect::<Vec<u8>>()
    });
    prop_oneof![4 => fields, 1 => any::<Vec<u8>>()]
}

fn kind() -> impl Strategy<Value = RecordType> {
    prop_oneof![
        prop::sample::select(RecordType::ALL.to_vec()),
        any::<u16>().prop_map(RecordType),
        prop::sample::select(vec![
            RecordType::SYSCALL,
            RecordType::EXECVE,
            RecordType::PATH,
            RecordType::SOCKADDR,
            RecordType::OBJ_PID,
        ]),
    ]
}

proptest! {
    #[test]
    fn any_event_is_written_as_the_tree_has_it(
        records in prop::collection::vec((kind(), body()), 0..6),
        node in prop::option::of("\\PC{1,5}"),
        (millis, serial) in (prop_oneof![0..=4_000_000_000_000u64, any::<u64>()], any::<u32>()),
        texts in prop::collection::vec(any::<String>(), 12),
        some: bool,
    ) {
        let node = node.map(Arc::from);
        let mut event = Event::new(EventId { millis, serial, node });
        records.iter().for_each(|(kind, body)| event.push(*kind, body));
        let mut a = crate::derive::derive(event);
        assert_same(&a);
        // What only the enricher and Docker add.
        let text = |n: usize| texts[n].clone();
        let maybe = |n: usize| some.then(|| text(n));
        a.container = Some(Arc::new(Container {
            id: text(0), name: maybe(1), image: maybe(2), agent: maybe(3), privileged: some,
            profile: some.then_some(Profile::Moltbot), engine: Engine::Crio, ..Container::default()
        }));
        a.process.user = maybe(4);
        a.process.previous_exe = maybe(5);
        a.process.ancestors = vec![Ancestor { pid: serial, comm: text(6).into(), exe: text(7).into() }; 2];
        a.paths.iter_mut().for_each(|p| (p.host_path, p.undeclared) = (maybe(8), some));
        a.target = some.then(|| Target { pid: 1, comm: text(9), container: maybe(10) });
        a.alerts = vec![text(11).into()];
        a.attribution = Attribution { source: Source::Lineage, certain: some };
        assert_same(&a);
    }
}

#[test]
fn every_word_is_serdes_word() {
    for c in [
        Category::Process,
        Category::File,
        Category::Network,
        Category::Mount,
        Category::Ptrace,
        Category::Module,
        Category::Namespace,
        Category::Credential,
        Category::Seccomp,
        Category::Config,
        Category::Other,
    ] {
        assert_eq!(json!(c), json!(category(c)));
    }
    for p in [Phase::Setup, Phase::Running, Phase::Exec, Phase::Host] {
        assert_eq!(json!(p), json!(phase(p)));
    }
    for e in [
        Engine::Docker,
        Engine::Podman,
        Engine::Containerd,
        Engine::Crio,
        Engine::Kubernetes,
        Engine::Lxc,
        Engine::Nspawn,
        Engine::Unknown,
    ] {
        assert_eq!(json!(e), json!(engine(e)));
    }
    for source in [Source::Table, Source::Lineage, Source::Proc, Source::None] {
        let mut a = crate::derive::derive(Event::new(EventId::local(1, 1)));
        a.attribution.source = source;
        assert_same(&a);
    }
}

#[test]
fn a_record_of_thousands_of_fields_and_repeated_ones_is_whole() {
    let mut event = Event::new(EventId::local(1, 1));
    let many: String = (0..3000).map(|n| format!("a{n}=\"x{n}\" ")).collect();
    event.push(RecordType::EXECVE, many.as_bytes());
    event.push(RecordType::PATH, b"name=\"a\" name=62 name=\"c\" x=1");
    let a = crate::derive::derive(event);
    assert_same(&a);
    let json = a.to_json();
    assert_eq!(json["records"][0]["fields"]["a2999"], "x2999");
    assert_eq!(
        json["records"][1]["fields"],
        json!({"name": ["a", "b", "c"], "x": "1"})
    );
}
