//! Asks a host for `thimble ping`, and tells when it answered.

use std::net::IpAddr;

use super::super::event_loop::Daemon;
use super::super::rows;
use super::{Answered, RequestRefused, hosts, refused};
use crate::control::{PingRow, Reply};
use crate::fsm::actions::{Peer, To};
use crate::fsm::ways::Way;
use crate::time::Instant;
use crate::types::{Hostname, NodeId};
use crate::wire::messages::{Message, Ping};

impl Daemon<'_> {
    pub(super) fn ping(
        &mut self,
        now: Instant,
        slot: usize,
        name: &Hostname,
        ask: Option<Way>,
    ) -> Result<Answered, RequestRefused> {
        let Some(controller) = &self.node.controller else {
            return Err(refused(
                "This node is no controller: `thimble ping` it from one that is. `thimble status` here tells \
                 which one asked last.",
            ));
        };
        let node = hosts::find(controller, name)?;
        let Some(host) = controller.hosts().get(node) else { return Ok(Answered::Done) };
        let (peer, hostname) = (host.peer, host.ack.hostname.clone());
        if let Some(way) = ask {
            self.ask(now, slot, (node, peer), way)?;
        }
        // A link that was cut since may be the one by which the last answer to a round came.
        let up = self.network.up();
        let of = self.paths.links_of(now, node);
        let is_cut = !self.network.are_up() || (of != 0 && of & up == 0);
        let peer = self.paths.latest(now, node, peer, up);
        let (number, answers) = self.pinged.answers(self.control.id(slot), node);
        let row = PingRow {
            node,
            hostname,
            address: rows::address(peer),
            port: self.session_port(peer),
            is_multicast: self.config.network.is_multicast,
            is_cut,
            number,
            by_unicast_us: answers.by_unicast_us,
            by_multicast_us: answers.by_multicast_us,
            heard: answers.heard,
        };
        self.control.reply(slot, &Reply::Pinged(row));
        Ok(Answered::Done)
    }

    /// Asks a host. One command at a time may.
    fn ask(
        &mut self,
        now: Instant,
        slot: usize,
        (node, peer): (NodeId, Peer),
        way: Way,
    ) -> Result<(), RequestRefused> {
        let by = self.control.id(slot);
        let is_at_work = self.pinged.holder(now).is_some_and(|other| other != by && self.control.has(other));
        if is_at_work {
            return Err(refused("Another ping is at work: try again when it has ended."));
        }
        // Too soon after the last: the command sees that its number is the same, and asks again.
        let Some(number) = self.pinged.begin(now, by, node, way) else { return Ok(()) };
        let to = match way {
            Way::Unicast => To::Node(node, peer),
            Way::Multicast => self.group(peer),
        };
        self.actions.send(to, Message::Ping(Ping { host: node, number }));
        self.dispatch(now);
        Ok(())
    }

    /// The group of agents. What is sent to it goes to peers by unicast, too: one of them is asked
    /// by the group's address alone.
    fn group(&self, peer: Peer) -> To {
        let network = &self.config.network;
        match peer {
            Peer::Ip(address) if self.transport.has_peer(peer) => {
                let group: IpAddr = match address.is_ipv4() {
                    true => network.agent_group.into(),
                    false => network.agent_group6.into(),
                };
                To::Peer(Peer::Ip((group, network.agent_port).into()))
            }
            _ => To::Agents,
        }
    }

    /// Where a host accepts sessions.
    fn session_port(&self, peer: Peer) -> u32 {
        match peer {
            Peer::Ip(address) => address.port().into(),
            // The fourth of the cluster's service types.
            Peer::Tipc { .. } => self.config.network.service_type + 3,
        }
    }
}
