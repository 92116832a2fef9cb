//! Configuration: `/etc/syscall-monitor/config.toml`, as it is written (`Config`), with defaults for everything.
//!
//! An unknown key is an error that names the line and the nearest known key; a wrong value names what was expected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actions::Level;
use anyhow::{Context, bail};
use detector::Severity;
use enricher::container::Profile;
use serde::{Deserialize, Serialize};

/// Where the configuration is looked for when `--config` is not given.
pub const DEFAULT_FILE: &str = "/etc/syscall-monitor/config.toml";

/// The whole file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Everything that must survive a restart: history, evidence, trust, audit-before.json.
    pub state_dir: PathBuf,
    /// Socket and pid file.
    pub run_dir: PathBuf,
    pub collector: Collector,
    pub rules: Rules,
    pub containers: Containers,
    pub quarantine: Quarantine,
    pub evidence: Evidence,
    pub notify: Notify,
    pub trust: Trust,
    pub history: History,
    pub api: Api,
    pub docker: Docker,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/syscall-monitor".into(),
            run_dir: "/run/syscall-monitor".into(),
            collector: Collector::default(),
            rules: Rules::default(),
            containers: Containers::default(),
            quarantine: Quarantine::default(),
            evidence: Evidence::default(),
            notify: Notify::default(),
            trust: Trust::default(),
            history: History::default(),
            api: Api::default(),
            docker: Docker::default(),
        }
    }
}

/// How the audit socket is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Own the audit stream when nobody else does, else read along.
    #[default]
    Auto,
    /// Own it or fail.
    Exclusive,
    /// Read the multicast group, whoever owns the stream.
    Shared,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Collector {
    pub mode: Mode,
    /// Records that the kernel queues for us.
    pub backlog_limit: u32,
    /// Longest time that an audited program waits for us, milliseconds, at most 100.
    pub backlog_wait_ms: u32,
    /// Real-time priority (SCHED_FIFO, 1 to 10) of the reader thread; 0 is off.
    pub realtime: u8,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            backlog_limit: 8192,
            backlog_wait_ms: 100,
            realtime: 0,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Profiles to watch when the command line names none.
    pub profiles: Vec<ProfileName>,
    /// Folders that hold `common/`, `openclaw/`, …; a later one adds to an earlier one.
    pub dirs: Vec<PathBuf>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            profiles: vec![],
            dirs: vec!["/usr/local/share/syscall-monitor/audit-rules".into()],
        }
    }
}

/// A profile on the command line or in the configuration.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum ProfileName {
    Openclaw,
    #[value(alias = "clawdbot")]
    #[serde(alias = "clawdbot")]
    Clawbot,
    Moltbot,
    /// All of them, and every other container under the common rules.
    Full,
}

impl ProfileName {
    pub fn name(self) -> &'static str {
        match self {
            Self::Openclaw => "openclaw",
            Self::Clawbot => "clawbot",
            Self::Moltbot => "moltbot",
            Self::Full => "full",
        }
    }
}

/// What was chosen: which rule packs apply to agents, and whether other containers are watched too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Chosen {
    pub profiles: Vec<Profile>,
    pub full: bool,
}

impl Chosen {
    /// The command line's choice, else the configuration's, else everything.
    pub fn resolve(command_line: &[ProfileName], config: &Config) -> Self {
        let names = if command_line.is_empty() {
            &config.rules.profiles[..]
        } else {
            command_line
        };
        let full = names.is_empty() || names.contains(&ProfileName::Full);
        let profiles = Profile::ALL
            .into_iter()
            .filter(|p| full || names.iter().any(|n| n.name() == p.name()))
            .collect();
        Self { profiles, full }
    }

    /// Names as `status` shows them.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.profiles.iter().map(|p| p.name()).collect();
        if self.full {
            names.push("full");
        }
        names
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Containers {
    /// Containers that are agents by decree: name (or glob) to profile.
    pub profiles: BTreeMap<String, ProfileName>,
    /// Host paths or container paths (globs) that agents may use: access to them is no finding.
    pub expected_mounts: Vec<String>,
}

/// Which containers a quarantine may freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Those that match an agent profile.
    #[default]
    Agents,
    /// All of them.
    All,
    /// None: alerts only.
    None,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quarantine {
    pub scope: Scope,
    /// Seconds after a release in which the same container is not frozen again for the same rule; 0 is off.
    pub cooldown: u64,
    /// Containers that are never frozen: a name (glob) together with the image digest it must have, `name@sha256:…`.
    pub protect: Vec<String>,
    /// Freeze a quarantined agent again when it is unpaused, started or created anew from outside.
    pub hold: bool,
    /// How far to go: `notify`, `cut`, `freeze`, `auto` (freeze, and cut the networks that a release brings back exactly),
    /// `freeze-cut`, `stop`.
    pub level: Level,
    /// Cuts and stops that alerts may lead to in an hour; a freeze is never limited.
    pub budget: usize,
    /// Seconds after which a quarantine that an alert began ends by itself; 0 is never.
    pub release_after: u64,
    /// The level by severity (`high = "cut"`): it holds for every alert of that severity that people are told of.
    pub levels: BTreeMap<Severity, Level>,
    /// The level by profile and severity; stands before the one by severity alone.
    pub profiles: BTreeMap<Profile, BTreeMap<Severity, Level>>,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self {
            scope: Scope::Agents,
            cooldown: 0,
            protect: vec![],
            hold: true,
            level: Level::Auto,
            budget: 20,
            release_after: 0,
            levels: BTreeMap::new(),
            profiles: BTreeMap::new(),
        }
    }
}

/// What is kept of a frozen container.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// Keep anything at all.
    pub enabled: bool,
    /// Where, below `state_dir` when it is not absolute.
    pub dir: PathBuf,
    /// Bytes of all packs together; the oldest go. Those of containers in quarantine stay.
    pub max_bytes: u64,
    /// Bytes of one pack.
    pub pack_bytes: u64,
    /// Bytes that are copied of one changed file.
    pub file_bytes: u64,
    /// Days after which a pack goes; 0 keeps all. Those of containers in quarantine stay.
    pub max_age_days: u32,
    /// Make an image of the frozen container too (`docker commit`). It is Docker's then, and root's to remove.
    pub commit: bool,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: "evidence".into(),
            max_bytes: 4 << 30,
            pack_bytes: 256 << 20,
            file_bytes: 8 << 20,
            max_age_days: 90,
            commit: false,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    pub discord: Discord,
    pub telegram: Telegram,
    pub slack: Slack,
    pub webhook: Webhook,
    pub email: Email,
    pub syslog: Syslog,
    pub command: Command,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slack {
    /// File that holds the address of the incoming webhook, mode 0600.
    pub url_file: PathBuf,
    /// Scheme and host to use in place of the webhook's own (a proxy on this host).
    pub base_url: Option<String>,
    /// Lowest severity that is sent.
    pub min_severity: detector::Severity,
}

impl Default for Slack {
    fn default() -> Self {
        Self {
            url_file: "/etc/syscall-monitor/slack.url".into(),
            base_url: None,
            min_severity: detector::Severity::Medium,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// File that holds the address, mode 0600.
    pub url_file: PathBuf,
    /// File that holds the key that signs what is posted (HMAC-SHA256), mode 0600.
    pub key_file: PathBuf,
    /// File with JSON of one's own, `{{title}}` and the like in its strings.
    pub template_file: Option<PathBuf>,
    /// Plain http to a private address, beside this host.
    pub allow_private: bool,
    /// Lowest severity that is sent.
    pub min_severity: detector::Severity,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url_file: "/etc/syscall-monitor/webhook.url".into(),
            key_file: "/etc/syscall-monitor/webhook.key".into(),
            template_file: None,
            allow_private: false,
            min_severity: detector::Severity::Medium,
        }
    }
}

/// How mail is encrypted on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MailEncryption {
    /// STARTTLS, and no mail without.
    #[default]
    Starttls,
    /// From the start.
    Tls,
    /// None: to this host only.
    None,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Email {
    /// Name of the server; without it no mail is sent.
    pub server: Option<String>,
    /// Port; 587, 465 or 25 when not given.
    pub port: Option<u16>,
    pub encryption: MailEncryption,
    /// Login; without it none is made.
    pub user: Option<String>,
    /// File that holds its password, mode 0600.
    pub password_file: PathBuf,
    pub from: String,
    pub to: Vec<String>,
    /// Certificate (PEM) of a server with one of its own.
    pub certificate_file: Option<PathBuf>,
    /// Lowest severity that is sent.
    pub min_severity: detector::Severity,
}

impl Default for Email {
    fn default() -> Self {
        Self {
            server: None,
            port: None,
            encryption: MailEncryption::Starttls,
            user: None,
            password_file: "/etc/syscall-monitor/email.password".into(),
            from: "syscall-monitor@localhost".into(),
            to: vec![],
            certificate_file: None,
            min_severity: detector::Severity::Medium,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Syslog {
    /// `unix:/dev/log`, `udp://127.0.0.1:514` or `tcp://127.0.0.1:601`; RFC 5424.
    pub address: Option<String>,
    /// A private address beside this host: nothing is encrypted on the way.
    pub allow_private: bool,
    /// Lowest severity that is sent.
    pub min_severity: detector::Severity,
}

impl Default for Syslog {
    fn default() -> Self {
        Self {
            address: None,
            allow_private: false,
            min_severity: detector::Severity::Medium,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Command {
    /// Program (by its whole path) and arguments; the message comes as JSON on its standard input.
    pub command: Vec<String>,
    /// Lowest severity that is sent.
    pub min_severity: detector::Severity,
}

impl Default for Command {
    fn default() -> Self {
        Self {
            command: vec![],
            min_severity: detector::Severity::Medium,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Discord {
    /// File that holds the webhook address, mode 0600.
    pub url_file: PathBuf,
    /// Scheme and host to use in place of the webhook's own (a proxy on this host).
    pub base_url: Option<String>,
    /// Lowest severity that is sent.
    pub min_severity: detector::Severity,
}

impl Default for Discord {
    fn default() -> Self {
        Self {
            url_file: "/etc/syscall-monitor/discord.url".into(),
            base_url: None,
            min_severity: detector::Severity::Medium,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telegram {
    /// File that holds the bot's token, mode 0600.
    pub token_file: PathBuf,
    /// Chat to send to; without it the file beside the token, `telegram.chat`, is read.
    pub chat_id: Option<String>,
    /// Address of the Bot API.
    pub base_url: Option<String>,
    /// Accounts (Telegram's numbers) that may answer by buttons below a message; none: there are no buttons.
    pub answer_from: Vec<i64>,
    /// How long buttons work, hours.
    pub answer_hours: u32,
    /// Lowest severity that is sent.
    pub min_severity: detector::Severity,
}

impl Default for Telegram {
    fn default() -> Self {
        Self {
            token_file: "/etc/syscall-monitor/telegram.token".into(),
            chat_id: None,
            base_url: None,
            answer_from: vec![],
            answer_hours: 24,
            min_severity: detector::Severity::Medium,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// Where the scores are; `<state_dir>/trust` when not given.
    pub dir: Option<PathBuf>,
    /// Log that other ASF tools read.
    pub log: PathBuf,
    /// Freeze an agent whose score has come to the band of quarantine by arithmetic alone.
    pub enforce: bool,
    /// Program and arguments that are told of each change: JSON on standard input, `ASF_*` in the environment.
    pub hook: Vec<String>,
    /// File, mode 0600, with an address that each change is posted to.
    pub webhook_file: Option<PathBuf>,
    /// File, mode 0600, with the key that signs what is posted (HMAC-SHA256).
    pub webhook_key_file: Option<PathBuf>,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            dir: None,
            log: "/var/log/asf/security.log".into(),
            enforce: false,
            hook: vec![],
            webhook_file: None,
            webhook_key_file: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// Where the store is; `<state_dir>/history` when not given.
    pub dir: Option<PathBuf>,
    /// Oldest event to keep, days; 0 keeps all.
    pub max_age_days: u32,
    /// Disk budget, bytes; 0 is none.
    pub max_bytes: u64,
    /// Take secrets out of arguments before they are stored. What leaves the host never has them.
    pub redact: bool,
    /// Minutes between two anchors in the system log and the security log; 0 is off.
    pub anchor_minutes: u32,
}

impl Default for History {
    fn default() -> Self {
        Self {
            dir: None,
            max_age_days: 30,
            max_bytes: 4 << 30,
            redact: false,
            anchor_minutes: 60,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Unix socket; `<run_dir>/api.sock` when not given.
    pub socket: Option<PathBuf>,
    /// Group whose members may read (not change) through the socket.
    pub group: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Docker {
    /// The engine's socket.
    pub socket: PathBuf,
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
        }
    }
}

impl Config {
    /// Reads the file. A file that was not asked for by name may be missing: then the defaults hold.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let (path, required) = match file {
            Some(path) => (path, true),
            None => (Path::new(DEFAULT_FILE), false),
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => {
                return Ok(Self::default());
            }
            Err(e) => {
                return Err(e)
                    .with_context(|| format!("cannot read the configuration {}", path.display()));
            }
        };
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses and checks.
    pub fn parse(text: &str, name: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text).map_err(|e| describe(&e, text, name))?;
        if config.collector.backlog_wait_ms > 100 {
            bail!(
                "{name}: collector.backlog_wait_ms is {}, but an audited program must never wait longer than 100 ms for the monitor; choose 1 to 100",
                config.collector.backlog_wait_ms
            );
        }
        if config.collector.realtime > 10 {
            bail!(
                "{name}: collector.realtime is {}; real-time priorities from 1 to 10 are allowed, 0 is off",
                config.collector.realtime
            );
        }
        Ok(config)
    }

    pub fn history_dir(&self) -> PathBuf {
        self.history
            .dir
            .clone()
            .unwrap_or_else(|| self.state_dir.join("history"))
    }

    pub fn trust_dir(&self) -> PathBuf {
        self.trust
            .dir
            .clone()
            .unwrap_or_else(|| self.state_dir.join("trust"))
    }

    /// Filters that `Except` wrote: a folder of packs beside those of `[rules] dirs`.
    pub fn exceptions_dir(&self) -> PathBuf {
        self.state_dir.join(crate::except::DIR)
    }

    pub fn saved_state_file(&self) -> PathBuf {
        self.state_dir.join("audit-before.json")
    }

    pub fn socket(&self) -> PathBuf {
        self.api
            .socket
            .clone()
            .unwrap_or_else(|| self.run_dir.join("api.sock"))
    }

    pub fn pid_file(&self) -> PathBuf {
        self.run_dir.join("daemon.pid")
    }

    pub fn max_age(&self) -> Option<Duration> {
        (self.history.max_age_days > 0)
            .then(|| Duration::from_secs(u64::from(self.history.max_age_days) * 86_400))
    }
}

/// A TOML error with file, line, and the nearest key that exists.
fn describe(error: &toml::de::Error, text: &str, name: &str) -> anyhow::Error {
    let place = error.span().map(|span| {
        let before = &text[..span.start.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |i| i + 1) + 1;
        format!(":{line}:{column}")
    });
    let message = error.message();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let hint = if message.starts_with("unknown field") {
        quoted.next().and_then(|bad| {
            let known: Vec<&str> = quoted.collect();
            crate::nearest::nearest(bad, known.iter().copied())
                .map(|best| format!("; did you mean `{best}`?"))
        })
    } else {
        None
    };
    anyhow::anyhow!(
        "{name}{}: {message}{}",
        place.unwrap_or_default(),
        hint.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        let config = Config::parse("", "c").unwrap();
        assert_eq!(
            config.history_dir(),
            Path::new("/var/lib/syscall-monitor/history")
        );
        assert_eq!(
            Chosen::resolve(&[], &config).names(),
            ["openclaw", "clawbot", "moltbot", "full"]
        );
    }

    #[test]
    fn an_unknown_key_names_line_and_nearest_key() {
        let text = "[collector]\nmode = \"auto\"\nbacklog_limt = 3\n";
        let error = Config::parse(text, "c.toml").unwrap_err().to_string();
        assert!(
            error.starts_with("c.toml:3:1: unknown field `backlog_limt`"),
            "{error}"
        );
        assert!(error.ends_with("did you mean `backlog_limit`?"), "{error}");
    }

    #[test]
    fn a_wait_that_would_stall_the_host_is_refused() {
        let error = Config::parse("[collector]\nbacklog_wait_ms = 60000\n", "c")
            .unwrap_err()
            .to_string();
        assert!(error.contains("100 ms"), "{error}");
    }

    #[test]
    fn levels_are_said_by_severity_and_by_profile() {
        let text = "[quarantine]\nlevel = \"freeze\"\n[quarantine.levels]\nhigh = \"cut\"\n[quarantine.profiles.openclaw]\ncritical = \"stop\"\n";
        let q = Config::parse(text, "c").unwrap().quarantine;
        assert_eq!(q.level, Level::Freeze);
        assert_eq!(q.levels[&Severity::High], Level::Cut);
        assert_eq!(
            q.profiles[&Profile::Openclaw][&Severity::Critical],
            Level::Stop
        );
        let error = Config::parse("[quarantine]\nlevel = \"stopp\"\n", "c")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("c:2:9") && error.contains("freeze-cut"),
            "{error}"
        );
    }

    #[test]
    fn one_profile_is_not_full() {
        let chosen = Chosen::resolve(&[ProfileName::Clawbot], &Config::default());
        assert_eq!(
            chosen,
            Chosen {
                profiles: vec![Profile::Clawbot],
                full: false
            }
        );
    }

    #[test]
    fn the_default_configuration_reads_back() {
        let text = toml::to_string(&Config::default()).unwrap();
        Config::parse(&text, "c").unwrap();
    }
}
