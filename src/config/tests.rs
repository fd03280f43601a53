//! What a configuration may contain, and the errors for what it may not.

use std::fs;

use super::*;

const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// A valid configuration of an agent.
fn good() -> String {
    format!(
        "[node]\nroles = [\"agent\"]\nsw_version = \"24.09\"\nhostname = \"worker-0\"\n\
         [network]\ninterface = \"lo\"\n\
         [security]\nkey_file = \"/etc/thimble/node.key\"\ntrusted_keys = [\"{KEY}\"]\n"
    )
}

/// The error for an invalid configuration.
fn complaint(text: &str) -> String {
    Config::parse(text, "thimble.toml").unwrap_err().to_string()
}

#[test]
fn a_minimal_agent_gets_the_documented_defaults() {
    let config = Config::parse(&good(), "thimble.toml").unwrap();
    assert!(config.node.is_agent && !config.node.is_controller);
    assert_eq!(config.node.state_dir, Path::new("/var/lib/thimble"));
    assert_eq!(config.node.control_socket, Path::new("/run/thimble/control.sock"));
    assert_eq!(config.node.hostname.as_str(), "worker-0");
    assert_eq!(config.node.nodetype.as_str(), "worker");
    assert_eq!(config.node.sw_version.as_str(), "24.09");
    assert_eq!(config.node.query_group, None);
    assert_eq!(config.network.controller_group, Ipv4Addr::new(239, 255, 84, 72));
    assert_eq!((config.network.controller_port, config.network.agent_port), (7488, 7489));
    assert_eq!(config.network.families, [Family::V4]);
    assert_eq!(config.network.controller_group6.to_string(), "ff15::54:48");
    assert!(config.network.is_multicast && config.network.peers.is_empty());
    assert_eq!((config.network.ttl, config.network.service_type), (1, 7488));
    assert_eq!(config.security.key_file.as_deref(), Some(Path::new("/etc/thimble/node.key")));
    assert_eq!(config.security.trusted_keys, [KEY]);
    assert_eq!(config.controller.max_hosts, 1024);
    assert_eq!(config.agent.script_timeout_ms, 300_000);
    assert_eq!(config.agent.reserve_bytes, 1024 * 1024);
    assert_eq!(config.agent.relabel, None);
    let off = Config::parse(&(good() + "\n[agent]\nrelabel = []\n"), "t").unwrap();
    assert_eq!(off.agent.relabel.as_deref(), Some(&[][..]));
    assert_eq!(config.timers, Timers::default());
}

#[test]
fn every_key_is_accepted() {
    let text = format!(
        r#"
        [node]
        roles = ["controller", "agent"]
        state_dir = "/s"
        control_socket = "/c"
        query_group = "users"
        admin_group = "adm"
        hostname = "controller-0"
        nodetype = "storage"
        sw_version = "24.09"
        [network]
        interface = "eth7"
        controller_group = "239.9.9.9"
        controller_port = 1000
        agent_group = "239.9.9.10"
        agent_port = 0x3e9
        ttl = 32
        [security]
        auth = "none"
        trusted_keys = ["{KEY}"]
        revoked = ["00000000000000ff"]
        min_sw_version = "24.03"
        [controller]
        max_hosts = 16384
        [agent]
        root = "/mnt"
        lock_file = "/var/run/.node_locked"
        script_timeout_s = 2
        reserve_bytes = 0
        relabel = ["/sbin/setfiles", "-0"]
        [timers]
        hello_interval_ms = 100
        probe_ms = 60
        host_lost_ms = 1000
        query_timeout_ms = 50
        install_retry_ms = 20
        install_give_up_ms = 2_000
        rejection_shown_ms = 10
        session_proof_ms = 30
        session_idle_ms = 40
        "#
    );
    let config = Config::parse(&text, "thimble.toml").unwrap();
    assert!(config.node.is_agent && config.node.is_controller);
    assert_eq!(config.node.admin_group.as_deref(), Some("adm"));
    assert_eq!(config.node.nodetype.as_str(), "storage");
    assert_eq!((config.network.controller_port, config.network.agent_port), (1000, 1001));
    assert!(config.security.is_unauthenticated && config.security.key_file.is_none());
    assert_eq!(config.security.revoked, [NodeId(0xff)]);
    assert_eq!(config.security.min_sw_version.unwrap().as_str(), "24.03");
    assert_eq!(config.controller.max_hosts, 16384);
    assert_eq!(config.agent.lock_file.as_deref(), Some(Path::new("/var/run/.node_locked")));
    assert_eq!(config.agent.script_timeout_ms, 2_000);
    assert_eq!(config.agent.relabel.unwrap(), ["/sbin/setfiles", "-0"]);
    assert_eq!((config.timers.install_give_up_ms, config.timers.session_idle_ms), (2_000, 40));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let text = good().replace("interface =", "interfacs =");
    assert_eq!(complaint(&text), "thimble.toml:6: network.interfacs is not known; did you mean interface?");
    let text = good().replace("[network]", "[netwrok]");
    assert_eq!(complaint(&text), "thimble.toml:5: netwrok is not known; did you mean network?");
    let text = good().replace("[network]", "[network]\ncolour = 1");
    let there_are = "there are interface, interfaces, controller_group, controller_port, agent_group, agent_port, families, \
         controller_group6, agent_group6, spread_group, spread_group6, spread_port, ttl, multicast, peers, service_type";
    assert_eq!(complaint(&text), format!("thimble.toml:6: network.colour is not known; {there_are}"));
}

#[test]
fn a_value_out_of_range_is_shown_with_what_is_accepted() {
    let network = |line: &str| complaint(&good().replace("[network]", &format!("[network]\n{line}")));
    let whole = "it takes a whole number from 1 to 255";
    assert_eq!(network("ttl = 300"), format!("thimble.toml:6: network.ttl cannot be 300; {whole}"));
    assert_eq!(network("ttl = -1"), format!("thimble.toml:6: network.ttl cannot be -1; {whole}"));
    assert_eq!(network("ttl = \"1\""), format!("thimble.toml:6: network.ttl cannot be \"1\"; {whole}"));
    let text = format!("{}[controller]\nmax_hosts = 16385\n", good());
    assert!(complaint(&text).ends_with("cannot be 16385; it takes a whole number from 1 to 16384"));
    let text = format!("{}[timers]\nsession_idle_ms = 4\n", good());
    assert!(complaint(&text).contains("timers.session_idle_ms cannot be 4"), "{}", complaint(&text));
    let text = good().replace("worker-0", "worker 0");
    assert!(complaint(&text).starts_with("thimble.toml:4: node.hostname cannot be \"worker 0\""));
    let text = good().replace("\"/etc/thimble/node.key\"", "\"node.key\"");
    assert!(complaint(&text).ends_with("cannot be \"node.key\"; it takes an absolute path"));
    assert!(complaint("node = 5").contains("it takes keys of its own, below a line [node]"));
}

#[test]
fn invalid_toml_is_refused_with_its_line() {
    let text = good().replace("interface = \"lo\"", "interface = lo");
    assert!(complaint(&text).starts_with("thimble.toml:6: this is not TOML: "), "{}", complaint(&text));
}

#[test]
fn a_missing_interface_is_an_error_over_udp_and_not_over_tipc() {
    if cfg!(feature = "tipc") {
        let config = Config::parse(&good().replace("interface = \"lo\"\n", ""), "t").unwrap();
        assert_eq!((config.network.interfaces.len(), config.network.service_type), (0, 7488));
        return;
    }
    let text = good().replace("interface = \"lo\"\n", "");
    let message = complaint(&text);
    let names = interfaces().join(", ");
    assert!(message.starts_with("thimble.toml: network.interface is missing"), "{message}");
    assert!(interfaces().contains(&"lo".to_owned()) && message.ends_with(&names), "{message}");
}

#[test]
fn groups_are_multicast_not_starlingx_s_and_differ() {
    let network = |line: &str| complaint(&good().replace("[network]", &format!("[network]\n{line}")));
    assert!(network("agent_group = \"239.1.1.4\"").contains("belongs to StarlingX"));
    assert!(network("controller_group = \"239.1.1.3\"").contains("belongs to StarlingX"));
    assert!(network("agent_group = \"10.0.0.1\"").contains("it takes a multicast address"));
    assert!(network("agent_group = \"224.0.0.5\"").contains("it takes a multicast address"));
    for group in ["239.255.84.72", "fd00::1", "ff01::5448", "ff02::1", "ff05::2"] {
        let said = network(&format!("agent_group6 = \"{group}\""));
        assert!(said.contains("it takes a multicast address of the link or wider"), "{said}");
    }
    assert!(network("agent_group6 = \"ff15::54:48\"").contains("the two must differ"));
    assert!(network("families = []").contains("it takes [\"ipv4\"], [\"ipv6\"] or both"));
    assert!(
        network("families = [\"ip\"]").contains("it takes a list of at most 2, each \"ipv4\" or \"ipv6\"")
    );
    assert!(
        network("peers = [\"10.0.0\"]").contains("it takes a list of at most 16, each an address or a name")
    );
    assert!(network("peers = [\"fd00::1\"]").contains("is not reached without \"ipv6\" in network.families"));
    let said = network("peers = [\"255.255.255.255\"]");
    assert!(said.contains("255.255.255.255 is the broadcast address; list each node by its own"), "{said}");
    let said = network("families = [\"ipv6\"]\npeers = [\"fe80::1%other0\"]");
    assert!(said.contains("fe80::1%other0 is on the interface other0, but thimble serves "), "{said}");
    assert!(network("agent_group = \"239.255.84.72\"").contains("the two must differ"));
    assert!(network("service_type = 63").contains("it takes a whole number from 64 to 4294967291"));
    assert!(network("agent_port = 7488").contains("the two must differ"));
}

#[test]
fn sw_version_is_required_of_an_agent_and_not_of_a_controller() {
    let text = good().replace("sw_version = \"24.09\"\n", "");
    assert!(complaint(&text).contains("node.sw_version is missing"));
    let config = Config::parse(&text.replace("agent", "controller"), "thimble.toml").unwrap();
    assert!(config.node.sw_version.is_empty());
    assert_eq!(config.node.nodetype.as_str(), "controller");
    assert!(complaint(&text.replace("[\"agent\"]", "[]")).contains("node.roles cannot be []; it takes"));
}

#[test]
fn a_key_file_is_required_unless_authentication_is_off() {
    let without = good().replace("key_file = \"/etc/thimble/node.key\"\n", "");
    assert!(complaint(&without).contains("security.key_file is missing"));
    let lab = without.replace("[security]", "[security]\nauth = \"none\"");
    assert!(Config::parse(&lab, "thimble.toml").unwrap().security.is_unauthenticated);
    let both = good().replace("[security]", "[security]\nauth = \"none\"");
    assert!(complaint(&both).starts_with("thimble.toml:8: security.auth: auth = \"none\" uses no key file"));
}

#[test]
fn a_trusted_key_is_a_base64_line_or_the_path_of_a_pub_file() {
    let broken = complaint(&good().replace(KEY, "RWQbroken"));
    let expected = "thimble.toml:9: security.trusted_keys: RWQbroken is neither a minisign public key";
    assert!(broken.starts_with(expected), "{broken}");
    let none = good().replace(&format!("\"{KEY}\""), "");
    assert!(complaint(&none).contains("security.trusted_keys cannot be []"), "{}", complaint(&none));

    let path = std::env::temp_dir().join(format!("thimble-trusted-{}.pub", std::process::id()));
    fs::write(&path, format!("untrusted comment: minisign public key\n{KEY}\n")).unwrap();
    let config = Config::parse(&good().replace(KEY, path.to_str().unwrap()), "thimble.toml").unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(config.security.trusted_keys, [KEY]);
    let gone = complaint(&good().replace(KEY, path.to_str().unwrap()));
    assert!(gone.contains(".pub cannot be read: No such file"), "{gone}");
    let relative = complaint(&good().replace(KEY, "maker.pub"));
    assert!(relative.contains("maker.pub looks like a key's file: it must exist"), "{relative}");
}

#[test]
fn timers_leave_room_for_one_lost_datagram() {
    let text = format!("{}[timers]\nhello_interval_ms = 100\nhost_lost_ms = 199\n", good());
    assert!(complaint(&text).contains("timers.host_lost_ms: 199 is less than twice hello_interval_ms, 100"));
}

#[test]
fn the_control_socket_is_found_in_a_configuration_that_is_wrong_elsewhere() {
    let path = std::env::temp_dir().join(format!("thimble-socket-{}.toml", std::process::id()));
    assert!(
        control_socket(&path).unwrap_err().to_string().contains("there is no such configuration: write it")
    );
    fs::write(&path, "").unwrap();
    assert_eq!(control_socket(&path).unwrap(), Path::new("/run/thimble/control.sock"));
    fs::write(&path, "[node]\ncontrol_socket = \"/tmp/c\"\n[network]\nttl = 0\n").unwrap();
    let socket = control_socket(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(socket.unwrap(), Path::new("/tmp/c"));
}

#[test]
fn each_error_names_the_line_the_key_and_what_is_accepted() {
    let good = "[node]\nroles = [\"controller\", \"agent\"]\nhostname = \"h\"\nsw_version = \"1\"\n\
                [network]\ninterface = \"lo\"\n\
                [security]\nkey_file = \"/k\"\ntrusted_keys = [\"KEY\"]\n\
                [agent]\nscript_timeout_s = 5\n[timers]\nhello_interval_ms = 30000\n"
        .replace("KEY", KEY);
    assert!(Config::parse(&good, "t").is_ok());
    let roles = "[\"controller\", \"agent\"]";
    let cases = [
        (roles, "\"agent\"", "t:2: node.roles cannot be \"agent\"; it takes a list of at most 2, each"),
        (roles, "[\"agnt\"]", "t:2: node.roles cannot be \"agnt\""),
        (roles, "[]", "t:2: node.roles cannot be []; it takes [\"controller\"], [\"agent\"] or both"),
        ("roles", "rolls", "t:2: node.rolls is not known; did you mean roles?"),
        ("[timers]", "[timer]", "t:12: timer is not known; did you mean timers?"),
        ("\"lo\"", "7", "t:6: network.interface cannot be 7; it takes the name of a network interface"),
        ("\"lo\"", "\"lo\"\nttl = 0", "t:7: network.ttl cannot be 0; it takes a whole number from 1 to 255"),
        ("\"lo\"", "\"lo\"\nagent_port = 7488", "t:7: network.agent_port: the controllers' port is the same"),
        (
            "\"lo\"",
            "\"lo\"\ncontroller_port = 7489",
            "t:7: network.agent_port: the controllers' port is the same",
        ),
        ("= 5", "= 0", "t:11: agent.script_timeout_s cannot be 0; it takes a whole number from 1 to 86400"),
        ("= 5", "= 5\nrelabel = [\"\"]", "t:12: agent.relabel cannot be \"\"; it takes a list of at most 32"),
        ("script_timeout_s", "script_timeout", "t:11: agent.script_timeout is not known; did you mean"),
        ("30000", "-5", "t:13: timers.hello_interval_ms cannot be -5; it takes a whole number from 5"),
        ("30000", "3600000", "t:13: timers.host_lost_ms: 3600000 is less than twice hello_interval_ms"),
        ("\"/k\"", "\"k\"", "t:8: security.key_file cannot be \"k\"; it takes an absolute path"),
        (
            "\"/k\"",
            "\"/k\"\nrevoked = [\"12\"]",
            "t:9: security.revoked cannot be \"12\"; it takes a list of",
        ),
        ("\"h\"", "\"a b\"", "t:3: node.hostname cannot be \"a b\"; it takes a name of at most 64"),
        ("\"h\"", "\"h", "t:3: this is not TOML: "),
        ("[node]", "[node]\n[node]", "t:2: this is not TOML: duplicate key"),
    ];
    for (right, wrong, expected) in cases {
        let text = good.replacen(right, wrong, 1);
        assert_ne!(text, good, "{right}");
        let said = Config::parse(&text, "t").unwrap_err().to_string();
        assert!(said.starts_with(expected), "{wrong}: {said}");
    }
}

#[test]
fn one_interface_or_a_list_of_them_is_accepted() {
    let with = |line: &str| good().replace("interface = \"lo\"", line);
    let names = |line: &str| Config::parse(&with(line), "t").unwrap().network.interfaces;
    assert_eq!(names("interface = \"eth0\""), ["eth0"]);
    assert_eq!(names("interfaces = [\"eth0\"]"), ["eth0"]);
    let list = "interfaces = [\"eth0\", \"eth1\", \"eth2\", \"eth3\"]";
    assert_eq!(names(list), ["eth0", "eth1", "eth2", "eth3"]);
    let shown = Config::parse(&with(list), "t").unwrap().shown();
    let is_shown = shown.contains(&("network.interfaces", "eth0, eth1, eth2, eth3".to_owned()));
    assert_eq!(is_shown, !cfg!(feature = "tipc"));
    let said = complaint(&with("interfaces = [\"eth0\", \"eth1\", \"eth0\"]"));
    assert!(said.contains("network.interfaces: eth0 is listed twice; remove one of them"), "{said}");
    let said = complaint(&with("interface = \"eth0\"\ninterfaces = [\"eth1\"]"));
    assert!(said.contains("interface is set too; keep one of the two"), "{said}");
    let five = "interfaces = [\"a\", \"b\", \"c\", \"d\", \"e\"]";
    for line in [five, "interfaces = [\"a/b\"]", "interfaces = \"eth0\"", "interfaces = [7]"] {
        let said = complaint(&with(line));
        assert!(
            said.contains("it takes a list of at most 4, each the name of a network interface"),
            "{said}"
        );
    }
    if !cfg!(feature = "tipc") {
        let said = complaint(&with("interfaces = []"));
        assert!(said.contains("network.interfaces cannot be []; it takes the interface of"), "{said}");
    }
}

#[test]
fn a_group_that_does_not_exist_is_named_with_its_key() {
    let mut config = Config::parse(&good(), "t").unwrap();
    assert_eq!(config.node.query_group(), Ok(None));
    config.node.admin_group = Some("root".to_owned());
    assert_eq!(config.node.admin_group(), Ok(Some(0)));
    config.node.query_group = Some("nobody-has-this".to_owned());
    let said = config.node.query_group().unwrap_err();
    assert!(said.starts_with("node.query_group = \"nobody-has-this\": there is no such group"), "{said}");
}

#[test]
fn keys_of_the_other_transport_are_named() {
    let text = good().replace("interface = \"lo\"\n", "interface = \"lo\"\nttl = 2\nservice_type = 7500\n");
    let network = Config::parse(&text, "t").unwrap().network;
    let words: Vec<String> = network.unused_words().collect();
    if cfg!(feature = "tipc") {
        assert_eq!(network.unused, ["interface", "ttl"]);
        let several = good().replace("interface = \"lo\"", "interfaces = [\"lo\", \"eth0\"]");
        assert_eq!(Config::parse(&several, "t").unwrap().network.unused, ["interfaces"]);
        assert!(words[0].starts_with("network.interface is not used: this thimble is for TIPC"), "{words:?}");
    } else {
        assert_eq!(network.unused, ["service_type"]);
        assert_eq!(words, ["network.service_type is not used: this thimble is for UDP. Remove the line"]);
    }
    assert!(words.iter().all(|words| words.ends_with("Remove the line")));
}
