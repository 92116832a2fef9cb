//! What differs on aarch64, as far as it can be seen without one: its table of system calls against the kernel's header.
//! (`.ci/run` also compiles this crate for it where that target's standard library is installed.)

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use collector::decode::{ARCH_AARCH64, arch_name, syscall_name, syscall_number};

/// aarch64 has no table of its own but the generic one, under the names that 64-bit machines use for `__NR3264_*`.
const HEADER: &str = "/usr/include/asm-generic/unistd.h";

/// `#define __NR_name number` and `#define __NR3264_name number`.
fn of_the_header(text: &str) -> Vec<(String, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("#define ")?.split_whitespace();
            let name = words.next()?;
            let name = name
                .strip_prefix("__NR_")
                .or_else(|| name.strip_prefix("__NR3264_"))?;
            Some((name.to_owned(), words.next()?.parse().ok()?))
        })
        .collect()
}

#[test]
fn its_calls_have_the_numbers_of_the_kernels_header() {
    let Ok(text) = std::fs::read_to_string(HEADER) else {
        println!("skipped: {HEADER} is not here (Debian: linux-libc-dev)");
        return;
    };
    let calls = of_the_header(&text);
    assert!(calls.len() > 280, "{}", calls.len());
    for (name, number) in calls {
        // 403 to 423 are of 32-bit machines; one name marks the end of the table, another where machines add their own.
        if (403..=423).contains(&number)
            || ["syscalls", "arch_specific_syscall", "sync_file_range2"].contains(&&name[..])
        {
            continue;
        }
        // What the header calls by its number on 64-bit machines, and the kernel by its function.
        let ours = match &name[..] {
            "fstatat" => "newfstatat",
            name => name,
        };
        assert_eq!(
            syscall_name(ARCH_AARCH64, number),
            Some(ours),
            "{name} {number}"
        );
        assert_eq!(syscall_number(ARCH_AARCH64, ours), Some(number));
    }
    assert_eq!(arch_name(ARCH_AARCH64), Some("aarch64"));
    // Calls that only older machines have.
    for name in ["open", "fork", "mkdir", "chmod", "rename"] {
        assert_eq!(syscall_number(ARCH_AARCH64, name), None, "{name}");
    }
}

/// The kernel's structures have no padding that differs between 64-bit machines: what is written here holds where this is compiled.
#[test]
fn structures_have_the_kernels_sizes() {
    const {
        assert!(size_of::<libc::sockaddr_nl>() == 12);
        assert!(size_of::<libc::nlmsghdr>() == 16);
        assert!(usize::BITS != 64 || size_of::<libc::msghdr>() == 56);
        assert!(usize::BITS != 64 || size_of::<libc::mmsghdr>() == 64);
        assert!(usize::BITS != 64 || size_of::<libc::iovec>() == 16);
    }
    let rule = collector::rules::Rule::new(
        collector::rules::List::Exit,
        collector::rules::Action::Always,
        collector::rules::SyscallMask::all(),
    );
    // struct audit_rule_data, linux/audit.h, without its strings.
    assert_eq!(rule.encode().len(), 1040);
}
