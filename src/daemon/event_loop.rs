//! The loop: the one place where the core meets sockets, processes and a clock.
//!
//! A turn of the loop reads the clock, reads every ready source in bounded pieces,
//! passes what it read to the state machines, and executes their actions. The loop
//! waits in `poll` alone, touches no disk, and allocates after start only to start a
//! worker.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use super::clock::Clock;
use super::control_socket::ControlSocket;
use super::counters::Counters;
use super::floors::Floors;
use super::frames::{map_frame, page_frame};
use super::gather::Gathering;
use super::hellos::Hellos;
use super::links::send_by_links;
use super::losses::Losses;
use super::names::Names;
use super::network::Links;
use super::notify::Notify;
use super::os_error::OsError;
use super::pinged::Pinged;
use super::ready::ReadySet;
use super::reload::Reload;
use super::replaced::Replaced;
use super::repository::Repository;
use super::sessions::{SessionEvent, Sessions};
use super::spread::Spreading;
use super::tokens::{
    CONNECTIONS, CONTROL, DATAGRAMS, HELLOS, LISTENERS, NETWORK, SESSIONS, SIGNALS, TOPOLOGY, WORKERS,
};
use super::transport::{Batch, Door, Transport};
use super::workers::{WorkerKind, Workers};
use super::{proof, sys};
use crate::clock::boottime_ms;
use crate::config::Config;
use crate::fsm::actions::{Action, Actions, Arrival, Peer, To};
use crate::fsm::event::Event;
use crate::fsm::node::Node;
use crate::fsm::paths::Paths;
use crate::fsm::ways::{Controllers, Way};
use crate::job::Job;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Reason};
use crate::wire::codec::{Codec, ReceivedDatagram, RefusedDatagram};
use crate::wire::frame::Purpose;
use crate::wire::messages::Message;
use crate::wire::refusal::Refusal;

/// Connections accepted from one listener in one turn.
const ACCEPTS: usize = 32;
/// Events of one session handled in one turn.
const SESSION_EVENTS: usize = 8;
/// How often what ran but once leaves memory: faulting the loop's own code in again takes
/// microseconds.
const RELEASE_INTERVAL: Duration = Duration::from_secs(60);

/// Everything that the loop drives. `start` builds it, in memory that is its own: so
/// large a value must not be copied over the stack, of which each page that was touched
/// once stays resident.
pub struct Daemon<'a> {
    /// The configuration that holds now.
    pub config: Config,
    /// When the daemon started.
    pub started: Instant,
    /// The time of day at that moment.
    pub clock: Clock,
    /// Encodes and decodes datagrams.
    pub codec: Codec<'a>,
    /// The state machines.
    pub node: Node<'a>,
    /// The controllers that this node's agent has heard.
    pub controllers: Controllers,
    /// The hello that is on its way to hosts by unicast.
    pub hellos: Hellos,
    /// What is sent to all hosts at once.
    pub spreading: Spreading,
    /// The last ask of `thimble ping`.
    pub pinged: Pinged,
    /// The sockets to other nodes.
    pub transport: Transport,
    /// The names among their peers.
    pub names: Names,
    /// The interfaces that they use.
    pub network: Links,
    /// Where each node is heard, if there are several.
    pub paths: Paths<'a>,
    /// Stream sessions.
    pub sessions: Sessions,
    /// Worker processes.
    pub workers: Workers,
    /// How the agent's last worker ended, if it did not report its end; for recovery.
    pub agent_stopped: Option<Reason>,
    /// The control socket.
    pub control: ControlSocket,
    /// What happened how often.
    pub counters: Counters,
    /// What the log was told of what is lost.
    pub losses: Losses,
    /// How far the repository may be used, and what is being changed.
    pub repository: Repository,
    /// Changes made here that were replaced by others.
    pub replaced: Replaced,
    /// The floors whose age is watched.
    pub floors: Floors,
    /// Bytes of tables and buffers.
    pub memory_bytes: u64,
    /// Actions of the state machines that are still to be executed.
    pub actions: Actions,
    /// The sources that may have more.
    pub ready: ReadySet,
    /// Waits for the sources.
    pub poll: Poll,
    /// The registry of `poll`.
    pub registry: Registry,
    /// The datagram that is being sent.
    pub transmit: [u8; limits::DATAGRAM_BYTES],
    /// Where signals are read from.
    pub signals: OwnedFd,
    /// Keeps other daemons off the state directory.
    #[expect(dead_code, reason = "locked for as long as it is open")]
    pub lock: File,
    /// Reading the configuration anew.
    pub reload: Reload,
    /// The supervisor, if one listens.
    pub notify: Notify,
    /// The file that this process was started from was replaced: the new one is started
    /// in its place.
    pub is_superseded: bool,
    /// Set once the loop is to end: by request, or for this reason.
    pub exit: Option<Result<(), Reason>>,
}

/// Runs the loop until a signal ends it.
///
/// # Errors
/// Why it cannot run, or cannot go on.
pub fn run(daemon: &mut Daemon<'_>) -> Result<(), String> {
    daemon.register().map_err(|error| format!("the event loop cannot be set up: {error}"))?;
    let mut events = Events::with_capacity(64);
    let mut batch = Batch::default();
    let mut gathering = Gathering::default();
    daemon.begin_network(daemon.started);
    daemon.configure_spread();
    sys::release_rare_code();
    let mut released = daemon.started;
    proof::watch_allocations();
    daemon.notify_supervisor(daemon.started);
    loop {
        let timeout = daemon.poll_timeout(clock());
        match daemon.poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("the event loop cannot go on: {error}")),
            Ok(()) => {}
        }
        for event in &events {
            daemon.ready.insert(event.token());
        }
        let now = clock();
        for token in daemon.ready.take() {
            gathering.note((DATAGRAMS..LISTENERS).contains(&token.0));
            daemon.turn(now, token, &mut batch);
        }
        daemon.on_timeout(now);
        if let Some(exit) = daemon.exit.take() {
            return daemon.end(exit);
        }
        if daemon.is_superseded && daemon.workers.count(|kind| kind == WorkerKind::Agent) == 0 {
            return Err(daemon.reexec());
        }
        daemon.notify_supervisor(now);
        gathering.wait(now, daemon.config.node.is_controller && daemon.ready.is_empty());
        if now.since(released) >= RELEASE_INTERVAL {
            sys::release_rare_code();
            released = now;
        }
    }
}

/// The time now: each turn of the loop reads it once.
pub fn clock() -> Instant {
    Instant::from_millis(boottime_ms())
}

/// Rare calls have a stack frame of their own (`inline(never)`): jobs, pages and reports
/// are large, and a page of stack that was touched once stays resident.
impl Daemon<'_> {
    fn register(&mut self) -> io::Result<()> {
        let registry = &self.registry;
        registry.register(&mut SourceFd(&self.signals.as_raw_fd()), Token(SIGNALS), Interest::READABLE)?;
        self.control.register(registry, Token(CONTROL))?;
        for endpoint in self.transport.endpoints_mut() {
            let (at, datagrams) = (endpoint.at(), endpoint.datagrams.as_raw_fd());
            registry.register(&mut SourceFd(&datagrams), Token(DATAGRAMS + at), Interest::READABLE)?;
            registry.register(&mut endpoint.listener, Token(LISTENERS + at), Interest::READABLE)?;
        }
        self.transport.view.register(registry, Token(TOPOLOGY))
    }

    fn poll_timeout(&self, now: Instant) -> Option<std::time::Duration> {
        if !self.ready.is_empty() {
            return Some(std::time::Duration::ZERO);
        }
        let due = Instant::earliest([
            self.node.poll_at(),
            self.sessions.poll_at(),
            self.control.poll_at(),
            self.control.others_deadline(),
            self.ready.poll_at(),
            self.notify.poll_at(),
            self.transport.view.poll_at(),
            self.repository.poll_at(),
            self.loss_due(),
            self.announce_at(),
            self.names.due,
        ])?;
        Some(std::time::Duration::from_millis(due.since(now).as_millis()))
    }

    fn turn(&mut self, now: Instant, token: Token, batch: &mut Batch) {
        match token.0 {
            SIGNALS => self.take_signals(now, batch),
            CONTROL => self.accept_commands(now, token),
            DATAGRAMS..LISTENERS => self.take_datagrams(now, token, batch),
            LISTENERS..TOPOLOGY => self.accept_sessions(now, token),
            TOPOLOGY => self.take_topology(now, token, batch),
            NETWORK => self.take_network(now),
            HELLOS => self.send_hellos(now),
            SESSIONS..WORKERS => self.turn_session(now, token.0 - SESSIONS),
            WORKERS..CONNECTIONS => self.take_reports(now, token, batch),
            _ => self.turn_connection(now, token.0 - CONNECTIONS),
        }
    }

    #[inline(never)]
    pub(super) fn take_datagrams(&mut self, now: Instant, token: Token, batch: &mut Batch) {
        let Some(endpoint) = self.transport.endpoint_at(token.0 - DATAGRAMS) else { return };
        match endpoint.recv_batch(batch) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {
                self.counters.receive_failed += 1;
                return self.ready.defer(now, token);
            }
        }
        // A full batch may have more behind it.
        if batch.len() == limits::RECV_BATCH {
            self.ready.insert(token);
        }
        for at in 0..batch.len() {
            match batch.get(at) {
                Some(Arrival::Datagram(datagram, peer)) => {
                    self.take_datagram(now, datagram, peer, batch.way(at), batch.link(at));
                }
                Some(Arrival::OtherInterface(datagram, peer)) => {
                    let claimed = Codec::claimed_sender(datagram);
                    self.counters.refuse(now, Refusal::OtherInterface, claimed, peer);
                }
                Some(Arrival::Undelivered(reason)) => self.counters.undelivered.count(reason),
                None => break,
            }
        }
        self.counters.note_full(now, &self.node);
    }

    fn take_datagram(&mut self, now: Instant, datagram: &[u8], peer: Peer, way: Option<Way>, link: usize) {
        let decoded = self.codec.decode(now, datagram);
        if self.is_link_copy(now, datagram, &decoded, peer, link) {
            return;
        }
        match decoded {
            Ok(received) => {
                let ReceivedDatagram { sender, key_slot, ref message, .. } = received;
                self.counters.count_received(now, sender, peer, message);
                self.counters.count_key_slot(key_slot);
                if let Message::Pong(pong) = message {
                    self.pinged.on_pong(sender, pong, way);
                }
                if let Message::SpreadReport(report) = message {
                    self.pass_lacks(now, sender, report);
                }
                self.node.on_message(now, peer, &received, &mut self.actions);
                self.node.on_way(&received, way);
                self.controllers.on_message(now, peer, &received, way);
                self.dispatch(now);
            }
            Err(RefusedDatagram { refusal: Refusal::Replay, claimed_sender, .. })
                if self.node.is_copy(claimed_sender, peer, way)
                    || self.pinged.is_asked(now, claimed_sender) =>
            {
                self.counters.copies += 1;
            }
            Err(refused) => {
                // A late copy by another link is no sign of a second node.
                let is_known = self.paths.knows(refused.claimed_sender, peer);
                let refusal = if is_known { refused.refusal } else { self.node.suspicion(&refused, peer) };
                self.counters.refuse(now, refusal, refused.claimed_sender, peer);
            }
        }
    }

    fn accept_sessions(&mut self, now: Instant, token: Token) {
        for _ in 0..ACCEPTS {
            let Some(endpoint) = self.transport.endpoint_at(token.0 - LISTENERS) else { return };
            let role = endpoint.role();
            match endpoint.accept() {
                Ok(stream) => self.sessions.accept(now, &self.registry, stream, role),
                Err(error) => return self.on_accept_error(now, token, &error),
            }
        }
        self.ready.insert(token);
    }

    fn accept_commands(&mut self, now: Instant, token: Token) {
        for _ in 0..ACCEPTS {
            if let Err(error) = self.control.accept(now, &self.registry) {
                return self.on_accept_error(now, token, &error);
            }
        }
        self.ready.insert(token);
    }

    fn on_accept_error(&mut self, now: Instant, token: Token, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock => {}
            // The peer closed it before it was accepted: there may be others.
            io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => self.ready.insert(token),
            // No descriptor or no memory is free. `poll` does not report the connections that
            // wait a second time.
            _ => {
                self.counters.accept_failed(now, error);
                self.ready.defer(now, token);
            }
        }
    }

    #[inline(never)]
    fn turn_session(&mut self, now: Instant, at: usize) {
        for _ in 0..SESSION_EVENTS {
            let Self { node, config, repository, sessions, registry, .. } = self;
            let controller = node.controller.as_ref();
            let floor = controller.and_then(|controller| repository.floor_to_send(controller.map().floor()));
            let answers = |purpose, from| match purpose {
                Purpose::Pull => map_frame(node, floor, &config.node.hostname, from),
                _ => page_frame(node, from),
            };
            match sessions.turn(now, at, registry, &answers) {
                SessionEvent::Quiet => return,
                SessionEvent::WantsWorker(node, purpose) => return self.serve(now, at, node, purpose),
                other => self.on_session(now, &other),
            }
        }
        self.ready.insert(Token(SESSIONS + at));
    }

    #[inline(never)]
    fn on_session(&mut self, now: Instant, event: &SessionEvent) {
        let event = match event {
            SessionEvent::Ready(node, purpose) => Event::SessionReady(*node, *purpose),
            SessionEvent::Busy(node, purpose, pause) => Event::SessionBusy(*node, *purpose, *pause),
            SessionEvent::Page(node, page) => Event::DetailPage(*node, page),
            SessionEvent::End(node) => Event::DetailEnd(*node),
            SessionEvent::Failed(node, purpose, reason) => {
                self.paths.on_session_failed(now, *node);
                Event::SessionFailed(*node, *purpose, reason)
            }
            SessionEvent::Quiet | SessionEvent::WantsWorker(..) => return,
        };
        self.on_event(now, &event);
    }

    #[inline(never)]
    fn take_signals(&mut self, now: Instant, batch: &mut Batch) {
        while let Some(signal) = sys::next_signal(self.signals.as_fd()) {
            match signal {
                libc::SIGCHLD => self.reap_workers(now, batch),
                libc::SIGHUP => self.reload(now),
                _ => self.exit = Some(Ok(())),
            }
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        while let Some(event) = self.sessions.on_timeout(now, &self.registry) {
            self.on_session(now, &event);
        }
        self.control.on_timeout(now, &self.registry);
        self.ready.on_timeout(now);
        if self.transport.view.poll_at().is_some_and(|due| now >= due) {
            self.transport.view.on_timeout(now);
            self.ready.insert(Token(TOPOLOGY));
        }
        if self.repository.poll_at().is_some_and(|due| now >= due) {
            self.load(now);
        }
        self.announce(now);
        self.resolve_names(now);
        self.node.on_timeout(now, &mut self.actions);
        self.dispatch(now);
        let has_merged = self.node.controller.as_ref().is_some_and(|c| c.sync().is_started());
        if has_merged && self.repository.on_started() {
            self.resume_waiting(now);
        }
        self.on_confirmed(now);
        self.note_losses(now);
    }

    /// Passes an event to the state machines, and executes their actions.
    pub fn on_event(&mut self, now: Instant, event: &Event<'_>) {
        self.node.on_event(now, event, &mut self.actions);
        self.dispatch(now);
    }

    /// Executes the actions of the state machines. An action that fails at once is
    /// reported to them as an event at once, which may add actions.
    pub fn dispatch(&mut self, now: Instant) {
        while let Some(action) = self.actions.pop_front() {
            match action {
                Action::Send(to, message) => {
                    let (node, as_role) = match to {
                        To::Node(node, _) => (node, message.msgtype().sender()),
                        _ => (NodeId(0), message.msgtype().sender()),
                    };
                    let len = self.codec.encode(&message, node, &mut self.transmit);
                    let by = (&mut self.transport, &self.paths);
                    match send_by_links(now, by, as_role, &to, &self.transmit[..len]) {
                        Ok(None) => {
                            self.counters.sent += 1;
                            self.counters.sent_to_controllers.count(&message);
                        }
                        Ok(Some(reason)) => self.counters.undelivered.count(reason),
                        Err(error) => self.counters.send_failed(now, &error, &to, self.network.are_up()),
                    }
                    self.send_by_unicast(now, &to, message, len);
                }
                Action::Connect(node, peer, purpose) => {
                    let peer = self.paths.choose(now, node, peer, self.network.up());
                    let stream = self.transport.connect(peer, purpose.roles().1);
                    let started = stream.and_then(|stream| {
                        self.sessions.initiate(now, &self.registry, stream, (node, peer), purpose)
                    });
                    if let Err(error) = started {
                        self.paths.on_session_failed(now, node);
                        let reason = Reason::format(format_args!("{}: {}", Door(peer), OsError(&error)));
                        let event = Event::SessionFailed(node, purpose, &reason);
                        self.node.on_event(now, &event, &mut self.actions);
                    }
                }
                Action::Disconnect(node, purpose) => self.sessions.disconnect(&self.registry, node, purpose),
                Action::StartInstall(install) => self.start_install(now, install),
                Action::StartRecovery => {
                    let stopped = self.agent_stopped.take();
                    self.start_agent(now, Job::Recover { stopped }, None);
                }
                Action::StartProof { is_heard } => self.start_agent(now, Job::Prove { is_heard }, None),
                Action::StartPull(node) => self.start_pull(now, node),
                Action::StartBlobs(node) => self.start_blobs(now, node),
                Action::SettleRollout(to) => self.settle_rollout(now, to),
                Action::StartSpread(file) => self.start_spread(now, &file),
                Action::StopSpread => self.stop_spread(),
                Action::StartReceiving(offer) => self.start_receiving(now, offer),
                Action::PassOffer(offer) => self.pass_offer(offer),
                Action::StopReceiving => self.workers.stop(WorkerKind::Receive),
            }
        }
    }
}
