//! What each count of `status` means, in plain words.

use crate::wire::refusal::Refusal;

/// What comes in front of a reason in the name of its count.
const REFUSED: &str = "refused_";

/// The counts that are not of refusals, with their meaning.
const WORDS: &[(&str, &str)] = &[
    ("datagrams_received", "datagrams believed"),
    ("received_with_slot_0", "datagrams believed that were sent with slot 0 of the key ring"),
    ("received_with_slot_1", "the same with slot 1"),
    ("received_with_slot_2", "the same with slot 2"),
    ("received_with_slot_3", "the same with slot 3"),
    ("datagrams_sent", "datagrams sent"),
    ("sends_failed", "datagrams that the system did not send: no route, no room"),
    ("receives_failed", "calls to receive that the system refused"),
    ("accepts_failed", "connections that could not be accepted: no descriptor, no memory"),
    ("sessions_open", "TCP sessions open now"),
    ("sessions_accepted", "TCP sessions taken in"),
    ("sessions_proven", "sessions that proved a key"),
    ("sessions_evicted", "unproven sessions that made room for a newcomer"),
    ("sessions_timed_out", "sessions that took too long"),
    ("sessions_refused", "sessions that proved nothing"),
    ("hello_received", "Hello of other controllers"),
    ("hello_ack_received", "HelloAck of other controllers"),
    ("sync_req_received", "SyncReq of other controllers"),
    ("sync_complete_received", "SyncComplete of other controllers"),
    ("hello_sent", "Hello to other controllers"),
    ("hello_ack_sent", "HelloAck to other controllers"),
    ("sync_req_sent", "SyncReq to other controllers"),
    ("sync_complete_sent", "SyncComplete to other controllers"),
    ("pulls_started", "merges of another controller's repository begun"),
    ("pulls_done", "merges that ended well"),
    ("pulls_failed", "merges that failed"),
    ("blob_sessions_started", "sessions to fetch patch files begun"),
    ("blob_sessions_done", "sessions to fetch patch files that ended well"),
    ("blob_sessions_failed", "sessions to fetch patch files that failed"),
    ("workers_started", "worker processes started"),
    ("log_lines_dropped", "log lines dropped since writing them would have blocked"),
    ("controllers_refused", "words of controllers for which there was no room"),
    ("hosts_refused", "words of hosts for which there was no room"),
    ("stale_nonces", "install requests not taken up: repeated, or older than a restart"),
];

/// What is counted under this name. Empty for a name that is not known here.
#[must_use]
pub fn words(name: &str) -> &'static str {
    match reason(name) {
        Some(refusal) => refusal.meaning().trim_start(),
        None => WORDS.iter().find(|(known, _)| *known == name).map_or("", |(_, words)| words),
    }
}

/// The reason whose refusals are counted under this name, if it is one of these.
#[must_use]
pub fn reason(name: &str) -> Option<Refusal> {
    let reason = name.strip_prefix(REFUSED)?;
    Refusal::ALL.iter().copied().find(|refusal| refusal.as_str() == reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_found_by_the_name_of_its_count_and_means_something() {
        for refusal in Refusal::ALL {
            assert_eq!(reason(refusal.counter()), Some(*refusal));
            assert!(words(refusal.counter()).len() > 10, "{refusal}");
        }
        assert_eq!(words("tag"), "", "not under its bare name");
        assert_eq!(words("stale_nonces").split(' ').next(), Some("install"));
    }
}
