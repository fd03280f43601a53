//! What an operator should know first, and what to do about it.
//!
//! A trouble speaks of the present. One that comes from a count is told while it
//! happened lately; the count stays.

use std::fmt;

use super::answers::words::{self, Called};
use super::counters::is_recent;
use super::event_loop::Daemon;
use super::{rows, summary};
use crate::control::{ALERT_ROWS, WorkerTask};
use crate::fsm::actions::Peer;
use crate::fsm::controller::Controller;
use crate::fsm::sync::neighbours::Neighbours;
use crate::limits;
use crate::time::Span;
use crate::time::{Duration, Instant};
use crate::types::{Hostname, NodeId, Reason};
#[cfg(feature = "tipc")]
use crate::wire::frame::Role;
use crate::wire::refusal::Refusal;

/// Troubles that a `status` tells; of more it says how many.
pub type Alerts = heapless::Vec<Reason, ALERT_ROWS, u8>;

/// A worker that says nothing for so long is shown; one that may run a script,
/// for twice a script's time.
const WORKER_SILENCE: Duration = Duration::from_secs(60);
/// The same of one that says nothing before it is done.
const SERVER_SILENCE: Duration = Duration::from_secs(600);
/// A start's number is above the clock by more than this where the clock was set back.
const CLOCK_SETBACK: Duration = Duration::from_secs(60);

/// Troubles as they are found, the gravest first.
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

/// What an operator should know first, each with what to do, and for how many more
/// there is no room. `unix_ms` is what the clock says.
#[must_use]
pub fn alerts(now: Instant, unix_ms: u64, daemon: &Daemon<'_>) -> (Alerts, u32) {
    let mut found = Found::default();
    check_this_node(now, daemon, &mut found);
    if let Some(controller) = &daemon.node.controller {
        check_controllers(now, daemon, controller, &mut found);
    }
    if daemon.node.agent.is_some() {
        check_controller_contact(now, daemon, &mut found);
    }
    check_network(now, daemon, &mut found);
    #[cfg(feature = "tipc")]
    check_tipc(now, daemon, &mut found);
    let ahead = Duration::from_millis(daemon.codec.identity().incarnation.saturating_sub(unix_ms));
    if ahead >= CLOCK_SETBACK {
        found.push(format_args!(
            "The clock was set back: it is {} behind the number of this start. Set it if it is wrong, and keep the \
             state directory: without it, others refuse this node until the clock has caught up.",
            Span(ahead)
        ));
    }
    (found.alerts, found.more)
}

/// What keeps this node from doing its work, or from being itself alone.
fn check_this_node(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let script_timeout = Duration::from_millis(daemon.config.agent.script_timeout_ms);
    for (kind, _, silence) in daemon.workers.running(now) {
        let work = summary::task(kind);
        if silence >= silence_limit(work, script_timeout) {
            found.push(format_args!("{}", Stalled(work, silence)));
        }
    }
    if let Some(agent) = daemon.node.agent.as_ref().filter(|agent| !agent.trouble().is_empty()) {
        found.push(format_args!("This host could not be recovered: {}", agent.trouble()));
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

/// What is the matter with the repository, or with keeping it together with other
/// controllers.
fn check_controllers(now: Instant, daemon: &Daemon<'_>, controller: &Controller<'_>, found: &mut Found) {
    let sync = controller.sync();
    if let Some(incomplete) = words::incomplete(controller) {
        found.push(format_args!("{incomplete}"));
    } else if let Some(row) = rows::missing_blobs(controller).find(|row| !row.reason.is_empty()) {
        // One that nobody has failed to get is only on its way.
        found.push(format_args!(
            "The file of {} cannot be had, though no host needs it yet: {}",
            row.id, row.reason
        ));
    }
    if !daemon.is_loaded {
        found.push(format_args!("The repository is still being read."));
    } else if !sync.is_started() {
        found.push(format_args!(
            "This controller has only started: changes and installs wait until it has merged what others have."
        ));
    }
    if let Some(alone) = alone(now, sync.neighbours()) {
        found.push(format_args!("{alone}"));
    }
    for one in sync.neighbours().present(now).filter(|one| one.failures > 0) {
        found.push(format_args!(
            "The repository of controller {} cannot be merged: {}",
            Called::of(one),
            one.trouble
        ));
    }
    if daemon.counters.controllers_full.is_recent(now) {
        found.push(format_args!(
            "There is no room for another controller, and one is heard: a cluster has {} at most. Drop one that \
             is gone with thimble drop-controller.",
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

/// Others are known, and none is present.
fn alone(now: Instant, neighbours: &Neighbours<'_>) -> Option<Reason> {
    let first = neighbours.iter().find(|one| one.is_known)?;
    neighbours.present(now).next().is_none().then(|| {
        let called = Called::of(first);
        Reason::format(format_args!(
            "This controller is alone: {called} is known, and no other controller is heard. Changes stay here \
             until one returns; drop one that is gone for good with thimble drop-controller NAME."
        ))
    })
}

/// No controller asks this agent how it is.
fn check_controller_contact(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let asked_by = daemon.counters.asked_by.as_ref();
    let silence = now.since(asked_by.map_or(daemon.started, |met| met.at));
    if silence < Duration::from_millis(daemon.config.timers.controller_lost_ms) {
        return;
    }
    let last = |f: &mut fmt::Formatter<'_>| match asked_by {
        Some(met) => write!(f, "the last was {} at {}", met.node, met.from),
        None => f.write_str("not since the start"),
    };
    found.push(format_args!(
        "No controller has been heard for {} ({}): nothing is installed until one is. Does one run, on this \
         network, interface and multicast group?",
        Span(silence),
        fmt::from_fn(last)
    ));
}

/// What goes wrong between this node and others.
fn check_network(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let counters = &daemon.counters;
    if let Some((at, why)) = counters.send_failure.filter(|(at, _)| is_recent(now, *at)) {
        let ago = Span(now.since(at));
        found.push(format_args!(
            "Datagrams cannot be sent ({why}), the last {ago} ago: is the interface up, and has it its address?"
        ));
    }
    if let Some(at) = counters.accept_failure.filter(|at| is_recent(now, *at)) {
        let ago = Span(now.since(at));
        found.push(format_args!(
            "A connection could not be accepted, the last {ago} ago: no descriptor was free, or no memory. Raise \
             the limit on open files."
        ));
    }
    REFUSED.iter().for_each(|refusal| check_refusal(now, daemon, refusal, found));
}

/// A link comes up in so long.
#[cfg(feature = "tipc")]
const LINK_SETUP: Duration = Duration::from_secs(10);

/// What keeps TIPC from telling who is there, or from reaching them.
#[cfg(feature = "tipc")]
fn check_tipc(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let view = &daemon.transport.view;
    if now.since(daemon.started) < LINK_SETUP {
        return;
    }
    if !view.is_watching() {
        found.push(format_args!(
            "TIPC's topology service does not answer: that a node is lost is known by its silence alone. Look at the \
             kernel's log (dmesg), and restart thimble."
        ));
    } else if view.links().0 == 0 {
        found.push(format_args!(
            "No TIPC link is up, so no other node is reached: see `tipc bearer list` here and at the others, and \
             whether their interfaces are up and on one network."
        ));
    }
    // Two rounds of greetings had time to be answered.
    let patience = Duration::from_millis(daemon.config.timers.hello_interval_ms).times(2);
    let mut strangers = daemon.node.controller.iter().flat_map(Controller::strangers);
    if let Some(one) = strangers.find(|one| now.since(one.since) >= patience) {
        found.push(format_args!(
            "A thimble is bound and not heard: {} at TIPC node {}, for {}. Its key file may be of another ring: its \
             status, and refusals here, tell.",
            if one.role == Role::Controller { "a controller" } else { "an agent" },
            one.peer,
            Span(now.since(one.since))
        ));
    }
}

/// A refusal that an operator should see to.
struct RefusalAlert {
    refusal: Refusal,
    symptom: &'static str,
    remedy: &'static str,
}

/// The gravest first.
const REFUSED: [RefusalAlert; 7] = [
    RefusalAlert {
        refusal: Refusal::Tag,
        symptom: "Datagrams are refused for their key",
        remedy: "A node has an old key file, or somebody forges.",
    },
    RefusalAlert {
        refusal: Refusal::NoKey,
        symptom: "Datagrams of an unknown key are refused",
        remedy: "This node or that one has an old key file.",
    },
    RefusalAlert {
        refusal: Refusal::Revoked,
        symptom: "A revoked node speaks",
        remedy: "Switch it off; or take its id out of security.revoked.",
    },
    RefusalAlert {
        refusal: Refusal::StaleIncarnation,
        symptom: "An earlier start of a node is refused",
        remedy: "Its state directory is an old copy: set its clock, restart it.",
    },
    RefusalAlert {
        refusal: Refusal::Version,
        symptom: "Datagrams of another message version are refused",
        remedy: "Bring thimble there and here to one release.",
    },
    RefusalAlert {
        refusal: Refusal::SendersFull,
        symptom: "There is no room to remember another sender",
        remedy: "Raise controller.max_hosts and restart.",
    },
    RefusalAlert {
        refusal: Refusal::Cluster,
        symptom: "Nodes of another cluster are heard",
        remedy: "If that one belongs here, its key file is of another ring.",
    },
];

fn check_refusal(now: Instant, daemon: &Daemon<'_>, refused: &RefusalAlert, found: &mut Found) {
    let Some(met) = daemon.counters.recent_refusal(now, refused.refusal) else { return };
    let name = summary::hostname(daemon.node.controller.as_ref(), met.node);
    found.push(format_args!(
        "{}: {} so far, last {} ago, {}. {}",
        refused.symptom,
        daemon.counters.refusals.get(refused.refusal),
        Span(now.since(met.at)),
        Sender(met.node, &name, met.from),
        refused.remedy
    ));
}

/// A second node has the id of this one, or of another.
fn check_duplicate_id(now: Instant, daemon: &Daemon<'_>, found: &mut Found) {
    let Some(met) = daemon.counters.recent_refusal(now, Refusal::DuplicateNodeId) else { return };
    let controller = daemon.node.controller.as_ref();
    let host = controller.and_then(|controller| Some(controller.hosts().get(met.node)?.peer));
    let neighbour = || controller.and_then(|controller| controller.sync().neighbours().get(met.node)?.peer());
    let is_own = met.node == daemon.codec.identity().node;
    // The two may have changed places since.
    let other = host.or_else(neighbour).filter(|other| *other != met.from);
    let other = if is_own { OtherNode::ThisNode } else { other.map_or(OtherNode::Somewhere, OtherNode::At) };
    let name = summary::hostname(controller, met.node);
    found.push(format_args!("{}", DuplicateId(met.node, &name, met.from, other)));
}

/// The second of two nodes with one id.
enum OtherNode {
    ThisNode,
    At(Peer),
    Somewhere,
}

/// The id and its name, and where those are that use it.
struct DuplicateId<'n>(NodeId, &'n Hostname, Peer, OtherNode);

impl fmt::Display for DuplicateId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Two nodes use the id {}", self.0)?;
        if !self.1.is_empty() {
            write!(f, " ({})", self.1)?;
        }
        match self.3 {
            OtherNode::ThisNode => write!(f, ", this one and one at {}", self.2)?,
            OtherNode::At(other) => write!(f, ", at {} and at {other}", self.2)?,
            OtherNode::Somewhere => write!(f, ", one of them at {}", self.2)?,
        }
        f.write_str(
            ": a cloned image? Give one of them a key file of its own (thimble keygen), and restart it.",
        )
    }
}

/// Who a datagram says that it is from, and where it came from.
struct Sender<'n>(NodeId, &'n Hostname, Peer);

impl fmt::Display for Sender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "as {}", self.0)?;
        if !self.1.is_empty() {
            write!(f, " ({})", self.1)?;
        }
        write!(f, " from {}", self.2)
    }
}

/// For how long one that does this may say nothing.
fn silence_limit(work: WorkerTask, script_timeout: Duration) -> Duration {
    match work {
        // It is silent while a script runs.
        WorkerTask::Install => script_timeout.max(WORKER_SILENCE).times(2),
        WorkerTask::Load | WorkerTask::Change | WorkerTask::Show | WorkerTask::Reload => WORKER_SILENCE,
        // These speak only when they are done.
        WorkerTask::ServeAgent | WorkerTask::ServeController | WorkerTask::Merge | WorkerTask::Fetch => {
            SERVER_SILENCE
        }
    }
}

/// A worker that has said nothing for so long.
struct Stalled(WorkerTask, Duration);

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Disk stalled? The worker that {} has said nothing for {}: a large file is in its hands, or the disk \
             does not answer; look at the kernel's log (dmesg).",
            self.0.words(),
            Span(self.1)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_alone_where_others_are_known_and_none_is_present() {
        let mut places = [None, None];
        let mut neighbours = Neighbours::new(&mut places, Duration::from_secs(120));
        let now = Instant::from_millis(1_000_000);
        assert_eq!(alone(now, &neighbours), None, "no other was ever met");
        neighbours.know(now, NodeId(1), &Hostname::new("controller-1").unwrap());
        let said = alone(now, &neighbours).unwrap();
        assert!(said.as_str().starts_with("This controller is alone: controller-1 is known"), "{said}");
        neighbours.heard(now, NodeId(2), Peer::Ip(([127, 0, 0, 1], 1).into()));
        assert_eq!(alone(now, &neighbours), None, "one is there");
    }

    #[test]
    fn a_worker_is_named_as_stalled_once_its_patience_is_over() {
        let seconds = Duration::from_secs;
        assert_eq!(silence_limit(WorkerTask::Load, seconds(300)), seconds(60));
        assert_eq!(silence_limit(WorkerTask::Install, seconds(300)), seconds(600), "a script may be at work");
        assert_eq!(silence_limit(WorkerTask::Install, seconds(3)), seconds(120));
        let said = Stalled(WorkerTask::ServeController, seconds(601)).to_string();
        assert!(said.contains("that serves another controller has said nothing for 10 min 1 s"), "{said}");
    }

    #[test]
    fn a_refusal_s_trouble_is_told_whole_whoever_speaks() {
        let name = Hostname::new(&"n".repeat(limits::HOSTNAME_BYTES)).unwrap();
        let sender = Sender(NodeId(u64::MAX), &name, Peer::Ip(([255, 255, 255, 255], 65_535).into()));
        let anywhere = Peer::Ip(([255, 255, 255, 255], 65_535).into());
        let said = DuplicateId(NodeId(u64::MAX), &name, anywhere, OtherNode::At(anywhere)).to_string();
        assert!(said.len() <= limits::REASON_BYTES, "{}: {said}", said.len());
        for one in &REFUSED {
            let (ago, count) = (Span(Duration::from_secs(599)), u32::MAX);
            let said = format!("{}: {count} so far, last {ago} ago, {sender}. {}", one.symptom, one.remedy);
            assert!(said.len() <= limits::REASON_BYTES, "{}: {said}", said.len());
        }
    }

    #[test]
    fn alerts_without_a_place_are_counted() {
        let mut found = Found::default();
        (0..10).for_each(|number| found.push(format_args!("{number}")));
        assert_eq!((found.alerts.len(), found.more), (8, 2));
        assert_eq!(found.alerts[0].as_str(), "0");
    }
}
