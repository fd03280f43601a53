//! `check-config`: what a start would take from configuration and key file.

use super::exit::Failure;
use super::json::Value;
use super::out::Out;
use super::parse::Invocation;
use crate::config::keys::KeyFile;
use crate::config::{self, Config};

/// `thimble check-config`
pub fn check_config(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let path = invocation.config();
    let config = Config::load(path)?;
    let keys = match &config.security.key_file {
        Some(path) => Some(KeyFile::load(path, config.node.is_controller)?),
        None => None,
    };
    let (effective, warnings) = (effective(&config, keys.as_ref()), warnings(&config));
    out.line(format_args!("OK: {}", path.display()))?;
    for warning in &warnings {
        out.line(format_args!("WARNING: {warning}"))?;
    }
    for (key, value) in &effective {
        out.line(format_args!("{key:<28} {value}"))?;
    }
    out.json(|| {
        Value::object([
            ("config", Value::text(path.display())),
            ("ok", true.into()),
            ("warnings", Value::list(warnings.iter().map(Value::text))),
            ("effective", Value::object(effective.into_iter().map(|(key, value)| (key, Value::Text(value))))),
        ])
    })?;
    Ok(())
}

/// What is allowed and yet likely not meant.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let interfaces = config::interfaces();
    if !interfaces.contains(&config.network.interface) {
        warnings.push(format!(
            "this machine has no interface {} now; it has {}",
            config.network.interface,
            interfaces.join(", ")
        ));
    }
    if config.security.is_unauthenticated {
        warnings.push("auth = \"none\": whoever is on the network can command this node".to_owned());
    }
    warnings
}

/// All that holds, defaults included, by key.
fn effective(config: &Config, keys: Option<&KeyFile>) -> Vec<(&'static str, String)> {
    let Config { node, network, security, controller, agent, timers } = config;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    let roles = [(node.is_controller, "controller"), (node.is_agent, "agent")];
    let roles: Vec<&str> = roles.into_iter().filter_map(|(has, role)| has.then_some(role)).collect();
    let mut rows = vec![
        ("node.roles", roles.join(", ")),
        ("node.hostname", node.hostname.to_string()),
        ("node.nodetype", node.nodetype.to_string()),
    ];
    if !node.sw_version.is_empty() {
        rows.push(("node.sw_version", node.sw_version.to_string()));
    }
    rows.extend([
        ("node.state_dir", node.state_dir.display().to_string()),
        ("node.control_socket", node.control_socket.display().to_string()),
        (
            "node.query_group",
            node.query_group.clone().unwrap_or_else(|| "none: everybody may ask".to_owned()),
        ),
        ("node.admin_group", node.admin_group.clone().unwrap_or_else(|| "none: root alone".to_owned())),
        ("network.interface", network.interface.clone()),
        (
            "network.controller_group",
            format!("{} port {}", network.controller_group, network.controller_port),
        ),
        ("network.agent_group", format!("{} port {}", network.agent_group, network.agent_port)),
        ("network.ttl", network.ttl.to_string()),
    ]);
    if let (Some(path), Some(keys)) = (&security.key_file, keys) {
        rows.push(("security.key_file", path.display().to_string()));
        rows.push(("  cluster", keys.cluster.to_string()));
        rows.push(("  node id", keys.node.to_string()));
        rows.push(("  sends with slot", keys.send_slot.to_string()));
    }
    rows.push(("security.trusted_keys", security.trusted_keys.join(", ")));
    if !security.revoked.is_empty() {
        let revoked: Vec<String> = security.revoked.iter().map(ToString::to_string).collect();
        rows.push(("security.revoked", revoked.join(", ")));
    }
    let least = security.min_sw_version.as_ref().map(ToString::to_string);
    rows.push(("security.min_sw_version", or_none(least)));
    if node.is_controller {
        rows.push(("controller.max_hosts", controller.max_hosts.to_string()));
    }
    if node.is_agent {
        let lock_file = agent.lock_file.as_ref().map(|path| path.display().to_string());
        rows.extend([
            ("agent.root", agent.root.display().to_string()),
            ("agent.lock_file", or_none(lock_file)),
            ("agent.script_timeout_s", (agent.script_timeout_ms / 1000).to_string()),
            ("agent.reserve_bytes", agent.reserve_bytes.to_string()),
        ]);
    }
    rows.extend([
        ("timers.hello_interval_ms", timers.hello_interval_ms.to_string()),
        ("timers.hello_start_ms", timers.hello_start_ms.to_string()),
        ("timers.controller_lost_ms", timers.controller_lost_ms.to_string()),
        ("timers.sync_retry_ms", timers.sync_retry_ms.to_string()),
        ("timers.sync_wait_ms", timers.sync_wait_ms.to_string()),
        ("timers.host_lost_ms", timers.host_lost_ms.to_string()),
        ("timers.query_timeout_ms", timers.query_timeout_ms.to_string()),
        ("timers.install_retry_ms", timers.install_retry_ms.to_string()),
        ("timers.install_give_up_ms", timers.install_give_up_ms.to_string()),
        ("timers.rejection_shown_ms", timers.rejection_shown_ms.to_string()),
        ("timers.session_proof_ms", timers.session_proof_ms.to_string()),
        ("timers.session_idle_ms", timers.session_idle_ms.to_string()),
    ]);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_without_keys_and_an_absent_interface_are_warned_about() {
        let text = "[node]\nroles = [\"controller\"]\nhostname = \"c\"\n[network]\ninterface = \"nope0\"\n\
                    [security]\nauth = \"none\"\n\
                    trusted_keys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]\n";
        let config = Config::parse(text, "t").unwrap();
        let warnings = warnings(&config);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("this machine has no interface nope0 now; it has "));
        let rows = effective(&config, None);
        assert!(rows.contains(&("controller.max_hosts", "1024".to_owned())));
        assert!(rows.iter().all(|(key, _)| !key.starts_with("agent.")));
    }
}
