//! Why installs failed, as their hosts reported: the latest reasons.
//!
//! A reason is long and most hosts never have one, so hosts do not store their own. A host
//! has one place here, for its last request, however many answers it sends.
//! If more hosts fail in a rollout than are kept here, the latest reasons are shown;
//! the others are in the status and log of those hosts.

use crate::types::{NodeId, Reason, RequestId};

/// One reason, and the request that it answers.
#[derive(Clone, Debug, Default)]
pub struct InstallReason {
    /// The host.
    pub node: NodeId,
    /// The request.
    pub request_id: RequestId,
    /// Why it failed or was rejected.
    pub reason: Reason,
}

/// The latest reasons, in borrowed memory.
#[derive(Debug)]
pub struct Reasons<'a> {
    ring: &'a mut [InstallReason],
    next: usize,
}

impl<'a> Reasons<'a> {
    /// No reason; as many are kept as `ring` is long.
    #[must_use]
    pub fn new(ring: &'a mut [InstallReason]) -> Self {
        Self { ring, next: 0 }
    }

    /// Keeps a reason in place of an earlier one of the same host, or of the oldest.
    pub fn keep(&mut self, node: NodeId, request_id: RequestId, reason: &Reason) {
        if let Some(known) = self.ring.iter_mut().find(|kept| kept.node == node) {
            known.request_id = request_id;
            known.reason.clone_from(reason);
            return;
        }
        if let Some(oldest) = self.ring.get_mut(self.next) {
            *oldest = InstallReason { node, request_id, reason: reason.clone() };
        }
        self.next = self.next.wrapping_add(1).checked_rem(self.ring.len()).unwrap_or(0);
    }

    /// The reason that answers a request, while it is kept.
    #[must_use]
    pub fn get(&self, request_id: RequestId) -> Option<&Reason> {
        self.ring.iter().find(|kept| kept.request_id == request_id).map(|kept| &kept.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let mut ring = [InstallReason::default(), InstallReason::default()];
        let mut reasons = Reasons::new(&mut ring);
        for request in 1..=3u64 {
            reasons.keep(
                NodeId(request),
                RequestId(request),
                &Reason::format(format_args!("because of {request}")),
            );
        }
        assert_eq!(reasons.get(RequestId(1)), None);
        assert_eq!(reasons.get(RequestId(2)).unwrap().raw(), "because of 2");
        assert_eq!(reasons.get(RequestId(3)).unwrap().raw(), "because of 3");
        reasons.keep(NodeId(2), RequestId(2), &Reason::truncated("another"));
        assert_eq!(reasons.get(RequestId(2)).unwrap().raw(), "another");
        assert_eq!(reasons.get(RequestId(3)).unwrap().raw(), "because of 3", "it is not the oldest");
        for request in 100..300 {
            reasons.keep(NodeId(2), RequestId(request), &Reason::truncated("without end"));
        }
        assert_eq!(reasons.get(RequestId(3)).unwrap().raw(), "because of 3", "a host has one place");
        assert_eq!(reasons.get(RequestId(299)).unwrap().raw(), "without end");
    }
}
