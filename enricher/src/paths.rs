//! Names made whole: joined with the directory that they are relative to, `.` and `..` taken out.
//!
//! This is arithmetic on names. Where a symbolic link lies in between it can be wrong; inode and device are the truth.

use std::borrow::Cow;

/// Joins `name` to `base` (absolute) and normalises. `None` when nothing says what a relative name is relative to.
pub fn join(base: Option<&str>, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return Some(normal(name));
    }
    let base = base.filter(|b| b.starts_with('/'))?;
    Some(if name.is_empty() {
        normal(base)
    } else {
        normal(&format!("{base}/{name}"))
    })
}

/// The name with the directory that it is relative to, and every `..` in it: what the kernel walked. `None` when there is none, so that
/// [`join`] says the same, or when it is not known what the name is relative to.
pub fn unfolded<'a>(base: Option<&str>, name: &'a str) -> Option<Cow<'a, str>> {
    if !name.split('/').any(|part| part == "..") {
        return None;
    }
    if name.starts_with('/') {
        return Some(Cow::Borrowed(name));
    }
    let base = base.filter(|b| b.starts_with('/'))?;
    Some(Cow::Owned(format!("{base}/{name}")))
}

/// Takes `.`, `..` and double slashes out of an absolute path.
pub fn normal(path: &str) -> String {
    let plain =
        !path.contains("//") && !path.contains("/.") && (path.len() == 1 || !path.ends_with('/'));
    if plain {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut out = String::with_capacity(path.len());
    for part in parts {
        out.push('/');
        out.push_str(part);
    }
    if out.is_empty() {
        out.push('/');
    }
    out
}

/// What of a path lies behind `/proc/PID/root`, however often. Which process that is, is not asked: in a container its root is
/// the container's, and else the file's device says another mount.
pub fn behind_root(path: &str) -> Option<&str> {
    let mut found = None;
    let mut rest = path;
    while let Some(inside) = rest.strip_prefix("/proc/") {
        let Some((process, mut inner)) = inside.split_once('/') else {
            break;
        };
        let number = process.bytes().all(|b| b.is_ascii_digit());
        if !(number || matches!(process, "self" | "thread-self")) {
            break;
        }
        if let Some(task) = inner.strip_prefix("task/") {
            inner = task.split_once('/').map_or("", |(_, inner)| inner);
        }
        match inner.strip_prefix("root") {
            Some(behind) if behind.starts_with('/') => {
                rest = behind;
                found = Some(behind);
            }
            _ => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_joined_and_normalised() {
        for (base, name, wanted) in [
            (Some("/a/b"), "c", "/a/b/c"),
            (Some("/a/b"), "../c", "/a/c"),
            (Some("/"), "c", "/c"),
            (Some("/a"), "../../../../etc/passwd", "/etc/passwd"),
            (Some("/a"), "/x//y/./z/", "/x/y/z"),
            (None, "/.hidden", "/.hidden"),
            (None, "/", "/"),
            (Some("/a"), "", "/a"),
            (Some("/a"), ".", "/a"),
        ] {
            assert_eq!(join(base, name).as_deref(), Some(wanted), "{base:?} {name}");
        }
        assert_eq!(join(None, "x"), None);
        assert_eq!(join(Some("(null)"), "x"), None);
    }

    #[test]
    fn what_the_kernel_walked_is_kept_where_it_matters() {
        for (base, name, wanted) in [
            (Some("/tmp"), "link/../shadow", Some("/tmp/link/../shadow")),
            (None, "/tmp/link/../shadow", Some("/tmp/link/../shadow")),
            (None, "link/../shadow", None),
            (Some("/tmp"), "shadow", None),
            (Some("/tmp"), "a..b", None),
        ] {
            assert_eq!(unfolded(base, name).as_deref(), wanted, "{base:?} {name}");
        }
    }

    #[test]
    fn a_path_through_a_process_is_the_path_behind_it() {
        for (path, behind) in [
            ("/proc/self/root/etc/passwd", Some("/etc/passwd")),
            (
                "/proc/1/root/proc/sysrq-trigger",
                Some("/proc/sysrq-trigger"),
            ),
            ("/proc/7/task/8/root/proc/thread-self/root/x", Some("/x")),
            ("/proc/self/root", None),
            ("/proc/self/rootfs/x", None),
            ("/proc/sys/root/x", None),
            ("/etc/proc/self/root/x", None),
            ("/proc/self", None),
        ] {
            assert_eq!(behind_root(path), behind, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_path_stays(path in "(/[a-z.]{0,3}){0,6}") {
            let once = normal(&format!("/{path}"));
            prop_assert!(once.starts_with('/') && !once.split('/').any(|p| p == ".." || p == "."));
            prop_assert_eq!(normal(&once), once);
        }
    }
}
