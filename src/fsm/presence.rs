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

/// Why a node is known to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// Its thimble is no longer bound: it was stopped, or has died.
    Ended,
    /// The transport has lost the whole node.
    OutOfReach,
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
    /// It is not there.
    Gone(LossCause),
}

impl Presence {
    /// Its socket is bound.
    pub fn on_published(&mut self) {
        *self = Self::Bound;
    }

    /// Its socket is bound no more.
    pub fn on_withdrawn(&mut self) {
        if *self != Self::Gone(LossCause::OutOfReach) {
            *self = Self::Gone(LossCause::Ended);
        }
    }

    /// Its node is lost, and with it whatever is bound there. Of the two this is the
    /// reason, in whichever order they are told.
    pub fn on_node_lost(&mut self) {
        *self = Self::Gone(LossCause::OutOfReach);
    }

    /// The topology service is lost. One that it has not told of is doubted as well:
    /// whoever is there will be told of.
    pub fn on_gap(&mut self) {
        if self.gone().is_none() {
            *self = Self::Doubted;
        }
    }

    /// It is back, and has told all that is bound.
    pub fn on_settled(&mut self) {
        if *self == Self::Doubted {
            *self = Self::Gone(LossCause::Ended);
        }
    }

    /// It spoke: it is there. Of a socket that it has only now, nothing was told.
    pub fn on_heard(&mut self, is_another: bool) {
        if is_another || self.gone().is_some() {
            *self = Self::Unwatched;
        }
    }

    /// Why it is known not to be there, if it is.
    #[must_use]
    pub fn gone(self) -> Option<LossCause> {
        match self {
            Self::Gone(why) => Some(why),
            Self::Unwatched | Self::Bound | Self::Doubted => None,
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
        assert_eq!(after(&[Presence::on_published, withdrawn]).gone(), Some(LossCause::Ended));
        for steps in [[withdrawn, lost], [lost, withdrawn]] {
            assert_eq!(after(&steps).gone(), Some(LossCause::OutOfReach));
        }
    }

    #[test]
    fn one_that_is_not_told_of_again_after_a_gap_is_gone_and_others_are_not() {
        let (bound, gap, settled) = (Presence::on_published, Presence::on_gap, Presence::on_settled);
        assert_eq!(after(&[bound, gap]).gone(), None, "not known yet");
        assert_eq!(after(&[bound, gap, settled]).gone(), Some(LossCause::Ended));
        assert_eq!(after(&[bound, gap, bound, settled]), Presence::Bound);
        assert_eq!(after(&[gap, settled]).gone(), Some(LossCause::Ended), "whoever is there was told of");
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
