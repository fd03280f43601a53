//! The alerts of `status`: what an operator should know first, and what to do about it.
//!
//! An alert describes the present state. An alert that comes from a counter is shown
//! while the counter rose recently ([`is_recent`]); the counter itself is never reset.

use std::fmt;

use super::alert_nodes::{DuplicateId, OtherNode, Sender};
use super::answers::wording::{self, DisplayName};
use super::counters::{Whom, is_recent};
use super::event_loop::Daemon;
use super::links;
use super::network;
use super::os_error::Errno;
use super::settings::unasked_after;
use super::stalled::{Stalled, silence_limit};
use super::summary;
use super::unicast::Unsent;
use super::workers::WorkerKind;
use crate::control::ALERT_ROWS;
use crate::fsm::controller::Controller;
use crate::fsm::hosts::Host;
use crate::fsm::sync::neighbours::Neighbours;
use crate::job::FloorFacts;
use crate::limits;
use crate::time::{Day, Span};
use crate::time::{Duration, Instant};
use crate::types::{NodeId, PatchId, Reason};
#[cfg(feature = "tipc")]
use crate::wire::frame::Role;
use crate::wire::refusal::Refusal;

/// The alerts that one `status` shows. Further alerts are only counted.
pub type Alerts = heapless::Vec<Reason, ALERT_ROWS, u8>;

/// The clock counts as set back if this start's incarnation is ahead of it by this much.
const CLOCK_SETBACK: Duration = Duration::from_secs(60);

/// A worker of the installer's reports at once; without a report for this long it has not begun.
const INSTALLER_SILENCE: Duration = Duration::from_secs(30);

/// A failure to send is shown for this long at least.
const SEND_SILENCE: Duration = Duration::from_secs(10);

/// Collects alerts, the gravest first.
#[derive(Default)]
struct Found {
    alerts: Alerts,
    more: u32,
}

impl Found {
    fn push(&mut self, alert: fmt::Arguments<'_>) {
        if self.alerts.push(Reason::format(alert)).is_err() {
            self.more += 1;
        }
    }
}

/// The alerts that apply now, the gravest first, and how many more there is no room
/// for. `unix_ms` is the wall clock.
#[must_use]
pub fn alerts(now: Instant, unix_ms: u64, daemon: &Daemon<'_>) -> (Alerts, u32) {
    let mut found = Found::default();
    check_this_node(now, daemon, &mut found);
    check_interface(now, daemon, &mut found);
    if let Some(controller) = &daemon.node.controller {
        check_controllers(now, daemon, controller, &mut found);
    }
    if daemon.node.agent.is_some() {
        check_controller_contact(now, daemon, &mut found);
    }
    check_network(now, daemon, &mut found);
    #[cfg(feature = "tipc")]
    check_tipc(now, daemon, &mut found);
    check_floors(unix_ms, daemon, &mut found);
    let ahead = Duration::from_millis(daemon.codec.identity().incarnation.saturating_sub(unix_ms));
    if ahead >= CLOCK_SETBACK {
        found.push(format_args!(
            "The clock was set back: it is {} behind the incarnation of this start. Correct it if it is wrong, and \
             keep the state directory: without it, other nodes refuse this node until the clock has caught up.",
            Span(ahead)
        ));
    }
    (found.alerts, found.more)
}

/// This node: stalled workers, failed recovery, missing keys, a failed reload, a
/// duplicate node id.
fn check_this_node(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let script_timeout = Duration::from_millis(daemon.config.agent.script_timeout_ms);
    for (kind, running, silence) in daemon.workers.running(now) {
        let work = summary::task(kind);
        let is_installers = kind == WorkerKind::Agent && daemon.workers.has_installer();
        if silence >= silence_limit(work, script_timeout) {
            found.push(format_args!("{}", Stalled(work, silence)));
        } else if is_installers && silence == running && silence >= INSTALLER_SILENCE {
            found.push(format_args!(
                "The installer has not answered for {}: restart it (thimble-installer), unless `guard` or \
                 `install-local` is at work.",
                Span(silence)
            ));
        }
    }
    if let Some(agent) = daemon.node.agent.as_ref().filter(|agent| !agent.recovery_error().is_empty()) {
        found.push(format_args!(
            "This host could not be recovered, which is tried again every 30 s: {}",
            agent.recovery_error()
        ));
    }
    if daemon.config.security.is_unauthenticated {
        found.push(format_args!(
            "No keys (auth = \"none\"): anybody on the network can command this node. Outside a lab, make key files \
             with thimble keygen and set security.auth = \"keys\"."
        ));
    }
    for line in [&daemon.reload.failed, &daemon.reload.waits].into_iter().filter(|line| !line.is_empty()) {
        found.push(format_args!("{line}"));
    }
    check_duplicate_id(now, daemon, found);
}

/// The interfaces, while none is up.
fn check_interface(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let names = daemon.config.network.interfaces.iter();
    for (name, of) in names.zip(&daemon.network.0).filter(|_| !daemon.network.are_up()) {
        let (words, for_long) = (of.state.words(), Span(now.since(of.since)));
        let Some(remedy) = network::remedy(of.state) else { continue };
        let remedy = network::Named(remedy, name);
        found.push(format_args!("The interface {name} is {words}, for {for_long}: {remedy}"));
    }
}

/// The repository, and its synchronisation with other controllers.
fn check_controllers(now: Instant, daemon: &Daemon<'_>, controller: &Controller<'_>, found: &mut Found) {
    let sync = controller.sync();
    if let Some(incomplete) = wording::incomplete(controller) {
        found.push(format_args!("{incomplete}"));
    } else if let Some((id, reason)) = failed_blob(controller) {
        // Without a reason no fetch has failed yet: the file is still on its way.
        found.push(format_args!("The file of {id} cannot be fetched; no host needs it yet: {reason}"));
    }
    if !daemon.repository.is_loaded() {
        found.push(format_args!("The repository is still being read."));
    } else if !sync.is_started() {
        found.push(format_args!(
            "This controller has just started: changes and installs wait until it has merged the other \
             controllers' repositories."
        ));
    }
    if let Some(unrecovered) = unrecovered(now, controller) {
        found.push(format_args!("{unrecovered}"));
    }
    if let Some(alone) = alone(now, sync.neighbours()) {
        found.push(format_args!("{alone}"));
    }
    for one in sync.neighbours().present(now).filter(|one| one.failures > 0) {
        found.push(format_args!(
            "The repository of controller {} cannot be merged: {}",
            DisplayName::of(one),
            one.pull_error
        ));
    }
    if daemon.counters.controllers_full.is_recent(now) {
        found.push(format_args!(
            "There is no room for another controller that is heard: a cluster has at most {}. Drop a controller \
             that is gone with thimble drop-controller.",
            limits::CONTROLLERS
        ));
    }
    if daemon.counters.hosts_full.is_recent(now) {
        found.push(format_args!(
            "There is no room for all hosts: raise controller.max_hosts (now {}) and restart, or drop lost hosts \
             with thimble drop-host.",
            controller.hosts().capacity()
        ));
    }
}

/// The alert for hosts whose files may be of two sets: the first of them, and how many more
/// there are.
fn unrecovered(now: Instant, controller: &Controller<'_>) -> Option<Reason> {
    let is_lost = |host: &Host| host.is_lost(now, controller.timers().host_lost);
    let mut hosts = controller.hosts().iter().filter(|host| host.is_unrecovered() && !is_lost(host));
    let first = hosts.next()?;
    let count = hosts.count();
    let more = |f: &mut fmt::Formatter<'_>| match count {
        0 => Ok(()),
        more => write!(f, " (and {more} more)"),
    };
    let why = match controller.reason(first) {
        "" => "see its own status",
        reason => reason,
    };
    let name = &first.ack.hostname;
    Some(Reason::format(format_args!("A host could not be recovered: {name}{}: {why}", fmt::from_fn(more))))
}

/// The first missing patch file that could not be fetched, and why.
fn failed_blob<'c>(controller: &'c Controller<'_>) -> Option<(&'c PatchId, &'c str)> {
    let (map, blobs) = (controller.map(), controller.sync().blobs());
    let missing = blobs.missing().iter().filter_map(|slot| map.entry(slot));
    missing.map(|entry| (&entry.id, blobs.reason(&entry.hash))).find(|(_, reason)| !reason.is_empty())
}

/// The alert for a controller that knows others and hears none of them.
fn alone(now: Instant, neighbours: &Neighbours<'_>) -> Option<Reason> {
    let first = neighbours.iter().find(|one| one.is_known)?;
    neighbours.present(now).next().is_none().then(|| {
        let called = DisplayName::of(first);
        Reason::format(format_args!(
            "This controller is alone: {called} is known, but no other controller is heard. Changes stay here \
             until one returns; if one is gone for good, drop it with thimble drop-controller NAME."
        ))
    })
}

/// An agent that no controller has sent a HelloAgent for [`unasked_after`].
fn check_controller_contact(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let asked_by = daemon.counters.asked_by.as_ref();
    let silence = now.since(asked_by.map_or(daemon.started, |contact| contact.at));
    if silence < unasked_after(&daemon.config.timers) {
        return;
    }
    let last = |f: &mut fmt::Formatter<'_>| match asked_by {
        Some(contact) => write!(f, "the last was {} at {}", contact.node, contact.from),
        None => f.write_str("not since the start"),
    };
    let network = &daemon.config.network;
    let is_running = match (network.is_multicast || !links::IS_USED, network.peers.is_empty()) {
        (true, true) => "Is one running on this network, interface and multicast group?",
        (true, false) => "Is one running in this network's multicast group, or at one of network.peers?",
        (false, false) => "Is one running at one of network.peers, and is it let through by every firewall?",
        (false, true) => "Does one list this host under network.peers? There is no multicast here.",
    };
    found.push(format_args!(
        "No controller has been heard for {} ({}): nothing is installed until one is. {is_running}",
        Span(silence),
        fmt::from_fn(last)
    ));
}

/// Floors whose last day has passed. Nothing else changes then.
fn check_floors(unix_ms: u64, daemon: &Daemon<'_>, found: &mut Found) {
    let today = Day::of_unix_ms(unix_ms);
    let is_old = |floor: &&FloorFacts| floor.expires < today;
    let controller = daemon.node.controller.as_ref();
    let applied = controller.and_then(|controller| daemon.floors.applied(controller.map()));
    if let Some(FloorFacts { id, serial, expires }) = applied.filter(is_old) {
        found.push(format_args!(
            "The applied floor is old: {id} (serial {serial}) was to be replaced by {expires}. Upload and apply a \
             newer one of the patches' maker."
        ));
    }
    let installed = daemon.floors.installed.as_ref().filter(is_old);
    if let Some(FloorFacts { id, serial, expires }) = installed.filter(|floor| Some(*floor) != applied) {
        found.push(format_args!(
            "The floor of this host is old: {id} (serial {serial}) was to be replaced by {expires}. If the \
             controllers have no newer one, ask the patches' maker for it."
        ));
    }
}

/// Failed sends and accepts, and refused datagrams.
fn check_network(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let counters = &daemon.counters;
    // Each round sends again: what has gone well since is over.
    let round = Duration::from_millis(daemon.config.timers.hello_interval_ms).times(2);
    // While one is down, what is by that one alone is out of reach.
    let is_up = daemon.network.are_all_up();
    let is_failing = |at: Instant| now.since(at) < round.max(SEND_SILENCE) && is_recent(now, at);
    if let Some((at, error, to)) = counters.send_failure.filter(|(at, ..)| is_up && is_failing(*at)) {
        let (ago, to) = (Span(now.since(at)), Whom(to));
        found.push(format_args!(
            "Datagrams cannot be sent{to} ({error}), last {ago} ago: check routes, the firewall and the interface's \
             address."
        ));
    }
    for (at, number, since) in daemon.transport.failing_peers().filter(|_| is_up) {
        let Some(peer) = daemon.config.network.peers.get(at) else { continue };
        let (unsent, span) = (Unsent(peer, Errno(number)), Span(now.since(since)));
        found.push(format_args!("A peer cannot be sent to, for {span}: {unsent}."));
    }
    if let Some(at) = counters.accept_failure.filter(|at| is_recent(now, *at)) {
        let ago = Span(now.since(at));
        found.push(format_args!(
            "A connection could not be accepted, last {ago} ago: no file descriptor or no memory was free. Raise \
             the limit on open files."
        ));
    }
    REFUSED.iter().for_each(|refusal| check_refusal(now, daemon, refusal, found));
}

/// A TIPC link is up within this time after the start.
#[cfg(feature = "tipc")]
const LINK_SETUP: Duration = Duration::from_secs(10);

/// TIPC: its topology service, its links, and nodes that are bound but not heard.
#[cfg(feature = "tipc")]
fn check_tipc(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let view = &daemon.transport.view;
    if now.since(daemon.started) < LINK_SETUP {
        return;
    }
    if !view.is_watching() {
        found.push(format_args!(
            "TIPC's topology service does not answer: a lost node is detected by its silence alone. Check the \
             kernel's log (dmesg), and restart thimble."
        ));
    } else if view.links().0 == 0 {
        found.push(format_args!(
            "No TIPC link is up, so no other node can be reached: check `tipc bearer list` here and on the other \
             nodes, and whether their interfaces are up and on one network."
        ));
    }
    // Two Hellos had time to be answered.
    let silence_limit = Duration::from_millis(daemon.config.timers.hello_interval_ms).times(2);
    let mut strangers = daemon.node.controller.iter().flat_map(Controller::unheard_peers);
    if let Some(one) = strangers.find(|one| now.since(one.since) >= silence_limit) {
        found.push(format_args!(
            "A thimble is bound but not heard: {} at TIPC node {}, for {}. Its key file may be of another ring: check \
             its status and the refusals here.",
            if one.role == Role::Controller { "a controller" } else { "an agent" },
            one.peer,
            Span(now.since(one.since))
        ));
    }
}

/// A refusal that needs the operator's attention.
struct RefusalAlert {
    refusal: Refusal,
    symptom: &'static str,
    remedy: &'static str,
}

impl RefusalAlert {
    /// What to do about it. An agent's places do not depend on a setting.
    const fn remedy(&self, is_controller: bool) -> &'static str {
        const { assert!(2 * limits::CONTROLLERS == 16) };
        match self.refusal {
            Refusal::SendersFull if !is_controller => {
                "An agent has room for 16 controllers: switch off those too many."
            }
            _ => self.remedy,
        }
    }
}

/// The gravest first.
const REFUSED: [RefusalAlert; 8] = [
    RefusalAlert {
        refusal: Refusal::Tag,
        symptom: "Datagrams are refused for their key",
        remedy: "A node has an old key file, or datagrams are forged.",
    },
    RefusalAlert {
        refusal: Refusal::NoKey,
        symptom: "Datagrams of an unknown key are refused",
        remedy: "This node or the sender has an old key file.",
    },
    RefusalAlert {
        refusal: Refusal::Revoked,
        symptom: "A revoked node sends datagrams",
        remedy: "Switch it off, or remove its id from security.revoked.",
    },
    RefusalAlert {
        refusal: Refusal::StaleIncarnation,
        symptom: "An earlier start of a node is refused",
        remedy: "Its state directory is an old copy: set its clock and restart it.",
    },
    RefusalAlert {
        refusal: Refusal::Version,
        symptom: "Datagrams of another message version are refused",
        remedy: "Install one release of thimble there and here.",
    },
    RefusalAlert {
        refusal: Refusal::SendersFull,
        symptom: "There is no room for another sender",
        remedy: "Raise controller.max_hosts and restart.",
    },
    RefusalAlert {
        refusal: Refusal::Cluster,
        symptom: "Nodes of another cluster are heard",
        remedy: "If the sender belongs here, its key file is of another ring.",
    },
    RefusalAlert {
        refusal: Refusal::OtherInterface,
        symptom: "Datagrams arrive on another interface",
        remedy: "See routes, and the interfaces in [network].",
    },
];

fn check_refusal(now: Instant, daemon: &Daemon<'_>, refused: &RefusalAlert, found: &mut Found) {
    let Some(contact) = daemon.counters.recent_refusal(now, refused.refusal) else { return };
    // What is not even thimble's is no concern of the operator.
    if [Refusal::OtherInterface, Refusal::Version].contains(&refused.refusal) && contact.node == NodeId(0) {
        return;
    }
    let controller = daemon.node.controller.as_ref();
    let name = summary::hostname(controller, contact.node);
    found.push(format_args!(
        "{}: {} so far, last {} ago, {}. {}",
        refused.symptom,
        daemon.counters.refusals.get(refused.refusal),
        Span(now.since(contact.at)),
        Sender(contact.node, &name, contact.from),
        refused.remedy(controller.is_some())
    ));
}

/// Another node uses the id of this node, or of a node known here.
fn check_duplicate_id(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let Some(contact) = daemon.counters.recent_refusal(now, Refusal::DuplicateNodeId) else { return };
    let controller = daemon.node.controller.as_ref();
    let host = controller.and_then(|controller| Some(controller.hosts().get(contact.node)?.peer));
    let neighbour =
        || controller.and_then(|controller| controller.sync().neighbours().get(contact.node)?.peer());
    let is_own = contact.node == daemon.codec.identity().node;
    // The known node may have the refused sender's address by now.
    let other = host.or_else(neighbour).filter(|other| *other != contact.from);
    let other = if is_own { OtherNode::ThisNode } else { other.map_or(OtherNode::Somewhere, OtherNode::At) };
    let name = summary::hostname(controller, contact.node);
    found.push(format_args!("{}", DuplicateId(contact.node, &name, contact.from, other)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fixture::{HOST_LOST, at, controller, receive_ack, receive_ack_in};
    use crate::fsm::actions::Peer;
    use crate::types::Digest;
    use crate::types::Hostname;
    use crate::wire::messages::AgentState;

    #[test]
    fn a_controller_is_alone_where_others_are_known_and_none_is_present() {
        let mut places = [None, None];
        let mut neighbours = Neighbours::new(&mut places, Duration::from_secs(120));
        let now = Instant::from_millis(1_000_000);
        assert_eq!(alone(now, &neighbours), None, "no other controller is known");
        neighbours.know(now, NodeId(1), &Hostname::new("controller-1").unwrap());
        let alert = alone(now, &neighbours).unwrap();
        assert!(alert.raw().starts_with("This controller is alone: controller-1 is known"), "{alert}");
        neighbours.heard(now, NodeId(2), Peer::Ip(([127, 0, 0, 1], 1).into()));
        assert_eq!(alone(now, &neighbours), None, "another controller is present");
    }

    #[test]
    fn hosts_that_report_no_installed_set_after_a_failed_install_are_named() {
        let mut controller = controller(&[]);
        receive_ack(&mut controller, at(0), 3, "well", Digest([7; 32]));
        receive_ack(&mut controller, at(0), 4, "starting", Digest::default());
        assert_eq!(unrecovered(at(1), &controller), None);
        for (node, name) in [(5, "worker-5"), (6, "worker-6")] {
            receive_ack_in(&mut controller, at(0), node, name, Digest::default(), AgentState::InstallFailed);
        }
        let alert = unrecovered(at(1), &controller).unwrap();
        let expected = "A host could not be recovered: worker-5 (and 1 more): see its own status";
        assert_eq!(alert.raw(), expected);
        let lost_at = HOST_LOST.as_millis() / 1000;
        assert_eq!(unrecovered(at(lost_at), &controller), None, "a lost host says nothing about now");
    }

    #[test]
    fn the_longest_alert_for_a_refusal_fits() {
        let name = Hostname::new(&"n".repeat(limits::HOSTNAME_BYTES)).unwrap();
        let sender = Sender(NodeId(u64::MAX), &name, Peer::Ip(([255, 255, 255, 255], 65_535).into()));
        let anywhere = Peer::Ip(([255, 255, 255, 255], 65_535).into());
        let said = DuplicateId(NodeId(u64::MAX), &name, anywhere, OtherNode::At(anywhere)).to_string();
        assert!(said.len() <= limits::REASON_BYTES, "{}: {said}", said.len());
        for one in &REFUSED {
            let (ago, count) = (Span(Duration::from_secs(599)), u32::MAX);
            for remedy in [true, false].map(|is_controller| one.remedy(is_controller)) {
                let said = format!("{}: {count} so far, last {ago} ago, {sender}. {remedy}", one.symptom);
                assert!(said.len() <= limits::REASON_BYTES, "{}: {said}", said.len());
            }
        }
    }

    #[test]
    fn only_a_controller_is_told_to_raise_max_hosts() {
        let said = |is_controller: bool| REFUSED.each_ref().map(|one| one.remedy(is_controller)).concat();
        assert!(said(true).contains("controller.max_hosts") && !said(true).contains("An agent has room"));
        assert!(
            !said(false).contains("controller.max_hosts") && said(false).contains("An agent has room for 16")
        );
    }

    #[test]
    fn alerts_beyond_the_limit_are_counted() {
        let mut found = Found::default();
        (0..10).for_each(|number| found.push(format_args!("{number}")));
        assert_eq!((found.alerts.len(), found.more), (8, 2));
        assert_eq!(found.alerts[0].raw(), "0");
    }
}
