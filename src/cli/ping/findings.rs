//! What the answers of a host, and those that did not come, say of the network between.

use super::Pinged;
use super::session::door;
use crate::cli::explain::Cause;

/// A code, the cause, and what to do about it. `HOST`, `PORT` and `DOOR` stand for the host's
/// name, its port, and where it accepts sessions.
type Fault = (&'static str, &'static str, &'static str);

const CUT: Fault = (
    "controller-network",
    "this controller's own interface to HOST is not up",
    "see `thimble status` here first",
);
const UNREACHABLE: Fault = (
    "unreachable",
    "HOST answers in no way",
    "see whether it is up and has this address, and what its own `thimble status` says",
);
const NOT_RUNNING: Fault = (
    "not-running",
    "HOST answers no datagram, and nobody listens on DOOR: thimble does not run there",
    "start thimble on it, and see its log; or a firewall rejects all of it",
);
const DATAGRAMS: Fault = (
    "datagrams",
    "HOST accepts sessions and answers no datagram",
    "let UDP port PORT of HOST through, and this controller's for its answers; or its thimble is older than `ping`",
);
const UNICAST: Fault =
    ("unicast", "HOST answers multicast, and unicast to it is lost", "let UDP port PORT of HOST through");
const UNICAST_BACK: Fault = (
    "unicast-back",
    "HOST hears unicast, and its answers by unicast are lost",
    "let UDP through from it to this controller's port",
);
const MULTICAST: Fault =
    ("multicast", "multicast passes neither to HOST nor from it, and unicast does", OF_MULTICAST);
const MULTICAST_THERE: Fault =
    ("multicast-there", "multicast does not reach HOST, and unicast does", OF_MULTICAST);
const MULTICAST_BACK: Fault =
    ("multicast-back", "multicast of HOST does not arrive here, and its unicast does", OF_MULTICAST);
const LOSSES: Fault = (
    "losses",
    "the wire to HOST loses some, not all",
    "look at cables, the counters of interfaces and switches, and the load",
);

/// What to do where a switch, or TIPC, does not carry multicast.
const OF_MULTICAST: &str = if cfg!(feature = "tipc") {
    "see `thimble status` on both nodes, and `tipc link list`"
} else {
    "a switch that snoops IGMP without a querier does this, and cloud networks do: set up a querier, or \
     list peers (the guide's page on networks)"
};

/// What is wrong, the gravest first; nothing if all ways work and no answer is missing.
pub fn findings(pinged: &Pinged) -> Vec<Cause> {
    let Pinged { row, tallies, refused } = pinged;
    let [multicast, unicast, back, sessions] = tallies;
    let mut faults: Vec<Fault> = Vec::new();
    if row.is_cut {
        faults.push(CUT);
    }
    let is_refused = refused.as_ref().is_some_and(|(code, _)| *code == "session-refused");
    let hears_unicast = unicast.answered + back.answered > 0;
    let answers = hears_unicast || multicast.answered > 0;
    // Of what is not sent nothing is said.
    let is_cut = row.is_cut;
    faults.extend(match (hears_unicast, multicast.is_dead(), back.is_dead()) {
        _ if is_cut => None,
        _ if !answers && sessions.answered > 0 => Some(DATAGRAMS),
        _ if !answers && is_refused => Some(NOT_RUNNING),
        _ if !answers => Some(UNREACHABLE),
        (false, ..) => Some(UNICAST),
        (true, true, true) => Some(MULTICAST),
        (true, true, false) => Some(MULTICAST_THERE),
        (true, false, true) => Some(MULTICAST_BACK),
        (true, false, false) => None,
    });
    if !is_cut && hears_unicast && unicast.is_dead() {
        faults.push(UNICAST_BACK);
    }
    let loses = |tally: &super::Tally| (1..tally.sent).contains(&tally.answered);
    if !is_cut && tallies.iter().any(loses) {
        faults.push(LOSSES);
    }
    let door = door(row);
    let words = [("HOST", row.hostname.to_string()), ("PORT", row.port.to_string()), ("DOOR", door.clone())];
    let filled = |text: &str| {
        words.iter().fold(text.to_owned(), |text, (word, stands_for)| text.replace(word, stands_for))
    };
    let mut found: Vec<Cause> = Vec::new();
    for (code, because, hint) in faults {
        found.push(Cause { code, because: filled(because), hint: filled(hint), ..Cause::default() });
    }
    if let (true, true, Some((code, why))) = (answers, sessions.is_dead(), refused) {
        let hint = "is it open for this node, in every firewall between?".to_owned();
        found.push(Cause { code, because: format!("{door}: {why}"), hint, ..Cause::default() });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ping::{BACK, MULTICAST, Tally};
    use crate::control::PingRow;
    use crate::types::{Hostname, NodeId, Text};

    /// Three asks by each way, of which so many were answered: by unicast, the same by multicast,
    /// those by multicast, sessions.
    fn pinged(answered: [usize; 4], refused: Option<(&'static str, String)>) -> Pinged {
        let [unicast, back, multicast, sessions] =
            answered.map(|answered| Tally { sent: 3, answered, times_us: Vec::new() });
        let row = PingRow {
            node: NodeId(1),
            hostname: Hostname::new("w-1").unwrap(),
            address: Text::truncated("10.0.0.3"),
            port: 7489,
            is_multicast: true,
            is_cut: false,
            number: 1,
            by_unicast_us: None,
            by_multicast_us: None,
            heard: 0,
        };
        Pinged { row, tallies: [multicast, unicast, back, sessions], refused }
    }

    fn silent() -> Option<(&'static str, String)> {
        Some(("session-silent", "no answer in 3 s".to_owned()))
    }

    fn refused() -> Option<(&'static str, String)> {
        Some(("session-refused", "refused".to_owned()))
    }

    fn codes(pinged: &Pinged) -> Vec<&'static str> {
        findings(pinged).iter().map(|cause| cause.code).collect()
    }

    #[test]
    fn each_fault_of_a_network_is_told() {
        for (answered, code) in [
            ([3, 3, 3, 3], None),
            ([0, 0, 0, 3], Some("datagrams")),
            ([0, 0, 0, 0], Some("unreachable")),
            ([0, 0, 3, 3], Some("unicast")),
            ([0, 3, 3, 3], Some("unicast-back")),
            ([3, 0, 3, 3], Some("multicast-back")),
            ([3, 3, 0, 3], Some("multicast-there")),
            ([3, 0, 0, 3], Some("multicast")),
            ([3, 3, 3, 0], Some("session-silent")),
            ([3, 1, 2, 3], Some("losses")),
        ] {
            assert_eq!(codes(&pinged(answered, silent())), Vec::from_iter(code), "{answered:?}");
        }
        assert_eq!(codes(&pinged([0; 4], refused())), ["not-running"]);
        assert_eq!(codes(&pinged([3, 3, 3, 0], refused())), ["session-refused"]);
        assert_eq!(codes(&pinged([3, 3, 3, 1], refused())), ["losses"]);
        let several = pinged([0, 1, 3, 0], Some(("session-failed", "why".to_owned())));
        assert_eq!(codes(&several), ["unicast-back", "losses", "session-failed"]);
        let mut cut = pinged([0; 4], None);
        cut.row.is_cut = true;
        assert_eq!(codes(&cut), ["controller-network"]);
    }

    #[test]
    fn where_only_unicast_is_sent_multicast_is_no_fault() {
        let mut pinged = pinged([2, 0, 0, 3], None);
        (pinged.tallies[BACK], pinged.tallies[MULTICAST]) = Default::default();
        let found = findings(&pinged);
        assert_eq!(codes(&pinged), ["losses"]);
        assert_eq!(found[0].because, "the wire to w-1 loses some, not all");
    }

    #[cfg(not(feature = "tipc"))]
    #[test]
    fn the_port_to_open_is_named() {
        let refused = findings(&pinged([3, 3, 3, 0], refused())).remove(0);
        assert_eq!(refused.because, "TCP port 7489 of 10.0.0.3: refused");
        let silent = findings(&pinged([3, 3, 3, 0], silent())).remove(0);
        assert_eq!(silent.because, "TCP port 7489 of 10.0.0.3: no answer in 3 s");
        let unicast = findings(&pinged([0, 0, 3, 3], None)).remove(0);
        assert_eq!(unicast.hint, "let UDP port 7489 of w-1 through");
    }
}
