//! The event as JSON, `syscall-monitor/event/1` (`docs/event.schema.json`).
//!
//! Bytes of the kernel that are not UTF-8 are written in [`collector::text`]'s form, so that a reader gets them back. The
//! text is written straight from the records: a tree of values is made from it where somebody wants one.

mod write;

use std::collections::HashMap;

use collector::decode::{arch_number, describe, interpret};
use collector::record::{RawValue, Record};
use serde_json::Value;
use smallvec::SmallVec;

use crate::activity::{
    Activity, Ancestor, Attribution, Category, PathInfo, Phase, Process, SocketInfo, Source,
    SyscallInfo, Target,
};
use crate::container::{Container, Engine};
use write::{
    boolean, display, hex, inner, kernel_text, maybe, maybe_number, number, octal7, signed, string,
};

/// Name and version of the form.
pub const SCHEMA: &str = "syscall-monitor/event/1";

/// Appends text as it stands.
macro_rules! put {
    ($out:expr, $text:expr) => {
        $out.extend_from_slice($text.as_bytes())
    };
}

impl Activity {
    /// The whole event, with every record, as a tree of values. [`Self::write_json`] is many times faster.
    pub fn to_json(&self) -> Value {
        let mut text = Vec::with_capacity(4096);
        self.write_json(&mut text);
        // What write_json writes is JSON; the tests hold it to that.
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Appends the whole event, with every record, as one JSON object on one line, without a line break at its end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let id = &self.event.id;
        out.reserve(2048 + 3 * self.event.size());
        put!(out, "{\"schema\":\"");
        put!(out, SCHEMA);
        put!(out, "\",\"id\":\"");
        if let Some(node) = &id.node {
            inner(out, node);
            out.push(b'/');
        }
        number(out, id.millis / 1000);
        let millis = (id.millis % 1000) as u16;
        out.extend([
            b'.',
            b'0' + (millis / 100) as u8,
            b'0' + (millis / 10 % 10) as u8,
            b'0' + (millis % 10) as u8,
            b':',
        ]);
        number(out, u64::from(id.serial));
        put!(out, "\",\"time\":\"");
        write::rfc3339(out, id.millis);
        put!(out, "\",\"serial\":");
        number(out, u64::from(id.serial));
        put!(out, ",\"node\":");
        maybe(out, id.node.as_deref());
        put!(out, ",\"category\":\"");
        put!(out, category(self.category));
        put!(out, "\",\"phase\":\"");
        put!(out, phase(self.phase));
        put!(out, "\",\"entered\":");
        boolean(out, self.entered);
        put!(out, ",\"health_check\":");
        boolean(out, self.health_check);
        put!(out, ",\"syscall\":");
        optional(out, self.syscall.as_ref(), syscall);
        put!(out, ",\"process\":");
        process(out, &self.process);
        put!(out, ",\"container\":");
        optional(out, self.container.as_deref(), |out, c| {
            container(out, c, self.attribution)
        });
        put!(out, ",\"attribution\":{");
        attribution(out, self.attribution);
        put!(out, "},\"paths\":");
        list(out, &self.paths, path);
        put!(out, ",\"socket\":");
        optional(out, self.socket.as_ref(), socket);
        put!(out, ",\"target\":");
        optional(out, self.target.as_ref(), target);
        put!(out, ",\"keys\":");
        list(out, &self.keys, |out, key| string(out, key));
        put!(out, ",\"alerts\":");
        list(out, &self.alerts, |out, alert| string(out, alert));
        put!(out, ",\"records\":");
        list(out, self.event.records(), record);
        put!(out, ",\"complete\":");
        boolean(out, self.event.complete);
        out.push(b'}');
    }

    /// Is the event the host's, and not a container's?
    pub fn is_host(&self) -> bool {
        self.phase == Phase::Host
    }
}

fn category(category: Category) -> &'static str {
    match category {
        Category::Process => "process",
        Category::File => "file",
        Category::Network => "network",
        Category::Mount => "mount",
        Category::Ptrace => "ptrace",
        Category::Module => "module",
        Category::Namespace => "namespace",
        Category::Credential => "credential",
        Category::Seccomp => "seccomp",
        Category::Config => "config",
        Category::Other => "other",
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Setup => "setup",
        Phase::Running => "running",
        Phase::Exec => "exec",
        Phase::Host => "host",
    }
}

fn engine(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "docker",
        Engine::Podman => "podman",
        Engine::Containerd => "containerd",
        Engine::Crio => "crio",
        Engine::Kubernetes => "kubernetes",
        Engine::Lxc => "lxc",
        Engine::Nspawn => "nspawn",
        Engine::Unknown => "unknown",
    }
}

fn optional<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => write(out, value),
        None => put!(out, "null"),
    }
}

fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// The two fields of how the actor was told, without braces.
fn attribution(out: &mut Vec<u8>, attribution: Attribution) {
    put!(out, "\"source\":\"");
    put!(
        out,
        match attribution.source {
            Source::Table => "table",
            Source::Lineage => "lineage",
            Source::Proc => "proc",
            Source::None => "none",
        }
    );
    put!(out, "\",\"certain\":");
    boolean(out, attribution.certain);
}

fn syscall(out: &mut Vec<u8>, call: &SyscallInfo) {
    put!(out, "{\"name\":");
    string(out, &call.name);
    put!(out, ",\"number\":");
    number(out, u64::from(call.number));
    put!(out, ",\"arch\":");
    string(out, &call.arch);
    put!(out, ",\"success\":");
    optional(out, call.success, boolean);
    put!(out, ",\"exit\":");
    signed(out, call.exit);
    put!(out, ",\"errno\":");
    maybe(out, call.errno.as_deref());
    put!(out, ",\"args\":");
    list(out, call.args, |out, arg| {
        out.push(b'"');
        hex(out, arg);
        out.push(b'"');
    });
    // The tables of names are by number: another architecture's call is known by its name all the same.
    let arch = arch_number(&call.arch).unwrap_or(0);
    let mut first = true;
    describe(arch, &call.name, call.args, &mut |name, meaning| {
        put!(out, if first { ",\"interpreted\":{\"" } else { ",\"" });
        first = false;
        put!(out, name);
        put!(out, "\":");
        string(out, &meaning);
    });
    if !first {
        out.push(b'}');
    }
    if let Some(within) = &call.within {
        put!(out, ",\"within\":");
        string(out, within);
    }
    if !call.operations.is_empty() {
        put!(out, ",\"operations\":");
        list(out, &call.operations, |out, name| string(out, name));
    }
    out.push(b'}');
}

fn process(out: &mut Vec<u8>, p: &Process) {
    let id = |id: Option<u32>| id.map(u64::from);
    put!(out, "{\"pid\":");
    number(out, u64::from(p.pid));
    put!(out, ",\"ppid\":");
    number(out, u64::from(p.ppid));
    put!(out, ",\"exe\":");
    string(out, &p.exe);
    put!(out, ",\"comm\":");
    string(out, &p.comm);
    put!(out, ",\"argv\":");
    list(out, &p.argv, |out, arg| string(out, arg));
    put!(out, ",\"cwd\":");
    maybe(out, p.cwd.as_deref());
    put!(out, ",\"title\":");
    maybe(out, p.title.as_deref());
    put!(out, ",\"uid\":");
    maybe_number(out, id(p.uid));
    put!(out, ",\"euid\":");
    maybe_number(out, id(p.euid));
    put!(out, ",\"gid\":");
    maybe_number(out, id(p.gid));
    put!(out, ",\"auid\":");
    maybe_number(out, id(p.auid));
    put!(out, ",\"user\":");
    maybe(out, p.user.as_deref());
    put!(out, ",\"tty\":");
    maybe(out, p.tty.as_deref());
    put!(out, ",\"previous_exe\":");
    maybe(out, p.previous_exe.as_deref());
    put!(out, ",\"ancestors\":");
    list(out, &p.ancestors, ancestor);
    out.push(b'}');
}

fn ancestor(out: &mut Vec<u8>, a: &Ancestor) {
    put!(out, "{\"pid\":");
    number(out, u64::from(a.pid));
    put!(out, ",\"comm\":");
    string(out, &a.comm);
    put!(out, ",\"exe\":");
    string(out, &a.exe);
    out.push(b'}');
}

fn container(out: &mut Vec<u8>, c: &Container, told: Attribution) {
    put!(out, "{\"id\":");
    string(out, &c.id);
    put!(out, ",\"name\":");
    maybe(out, c.name.as_deref());
    put!(out, ",\"image\":");
    maybe(out, c.image.as_deref());
    put!(out, ",\"profile\":");
    maybe(out, c.profile.map(|p| p.name()));
    put!(out, ",\"agent\":");
    maybe(out, c.agent.as_deref());
    put!(out, ",\"privileged\":");
    boolean(out, c.privileged);
    put!(out, ",\"engine\":\"");
    put!(out, engine(c.engine));
    put!(out, "\",");
    attribution(out, told);
    out.push(b'}');
}

fn path(out: &mut Vec<u8>, p: &PathInfo) {
    put!(out, "{\"name\":");
    string(out, &p.name);
    put!(out, ",\"path\":");
    string(out, &p.path);
    put!(out, ",\"real_path\":");
    maybe(out, p.real_path.as_deref());
    put!(out, ",\"host_path\":");
    maybe(out, p.host_path.as_deref());
    put!(out, ",\"undeclared\":");
    boolean(out, p.undeclared);
    put!(out, ",\"inode\":");
    maybe_number(out, p.inode);
    put!(out, ",\"dev\":");
    maybe(out, p.dev.as_deref());
    put!(out, ",\"mode\":");
    optional(out, p.mode, |out, mode| {
        out.push(b'"');
        octal7(out, mode);
        out.push(b'"');
    });
    put!(out, ",\"ouid\":");
    maybe_number(out, p.ouid.map(u64::from));
    put!(out, ",\"nametype\":");
    string(out, &p.nametype);
    out.push(b'}');
}

fn socket(out: &mut Vec<u8>, s: &SocketInfo) {
    put!(out, "{\"family\":");
    string(out, &s.family);
    put!(out, ",\"address\":");
    string(out, &s.address);
    put!(out, ",\"port\":");
    maybe_number(out, s.port.map(u64::from));
    out.push(b'}');
}

fn target(out: &mut Vec<u8>, t: &Target) {
    put!(out, "{\"pid\":");
    number(out, u64::from(t.pid));
    put!(out, ",\"comm\":");
    string(out, &t.comm);
    put!(out, ",\"container\":");
    maybe(out, t.container.as_deref());
    out.push(b'}');
}

/// Type and fields of a record. A field that comes twice is a list. What is no field is kept under `raw`.
fn record(out: &mut Vec<u8>, record: Record<'_>) {
    put!(out, "{\"type\":\"");
    match record.kind.name() {
        Some(name) => put!(out, name),
        None => display(out, record.kind),
    }
    put!(out, "\",\"fields\":{");
    let mut words = Words::new();
    let missing = fields(out, record, &mut words);
    out.push(b'}');
    if !words.is_empty() {
        interpreted(out, words);
    }
    if missing && !record.body.is_empty() {
        put!(out, ",\"raw\":\"");
        kernel_text(out, record.body);
        out.push(b'"');
    }
    out.push(b'}');
}

/// Names of fields, and what their values mean in words.
type Words<'a> = SmallVec<[(&'a [u8], String); 2]>;

/// `,"interpreted":{…}`
fn interpreted(out: &mut Vec<u8>, words: Words<'_>) {
    put!(out, ",\"interpreted\":{");
    for (n, (name, meaning)) in words.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"\"" } else { b",\"" });
        kernel_text(out, name);
        put!(out, "\":");
        string(out, meaning);
    }
    out.push(b'}');
}

/// More fields than this are counted by hashing, so that a record of thousands (`a0` to `a2999`) costs no square of it.
const FEW: usize = 64;

/// The fields of a record, without braces. Was there none?
fn fields<'a>(out: &mut Vec<u8>, record: Record<'a>, words: &mut Words<'a>) -> bool {
    let start = out.len();
    let mut seen = Names::default();
    for (name, value) in record.fields() {
        if !seen.insert(name) {
            out.truncate(start);
            words.clear();
            repeated_fields(out, record, words);
            return false;
        }
        out.extend_from_slice(if seen.len == 1 { b"\"" } else { b",\"" });
        kernel_text(out, name);
        put!(out, "\":");
        value_text(out, value);
        if let Some(meaning) = interpret(record, name, value) {
            words.push((name, meaning));
        }
    }
    seen.len == 0
}

/// The names of a record's fields so far. A name that comes again is hardly ever there, and that none did costs a bit each:
/// only where a bit was set already are names compared.
struct Names<'a> {
    bits: u128,
    len: usize,
    all: [&'a [u8]; FEW],
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self {
            bits: 0,
            len: 0,
            all: [&[]; FEW],
        }
    }
}

impl<'a> Names<'a> {
    /// Adds a name; `false` when it is there already, or when there are too many to say.
    #[inline]
    fn insert(&mut self, name: &'a [u8]) -> bool {
        let mix = (write::word(name) ^ name.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bit = 1u128 << (mix >> 57);
        if self.bits & bit != 0 && self.all[..self.len].contains(&name) {
            return false;
        }
        self.bits |= bit;
        let Some(place) = self.all.get_mut(self.len) else {
            return false;
        };
        *place = name;
        self.len += 1;
        true
    }
}

/// The same when there are many fields, or a name comes again.
#[cold]
fn repeated_fields<'a>(out: &mut Vec<u8>, record: Record<'a>, words: &mut Words<'a>) {
    let mut places: HashMap<&'a [u8], usize> = HashMap::new();
    let mut all: Vec<(&'a [u8], SmallVec<[RawValue<'a>; 1]>)> = Vec::new();
    for (name, value) in record.fields() {
        let place = *places.entry(name).or_insert(all.len());
        match all.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => all.push((name, SmallVec::from_buf([value]))),
        }
    }
    for (n, (name, values)) in all.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"\"" } else { b",\"" });
        kernel_text(out, name);
        put!(out, "\":");
        match values.as_slice() {
            [one] => {
                value_text(out, *one);
                words.extend(interpret(record, name, *one).map(|meaning| (*name, meaning)));
            }
            more => list(out, more, |out, value| value_text(out, *value)),
        }
    }
}

/// A decoded value with its quotes.
fn value_text(out: &mut Vec<u8>, value: RawValue<'_>) {
    out.push(b'"');
    if value.encoded {
        write::kernel_text_by(out, |out| value.decode_into(out));
    } else {
        kernel_text(out, value.bytes);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
