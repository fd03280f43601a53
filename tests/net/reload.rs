//! A reload applies the settings that it can, reports those that wait for a restart, and
//! changes nothing if a file is wrong.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::cluster::{Cluster, Node, thimble};
use crate::node::Ended;
use crate::patch::Patch;
use crate::{over, sys, wait};

/// Writes the node's configuration and reloads it.
fn reload(node: &Node) -> Ended {
    node.write_config();
    node.thimble(&["reload"])
}

fn troubles(node: &Node) -> String {
    node.json(&["status"])["troubles"].to_string()
}

#[test]
fn a_reload_applies_what_it_can_and_reports_what_waits_for_a_restart() {
    need_root!();
    let mut cluster = Cluster::new("reload", 1).start();
    let agent = &mut cluster.nodes[1];
    let said = reload(agent).ok();
    assert_eq!(said, "the configuration has not changed\n");

    agent.settings = vec![("node", "nodetype = \"edge\"".into()), ("network", over::WAITS.0.into())];
    agent.timers.insert("rejection_shown_ms", 77_000);
    let said = reload(agent).ok();
    for line in [
        "node.nodetype is edge now (was worker)",
        "timers.rejection_shown_ms is 77000 now (was 60000)",
        &format!("These keys of the configuration have changed and wait for a restart: {}.", over::WAITS.1),
    ] {
        assert!(said.contains(line), "{line:?} is not in: {said}");
        assert!(agent.log().contains(line), "{line:?} is not logged");
    }
    let waits = format!("wait for a restart: {}", over::WAITS.1);
    assert!(troubles(agent).contains(&waits), "{}", troubles(agent));
    wait::until_true("its controller knows", || cluster.host(1)["nodetype"] == "edge");

    let agent = &mut cluster.nodes[1];
    agent.settings.pop();
    reload(agent).ok();
    assert!(!troubles(agent).contains("restart"), "{}", troubles(agent));

    agent.settings.push(("network", over::WAITS.0.into()));
    reload(agent).ok();
    agent.stop();
    agent.start();
    assert!(!troubles(agent).contains("restart"), "{}", troubles(agent));
}

#[test]
fn later_workers_have_the_applied_settings_and_not_those_that_wait() {
    need_root!();
    let mut cluster = Cluster::new("reload-workers", 1);
    // The file of a key that only the first configuration names; it is deleted later.
    let key = cluster.dir.join("gone.pub");
    fs::write(&key, &cluster.signer.public).unwrap();
    cluster.nodes[1].trusted_keys.push(key.display().to_string());
    let mut cluster = cluster.start();
    let agent = &mut cluster.nodes[1];
    agent.trusted_keys.pop();
    let elsewhere = agent.dir.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    agent.settings = vec![
        ("agent", "script_timeout_s = 1".into()),
        ("agent", format!("root = \"{}\" #", elsewhere.display())),
    ];
    agent.write_config();
    // Remove the original line, or the key would be given twice.
    let text = fs::read_to_string(agent.config_file()).unwrap();
    let doubled = format!("root = \"{}\"\n", agent.root().display());
    fs::write(agent.config_file(), text.replace(&doubled, "")).unwrap();
    let said = agent.thimble(&["reload"]).ok();
    fs::remove_file(key).unwrap();
    assert!(said.contains("agent.script_timeout_s is 1 now (was 300)"), "{said}");
    assert!(said.contains("wait for a restart: agent.root."), "{said}");

    let _slow = Patch::new(&cluster, "SLOW-1").file("etc/slow", b"x").script("post-install", "sleep 60");
    let _slow = _slow.applied(&cluster);
    let said = cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(said.contains("took longer than 1000 ms"), "{said}");
    assert!(fs::read_dir(&elsewhere).unwrap().next().is_none(), "the new root was touched");
    assert!(cluster.nodes[1].root().join(".thimble").exists());
}

#[test]
fn a_wrong_file_changes_nothing_and_is_reported_with_file_line_and_reason() {
    need_root!();
    let mut cluster = Cluster::new("reload-wrong", 0).start();
    let node = &mut cluster.nodes[0];
    node.timers.insert("sync_wait_ms", 123);
    node.write_config();
    let good = fs::read_to_string(node.config_file()).unwrap();
    let key = fs::read_to_string(node.key_file()).unwrap();
    let line = |text: &str, of: &str| 1 + text.lines().position(|line| line.starts_with(of)).unwrap();
    let config_line = line(&good, "sync_wait_ms");
    let bad = good.replacen("sync_wait_ms", "sync_wate_ms", 1);
    let cases: [(&str, &str, String); 3] = [
        (
            &bad,
            &key,
            format!(
                "thimble.toml:{config_line}: timers.sync_wate_ms is not known; did you mean sync_wait_ms?"
            ),
        ),
        (&good, "rubbish", "thimble.key:1: this is not TOML".to_owned()),
        (
            &format!("{good}host_lost_ms = 300\n"),
            &key,
            format!("thimble.toml:{}: timers.host_lost_ms: 300 is less than twice", 1 + good.lines().count()),
        ),
    ];
    for (config, keys, expected) in cases {
        fs::write(node.config_file(), config).unwrap();
        fs::write(node.key_file(), keys).unwrap();
        let said = node.thimble(&["reload"]).failed(1);
        assert!(said.contains(&expected) && said.contains("not taken up"), "{expected:?} is not in: {said}");
        assert!(node.log().contains(&expected), "it is not logged");
        assert!(troubles(node).contains(&expected), "{}", troubles(node));
    }
    fs::write(node.config_file(), &good).unwrap();
    fs::write(node.key_file(), &key).unwrap();
    let said = node.thimble(&["reload"]).ok();
    assert_eq!(said, "timers.sync_wait_ms is 123 now (was 5000)\n", "nothing of it was applied before");
    assert!(!troubles(node).contains("taken up"), "{}", troubles(node));
}

#[test]
fn many_reload_signals_end_with_the_last_file() {
    need_root!();
    let mut cluster = Cluster::new("reload-signal", 1).start();
    for most in 0..20 {
        cluster.nodes[1].timers.insert("rejection_shown_ms", 50_000 + most);
        cluster.nodes[1].settings = vec![("node", format!("nodetype = \"kind-{most}\""))];
        cluster.nodes[1].write_config();
        sys::signal(cluster.nodes[1].pid(), libc::SIGHUP).unwrap();
    }
    wait::until_true("the last file holds", || cluster.host(1)["nodetype"] == "kind-19");
    assert_eq!(cluster.nodes[1].json(&["status"])["troubles"], Value::Array(vec![]));
}

#[test]
fn another_nodes_key_file_and_other_groups_are_reported() {
    need_root!();
    let mut cluster = Cluster::new("reload-keys", 1).start();
    let of_stranger = cluster.dir.join("stranger.key");
    let from = cluster.nodes[0].key_file();
    let (from, out) = (from.to_str().unwrap(), of_stranger.to_str().unwrap());
    cluster.thimble(&["keygen", "--node", "stranger", "--from", from, "-o", out]).ok();
    let agent = &mut cluster.nodes[1];
    let own = fs::read(agent.key_file()).unwrap();
    fs::copy(&of_stranger, agent.key_file()).unwrap();
    let said = agent.thimble(&["reload"]).ok();
    assert!(said.contains("wait for a restart: security.key_file, which is another node's."), "{said}");
    fs::write(agent.key_file(), own).unwrap();
    assert_eq!(agent.thimble(&["reload"]).ok(), "the configuration has not changed\n");

    agent.settings = vec![("node", "admin_group = \"nobody-has-this\"".into())];
    let said = reload(agent).failed(1);
    assert!(said.contains("no such group"), "{said}");

    let socket = agent.control_socket();
    let ask_as_nobody = || {
        let ask = || Command::new(thimble()).arg("--socket").arg(&socket).arg("status").output().unwrap();
        sys::as_user(65_534, ask).status.code()
    };
    assert_eq!(ask_as_nobody(), Some(0));
    agent.settings = vec![("node", "query_group = \"root\"".into())];
    reload(agent).ok();
    assert_eq!(ask_as_nobody(), Some(4));
}
