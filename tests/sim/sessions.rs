//! Stream sessions as events. They open or fail. The pages of a detailed query arrive one
//! after another while the host continues; all other sessions are passed to workers.

use thimble::fsm::event::Event as NodeEvent;
use thimble::time::Duration;
use thimble::types::{NodeId, Reason};
use thimble::wire::frame::Purpose;

use crate::network::Fate;
use crate::world::{Event, World};

/// The other end of a session: a machine, and the start of its daemon.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub peer: usize,
    start: u32,
}

/// The next step of a session.
#[derive(Clone, Copy)]
pub enum SessionStep {
    /// The other end answers the opening, or does not.
    Open { peer: usize },
    /// It ends before any message.
    Fail,
    /// The page from this patch on is asked for.
    Page { link: Link, from: usize },
}

/// The longest time after which an unanswered session is given up.
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

    /// Passes an event of the session to the machine.
    fn pass_session_event(&mut self, machine: usize, token: u64, is_end: bool, event: &NodeEvent<'_>) {
        self.touch(machine, |process, now| {
            if is_end {
                process.sessions.retain(|session| session.2 != token);
            }
            process.node.on_event(now, event, &mut process.actions);
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
                self.pass_session_event(
                    machine,
                    token,
                    true,
                    &NodeEvent::SessionFailed(node, purpose, &reason),
                );
            }
            SessionStep::Page { link, from } => {
                if self.is_broken(machine, link) {
                    // A query may hang until its deadline; other purposes get an event.
                    if self.dice.chance(500) {
                        self.go_on(machine, token, SessionStep::Fail);
                    }
                    return;
                }
                self.on_page(machine, token, node, link, from);
            }
        }
    }

    /// Whether a session is cut: by a partition, a restart of the other end or, in the wild
    /// phase, at random.
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
                self.pass_session_event(machine, token, true, &NodeEvent::SessionBusy(node, purpose, pause));
            }
            _ if purpose == Purpose::QueryDetailed => {
                self.pass_session_event(machine, token, false, &NodeEvent::SessionReady(node, purpose));
                self.go_on(machine, token, SessionStep::Page { link, from: 0 });
            }
            _ => {
                // From here on the worker has the session.
                if let Some(process) = &mut self.machines[machine].process {
                    process.ready.push((node, purpose, link));
                }
                self.pass_session_event(machine, token, true, &NodeEvent::SessionReady(node, purpose));
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
            return self.pass_session_event(machine, token, true, &NodeEvent::DetailEnd(node));
        };
        // Small pages, so that snapshots change in between.
        page.installed.truncate(self.dice.between(1, 3) as usize);
        self.pass_session_event(machine, token, false, &NodeEvent::DetailPage(node, &page));
        let from = from + page.installed.len().max(1);
        self.go_on(machine, token, SessionStep::Page { link, from });
    }
}
