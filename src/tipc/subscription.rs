//! Subscriptions to the topology service: the kernel's `struct tipc_subscr`.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use core::fmt;

use super::address::ServiceRange;

/// The length of a subscription, in bytes.
pub const BYTES: usize = 28;
/// The offset of the filter.
pub const FILTER_AT: usize = 16;

/// The user's name for a subscription. The service repeats it in each event.
pub type Handle = [u8; 8];

const PORTS: u32 = 1;
const SERVICE: u32 = 2;
const CANCEL: u32 = 4;
const FOREVER: u32 = u32::MAX;

/// What a subscription reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Each bind and unbind in the range (`TIPC_SUB_PORTS`).
    Ports,
    /// Each overlapping range, when its first socket is bound and when its last one is
    /// unbound (`TIPC_SUB_SERVICE`).
    Service,
}

/// How long a subscription lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// Until it is cancelled.
    Forever,
    /// Milliseconds, below `u32::MAX`, which the kernel takes as forever.
    Ms(u32),
}

/// How late an answer may be from a busy or distant machine.
const GRACE_MS: u64 = 2_000;

impl Timeout {
    /// The latest time for the service's timeout event, in milliseconds; `None` if there
    /// is none. The kernel's timer wheel rounds up to the granularity of its level, which
    /// makes a timer up to an eighth late (12.5 %, `kernel/time/timer.c`).
    #[must_use]
    pub fn latest_ms(self) -> Option<u64> {
        match self {
            Self::Forever => None,
            Self::Ms(ms) => Some(u64::from(ms).saturating_add(u64::from(ms) / 8).saturating_add(GRACE_MS)),
        }
    }
}

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The services to report.
    pub range: ServiceRange,
    /// How long it lasts.
    pub timeout: Timeout,
    /// The events to report.
    pub filter: Filter,
    /// The user's name for it.
    pub handle: Handle,
}

/// Why a subscription must not be sent: the service would close the connection or
/// misread it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The range's first instance is above its last.
    Backwards,
    /// The timeout is the number that stands for forever.
    Timeout,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backwards => "the first instance is above the last",
            Self::Timeout => "a timeout must be below 4294967295 ms, which stands for none",
        })
    }
}

impl core::error::Error for Invalid {}

/// Why bytes are not a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The number of bytes is wrong.
    Length(usize),
    /// The filter is unknown in either byte order; the value is in this machine's order.
    Filter(u32),
    /// Its range is backwards.
    Backwards,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "{len} bytes are not one whole subscription of {BYTES}"),
            Self::Filter(filter) => write!(f, "the filter {filter:#x} is not one of a subscription"),
            Self::Backwards => f.write_str("its first instance is above its last"),
        }
    }
}

impl core::error::Error for Malformed {}

/// The byte order of numbers. The service answers in the order of the subscription,
/// which it recognizes by the filter, whose low bits are never all 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// This machine's.
    Native,
    /// The other one.
    Swapped,
}

impl Order {
    /// The number whose bytes these are.
    #[must_use]
    pub fn read(self, bytes: [u8; 4]) -> u32 {
        let number = u32::from_ne_bytes(bytes);
        match self {
            Self::Native => number,
            Self::Swapped => number.swap_bytes(),
        }
    }
}

/// Splits bytes into five numbers and a handle; `None` if the length differs.
fn fields(bytes: &[u8]) -> Option<([[u8; 4]; 5], Handle)> {
    let (words, handle) = bytes.split_at_checked(BYTES.saturating_sub(size_of::<Handle>()))?;
    let (words, []) = words.as_chunks::<4>() else { return None };
    Some((words.try_into().ok()?, handle.try_into().ok()?))
}

impl Subscription {
    /// Checks that the service accepts the subscription.
    ///
    /// # Errors
    /// [`Invalid`]: the service would close the connection, with all subscriptions.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.range.lower > self.range.upper {
            return Err(Invalid::Backwards);
        }
        if self.timeout == Timeout::Ms(FOREVER) { Err(Invalid::Timeout) } else { Ok(()) }
    }

    /// Encodes the subscription in this machine's byte order.
    #[must_use]
    pub fn encode(&self) -> [u8; BYTES] {
        self.write(0)
    }

    /// Encodes the request that ends it: the same bytes but for one bit. The service
    /// compares the bytes.
    #[must_use]
    pub fn encode_cancel(&self) -> [u8; BYTES] {
        self.write(CANCEL)
    }

    fn write(&self, extra_flags: u32) -> [u8; BYTES] {
        let timeout = match self.timeout {
            Timeout::Forever => FOREVER,
            Timeout::Ms(ms) => ms,
        };
        let filter = match self.filter {
            Filter::Ports => PORTS,
            Filter::Service => SERVICE,
        };
        let ServiceRange { service_type, lower, upper } = self.range;
        let words = [service_type, lower, upper, timeout, filter | extra_flags].map(u32::to_ne_bytes);
        let mut bytes = [0; BYTES];
        for (to, from) in bytes.iter_mut().zip(words.as_flattened().iter().chain(&self.handle)) {
            *to = *from;
        }
        bytes
    }

    /// Decodes a subscription in either byte order, and returns the order.
    ///
    /// # Errors
    /// [`Malformed`]: the bytes are not exactly one subscription that the service accepts.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Order), Malformed> {
        let (words, handle) = fields(bytes).ok_or(Malformed::Length(bytes.len()))?;
        let [service_type, lower, upper, timeout, filter] = words;
        let known = |order: Order| match order.read(filter) {
            PORTS => Some((Filter::Ports, order)),
            SERVICE => Some((Filter::Service, order)),
            _ => None,
        };
        let (filter, order) = known(Order::Native)
            .or_else(|| known(Order::Swapped))
            .ok_or(Malformed::Filter(Order::Native.read(filter)))?;
        let range = ServiceRange {
            service_type: order.read(service_type),
            lower: order.read(lower),
            upper: order.read(upper),
        };
        if range.lower > range.upper {
            return Err(Malformed::Backwards);
        }
        let timeout = match order.read(timeout) {
            FOREVER => Timeout::Forever,
            ms => Timeout::Ms(ms),
        };
        Ok((Self { range, timeout, filter, handle }, order))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const TEXTBOOK: Subscription = Subscription {
        range: ServiceRange { service_type: 18_888, lower: 0, upper: 100 },
        timeout: Timeout::Ms(300),
        filter: Filter::Service,
        handle: *b"textbook",
    };

    /// Swaps the byte order of all numbers.
    pub(crate) fn swap_numbers(bytes: &mut [u8]) {
        for number in bytes.chunks_exact_mut(4) {
            number.reverse();
        }
    }

    #[test]
    fn a_timeout_may_be_an_eighth_and_two_seconds_late() {
        assert_eq!(Timeout::Ms(0).latest_ms(), Some(2_000));
        assert_eq!(Timeout::Ms(1).latest_ms(), Some(2_001));
        assert_eq!(Timeout::Ms(60_000).latest_ms(), Some(69_500));
        assert_eq!(Timeout::Ms(u32::MAX - 1).latest_ms(), Some(4_831_840_205));
        assert_eq!(Timeout::Forever.latest_ms(), None);
    }

    #[test]
    fn its_bytes_are_those_of_the_kernels_struct() {
        let mut expected = [0; BYTES];
        for (at, number) in [18_888_u32, 0, 100, 300, 2].into_iter().enumerate() {
            expected[at * 4..][..4].copy_from_slice(&number.to_ne_bytes());
        }
        expected[20..].copy_from_slice(b"textbook");
        assert_eq!(TEXTBOOK.encode(), expected);
        let forever = Subscription { timeout: Timeout::Forever, filter: Filter::Ports, ..TEXTBOOK };
        assert_eq!(forever.encode()[12..20], [[0xff; 4], 1_u32.to_ne_bytes()].concat());
    }

    #[test]
    fn a_cancel_differs_in_its_filter_alone() {
        let (asked, cancel) = (TEXTBOOK.encode(), TEXTBOOK.encode_cancel());
        let differing: Vec<usize> = (0..BYTES).filter(|at| asked[*at] != cancel[*at]).collect();
        assert_eq!(differing.len(), 1);
        let filter = u32::from_ne_bytes(*cancel[FILTER_AT..].first_chunk().unwrap());
        assert_eq!(filter, 2 | 4);
    }

    #[test]
    fn either_byte_order_reads_as_the_same() {
        let mut bytes = TEXTBOOK.encode();
        assert_eq!(Subscription::decode(&bytes), Ok((TEXTBOOK, Order::Native)));
        swap_numbers(&mut bytes[..20]);
        assert_eq!(Subscription::decode(&bytes), Ok((TEXTBOOK, Order::Swapped)));
    }

    #[test]
    fn anything_but_one_subscription_is_refused() {
        let bytes = TEXTBOOK.encode();
        for len in 0..BYTES {
            assert_eq!(Subscription::decode(&bytes[..len]), Err(Malformed::Length(len)));
        }
        assert_eq!(Subscription::decode(&[&bytes[..], &[0]].concat()), Err(Malformed::Length(29)));
        for filter in [0, 3, 4, 5, 6, 0x0200, 0x0003_0000] {
            let mut bytes = bytes;
            bytes[FILTER_AT..][..4].copy_from_slice(&u32::to_ne_bytes(filter));
            assert_eq!(Subscription::decode(&bytes), Err(Malformed::Filter(filter)));
        }
        let backwards = Subscription { range: ServiceRange { lower: 101, ..TEXTBOOK.range }, ..TEXTBOOK };
        assert_eq!(Subscription::decode(&backwards.encode()), Err(Malformed::Backwards));
    }

    #[test]
    fn a_subscription_that_the_service_would_reject_is_invalid() {
        assert_eq!(TEXTBOOK.validate(), Ok(()));
        let one = Subscription { range: ServiceRange::one(7, 5), timeout: Timeout::Forever, ..TEXTBOOK };
        assert_eq!(one.validate(), Ok(()));
        let backwards = Subscription { range: ServiceRange { lower: 101, ..TEXTBOOK.range }, ..TEXTBOOK };
        assert_eq!(backwards.validate(), Err(Invalid::Backwards));
        let forever = Subscription { timeout: Timeout::Ms(u32::MAX), ..TEXTBOOK };
        assert_eq!(forever.validate(), Err(Invalid::Timeout));
    }
}
