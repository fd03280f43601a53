//! A faulty wire between a node and the bridge: a user-space relay that can lose,
//! duplicate or delay frames. (Not all kernels that run the tests have netem.)

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use thimble::wire::header::Header;
use thimble::wire::messages::MsgType;

use crate::netns::{Hub, Namespace};
use crate::over::{self, Address};
use crate::switch::VNET_BYTES;
use crate::sys;

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Lose,
    /// It arrives twice.
    Double,
    /// It arrives after the next frame that passes.
    Hold,
}

/// Judges the thimble datagrams of one direction; everything else passes.
pub type Judge = Box<dyn FnMut(MsgType, &[u8]) -> Verdict + Send>;

/// Lets everything pass.
pub fn pass_all() -> Judge {
    Box::new(|_, _| Verdict::Pass)
}

/// Relays between a node and the bridge until dropped.
pub struct Filter {
    is_over: Arc<AtomicBool>,
    relays: Vec<JoinHandle<()>>,
}

impl Filter {
    /// Joins `node` to the bridge through a filter that judges what it sends and
    /// what is sent to it.
    pub fn join(
        hub: &Hub,
        node: &Namespace,
        port: &str,
        address: Address,
        from_node: Judge,
        to_node: Judge,
    ) -> Self {
        let (inner, outer) = (format!("{port}-in"), format!("{port}-out"));
        hub.wire(node, port, address);
        hub.namespace.ip(&format!(
            "link add name {inner} type veth peer name {outer}\nlink set {inner} up\n\
             link set {outer} up master br0\n"
        ));
        let open = |name: &str| hub.namespace.enter(|| sys::packet_socket(name)).unwrap();
        let (node_side, bridge_side) = (open(port), open(&inner));
        let is_over = Arc::new(AtomicBool::new(false));
        let start = |from: &File, to: &File, judge: Judge| {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || relay(from, to, judge, &is_over))
        };
        let relays =
            vec![start(&node_side, &bridge_side, from_node), start(&bridge_side, &node_side, to_node)];
        Self { is_over, relays }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for relay in self.relays.drain(..) {
            let _ = relay.join();
        }
    }
}

fn relay(mut from: File, mut to: File, mut judge: Judge, is_over: &AtomicBool) {
    let mut buffer = vec![0; VNET_BYTES + 65_536 + 64];
    let mut held: Option<Vec<u8>> = None;
    while !is_over.load(Ordering::Relaxed) {
        // Nothing was received within the socket's timeout, or the interface is gone.
        let Ok(len) = from.read(&mut buffer) else { continue };
        let frame = &buffer[..len];
        let verdict = datagrams(frame).next().map_or(Verdict::Pass, |(msgtype, bytes)| judge(msgtype, bytes));
        // A frame that cannot be sent on is lost, as on any wire.
        match verdict {
            Verdict::Lose => {}
            Verdict::Hold => held = Some(frame.to_vec()),
            Verdict::Pass | Verdict::Double => {
                let _ = to.write(frame);
                if verdict == Verdict::Double {
                    let _ = to.write(frame);
                }
                if let Some(held) = held.take() {
                    let _ = to.write(&held);
                }
            }
        }
    }
}

/// The thimble datagrams in a frame.
pub fn datagrams(frame: &[u8]) -> impl Iterator<Item = (MsgType, &[u8])> {
    over::payloads(frame).filter_map(|bytes| {
        let header = Header::parse(bytes).ok()?.header;
        Some((MsgType::from_number(header.msgtype)?, bytes))
    })
}
