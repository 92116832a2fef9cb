//! Types of audit messages by number and by name.
//!
//! The kernel's are in `include/uapi/linux/audit.h` (complete up to 6.18), those of user space in libaudit's `audit-records.h`.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// Type of an audit message, `include/uapi/linux/audit.h` and libaudit's `audit-records.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(pub u16);

macro_rules! record_types {
    ($($number:literal $name:ident)*) => {
        #[allow(missing_docs)]
        impl RecordType {
            $(pub const $name: Self = Self($number);)*

            /// Every type that has a name, in order of number.
            pub const ALL: &[Self] = &[$(Self($number)),*];

            /// `SYSCALL` for 1300; `None` for a type that has no name here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

record_types! {
    1000 GET
    1001 SET
    1002 LIST
    1003 ADD
    1004 DEL
    1005 USER
    1006 LOGIN
    1007 WATCH_INS
    1008 WATCH_REM
    1009 WATCH_LIST
    1010 SIGNAL_INFO
    1011 ADD_RULE
    1012 DEL_RULE
    1013 LIST_RULES
    1014 TRIM
    1015 MAKE_EQUIV
    1016 TTY_GET
    1017 TTY_SET
    1018 SET_FEATURE
    1019 GET_FEATURE
    1100 USER_AUTH
    1101 USER_ACCT
    1102 USER_MGMT
    1103 CRED_ACQ
    1104 CRED_DISP
    1105 USER_START
    1106 USER_END
    1107 USER_AVC
    1108 USER_CHAUTHTOK
    1109 USER_ERR
    1110 CRED_REFR
    1111 USYS_CONFIG
    1112 USER_LOGIN
    1113 USER_LOGOUT
    1114 ADD_USER
    1115 DEL_USER
    1116 ADD_GROUP
    1117 DEL_GROUP
    1118 DAC_CHECK
    1119 CHGRP_ID
    1120 TEST
    1121 TRUSTED_APP
    1122 USER_SELINUX_ERR
    1123 USER_CMD
    1124 USER_TTY
    1125 CHUSER_ID
    1126 GRP_AUTH
    1127 SYSTEM_BOOT
    1128 SYSTEM_SHUTDOWN
    1129 SYSTEM_RUNLEVEL
    1130 SERVICE_START
    1131 SERVICE_STOP
    1132 GRP_MGMT
    1133 GRP_CHAUTHTOK
    1134 MAC_CHECK
    1135 ACCT_LOCK
    1136 ACCT_UNLOCK
    1137 USER_DEVICE
    1138 SOFTWARE_UPDATE
    1200 DAEMON_START
    1201 DAEMON_END
    1202 DAEMON_ABORT
    1203 DAEMON_CONFIG
    1204 DAEMON_RECONFIG
    1205 DAEMON_ROTATE
    1206 DAEMON_RESUME
    1207 DAEMON_ACCEPT
    1208 DAEMON_CLOSE
    1209 DAEMON_ERR
    1300 SYSCALL
    1301 FS_WATCH
    1302 PATH
    1303 IPC
    1304 SOCKETCALL
    1305 CONFIG_CHANGE
    1306 SOCKADDR
    1307 CWD
    1308 FS_INODE
    1309 EXECVE
    1311 IPC_SET_PERM
    1312 MQ_OPEN
    1313 MQ_SENDRECV
    1314 MQ_NOTIFY
    1315 MQ_GETSETATTR
    1316 KERNEL_OTHER
    1317 FD_PAIR
    1318 OBJ_PID
    1319 TTY
    1320 EOE
    1321 BPRM_FCAPS
    1322 CAPSET
    1323 MMAP
    1324 NETFILTER_PKT
    1325 NETFILTER_CFG
    1326 SECCOMP
    1327 PROCTITLE
    1328 FEATURE_CHANGE
    1329 REPLACE
    1330 KERN_MODULE
    1331 FANOTIFY
    1332 TIME_INJOFFSET
    1333 TIME_ADJNTPVAL
    1334 BPF
    1335 EVENT_LISTENER
    1336 URINGOP
    1337 OPENAT2
    1338 DM_CTRL
    1339 DM_EVENT
    1400 AVC
    1401 SELINUX_ERR
    1402 AVC_PATH
    1403 MAC_POLICY_LOAD
    1404 MAC_STATUS
    1405 MAC_CONFIG_CHANGE
    1406 MAC_UNLBL_ALLOW
    1407 MAC_CIPSOV4_ADD
    1408 MAC_CIPSOV4_DEL
    1409 MAC_MAP_ADD
    1410 MAC_MAP_DEL
    1411 MAC_IPSEC_ADDSA
    1412 MAC_IPSEC_DELSA
    1413 MAC_IPSEC_ADDSPD
    1414 MAC_IPSEC_DELSPD
    1415 MAC_IPSEC_EVENT
    1416 MAC_UNLBL_STCADD
    1417 MAC_UNLBL_STCDEL
    1418 MAC_CALIPSO_ADD
    1419 MAC_CALIPSO_DEL
    1420 IPE_ACCESS
    1421 IPE_CONFIG_CHANGE
    1422 IPE_POLICY_LOAD
    1423 LANDLOCK_ACCESS
    1424 LANDLOCK_DOMAIN
    1425 MAC_TASK_CONTEXTS
    1426 MAC_OBJ_CONTEXTS
    1500 APPARMOR
    1501 APPARMOR_AUDIT
    1502 APPARMOR_ALLOWED
    1503 APPARMOR_DENIED
    1504 APPARMOR_HINT
    1505 APPARMOR_STATUS
    1506 APPARMOR_ERROR
    1507 APPARMOR_KILL
    1700 ANOM_PROMISCUOUS
    1701 ANOM_ABEND
    1702 ANOM_LINK
    1703 ANOM_CREAT
    1800 INTEGRITY_DATA
    1801 INTEGRITY_METADATA
    1802 INTEGRITY_STATUS
    1803 INTEGRITY_HASH
    1804 INTEGRITY_PCR
    1805 INTEGRITY_RULE
    1806 INTEGRITY_EVM_XATTR
    1807 INTEGRITY_POLICY_RULE
    2000 KERNEL
    2100 ANOM_LOGIN_FAILURES
    2101 ANOM_LOGIN_TIME
    2102 ANOM_LOGIN_SESSIONS
    2103 ANOM_LOGIN_ACCT
    2104 ANOM_LOGIN_LOCATION
    2105 ANOM_MAX_DAC
    2106 ANOM_MAX_MAC
    2107 ANOM_AMTU_FAIL
    2108 ANOM_RBAC_FAIL
    2109 ANOM_RBAC_INTEGRITY_FAIL
    2110 ANOM_CRYPTO_FAIL
    2111 ANOM_ACCESS_FS
    2112 ANOM_EXEC
    2113 ANOM_MK_EXEC
    2114 ANOM_ADD_ACCT
    2115 ANOM_DEL_ACCT
    2116 ANOM_MOD_ACCT
    2117 ANOM_ROOT_TRANS
    2118 ANOM_LOGIN_SERVICE
    2119 ANOM_LOGIN_ROOT
    2120 ANOM_ORIGIN_FAILURES
    2121 ANOM_SESSION
    2200 RESP_ANOMALY
    2201 RESP_ALERT
    2202 RESP_KILL_PROC
    2203 RESP_TERM_ACCESS
    2204 RESP_ACCT_REMOTE
    2205 RESP_ACCT_LOCK_TIMED
    2206 RESP_ACCT_UNLOCK_TIMED
    2207 RESP_ACCT_LOCK
    2208 RESP_TERM_LOCK
    2209 RESP_SEBOOL
    2210 RESP_EXEC
    2211 RESP_SINGLE
    2212 RESP_HALT
    2213 RESP_ORIGIN_BLOCK
    2214 RESP_ORIGIN_BLOCK_TIMED
    2215 RESP_ORIGIN_UNBLOCK_TIMED
    2300 USER_ROLE_CHANGE
    2301 ROLE_ASSIGN
    2302 ROLE_REMOVE
    2303 LABEL_OVERRIDE
    2304 LABEL_LEVEL_CHANGE
    2305 USER_LABELED_EXPORT
    2306 USER_UNLABELED_EXPORT
    2307 DEV_ALLOC
    2308 DEV_DEALLOC
    2309 FS_RELABEL
    2310 USER_MAC_POLICY_LOAD
    2311 ROLE_MODIFY
    2312 USER_MAC_CONFIG_CHANGE
    2313 USER_MAC_STATUS
    2400 CRYPTO_TEST_USER
    2401 CRYPTO_PARAM_CHANGE_USER
    2402 CRYPTO_LOGIN
    2403 CRYPTO_LOGOUT
    2404 CRYPTO_KEY_USER
    2405 CRYPTO_FAILURE_USER
    2406 CRYPTO_REPLAY_USER
    2407 CRYPTO_SESSION
    2408 CRYPTO_IKE_SA
    2409 CRYPTO_IPSEC_SA
    2500 VIRT_CONTROL
    2501 VIRT_RESOURCE
    2502 VIRT_MACHINE_ID
    2503 VIRT_INTEGRITY_CHECK
    2504 VIRT_CREATE
    2505 VIRT_DESTROY
    2506 VIRT_MIGRATE_IN
    2507 VIRT_MIGRATE_OUT
}

impl RecordType {
    /// The type of that name, of `UNKNOWN[1399]` (as auditd writes what it does not know), or of a bare number (as in
    /// the kernel's log).
    pub fn from_name(name: &[u8]) -> Option<Self> {
        // What an event of a system call is made of is nearly all there is.
        match name {
            b"SYSCALL" => return Some(Self::SYSCALL),
            b"PATH" => return Some(Self::PATH),
            b"CWD" => return Some(Self::CWD),
            b"EXECVE" => return Some(Self::EXECVE),
            b"PROCTITLE" => return Some(Self::PROCTITLE),
            b"EOE" => return Some(Self::EOE),
            b"SOCKADDR" => return Some(Self::SOCKADDR),
            _ => {}
        }
        static BY_NAME: LazyLock<Vec<(&'static [u8], RecordType)>> = LazyLock::new(|| {
            let named = RecordType::ALL
                .iter()
                .filter_map(|t| Some((t.name()?.as_bytes(), *t)));
            let mut all: Vec<_> = named.collect();
            all.sort_unstable();
            all
        });
        if let Ok(at) = BY_NAME.binary_search_by_key(&name, |(n, _)| n) {
            return Some(BY_NAME[at].1);
        }
        let number = match name.strip_prefix(b"UNKNOWN[") {
            Some(rest) => rest.strip_suffix(b"]")?,
            None => name,
        };
        super::decimal(number)
            .and_then(|n| u16::try_from(n).ok())
            .map(Self)
    }

    /// Did a program in user space write the text of the record (`AUDIT_USER*`)? A container with CAP_AUDIT_WRITE, which
    /// Docker gives by default, may send any number of these with any text.
    pub const fn is_user(self) -> bool {
        matches!(self.0, 1005 | 1100..=1199 | 2100..=2999)
    }

    /// Is a record of this type an event by itself, so that nothing has to be waited for?
    ///
    /// Only what the kernel logs without the context of a system call: text from user space, auditd's own messages,
    /// packets, SECCOMP and ANOM_ABEND (both written outside of a call: before audit's entry, and after its exit).
    pub const fn stands_alone(self) -> bool {
        self.is_user()
            || matches!(self.0, 1007..=1299)
            || matches!(
                self,
                Self::NETFILTER_PKT
                    | Self::SECCOMP
                    | Self::ANOM_ABEND
                    | Self::KERNEL
                    | Self::REPLACE
            )
    }

    /// Can a record of this type come with a SYSCALL record and without one?
    ///
    /// The kernel gives the current call's context to these (`audit_log_start(audit_context(), …)`), so they belong to
    /// its event when the task is audited, and are alone when it is older than audit or a thread of the kernel.
    pub const fn may_stand_alone(self) -> bool {
        matches!(self.0, 1400..=1700 | 1702..=1899)
            || matches!(
                self,
                Self::LOGIN
                    | Self::CONFIG_CHANGE
                    | Self::FEATURE_CHANGE
                    | Self::NETFILTER_CFG
                    | Self::TTY
                    | Self::KERNEL_OTHER
                    | Self::BPF
                    | Self::EVENT_LISTENER
                    | Self::TIME_INJOFFSET
                    | Self::TIME_ADJNTPVAL
                    | Self::FANOTIFY
                    | Self::DM_CTRL
                    | Self::DM_EVENT
            )
    }
}

/// `SYSCALL`, or `UNKNOWN[1399]`.
impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "UNKNOWN[{}]", self.0),
        }
    }
}

/// The text is not the name of a record type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a type of audit record; write it like SYSCALL, UNKNOWN[1399] or 1300")]
pub struct RecordTypeError(String);

impl FromStr for RecordType {
    type Err = RecordTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_name(text.as_bytes()).ok_or_else(|| RecordTypeError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_its_name() {
        for number in 0..=u16::MAX {
            let kind = RecordType(number);
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!(RecordType(1399).to_string(), "UNKNOWN[1399]");
        assert_eq!(RecordType::from_name(b"1300"), Some(RecordType::SYSCALL));
        for name in [
            "",
            "UNKNOWN[]",
            "UNKNOWN[65536]",
            "UNKNOWN[1300",
            "syscall",
            "-1",
        ] {
            assert!(RecordType::from_name(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn parts_of_a_system_call_never_stand_alone() {
        for kind in [
            RecordType::SYSCALL,
            RecordType::PATH,
            RecordType::EOE,
            RecordType::OBJ_PID,
            RecordType::URINGOP,
        ] {
            assert!(!kind.stands_alone() && !kind.may_stand_alone());
        }
        for kind in RecordType::ALL {
            assert!(!(kind.stands_alone() && kind.may_stand_alone()), "{kind}");
        }
    }
}
