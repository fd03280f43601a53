//! Summaries of the hosts, the patches and the workers for `status`. The hosts take one
//! pass over their table (50 us for a thousand hosts), short enough for the loop.

use super::stalled::silence_limit;
use super::workers::WorkerKind;
use crate::control::{HOST_ROWS, HostClass, HostCounts, PatchCounts, WorkerRow, WorkerTask};
use crate::fsm::controller::{Controller, Currency};
use crate::fsm::hosts::Host;
use crate::repo::entry::EntryState;
use crate::time::{Duration, Instant};
use crate::types::{Hostname, NodeId};
use crate::wire::frame::Purpose;

/// Why a host is listed, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Problem {
    Failed,
    Lost,
    Silent,
}

/// The hosts of a controller, summed up.
#[derive(Debug, Default)]
pub struct Hosts {
    /// Hosts by state.
    pub counts: HostCounts,
    /// The hosts that need attention: the problem, since when, and the index in the
    /// table of hosts. Sorted, the gravest and oldest first.
    worst: heapless::Vec<(Problem, Instant, usize), HOST_ROWS>,
}

impl Hosts {
    /// Sums up all hosts of a controller.
    #[must_use]
    pub fn of(now: Instant, controller: &Controller<'_>) -> Self {
        let mut all = Self::default();
        for (at, host) in controller.hosts().iter().enumerate() {
            all.add(now, controller, at, host);
        }
        all
    }

    /// The hosts that need attention, the gravest and oldest first.
    pub fn worst<'c>(&self, controller: &'c Controller<'_>) -> impl Iterator<Item = &'c Host> {
        self.worst.iter().filter_map(|(_, _, at)| controller.hosts().at(*at))
    }

    fn add(&mut self, now: Instant, controller: &Controller<'_>, at: usize, host: &Host) {
        let counts = &mut self.counts;
        let is_lost = host.is_lost(now, controller.timers().host_lost);
        let is_silent = !is_lost && host.probe.is_silent();
        counts.count(HostClass::RebootRequired, host.ack.requires_reboot);
        counts.count(HostClass::Silent, is_silent);
        let currency = controller.currency(host);
        let by = match currency {
            _ if is_lost => HostClass::Lost,
            Currency::Pending => HostClass::Installing,
            Currency::Failed => HostClass::Failed,
            Currency::OutOfDate => HostClass::OutOfDate,
            Currency::Unknown => HostClass::Unknown,
            Currency::Current => HostClass::Current,
        };
        counts.count(by, true);
        // A failed host is still heard. Its last contact must not decide its position,
        // or the order would change with every HelloAgentAck.
        let (problem, since) = match currency {
            _ if is_lost => (Problem::Lost, host.last_heard),
            Currency::Failed => (Problem::Failed, Instant::default()),
            _ if is_silent => (Problem::Silent, host.last_heard),
            _ => return,
        };
        self.insert_worst((problem, since, at));
    }

    /// Inserts a host into the list of the worst, unless the list is full of worse ones.
    fn insert_worst(&mut self, one: (Problem, Instant, usize)) {
        let index = self.worst.iter().position(|other| one < *other).unwrap_or(self.worst.len());
        if self.worst.is_full() && index < HOST_ROWS {
            self.worst.pop();
        }
        // Fails if the list is full and all its hosts are worse.
        let _ = self.worst.insert(index, one);
    }
}

/// Patches by state.
#[must_use]
pub fn patches(controller: &Controller<'_>) -> PatchCounts {
    let mut counts = PatchCounts::default();
    for (_, entry) in controller.map().iter() {
        let index = match entry.state {
            EntryState::Available => 0,
            EntryState::Applied => 1,
            EntryState::Committed => 2,
            EntryState::Deleted | EntryState::Voided => continue,
        };
        counts.0[index] += 1;
    }
    counts
}

/// The row of a running worker, from [`Workers::running`](super::workers::Workers::running),
/// where a script may take this long.
#[must_use]
pub fn worker(
    controller: Option<&Controller<'_>>,
    script_timeout: Duration,
    (kind, age, silence): (WorkerKind, Duration, Duration),
) -> WorkerRow {
    let (node, work) = (peer_of(kind), task(kind));
    WorkerRow {
        work,
        node,
        hostname: node.map(|node| hostname(controller, node)).unwrap_or_default(),
        age_ms: age.as_millis(),
        silent_ms: silence.as_millis(),
        is_stalled: silence >= silence_limit(work, script_timeout),
    }
}

/// A node's hostname; empty if it is not known here.
#[must_use]
pub fn hostname(controller: Option<&Controller<'_>>, node: NodeId) -> Hostname {
    let host = controller.and_then(|c| Some(&c.hosts().get(node)?.ack.hostname));
    let neighbour = || controller.and_then(|c| Some(&c.sync().neighbours().get(node)?.hostname));
    host.or_else(neighbour).cloned().unwrap_or_default()
}

/// The task of a worker of this kind, as commands show it.
#[must_use]
pub const fn task(kind: WorkerKind) -> WorkerTask {
    match kind {
        WorkerKind::Agent => WorkerTask::Install,
        WorkerKind::Load => WorkerTask::Load,
        WorkerKind::Change => WorkerTask::Change,
        WorkerKind::Serve(_, Purpose::Blobs) => WorkerTask::ServeController,
        WorkerKind::Serve(..) => WorkerTask::ServeAgent,
        WorkerKind::Pull(_) => WorkerTask::Merge,
        WorkerKind::Blobs(_) => WorkerTask::Fetch,
        WorkerKind::Show => WorkerTask::Show,
        WorkerKind::Reload(_) => WorkerTask::Reload,
        WorkerKind::Resolve => WorkerTask::Resolve,
        WorkerKind::Spread => WorkerTask::Spread,
        WorkerKind::Receive => WorkerTask::Receive,
    }
}

/// The node that a worker of this kind has a session with.
const fn peer_of(kind: WorkerKind) -> Option<NodeId> {
    match kind {
        WorkerKind::Serve(node, _) | WorkerKind::Pull(node) | WorkerKind::Blobs(node) => Some(node),
        WorkerKind::Agent
        | WorkerKind::Load
        | WorkerKind::Change
        | WorkerKind::Show
        | WorkerKind::Reload(_)
        | WorkerKind::Resolve
        | WorkerKind::Spread
        | WorkerKind::Receive => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fixture::{HOST_LOST, at, controller, receive_ack};
    use crate::fsm::actions::Actions;
    use crate::fsm::random::Random;
    use crate::repo::digest::set_digest;
    use crate::types::Digest;

    #[test]
    fn a_worker_is_stalled_once_it_is_silent_for_its_limit() {
        let is_stalled = |kind, silence, script_timeout| {
            let seconds = Duration::from_secs;
            worker(None, seconds(script_timeout), (kind, seconds(9000), seconds(silence))).is_stalled
        };
        assert!(!is_stalled(WorkerKind::Load, 59, 300) && is_stalled(WorkerKind::Load, 60, 300));
        assert!(!is_stalled(WorkerKind::Agent, 599, 300) && is_stalled(WorkerKind::Agent, 600, 300));
    }

    #[test]
    fn each_host_is_counted_once_and_hosts_with_problems_are_listed() {
        let mut controller = controller(&[]);
        let (wanted, other) = (set_digest([]), Digest([7; 32]));
        let lost_at = HOST_LOST.as_millis() / 1000;
        receive_ack(&mut controller, at(0), 1, "lost", wanted);
        receive_ack(&mut controller, at(lost_at - 1), 2, "silent", wanted);
        // A round, and two asks after its window.
        let (mut random, mut actions) = (Random::new([1; 32]), Actions::default());
        let mut until = |controller: &mut Controller<'_>, end: u64| {
            for millis in 0..end {
                let now = at(lost_at - 1) + Duration::from_millis(millis);
                controller.on_timeout(now, &mut random, &mut actions);
                while actions.pop_front().is_some() {}
            }
        };
        until(&mut controller, 500);
        receive_ack(&mut controller, at(lost_at), 3, "well", wanted);
        receive_ack(&mut controller, at(lost_at), 4, "behind", other);
        let hosts = Hosts::of(at(lost_at), &controller);
        assert_eq!(hosts.counts, HostCounts([2, 1, 0, 0, 1, 0, 1, 0]));
        let worst: Vec<_> = hosts.worst(&controller).map(|host| host.ack.hostname.as_str()).collect();
        assert_eq!(worst, ["lost", "silent"]);
    }

    #[test]
    fn the_gravest_and_longest_unheard_hosts_are_kept() {
        let mut hosts = Hosts::default();
        for number in (0..20).rev() {
            hosts.insert_worst((Problem::Silent, at(number), 100));
            hosts.insert_worst((Problem::Lost, at(number), number as usize));
        }
        hosts.insert_worst((Problem::Failed, at(0), 50));
        let kept: Vec<_> = hosts.worst.iter().map(|(_, _, index)| *index).collect();
        assert_eq!(kept, [50, 0, 1, 2, 3, 4, 5, 6]);
    }
}
