//! A host of a crowd: the agent's machine, and the worker that receives for it.
//!
//! The worker is the daemon's without bytes. It knows which packets are false, and so whether the hash of a block
//! would agree. What it has synced outlives it.

use std::collections::{BTreeMap, BTreeSet};

use thimble::coding::proof::Cut;
use thimble::fsm::actions::{Action, Actions, Peer, To};
use thimble::fsm::agent::{Agent, AgentFacts};
use thimble::fsm::event::{Event, WorkerEnd};
use thimble::fsm::installed::Installed;
use thimble::fsm::random::Random;
use thimble::fsm::spread::receiver::{Receiver, Take};
use thimble::fsm::spread::{Offer, Report};
use thimble::limits::FILE_BLOCKS;
use thimble::time::{Duration, Instant};
use thimble::types::{Digest, Hash, NodeId};
use thimble::wire::codec::ReceivedDatagram;
use thimble::wire::messages::Message;
use thimble::wire::packet::Packet;

use crate::machine::name;

/// As the daemon's: a sender that was not heard for so long has ended.
pub const SILENT: Duration = Duration::from_secs(30);
/// As the daemon's: from one report of the worker to the next.
const REPORT_APART: Duration = Duration::from_secs(1);
/// How long the disk takes to keep what was written.
const SYNC: Duration = Duration::from_millis(50);

/// A bit for each block.
type Blocks = [u64; FILE_BLOCKS / 64];

/// The worker that receives.
struct Worker {
    receiver: Receiver,
    /// Source packets that were taken and are not of the file, by their blocks.
    false_source: BTreeSet<(u64, u16)>,
    /// The same of repair packets, by block and place.
    false_repair: BTreeSet<(u64, u16)>,
    /// Blocks whose hash agreed.
    agreed: BTreeSet<u64>,
    /// These blocks are on the disk then.
    syncs: Option<(Instant, Blocks)>,
    reports: Instant,
}

/// A host.
pub struct Host {
    node: NodeId,
    agent: Agent<'static>,
    actions: Actions,
    random: Random,
    worker: Option<Worker>,
    /// What is durable of each file.
    kept: BTreeMap<Hash, Blocks>,
    /// When it does something next.
    pub due: Instant,
    pub is_up: bool,
    /// Blocks whose hash did not agree.
    pub poisoned: usize,
}

fn agent(now: Instant, node: NodeId, random: &mut Random) -> Agent<'static> {
    let facts = AgentFacts {
        node,
        hostname: name("host"),
        nodetype: name("worker"),
        sw_version: name("1.0"),
        rejection_shown: Duration::from_secs(1),
        hello_interval: Duration::from_secs(10),
    };
    let list = || Box::leak(Box::new(Vec::with_capacity(1)));
    let mut agent = Agent::new(now, facts, Installed::new(list(), list()), random);
    agent.set_takes_part(true);
    let mut actions = Actions::default();
    agent.on_timeout(now, &mut actions);
    for event in [Event::InstalledEnd(Digest::default(), None), Event::WorkerEnded(WorkerEnd::Done)] {
        agent.on_event(now, &event, random, &mut actions);
    }
    agent
}

impl Host {
    pub fn new(now: Instant, number: usize) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let (mut random, node) = (Random::new(seed), NodeId(number as u64 + 1));
        Self {
            node,
            agent: agent(now, node, &mut random),
            actions: Actions::default(),
            random,
            worker: None,
            kept: BTreeMap::new(),
            due: now,
            is_up: true,
            poisoned: 0,
        }
    }

    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Its power fails: what was not synced is lost. It is back at once.
    pub fn restart(&mut self, now: Instant) {
        self.worker = None;
        self.agent = agent(now, self.node, &mut self.random);
        self.due = now;
    }

    /// The transmission that it receives.
    pub fn receives(&self) -> Option<u64> {
        assert_eq!(self.agent.receives(), self.worker.as_ref().map(|worker| worker.receiver.what().id));
        self.agent.receives()
    }

    /// It goes over to sessions.
    pub fn has_left(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.receiver.has_left())
    }

    /// How many blocks of a file are durable.
    pub fn blocks_kept(&self, file: &Hash) -> u64 {
        let words = self.kept.get(file).into_iter().flatten();
        words.map(|word| u64::from(word.count_ones())).sum()
    }

    pub fn has_all(&self, file: &Hash, cut: Cut) -> bool {
        self.blocks_kept(file) == cut.blocks()
    }

    fn begin(&mut self, now: Instant, offer: &Offer) {
        let Some(mut receiver) = Receiver::new(now, offer) else {
            return self.event(now, &Event::ReceivingEnded(true));
        };
        let kept = *self.kept.entry(offer.file).or_insert([0; FILE_BLOCKS / 64]);
        receiver.resume(&kept);
        receiver.on_offer(now, offer, &mut self.random);
        let agreed = (0..receiver.what().cut.blocks()).filter(|block| receiver.is_here(*block)).collect();
        self.worker = Some(Worker {
            receiver,
            false_source: BTreeSet::new(),
            false_repair: BTreeSet::new(),
            agreed,
            syncs: None,
            reports: now + REPORT_APART,
        });
    }

    fn event(&mut self, now: Instant, event: &Event<'_>) {
        self.agent.on_event(now, event, &mut self.random, &mut self.actions);
    }

    pub fn on_offer(&mut self, now: Instant, from: (NodeId, Peer), offer: &Offer) {
        let received = ReceivedDatagram {
            sender: from.0,
            key_slot: 0,
            message: Message::SpreadOffer(offer.clone()),
            is_forgeable: true,
        };
        self.agent.on_message(now, from.1, &received, &mut self.random, &mut self.actions);
        // What the loop does about it, it does now.
        self.due = now;
    }

    /// Takes a packet; whether it is of the file is known here.
    pub fn on_packet(&mut self, now: Instant, packet: &Packet<'_>, is_true: bool) {
        let Some(worker) = &mut self.worker else { return };
        match worker.receiver.on_packet(now, packet) {
            Take::Source { block, number } if !is_true => {
                worker.false_source.insert((block, number));
            }
            Take::Repair { block, place } if !is_true => {
                worker.false_repair.insert((block, place));
            }
            Take::Drop(_) => return,
            Take::Proof => assert!(is_true, "a false proof is kept"),
            _ => {}
        }
        while let Some(ready) = worker.receiver.ready() {
            let block = ready.block;
            let mut missing = heapless::Vec::new();
            let used = worker.receiver.missing_of(block, &mut missing).expect("they are enough").len() as u16;
            let is_fooled = worker.false_source.range((block, 0)..=(block, u16::MAX)).next().is_some()
                || worker.false_repair.range((block, 0)..(block, used)).next().is_some();
            worker.receiver.on_block(block, !is_fooled);
            if is_fooled {
                self.poisoned += 1;
                worker.false_source.retain(|(of, _)| *of != block);
                worker.false_repair.retain(|(of, _)| *of != block);
            } else {
                worker.agreed.insert(block);
                self.due = now;
            }
        }
    }

    /// All that is due. Returns its answers, with the machine of the controller that each is for.
    pub fn turn(&mut self, now: Instant) -> Vec<(Peer, Report)> {
        let mut answers = Vec::new();
        self.agent.on_timeout(now, &mut self.actions);
        self.execute(now, &mut answers);
        self.turn_worker(now);
        self.execute(now, &mut answers);
        let of_worker = self.worker.as_ref().and_then(|worker| {
            let syncs = worker.syncs.map(|(at, _)| at);
            Instant::earliest([worker.receiver.poll_at(), syncs, Some(worker.reports)])
        });
        let due = Instant::earliest([self.agent.poll_at(), of_worker]);
        self.due = due.map_or(now + REPORT_APART, |due| due.max(now + Duration::from_millis(1)));
        answers
    }

    fn execute(&mut self, now: Instant, answers: &mut Vec<(Peer, Report)>) {
        while let Some(action) = self.actions.pop_front() {
            match action {
                Action::StartReceiving(offer) => self.begin(now, &offer),
                Action::PassOffer(offer) => {
                    let worker = self.worker.as_mut().expect("it receives");
                    worker.receiver.on_offer(now, &offer, &mut self.random);
                }
                Action::StopReceiving => {
                    self.worker = None;
                    self.event(now, &Event::ReceivingEnded(true));
                }
                Action::Send(To::Node(_, peer), Message::SpreadReport(report)) => {
                    answers.push((peer, report))
                }
                // Acks, and recovery, which has ended.
                _ => {}
            }
        }
    }

    fn turn_worker(&mut self, now: Instant) {
        let Some(worker) = &mut self.worker else { return };
        worker.check();
        if let Some((_, blocks)) = worker.syncs.take_if(|(at, _)| now >= *at) {
            self.kept.insert(worker.receiver.what().file, blocks);
        }
        let kept = self.kept.get(&worker.receiver.what().file);
        if worker.syncs.is_none() && kept != Some(worker.receiver.done()) && !worker.receiver.has_left() {
            worker.syncs = Some((now + SYNC, *worker.receiver.done()));
        }
        let report = worker.receiver.report(now);
        let silence = now.since(worker.receiver.heard());
        let is_over = worker.receiver.is_over() || silence >= SILENT;
        if now >= worker.reports || is_over {
            worker.reports = now + REPORT_APART;
            self.event(now, &Event::Receiving(silence));
        }
        if let Some(report) = report {
            self.event(now, &Event::Lacks(&report));
        }
        if is_over && let Some(worker) = self.worker.take() {
            if !worker.receiver.has_left() {
                self.kept.insert(worker.receiver.what().file, *worker.receiver.done());
            }
            self.event(now, &Event::ReceivingEnded(worker.receiver.has_left()));
        }
    }
}

impl Worker {
    /// What is named here has the hash that it must have.
    fn check(&self) {
        for block in 0..self.receiver.what().cut.blocks() {
            assert_eq!(self.receiver.is_here(block), self.agreed.contains(&block), "block {block}");
        }
    }
}
