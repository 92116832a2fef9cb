//! PATH: the files that a call named or touched.

use crate::event::Event;
use crate::record::{Record, RecordType};

/// What a PATH record is about (`audit_log_name` in the kernel's `auditsc.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nametype {
    /// The thing that was named.
    Normal,
    /// The directory above it.
    Parent,
    /// It was removed.
    Delete,
    /// It was made.
    Create,
    /// The name did not lead to anything.
    Unknown,
}

impl Nametype {
    /// The kernel's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Parent => "PARENT",
            Self::Delete => "DELETE",
            Self::Create => "CREATE",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn from_name(name: &[u8]) -> Self {
        match name {
            b"NORMAL" => Self::Normal,
            b"PARENT" => Self::Parent,
            b"DELETE" => Self::Delete,
            b"CREATE" => Self::Create,
            _ => Self::Unknown,
        }
    }
}

/// One PATH record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathItem {
    /// Place among the event's paths.
    pub item: u32,
    /// The name as the process wrote it (relative to its CWD, or to a directory descriptor), `None` when the kernel did not
    /// know it.
    pub name: Option<Vec<u8>>,
    /// Did the name lead to something? When not, the numbers below are 0.
    pub resolved: bool,
    /// Inode number.
    pub inode: u64,
    /// Major and minor number of the file system's device.
    pub dev: (u32, u32),
    /// Type and permissions (`st_mode`), for [`super::mode_text`].
    pub mode: u32,
    /// Owner.
    pub ouid: u32,
    /// Owning group.
    pub ogid: u32,
    /// For a device node: major and minor number of the device.
    pub rdev: (u32, u32),
    /// What it is about.
    pub nametype: Nametype,
    /// Security label.
    pub obj: Option<Vec<u8>>,
    /// Permitted capabilities of the file (`cap_fp`).
    pub cap_fp: u64,
    /// Inheritable capabilities of the file (`cap_fi`).
    pub cap_fi: u64,
    /// Effective bit of the file's capabilities (`cap_fe`).
    pub cap_fe: bool,
    /// Version of the file's capabilities (`cap_fver`).
    pub cap_fver: u32,
    /// Root user id of the file's capabilities' user namespace (`cap_frootid`).
    pub cap_frootid: u32,
}

impl PathItem {
    /// Reads a PATH record; `None` for another one.
    pub fn from_record(record: Record<'_>) -> Option<Self> {
        if record.kind != RecordType::PATH {
            return None;
        }
        let mut path = Self {
            item: 0,
            name: None,
            resolved: false,
            inode: 0,
            dev: (0, 0),
            mode: 0,
            ouid: 0,
            ogid: 0,
            rdev: (0, 0),
            nametype: Nametype::Unknown,
            obj: None,
            cap_fp: 0,
            cap_fi: 0,
            cap_fe: false,
            cap_fver: 0,
            cap_frootid: 0,
        };
        for (name, value) in record.fields() {
            match name {
                b"item" => path.item = value.u32().unwrap_or(0),
                b"name" => path.name = value.text().map(|text| text.into_owned()),
                b"inode" => {
                    path.inode = value.u64().unwrap_or(0);
                    path.resolved = true;
                }
                b"dev" => path.dev = device(value.bytes).unwrap_or((0, 0)),
                b"mode" => {
                    path.mode = value
                        .octal()
                        .and_then(|n| u32::try_from(n).ok())
                        .unwrap_or(0)
                }
                b"ouid" => path.ouid = value.u32().unwrap_or(0),
                b"ogid" => path.ogid = value.u32().unwrap_or(0),
                b"rdev" => path.rdev = device(value.bytes).unwrap_or((0, 0)),
                b"nametype" => path.nametype = Nametype::from_name(value.bytes),
                b"obj" => path.obj = (!value.is_null()).then(|| value.bytes.to_vec()),
                b"cap_fp" => path.cap_fp = value.hex().unwrap_or(0),
                b"cap_fi" => path.cap_fi = value.hex().unwrap_or(0),
                b"cap_fe" => path.cap_fe = value.u64().is_some_and(|n| n != 0),
                b"cap_fver" => {
                    path.cap_fver = value.hex().and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
                }
                b"cap_frootid" => path.cap_frootid = value.u32().unwrap_or(0),
                _ => {}
            }
        }
        Some(path)
    }
}

/// `fd:01` as (253, 1): both halves are hexadecimal.
fn device(text: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(text).ok()?.split_once(':')?;
    Some((
        u32::from_str_radix(major, 16).ok()?,
        u32::from_str_radix(minor, 16).ok()?,
    ))
}

impl Event {
    /// The files of the event, in order of their item number.
    pub fn paths(&self) -> Vec<PathItem> {
        let mut paths: Vec<_> = self.records().filter_map(PathItem::from_record).collect();
        paths.sort_by_key(|p| p.item);
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;

    #[test]
    fn paths_come_in_order_of_their_items() {
        let mut event = Event::new(EventId::local(1, 1));
        let last = b"item=1 name=6120622E74 inode=77 dev=fd:1a mode=0100755 ouid=1000 ogid=100 rdev=08:01 nametype=CREATE \
                     cap_fp=3fffffffff cap_fi=1 cap_fe=1 cap_fver=2000002 cap_frootid=5";
        event.push(RecordType::PATH, last);
        event.push(
            RecordType::PATH,
            b"item=0 name=(null) nametype=UNKNOWN cap_fp=0",
        );
        event.push(RecordType::PATH, b"item=x dev=zz:1 mode=9 nametype=");
        let paths = event.paths();
        assert_eq!(paths.iter().map(|p| p.item).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(
            (
                paths[0].name.as_deref(),
                paths[0].resolved,
                paths[0].nametype
            ),
            (None, false, Nametype::Unknown)
        );
        let path = &paths[2];
        assert_eq!(
            (path.name.as_deref(), path.inode, path.dev),
            (Some(&b"a b.t"[..]), 77, (0xfd, 0x1a))
        );
        assert_eq!(
            (path.mode, path.ouid, path.ogid, path.rdev),
            (0o100_755, 1000, 100, (8, 1))
        );
        assert_eq!(
            (path.nametype, path.cap_fp, path.cap_fi, path.cap_fe),
            (Nametype::Create, 0x3f_ffff_ffff, 1, true)
        );
        assert_eq!((path.cap_fver, path.cap_frootid), (0x200_0002, 5));
    }
}
