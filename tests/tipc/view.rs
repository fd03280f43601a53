//! The daemon's view of the topology service.

use thimble::fsm::topology::PeerEvent;
use thimble::tipc::TopologyView;
use thimble::tipc::address::{Scope, ServiceRange};
use thimble::tipc::services::Services;
use thimble::tipc::socket::Socket;
use thimble::wire::frame::Role;

use crate::net::new_namespace;
use crate::topology::{SUBSCRIPTIONS, hog};
use crate::two_nodes;
use crate::watched::{now, wait_until};

/// The view's events until a condition holds; `None` is an event that it drops.
fn told_until(
    view: &mut TopologyView,
    what: &str,
    until: impl Fn(&TopologyView, &[Option<PeerEvent>]) -> bool,
) -> Vec<Option<PeerEvent>> {
    let mut told = Vec::new();
    wait_until(what, || {
        view.on_timeout(now());
        told.extend(std::iter::from_fn(|| view.next(now())));
        until(view, &told).then_some(())
    });
    told
}

#[test]
fn bindings_in_another_node_s_name_are_dropped_one_at_a_time() {
    let pair = two_nodes!();
    let services = Services::from(7_488);
    let intruder = pair.two.namespace.enter(Socket::rdm).unwrap();
    for _ in 0..100 {
        let agents = ServiceRange::one(services.datagrams(Role::Agent), pair.one.address);
        intruder.bind(&agents, Scope::Cluster).unwrap();
    }
    pair.one.namespace.enter(|| {
        let mut view = TopologyView::open(services, pair.one.address, &[Role::Controller]).unwrap();
        // This binding is the last, so its event is the last too.
        let agents = ServiceRange::one(services.datagrams(Role::Agent), pair.two.address);
        intruder.bind(&agents, Scope::Cluster).unwrap();
        let is_published = |told: &&Option<PeerEvent>| matches!(told, Some(PeerEvent::Published(..)));
        let told = told_until(&mut view, "all events have arrived", |view, told| {
            view.is_watching() && told.iter().any(|told| is_published(&told))
        });
        let unsaid = told.iter().filter(|told| told.is_none()).count();
        assert!(unsaid >= 100, "the loop continues after each: {unsaid}");
        assert_eq!(told.iter().filter(is_published).count(), 1);
        assert_eq!(told.iter().filter(|told| **told == Some(PeerEvent::Settled)).count(), 1);
    });
}

#[test]
fn the_view_does_not_settle_while_a_subscription_is_set_aside() {
    let lonely = match new_namespace() {
        Ok(namespace) => namespace,
        Err(reason) => return crate::skip(module_path!(), &reason),
    };
    lonely.enter(|| {
        // There is room for a controller's four subscriptions, but not for the last marker.
        let _hog = hog(SUBSCRIPTIONS - 4);
        let mut view = TopologyView::open(Services::from(7_488), 0, &[Role::Controller]).unwrap();
        // Nothing is due any more once the others are settled.
        let told = told_until(&mut view, "one is set aside, and the others are settled", |view, _| {
            view.set_aside() == 1 && view.poll_at().is_none()
        });
        assert!(!told.contains(&Some(PeerEvent::Settled)), "{told:?}");
        assert!(!view.is_watching());
    });
}
