//! TIPC's multicast while bindings become known.

use thimble::wire::frame::Role;

use crate::cluster::Cluster;
use crate::over::{self, Datagrams, To};

/// The sender's first multicast is sent while it knows one of two bindings, and the
/// kernel would change the way of sending when it learns of the second.
#[test]
fn a_binding_that_the_sender_learns_of_late_gets_the_later_multicasts() {
    need_root!();
    const ALL: To = To::All(Role::Agent);
    let cluster = Cluster::of("late", 0, 2);
    let [near, far] = &cluster.nodes[..] else { panic!("two nodes") };
    let (sender, probe) = (Datagrams::new(&cluster.stranger), Datagrams::new(&cluster.stranger));

    let at_near = Datagrams::receiving(&near.namespace, Role::Agent);
    probe.send(b"known", To::One(Role::Agent, near.address));
    assert_eq!(at_near.recv().0, b"known");
    // The link's tolerance is 1.5 s.
    over::delay(&far.namespace, 1_000);
    let at_far = Datagrams::receiving(&far.namespace, Role::Agent);
    sender.send(b"first", ALL);
    assert_eq!(at_near.recv().0, b"first");

    probe.send(b"known", To::One(Role::Agent, far.address));
    // Where the machine took a second for it, the first has come too.
    while at_far.recv().0 != b"known" {}
    for text in [&b"second"[..], b"third"] {
        sender.send(text, ALL);
        assert_eq!(at_near.recv().0, text);
        assert_eq!(at_far.recv().0, text);
    }
}
