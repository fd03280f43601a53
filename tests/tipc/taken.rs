//! A start where another program is bound already to what thimble binds.

use thimble::config::Config;
use thimble::tipc::Transport;
use thimble::tipc::address::{Scope, ServiceRange};
use thimble::tipc::services::Services;
use thimble::tipc::socket::Socket;
use thimble::wire::frame::Role;

use crate::net::Node;
use crate::two_nodes;

const SERVICE_TYPE: u32 = 7_488;

/// What a start on a node says, or nothing where it succeeds.
fn start(node: &Node) -> Option<String> {
    let text = format!(
        "[node]\nroles = [\"controller\"]\nhostname = \"c\"\n[network]\nservice_type = {SERVICE_TYPE}\n\
         [security]\nauth = \"none\"\n\
         trusted_keys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]\n"
    );
    let config = Config::parse(&text, "t").unwrap();
    let roles = [Role::Controller, Role::Agent];
    node.namespace.enter(|| Transport::open(&config.network, &roles).err().map(|error| error.to_string()))
}

#[test]
fn each_of_the_four_services_is_probed_and_the_socket_is_named() {
    let pair = two_nodes!();
    let own = pair.one.address;
    assert_eq!(start(&pair.one), None, "nothing is bound yet");
    let services = Services::from(SERVICE_TYPE);
    for (service_type, wanted_for) in [
        (services.datagrams(Role::Controller), "the controller's datagrams"),
        (services.datagrams(Role::Agent), "the agent's datagrams"),
        (services.sessions(Role::Controller), "the controller's sessions"),
        (services.sessions(Role::Agent), "the agent's sessions"),
    ] {
        let wide = ServiceRange { service_type, lower: own - 1, upper: own + 1 };
        for (range, scope) in [(ServiceRange::one(service_type, own), Scope::Cluster), (wide, Scope::Node)] {
            let program = pair.one.namespace.enter(Socket::rdm).unwrap();
            program.bind(&range, scope).unwrap();
            let said = start(&pair.one).expect("it does not start");
            let port = program.address().unwrap().port;
            assert!(said.contains(&format!("(one {own:08x}) is bound to {range}")), "{said}");
            assert!(said.contains(&format!("the port {port} ")), "{said}");
            let (words, others) = match range == wide {
                true => ("it is no thimble. ", " already, "),
                false => ("it may be another thimble. ", "which covers "),
            };
            assert!(said.contains(words) && !said.contains(others), "{said}");
            assert!(said.contains(wanted_for), "{said}");
            // The node at the other end is not concerned.
            assert_eq!(start(&pair.two), None, "{range}");
        }
        assert_eq!(start(&pair.one), None, "{service_type} is free again");
    }
}

#[test]
fn a_range_without_this_node_s_instance_is_no_obstacle() {
    let pair = two_nodes!();
    let own = pair.one.address;
    let program = pair.one.namespace.enter(Socket::rdm).unwrap();
    for (lower, upper) in [(0, own - 1), (own + 1, u32::MAX)] {
        let range = ServiceRange { service_type: SERVICE_TYPE, lower, upper };
        program.bind(&range, Scope::Cluster).unwrap();
    }
    assert_eq!(start(&pair.one), None);
}
