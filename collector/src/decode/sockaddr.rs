//! SOCKADDR: a socket address, byte for byte as the process handed it to the kernel, in the machine's byte order.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::names::socket_family;
use crate::event::Event;
use crate::record::{RecordType, unhex};

/// A socket address (`struct sockaddr` and its relatives, `socket.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAddress {
    /// `AF_INET`.
    Inet {
        /// Address.
        address: Ipv4Addr,
        /// Port.
        port: u16,
    },
    /// `AF_INET6`.
    Inet6 {
        /// Address.
        address: Ipv6Addr,
        /// Port.
        port: u16,
        /// Flow label, as it stands in the structure (network byte order undone).
        flow: u32,
        /// Interface of a link-local address.
        scope: u32,
    },
    /// `AF_UNIX` with a path in the file system.
    UnixPath(Vec<u8>),
    /// `AF_UNIX` in the abstract name space, without the NUL in front.
    UnixAbstract(Vec<u8>),
    /// `AF_UNIX` without a name.
    UnixUnnamed,
    /// `AF_NETLINK`.
    Netlink {
        /// Port of the peer, 0 for the kernel.
        port: u32,
        /// Multicast groups, one bit each.
        groups: u32,
    },
    /// `AF_PACKET`.
    Packet {
        /// EtherType.
        protocol: u16,
        /// Index of the interface, 0 for every one.
        interface: i32,
        /// Hardware address.
        hardware: Vec<u8>,
    },
    /// `AF_ALG`, the kernel's ciphers.
    Alg {
        /// `hash`, `skcipher`, `aead`, `rng`.
        kind: Vec<u8>,
        /// Name of the algorithm.
        name: Vec<u8>,
    },
    /// `AF_VSOCK`, between virtual machine and host.
    Vsock {
        /// Context id, 2 is the host.
        cid: u32,
        /// Port.
        port: u32,
    },
    /// `AF_BLUETOOTH`, undecoded but for the family.
    Bluetooth(Vec<u8>),
    /// `AF_XDP`.
    Xdp {
        /// Index of the interface.
        interface: u32,
        /// Queue.
        queue: u32,
    },
    /// `AF_UNSPEC`: connect(2) uses it to break a connection up.
    Unspecified,
    /// A family that we do not take apart.
    Other {
        /// `AF_*`.
        family: u16,
        /// Every byte behind it.
        data: Vec<u8>,
    },
    /// Too short for its family: every byte of it.
    Short(Vec<u8>),
}

impl SocketAddress {
    /// Takes an address apart. Never fails: what is too short is [`SocketAddress::Short`].
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::parse(bytes).unwrap_or_else(|| Self::Short(bytes.to_vec()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let family = u16::from_ne_bytes(array(bytes, 0)?);
        let data = &bytes[2..];
        Some(match i32::from(family) {
            libc::AF_UNSPEC => Self::Unspecified,
            libc::AF_INET => Self::Inet {
                address: Ipv4Addr::from(array::<4>(bytes, 4)?),
                port: u16::from_be_bytes(array(bytes, 2)?),
            },
            libc::AF_INET6 => Self::Inet6 {
                address: Ipv6Addr::from(array::<16>(bytes, 8)?),
                port: u16::from_be_bytes(array(bytes, 2)?),
                flow: u32::from_be_bytes(array(bytes, 4)?),
                // The kernel takes a structure without it (SIN6_LEN_RFC2133).
                scope: array(bytes, 24).map_or(0, u32::from_ne_bytes),
            },
            libc::AF_UNIX => match data {
                [] => Self::UnixUnnamed,
                // The kernel copies the whole structure; an abstract name is known by its first byte, ends with the
                // length that was passed, and may hold NUL bytes.
                [0, name @ ..] if name.iter().all(|b| *b == 0) => Self::UnixUnnamed,
                [0, name @ ..] => Self::UnixAbstract(name.to_vec()),
                path => Self::UnixPath(until_nul(path)),
            },
            libc::AF_NETLINK => Self::Netlink {
                port: u32::from_ne_bytes(array(bytes, 4)?),
                groups: u32::from_ne_bytes(array(bytes, 8)?),
            },
            libc::AF_PACKET => {
                let length = usize::from(*bytes.get(11)?).min(8);
                Self::Packet {
                    protocol: u16::from_be_bytes(array(bytes, 2)?),
                    interface: i32::from_ne_bytes(array(bytes, 4)?),
                    hardware: bytes.get(12..12 + length).unwrap_or_default().to_vec(),
                }
            }
            libc::AF_ALG => Self::Alg {
                kind: until_nul(bytes.get(2..16)?),
                name: until_nul(bytes.get(24..)?),
            },
            libc::AF_VSOCK => Self::Vsock {
                port: u32::from_ne_bytes(array(bytes, 4)?),
                cid: u32::from_ne_bytes(array(bytes, 8)?),
            },
            libc::AF_BLUETOOTH => Self::Bluetooth(data.to_vec()),
            libc::AF_XDP => Self::Xdp {
                interface: u32::from_ne_bytes(array(bytes, 4)?),
                queue: u32::from_ne_bytes(array(bytes, 8)?),
            },
            _ => Self::Other {
                family,
                data: data.to_vec(),
            },
        })
    }

    /// `inet`, `unix`, …; `None` for an address without or with an unknown family.
    pub fn family_name(&self) -> Option<&'static str> {
        let family = match self {
            Self::Inet { .. } => libc::AF_INET,
            Self::Inet6 { .. } => libc::AF_INET6,
            Self::UnixPath(_) | Self::UnixAbstract(_) | Self::UnixUnnamed => libc::AF_UNIX,
            Self::Netlink { .. } => libc::AF_NETLINK,
            Self::Packet { .. } => libc::AF_PACKET,
            Self::Alg { .. } => libc::AF_ALG,
            Self::Vsock { .. } => libc::AF_VSOCK,
            Self::Bluetooth(_) => libc::AF_BLUETOOTH,
            Self::Xdp { .. } => libc::AF_XDP,
            Self::Unspecified => libc::AF_UNSPEC,
            Self::Other { family, .. } => i32::from(*family),
            Self::Short(bytes) => i32::from(u16::from_ne_bytes(array(bytes, 0)?)),
        };
        socket_family(u64::try_from(family).ok()?)
    }

    /// The port, where the family has one.
    pub fn port(&self) -> Option<u32> {
        match self {
            Self::Inet { port, .. } | Self::Inet6 { port, .. } => Some(u32::from(*port)),
            Self::Vsock { port, .. } | Self::Netlink { port, .. } => Some(*port),
            _ => None,
        }
    }
}

/// `127.0.0.1:80`, `[::1]:80`, `/run/docker.sock`, `@abstract`, `netlink:0`, …
impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { address, port } => write!(f, "{address}:{port}"),
            Self::Inet6 {
                address,
                port,
                scope: 0,
                ..
            } => write!(f, "[{address}]:{port}"),
            Self::Inet6 {
                address,
                port,
                scope,
                ..
            } => write!(f, "[{address}%{scope}]:{port}"),
            Self::UnixPath(path) => f.write_str(&crate::text::to_text(path)),
            Self::UnixAbstract(name) => write!(f, "@{}", crate::text::to_text(name)),
            Self::UnixUnnamed => f.write_str("unix:unnamed"),
            Self::Netlink { port, groups } => write!(f, "netlink:{port} groups {groups:#x}"),
            Self::Packet {
                protocol,
                interface,
                ..
            } => write!(f, "packet:{protocol:#06x} interface {interface}"),
            Self::Alg { kind, name } => {
                write!(
                    f,
                    "alg:{}:{}",
                    crate::text::to_text(kind),
                    crate::text::to_text(name)
                )
            }
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Bluetooth(_) => f.write_str("bluetooth"),
            Self::Xdp { interface, queue } => write!(f, "xdp:{interface}:{queue}"),
            Self::Unspecified => f.write_str("unspecified"),
            Self::Other { family, .. } => write!(f, "family {family}"),
            Self::Short(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

impl Event {
    /// The first socket address of the event.
    pub fn sockaddr(&self) -> Option<SocketAddress> {
        let value = self.record(RecordType::SOCKADDR)?.get("saddr")?;
        unhex(value.bytes).map(|bytes| SocketAddress::from_bytes(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn families_are_taken_apart() {
        let address = |hex: &str| SocketAddress::from_bytes(&unhex(hex.as_bytes()).unwrap());
        assert_eq!(
            address("020000507F0000010000000000000000").to_string(),
            "127.0.0.1:80"
        );
        assert_eq!(
            address("0A0001BB00000000FE80000000000000000000000000000102000000").to_string(),
            "[fe80::1%2]:443"
        );
        assert_eq!(
            address("0A0001BB0000000000000000000000000000000000000001").to_string(),
            "[::1]:443"
        );
        assert_eq!(
            address("01002F72756E2F780000"),
            SocketAddress::UnixPath(b"/run/x".to_vec())
        );
        assert_eq!(
            address("0100002F783100"),
            SocketAddress::UnixAbstract(b"/x1\0".to_vec())
        );
        assert_eq!(address("0100"), SocketAddress::UnixUnnamed);
        assert_eq!(
            address("100000000000000001000000"),
            SocketAddress::Netlink { port: 0, groups: 1 }
        );
        assert_eq!(
            address("280000000010000002000000"),
            SocketAddress::Vsock { cid: 2, port: 4096 }
        );
        let packet = SocketAddress::Packet {
            protocol: 3,
            interface: 2,
            hardware: vec![1, 2, 3, 4, 5, 6],
        };
        assert_eq!(address("1100000302000000000000060102030405060000"), packet);
        let alg = "260068617368000000000000000000000000000000000000736861323536000000";
        assert_eq!(address(alg).to_string(), "alg:hash:sha256");
        assert_eq!(address("0000"), SocketAddress::Unspecified);
        assert_eq!(
            address("FF00AA"),
            SocketAddress::Other {
                family: 255,
                data: vec![0xaa]
            }
        );
    }

    #[test]
    fn short_ones_are_kept() {
        for bytes in [
            &b""[..],
            b"\x02",
            &libc::AF_INET.to_ne_bytes()[..2],
            &libc::AF_ALG.to_ne_bytes()[..2],
        ] {
            assert_eq!(
                SocketAddress::from_bytes(bytes),
                SocketAddress::Short(bytes.to_vec())
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_address(family in 0u16..64, rest: Vec<u8>) {
            let address = SocketAddress::from_bytes(&[&family.to_ne_bytes()[..], &rest].concat());
            let _ = (address.to_string(), address.family_name(), address.port());
        }
    }
}
