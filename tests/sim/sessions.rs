//! Stream sessions, as events: they open or do not; a detailed query's pages come
//! one after another while the host goes on, all other sessions are handed to
//! workers.

use thimble::fsm::event::Event as Told;
use thimble::time::Duration;
use thimble::types::{NodeId, Reason};
use thimble::wire::frame::Purpose;

use crate::network::Fate;
use crate::world::{Event, World};

/// The other end of a session: a machine, and which start of its daemon.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub peer: usize,
    start: u32,
}

/// What comes next in a session.
#[derive(Clone, Copy)]
pub enum SessionStep {
    /// The other end answers the opening, or does not.
    Open { peer: usize },
    /// It ends without a word having been said.
    Fail,
    /// The page from this patch on is asked for.
    Page { link: Link, from: usize },
}

/// A session that nobody answers is given up after so long, at most.
pub const SILENCE_MOST_MS: u64 = 2_000;

impl World {
    pub fn connect(&mut self, machine: usize, node: NodeId, peer: usize, purpose: Purpose) {
        let token = self.number();
        self.traffic.on_session(machine, purpose);
        let Some(process) = &mut self.machines[machine].process else { return };
        process.sessions.push((node, purpose, token));
        if purpose == Purpose::Fetch {
            self.check_taken(machine);
        }
        self.note(format_args!("{machine} connects to {peer}: {purpose:?}"));
        self.go_on(machine, token, SessionStep::Open { peer });
    }

    pub fn disconnect(&mut self, machine: usize, node: NodeId, purpose: Purpose) {
        let Some(process) = &mut self.machines[machine].process else { return };
        process.sessions.retain(|session| (session.0, session.1) != (node, purpose));
    }

    fn go_on(&mut self, machine: usize, token: u64, step: SessionStep) {
        let Some(start) = self.machines[machine].process.as_ref().map(|process| process.start) else {
            return;
        };
        let delay = match step {
            SessionStep::Fail => self.dice.between(200, SILENCE_MOST_MS),
            _ => self.dice.between(1, if self.network.is_calm { 10 } else { 60 }),
        };
        self.schedule(delay, Event::Session { machine, start, token, step });
    }

    /// Tells the machine of the session's end, or of what it goes on with.
    fn tell(&mut self, machine: usize, token: u64, is_end: bool, told: &Told<'_>) {
        self.touch(machine, |process, now| {
            if is_end {
                process.sessions.retain(|session| session.2 != token);
            }
            process.node.on_event(now, told, &mut process.actions);
        });
    }

    pub fn on_session(&mut self, machine: usize, token: u64, step: SessionStep) {
        let sessions = self.machines[machine].process.iter().flat_map(|process| &process.sessions);
        let Some((node, purpose, _)) = sessions.copied().find(|session| session.2 == token) else {
            return; // Disconnected.
        };
        match step {
            SessionStep::Open { peer } => self.on_open(machine, token, node, purpose, peer),
            SessionStep::Fail => {
                let reason = Reason::truncated("the session was cut");
                self.tell(machine, token, true, &Told::SessionFailed(node, purpose, &reason));
            }
            SessionStep::Page { link, from } => {
                if self.is_broken(machine, link) {
                    // A query may hang until its deadline; other ends are told.
                    if self.dice.chance(500) {
                        self.go_on(machine, token, SessionStep::Fail);
                    }
                    return;
                }
                self.on_page(machine, token, node, link, from);
            }
        }
    }

    /// Whether a session is cut: the network is, the other end was started again,
    /// or, in the wild, for no reason at all.
    pub fn is_broken(&mut self, machine: usize, link: Link) -> bool {
        self.network.is_apart(self.now, machine, link.peer)
            || !self.machines[link.peer].is_alive(link.start)
            || (!self.network.is_calm && self.dice.chance(10))
    }

    fn on_open(&mut self, machine: usize, token: u64, node: NodeId, purpose: Purpose, peer: usize) {
        let Some(there) = self.machines[peer].process.as_ref() else {
            return self.go_on(machine, token, SessionStep::Fail);
        };
        let link = Link { peer, start: there.start };
        let wants_worker = matches!(purpose, Purpose::Fetch | Purpose::Blobs);
        let is_unread = wants_worker && !there.is_loaded;
        match self.network.session(&mut self.dice, self.now, machine, peer) {
            Fate::Failed => self.go_on(machine, token, SessionStep::Fail),
            fate if is_unread || matches!(fate, Fate::Busy) => {
                let pause = Duration::from_millis(100);
                self.tell(machine, token, true, &Told::SessionBusy(node, purpose, pause));
            }
            _ if purpose == Purpose::QueryDetailed => {
                self.tell(machine, token, false, &Told::SessionReady(node, purpose));
                self.go_on(machine, token, SessionStep::Page { link, from: 0 });
            }
            _ => {
                // From here on the session is the worker's.
                if let Some(process) = &mut self.machines[machine].process {
                    process.ready.push((node, purpose, link));
                }
                self.tell(machine, token, true, &Told::SessionReady(node, purpose));
            }
        }
    }

    /// The session that a worker starts with.
    pub fn take_link(&mut self, machine: usize, node: NodeId, purpose: Purpose) -> Link {
        let ready = &mut self.machines[machine].process.as_mut().expect("it asks").ready;
        let at = ready.iter().position(|(of, what, _)| (*of, *what) == (node, purpose));
        let (.., link) = ready.remove(at.expect("a worker starts over a session that is ready"));
        ready.retain(|(_, what, _)| *what != purpose);
        link
    }

    fn on_page(&mut self, machine: usize, token: u64, node: NodeId, link: Link, from: usize) {
        let there = self.machines[link.peer].process.as_ref();
        let page =
            there.and_then(|there| there.node.agent.as_ref()).and_then(|agent| agent.detail_page(from));
        let Some(mut page) = page else {
            return self.tell(machine, token, true, &Told::DetailEnd(node));
        };
        // Small pages, so that snapshots change in between.
        page.installed.truncate(self.dice.between(1, 3) as usize);
        self.tell(machine, token, false, &Told::DetailPage(node, &page));
        let from = from + page.installed.len().max(1);
        self.go_on(machine, token, SessionStep::Page { link, from });
    }
}
