//! Lets datagrams gather while many come.
//!
//! The acks of a thousand hosts come one by one, and the sender of a burst is no faster than this loop: woken for
//! each datagram, the loop would spend twice as much on its waking as on what it takes. So once a controller is
//! woken by datagrams alone at short intervals, it waits a millisecond before it looks for more. A socket's default
//! buffer holds some 277 of them; a wire of a gigabit brings no more in that time. An agent does not wait: it is
//! asked, and its answers are measured.

use std::thread;

use crate::time::{Duration, Instant};

/// Datagrams come often if one turn with them follows another after this or less.
const OFTEN: Duration = Duration::from_millis(2);
/// How long they gather.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// When datagrams came last.
#[derive(Debug, Default)]
pub struct Gathering {
    last: Option<Instant>,
    has_datagrams: bool,
    has_others: bool,
}

impl Gathering {
    /// A source has its turn.
    pub fn note(&mut self, is_datagrams: bool) {
        self.has_datagrams |= is_datagrams;
        self.has_others |= !is_datagrams;
    }

    /// All sources have had their turn. Waits if these were datagrams alone, which come often, and `may_wait`:
    /// it is a controller, and has read all.
    pub fn wait(&mut self, now: Instant, may_wait: bool) {
        if self.is_due(now) && may_wait {
            thread::sleep(PAUSE);
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let has_others = std::mem::take(&mut self.has_others);
        if !std::mem::take(&mut self.has_datagrams) {
            return false;
        }
        let last = self.last.replace(now);
        !has_others && last.is_some_and(|last| now.since(last) <= OFTEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_often_is_waited_for() {
        let mut gathering = Gathering::default();
        let mut came = |ms, sources: &[bool]| {
            sources.iter().for_each(|is_datagrams| gathering.note(*is_datagrams));
            gathering.is_due(Instant::from_millis(ms))
        };
        assert!(!came(0, &[true]), "the first");
        assert!(came(1, &[true]) && came(3, &[true, true]));
        assert!(!came(6, &[true]), "it was quiet for a while");
        assert!(!came(7, &[true, false]), "a command waits for nobody");
        assert!(!came(8, &[false]) && !came(8, &[]), "nothing came");
        assert!(came(9, &[true]));
    }
}
