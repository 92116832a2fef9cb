//! `/proc/PID/mountinfo` (proc(5)), and the join of a container's mounts with the host's: which file of the host is it?

use collector::text::to_text;

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number of the file system.
    pub dev: (u32, u32),
    /// Directory of the file system that is mounted.
    pub root: String,
    /// Where, in the mount namespace of the process and below its root.
    pub mount_point: String,
    /// Mount options (`rw,nosuid`).
    pub options: String,
    /// File system type.
    pub fstype: String,
    /// Source as the file system says it.
    pub source: String,
    /// Options of the superblock.
    pub super_options: String,
}

impl Mount {
    /// Is this mount writable (the superblock may still be read-only)?
    pub fn writable(&self) -> bool {
        let rw = |options: &str| {
            options.split(',').next() == Some("rw") || options.split(',').any(|o| o == "rw")
        };
        rw(&self.options) && !self.super_options.split(',').any(|o| o == "ro")
    }
}

/// Parses the text, which is bytes: names of mount points are chosen by people. Lines without the shape are skipped.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&b| b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let dash = 6 + fields.get(6..)?.iter().position(|f| *f == b"-")?;
    let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
    Some(Mount {
        dev: (major.parse().ok()?, minor.parse().ok()?),
        root: unescape(fields.get(3)?),
        mount_point: unescape(fields.get(4)?),
        options: unescape(fields.get(5)?),
        fstype: unescape(fields.get(dash + 1)?),
        source: unescape(fields.get(dash + 2)?),
        super_options: unescape(fields.get(dash + 3).copied().unwrap_or_default()),
    })
}

/// `\040` and its like (space, tab, newline, backslash, `#`), then the lossless text form.
fn unescape(field: &[u8]) -> String {
    if !field.contains(&b'\\') {
        return to_text(field).into_owned();
    }
    let mut out = Vec::with_capacity(field.len());
    let mut i = 0;
    while i < field.len() {
        let octal = field
            .get(i + 1..i + 4)
            .filter(|d| field[i] == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match octal {
            Some(d) => {
                let value = d.iter().fold(0u32, |v, b| v * 8 + u32::from(b - b'0'));
                out.push(value as u8);
                i += 4;
            }
            None => {
                out.push(field[i]);
                i += 1;
            }
        }
    }
    to_text(&out).into_owned()
}

/// Is `path` equal to `prefix` or below it? Compares whole components.
pub fn is_below(path: &str, prefix: &str) -> bool {
    if prefix == "/" {
        return path.starts_with('/');
    }
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `path`, which lies below `from`, moved below `to`.
pub fn rebase(path: &str, from: &str, to: &str) -> Option<String> {
    if !is_below(path, from) {
        return None;
    }
    let rest = if from == "/" {
        path
    } else {
        &path[from.len()..]
    };
    let rest = rest.trim_start_matches('/');
    Some(match (to, rest) {
        ("/", rest) => format!("/{rest}"),
        (to, "") => to.to_owned(),
        (to, rest) => format!("{to}/{rest}"),
    })
}

/// Every path of the host under which a mount of a container can be reached, the most direct one first.
///
/// A mount of the container and a mount of the host show the same files when they have the same device and the root of
/// the host's mount is the other's root or above it. A path that is hidden by another mount of the host is left out.
///
/// Minors of devices without a disk are used again at once after an unmount, so the two tables must be of one time (the host's read
/// while the container's mount was there), and the kind of file system must be the same too.
pub fn host_paths(mount: &Mount, host: &[Mount]) -> Vec<String> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let same = |h: &&Mount| h.dev == mount.dev && h.fstype == mount.fstype;
    for candidate in host.iter().filter(same) {
        let Some(path) = rebase(&mount.root, &candidate.root, &candidate.mount_point) else {
            continue;
        };
        if reaches(&path, mount, host) && !found.iter().any(|(_, p)| *p == path) {
            found.push((candidate.root.len(), path));
        }
    }
    // The mount of the file system's own root says where the file really is; a bind of a part of it only repeats it.
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Does `path` on the host lead to the file that the container's mount shows?
fn reaches(path: &str, mount: &Mount, host: &[Mount]) -> bool {
    // The last of several mounts on one point covers the others.
    let cover = host
        .iter()
        .rev()
        .filter(|h| is_below(path, &h.mount_point))
        .max_by_key(|h| h.mount_point.len());
    cover.is_some_and(|c| {
        c.dev == mount.dev
            && c.fstype == mount.fstype
            && rebase(path, &c.mount_point, &c.root).as_deref() == Some(&mount.root)
    })
}

/// The mount that a path of the container lies on: the longest mount point that is a prefix of it, the latest of equals.
pub fn covering<'a>(path: &str, mounts: &'a [Mount]) -> Option<&'a Mount> {
    let mut best: Option<&Mount> = None;
    for mount in mounts.iter().filter(|m| is_below(path, &m.mount_point)) {
        if best.is_none_or(|b| mount.mount_point.len() >= b.mount_point.len()) {
            best = Some(mount);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Docker 20.10, kernel 6.18, shortened.
    const HOST: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        42 27 254:0 /var/lib/docker /var/lib/docker rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        50 27 0:50 / /srv/data rw - tmpfs tmpfs rw\n";
    const CONTAINER: &[u8] = b"72 48 0:39 / / rw,relatime master:2 - overlay overlay rw,lowerdir=/x\n\
        73 72 0:42 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
        89 72 254:0 /usr/bin/tini-static /sbin/docker-init ro,relatime - ext4 /dev/vda rw,discard\n\
        90 72 254:0 /var/lib/docker/containers/abc/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda rw\n\
        91 72 254:0 /home/me/with\\040space /data rw - ext4 /dev/vda rw\n\
        92 72 0:50 /sub /tmpdata rw - tmpfs tmpfs rw\n\
        93 72 254:0 /srv/data/hidden /hidden rw - ext4 /dev/vda rw\n";

    #[test]
    fn a_captured_table_is_read() {
        let got = parse(CONTAINER);
        assert_eq!(got.len(), 7);
        assert_eq!((got[0].dev, got[0].fstype.as_str()), ((0, 39), "overlay"));
        assert_eq!(got[4].root, "/home/me/with space");
        assert!(!got[2].writable());
        assert!(got[3].writable());
    }

    #[test]
    fn host_paths_follow_device_and_root() {
        let (host, container) = (parse(HOST), parse(CONTAINER));
        let paths = |i: usize| host_paths(&container[i], &host);
        assert_eq!(paths(2), ["/usr/bin/tini-static"]);
        assert_eq!(paths(3), ["/var/lib/docker/containers/abc/resolv.conf"]);
        assert_eq!(paths(4), ["/home/me/with space"]);
        assert_eq!(paths(5), ["/srv/data/sub"]);
        assert!(
            paths(0).is_empty(),
            "the overlay is not mounted on this host"
        );
        assert!(paths(6).is_empty(), "hidden below a tmpfs");
    }

    #[test]
    fn a_device_number_that_was_used_again_is_not_the_hosts_mount() {
        // The host's overlay went, and the container's tmpfs got its minor before the table was read.
        let host = parse(
            b"27 1 254:0 / / rw - ext4 /dev/vda rw\n50 27 0:50 / /srv/merged rw - overlay overlay rw\n",
        );
        let mount = &parse(b"9 1 0:50 / /run rw - tmpfs tmpfs rw\n")[0];
        assert_eq!(host_paths(mount, &host), Vec::<String>::new());
    }

    #[test]
    fn a_bind_of_a_part_does_not_hide_where_the_file_really_is() {
        // A volume of the local driver with o=bind,device=/etc.
        let host = parse(
            b"27 1 254:0 / / rw - ext4 /dev/vda rw\n43 27 254:0 /etc /var/lib/docker/volumes/v/_data rw - ext4 /dev/vda rw\n",
        );
        let mount = &parse(b"9 1 254:0 /etc /data rw - ext4 /dev/vda rw\n")[0];
        assert_eq!(
            host_paths(mount, &host),
            ["/etc", "/var/lib/docker/volumes/v/_data"]
        );
    }

    #[test]
    fn the_longest_and_latest_mount_covers() {
        let mounts = parse(CONTAINER);
        assert_eq!(
            covering("/etc/resolv.conf", &mounts).unwrap().mount_point,
            "/etc/resolv.conf"
        );
        assert_eq!(
            covering("/etc/resolv.confused", &mounts)
                .unwrap()
                .mount_point,
            "/"
        );
        assert_eq!(covering("/data/x", &mounts).unwrap().mount_point, "/data");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, mut cut in 0usize..900) {
            parse(&bytes);
            cut = cut.min(CONTAINER.len());
            parse(&CONTAINER[..cut]);
        }

        #[test]
        fn rebase_goes_there_and_back(a in "/[a-c]{1,2}", rest in "(/[a-c]{1,2}){0,3}", b in "(/|/[a-c]{1,2})") {
            let path = format!("{a}{rest}");
            let moved = rebase(&path, &a, &b).unwrap();
            prop_assert_eq!(rebase(&moved, &b, &a).unwrap(), path);
        }
    }
}
