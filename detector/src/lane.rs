//! Lanes: what a log source means, so that an activity meets only rules that are meant for it.

use enricher::activity::{Activity, Category, Phase};
use rsigma_eval::Engine;
use rsigma_parser::LogSource;

use crate::calls;
use crate::view::{ActivityView, category_name};

/// Name of our own log source: `product: linux`, `service: syscall-monitor`.
pub(crate) const SERVICE: &str = "syscall-monitor";

/// Which activities a log source means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `service: syscall-monitor`: every activity.
    Any,
    /// `service: syscall-monitor` with a category: the activities of that kind.
    Kind(Category),
    /// `category: process_creation`: an exec that succeeded.
    ProcessCreation,
    /// `category: file_event`: a file was created or opened for writing.
    FileEvent,
    /// `category: network_connection`: a call that named an internet address.
    NetworkConnection,
    /// `service: auditd`: each record of an event by itself.
    Auditd,
}

const KINDS: [Category; 11] = [
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
];

impl Scope {
    /// What a rule's log source means here, or what is wrong with it.
    pub(crate) fn of(source: &LogSource) -> Result<Self, String> {
        let product = source.product.as_deref();
        if !matches!(product, None | Some("linux")) {
            return Err(format!(
                "log source product {:?} is not Linux; nothing here delivers it",
                product.unwrap_or_default()
            ));
        }
        match (source.service.as_deref(), source.category.as_deref()) {
            (Some(SERVICE), None) => Ok(Self::Any),
            (Some(SERVICE), Some(category)) => KINDS
                .into_iter()
                .find(|kind| category_name(*kind) == category)
                .map(Self::Kind)
                .ok_or_else(|| {
                    format!(
                        "category {category:?} is not one of {}",
                        KINDS.map(category_name).join(", ")
                    )
                }),
            (Some("auditd"), _) => Ok(Self::Auditd),
            (None, Some("process_creation")) => Ok(Self::ProcessCreation),
            (None, Some("file_event")) => Ok(Self::FileEvent),
            (None, Some("network_connection")) => Ok(Self::NetworkConnection),
            (service, category) => Err(format!(
                "log source service {:?}, category {:?} is not delivered; use service {SERVICE}, service auditd, \
                 or one of the categories process_creation, file_event, network_connection",
                service.unwrap_or("none"),
                category.unwrap_or("none"),
            )),
        }
    }

    /// `linux/process_creation`, as lists show it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Any => format!("linux/{SERVICE}"),
            Self::Kind(kind) => format!("linux/{SERVICE}/{}", category_name(kind)),
            Self::ProcessCreation => "linux/process_creation".to_owned(),
            Self::FileEvent => "linux/file_event".to_owned(),
            Self::NetworkConnection => "linux/network_connection".to_owned(),
            Self::Auditd => "linux/auditd".to_owned(),
        }
    }

    fn takes(self, view: &ActivityView<'_>) -> bool {
        let activity = view.activity;
        match self {
            Self::Any | Self::Auditd => true,
            Self::Kind(kind) => activity.category == kind,
            Self::ProcessCreation => {
                succeeded_call(activity).is_some_and(|name| matches!(name, "execve" | "execveat"))
            }
            Self::FileEvent => {
                !activity.paths.is_empty()
                    && succeeded_call(activity).is_some()
                    && view.changes_file()
            }
            Self::NetworkConnection => {
                activity
                    .socket
                    .as_ref()
                    .is_some_and(|s| s.family == "inet" || s.family == "inet6")
                    && activity.syscall.as_ref().is_some_and(|c| {
                        matches!(
                            calls::name(c),
                            "connect" | "sendto" | "sendmsg" | "sendmmsg" | "accept" | "accept4"
                        )
                    })
            }
        }
    }
}

/// Name of the call when it did not fail.
fn succeeded_call(activity: &Activity) -> Option<&str> {
    activity
        .syscall
        .as_ref()
        .filter(|c| c.success != Some(false))
        .map(|c| c.name.as_str())
}

/// The rules of one log source, compiled together.
pub(crate) struct Lane {
    pub(crate) scope: Scope,
    /// Do these rules name `phase`? Then they see the host and a container's setup as well; the others see what runs
    /// in containers only.
    pub(crate) names_phase: bool,
    pub(crate) engine: Engine,
}

impl Lane {
    /// Is the activity meant by these rules?
    pub(crate) fn takes(&self, view: &ActivityView<'_>) -> bool {
        let inside = matches!(view.activity.phase, Phase::Running | Phase::Exec);
        (inside || self.names_phase) && self.scope.takes(view)
    }
}
