//! Whether a node is there, as the transport's topology service tells it.
//!
//! ```text
//!    ,--------------------- service lost ----------------------.
//!    |           published                    service lost      v
//! Unwatched ----------------> Bound ----------------------> Doubted
//!   ^   ^                      |  ^-------- published ---------|
//!   |   `-- heard --.          | withdrawn, node lost          | all was told again,
//!   |               |          v                               v this one not
//!   `--------------- Gone: ended, or out of reach <------------'
//! ```
//!
//! Over UDP nobody tells: there every node stays unwatched, and timers alone say
//! that one is lost. Over TIPC they are the fallback.

use serde::{Deserialize, Serialize};

/// Why a node is lost. The control protocol carries it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossCause {
    /// It has been silent for too long.
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
            Self::Silent => "it has said nothing for long",
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

/// What is known of one node by the topology service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nothing: timers tell.
    #[default]
    Unwatched,
    /// Its socket is bound.
    Bound,
    /// It was there before the topology service was lost.
    Doubted,
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

    /// Its socket is bound no more.
    pub fn on_withdrawn(&mut self) {
        if *self != Self::OutOfReach {
            *self = Self::Ended;
        }
    }

    /// Its node is lost, and with it whatever is bound there. Of the two this is the
    /// reason, in whichever order they are told.
    pub fn on_node_lost(&mut self) {
        *self = Self::OutOfReach;
    }

    /// The topology service is lost. One that it has not told of is doubted as well:
    /// whoever is there will be told of.
    pub fn on_gap(&mut self) {
        if !self.is_gone() {
            *self = Self::Doubted;
        }
    }

    /// It is back, and has told all that is bound.
    pub fn on_settled(&mut self) {
        if *self == Self::Doubted {
            *self = Self::Ended;
        }
    }

    /// It spoke: it is there. Of a socket that it has only now, nothing was told.
    pub fn on_heard(&mut self, is_another: bool) {
        if is_another || self.is_gone() {
            *self = Self::Unwatched;
        }
    }

    /// Whether the topology service reports that it is not there.
    #[must_use]
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Ended | Self::OutOfReach)
    }

    /// Why a node is lost that counts as lost: silence, unless the topology service
    /// reports that it is gone.
    #[must_use]
    pub const fn loss_cause(self) -> LossCause {
        match self {
            Self::Unwatched | Self::Bound | Self::Doubted => LossCause::Silent,
            Self::Ended => LossCause::Ended,
            Self::OutOfReach => LossCause::OutOfReach,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a node to which these happened in turn.
    fn after(steps: &[fn(&mut Presence)]) -> Presence {
        let mut presence = Presence::default();
        steps.iter().for_each(|step| step(&mut presence));
        presence
    }

    #[test]
    fn a_lost_node_is_the_reason_in_whichever_order_it_is_told() {
        let (withdrawn, lost) = (Presence::on_withdrawn, Presence::on_node_lost);
        assert_eq!(after(&[Presence::on_published, withdrawn]), Presence::Ended);
        for steps in [[withdrawn, lost], [lost, withdrawn]] {
            assert_eq!(after(&steps), Presence::OutOfReach);
        }
    }

    #[test]
    fn one_that_is_not_told_of_again_after_a_gap_is_gone_and_others_are_not() {
        let (bound, gap, settled) = (Presence::on_published, Presence::on_gap, Presence::on_settled);
        assert!(!after(&[bound, gap]).is_gone(), "not known yet");
        assert_eq!(after(&[bound, gap, settled]), Presence::Ended);
        assert_eq!(after(&[bound, gap, bound, settled]), Presence::Bound);
        assert_eq!(after(&[gap, settled]), Presence::Ended, "whoever is there was told of");
        assert_eq!(after(&[settled]), Presence::Unwatched, "it spoke since");
    }

    #[test]
    fn one_that_speaks_is_there() {
        let heard = |presence: &mut Presence| presence.on_heard(false);
        assert_eq!(after(&[Presence::on_node_lost, heard]), Presence::Unwatched);
        assert_eq!(after(&[Presence::on_published, heard]), Presence::Bound);
        let heard_elsewhere = |presence: &mut Presence| presence.on_heard(true);
        assert_eq!(after(&[Presence::on_published, heard_elsewhere]), Presence::Unwatched);
    }
}
