//! The loop's part: it starts the workers, passes offers and answers on, and keeps how far they are.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::{info, warn};

use super::super::event_loop::Daemon;
use super::super::os_error::OsError;
use super::super::proof;
use super::super::transport::SPREAD_SOCKETS;
use super::super::workers::{Ending, WorkerKind};
use crate::control::SpreadEnded;
use crate::fsm::actions::To;
use crate::fsm::controller::spread::SpreadConfig;
use crate::fsm::event::Event;
use crate::fsm::spread::{Offer, SpreadFile};
use crate::job::{Job, ReceiveJob, ReceiveState, RefusalKind, Report, SpreadInput, SpreadJob, SpreadState};
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, PatchId, Reason, SpreadEnding};
use crate::wire::keys::{Key, KeyClass};
use crate::wire::messages::{Message, SpreadReport};

/// How far the last file is that was sent to all hosts from here, and that was received.
#[derive(Debug, Default)]
pub struct Spreading {
    /// The patch that is sent, or was sent last.
    pub sent: Option<(PatchId, SpreadState)>,
    /// The last that have ended.
    pub ended: heapless::Vec<SpreadEnded, 8, u8>,
    /// The same of what is received.
    pub received: Option<(PatchId, ReceiveState)>,
    /// Files that were sent, with all of their packets' bytes.
    pub files_sent: u64,
    /// Bytes of the files before the current one.
    pub bytes_before: [u64; 3],
    /// The refusals of packets before the current file.
    pub refused_before: [u64; 5],
    /// Poisoned blocks before it.
    pub poisoned_before: u64,
}

impl Spreading {
    /// Bytes of source packets, repair packets and anything else that were sent.
    #[must_use]
    pub fn sent_bytes(&self) -> [u64; 3] {
        let now = self.sent.as_ref().map_or([0; 3], |(_, state)| state.sent_bytes);
        std::array::from_fn(|at| self.bytes_before[at] + now[at])
    }

    /// Packets that were refused, as [`ReceiveState::refused`] tells them apart.
    #[must_use]
    pub fn refused(&self) -> [u64; 5] {
        let now = self.received.as_ref().map_or([0; 5], |(_, state)| state.refused);
        std::array::from_fn(|at| self.refused_before[at] + now[at])
    }

    /// Blocks whose hash did not agree.
    #[must_use]
    pub fn poisoned(&self) -> u64 {
        let now = self.received.as_ref().map_or(0, |(_, state)| u64::from(state.poisoned));
        self.poisoned_before + now
    }
}

impl Daemon<'_> {
    /// Tells the state machines what the configuration says of it.
    pub(in super::super) fn configure_spread(&mut self) {
        let has_multicast = self.transport.has_multicast();
        let Self { node, config, .. } = self;
        if let Some(controller) = &mut node.controller {
            controller.set_spread(SpreadConfig {
                rate: config.controller.spread_rate,
                least_bytes: config.controller.spread_least_bytes,
                has_multicast,
            });
        }
        if let Some(agent) = &mut node.agent {
            agent.set_takes_part(has_multicast && config.agent.spread_cache_bytes > 0);
        }
    }

    /// Starts the worker that sends a file to all hosts.
    #[inline(never)]
    pub(in super::super) fn start_spread(&mut self, now: Instant, file: &SpreadFile) {
        let ring = &self.codec.identity().ring;
        let slot = ring.send_slot();
        let hosts = self.node.controller.as_ref().map_or(0, |controller| controller.may_answer(now));
        let job = SpreadJob {
            transmission: self.node.random.next_u64(),
            id: file.id.clone(),
            file: file.file,
            kinds: file.kinds,
            rate: file.rate,
            hosts: u32::try_from(hosts).unwrap_or(u32::MAX),
            key: (slot, ring.key(slot, KeyClass::Group).unwrap_or(Key([0; 32]))),
        };
        self.spreading.bytes_before = self.spreading.sent_bytes();
        self.spreading.sent = Some((file.id.clone(), SpreadState::default()));
        info!("{} is sent to all hosts, at most {} kbit/s", file.id, file.rate * 8 / 1_000);
        let Self { workers, registry, transport, .. } = self;
        let started = proof::exempt(|| {
            let sockets = transport.spread_senders()?;
            let fds: heapless::Vec<BorrowedFd<'_>, SPREAD_SOCKETS> =
                sockets.iter().map(OwnedFd::as_fd).collect();
            workers.start(now, registry, WorkerKind::Spread, &Job::Spread(job), &fds)
        });
        if let Err(error) = started {
            let reason = Reason::format(format_args!(
                "{} is not sent to all hosts: its worker cannot be started: {}",
                file.id,
                OsError(&error)
            ));
            self.on_spread_ended(now, &Ending::Failed(RefusalKind::Refused, reason));
        }
    }

    /// Has it end.
    pub(in super::super) fn stop_spread(&mut self) {
        self.workers.tell(WorkerKind::Spread, &SpreadInput::Stop);
    }

    /// It has ended.
    #[inline(never)]
    pub(in super::super) fn on_spread_ended(&mut self, now: Instant, ending: &Ending) {
        if let Ending::Failed(_, reason) | Ending::Crashed(reason) = ending {
            warn!("{reason}");
        } else if let Some((id, state)) = &self.spreading.sent {
            let SpreadState { hosts, complete, out, .. } = state;
            let hosts = hosts.saturating_add(*out);
            match state.ending {
                Some(SpreadEnding::Nobody) => {
                    info!("{id} is not sent to all hosts: none that listens lacks it")
                }
                Some(SpreadEnding::Silent) => {
                    info!("{id} is not sent to all hosts any more: those that took part answer no more")
                }
                Some(SpreadEnding::Yielded) => {
                    info!("{id} is not sent to all hosts: another controller sends")
                }
                Some(SpreadEnding::Stopped) => info!("{id} is not sent to all hosts any more"),
                _ => {
                    info!("{id} was sent to all hosts: {complete} of {hosts} have it all")
                }
            }
        }
        let failed = match ending {
            Ending::Failed(_, reason) | Ending::Crashed(reason) => reason.clone(),
            Ending::Done => Reason::default(),
        };
        if let Some((id, state)) = self.spreading.sent.clone() {
            if self.spreading.ended.is_full() {
                self.spreading.ended.remove(0);
            }
            let _ = self.spreading.ended.push(SpreadEnded {
                number: self.spreading.files_sent,
                id,
                state,
                failed,
            });
        }
        self.spreading.files_sent += 1;
        self.node.on_event(now, &Event::SpreadEnded, &mut self.actions);
    }

    /// Passes a host's answer on to the worker that sends.
    pub(in super::super) fn pass_lacks(&mut self, now: Instant, from: NodeId, report: &SpreadReport) {
        let hosts = self.node.controller.as_ref().map_or(0, |controller| controller.may_answer(now));
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        self.workers.tell(WorkerKind::Spread, &SpreadInput::Lacks(from, report.clone(), hosts));
    }

    /// Starts the worker that receives.
    #[inline(never)]
    pub(in super::super) fn start_receiving(&mut self, now: Instant, offer: Offer) {
        let ring = &self.codec.identity().ring;
        let slot = |at: usize| u8::try_from(at).ok().and_then(|slot| ring.key(slot, KeyClass::Group));
        let keys: [_; limits::KEY_SLOTS] = std::array::from_fn(slot);
        info!("{} is sent to all hosts: this one keeps what it lacks of it", offer.id);
        self.spreading.refused_before = self.spreading.refused();
        self.spreading.poisoned_before = self.spreading.poisoned();
        self.spreading.received = Some((offer.id.clone(), ReceiveState::default()));
        let job = Job::Receive(ReceiveJob { offer, keys });
        let Self { workers, registry, transport, .. } = self;
        let started = proof::exempt(|| {
            let socket = transport.spread_receiver()?;
            workers.start(now, registry, WorkerKind::Receive, &job, &[socket.as_fd()])
        });
        if let Err(error) = started {
            let error = OsError(&error);
            warn!("nothing is received with all hosts: its worker cannot be started: {error}");
            self.node.on_event(now, &Event::ReceivingEnded(true), &mut self.actions);
        }
    }

    /// Passes a sender's offer on to it.
    pub(in super::super) fn pass_offer(&mut self, offer: Offer) {
        self.workers.tell(WorkerKind::Receive, &SpreadInput::Offer(offer));
    }

    /// It has ended.
    #[inline(never)]
    pub(in super::super) fn on_receiving_ended(&mut self, now: Instant, ending: &Ending) {
        if let Ending::Failed(_, reason) | Ending::Crashed(reason) = ending {
            // It was ended for another.
            if !reason.is_empty() {
                warn!("{reason}");
            }
        } else if let Some((id, ReceiveState { blocks: (all, here), .. })) = &self.spreading.received {
            info!("{id}: {here} of {all} blocks are here");
        }
        let is_refused = !matches!(ending, Ending::Done);
        self.on_event(now, &Event::ReceivingEnded(is_refused));
    }

    /// A report of one of the two.
    pub(in super::super) fn on_spread_report(&mut self, now: Instant, report: &Report) {
        match report {
            Report::Offer(offer) => {
                let message = Message::SpreadOffer(offer.clone());
                self.actions.send(To::Agents, message);
                self.dispatch(now);
            }
            Report::Lacks(report) => self.on_event(now, &Event::Lacks(report)),
            Report::Spread(state) => {
                if let Some((_, sent)) = &mut self.spreading.sent {
                    *sent = *state;
                }
            }
            Report::Receive(state) => {
                if let Some((_, received)) = &mut self.spreading.received {
                    *received = *state;
                }
                self.on_event(now, &Event::Receiving(Duration::from_millis(state.silent_ms)));
            }
            _ => {}
        }
    }
}
