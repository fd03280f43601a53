//! Lists, whose replies are continued as their connection drains, and `status`.

use super::super::control_socket::Pending;
use super::super::event_loop::Daemon;
use super::super::rows;
use super::super::summary::{self, Hosts};
use super::{explain, wording};
use crate::control::{BLOB_ROWS, HostFilter, HostRow, Reply};
use crate::fsm::controller::Controller;
use crate::fsm::hosts::Host;
use crate::repo::relations::{next_required, next_requiring};
use crate::time::{Duration, Instant};
use crate::types::Text;

/// The hosts that one step of a filtered list examines.
const HOSTS_PER_STEP: usize = 32;

/// The result of one step of a list.
#[allow(clippy::large_enum_variant, reason = "returned once for each reply")]
enum Next {
    /// One more reply.
    Reply(Reply),
    /// No reply yet, and more to examine.
    More,
    /// The list is complete.
    End,
}

impl From<Option<Reply>> for Next {
    fn from(reply: Option<Reply>) -> Self {
        reply.map_or(Self::End, Self::Reply)
    }
}

impl Daemon<'_> {
    /// Adds the next reply of a list, or its end.
    pub(super) fn continue_list(&mut self, now: Instant, slot: usize) {
        let Some(connection) = self.control.get(slot) else { return };
        let mut pending = std::mem::take(&mut connection.pending);
        let controller = self.node.controller.as_ref();
        match controller.map_or(Next::End, |controller| next(now, controller, &mut pending)) {
            Next::Reply(reply) => {
                self.control.reply(slot, &reply);
                self.set_pending(slot, pending);
            }
            Next::More => self.set_pending(slot, pending),
            Next::End => self.control.end(slot),
        }
    }

    /// Answers `status`, in one step.
    #[inline(never)]
    pub(super) fn status(&mut self, now: Instant, slot: usize) {
        let hosts = self.node.controller.as_ref().map(|controller| Hosts::of(now, controller));
        let hosts = hosts.unwrap_or_default();
        let row = rows::status(now, self, hosts.counts);
        self.control.reply(slot, &Reply::Status(row));
        self.status_of_controllers(now, slot, &hosts);
        // An agent refuses it: it has none.
        let _ = self.show_rollout(now, slot);
        if self.spreading.sent.is_some() || self.spreading.received.is_some() {
            let row = self.spread_row();
            self.control.reply(slot, &Reply::Spreading(row));
        }
        let Self { control, node, workers, config, .. } = self;
        let script_timeout = Duration::from_millis(config.agent.script_timeout_ms);
        for running in workers.running(now) {
            let row = summary::worker(node.controller.as_ref(), script_timeout, running);
            control.reply(slot, &Reply::Worker(row));
        }
        let mut counts = rows::Counts::default();
        rows::counts(self, &mut counts);
        for (name, count) in counts {
            let name = Text::truncated(name);
            self.control.reply(slot, &Reply::Counter { name, count });
        }
    }

    #[inline(never)]
    fn status_of_controllers(&mut self, now: Instant, slot: usize, hosts: &Hosts) {
        let Self { control, node, replaced, .. } = self;
        let Some(controller) = &node.controller else { return };
        for neighbour in wording::by_name(controller.sync().neighbours().iter()) {
            control.reply(slot, &Reply::Neighbour(rows::neighbour(now, controller, neighbour)));
        }
        for row in rows::missing_blobs(controller).take(BLOB_ROWS) {
            control.reply(slot, &Reply::Blob(row));
        }
        for line in replaced.lines() {
            control.reply(slot, &Reply::Replaced(line.clone()));
        }
        for host in hosts.worst(controller) {
            control.reply(slot, &Reply::Host(rows::host(now, controller, host)));
        }
    }
}

/// Continues a list by one step.
fn next(now: Instant, controller: &Controller<'_>, pending: &mut Pending) -> Next {
    match pending {
        Pending::Patches { only, after } => rows::next_patch(controller, only.as_ref(), after.as_ref())
            .map(|row| {
                *after = Some(row.id.clone());
                Reply::Patch(row)
            })
            .into(),
        Pending::Required(of, after) => next_required(controller.map(), of, after.as_ref())
            .map(|(id, entry)| {
                *after = Some(id.clone());
                Reply::Required { id: id.clone(), state: entry.map(|entry| entry.state) }
            })
            .into(),
        Pending::Requiring(of, after) => {
            let last = after.as_ref().map(|(id, by)| (id, by));
            let pair = next_requiring(controller.map(), of, last).map(|(id, by)| (id.clone(), by.clone()));
            after.clone_from(&pair);
            pair.map(|(id, by)| Reply::RequiredBy { id, by }).into()
        }
        Pending::Hosts { filter, left } => next_host(now, controller, *filter, left),
        Pending::HostsWithout { id, left } => {
            // It may be deleted meanwhile.
            let Some((slot, _)) = controller.map().get(id) else { return Next::End };
            next_of(controller, left, |host| {
                explain::differs(controller, slot, host).then(|| rows::host(now, controller, host))
            })
        }
        Pending::NamedHosts(nodes, from) => {
            // A host that was dropped meanwhile is left out.
            let host = nodes.iter().skip(*from).find_map(|node| {
                *from += 1;
                controller.hosts().get(*node)
            });
            host.map(|host| Reply::Host(rows::host(now, controller, host))).into()
        }
        Pending::Nothing
        | Pending::WaitingForStore(_)
        | Pending::WaitingForWorker
        | Pending::WaitingForOthers { .. } => Next::End,
    }
}

/// The next host that the filter accepts.
fn next_host(now: Instant, controller: &Controller<'_>, filter: HostFilter, left: &mut usize) -> Next {
    next_of(controller, left, |host| {
        Some(rows::host(now, controller, host)).filter(|row| filter.matches(row))
    })
}

/// The next host that is listed, among those that one step examines.
fn next_of(controller: &Controller<'_>, left: &mut usize, listed: impl Fn(&Host) -> Option<HostRow>) -> Next {
    for _ in 0..HOSTS_PER_STEP {
        let Some(slot) = left.checked_sub(1) else { return Next::End };
        *left = slot;
        if let Some(row) = controller.hosts().at(slot).and_then(&listed) {
            return Next::Reply(Reply::Host(row));
        }
    }
    Next::More
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fixture::{HOST_LOST, at, controller, receive_ack};
    use crate::fsm::actions::Actions;
    use crate::types::{Digest, NodeId};

    fn listed(now: Instant, controller: &Controller<'_>, filter: HostFilter, left: &mut usize) -> Vec<u64> {
        let mut nodes = Vec::new();
        loop {
            match next_host(now, controller, filter, left) {
                Next::Reply(Reply::Host(row)) => nodes.push(row.node.0),
                Next::Reply(other) => panic!("{other:?}"),
                Next::More => {}
                Next::End => return nodes,
            }
        }
    }

    #[test]
    fn a_list_has_every_remaining_host_when_another_is_dropped_meanwhile() {
        for dropped in 1..=4 {
            let mut controller = controller(&[]);
            (1..=4).for_each(|node| receive_ack(&mut controller, at(1), node, "w", Digest::default()));
            let mut left = 4;
            let first = next_host(at(1), &controller, HostFilter::All, &mut left);
            assert!(matches!(first, Next::Reply(Reply::Host(row)) if row.node.0 == 4));
            controller.drop_host(at(1), NodeId(dropped), &mut Actions::default());
            let rest = listed(at(1), &controller, HostFilter::All, &mut left);
            for stays in (1..=3).filter(|node| *node != dropped) {
                assert!(rest.contains(&stays), "{stays} after {dropped}: {rest:?}");
            }
            assert!(!rest.contains(&dropped));
        }
    }

    #[test]
    fn a_filtered_list_examines_a_bounded_number_of_hosts_in_a_step() {
        let mut controller = controller(&[]);
        let after_loss = at(1 + HOST_LOST.as_millis() / 1000);
        receive_ack(&mut controller, at(1), 1, "w1", Digest::default());
        receive_ack(&mut controller, after_loss, 2, "w2", Digest::default());
        assert_eq!(listed(after_loss, &controller, HostFilter::Lost, &mut 2), [1]);
        // More slots than one step examines: other connections get a turn between.
        let mut left = 2 + HOSTS_PER_STEP;
        assert!(matches!(next_host(after_loss, &controller, HostFilter::AtWork, &mut left), Next::More));
        assert_eq!(left, 2);
        assert!(matches!(next_host(after_loss, &controller, HostFilter::AtWork, &mut left), Next::End));
    }
}
