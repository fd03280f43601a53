//! A controller that exists in its datagrams alone: it asks one agent, and waits for the answer.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use thimble::config::keys::KeyFile;
use thimble::types::NodeId;
use thimble::wire::frame::Role;
use thimble::wire::messages::{HelloAgent, Message};

use crate::cluster::Cluster;
use crate::forge::{Forger, with_keys_of};
use crate::node::Node;
use crate::wait;

/// Where agents receive.
const AGENTS: u16 = 7489;
/// An answer that has not come by then is lost, or its question was: one asks again.
const AGAIN: Duration = Duration::from_secs(5);

/// Asks with the agent's own key, which is answered at once: to whoever asked, and to the group.
pub struct Asker {
    forger: Forger,
    agent: NodeId,
    to: SocketAddr,
    socket: UdpSocket,
}

impl Asker {
    /// One that asks this agent of a cluster.
    pub fn new(cluster: &Cluster, agent: &Node) -> Self {
        let forger = with_keys_of(cluster, Role::Controller, Some(NodeId(0xC0_0000)));
        let socket = cluster.stranger.enter(|| UdpSocket::bind("0.0.0.0:7488")).unwrap();
        socket.set_read_timeout(Some(AGAIN)).unwrap();
        let id = KeyFile::read(&agent.key_file()).unwrap().node;
        Self { forger, agent: id, to: SocketAddr::new(agent.address.ip(), AGENTS), socket }
    }

    /// The next question, a datagram.
    pub fn question(&mut self) -> Vec<u8> {
        self.forger.encode(&Message::HelloAgent(HelloAgent { op_counter: 1, ack_window_ms: 0 }), self.agent)
    }

    /// Sends a question, without waiting for anything. The agent may not be there yet.
    pub fn say(&self, question: &[u8]) {
        let _ = self.socket.send_to(question, self.to);
    }

    /// The length of the answer, once it comes; nothing where it does not come for long.
    pub fn answer(&self) -> Option<usize> {
        wait::uninterrupted(|| self.socket.recv(&mut [0; 1_500])).ok()
    }

    /// Asks and waits for the answer. Returns its length.
    pub fn ask(&self, question: &[u8], to: SocketAddr) -> usize {
        let began = Instant::now();
        loop {
            self.socket.send_to(question, to).unwrap();
            if let Some(len) = self.answer() {
                return len;
            }
            assert!(began.elapsed() < wait::LONG, "no answer");
        }
    }

    /// Forgets the answers that have come.
    pub fn empty(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 1_500]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }

    /// The address of the agent.
    pub fn to(&self) -> SocketAddr {
        self.to
    }
}
