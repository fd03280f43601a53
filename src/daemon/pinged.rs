//! The last ask of `thimble ping`, and how its host answered.
//!
//! The controller's state machine knows nothing of it: neither an answer nor that there is none
//! changes how a host is seen.

use super::control_socket::ConnectionId;
use crate::fsm::ways::Way;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::messages::Pong;

/// A command that has not asked for so long keeps no other from asking: longer than any pause of
/// one that is at work.
const HELD: Duration = Duration::from_secs(5);
/// The time from one ask of a command to all agents to its next, at least: an agent answers no
/// sooner.
const APART: Duration = Duration::from_millis(200);
/// The same of any two commands: a user who may query does not make all agents busy.
const APART_OF_ANY: Duration = Duration::from_millis(10);
/// A copy that comes this long after an ask may be one of its answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// An ask.
#[derive(Debug)]
struct Ask {
    /// The command.
    by: ConnectionId,
    node: NodeId,
    at: Instant,
    /// The same, finer than a millisecond.
    sent: std::time::Instant,
    number: u64,
    /// The last ask to all agents, and its command.
    to_all: Option<(ConnectionId, Instant)>,
    answers: Answers,
}

/// How an ask was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// From the ask to the first answer by unicast, in microseconds; over TIPC, which tells no
    /// way, by any.
    pub by_unicast_us: Option<u32>,
    /// The same by multicast.
    pub by_multicast_us: Option<u32>,
    /// The number of the last ask by multicast that the host has heard, as it last said.
    pub heard: u64,
}

/// The last ask.
#[derive(Debug, Default)]
pub struct Pinged {
    last: Option<Ask>,
}

impl Pinged {
    /// The command that asks at present.
    #[must_use]
    pub fn holder(&self, now: Instant) -> Option<ConnectionId> {
        self.last.as_ref().filter(|last| now.since(last.at) < HELD).map(|last| last.by)
    }

    /// A command is about to ask a host. Returns the ask's number; `None` if it asks all agents too often,
    /// and nothing has changed then.
    pub fn begin(&mut self, now: Instant, by: ConnectionId, node: NodeId, way: Way) -> Option<u64> {
        let to_all = self.last.as_ref().and_then(|last| last.to_all);
        let apart = |other| if other == by { APART } else { APART_OF_ANY };
        let to_all = match (way, to_all) {
            (Way::Multicast, Some((other, at))) if now.since(at) < apart(other) => return None,
            (Way::Multicast, _) => Some((by, now)),
            (Way::Unicast, to_all) => to_all,
        };
        let sent = std::time::Instant::now();
        // It is never that of an ask before a restart, which the host may remember.
        let number = self.last.as_ref().map_or(0, |last| last.number).max(now.as_millis()) + 1;
        self.last = Some(Ask { by, node, at: now, sent, number, to_all, answers: Answers::default() });
        Some(number)
    }

    /// The number of this command's last ask, and how it was answered, if it was of this host.
    #[must_use]
    pub fn answers(&self, by: ConnectionId, node: NodeId) -> (u64, Answers) {
        let asked = self.last.as_ref().filter(|last| last.by == by && last.node == node);
        asked.map_or_else(Default::default, |last| (last.number, last.answers))
    }

    /// A host has answered an ask by this way.
    pub fn on_pong(&mut self, node: NodeId, pong: &Pong, way: Option<Way>) {
        let is_answered = |ask: &&mut Ask| ask.node == node && ask.number == pong.number;
        let Some(Ask { sent, answers, .. }) = self.last.as_mut().filter(is_answered) else { return };
        let answer = match way {
            Some(Way::Multicast) => &mut answers.by_multicast_us,
            Some(Way::Unicast) | None => &mut answers.by_unicast_us,
        };
        let after = sent.elapsed();
        answer.get_or_insert_with(|| u32::try_from(after.as_micros()).unwrap_or(u32::MAX));
        answers.heard = pong.heard;
    }

    /// Whether a host was asked a moment ago: its answers come by each way, some as copies.
    #[must_use]
    pub fn is_asked(&self, now: Instant, node: NodeId) -> bool {
        self.last.as_ref().is_some_and(|last| last.node == node && now.since(last.at) < ANSWERS_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn command(slot: usize) -> ConnectionId {
        ConnectionId::new(slot, 1)
    }

    const HOST: NodeId = NodeId(7);

    fn answered(pinged: &Pinged, by: usize, node: NodeId) -> [bool; 2] {
        let (_, Answers { by_unicast_us, by_multicast_us, .. }) = pinged.answers(command(by), node);
        [by_unicast_us.is_some(), by_multicast_us.is_some()]
    }

    #[test]
    fn the_answers_to_the_last_ask_are_kept_by_way_for_the_command_that_asked() {
        let mut pinged = Pinged::default();
        let number = pinged.begin(at(0), command(1), HOST, Way::Unicast).unwrap();
        let pong = Pong { number, heard: 3 };
        pinged.on_pong(NodeId(8), &pong, Some(Way::Unicast));
        pinged.on_pong(HOST, &Pong { number: number - 1, heard: 0 }, Some(Way::Unicast));
        assert_eq!(answered(&pinged, 1, HOST), [false, false], "another host, another ask");
        pinged.on_pong(HOST, &pong, Some(Way::Multicast));
        assert_eq!(answered(&pinged, 1, HOST), [false, true]);
        pinged.on_pong(HOST, &pong, Some(Way::Unicast));
        let first = pinged.answers(command(1), HOST);
        assert_eq!((first.0, first.1.heard, answered(&pinged, 1, HOST)), (number, 3, [true, true]));
        std::thread::sleep(std::time::Duration::from_micros(10));
        pinged.on_pong(HOST, &pong, Some(Way::Unicast));
        assert_eq!(pinged.answers(command(1), HOST), first, "the first one counts");
        assert_eq!(answered(&pinged, 2, HOST), [false, false], "another command");
        assert_eq!(answered(&pinged, 1, NodeId(8)), [false, false], "another host");
    }

    #[test]
    fn over_tipc_which_tells_no_way_an_answer_is_one() {
        let mut pinged = Pinged::default();
        let number = pinged.begin(at(0), command(1), HOST, Way::Unicast).unwrap();
        pinged.on_pong(HOST, &Pong { number, heard: 0 }, None);
        assert_eq!(answered(&pinged, 1, HOST), [true, false]);
    }

    #[test]
    fn one_command_at_a_time_asks_and_not_too_often() {
        let mut pinged = Pinged::default();
        assert_eq!(pinged.holder(at(0)), None);
        let first = pinged.begin(at(0), command(1), HOST, Way::Multicast).unwrap();
        let second = pinged.begin(at(0), command(1), NodeId(8), Way::Unicast).unwrap();
        assert!(second > first, "in the same millisecond");
        assert!(pinged.is_asked(at(1), NodeId(8)));
        assert!(!pinged.is_asked(at(1), HOST) && !pinged.is_asked(at(2_000), NodeId(8)));
        assert_eq!(pinged.begin(at(199), command(1), HOST, Way::Multicast), None);
        assert_eq!(pinged.answers(command(1), NodeId(8)).0, second, "nothing has changed");
        assert_eq!(pinged.begin(at(9), command(2), HOST, Way::Multicast), None);
        assert!(pinged.begin(at(199), command(2), HOST, Way::Multicast).is_some());
        assert_eq!(pinged.begin(at(398), command(2), HOST, Way::Multicast), None);
        assert!(pinged.begin(at(399), command(2), HOST, Way::Multicast).is_some());
        assert_eq!((pinged.holder(at(5_398)), pinged.holder(at(5_399))), (Some(command(2)), None));
    }
}
