//! Why a datagram is refused. Every reason has a name and a counter.

use core::fmt;

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why a datagram was refused, in the order of the checks.
        ///
        /// No state machine learns of a refusal. Those from `WrongDirection` on are checked
        /// after the sequence number is recorded, so they have moved the sender's replay
        /// window.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Refusal {
            /// All reasons, in order: `ALL[r as usize] == r`.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The name of its counter among others, as `status` shows it.
            #[must_use]
            pub const fn counter(self) -> &'static str {
                match self { $(Self::$variant => concat!("refused_", $name)),+ }
            }

            /// What it means, for the operator.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+)),+ }
            }
        }
    };
}

refusals! {
    /// Arrived on another network interface than the one that is configured.
    OtherInterface => "other_interface",
    /// Shorter than a header and a tag.
    TooShort => "too_short",
    /// Longer than a datagram may be, or than its header says.
    TooLong => "too_long",
    /// Not thimble's: the first four bytes are not "THMB".
    Magic => "magic",
    /// Of another message version than ours.
    Version => "version",
    /// Of another cluster: its key file comes from another ring.
    Cluster => "cluster",
    /// Our own multicast, come back, or sent again by another; or sent in our name with the
    /// key that every agent has.
    OwnEcho => "own_echo",
    /// Of no type that a datagram has.
    UnknownType => "unknown_type",
    /// Of a node that the configuration lists as revoked.
    Revoked => "revoked",
    /// Of a key slot, or needing a key, that this node does not have.
    NoKey => "no_key",
    /// The tag does not hold: altered, or made without the key.
    Tag => "tag",
    /// Valid, but of a second node with our own id, or with that of another node
    /// elsewhere: a cloned image.
    DuplicateNodeId => "duplicate_node_id",
    /// From an earlier start of a sender whose later start is alive.
    StaleIncarnation => "stale_incarnation",
    /// Seen before, or too old to tell.
    Replay => "replay",
    /// There is no room to remember one more sender.
    SendersFull => "senders_full",
    /// A message that this node only sends.
    WrongDirection => "wrong_direction",
    /// The body is not what its type says.
    Body => "body",
    /// Bytes are left over behind the body.
    Leftovers => "leftovers",
    /// A report of a host that gives no hostname.
    NoHostname => "no_hostname",
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for Refusal {}

/// How often each refusal occurred.
#[derive(Clone, Debug)]
pub struct RefusalCounts([u64; Refusal::ALL.len()]);

impl Default for RefusalCounts {
    fn default() -> Self {
        Self([0; Refusal::ALL.len()])
    }
}

impl RefusalCounts {
    /// Counts one.
    pub fn count(&mut self, refusal: Refusal) {
        if let Some(count) = self.0.get_mut(refusal as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// How often this refusal occurred.
    #[must_use]
    pub fn get(&self, refusal: Refusal) -> u64 {
        self.0.get(refusal as usize).copied().unwrap_or(0)
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.iter().copied().zip(self.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_their_counters() {
        let mut counts = RefusalCounts::default();
        for (index, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, index);
            counts.count(*refusal);
            assert_eq!(counts.get(*refusal), 1);
        }
    }
}
