//! Networks of a container: what was found, taking it off them, and the way back.

use std::collections::BTreeMap;

use bollard::models::{
    ContainerInspectResponse, EndpointIpamConfig, EndpointSettings, NetworkConnectRequest,
    NetworkDisconnectRequest,
};
use serde::{Deserialize, Serialize};

use super::{Engine, Failure, PauseFailure};
use crate::courier::wire::ReleaseReport;

/// Restart policy and networks of a container as they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// `no`, `always`, `unless-stopped`, `on-failure`; `None` when Docker did not say.
    pub restart_policy: Option<String>,
    /// Retries of `on-failure`.
    pub restart_retries: i64,
    /// Network mode (`bridge`, `host`, `container:…`, a network's name).
    pub network_mode: Option<String>,
    /// Networks by name.
    pub networks: BTreeMap<String, Endpoint>,
}

/// What came of taking a container off its networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Networks that it was taken off.
    pub networks: Vec<String>,
    /// Networks that it was left in, and why.
    #[serde(default)]
    pub kept: Vec<(String, String)>,
    /// Why it cannot be taken off anything: it has no network of its own.
    #[serde(default)]
    pub impossible: Option<String>,
}

impl Cut {
    /// In words.
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        if !self.networks.is_empty() {
            parts.push(format!("off {}", self.networks.join(", ")));
        }
        parts.extend(
            self.kept
                .iter()
                .map(|(name, why)| format!("left in {name}: {why}")),
        );
        parts.extend(self.impossible.clone());
        if parts.is_empty() {
            parts.push("it is in no network".into());
        }
        parts.join("; ")
    }
}

/// A place in a network, as far as it can be asked for again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Id of the network.
    pub network_id: Option<String>,
    /// Addresses that were asked for (not those that were merely given); Docker tells "none asked for" (`{}`) from "nothing
    /// said" (`null`), here and below, and so do we, for the way back is to be exact.
    pub addresses: Option<Addresses>,
    /// Aliases that were asked for.
    pub aliases: Option<Vec<String>>,
    /// Links.
    pub links: Option<Vec<String>>,
    /// Options of the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Which network gives the default route.
    pub gateway_priority: Option<i64>,
    /// The IPv4 address that it had, asked for or not.
    #[serde(default)]
    pub address: Option<String>,
}

/// Addresses that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Addresses {
    pub ipv4: Option<String>,
    pub ipv6: Option<String>,
    pub link_local: Option<Vec<String>>,
}

impl Engine {
    /// Takes a container off its networks, also one that is paused. What it was found in and would not come back exactly is left
    /// when `exact_only` is said; a network that it was not found in (somebody connected it since) is always taken away. Asked
    /// again it does what is left to do.
    ///
    /// # Errors
    /// [`PauseFailure`]; some networks may be cut by then.
    pub async fn cut(&self, id: &str, exact_only: bool, was: &Before) -> Result<Cut, PauseFailure> {
        let now = before(&self.look(id).await?);
        let mode = now.network_mode.as_deref().unwrap_or_default();
        if let Some(why) = impossible(mode) {
            return Ok(Cut {
                impossible: Some(why),
                ..Cut::default()
            });
        }
        let mut cut = Cut::default();
        for (name, endpoint) in &now.networks {
            // Docker's word for having none.
            if name == "none" {
                continue;
            }
            if exact_only && was.networks.contains_key(name) && !endpoint.is_exact() {
                let why = "its address there was given, not asked for, and might be another one afterwards";
                cut.kept.push((name.clone(), why.into()));
                continue;
            }
            let request = NetworkDisconnectRequest {
                container: id.to_owned(),
                force: Some(false),
            };
            let call = self.docker.disconnect_network(name, request);
            match self.call("network disconnect", call).await {
                Ok(()) => {}
                // Somebody was quicker, or the answer of an earlier try was lost: what counts is what is.
                Err(failure) => {
                    let now = before(&self.look(id).await?);
                    if now.networks.contains_key(name) {
                        return Err(explain(name, failure));
                    }
                }
            }
            cut.networks.push(name.clone());
        }
        // Cut by an earlier try that came to no end.
        let gone = |n: &&String| *n != "none" && !now.networks.contains_key(*n);
        cut.networks
            .extend(was.networks.keys().filter(gone).cloned());
        cut.networks.sort();
        Ok(cut)
    }

    /// Connects it again to the networks in which it was found.
    pub(super) async fn restore_networks(
        &self,
        id: &str,
        was: &Before,
        now: &Before,
        report: &mut ReleaseReport,
    ) {
        let mut connected = Vec::new();
        for (name, endpoint) in was
            .networks
            .iter()
            .filter(|(name, _)| !now.networks.contains_key(*name))
        {
            let request = NetworkConnectRequest {
                container: id.to_owned(),
                endpoint_config: Some(endpoint.settings()),
            };
            match self
                .call(
                    "network connect",
                    self.docker.connect_network(name, request),
                )
                .await
            {
                Ok(()) => {
                    report.said.push(format!("network {name} connected again"));
                    connected.push(name);
                }
                Err(failure) => {
                    report.complete = false;
                    report
                        .said
                        .push(format!("network {name} not connected: {failure}"));
                }
            }
        }
        if was
            .networks
            .keys()
            .all(|name| now.networks.contains_key(name))
        {
            report.said.push("networks are as they were".into());
        }
        // Where no address was asked for, Docker gives the next free one.
        if connected.is_empty() {
            return;
        }
        let Ok(found) = self.look(id).await else {
            return;
        };
        let now = before(&found);
        for name in connected {
            let address = |b: &Before| b.networks.get(name).and_then(|e| e.address.clone());
            if let (Some(old), Some(new)) = (address(was), address(&now))
                && old != new
            {
                report
                    .said
                    .push(format!("its address in {name} is {new} now, it was {old}"));
            }
        }
    }
}

/// Why a container of this network mode cannot be taken off the network; `None` when it has a network of its own.
fn impossible(mode: &str) -> Option<String> {
    if mode == "host" {
        return Some("it uses the host's own network, off which Docker cannot take it".into());
    }
    let other = mode.strip_prefix("container:")?;
    let other = other.get(..12).unwrap_or(other);
    Some(format!(
        "it uses the network of container {other}, off which Docker cannot take it alone"
    ))
}

fn explain(network: &str, failure: Failure) -> PauseFailure {
    match failure {
        Failure::Said(status, why) if status != 404 => PauseFailure::Refused {
            why: format!("network {network}: {why}"),
        },
        other => other.into(),
    }
}

pub(super) fn before(found: &ContainerInspectResponse) -> Before {
    let host = found.host_config.as_ref();
    let restart = host.and_then(|h| h.restart_policy.as_ref());
    let policy = restart.and_then(|r| r.name).map(|n| n.to_string());
    let id = found.id.as_deref().unwrap_or_default();
    let networks = found
        .network_settings
        .as_ref()
        .and_then(|n| n.networks.as_ref());
    Before {
        // Docker writes the empty word for "no" in containers of old clients.
        restart_policy: policy.map(|p| if p.is_empty() { "no".to_owned() } else { p }),
        restart_retries: restart.and_then(|r| r.maximum_retry_count).unwrap_or(0),
        network_mode: host.and_then(|h| h.network_mode.clone()),
        networks: networks
            .into_iter()
            .flatten()
            .map(|(name, settings)| (name.clone(), Endpoint::from_settings(settings, id)))
            .collect(),
    }
}

impl Endpoint {
    fn from_settings(settings: &EndpointSettings, container_id: &str) -> Self {
        let set = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
        // Older engines list the container's short id among the aliases, and add it again by themselves.
        let own = |a: &String| a.len() >= 12 && container_id.starts_with(a.as_str());
        Self {
            network_id: set(&settings.network_id),
            addresses: settings.ipam_config.as_ref().map(|i| Addresses {
                ipv4: set(&i.ipv4_address),
                ipv6: set(&i.ipv6_address),
                link_local: i.link_local_ips.clone(),
            }),
            aliases: settings
                .aliases
                .as_ref()
                .map(|all| all.iter().filter(|a| !own(a)).cloned().collect()),
            links: settings.links.clone(),
            driver_opts: settings
                .driver_opts
                .clone()
                .map(|o| o.into_iter().collect()),
            gateway_priority: settings.gw_priority,
            address: set(&settings.ip_address),
        }
    }

    /// Will a release bring it back to the last digit? An address that was asked for says so, for Docker takes one only in a
    /// network that was made with a subnet of its own; else Docker gives the next free one.
    fn is_exact(&self) -> bool {
        self.addresses
            .as_ref()
            .is_some_and(|a| a.ipv4.is_some() || a.ipv6.is_some())
    }

    fn settings(&self) -> EndpointSettings {
        EndpointSettings {
            ipam_config: self.addresses.as_ref().map(|a| EndpointIpamConfig {
                ipv4_address: a.ipv4.clone(),
                ipv6_address: a.ipv6.clone(),
                link_local_ips: a.link_local.clone(),
            }),
            aliases: self.aliases.clone(),
            links: self.links.clone(),
            driver_opts: self.driver_opts.clone().map(|o| o.into_iter().collect()),
            gw_priority: self.gateway_priority,
            ..EndpointSettings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_network_of_its_own_can_be_cut() {
        assert!(impossible("host").is_some_and(|w| w.contains("host's own")));
        let other = format!("container:{}", "ab".repeat(32));
        assert!(impossible(&other).is_some_and(|w| w.contains("container abababababab,")));
        for mode in ["bridge", "default", "none", "agents", "hosted", ""] {
            assert_eq!(impossible(mode), None, "{mode}");
        }
    }

    #[test]
    fn an_endpoint_comes_back_exactly_when_its_address_was_asked_for() {
        let with = |addresses| Endpoint {
            addresses,
            ..Endpoint::default()
        };
        let fixed = Addresses {
            ipv4: Some("10.1.2.3".into()),
            ..Addresses::default()
        };
        assert!(with(Some(fixed)).is_exact());
        assert!(!with(Some(Addresses::default())).is_exact());
        assert!(!with(None).is_exact());
    }

    #[test]
    fn what_came_of_a_cut_is_said() {
        let cut = Cut {
            networks: vec!["a".into(), "b".into()],
            kept: vec![("c".into(), "why".into())],
            impossible: None,
        };
        assert_eq!(cut.words(), "off a, b; left in c: why");
        assert_eq!(Cut::default().words(), "it is in no network");
    }
}
