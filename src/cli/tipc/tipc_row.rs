//! The daemon's TIPC state in `status`.

use crate::cli::status::row;
use crate::control::{LinkEnds, LinkRow, TipcRow};
use crate::json::Value;
use crate::time::Span;

/// Writes the node, the topology service, the links, and the peers that are bound but
/// silent.
pub(in crate::cli) fn text(text: &mut String, tipc: &TipcRow) {
    let TipcRow { address, identity, nodes_up, links_up, .. } = tipc;
    row(text, "tipc", format_args!("{identity} {address:08x}; nodes up: {nodes_up}, links up: {links_up}"));
    let watching = if tipc.is_watching {
        "connected"
    } else {
        "not connected: until it is, lost peers are detected only by silence"
    };
    let lost = match tipc.gaps {
        0 => String::new(),
        1 => ", lost once since the start".to_owned(),
        gaps => format!(", lost {gaps} times since the start"),
    };
    let refused = match tipc.set_aside {
        0 => String::new(),
        count => format!(", has refused {count} subscriptions"),
    };
    row(text, "topology", format_args!("{watching}{lost}{refused}"));
    for LinkRow { node, identity, ends } in &tipc.links {
        let one = |end: &LinkEnds| {
            let state = if end.is_up { "up" } else { "DOWN" };
            format!("by {}, {state} for {}", end.name, Span::of_millis(end.age_ms))
        };
        let ends: Vec<String> = ends.iter().map(one).collect();
        row(text, "link", format_args!("to {identity} {node:08x} {}", ends.join("; ")));
    }
    let shown = tipc.links.iter().flat_map(|of| &of.ends).filter(|end| end.is_up).count();
    more(text, "link", links_up.saturating_sub(shown as u32), "thimble tipc matrix shows all");
    for unheard in &tipc.unheard {
        let role = if unheard.is_controller { "controller" } else { "agent" };
        let (node, age) = (unheard.node, Span::of_millis(unheard.age_ms));
        row(text, "unheard", format_args!("{role} at {node:08x}: bound for {age}, but silent"));
    }
    more(text, "unheard", tipc.unheard_more, "see to these first");
}

/// Writes a line about further entries, if any.
fn more(text: &mut String, name: &str, count: u32, what_to_do: &str) {
    if count > 0 {
        row(text, name, format_args!("and {count} more: {what_to_do}"));
    }
}

/// The same as JSON.
pub(in crate::cli) fn json(row: &TipcRow) -> Value {
    let node = |node: u32| Value::Text(format!("{node:08x}"));
    let links = |is_up: bool| {
        let ends = row.links.iter().flat_map(|of| of.ends.iter().map(move |end| (of, end)));
        Value::list(ends.filter(|(_, end)| end.is_up == is_up).map(|(of, end)| {
            Value::object([
                ("node", node(of.node)),
                ("identity", Value::text(&of.identity)),
                ("age_ms", end.age_ms.into()),
                ("bearers", Value::text(&end.name)),
            ])
        }))
    };
    let unheard = row.unheard.iter().map(|one| {
        Value::object([
            ("role", Value::text(if one.is_controller { "controller" } else { "agent" })),
            ("node", node(one.node)),
            ("port", one.port.into()),
            ("age_ms", one.age_ms.into()),
        ])
    });
    Value::object([
        ("address", node(row.address)),
        ("identity", Value::text(&row.identity)),
        ("watching", row.is_watching.into()),
        ("gaps", row.gaps.into()),
        ("set_aside", row.set_aside.into()),
        ("nodes_up", row.nodes_up.into()),
        ("links_up", row.links_up.into()),
        ("links", links(true)),
        ("links_down", links(false)),
        ("unheard", Value::list(unheard)),
        ("unheard_more", row.unheard_more.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::UnheardRow;
    use crate::types::Text;

    /// The links to a node: each one's name, and for how long it has been up or, with a minus,
    /// down.
    fn links(node: u32, identity: &str, ends: &[(&str, i64)]) -> LinkRow {
        let ends = ends.iter().map(|(name, age_ms)| LinkEnds {
            name: Text::truncated(name),
            is_up: *age_ms >= 0,
            age_ms: age_ms.unsigned_abs(),
        });
        LinkRow { node, identity: Text::truncated(identity), ends: ends.collect() }
    }

    #[test]
    fn the_node_its_links_and_silent_peers_are_shown() {
        let of_two = links(0x5c6f_6465, "node2", &[("eth0-eth0", 61_000), ("eth1-eth1", 5_000)]);
        let cut = links(0x5b6f_6465, "node3", &[("eth0-eth0", 61_000), ("eth1-eth1", -5_000)]);
        let unheard = UnheardRow { is_controller: false, node: 0x5d6f_6465, port: 7, age_ms: 9_000 };
        let quiet = TipcRow {
            address: 0x5f6f_6465,
            identity: Text::truncated("node1"),
            is_watching: true,
            nodes_up: 1,
            ..TipcRow::default()
        };
        let full = TipcRow {
            is_watching: false,
            gaps: 2,
            set_aside: 1,
            nodes_up: 4,
            links_up: 5,
            links: [of_two, cut].into_iter().collect(),
            unheard: [unheard].into_iter().collect(),
            unheard_more: 5,
            ..quiet.clone()
        };
        let mut shown = String::new();
        self::text(&mut shown, &quiet);
        self::text(&mut shown, &full);
        let expected = "\
tipc          node1 5f6f6465; nodes up: 1, links up: 0
topology      connected
tipc          node1 5f6f6465; nodes up: 4, links up: 5
topology      not connected: until it is, lost peers are detected only by silence, lost 2 times since the start, has refused 1 subscriptions
link          to node2 5c6f6465 by eth0-eth0, up for 1 min 1 s; by eth1-eth1, up for 5 s
link          to node3 5b6f6465 by eth0-eth0, up for 1 min 1 s; by eth1-eth1, DOWN for 5 s
link          and 2 more: thimble tipc matrix shows all
unheard       agent at 5d6f6465: bound for 9 s, but silent
unheard       and 5 more: see to these first
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_json_has_the_documented_keys() {
        let row = TipcRow {
            address: 0x0a,
            identity: Text::truncated("n1"),
            is_watching: true,
            links: [links(0x5c6f_6465, "n2", &[("a-b", 5), ("c-d", -7)])].into_iter().collect(),
            unheard: [UnheardRow { is_controller: true, node: 1, port: 7, age_ms: 9 }].into_iter().collect(),
            ..TipcRow::default()
        };
        let expected = r#"{"address":"0000000a","identity":"n1","watching":true,"gaps":0,"set_aside":0,"nodes_up":0,"links_up":0,"links":[{"node":"5c6f6465","identity":"n2","age_ms":5,"bearers":"a-b"}],"links_down":[{"node":"5c6f6465","identity":"n2","age_ms":7,"bearers":"c-d"}],"unheard":[{"role":"controller","node":"00000001","port":7,"age_ms":9}],"unheard_more":0}"#;
        assert_eq!(json(&row).to_string(), expected);
    }
}
