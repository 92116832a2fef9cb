//! An [`Activity`] as rules see it: field names in, borrowed values out, nothing built that no rule asks for.

use std::borrow::Cow;
use std::cell::OnceCell;

use enricher::activity::{Activity, Category, PathInfo, Phase, Source};
use enricher::paths::behind_root;
use rsigma_eval::{Event, EventValue};
use serde_json::Value;

use crate::{calls, fields, intent};

/// One activity under evaluation. What is derived is derived once.
pub(crate) struct ActivityView<'a> {
    pub(crate) activity: &'a Activity,
    command_line: OnceCell<String>,
    changes_file: OnceCell<bool>,
}

impl<'a> ActivityView<'a> {
    pub(crate) fn new(activity: &'a Activity) -> Self {
        Self {
            activity,
            command_line: OnceCell::new(),
            changes_file: OnceCell::new(),
        }
    }

    /// Arguments with a blank between two; PROCTITLE where the arguments are not known.
    fn command_line(&self) -> &str {
        self.command_line.get_or_init(|| {
            let process = &self.activity.process;
            if process.argv.is_empty() {
                process.title.clone().unwrap_or_default()
            } else {
                process.argv.join(" ")
            }
        })
    }

    pub(crate) fn changes_file(&self) -> bool {
        *self
            .changes_file
            .get_or_init(|| intent::changes_file(self.activity))
    }

    /// One value for each path that has it: nothing, a text, or an array of which any member may match.
    fn paths(&self, pick: impl Fn(&'a PathInfo) -> Option<&'a str>) -> Option<EventValue<'a>> {
        one_or_more(self.activity.paths.iter().filter_map(pick))
    }

    /// Absolute paths, where links in them lead, and those behind the root of a process again without it:
    /// `/proc/self/root/etc/passwd` is `/etc/passwd`. A link must not lead past a rule, in neither direction.
    fn whole_paths(&self, wanted: impl Fn(&PathInfo) -> bool) -> Option<EventValue<'a>> {
        let paths = || {
            let wanted = self.activity.paths.iter().filter(|p| wanted(p));
            wanted
                .flat_map(|p| [nonempty(&p.path), p.real_path.as_deref()])
                .flatten()
        };
        if !paths().any(|path| behind_root(path).is_some()) {
            return one_or_more(paths());
        }
        list(paths().flat_map(|path| [Some(path), behind_root(path)].into_iter().flatten()))
    }

    /// The program, and for a multi-call program also the path that its applet would have: `/bin/busybox` run as `nc` is
    /// `/bin/nc` too, or no rule on program names would see anything in an Alpine container.
    fn image(&self) -> Option<EventValue<'a>> {
        let exe = nonempty(&self.activity.process.exe)?;
        let Some(applet) = self.applet() else {
            return Some(str_value(exe));
        };
        let dir = exe.rsplit_once('/').map_or("", |(dir, _)| dir);
        Some(EventValue::Array(vec![
            str_value(exe),
            EventValue::Str(Cow::Owned(format!("{dir}/{applet}"))),
        ]))
    }

    fn program(&self) -> Option<&'a str> {
        self.applet()
            .or_else(|| nonempty(&self.activity.process.exe).map(basename))
    }

    /// What a multi-call program runs as. It decides by its own argv, so this cannot be forged past it.
    fn applet(&self) -> Option<&'a str> {
        let process = &self.activity.process;
        let exe = basename(&process.exe);
        if !(exe.starts_with("busybox") || matches!(exe, "toybox" | "coreutils")) {
            return None;
        }
        let mut argv = process.argv.iter().map(|arg| basename(arg));
        let called = argv.next()?.trim_start_matches('-');
        let applet = if called.starts_with("busybox") || called == exe {
            argv.next()?
        } else {
            called
        };
        nonempty(applet).filter(|name| !name.starts_with('-'))
    }

    fn user(&self) -> Option<EventValue<'a>> {
        let process = &self.activity.process;
        match (&process.user, process.uid) {
            (Some(user), _) => Some(str_value(user)),
            (None, Some(0)) => Some(str_value("root")),
            (None, Some(uid)) => Some(EventValue::Str(Cow::Owned(uid.to_string()))),
            (None, None) => None,
        }
    }

    fn our_field(&self, name: &str) -> Option<EventValue<'a>> {
        let activity = self.activity;
        let process = &activity.process;
        let container = activity.container.as_deref();
        let call = activity.syscall.as_ref();
        match name {
            "phase" => Some(str_value(phase_name(activity.phase))),
            "category" => Some(str_value(category_name(activity.category))),
            "entered" => Some(EventValue::Bool(activity.entered)),
            "health_check" => Some(EventValue::Bool(activity.health_check)),
            "keys" => list(activity.keys.iter().map(|k| k.as_str())),
            "a0" | "a1" | "a2" | "a3" => {
                let register = usize::from(name.as_bytes()[1] - b'0');
                call.map(|c| {
                    EventValue::Str(Cow::Owned(format!("{:x}", calls::register(c, register))))
                })
            }
            // Several operations of a ring can be in one event: none hides behind the first.
            "syscall" | "syscall.name" => match call.map(|c| c.operations.as_slice()) {
                Some([_, ..]) => list(call?.operations.iter().map(|o| o.as_str())),
                _ => call.map(|c| str_value(calls::name(c))),
            },
            "syscall.within" => call.and_then(|c| c.within.as_deref()).map(str_value),
            "syscall.arch" => call.map(|c| str_value(&c.arch)),
            "syscall.success" => call.and_then(|c| c.success).map(EventValue::Bool),
            "syscall.exit" => call.map(|c| EventValue::Int(c.exit)),
            "syscall.errno" => call.and_then(|c| c.errno.as_deref()).map(str_value),
            "ptrace.request" => call.filter(|c| c.name == "ptrace").map(|c| {
                let request = calls::register(c, 0);
                match fields::ptrace_request(request) {
                    Some(request) => str_value(request),
                    None => EventValue::Str(Cow::Owned(format!("{request:#x}"))),
                }
            }),
            "container.id" => container.map(|c| str_value(&c.id)),
            "container.name" => container.map(|c| str_value(c.display_name())),
            "container.image" => container.and_then(|c| c.image.as_deref()).map(str_value),
            "container.profile" => container
                .and_then(|c| c.profile)
                .map(|p| str_value(p.name())),
            "container.agent" => container.and_then(|c| c.agent.as_deref()).map(str_value),
            "container.privileged" => container.map(|c| EventValue::Bool(c.privileged)),
            "container.source" => {
                container.map(|_| str_value(source_name(activity.attribution.source)))
            }
            "container.certain" => {
                container.map(|_| EventValue::Bool(activity.attribution.certain))
            }
            "process.pid" => Some(EventValue::Int(process.pid.into())),
            "process.ppid" => Some(EventValue::Int(process.ppid.into())),
            "process.exe" => nonempty(&process.exe).map(str_value),
            "process.program" => self.program().map(str_value),
            "process.comm" => nonempty(&process.comm).map(str_value),
            "process.argv" => list(process.argv.iter().map(String::as_str)),
            "process.cwd" => process.cwd.as_deref().map(str_value),
            "process.uid" => process.uid.map(|id| EventValue::Int(id.into())),
            "process.euid" => process.euid.map(|id| EventValue::Int(id.into())),
            "process.user" => self.user(),
            "process.tty" => process.tty.as_deref().map(str_value),
            "process.previous_exe" => process.previous_exe.as_deref().map(str_value),
            "process.ancestors" => list(
                process
                    .ancestors
                    .iter()
                    .flat_map(|a| [a.exe.as_str(), a.comm.as_str()])
                    .filter(|text| !text.is_empty()),
            ),
            "process.parent.exe" => process
                .ancestors
                .first()
                .and_then(|a| nonempty(&a.exe))
                .map(str_value),
            "process.parent.comm" => process
                .ancestors
                .first()
                .and_then(|a| nonempty(&a.comm))
                .map(str_value),
            "path.name" => self.paths(|p| nonempty(&p.name)),
            "path.path" => self.whole_paths(|_| true),
            "path.host" => self.paths(|p| p.host_path.as_deref()),
            "path.undeclared_host" => {
                self.paths(|p| p.host_path.as_deref().filter(|_| p.undeclared))
            }
            "path.kind" => self.paths(|p| p.mode.and_then(file_kind)),
            "path.nametype" => self.paths(|p| nonempty(&p.nametype)),
            "open.write" => Some(EventValue::Bool(self.changes_file())),
            "socket.domain" => calls::socket_family(activity).map(str_value),
            "socket.protocol" => {
                calls::socket_protocol(activity).map(|p| EventValue::Int(p.into()))
            }
            "device.kind" => calls::device_kind(activity).map(str_value),
            "device.number" => {
                calls::device_number(activity).map(|number| EventValue::Str(Cow::Owned(number)))
            }
            "socket.family" => activity.socket.as_ref().map(|s| str_value(&s.family)),
            "socket.address" => activity.socket.as_ref().map(|s| str_value(&s.address)),
            "socket.port" => activity
                .socket
                .as_ref()
                .and_then(|s| s.port)
                .map(|port| EventValue::Int(port.into())),
            "target.pid" => activity
                .target
                .as_ref()
                .map(|t| EventValue::Int(t.pid.into())),
            "target.comm" => activity.target.as_ref().map(|t| str_value(&t.comm)),
            "target.container" => activity
                .target
                .as_ref()
                .and_then(|t| t.container.as_deref())
                .map(str_value),
            "target.same_container" => {
                let target = activity.target.as_ref()?;
                Some(EventValue::Bool(
                    target.container.is_some()
                        && target.container.as_deref() == container.map(|c| c.id.as_str()),
                ))
            }
            _ => None,
        }
    }

    fn sigma_field(&self, name: &str) -> Option<EventValue<'a>> {
        let activity = self.activity;
        let inet = || {
            activity
                .socket
                .as_ref()
                .filter(|s| s.family == "inet" || s.family == "inet6")
        };
        match name {
            "Image" => self.image(),
            "ParentImage" => self.our_field("process.parent.exe"),
            "CurrentDirectory" => self.our_field("process.cwd"),
            "User" => self.user(),
            "ProcessId" => self.our_field("process.pid"),
            "ParentProcessId" => self.our_field("process.ppid"),
            "LogonId" => activity.process.auid.map(|id| EventValue::Int(id.into())),
            "TargetFilename" => self.whole_paths(|p| {
                p.nametype != "PARENT" && p.nametype != "DELETE" && p.nametype != "UNKNOWN"
            }),
            "DestinationIp" => inet().map(|s| str_value(&s.address)),
            "DestinationPort" => inet()
                .and_then(|s| s.port)
                .map(|port| EventValue::Int(port.into())),
            "Initiated" => activity.syscall.as_ref().map(|c| {
                str_value(if calls::name(c).starts_with("accept") {
                    "false"
                } else {
                    "true"
                })
            }),
            _ => None,
        }
    }
}

impl Event for ActivityView<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        match path {
            "CommandLine" | "process.command_line" => nonempty(self.command_line()).map(str_value),
            _ if path.as_bytes().first().is_some_and(u8::is_ascii_uppercase) => {
                self.sigma_field(path)
            }
            _ => self.our_field(path),
        }
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        self.all_string_values().iter().any(|text| pred(text))
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        let activity = self.activity;
        let process = &activity.process;
        [
            self.command_line(),
            process.exe.as_str(),
            process.comm.as_str(),
        ]
        .into_iter()
        .chain(activity.paths.iter().flat_map(|p| {
            [p.name.as_str(), p.path.as_str()]
                .into_iter()
                .chain(p.real_path.as_deref())
        }))
        .chain(activity.socket.iter().map(|s| s.address.as_str()))
        .filter(|text| !text.is_empty())
        .map(Cow::Borrowed)
        .collect()
    }

    fn to_json(&self) -> Value {
        let fields = fields::OURS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.get_field(name)?.to_json())));
        Value::Object(fields.collect())
    }
}

fn str_value(text: &str) -> EventValue<'_> {
    EventValue::Str(Cow::Borrowed(text))
}

/// Nothing, a text, or an array of which any member may match.
fn one_or_more<'a>(mut values: impl Iterator<Item = &'a str>) -> Option<EventValue<'a>> {
    let first = str_value(values.next()?);
    match values.next() {
        None => Some(first),
        Some(second) => Some(EventValue::Array(
            [first, str_value(second)]
                .into_iter()
                .chain(values.map(str_value))
                .collect(),
        )),
    }
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> Option<EventValue<'a>> {
    let values: Vec<_> = texts.map(str_value).collect();
    (!values.is_empty()).then_some(EventValue::Array(values))
}

fn nonempty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Kind of a file by its mode, `include/uapi/linux/stat.h`.
fn file_kind(mode: u32) -> Option<&'static str> {
    Some(match mode & 0o170_000 {
        0o100_000 => "file",
        0o040_000 => "directory",
        0o120_000 => "symlink",
        0o020_000 => "char",
        0o060_000 => "block",
        0o010_000 => "fifo",
        0o140_000 => "socket",
        _ => return None,
    })
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

pub(crate) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Setup => "setup",
        Phase::Running => "running",
        Phase::Exec => "exec",
        Phase::Host => "host",
    }
}

pub(crate) fn category_name(category: Category) -> &'static str {
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

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Table => "table",
        Source::Lineage => "lineage",
        Source::Proc => "proc",
        Source::None => "none",
    }
}
