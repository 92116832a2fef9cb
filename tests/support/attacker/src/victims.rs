//! ptrace and what reads or writes another process without it. Without a PID the victim is a child of our own.

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::uio::RemoteIoVec;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use crate::{Failure, Outcome};

/// A process to attack. A child of ours is killed and reaped when this goes away.
struct Victim {
    pid: i32,
    child: Option<Child>,
}

impl Victim {
    fn new(pid: Option<&str>) -> Result<Self, Failure> {
        if let Some(text) = pid {
            let pid = text
                .parse()
                .map_err(|_| Failure::Usage("PID is a process number"))?;
            return Ok(Self { pid, child: None });
        }
        let child = Command::new("/proc/self/exe")
            .args(["sleep", "60"])
            .stdout(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(|_| Errno::ERANGE)?;
        Ok(Self {
            pid,
            child: Some(child),
        })
    }

    fn nix(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// An address that the victim may write: the beginning of its stack's mapping.
    fn stack(&self) -> Result<u64, Failure> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid))?;
        maps.lines()
            .find(|line| line.ends_with("[stack]"))
            .and_then(|line| line.split('-').next())
            .and_then(|start| u64::from_str_radix(start, 16).ok())
            .ok_or(Failure::Errno(Errno::EFAULT))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may be gone already; there is nobody to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn attach(pid: Option<&str>) -> Outcome {
    let victim = Victim::new(pid)?;
    ptrace::attach(victim.nix())?;
    waitpid(victim.nix(), None)?;
    Ok(ptrace::detach(victim.nix(), None)?)
}

pub fn seize(pid: Option<&str>) -> Outcome {
    let victim = Victim::new(pid)?;
    Ok(ptrace::seize(victim.nix(), ptrace::Options::empty())?)
}

pub fn traceme() -> Outcome {
    Ok(ptrace::traceme()?)
}

pub fn poke() -> Outcome {
    let victim = Victim::new(None)?;
    ptrace::attach(victim.nix())?;
    waitpid(victim.nix(), None)?;
    let address = victim.stack()?;
    Ok(ptrace::write(
        victim.nix(),
        address as ptrace::AddressType,
        0,
    )?)
}

pub fn process_vm_writev(pid: Option<&str>) -> Outcome {
    let victim = Victim::new(pid)?;
    let base = usize::try_from(victim.stack()?).map_err(|_| Errno::EFAULT)?;
    let remote = RemoteIoVec { base, len: 8 };
    nix::sys::uio::process_vm_writev(victim.nix(), &[IoSlice::new(&[0; 8])], &[remote])?;
    Ok(())
}

pub fn pidfd_getfd(pid: Option<&str>) -> Outcome {
    let victim = Victim::new(pid)?;
    let pid = rustix::process::Pid::from_raw(victim.pid).ok_or(Errno::ESRCH)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    rustix::process::pidfd_getfd(&pidfd, 0, PidfdGetfdFlags::empty())?;
    Ok(())
}

pub fn write_proc_mem(pid: Option<&str>) -> Outcome {
    let victim = Victim::new(pid)?;
    let memory = OpenOptions::new()
        .write(true)
        .open(format!("/proc/{}/mem", victim.pid))?;
    Ok(memory.write_all_at(&[0; 8], victim.stack()?)?)
}
