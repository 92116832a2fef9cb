//! Which container is an agent, and under which name its trust is kept.
//!
//! One program at three dates cannot be told from its binary, so a profile is chosen by the container's name, its compose
//! service, its image, its labels and the state that is mounted into it, in this order. Only what the operator wrote
//! (name, service, image, mounts) can decide between profiles; a label can make something an agent, never take that away.

use serde::{Deserialize, Serialize};

use crate::container::{Container, Profile};
use crate::glob;

/// What makes a container an agent of one profile. Every list may be empty; one hit is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileEntry {
    /// Rule pack.
    pub profile: Profile,
    /// Names of containers, `*` and `?` allowed.
    #[serde(default)]
    pub names: Vec<String>,
    /// Names of compose services.
    #[serde(default)]
    pub services: Vec<String>,
    /// Repositories of images; tag and digest do not count.
    #[serde(default)]
    pub images: Vec<String>,
    /// Labels, `name` or `name=value`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Where the agent keeps state and workspace in the container.
    #[serde(default)]
    pub state: Vec<String>,
}

/// The table, in the order in which it is asked: the operator's entries before ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileTable {
    entries: Vec<ProfileEntry>,
}

/// Label that names the instance, and the label that makes a container an agent.
pub const AGENT_LABEL: &str = "syscall-monitor.agent";
/// Value: the name of a profile.
pub const PROFILE_LABEL: &str = "syscall-monitor.profile";
/// Set by docker compose.
pub const SERVICE_LABEL: &str = "com.docker.compose.service";

impl Default for ProfileTable {
    fn default() -> Self {
        Self::builtin()
    }
}

impl ProfileTable {
    /// OpenClaw under its three names.
    pub fn builtin() -> Self {
        Self {
            entries: vec![
                entry(
                    Profile::Openclaw,
                    "openclaw",
                    &[
                        "ghcr.io/openclaw/openclaw",
                        "openclaw/openclaw",
                        "openclaw-extended",
                    ],
                    &["/home/node/.openclaw", "/data/.openclaw", "/root/.openclaw"],
                ),
                entry(
                    Profile::Clawbot,
                    "clawdbot",
                    &["ghcr.io/clawdbot/clawdbot", "clawdbot/clawdbot"],
                    &[
                        "/home/node/.clawdbot",
                        "/home/node/clawd",
                        "/data/.clawdbot",
                        "/root/.clawdbot",
                        "/root/clawd",
                    ],
                ),
                entry(
                    Profile::Moltbot,
                    "moltbot",
                    &["ghcr.io/moltbot/moltbot", "moltbot/moltbot"],
                    &[
                        "/home/node/.clawdbot",
                        "/home/node/clawd",
                        "/home/node/.moltbot",
                        "/home/node/.moldbot",
                        "/root/.moltbot",
                        "/root/.moldbot",
                    ],
                ),
            ],
        }
    }

    /// Puts the operator's entries in front.
    pub fn with(mut self, entries: Vec<ProfileEntry>) -> Self {
        self.entries.splice(0..0, entries);
        self
    }

    /// Makes the containers of these names agents of `profile` (`--container NAME`).
    pub fn with_names(self, profile: Profile, names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        if names.is_empty() {
            return self;
        }
        let none = Vec::new;
        self.with(vec![ProfileEntry {
            profile,
            names,
            services: none(),
            images: none(),
            labels: none(),
            state: none(),
        }])
    }

    /// The profile of a container. Name, service and image are asked of all entries before labels and mounts are, so that
    /// a label cannot move a container from one profile to another.
    pub fn profile(&self, container: &Container) -> Option<Profile> {
        let find = |hit: &dyn Fn(&ProfileEntry) -> bool| {
            self.entries.iter().find(|e| hit(e)).map(|e| e.profile)
        };
        let name = container.name.as_deref();
        find(&|e| name.is_some_and(|n| e.names.iter().any(|p| glob::matches(p, n))))
            .or_else(|| {
                let service = container.label(SERVICE_LABEL)?;
                find(&|e| e.services.iter().any(|s| s == service))
            })
            .or_else(|| {
                let image = repository(container.image.as_deref()?);
                find(&|e| e.images.iter().any(|i| repository(i) == image))
            })
            .or_else(|| {
                let wanted = container.label(PROFILE_LABEL)?;
                Profile::ALL.into_iter().find(|p| {
                    p.name() == wanted || (wanted == "clawdbot" && *p == Profile::Clawbot)
                })
            })
            .or_else(|| find(&|e| e.labels.iter().any(|l| label_matches(container, l))))
            .or_else(|| {
                find(&|e| {
                    container
                        .mounts
                        .iter()
                        .any(|m| m.kind != "tmpfs" && e.state.contains(&m.destination))
                })
            })
            // `syscall-monitor.agent` alone makes it an agent; which pack fits is not known, so the newest.
            .or_else(|| container.label(AGENT_LABEL).map(|_| Profile::Openclaw))
    }

    /// Is `destination` where an agent of this profile keeps its state or workspace (or something below it)? With
    /// `None` any profile will do: the engine has not said yet which container this is.
    pub fn is_state(&self, profile: Option<Profile>, destination: &str) -> bool {
        self.entries
            .iter()
            .filter(|e| profile.is_none_or(|p| p == e.profile))
            .any(|e| {
                e.state
                    .iter()
                    .any(|s| crate::mountinfo::is_below(destination, s))
            })
    }

    /// Fills `profile` and `agent`.
    pub fn assign(&self, container: &mut Container) {
        container.profile = self.profile(container);
        container.agent = agent(container);
    }
}

fn entry(profile: Profile, word: &str, images: &[&str], state: &[&str]) -> ProfileEntry {
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let mut names = vec![word.to_owned()];
    let mut services = Vec::new();
    for part in ["gateway", "cli"] {
        services.push(format!("{word}-{part}"));
        names.push(format!("{word}-{part}"));
        // compose: project-service-1 (version 1 wrote underscores), project-service-run-1a2b3c4d5e6f
        names.extend([
            format!("*-{word}-{part}-[0-9]"),
            format!("*_{word}-{part}_[0-9]"),
            format!("*-{word}-{part}-run-*"),
            format!("*_{word}-{part}_run_*"),
        ]);
    }
    // A digit cannot be spelled in our globs; take any one or two characters instead.
    let names = names.into_iter().flat_map(|n| {
        if n.contains("[0-9]") {
            vec![n.replace("[0-9]", "?"), n.replace("[0-9]", "??")]
        } else {
            vec![n]
        }
    });
    let mut images = strings(images);
    images.extend([
        word.to_owned(),
        format!("{word}-sandbox"),
        format!("{word}-sandbox-browser"),
        format!("{word}-sandbox-common"),
    ]);
    let title = match word {
        "openclaw" => "OpenClaw",
        "clawdbot" => "Clawdbot",
        _ => "Moltbot",
    };
    ProfileEntry {
        profile,
        names: names.chain([format!("{word}-sbx-*")]).collect(),
        services,
        images,
        labels: vec![
            format!("{word}.sandbox=1"),
            format!("org.opencontainers.image.title={title}"),
        ],
        state: strings(state),
    }
}

fn label_matches(container: &Container, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => container.label(name) == Some(value),
        None => container.label(wanted).is_some(),
    }
}

/// Repository of an image reference: no tag, no digest, and no `docker.io/library/` that says nothing.
pub fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon behind the last slash starts a tag; before it, it is the port of a registry.
    let image = match image.rfind(':') {
        Some(colon) if image.rfind('/').is_none_or(|slash| slash < colon) => &image[..colon],
        _ => image,
    };
    let image = image
        .strip_prefix("docker.io/")
        .or_else(|| image.strip_prefix("index.docker.io/"))
        .unwrap_or(image);
    let image = image.strip_prefix("localhost/").unwrap_or(image);
    image.strip_prefix("library/").unwrap_or(image)
}

/// Name of the instance: the label, else the container's name; `None` until one of them is known.
pub fn agent(container: &Container) -> Option<String> {
    let label = container.label(AGENT_LABEL).filter(|l| !l.is_empty());
    label.or(container.name.as_deref()).map(file_name)
}

/// Longest name of an agent, in bytes.
const MAX_AGENT: usize = 100;

/// A name that is safe as a file name and that no other name shares: what had to be changed gets `~` (which no unchanged
/// name holds) and 16 digits of its hash behind it.
pub fn file_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty()
        && name.len() <= MAX_AGENT
        && !name.starts_with('.')
        && name.chars().all(allowed)
    {
        return name.to_owned();
    }
    let mut safe: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(MAX_AGENT - 17)
        .collect();
    if safe.is_empty() || safe.starts_with('.') {
        safe.replace_range(0..safe.len().min(1), "_");
    }
    let hash = blake3::hash(name.as_bytes());
    safe.push('~');
    safe.push_str(&hash.to_hex()[..16]);
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Mount;
    use proptest::prelude::*;

    fn named(name: &str) -> Container {
        Container {
            name: Some(name.into()),
            ..Container::from_id("1")
        }
    }

    fn profile(c: &Container) -> Option<Profile> {
        ProfileTable::builtin().profile(c)
    }

    #[test]
    fn names_of_upstream_and_of_compose() {
        for (name, wanted) in [
            ("openclaw-gateway", Some(Profile::Openclaw)),
            ("openclaw", Some(Profile::Openclaw)),
            ("home-openclaw-gateway-1", Some(Profile::Openclaw)),
            ("home_openclaw-gateway_1", Some(Profile::Openclaw)),
            ("home-openclaw-cli-run-0a1b2c", Some(Profile::Openclaw)),
            ("openclaw-sbx-agent-main", Some(Profile::Openclaw)),
            ("clawdbot-gateway", Some(Profile::Clawbot)),
            ("moltbot-sbx-1", Some(Profile::Moltbot)),
            ("my-openclaw", None),
            ("openclaw-gateway-proxy", None),
            ("postgres", None),
        ] {
            assert_eq!(profile(&named(name)), wanted, "{name}");
        }
    }

    #[test]
    fn images_match_without_tag_and_digest() {
        for (image, wanted) in [
            ("openclaw:local", true),
            ("ghcr.io/openclaw/openclaw", true),
            ("ghcr.io/openclaw/openclaw:2026.9.6@sha256:abc", true),
            ("docker.io/openclaw/openclaw:latest", true),
            ("docker.io/library/openclaw", true),
            ("registry.example:5000/openclaw/openclaw", false),
            ("evil/openclaw", false),
            ("node:24", false),
        ] {
            let c = Container {
                image: Some(image.into()),
                ..named("x")
            };
            assert_eq!(profile(&c).is_some(), wanted, "{image}");
        }
    }

    #[test]
    fn a_label_makes_an_agent_but_never_unmakes_one() {
        let label = |c: Container, n: &str, v: &str| Container {
            labels: vec![(n.into(), v.into())],
            ..c
        };
        assert_eq!(
            profile(&label(named("x"), PROFILE_LABEL, "moltbot")),
            Some(Profile::Moltbot)
        );
        assert_eq!(
            profile(&label(named("x"), AGENT_LABEL, "me")),
            Some(Profile::Openclaw)
        );
        assert_eq!(
            profile(&label(named("x"), "openclaw.sandbox", "1")),
            Some(Profile::Openclaw)
        );
        for value in ["", "none", "moltbot", "false"] {
            assert_eq!(
                profile(&label(named("openclaw-gateway"), PROFILE_LABEL, value)),
                Some(Profile::Openclaw),
                "{value}"
            );
        }
        assert_eq!(
            profile(&label(named("p-web-1"), SERVICE_LABEL, "clawdbot-gateway")),
            Some(Profile::Clawbot)
        );
    }

    #[test]
    fn mounted_state_makes_an_agent() {
        let mount = Mount {
            source: "/srv/x".into(),
            destination: "/home/node/.openclaw".into(),
            kind: "bind".into(),
            writable: true,
            declared: false,
        };
        let c = Container {
            mounts: vec![mount],
            ..named("my-own-name")
        };
        assert_eq!(profile(&c), Some(Profile::Openclaw));
    }

    #[test]
    fn the_operator_comes_first() {
        let table = ProfileTable::builtin().with_names(
            Profile::Moltbot,
            ["openclaw-gateway".to_owned(), "pet-*".to_owned()],
        );
        assert_eq!(
            table.profile(&named("openclaw-gateway")),
            Some(Profile::Moltbot)
        );
        assert_eq!(table.profile(&named("pet-7")), Some(Profile::Moltbot));
    }

    #[test]
    fn agents_have_safe_and_distinct_names() {
        assert_eq!(file_name("openclaw-gateway"), "openclaw-gateway");
        for bad in ["../x", ".hidden", "", "a/b", "a b", "ü", &"x".repeat(300)] {
            let safe = file_name(bad);
            assert!(
                safe.len() <= MAX_AGENT
                    && !safe.contains('/')
                    && !safe.starts_with('.')
                    && safe.contains('~'),
                "{bad} {safe}"
            );
        }
        assert_ne!(file_name("a/b"), file_name("a_b"));
        assert_ne!(file_name("a/b"), file_name("a:b"));
        let c = Container {
            labels: vec![(AGENT_LABEL.into(), "bob".into())],
            ..named("x")
        };
        assert_eq!(agent(&c).as_deref(), Some("bob"));
    }

    proptest! {
        #[test]
        fn two_names_never_share_a_file(a in "\\PC{0,8}", b in "\\PC{0,8}") {
            prop_assert_eq!(a == b, file_name(&a) == file_name(&b));
        }
    }
}
