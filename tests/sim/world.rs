//! The event queue: every event passes through here, in an order determined by the seed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use thimble::fsm::actions::{Action, Peer, To};
use thimble::fsm::controller::spread::SpreadConfig;
use thimble::limits::DATAGRAM_BYTES;
use thimble::time::Instant;
use thimble::types::NodeId;
use thimble::wire::codec::{ReceivedDatagram, RefusedDatagram, Roles};
use thimble::wire::frame::Role;
use thimble::wire::messages::Message;
use thimble::wire::refusal::Refusal;

use crate::chaos::Weather;
use crate::check::Truth;
use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::machine::{Machine, Process, machine_at};
use crate::network::Network;
use crate::sessions::SessionStep;
use crate::spread::Packet;
use crate::topology::Topology;
use crate::traffic::Traffic;
use crate::transmissions::Transmissions;

/// More wakes of one process in one millisecond than this count as an endless loop.
const WAKES_MOST: u32 = 20;
/// Lines of the log that a failure shows.
const LOG_LINES: usize = 60;

/// A datagram under way.
pub struct Datagram {
    /// The sending machine, the address there, and the time.
    from: usize,
    source: Peer,
    sent: u64,
    to: usize,
    /// The receiving address; `None` for all nodes of a role.
    place: Option<Peer>,
    bytes: Vec<u8>,
    is_altered: bool,
}

pub enum Event {
    Datagram(Datagram),
    /// A machine's deadline.
    Wake {
        machine: usize,
        start: u32,
    },
    /// The next step of a session.
    Session {
        machine: usize,
        start: u32,
        token: u64,
        step: SessionStep,
    },
    /// A worker takes its next step.
    Worker {
        machine: usize,
        start: u32,
        id: u64,
    },
    /// The worker that sends a file to all hosts, or the one that receives it, has something to do.
    Spread {
        machine: usize,
        start: u32,
        wake: u64,
    },
    Receive {
        machine: usize,
        start: u32,
        wake: u64,
    },
    /// A packet of such a file arrives.
    Packet(Packet),
    Restart {
        machine: usize,
    },
    Operator,
    Chaos,
    /// A link may be lost by now, or back.
    Links,
    /// A controller's topology service delivers the next report.
    TopologyReport {
        machine: usize,
        start: u32,
    },
    /// A controller's topology service is back.
    TopologyBack {
        machine: usize,
        start: u32,
    },
}

/// The log: its last lines, and a hash of all lines.
pub struct Log {
    lines: VecDeque<String>,
    hasher: blake3::Hasher,
    is_loud: bool,
}

impl Log {
    pub fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    fn line(&mut self, line: String) {
        if self.is_loud {
            println!("{line}");
        }
        self.hasher.update(line.as_bytes());
        if self.lines.len() == LOG_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

pub struct World {
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    pub machines: Vec<Machine>,
    pub dice: Dice,
    pub network: Network,
    /// Over TIPC: links and topology services.
    pub topology: Option<Topology>,
    pub weather: Weather,
    pub truth: Truth,
    pub ledger: Ledger,
    pub traffic: Traffic,
    /// What the configuration of all says of files that are sent to all hosts, if the network carries that.
    pub spread: Option<SpreadConfig>,
    pub transmissions: Transmissions,
    /// Recorded install requests: from, to, bytes.
    pub recorded: Vec<(usize, usize, Vec<u8>)>,
    /// How many hosts may install at once, while that is checked.
    pub rollout_most: Option<usize>,
    pub log: Log,
}

impl World {
    /// The most controllers of a simulated cluster.
    const CONTROLLERS: u64 = 4;

    /// A cluster, powered off. The first machines are controllers, some of which
    /// are agents as well; all others are agents.
    pub fn new(seed: u64, machines: Option<u64>) -> Self {
        let mut dice = Dice::new(seed);
        let controllers = dice.between(1, Self::CONTROLLERS);
        let machines = machines.unwrap_or_else(|| controllers + dice.between(1, 4)).max(1);
        let controllers = controllers.min(machines);
        let mut machine = |index| {
            let is_controller = index < controllers;
            let roles = Roles { is_controller, is_agent: !is_controller || dice.chance(500) };
            Machine::new(index as usize, &mut dice, roles)
        };
        let mut machines: Vec<Machine> = (0..machines).map(&mut machine).collect();
        if controllers > 1 && dice.chance(300) {
            machines[dice.between(1, controllers - 1) as usize].lacks_key = true;
        }
        let weather = Weather::new(&mut dice);
        let spread = Self::spread_config(&mut dice);
        let is_loud = std::env::var("LOG").is_ok_and(|value| value == "1");
        let log = Log { lines: VecDeque::new(), hasher: blake3::Hasher::new(), is_loud };
        Self {
            now: 0,
            queue: BTreeMap::new(),
            numbers: 0,
            machines,
            dice,
            network: Network::default(),
            topology: (!seed.is_multiple_of(2)).then(Topology::default),
            weather,
            truth: Truth::default(),
            ledger: Ledger::default(),
            traffic: Traffic::default(),
            spread,
            transmissions: Transmissions::default(),
            recorded: Vec::new(),
            rollout_most: None,
            log,
        }
    }

    /// The machines that keep the repository.
    pub fn controllers(&self) -> Vec<usize> {
        self.machines.iter().filter(|m| m.roles.is_controller).map(|m| m.index).collect()
    }

    /// Adds a line to the log.
    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        self.log.line(format!("{:>7} {line}", self.now));
    }

    /// A unique number.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn schedule(&mut self, delay: u64, event: Event) {
        let at = (self.now + delay, self.number());
        self.queue.insert(at, event);
    }

    /// Handles all events until a time.
    pub fn run_until(&mut self, end: u64) {
        while let Some(next) = self.queue.first_entry().filter(|next| next.key().0 <= end) {
            let ((at, _), event) = next.remove_entry();
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Datagram(datagram) => self.on_datagram(&datagram),
            Event::Wake { machine, start } if self.machines[machine].is_alive(start) => self.on_wake(machine),
            Event::Session { machine, start, token, step } if self.machines[machine].is_alive(start) => {
                self.on_session(machine, token, step);
            }
            Event::Worker { machine, start, id } if self.machines[machine].is_alive(start) => {
                self.on_worker(machine, id);
            }
            Event::Spread { machine, start, wake } if self.machines[machine].is_alive(start) => {
                self.on_spread(machine, wake);
            }
            Event::Receive { machine, start, wake } if self.machines[machine].is_alive(start) => {
                self.on_receive(machine, wake);
            }
            Event::Packet(packet) => self.on_packet(&packet),
            Event::TopologyReport { machine, start } if self.machines[machine].is_alive(start) => {
                self.on_topology_report(machine)
            }
            Event::TopologyBack { machine, start } if self.machines[machine].is_alive(start) => {
                self.on_topology_back(machine);
            }
            // The process that waited for it is gone.
            Event::Wake { .. } | Event::Session { .. } | Event::Worker { .. } => {}
            Event::TopologyReport { .. } | Event::TopologyBack { .. } => {}
            Event::Spread { .. } | Event::Receive { .. } => {}
            Event::Links => self.review(),
            Event::Restart { machine } => self.restart(machine),
            Event::Operator => self.on_operator(),
            Event::Chaos => self.on_chaos(),
        }
    }

    /// Starts a machine's daemon, unless it runs.
    pub fn restart(&mut self, machine: usize) {
        if self.machines[machine].process.is_some() {
            return;
        }
        let machines = self.machines.len();
        let incarnation = self.machines[machine].start(self.now, &mut self.dice, machines);
        self.note(format_args!("{machine} starts, incarnation {incarnation}"));
        self.truth.on_start(machine, incarnation);
        self.configure_spread(machine);
        if self.machines[machine].roles.is_controller {
            self.start_load(machine);
        }
        self.on_bound(machine);
        self.touch(machine, |_, _| {});
    }

    /// One turn of a daemon's event loop: passes input to it, executes its actions and
    /// schedules its next wake.
    pub fn touch(&mut self, machine: usize, turn: impl FnOnce(&mut Process, Instant)) {
        let now = Instant::from_millis(self.now);
        let Some(process) = &mut self.machines[machine].process else { return };
        turn(process, now);
        let actions: Vec<Action> = std::iter::from_fn(|| process.actions.pop_front()).collect();
        assert_eq!(process.actions.dropped(), 0, "an action found no room");
        let start = process.start;
        let due = process.node.poll_at().map(|due| due.as_millis().max(self.now));
        let is_sooner = due.is_some_and(|due| process.wake.is_none_or(|wake| due < wake));
        if is_sooner {
            process.wake = due;
        }
        if let Some(due) = due.filter(|_| is_sooner) {
            self.schedule(due - self.now, Event::Wake { machine, start });
        }
        for action in actions {
            self.execute(machine, action);
        }
        self.check_controller(machine);
        self.check_presence(machine);
    }

    fn on_wake(&mut self, machine: usize) {
        let now = self.now;
        self.touch(machine, |process, instant| {
            // A wake that an earlier one has replaced finds nothing due.
            if process.wake.is_some_and(|wake| wake <= now) {
                process.wake = None;
                process.wakes = if process.wakes.0 == now { (now, process.wakes.1 + 1) } else { (now, 1) };
                assert!(process.wakes.1 <= WAKES_MOST, "the machine asks to be woken without end");
            }
            process.node.on_timeout(instant, &mut process.actions);
        });
    }

    fn execute(&mut self, machine: usize, action: Action) {
        match action {
            Action::Send(to, message) => self.send(machine, to, &message),
            Action::Connect(node, peer, purpose) => self.connect(machine, node, machine_at(peer), purpose),
            Action::Disconnect(node, purpose) => self.disconnect(machine, node, purpose),
            Action::StartInstall(install) => self.start_install(machine, install),
            Action::StartRecovery => self.start_recovery(machine),
            Action::StartProof { is_heard } => self.start_proof(machine, is_heard),
            Action::StartPull(node) => self.start_pull(machine, node),
            Action::StartBlobs(node) => self.start_blobs(machine, node),
            Action::SettleRollout(to) => self.settle_rollout(machine, to),
            Action::StartSpread(file) => self.start_spread(machine, &file),
            Action::StopSpread => self.stop_spread(machine),
            Action::StartReceiving(offer) => self.start_receiving(machine, &offer),
            Action::PassOffer(offer) => self.pass_offer(machine, &offer),
            Action::StopReceiving => self.stop_receiving(machine),
        }
    }

    pub fn send(&mut self, machine: usize, to: To, message: &Message) {
        self.traffic.on_sent(machine, message);
        self.check_sent(machine, to, message);
        let node = if let To::Node(node, _) = to { node } else { NodeId(0) };
        let mut datagram = [0; DATAGRAM_BYTES];
        let process = self.machines[machine].process.as_mut().expect("it is sending");
        let len = process.codec.encode(message, node, &mut datagram);
        let bytes = &datagram[..len];
        self.note(format_args!("{machine} sends {} ({len} bytes) to {to:?}", message.msgtype().as_str()));
        if let To::Peer(_) = to {
            self.on_greeting(machine);
        }
        let all = |role| self.machines.iter().filter(move |m| m.roles.has(role)).map(|m| (m.index, None));
        let receivers: Vec<(usize, Option<Peer>)> = match to {
            To::Controllers => all(Role::Controller).collect(),
            To::Agents => all(Role::Agent).collect(),
            To::Node(_, peer) | To::Peer(peer) => vec![(machine_at(peer), Some(peer))],
        };
        let source = self.peer_of(machine, message.msgtype().sender());
        for (to, place) in receivers {
            if matches!(message, Message::AgentInstallReq(_)) {
                self.recorded.push((machine, to, bytes.to_vec()));
            }
            if self.is_link_lost(machine, to) {
                continue;
            }
            for delay in self.network.deliveries(&mut self.dice, self.now, machine, to) {
                self.deliver(delay, machine, source, to, place, bytes.to_vec());
            }
        }
    }

    /// Schedules a datagram's delivery, sometimes with one bit flipped.
    pub fn deliver(
        &mut self,
        delay: u64,
        from: usize,
        source: Peer,
        to: usize,
        place: Option<Peer>,
        mut bytes: Vec<u8>,
    ) {
        let is_altered = !self.network.is_calm && self.dice.chance(5);
        if is_altered {
            let at = self.dice.index(bytes.len());
            bytes[at] ^= 1 << self.dice.index(8);
        }
        let sent = self.now;
        let datagram = Datagram { from, source, sent, to, place, bytes, is_altered };
        self.schedule(delay, Event::Datagram(datagram));
    }

    fn on_datagram(&mut self, datagram: &Datagram) {
        let Datagram { from, source, sent, to, place, ref bytes, is_altered } = *datagram;
        // What is under way does not reach a machine without a network.
        let is_reached = from == to || !self.network.is_lost(to);
        let is_bound = place.is_none_or(|place| self.is_bound(to, place));
        let is_delivered = is_reached && is_bound && self.hears(to, source, sent);
        let now = Instant::from_millis(self.now);
        let Some(process) = self.machines[to].process.as_mut().filter(|_| is_delivered) else { return };
        let start = process.start;
        match process.codec.decode(now, bytes) {
            Ok(received) => {
                let ReceivedDatagram { sender: node, ref message, .. } = received;
                assert!(!is_altered, "an altered datagram was accepted");
                assert_eq!(node, self.machines[from].id);
                if !received.is_forgeable {
                    self.truth.on_accepted(to, start, bytes);
                }
                self.note(format_args!("{to} hears {} of {from}", message.msgtype().as_str()));
                if let Message::SpreadReport(report) = message {
                    self.pass_lacks(to, node, report);
                }
                self.touch(to, |process, now| {
                    process.node.on_message(now, source, &received, &mut process.actions);
                });
                if message.msgtype().receiver() == Role::Controller {
                    self.check_heard(to, message.msgtype().sender(), node, source);
                }
            }
            Err(RefusedDatagram { refusal, .. }) => {
                let is_own = from == to && matches!(refusal, Refusal::DuplicateNodeId | Refusal::OwnEcho);
                let is_old = matches!(refusal, Refusal::Replay | Refusal::StaleIncarnation);
                assert!(is_altered || is_old || is_own, "a good datagram was refused: {refusal}");
                self.note(format_args!("{to} refuses {refusal} of {from}"));
            }
        }
    }
}
