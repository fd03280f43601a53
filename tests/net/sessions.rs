//! Misbehaving peers of sessions.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thimble::limits;
use thimble::types::{Digest, NodeId, NodeType};
use thimble::wire::frame::{Frame, Purpose, Role};
use thimble::wire::messages::{HelloAgent, Message};
use thimble::wire::session::{OPENING_BYTES, Opening, SessionKeys, frame_len};

use crate::cluster::{Cluster, Node};
use crate::forge::{opening_of, with_keys_of};
use crate::over::{self, Datagrams, To};
use crate::patch::Patch;
use crate::wait;

/// A silent session is closed after this time. Whatever happens at once happens well
/// before, on a busy machine too.
const PROOF_MS: u64 = 10_000;
const AT_ONCE: Duration = Duration::from_millis(PROOF_MS / 2);

/// A connection of a stranger to a node.
pub fn connect(cluster: &Cluster, node: &Node) -> TcpStream {
    let role = if node.is_controller { Role::Controller } else { Role::Agent };
    over::connect(&cluster.stranger, role, node.address)
}

/// Whether the other end has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 256]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// The median time until an agent answers a HelloAgent that asks for an immediate ack.
/// The median, since other work on the machine may delay some answers.
fn hello_is_answered_within(cluster: &Cluster, agent: &Node) -> Duration {
    let mut forger = with_keys_of(cluster, Role::Controller, Some(NodeId(0x5EC0)));
    let hears = Datagrams::receiving(&cluster.stranger, Role::Controller);
    let speaks = Datagrams::new(&cluster.stranger);
    let mut answers = [0, 1, 2, 3, 4].map(|op_counter| {
        let hello = Message::HelloAgent(HelloAgent { op_counter, ack_window_ms: 1 });
        let bytes = forger.encode(&hello, NodeId(0));
        let asked = Instant::now();
        speaks.send(&bytes, To::All(Role::Agent));
        loop {
            let (datagram, from) = hears.recv();
            let message = forger.decode(&datagram).map(|received| received.message);
            let is_ack = matches!(message, Ok(Message::HelloAgentAck(_)));
            if is_ack && from == agent.address {
                return asked.elapsed();
            }
        }
    });
    answers.sort();
    answers[2]
}

#[test]
fn a_hundred_silent_peers_are_closed_and_the_nodes_keep_working() {
    need_root!();
    let cluster = Cluster::new("hundred", 1).timer("session_proof_ms", PROOF_MS).start();
    for node in &cluster.nodes {
        let mut streams = Vec::new();
        for _ in 0..100 {
            streams.push(connect(&cluster, node));
        }
        let connected = Instant::now();
        let mut left = streams.len();
        while left > limits::SESSIONS {
            streams.retain_mut(|stream| !is_closed(stream));
            left = streams.len();
            assert!(connected.elapsed() < AT_ONCE, "{left} of 100 are still open at {}", node.name);
            thread::yield_now();
        }
        let answered = hello_is_answered_within(&cluster, &cluster.nodes[1]);
        println!("{}: the excess of 100 is closed, and a hello answered in {answered:?}", node.name);
        assert!(answered < AT_ONCE, "{answered:?}");
        wait::until_true("the silent rest is closed too", || {
            streams.retain_mut(|stream| !is_closed(stream));
            streams.is_empty()
        });
    }
    // Real sessions get through again.
    let _patch = Patch::new(&cluster, "AFTER-1").file("etc/after", b"x").applied(&cluster);
    cluster.thimble(&["host-install", "agent-1"]).ok();
}

#[test]
fn a_peer_that_sends_one_byte_a_second_is_closed_at_its_deadline() {
    need_root!();
    let mut cluster = Cluster::new("slow", 1);
    for node in &mut cluster.nodes {
        node.timers.insert("session_proof_ms", 1_500);
    }
    let cluster = cluster.start();
    for node in &cluster.nodes {
        let mut stream = connect(&cluster, node);
        let connected = Instant::now();
        let mut next = connected;
        let mut bytes = b"THMS\x01".iter().cycle();
        wait::until_true("the slow peer is closed", || {
            if Instant::now() >= next {
                let _ = stream.write(&[*bytes.next().unwrap()]);
                next += Duration::from_secs(1);
            }
            is_closed(&mut stream)
        });
        assert!(connected.elapsed() > Duration::from_secs(1), "closed before its time");
        assert!(hello_is_answered_within(&cluster, &cluster.nodes[1]) < AT_ONCE);
    }
}

#[test]
fn a_peer_that_sends_garbage_is_closed_at_once() {
    need_root!();
    // Longer than any test waits.
    let cluster = Cluster::new("garbage", 1).timer("session_proof_ms", 600_000).start();
    for node in &cluster.nodes {
        let mut stream = connect(&cluster, node);
        stream.write_all(&[b'G'; 64]).unwrap();
        wait::until_true("the peer is closed", || is_closed(&mut stream));
    }
}

/// The initiating end of a session with the first controller, driven by the test.
pub struct Opened {
    stream: TcpStream,
    keys: SessionKeys,
}

impl Opened {
    /// Opens a session to fetch with an agent's key file.
    fn fetching(cluster: &Cluster, agent: &Node, frames: &[Frame]) -> Self {
        Self::with_keys_of(cluster, agent, Role::Agent, Purpose::Fetch, frames)
    }

    /// Opens a session with an agent's key file, in any role and for any purpose, and
    /// sends `frames` in one piece with its Open, before the controller's Open is received.
    pub fn with_keys_of(
        cluster: &Cluster,
        agent: &Node,
        role: Role,
        purpose: Purpose,
        frames: &[Frame],
    ) -> Self {
        Self::attempted(cluster, agent, role, purpose, frames).expect("the controller takes the session")
    }

    /// As [`with_keys_of`](Self::with_keys_of); `None` if the controller closes the
    /// connection during that.
    fn attempted(
        cluster: &Cluster,
        agent: &Node,
        role: Role,
        purpose: Purpose,
        frames: &[Frame],
    ) -> Option<Self> {
        let mut stream = connect(cluster, cluster);
        stream.set_read_timeout(Some(wait::LONG)).unwrap();
        let (mine, ring) = opening_of(agent);
        let mine = Opening { role, ..mine };
        stream.write_all(&mine.emit()).ok()?;
        let mut theirs = [0; OPENING_BYTES];
        stream.read_exact(&mut theirs).ok()?;
        let theirs = Opening::parse(&theirs).unwrap();
        // An agent has only its own key, whatever role it claims.
        let keys = SessionKeys::derive(&ring, &Opening { role: Role::Agent, ..mine }, &theirs, true).unwrap();
        let mut session = Self { stream, keys };
        let open = Frame::Open { role, node: mine.node, peer: theirs.node, purpose };
        let mut said = Vec::new();
        for frame in [&[open], frames].concat() {
            let mut bytes = [0; limits::FRAME_BYTES];
            let len = session.keys.seal(&frame, &mut bytes);
            said.extend_from_slice(&bytes[..len]);
        }
        session.stream.write_all(&said).ok()?;
        Some(session)
    }

    /// Whether the controller has ended the session; drops what it has sent.
    fn is_over(&mut self) -> bool {
        while !is_closed(&mut self.stream) {
            if self.stream.peek(&mut [0]).is_err() {
                return false;
            }
        }
        true
    }

    fn recv_frame(&mut self) -> Frame {
        let mut bytes = Vec::new();
        while bytes.len() < frame_len(&bytes) {
            let missing = frame_len(&bytes) - bytes.len();
            let got = bytes.len();
            bytes.resize(got + missing, 0);
            self.stream.read_exact(&mut bytes[got..]).unwrap();
        }
        self.keys.open(&bytes).unwrap().expect("a whole frame").0
    }

    /// Whether the controller closes the session without sending anything.
    pub fn is_refused(&mut self) -> bool {
        match wait::uninterrupted(|| self.stream.read(&mut [0; 256])) {
            Ok(len) => len == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn frames_behind_an_agents_open_reach_the_worker() {
    need_root!();
    let cluster = Cluster::new("behind", 1).start();
    let request = Frame::ManifestReq { digest: Digest([7; 32]), nodetype: NodeType::default() };
    let mut fetching = Opened::fetching(&cluster, &cluster.nodes[1], &[request]);
    assert!(matches!(fetching.recv_frame(), Frame::Open { role: Role::Controller, .. }));
    assert!(matches!(fetching.recv_frame(), Frame::Refused { .. }), "there is no such set");
}

#[test]
fn an_agent_gets_one_worker_and_its_next_session_takes_it_over() {
    need_root!();
    let cluster = Cluster::new("greedy", 2).start();
    let [_, greedy, other] = &cluster.nodes[..] else { unreachable!("three nodes") };
    let mut first = Opened::fetching(&cluster, greedy, &[]);
    assert!(matches!(first.recv_frame(), Frame::Open { .. }));
    // An agent whose machine lost power does not wait for the deadline of its last session.
    assert!(matches!(Opened::fetching(&cluster, greedy, &[]).recv_frame(), Frame::Busy { .. }));
    assert!(first.is_refused(), "the worker of the first is ended");
    let mut served = Opened::fetching(&cluster, other, &[]);
    assert!(matches!(served.recv_frame(), Frame::Open { .. }), "others have their own");
    wait::until_true("its worker has ended, and it may have another", || {
        matches!(Opened::fetching(&cluster, greedy, &[]).recv_frame(), Frame::Open { .. })
    });
}

/// Opens sessions to fetch with a stolen key, until it is told to stop, and leaves each open
/// as long as the controller does.
fn opens_without_end(cluster: &Cluster, stolen: &Node, is_over: &AtomicBool) -> u64 {
    let (mut kept, mut opened) = (Vec::new(), 0);
    while !is_over.load(Ordering::Relaxed) {
        // A session that is evicted before its proof is none.
        if let Some(session) = Opened::attempted(cluster, stolen, Role::Agent, Purpose::Fetch, &[]) {
            opened += 1;
            kept.push(session);
        }
        if kept.len() > 200 {
            kept.retain_mut(|session| !session.is_over());
        }
    }
    opened
}

/// Stops the thief at the test's end, however it ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn while_a_thief_opens_sessions_without_end_controllers_sync_and_hosts_install() {
    need_root!();
    let cluster = Cluster::bridged("thief", 2, 2).start();
    let [first, second, stolen, honest] = &cluster.nodes[..] else { unreachable!("four nodes") };
    let is_over = AtomicBool::new(false);
    let opened = thread::scope(|scope| {
        let thief = scope.spawn(|| opens_without_end(&cluster, stolen, &is_over));
        let stop = Stop(&is_over);
        // So many as it took to hold the whole pool for the idle time.
        wait::until_true("the thief has opened many", || {
            let counted = first.counter("sessions_proven");
            counted >= 10 * limits::SESSIONS as u64
        });
        for number in 0..3 {
            let id = format!("DURING-{number}");
            let patch = Patch::new(&cluster, &id).file(&format!("etc/{id}"), b"x");
            patch.applied(&cluster);
            wait::until_true("the other controller has it", || second.patch(&id).is_some());
        }
        wait::until_true("and all files", || second.holds_all_files());
        first.thimble(&["host-install", &honest.name]).ok();
        drop(stop);
        thief.join().unwrap()
    });
    println!("the thief opened {opened} sessions meanwhile");
    assert!(honest.root().join("etc/DURING-2").exists());
}
