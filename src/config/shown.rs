//! A configuration as a list of keys and values, for `check-config` and to compare two
//! configurations at a reload.

use super::{Config, RELABEL};

/// A key that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: &'static str,
    /// The old value.
    pub old: String,
    /// The new value.
    pub new: String,
}

impl Config {
    /// All values in effect, defaults included, by key. Keys of roles that the node does
    /// not have, and of the other transport, are left out.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let Self { node, network, security, controller, agent, timers } = self;
        let roles = [(node.is_controller, "controller"), (node.is_agent, "agent")];
        let roles: Vec<&str> = roles.into_iter().filter_map(|(has, role)| has.then_some(role)).collect();
        let or = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.to_owned());
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let auth = if security.is_unauthenticated { "none" } else { "keys" };
        let revoked: Vec<String> = security.revoked.iter().map(ToString::to_string).collect();
        let mut rows = vec![
            ("node.roles", roles.join(", ")),
            ("node.hostname", node.hostname.to_string()),
            ("node.nodetype", node.nodetype.to_string()),
            ("node.sw_version", node.sw_version.to_string()),
            ("node.state_dir", node.state_dir.display().to_string()),
            ("node.control_socket", node.control_socket.display().to_string()),
            ("node.installer_socket", node.installer_socket.display().to_string()),
            ("node.query_group", or(node.query_group.clone(), "none: every user may query")),
            ("node.admin_group", or(node.admin_group.clone(), "none: only root")),
        ];
        if cfg!(feature = "tipc") {
            rows.push(("network.service_type", network.service_type.to_string()));
        } else {
            rows.extend([
                (network.interface_key(), network.interfaces.join(", ")),
                ("network.controller_group", network.controller_group.to_string()),
                ("network.controller_port", network.controller_port.to_string()),
                ("network.agent_group", network.agent_group.to_string()),
                ("network.agent_port", network.agent_port.to_string()),
                (
                    "network.families",
                    network.families.iter().map(|of| of.as_str()).collect::<Vec<_>>().join(", "),
                ),
                ("network.controller_group6", network.controller_group6.to_string()),
                ("network.agent_group6", network.agent_group6.to_string()),
                ("network.spread_group", network.spread_group.to_string()),
                ("network.spread_group6", network.spread_group6.to_string()),
                ("network.spread_port", network.spread_port.to_string()),
                ("network.ttl", network.ttl.to_string()),
                ("network.multicast", network.is_multicast.to_string()),
                (
                    "network.peers",
                    network.peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                ),
            ]);
        }
        rows.extend([
            ("security.auth", auth.to_owned()),
            ("security.key_file", or(path(&security.key_file), "none")),
            ("security.trusted_keys", security.trusted_keys.join(", ")),
            ("security.revoked", revoked.join(", ")),
            (
                "security.min_sw_version",
                or(security.min_sw_version.as_ref().map(ToString::to_string), "none"),
            ),
        ]);
        let numbers = |numbers: &[(&'static str, u64)]| -> Vec<(&'static str, String)> {
            numbers.iter().map(|(key, number)| (*key, number.to_string())).collect()
        };
        if node.is_controller {
            rows.extend(numbers(&[
                ("controller.max_hosts", controller.max_hosts as u64),
                ("controller.spread_kbit_s", controller.spread_rate * 8 / 1_000),
                ("controller.spread_least_bytes", controller.spread_least_bytes),
            ]));
        }
        if node.is_agent {
            rows.extend([
                ("agent.root", agent.root.display().to_string()),
                ("agent.lock_file", or(path(&agent.lock_file), "none")),
            ]);
            rows.extend(numbers(&[
                ("agent.script_timeout_s", agent.script_timeout_ms / 1_000),
                ("agent.reserve_bytes", agent.reserve_bytes),
                ("agent.spread_cache_bytes", agent.spread_cache_bytes),
            ]));
            let relabel = match &agent.relabel {
                Some(words) if words.is_empty() => "none".to_owned(),
                Some(words) => words.join(" "),
                None => format!("{}, where SELinux is in use", RELABEL.join(" ")),
            };
            rows.push(("agent.relabel", relabel));
        }
        rows.extend(numbers(&[
            ("timers.hello_interval_ms", timers.hello_interval_ms),
            ("timers.probe_ms", timers.probe_ms),
            ("timers.hello_start_ms", timers.hello_start_ms),
            ("timers.controller_lost_ms", timers.controller_lost_ms),
            ("timers.sync_retry_ms", timers.sync_retry_ms),
            ("timers.sync_wait_ms", timers.sync_wait_ms),
            ("timers.host_lost_ms", timers.host_lost_ms),
            ("timers.query_timeout_ms", timers.query_timeout_ms),
            ("timers.install_retry_ms", timers.install_retry_ms),
            ("timers.install_give_up_ms", timers.install_give_up_ms),
            ("timers.rejection_shown_ms", timers.rejection_shown_ms),
            ("timers.session_proof_ms", timers.session_proof_ms),
            ("timers.session_idle_ms", timers.session_idle_ms),
        ]));
        rows
    }

    /// The keys whose values differ in `new`.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let (old, new) = (self.shown(), new.shown());
        let value = |rows: &[(&'static str, String)], key| {
            rows.iter().find(|(of, _)| *of == key).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let mut keys: Vec<&'static str> = old.iter().chain(&new).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        let both = keys.into_iter().map(|key| (key, value(&old, key), value(&new, key)));
        both.filter(|(_, old, new)| old != new).map(|(key, old, new)| Difference { key, old, new }).collect()
    }

    /// The configuration in effect after a daemon with this configuration has reloaded
    /// `new`: `new`, except for the values that only a start can change, because tables
    /// are allocated, sockets are open and files are in place.
    #[must_use]
    pub fn renewed(&self, mut new: Self) -> Self {
        let Self { node, network, security, controller, agent, .. } = self.clone();
        if (new.node.is_controller, new.node.is_agent) != (node.is_controller, node.is_agent) {
            // The new values are meant for other roles.
            (new.node.nodetype, new.node.sw_version) = (node.nodetype, node.sw_version);
        }
        (new.node.is_controller, new.node.is_agent) = (node.is_controller, node.is_agent);
        new.node.state_dir = node.state_dir;
        new.node.control_socket = node.control_socket;
        new.node.installer_socket = node.installer_socket;
        new.network = network;
        if new.security.is_unauthenticated != security.is_unauthenticated {
            new.security.key_file = security.key_file;
            new.security.is_unauthenticated = security.is_unauthenticated;
        }
        new.controller.max_hosts = controller.max_hosts;
        new.agent.root = agent.root;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    fn config(node: &str, rest: &str) -> Config {
        let text = format!(
            "[node]\nroles = [\"agent\"]\nhostname = \"h\"\nsw_version = \"1\"\n{node}\n\
             [security]\nkey_file = \"/k\"\ntrusted_keys = [\"{KEY}\"]\n{rest}\n"
        );
        let network = if rest.contains("[network]") { "" } else { "[network]\ninterface = \"i\"\n" };
        Config::parse(&(text + network), "t").unwrap()
    }

    #[test]
    fn what_differs_is_named_and_what_needs_a_restart_stays_as_it_was() {
        let old = config("", "");
        assert_eq!(old.differences(&old), []);
        let new = config(
            "state_dir = \"/elsewhere\"\nnodetype = \"edge\"",
            "[agent]\nroot = \"/r\"\nscript_timeout_s = 7\n[network]\ninterface = \"i\"\nttl = 9\nservice_type = 99",
        );
        let held = old.renewed(new.clone());
        let keys = |a: &Config, b: &Config| a.differences(b).iter().map(|one| one.key).collect::<Vec<_>>();
        assert_eq!(keys(&old, &held), ["agent.script_timeout_s", "node.nodetype"]);
        assert_eq!(
            keys(&held, &new),
            [
                "agent.root",
                if cfg!(feature = "tipc") { "network.service_type" } else { "network.ttl" },
                "node.state_dir"
            ]
        );
        assert_eq!(keys(&held, &old), keys(&old, &held), "going back needs no restart");
    }
}
