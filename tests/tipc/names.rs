//! The names of nodes and links, as the `tipc` tool shows them.

use std::io::ErrorKind;

use thimble::tipc::address::NodeAddress;
use thimble::tipc::link;
use thimble::tipc::socket::Socket;

use crate::net::{new_namespace, tipc};
use crate::two_nodes;
use crate::watched::wait_until;

#[test]
fn nodes_and_links_have_the_names_that_the_tipc_tool_shows() {
    let pair = two_nodes!();
    let socket = pair.one.namespace.enter(Socket::rdm).unwrap();
    for (node, identity) in [(0, "one"), (pair.one.address, "one"), (pair.two.address, "two")] {
        assert_eq!(link::identity(&socket, node).unwrap().raw(), identity);
    }
    assert_eq!(tipc(&pair.one.namespace, "node get addr"), NodeAddress(pair.one.address).to_string());
    let unknown = link::identity(&socket, 0x0bad_0bad).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::AddrNotAvailable);

    let name = link::name(&socket, pair.two.address, 0).unwrap();
    let shown = tipc(&pair.one.namespace, "link list");
    assert!(shown.contains(&format!("{name}: up")), "{name} is not in:\n{shown}");
    let none = link::name(&socket, pair.two.address, 1).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn an_identity_that_is_no_text_is_shown_as_the_tipc_tool_shows_it() {
    for identity in ["0badcafe", "00ff00ff000000000000000000000000", "a.b:c_d-e@f"] {
        let node = match new_namespace() {
            Ok(namespace) => namespace,
            Err(reason) => return crate::skip(module_path!(), &reason),
        };
        node.ip("link add net0 type dummy");
        node.ip("link set net0 up");
        tipc(&node, &format!("node set identity {identity}"));
        tipc(&node, "bearer enable media eth device net0");
        let socket = node.enter(Socket::rdm).unwrap();
        wait_until("it has an address", || Some(()).filter(|()| socket.address().unwrap().node != 0));
        let shown = tipc(&node, "node get identity");
        let last_line = shown.lines().next_back().unwrap();
        let text = link::identity(&socket, 0).unwrap();
        assert_eq!(last_line.split_whitespace().next(), Some(text.raw()), "{shown}");
    }
}
