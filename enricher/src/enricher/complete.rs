//! The rest of an activity: ancestors, arguments, the user's name, files on the host, the target's container.

use std::borrow::Cow;

use super::Enricher;
use super::actor::Actor;
use crate::activity::{Activity, Ancestor, Phase};
use crate::clock::Window;
use crate::derive;
use crate::paths;
use crate::resolve;

/// Most ancestors of one event.
const MAX_ANCESTORS: usize = 12;

impl Enricher {
    pub(super) fn complete(&mut self, activity: &mut Activity, window: Window, actor: &Actor) {
        if let Some(image) = &actor.image {
            let process = &mut activity.process;
            if process.argv.is_empty() {
                process.argv.clone_from(&image.argv);
            }
            if process.exe.is_empty() {
                process.exe = image.exe.to_string();
            }
            if process.comm.is_empty() {
                process.comm = image.comm.to_string();
            }
        }
        activity.process.ancestors = self
            .table
            .ancestors(actor.row, MAX_ANCESTORS)
            .into_iter()
            .map(|(pid, row)| {
                let image = self.table.image_before(row, window.to);
                let (comm, exe) = image
                    .map(|i| (i.comm.clone(), i.exe.clone()))
                    .unwrap_or_default();
                Ancestor { pid, comm, exe }
            })
            .collect();
        self.name_user(activity, actor);
        self.place_paths(activity, actor);
        self.place_target(activity, window);
    }

    fn name_user(&self, activity: &mut Activity, actor: &Actor) {
        let Some(uid) = activity.process.uid else {
            return;
        };
        let inside = matches!(activity.phase, Phase::Running | Phase::Exec);
        let own = actor
            .key
            .filter(|_| inside)
            .and_then(|k| self.registry.get(k))
            .and_then(|e| e.passwd.as_ref());
        // A container whose file could not be read shares the host's numbers, not its names; root is root everywhere.
        let name = match own {
            Some(passwd) => passwd.name(uid),
            None => self.host_users.name(uid).filter(|_| !inside || uid == 0),
        };
        activity.process.user = name.map(str::to_owned);
    }

    /// Relative names behind a directory descriptor, and files that lie on the host.
    fn place_paths(&mut self, activity: &mut Activity, actor: &Actor) {
        let pid = activity.process.pid;
        if let (Some(proc), Some(call)) = (&self.proc, &activity.syscall)
            && let Some(fd) = derive::dirfd(&call.name, &call.args)
            && activity
                .paths
                .iter()
                .any(|p| !p.path.starts_with('/') && !p.name.is_empty())
        {
            // It may have been closed or replaced since; inode and device stay the truth.
            let base = proc.link(pid, &format!("fd/{fd}"));
            for path in activity
                .paths
                .iter_mut()
                .filter(|p| !p.path.starts_with('/') && !p.name.is_empty())
            {
                if let Some(joined) = paths::join(base.as_deref(), &path.name) {
                    path.path = joined;
                }
            }
        }
        if !matches!(activity.phase, Phase::Running | Phase::Exec) {
            return;
        }
        let Some(entry) = actor.key.and_then(|k| self.registry.get(k)) else {
            return;
        };
        if entry.mounts.is_empty() {
            return;
        }
        let init = entry.container.init_pid;
        let call = activity.syscall.as_ref();
        // What a program is, the kernel says (`exe`); its name is left as it was called.
        let is_exec = call.is_some_and(|c| matches!(c.name.as_str(), "execve" | "execveat"));
        let by_cwd = call.is_some_and(|c| derive::dirfd(&c.name, &c.args).is_none());
        let cwd = activity.process.cwd.as_deref().filter(|_| by_cwd);
        // Directories of this event, and where they really are.
        let mut parents: Vec<(String, String)> = Vec::new();
        for path in activity
            .paths
            .iter_mut()
            .filter(|p| p.path.starts_with('/'))
        {
            let dev = derive::dev_of(path);
            if let (Some(key), Some(proc), Some(inode), Some(dev)) =
                (actor.key, &self.proc, path.inode, dev)
            {
                // The name leads to a mount of the host, or says another device than the mount that it seems to lie on: there a
                // link decides which file of the host it is. Elsewhere it says which file of the container.
                let leaves = entry.mounts.may_leave(&path.path, dev);
                let name = paths::unfolded(cwd, &path.name).unwrap_or(Cow::Borrowed(&path.path));
                let file = (key, inode, dev);
                let budget = match leaves {
                    true => &mut self.resolving,
                    false => &mut self.linking,
                };
                if let Some(real) = self.known.get(file, &name, self.now_ns) {
                    path.real_path = Some(real.to_owned());
                } else if (leaves || !is_exec) && budget.allow(self.now_ns) {
                    path.real_path = [pid, init].into_iter().filter(|p| *p != 0).find_map(|p| {
                        let plain = |dev| entry.mounts.is_plain(dev);
                        resolve::resolve(proc, p, &name, inode, dev, plain)
                    });
                    if let Some(real) = &path.real_path {
                        self.known.put(file, &name, real, self.now_ns);
                    }
                }
            }
            if let Some(real) = &path.real_path {
                if path.nametype == "PARENT" {
                    parents.push((path.path.clone(), real.clone()));
                }
            } else if let Some((above, name)) = path.path.rsplit_once('/')
                && let Some((_, real)) = parents.iter().find(|(p, _)| p == above)
            {
                // Removed, or not there any more: its directory is.
                path.real_path = Some(format!("{}/{name}", real.trim_end_matches('/')));
            }
            path.real_path.take_if(|real| *real == path.path);
            let real = path.real_path.as_deref();
            let found = real
                .and_then(|real| entry.mounts.host_path(real, dev))
                .or_else(|| entry.mounts.host_path(&path.path, dev));
            if let Some((host, undeclared)) = found {
                path.host_path = Some(host);
                path.undeclared = undeclared;
            }
        }
    }

    fn place_target(&mut self, activity: &mut Activity, window: Window) {
        let Some(target) = &mut activity.target else {
            return;
        };
        let Some(found) = self.table.find(target.pid, window, None) else {
            return;
        };
        let index = self.table.epoch_of_call(found.row, window);
        let key = self
            .table
            .standing(found.row, index)
            .and_then(|s| s.role.actor())
            .and_then(|(key, _)| key);
        target.container = key
            .and_then(|k| self.registry.get(k))
            .map(|e| e.container.id.clone());
    }
}
