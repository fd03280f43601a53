//! Whether a node is up, as its answers show and the transport's topology service reports.
//!
//! *Gone* is `Unanswered`, `Ended` or `OutOfReach`. A dash is no change.
//!
//! | in | published | withdrawn, node lost | service lost | service back | heard | heard elsewhere | unanswered |
//! |---|---|---|---|---|---|---|---|
//! | Unwatched | Bound | gone | Doubted | - | - | - | Unanswered |
//! | Bound | Bound | gone | Doubted | - | - | Unwatched | Unanswered |
//! | Doubted | Bound | gone | Doubted | Ended | - | Unwatched | Unanswered |
//! | gone | Bound | gone | - | - | Unwatched | Unwatched | - |
//!
//! *Service back*: it has reported every bound socket again. *Heard elsewhere*: from another
//! socket than before. *Unanswered*: it missed its window and answered no unicast since
//! ([`probes`](super::probes)).
//!
//! UDP has no such service: every node is unwatched or unanswered. Over TIPC the service is
//! first to report one that is gone; one that is bound and answers nothing hangs.

use serde::{Deserialize, Serialize};

/// Why a node is lost. The control protocol carries it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossCause {
    /// It answers nothing.
    Silent,
    /// Its thimble is no longer bound, as the topology service reports: it was
    /// stopped, or has died.
    Ended,
    /// Its whole node is out of reach, as the topology service reports.
    OutOfReach,
}

impl LossCause {
    /// For people: `lost: ..`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Silent => "it does not answer",
            Self::Ended => "its thimble has ended",
            Self::OutOfReach => "its node is out of reach",
        }
    }

    /// In a word, for scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Ended => "ended",
            Self::OutOfReach => "out-of-reach",
        }
    }
}

/// What is known of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nothing: timers decide.
    #[default]
    Unwatched,
    /// Its socket is bound.
    Bound,
    /// It was up before the topology service was lost.
    Doubted,
    /// Gone: it missed its window, and answered none of the asks that followed.
    Unanswered,
    /// Gone: its socket was withdrawn.
    Ended,
    /// Gone: the whole node is out of reach.
    OutOfReach,
}

impl Presence {
    /// Its socket is bound.
    pub fn on_published(&mut self) {
        *self = Self::Bound;
    }

    /// Its socket is no longer bound.
    pub fn on_withdrawn(&mut self) {
        if *self != Self::OutOfReach {
            *self = Self::Ended;
        }
    }

    /// Its node is lost, and with it every socket bound there. A withdrawal is
    /// reported as well, before or after; the lost node is the cause.
    pub fn on_node_lost(&mut self) {
        *self = Self::OutOfReach;
    }

    /// The topology service is lost. A node that it has not reported yet is doubted as
    /// well: the service will report every node that is up.
    pub fn on_gap(&mut self) {
        if !self.is_gone() {
            *self = Self::Doubted;
        }
    }

    /// The service is back and has reported every bound socket.
    pub fn on_settled(&mut self) {
        if *self == Self::Doubted {
            *self = Self::Ended;
        }
    }

    /// It answered none of the asks that followed a window that it missed.
    pub fn on_unanswered(&mut self) {
        if !self.is_gone() {
            *self = Self::Unanswered;
        }
    }

    /// A message came from the node: it is up. Nothing was reported of its socket if
    /// that is another one than before.
    pub fn on_heard(&mut self, is_another: bool) {
        if is_another || self.is_gone() {
            *self = Self::Unwatched;
        }
    }

    /// Whether it is known to be down or out of reach.
    #[must_use]
    pub const fn is_gone(self) -> bool {
        self.is_unanswered() || self.is_reported_gone()
    }

    /// Whether it is gone because it does not answer.
    #[must_use]
    pub const fn is_unanswered(self) -> bool {
        matches!(self, Self::Unanswered)
    }

    /// Whether the topology service reports that it is down. It reports when it is back, too.
    #[must_use]
    pub const fn is_reported_gone(self) -> bool {
        matches!(self, Self::Ended | Self::OutOfReach)
    }

    /// Why a lost node is lost: silence, unless the topology service reports that it
    /// is gone.
    #[must_use]
    pub const fn loss_cause(self) -> LossCause {
        match self {
            Self::Unwatched | Self::Bound | Self::Doubted | Self::Unanswered => LossCause::Silent,
            Self::Ended => LossCause::Ended,
            Self::OutOfReach => LossCause::OutOfReach,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The presence of a node after these reports in turn.
    fn after(steps: &[fn(&mut Presence)]) -> Presence {
        let mut presence = Presence::default();
        steps.iter().for_each(|step| step(&mut presence));
        presence
    }

    #[test]
    fn a_lost_node_is_the_cause_in_either_order_of_reports() {
        let (withdrawn, lost) = (Presence::on_withdrawn, Presence::on_node_lost);
        assert_eq!(after(&[Presence::on_published, withdrawn]), Presence::Ended);
        for steps in [[withdrawn, lost], [lost, withdrawn]] {
            assert_eq!(after(&steps), Presence::OutOfReach);
        }
    }

    #[test]
    fn a_node_that_is_not_reported_again_after_a_gap_is_gone() {
        let (bound, gap, settled) = (Presence::on_published, Presence::on_gap, Presence::on_settled);
        assert!(!after(&[bound, gap]).is_gone(), "not known yet");
        assert_eq!(after(&[bound, gap, settled]), Presence::Ended);
        assert_eq!(after(&[bound, gap, bound, settled]), Presence::Bound);
        assert_eq!(after(&[gap, settled]), Presence::Ended, "every node that is up was reported");
        assert_eq!(after(&[settled]), Presence::Unwatched, "it was heard since");
    }

    #[test]
    fn a_node_that_does_not_answer_is_gone_and_a_report_tells_why() {
        let (unanswered, withdrawn) = (Presence::on_unanswered, Presence::on_withdrawn);
        let silent = after(&[Presence::on_published, unanswered]);
        assert_eq!((silent.is_gone(), silent.loss_cause()), (true, LossCause::Silent));
        for steps in [[unanswered, withdrawn], [withdrawn, unanswered]] {
            assert_eq!(after(&steps), Presence::Ended);
        }
        assert_eq!(after(&[unanswered, Presence::on_gap, Presence::on_settled]), silent);
    }

    #[test]
    fn a_node_that_is_heard_is_up() {
        let heard = |presence: &mut Presence| presence.on_heard(false);
        assert_eq!(after(&[Presence::on_node_lost, heard]), Presence::Unwatched);
        assert_eq!(after(&[Presence::on_unanswered, heard]), Presence::Unwatched);
        assert_eq!(after(&[Presence::on_published, heard]), Presence::Bound);
        let heard_elsewhere = |presence: &mut Presence| presence.on_heard(true);
        assert_eq!(after(&[Presence::on_published, heard_elsewhere]), Presence::Unwatched);
    }
}
