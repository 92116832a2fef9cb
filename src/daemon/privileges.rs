//! What each process may do. Nothing here ever needs CAP_BPF, CAP_PERFMON or CAP_SYS_ADMIN.

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};

/// Capabilities of the sensor, and why.
const SENSOR: [Capability; 8] = [
    // Rules, settings, ownership of the stream; reading the multicast group.
    Capability::CAP_AUDIT_CONTROL,
    Capability::CAP_AUDIT_READ,
    // The proc connector, and a receive buffer beyond the system's limit.
    Capability::CAP_NET_ADMIN,
    // /proc/PID/{exe,cwd,root,mountinfo} of processes of other users.
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    // SIGSTOP and SIGCONT where the engine can only pause what runs (cgroup v2).
    Capability::CAP_KILL,
    // The real-time setting.
    Capability::CAP_SYS_NICE,
    // The socket belongs to the group that the configuration names.
    Capability::CAP_CHOWN,
];

/// The supervisor restores rules, settings and the priority of the kernel's audit thread, signals its children, and can hand down
/// what the sensor needs.
const SUPERVISOR: [Capability; 3] = [
    Capability::CAP_AUDIT_CONTROL,
    Capability::CAP_KILL,
    Capability::CAP_SYS_NICE,
];

fn set_of(list: &[Capability]) -> CapsHashSet {
    list.iter().copied().collect()
}

/// Takes everything but the sensor's capabilities out of the bounding set, so that no child can have more. The supervisor
/// itself works with three of them; the rest stays permitted, not effective: where `no_new_privs` is set (a unit, a container)
/// a child's exec gives it nothing that its parent is not permitted.
pub fn supervisor() -> anyhow::Result<()> {
    let keep = set_of(&SENSOR);
    let bounding =
        caps::read(None, CapSet::Bounding).context("cannot read the capability bounding set")?;
    for cap in bounding.difference(&keep) {
        caps::drop(None, CapSet::Bounding, *cap)
            .with_context(|| format!("cannot drop {cap} from the bounding set"))?;
    }
    limit(&set_of(&SUPERVISOR), &keep)
}

/// The sensor keeps its own, as far as it was given them.
pub fn sensor() -> anyhow::Result<()> {
    let all = set_of(&SENSOR);
    let permitted = caps::read(None, CapSet::Permitted)?;
    let missing: Vec<_> = all
        .difference(&permitted)
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        tracing::warn!(
            "the sensor was not given {}; what needs them fails with a message of its own",
            missing.join(", ")
        );
    }
    limit(&all, &all)
}

/// The courier keeps none.
pub fn courier() -> anyhow::Result<()> {
    limit(&CapsHashSet::new(), &CapsHashSet::new())
}

fn limit(effective: &CapsHashSet, permitted: &CapsHashSet) -> anyhow::Result<()> {
    let have = caps::read(None, CapSet::Permitted)?;
    let keep = |wish: &CapsHashSet| -> CapsHashSet { have.intersection(wish).copied().collect() };
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())
        .context("cannot clear inheritable capabilities")?;
    caps::set(None, CapSet::Effective, &keep(effective))
        .context("cannot limit effective capabilities")?;
    caps::set(None, CapSet::Permitted, &keep(permitted))
        .context("cannot limit permitted capabilities")?;
    // No core file and no other process of this user reads our memory: it may hold the channels' secrets. The limit holds also where
    // the kernel was told to dump such processes all the same (`fs.suid_dumpable`), and for our children.
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)
        .context("cannot set the size of core files to 0")?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("cannot turn core dumps off")?;
    Ok(())
}
