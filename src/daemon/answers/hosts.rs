//! Installs on named hosts, and dropping a host.

use super::super::event_loop::Daemon;
use super::super::rows;
use super::{Answered, RequestRefused, refused, wording};
use crate::control::{ErrorKind, HostNames, Reply};
use crate::fsm::controller::{AskRefusal, Controller};
use crate::fsm::hosts::Host;
use crate::limits;
use crate::repo::rules::OnAllHosts;
use crate::repo::slots::Slot;
use crate::time::Instant;
use crate::types::{Hostname, NodeId, Reason};

impl Daemon<'_> {
    /// Finds the named hosts: by name, address or node id.
    pub(super) fn find_all(
        &self,
        names: &HostNames,
    ) -> Result<heapless::Vec<NodeId, { limits::COMMAND_NAMES }>, RequestRefused> {
        let controller = self.controller()?;
        let mut nodes = heapless::Vec::new();
        for name in names {
            let node = find(controller, name)?;
            if !nodes.contains(&node) {
                nodes.push(node).map_err(|_| refused("Too many hosts are named."))?;
            }
        }
        Ok(nodes)
    }

    pub(super) fn install(
        &mut self,
        now: Instant,
        slot: usize,
        nodes: &[NodeId],
        force: bool,
    ) -> Result<(), RequestRefused> {
        if self.repository.is_loading() {
            return Err(refused("The repository is being read again: try again in a moment."));
        }
        if let Some(why) = wording::incomplete(self.controller()?) {
            return Err((ErrorKind::Refused, why));
        }
        for node in nodes {
            let asked = self.node.ask_install(now, *node, force, &mut self.actions);
            self.dispatch(now);
            let Err(refusal) = asked else { continue };
            let why = match refusal {
                AskRefusal::Busy => "an install is under way there already",
                AskRefusal::Lost => "it is lost: it does not answer, so it was not asked",
                AskRefusal::Unknown => "no such host",
                AskRefusal::Incomplete => "patch files that it needs are missing here (see thimble status)",
                AskRefusal::TooManyKinds => "there are more kinds of hosts than thimble tells apart",
            };
            let name = self.controller()?.hosts().get(*node).map(|host| host.ack.hostname.clone());
            let reason = Reason::format(format_args!("{}: {why}.", name.unwrap_or_default()));
            let is_busy = refusal == AskRefusal::Busy;
            self.control.reply(slot, &Reply::NotAsked { node: *node, is_busy, reason });
        }
        Ok(())
    }

    pub(super) fn drop_host(
        &mut self,
        now: Instant,
        slot: usize,
        name: &Hostname,
    ) -> Result<Answered, RequestRefused> {
        let node = find(self.controller()?, name)?;
        if let Some(controller) = &mut self.node.controller {
            controller.drop_host(now, node, &mut self.actions);
        }
        self.dispatch(now);
        let line = format_args!(
            "{name} is dropped, here and at all controllers that receive this; it is listed again when it is heard again."
        );
        self.control.reply(slot, &Reply::Line(Reason::format(line)));
        Ok(Answered::Done)
    }
}

/// Whether the patch in a slot is on every host that it concerns. With
/// `despite_lost`, lost hosts do not count.
pub(super) fn on_all_hosts(
    now: Instant,
    controller: &Controller<'_>,
    slot: Slot,
    despite_lost: bool,
) -> OnAllHosts {
    let mut found = OnAllHosts::Everywhere;
    let Some(entry) = controller.map().entry(slot) else { return found };
    for host in controller.hosts().iter().filter(|host| entry.meta.concerns(&host.ack.nodetype)) {
        let is_lost = host.is_lost(now, controller.timers().host_lost);
        if is_lost && despite_lost {
            continue;
        }
        // The last report of a host at work does not say what it will have.
        if host.is_known() && !is_lost && !host.is_installing() {
            if !host.installed.contains(slot) {
                return OnAllHosts::NotOn(host.ack.hostname.clone());
            }
        } else {
            found = OnAllHosts::MayNotBeOn(host.ack.hostname.clone());
        }
    }
    found
}

/// Whether a host of this name is lost.
pub(super) fn is_lost(now: Instant, controller: &Controller<'_>, name: &Hostname) -> bool {
    let after = controller.timers().host_lost;
    controller.hosts().iter().any(|host| host.ack.hostname == *name && host.is_lost(now, after))
}

/// The host of this name, address or node id.
pub(super) fn find(controller: &Controller<'_>, name: &Hostname) -> Result<NodeId, RequestRefused> {
    let by_id = NodeId::from_hex(name.as_str()).filter(|node| controller.hosts().get(*node).is_some());
    if let Some(node) = by_id {
        return Ok(node);
    }
    let is_meant =
        |host: &&Host| host.ack.hostname == *name || rows::address(host.peer).raw() == name.as_str();
    let mut found = controller.hosts().iter().filter(is_meant);
    match (found.next(), found.next()) {
        (Some(host), None) => Ok(host.node),
        (Some(first), Some(second)) => Err((
            ErrorKind::Refused,
            Reason::format(format_args!(
                "More than one host is called {name}: name it by its node id, {} or {}.",
                first.node, second.node
            )),
        )),
        (None, _) => Err((
            ErrorKind::Refused,
            Reason::format(format_args!(
                "No host {name} is known: thimble query-hosts lists those that are.{}",
                wording::Suggestion::of(
                    name.as_str(),
                    controller.hosts().iter().map(|host| host.ack.hostname.as_str())
                )
            )),
        )),
    }
}
