//! Values of fields as text and back.

use std::fs;

use netlink_packet_audit::constants as c;

use super::fields::Kind;
use super::rule::Value;
use crate::decode::{arch_name, arch_number, errno_name, errno_number};
use crate::record::RecordType;

/// Longest path, `PATH_MAX` of `linux/limits.h`.
const MAX_PATH: usize = 4096;

const FILE_TYPES: [(&str, u32); 7] = [
    ("file", libc::S_IFREG),
    ("dir", libc::S_IFDIR),
    ("socket", libc::S_IFSOCK),
    ("link", libc::S_IFLNK),
    ("character", libc::S_IFCHR),
    ("block", libc::S_IFBLK),
    ("fifo", libc::S_IFIFO),
];

/// `linux/magic.h`.
const FS_TYPES: [(&str, u32); 18] = [
    ("debugfs", 0x6462_6720),
    ("tracefs", 0x7472_6163),
    ("proc", 0x9fa0),
    ("sysfs", 0x6265_6572),
    ("tmpfs", 0x0102_1994),
    ("devpts", 0x1cd1),
    ("securityfs", 0x7363_6673),
    ("cgroup", 0x0027_e0eb),
    ("cgroup2", 0x6367_7270),
    ("bpf_fs", 0xcafe_4a11),
    ("overlayfs", 0x794c_7630),
    ("ext4", 0xef53),
    ("xfs", 0x5846_5342),
    ("btrfs", 0x9123_683e),
    ("nfs", 0x6969),
    ("fuse", 0x6573_5546),
    ("squashfs", 0x7371_7368),
    ("pstorefs", 0x6165_676c),
];

const FAMILIES: [(&str, u32); 9] = [
    ("local", 1),
    ("unix", 1),
    ("inet", 2),
    ("inet6", 10),
    ("netlink", 16),
    ("packet", 17),
    ("bluetooth", 31),
    ("alg", 38),
    ("vsock", 40),
];

const PERMS: [(char, u32); 4] = [
    ('r', c::AUDIT_PERM_READ),
    ('w', c::AUDIT_PERM_WRITE),
    ('x', c::AUDIT_PERM_EXEC),
    ('a', c::AUDIT_PERM_ATTR),
];

/// Why a value is not one, and what it may have been meant to be.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            suggestion: None,
        }
    }

    pub(super) fn near(
        message: impl Into<String>,
        text: &str,
        names: impl Iterator<Item = &'static str>,
    ) -> Self {
        Self {
            message: message.into(),
            suggestion: nearest(text, names).map(str::to_owned),
        }
    }
}

/// The value that `text` stands for.
pub(super) fn parse(kind: Kind, text: &str) -> Result<Value, Wrong> {
    let number = match kind {
        Kind::Text if text.is_empty() => return Err(Wrong::new("an empty value")),
        Kind::Text | Kind::Key => return Ok(Value::Text(text.into())),
        Kind::Path => return path(text).map(Value::Text),
        Kind::Number | Kind::Bits | Kind::Inode => integer(text),
        Kind::Session if text == "unset" => Some(u32::MAX),
        Kind::Session => integer(text),
        Kind::User => return id(text, "/etc/passwd", "user"),
        Kind::Group => return id(text, "/etc/group", "group"),
        Kind::Flag => match text {
            "0" => Some(0),
            "1" => Some(1),
            _ => {
                let suggestion = match text {
                    "yes" | "true" => Some("1".to_owned()),
                    "no" | "false" => Some("0".to_owned()),
                    _ => None,
                };
                return Err(Wrong {
                    message: format!("{text:?} is neither 0 nor 1"),
                    suggestion,
                });
            }
        },
        Kind::Arch => {
            return match arch_number(text).or_else(|| hex(text)) {
                Some(arch) if arch != 0 => Ok(Value::Number(arch)),
                _ => Err(Wrong::near(
                    format!("there is no architecture {text:?}"),
                    text,
                    ["b64", "b32", "x86_64", "i386", "aarch64", "arm"].into_iter(),
                )),
            };
        }
        Kind::RecordType => {
            return match RecordType::from_name(text.as_bytes())
                .map(|t| t.0.into())
                .or_else(|| integer(text))
            {
                Some(number) => Ok(Value::Number(number)),
                None => Err(Wrong::near(
                    format!("there is no record type {text:?}"),
                    text,
                    (1000..3000).filter_map(|n| RecordType(n).name()),
                )),
            };
        }
        Kind::Exit => {
            let (minus, name) = text
                .strip_prefix('-')
                .map_or((false, text), |name| (true, name));
            return match errno_number(name)
                .and_then(|n| u32::try_from(n).ok())
                .or_else(|| integer(name))
            {
                Some(n) => Ok(Value::Number(if minus { n.wrapping_neg() } else { n })),
                None => Err(Wrong {
                    message: format!("{text:?} is neither a number nor the name of an error"),
                    suggestion: nearest(name, (1..200).filter_map(errno_name)).map(|name| {
                        if minus {
                            format!("-{name}")
                        } else {
                            name.to_owned()
                        }
                    }),
                }),
            };
        }
        Kind::Perm => {
            let mut bits = 0;
            for letter in text.chars() {
                match PERMS.iter().find(|(l, _)| *l == letter) {
                    Some((_, bit)) => bits |= bit,
                    None => {
                        return Err(Wrong::new(format!(
                            "{letter:?} is no kind of access; there are r (read), w (write), x (execute), a (attribute)"
                        )));
                    }
                }
            }
            (bits != 0).then_some(bits)
        }
        Kind::FileType => return named(text, &FILE_TYPES, "file type"),
        Kind::FsType => return named(text, &FS_TYPES, "file system type"),
        Kind::Family => return named(text, &FAMILIES, "address family"),
    };
    number
        .map(Value::Number)
        .ok_or_else(|| Wrong::new(format!("{text:?} is not a number that fits into 32 bits")))
}

fn named(text: &str, names: &'static [(&'static str, u32)], what: &str) -> Result<Value, Wrong> {
    names
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, number)| *number)
        .or_else(|| integer(text))
        .map(Value::Number)
        .ok_or_else(|| {
            Wrong::near(
                format!("there is no {what} {text:?}"),
                text,
                names.iter().map(|(name, _)| *name),
            )
        })
}

/// [`path`] without slashes at its end, as auditctl makes it for `-w` (and not for `-F dir=`).
pub(super) fn watched_path(text: &str) -> Result<Vec<u8>, Wrong> {
    let mut path = path(text)?;
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    Ok(path)
}

/// An absolute path without `..`, as libaudit wants it.
fn path(text: &str) -> Result<Vec<u8>, Wrong> {
    if !text.starts_with('/') {
        return Err(Wrong::new(format!("{text:?} is not an absolute path")));
    }
    if text.len() >= MAX_PATH {
        return Err(Wrong::new(format!(
            "a path of {} bytes is too long",
            text.len()
        )));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(Wrong::new(format!("{text:?} contains \"..\"")));
    }
    Ok(text.into())
}

/// User and group ids: a number, -1, "unset", or a name of this host's file.
fn id(text: &str, file: &str, what: &str) -> Result<Value, Wrong> {
    if text == "unset" {
        return Ok(Value::Number(u32::MAX));
    }
    if let Some(number) = integer(text) {
        return Ok(Value::Number(number));
    }
    let known = fs::read_to_string(file).unwrap_or_default();
    known
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(':');
            Some((parts.next()?, parts.nth(1)?))
        })
        .find(|(name, _)| *name == text)
        .and_then(|(_, number)| number.parse().ok())
        .map(Value::Number)
        .ok_or_else(|| Wrong::new(format!("there is no {what} {text:?} in {file}")))
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(
        text.strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))?,
        16,
    )
    .ok()
}

/// strtol(3) with base 0: decimal, `0x` hexadecimal, `0` octal, with or without a minus.
pub(super) fn integer(text: &str) -> Option<u32> {
    let (minus, digits) = text
        .strip_prefix('-')
        .map_or((false, text), |digits| (true, digits));
    let number = if digits.starts_with("0x") || digits.starts_with("0X") {
        hex(digits)?
    } else if digits.len() > 1 && digits.starts_with('0') {
        u32::from_str_radix(&digits[1..], 8).ok()?
    } else {
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())??
    };
    match minus {
        false => Some(number),
        true => (number <= 1 << 31).then(|| number.wrapping_neg()),
    }
}

/// auditctl's text for a number.
pub(super) fn format(kind: Option<Kind>, number: u32) -> String {
    let name_in = |names: &[(&str, u32)]| {
        names
            .iter()
            .find(|(_, n)| *n == number)
            .map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
    };
    let signed = number as i32;
    match kind {
        Some(Kind::Bits) => format!("0x{number:X}"),
        Some(Kind::Inode) => number.to_string(),
        Some(Kind::Arch) if Some(number) == arch_number("b64") => "b64".into(),
        Some(Kind::Arch) if Some(number) == arch_number("b32") => "b32".into(),
        Some(Kind::Arch) => {
            arch_name(number).map_or_else(|| format!("0x{number:X}"), str::to_owned)
        }
        Some(Kind::RecordType) => {
            let kind = u16::try_from(number)
                .ok()
                .and_then(|n| RecordType(n).name());
            kind.map_or_else(|| number.to_string(), str::to_owned)
        }
        Some(Kind::Exit) if signed < 0 => match errno_name(i64::from(signed.unsigned_abs())) {
            Some(name) => format!("-{name}"),
            None => signed.to_string(),
        },
        Some(Kind::Perm) => PERMS
            .iter()
            .filter(|(_, bit)| number & bit != 0)
            .map(|(letter, _)| *letter)
            .collect(),
        Some(Kind::FileType) => name_in(&FILE_TYPES),
        Some(Kind::FsType) => name_in(&FS_TYPES),
        _ => signed.to_string(),
    }
}

/// The name that is nearest to `text`, if any is near: at most a third of its letters differ (Damerau-Levenshtein).
pub(super) fn nearest(
    text: &str,
    names: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let text: Vec<char> = text.chars().take(64).collect();
    let limit = text.len().div_ceil(3);
    names
        .map(|name| (distance(&text, &name.chars().collect::<Vec<_>>()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: [Vec<usize>; 3] = [
        vec![0; b.len() + 1],
        (0..=b.len()).collect(),
        vec![0; b.len() + 1],
    ];
    for i in 1..=a.len() {
        rows[2][0] = i;
        for j in 1..=b.len() {
            let mut best = (rows[1][j] + 1)
                .min(rows[2][j - 1] + 1)
                .min(rows[1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_like_strtol() {
        for (text, number) in [
            ("0", 0),
            ("17", 17),
            ("0x1F", 31),
            ("010", 8),
            ("-1", u32::MAX),
            ("-0x2", u32::MAX - 1),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(integer(text), Some(number), "{text}");
        }
        for text in [
            "",
            "-",
            "x",
            "4294967296",
            "08",
            "+1",
            "1 ",
            "0x",
            "-4294967295",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        let names = || ["execve", "execveat", "mount", "open_tree"].into_iter();
        assert_eq!(nearest("exceve", names()), Some("execve"));
        assert_eq!(nearest("mont", names()), Some("mount"));
        assert_eq!(nearest("opentree", names()), Some("open_tree"));
        assert_eq!(nearest("ptrace", names()), None);
        assert_eq!(nearest("", names()), None);
    }
}
