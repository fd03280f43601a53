//! What an operator should know first.

use super::answers::words::{self, Called};
use super::event_loop::Daemon;
use super::rows;
use super::workers::Kind;
use crate::fsm::controller::Controller;
use crate::fsm::sync::neighbours::Neighbours;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::Reason;
use crate::wire::frame::Purpose;
use crate::wire::refusal::Refusal;

/// A worker that says nothing for so long is shown; one that may run a script,
/// for twice a script's time.
const WORKER_PATIENCE: Duration = Duration::from_secs(60);
/// The same of one that says nothing before it is done.
const SERVER_PATIENCE: Duration = Duration::from_secs(600);

/// What an operator should know first, each with what to do.
#[must_use]
pub fn troubles(now: Instant, daemon: &Daemon<'_>) -> heapless::Vec<Reason, 8, u8> {
    let mut troubles = heapless::Vec::new();
    let mut say = |reason: Reason| {
        // The eighth and last is worth more than the ninth.
        let _ = troubles.push(reason);
    };
    if daemon.config.security.is_unauthenticated {
        say(Reason::new(
            "No keys: anybody on the network can command this node. Set security.auth = \"keys\" outside a lab.",
        ));
    }
    if let Some(node) = daemon.counters.duplicate {
        say(Reason::format(format_args!(
            "Two nodes use the id {node} (a cloned image?): give one of them a key file of its own with thimble \
             keygen."
        )));
    }
    if let Some(controller) = &daemon.node.controller {
        of_controllers(now, daemon, controller, &mut say);
    }
    if daemon.counters.refusals.get(Refusal::Cluster) > 0 {
        say(Reason::new(
            "Nodes of another cluster are heard: if one of them belongs here, its key file is of another ring.",
        ));
    }
    let bad_tags = daemon
        .counters
        .refusals
        .get(Refusal::Tag)
        .saturating_add(daemon.counters.refusals.get(Refusal::NoKey));
    if bad_tags > 0 {
        say(Reason::format(format_args!(
            "{bad_tags} datagrams were refused for their key: somebody forges them, or a node has an old key file."
        )));
    }
    if daemon.node.controller.as_ref().is_some_and(|controller| controller.hosts_refused() > 0) {
        say(Reason::new("There is no room for all hosts: raise controller.max_hosts, or drop lost hosts."));
    }
    let script_timeout = Duration::from_millis(daemon.config.agent.script_timeout_ms);
    for (kind, silence) in daemon.workers.silent(now) {
        if let Some(trouble) = stalled(kind, silence, script_timeout) {
            say(trouble);
        }
    }
    if let Some(agent) = daemon.node.agent.as_ref().filter(|agent| !agent.trouble().is_empty()) {
        say(Reason::format(format_args!("This host could not be recovered: {}", agent.trouble())));
    }
    troubles
}

/// What is the matter with the repository, or with keeping it together with other
/// controllers.
fn of_controllers(
    now: Instant,
    daemon: &Daemon<'_>,
    controller: &Controller<'_>,
    say: &mut impl FnMut(Reason),
) {
    let sync = controller.sync();
    if !daemon.is_loaded {
        say(Reason::new("The repository is still being read."));
    } else if !sync.is_started() {
        say(Reason::new(
            "This controller has only started: changes and installs wait until it has merged what others have.",
        ));
    }
    if let Some(incomplete) = words::incomplete(controller) {
        say(incomplete);
    } else if let Some(row) = rows::missing_blobs(controller).find(|row| !row.reason.is_empty()) {
        // One that nobody has failed to get is only on its way.
        say(Reason::format(format_args!(
            "The file of {} cannot be had, though no host needs it yet: {}",
            row.id, row.reason
        )));
    }
    if let Some(alone) = alone(now, sync.neighbours()) {
        say(alone);
    }
    for one in sync.neighbours().present(now).filter(|one| one.failures > 0) {
        say(Reason::format(format_args!(
            "The repository of controller {} cannot be merged: {}",
            Called::of(one),
            one.trouble
        )));
    }
    if sync.neighbours().refused() > 0 {
        say(Reason::format(format_args!(
            "There is no room for another controller, and one is heard: a cluster has {} at most. Drop one that \
             is gone with thimble drop-controller.",
            limits::CONTROLLERS
        )));
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

/// What to say of a worker that has said nothing for so long, if that is long.
fn stalled(kind: Kind, silence: Duration, script_timeout: Duration) -> Option<Reason> {
    let (what, patience) = match kind {
        // It is silent while a script runs.
        Kind::Agent => ("installs", script_timeout.max(WORKER_PATIENCE).times(2)),
        Kind::Load => ("reads the repository", WORKER_PATIENCE),
        Kind::Change { .. } => ("changes the repository", WORKER_PATIENCE),
        // These speak only when they are done.
        Kind::Serve(_, Purpose::Blobs) => ("serves another controller", SERVER_PATIENCE),
        Kind::Serve(..) => ("serves an agent", SERVER_PATIENCE),
        Kind::Pull(_) => ("merges another controller's repository", SERVER_PATIENCE),
        Kind::Blobs(_) => ("fetches patch files", SERVER_PATIENCE),
        Kind::Show => ("shows patches", WORKER_PATIENCE),
    };
    (silence >= patience).then(|| {
        let seconds = silence.as_millis() / 1000;
        Reason::format(format_args!(
            "The worker that {what} has said nothing for {seconds} s: a large file is in its hands, or the disk is \
             stalled; the kernel's log tells."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::actions::Peer;
    use crate::types::{Hostname, NodeId};

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
        let said = |kind, silence| stalled(kind, seconds(silence), seconds(300));
        assert_eq!(said(Kind::Load, 59), None);
        assert!(
            said(Kind::Load, 60).unwrap().as_str().contains("reads the repository has said nothing for 60 s")
        );
        let blobs = said(Kind::Serve(NodeId(1), Purpose::Blobs), 600).unwrap();
        assert!(blobs.as_str().contains("serves another controller"), "{blobs}");
        assert_eq!(said(Kind::Agent, 599), None, "a script may be at work");
        assert!(said(Kind::Agent, 600).unwrap().as_str().contains("stalled; the kernel's log tells."));
    }
}
