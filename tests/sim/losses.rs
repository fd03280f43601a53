//! When a node is lost, over UDP with the default timers: a small cluster on a wire that loses
//! datagrams, without all else that happens in a [`World`](crate::world).
//!
//! | promise | test |
//! |---|---|
//! | no node that is up is lost where a fifth of all datagrams is, each way | 1,000 hours with `HOURS=1000`, 10 otherwise |
//! | a node that dies is lost within `hello_interval_ms` and 5 s | [`a_dead_node_is_lost_in_time`] |
//! | a host that dies at work is lost within 5 s | the same |
//! | without losses nothing is asked again | [`a_whole_wire_carries_no_asks`] |
//! | nodes that know each other need no multicast | [`nodes_that_know_each_other_need_no_multicast`] |

use std::collections::BTreeMap;

use thimble::config::Timers;
use thimble::fsm::actions::{Action, Actions, To};
use thimble::fsm::agent::{Agent, AgentFacts};
use thimble::fsm::controller::{Controller, ControllerTimers, Tables};
use thimble::fsm::event::{Event, WorkerEnd};
use thimble::fsm::installed::Installed;
use thimble::fsm::node::Node;
use thimble::fsm::presence::Presence;
use thimble::fsm::random::Random;
use thimble::fsm::reasons::{InstallReason, Reasons};
use thimble::fsm::requests::RequestTimers;
use thimble::fsm::sync::SyncTimers;
use thimble::fsm::sync::blobs::BlobError;
use thimble::list::reserved;
use thimble::repo::map::Map;
use thimble::table::{Table, index_len};
use thimble::time::{Duration, Instant};
use thimble::types::{Digest, NodeId};
use thimble::wire::codec::ReceivedDatagram;
use thimble::wire::frame::{Purpose, Role};
use thimble::wire::messages::Message;

use crate::dice::Dice;
use crate::machine::{machine_at, name, peer};
use crate::number;

/// The first machines are controllers, the others hosts. The last host installs without end.
const CONTROLLERS: usize = 2;
const MACHINES: usize = 6;
const AT_WORK: usize = MACHINES - 1;
/// In how many of a thousand cases a datagram is lost.
const A_FIFTH: u64 = 200;
/// Simulated hours, unless `HOURS` says otherwise.
const HOURS: u64 = 10;
const HOUR_MS: u64 = 3_600_000;
/// By then all nodes have heard each other.
const SETTLED_MS: u64 = 100_000;

fn timers() -> ControllerTimers {
    let Timers { hello_interval_ms, hello_start_ms, probe_ms, install_retry_ms, .. } = Timers::default();
    let millis = Duration::from_millis;
    let never = Duration::from_secs(u64::MAX / 4_000);
    ControllerTimers {
        hello_interval: millis(hello_interval_ms),
        probe: millis(probe_ms),
        // Silence alone decides here.
        host_lost: never,
        query_timeout: millis(5_000),
        request: RequestTimers { retry: millis(install_retry_ms), give_up: never, stall: never },
        sync: SyncTimers {
            hello_interval: millis(hello_interval_ms),
            hello_start: millis(hello_start_ms),
            probe: millis(probe_ms),
            controller_lost: never,
            retry: millis(1_000),
        },
    }
}

fn id(machine: usize) -> NodeId {
    NodeId(100 + machine as u64)
}

struct Machine {
    node: Node<'static>,
    actions: Actions,
    due: Option<u64>,
    is_dead: bool,
}

/// A datagram under way: from, to, its message, and whether every agent could have made it.
type Datagram = (usize, usize, Message, bool);

struct Wire {
    now: u64,
    dice: Dice,
    machines: Vec<Machine>,
    queue: BTreeMap<(u64, u64), Datagram>,
    numbers: u64,
    loss_per_mille: u64,
    has_multicast: bool,
    sent: u64,
}

fn controller(seed: [u8; 32], machine: usize) -> Machine {
    let lend = |count| Vec::leak(vec![0; index_len(count)]);
    let tables = Tables {
        map: Map::new(Box::leak(Box::new(Vec::with_capacity(1)))),
        hosts: Table::new(reserved(MACHINES), lend(MACHINES)),
        queries: Vec::leak(vec![None; 5]),
        reasons: Reasons::new(Vec::leak(vec![InstallReason::default(); 4])),
        neighbours: Vec::leak(vec![None; 7]),
        blob_errors: Vec::leak(vec![BlobError::default(); 1]),
    };
    let mut controller = Controller::new(Instant::default(), id(machine), timers(), tables);
    controller.on_loaded(Instant::default());
    let node = Node { controller: Some(controller), agent: None, random: Random::new(seed) };
    Machine { node, actions: Actions::default(), due: Some(0), is_dead: false }
}

fn host(seed: [u8; 32], machine: usize) -> Machine {
    let facts = AgentFacts {
        node: id(machine),
        hostname: name(&format!("host-{machine}")),
        nodetype: name("worker"),
        sw_version: name("1.0"),
        rejection_shown: Duration::from_secs(60),
        hello_interval: timers().hello_interval,
    };
    let list = || Box::leak(Box::new(Vec::with_capacity(1)));
    let mut random = Random::new(seed);
    let agent = Agent::new(Instant::default(), facts, Installed::new(list(), list()), &mut random);
    let node = Node { controller: None, agent: Some(agent), random };
    Machine { node, actions: Actions::default(), due: Some(0), is_dead: false }
}

impl Wire {
    fn new(seed: u64, loss_per_mille: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut machine = |machine: usize| {
            let seed = dice.seed();
            if machine < CONTROLLERS { controller(seed, machine) } else { host(seed, machine) }
        };
        let machines = (0..MACHINES).map(&mut machine).collect();
        let mut wire = Self {
            now: 0,
            dice,
            machines,
            queue: BTreeMap::new(),
            numbers: 0,
            loss_per_mille,
            has_multicast: true,
            sent: 0,
        };
        wire.run_until(SETTLED_MS);
        wire
    }

    fn run_until(&mut self, end: u64) {
        loop {
            let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
            let live = self.machines.iter().enumerate().filter(|(_, machine)| !machine.is_dead);
            let wake = live.filter_map(|(index, machine)| Some((machine.due?, index))).min();
            let at = arrival.into_iter().chain(wake.map(|(at, _)| at)).min();
            let Some(at) = at.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if arrival == Some(at) {
                let (_, datagram) = self.queue.pop_first().expect("it is the first");
                self.arrives(datagram);
            } else if let Some((_, index)) = wake {
                self.touch(index, |machine, now| machine.node.on_timeout(now, &mut machine.actions));
            }
        }
        self.now = end;
    }

    fn arrives(&mut self, (from, to, message, is_forgeable): Datagram) {
        if self.machines[to].is_dead {
            return;
        }
        let received = ReceivedDatagram { sender: id(from), key_slot: 0, message, is_forgeable };
        self.touch(to, |machine, now| {
            machine.node.on_message(now, peer(from), &received, &mut machine.actions);
        });
    }

    fn touch(&mut self, index: usize, turn: impl FnOnce(&mut Machine, Instant)) {
        let now = Instant::from_millis(self.now);
        turn(&mut self.machines[index], now);
        while let Some(action) = self.machines[index].actions.pop_front() {
            let machine = &mut self.machines[index];
            let mut happens = |event: Event<'_>| machine.node.on_event(now, &event, &mut machine.actions);
            match action {
                Action::Send(to, message) => self.send(index, to, message),
                Action::StartRecovery => {
                    happens(Event::InstalledEnd(Digest::default(), None));
                    happens(Event::WorkerEnded(WorkerEnd::Done));
                }
                Action::Connect(node, _, Purpose::Fetch) => {
                    happens(Event::SessionReady(node, Purpose::Fetch));
                }
                // It installs without end.
                Action::StartInstall(_) => {}
                Action::Connect(node, _, purpose) => {
                    happens(Event::SessionBusy(node, purpose, Duration::from_secs(3_600)));
                }
                Action::Disconnect(..) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.machines[index].actions.dropped(), 0);
        let due = self.machines[index].node.poll_at();
        self.machines[index].due = due.map(|due| due.as_millis().max(self.now));
    }

    fn send(&mut self, from: usize, to: To, message: Message) {
        self.sent += 1;
        let receivers = match to {
            To::Node(_, peer) | To::Peer(peer) => machine_at(peer)..machine_at(peer) + 1,
            _ if !self.has_multicast => return,
            To::Controllers => 0..CONTROLLERS,
            To::Agents => CONTROLLERS..MACHINES,
        };
        let is_forgeable = !matches!(to, To::Node(..)) && message.msgtype().receiver() == Role::Agent;
        for to in receivers.filter(|to| *to != from) {
            if self.dice.chance(self.loss_per_mille) {
                continue;
            }
            self.numbers += 1;
            let at = (self.now + self.dice.between(1, 3), self.numbers);
            self.queue.insert(at, (from, to, message.clone(), is_forgeable));
        }
    }

    fn controller(&self, index: usize) -> &Controller<'static> {
        self.machines[index].node.controller.as_ref().expect("the first machines are controllers")
    }

    /// Asks the host that is at work to install.
    fn put_to_work(&mut self) {
        self.touch(0, |machine, now| {
            machine.node.ask_install(now, id(AT_WORK), false, &mut machine.actions).expect("it is idle");
        });
    }

    /// How many nodes the controllers have lost, and how often they have asked again.
    fn lost_and_asked(&self) -> (u64, u64) {
        let counts = (0..CONTROLLERS).map(|index| {
            let controller = self.controller(index);
            (controller.unanswered(), controller.asks_sent())
        });
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn has_lost(&self, index: usize, other: usize) -> bool {
        let controller = self.controller(index);
        let presence = match other < CONTROLLERS {
            true => controller.sync().neighbours().get(id(other)).map(|one| one.presence),
            false => controller.hosts().get(id(other)).map(|host| host.presence),
        };
        presence.is_some_and(Presence::is_gone)
    }

    /// A machine dies. Returns how long it takes until the first controller has lost it.
    fn lost_after(&mut self, machine: usize) -> u64 {
        let watcher = usize::from(machine == 0);
        let died = self.now;
        self.machines[machine].is_dead = true;
        while !self.has_lost(watcher, machine) {
            self.run_until(self.now + 1);
            assert!(self.now < died + HOUR_MS, "{machine} is never lost");
        }
        self.now - died
    }
}

#[test]
fn no_node_that_is_up_is_lost_where_a_fifth_of_all_datagrams_is() {
    let hours = number("HOURS").unwrap_or(HOURS);
    let mut wire = Wire::new(number("SEED").unwrap_or(1), A_FIFTH);
    wire.put_to_work();
    for hour in 1..=hours {
        wire.run_until(SETTLED_MS + hour * HOUR_MS);
        assert_eq!(wire.lost_and_asked().0, 0, "lost in hour {hour}");
    }
    let (lost, asked) = wire.lost_and_asked();
    println!("{hours} h: {} datagrams sent, {asked} of them asks, {lost} false losses", wire.sent);
    assert!(asked > hours * 1_000, "a fifth is lost: {asked}");
}

#[test]
fn a_dead_node_is_lost_in_time() {
    let Timers { hello_interval_ms, .. } = Timers::default();
    for (loss, tries) in [(0, 20), (A_FIFTH, 20)] {
        let mut most = [0; 3];
        for seed in 0..tries {
            for (kind, machine) in [(0, CONTROLLERS), (1, AT_WORK), (2, 1)] {
                let mut wire = Wire::new(seed, loss);
                wire.put_to_work();
                let pause = wire.dice.between(10_000, 50_000);
                wire.run_until(wire.now + pause);
                most[kind] = wire.lost_after(machine).max(most[kind]);
            }
        }
        let [idle, at_work, controller] = most;
        println!(
            "{loss} in 1,000 lost: idle host {idle} ms, at work {at_work} ms, controller {controller} ms"
        );
        assert!(idle <= hello_interval_ms + 5_000, "{idle}");
        assert!(at_work <= 5_000, "{at_work}");
        assert!(controller <= hello_interval_ms + 5_000, "{controller}");
    }
}

#[test]
fn a_whole_wire_carries_no_asks() {
    let mut wire = Wire::new(1, 0);
    wire.run_until(24 * HOUR_MS);
    assert_eq!(wire.lost_and_asked(), (0, 0));
    // What one controller sends in a day, and what hosts answer: as many as with the jitter of
    // before, 0 % to 10 %.
    let rounds = 24 * HOUR_MS * 100 / 105 / Timers::default().hello_interval_ms;
    let hosts = (MACHINES - CONTROLLERS) as u64;
    let most = rounds * CONTROLLERS as u64 * (2 + hosts + (CONTROLLERS - 1) as u64) * 101 / 100;
    assert!(wire.sent <= most, "{} of {most}", wire.sent);
}

#[test]
fn nodes_that_know_each_other_need_no_multicast() {
    let mut wire = Wire::new(1, 0);
    wire.has_multicast = false;
    wire.run_until(wire.now + HOUR_MS);
    assert_eq!(wire.lost_and_asked().0, 0);
    let after = Instant::from_millis(wire.now - 40_000);
    for index in 0..CONTROLLERS {
        assert!(wire.controller(index).hosts().iter().all(|host| host.last_heard > after));
    }
    wire.machines[CONTROLLERS].is_dead = true;
    wire.run_until(wire.now + 100_000);
    assert!((0..CONTROLLERS).all(|index| wire.has_lost(index, CONTROLLERS)), "its death is seen, too");
    // Its daemon starts again: a lost host is still asked in each round.
    wire.machines[CONTROLLERS].is_dead = false;
    wire.run_until(wire.now + 40_000);
    assert!((0..CONTROLLERS).all(|index| !wire.has_lost(index, CONTROLLERS)), "and its return");
}
