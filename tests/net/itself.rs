//! A node with both roles, whose interface is not up: it reaches itself, and counts that once.

use crate::cluster::{Cluster, Node};
use crate::wait;

/// What each counts that was sent, received, received twice, and refused as sent again.
fn counts(node: &Node) -> [u64; 4] {
    let status = node.json(&["status"]);
    ["datagrams_sent", "datagrams_received", "datagrams_doubled", "refused_replay"]
        .map(|name| status["counters"][name].as_u64().unwrap())
}

#[test]
fn what_a_node_says_to_itself_is_counted_once_whatever_its_interface_is() {
    need_root!();
    for (what, lists_itself) in
        [("link set net0 down\n", false), ("link delete net0\n", false), ("link set net0 down\n", true)]
    {
        let mut cluster = Cluster::new("itself-down", 0).timer("hello_interval_ms", 300);
        let node = &mut cluster.nodes[0];
        node.has_both_roles = true;
        if lists_itself {
            node.settings.push(("network", format!("peers = [\"{}\"]", node.address)));
        }
        node.start();
        node.namespace.ip(what);
        wait::until_true("it is not up", || node.json(&["status"])["interface"]["state"] != "up");
        // The last by multicast may be on its way.
        let of = |count: &str| node.counter(count);
        let last = of("datagrams_received");
        wait::until_true("it hears itself", || of("datagrams_received") > last + 8);
        let before = counts(node);
        wait::until_true("it hears itself", || of("datagrams_received") > before[1] + 30);
        let after = counts(node);
        let [sent, received, doubled, replayed] = [0, 1, 2, 3].map(|at| after[at] - before[at]);
        let all = format!("{what}{lists_itself}: {sent} {received} {doubled} {replayed}");
        assert_eq!(replayed, 0, "{all}");
        if lists_itself {
            // Its answers come from two of its addresses; over IPv6 one of them went with the interface.
            assert!(doubled > 5 || crate::over::is_ipv6(), "{all}");
        } else {
            assert!(doubled == 0 && sent.abs_diff(received) <= 3, "{all}");
        }
        assert!(of("sends_failed") > 0, "{all}");
    }
}
