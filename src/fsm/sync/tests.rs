//! Traces of one controller among others: input, and the messages that follow.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::fsm::actions::Action;
use crate::fsm::event::MergedMap;
use crate::repo::entry::Entry;
use crate::repo::fixture::{self, entry};
use crate::types::Reason;

const TIMERS: SyncTimers = SyncTimers {
    hello_interval: Duration::from_millis(30_000),
    probe: Duration::from_millis(3_000),
    hello_start: Duration::from_millis(1_000),
    controller_lost: Duration::from_millis(120_000),
    retry: Duration::from_millis(1_000),
};

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn whole(digest: Digest) -> MergedMap {
    MergedMap { digest, is_whole: true }
}

fn peer(node: u64) -> Peer {
    Peer::Ip(([10, 0, 0, u8::try_from(node).unwrap()], 7488).into())
}

struct Trace {
    sync: Sync<'static>,
    map: Map<'static>,
    random: Random,
    actions: Actions,
}

impl Trace {
    /// A controller with these entries that has not read its map yet.
    fn new(entries: &[Entry]) -> Self {
        let slots = std::boxed::Box::leak(std::boxed::Box::new(fixture::slots(8)));
        Self {
            sync: Sync::new(
                TIMERS,
                Vec::leak(std::vec![None; 7]),
                Vec::leak(std::vec![BlobError::default(); 8]),
            ),
            map: fixture::map(slots, entries),
            random: Random::new([7; 32]),
            actions: Actions::default(),
        }
    }

    /// A controller that has sent its three Hellos and heard no other.
    fn settled() -> Self {
        let mut trace = Self::new(&[entry("A")]);
        trace.sync.on_loaded(at(0));
        for (now, sent) in [(0, "all: Hello"), (1_000, "all: Hello"), (2_000, "all: Hello")] {
            assert_eq!(trace.waits(now), [sent]);
        }
        assert_eq!(trace.waits(3_000), [""; 0]);
        trace
    }

    fn did(&mut self) -> Vec<String> {
        let name = |message: &Message| match message {
            Message::SyncComplete(done) if done.blobs_missing > 0 => {
                format!("SyncComplete {} less {}", done.digest.0[0], done.blobs_missing)
            }
            Message::SyncComplete(done) => format!("SyncComplete {}", done.digest.0[0]),
            other => String::from(other.msgtype().as_str()),
        };
        let text = |action| match action {
            Action::Send(To::Controllers, message) => format!("all: {}", name(&message)),
            Action::Send(To::Node(node, _), message) => format!("{}: {}", node.0, name(&message)),
            Action::Connect(node, _, purpose) => format!("{purpose:?} {}", node.0),
            Action::StartPull(node) => format!("merge {}", node.0),
            Action::StartBlobs(node) => format!("fetch {}", node.0),
            other => panic!("no synchronization does this: {other:?}"),
        };
        core::iter::from_fn(|| self.actions.pop_front()).map(text).collect()
    }

    fn waits(&mut self, now: u64) -> Vec<String> {
        self.sync.on_timeout(at(now), &self.map, &mut self.random, &mut self.actions);
        self.did()
    }

    fn hears(&mut self, now: u64, from: u64, message: &Message) -> Vec<String> {
        let Self { sync, map, actions, .. } = self;
        sync.on_message(at(now), NodeId(from), peer(from), message, map, actions);
        self.did()
    }

    fn happens(&mut self, now: u64, event: &Event<'_>) -> Vec<String> {
        self.sync.on_event(at(now), event, &self.map, &mut self.actions);
        self.did()
    }

    /// A merge of this neighbour's map, which brings these entries.
    fn merges(&mut self, now: u64, node: u64, came: Digest, entries: &[Entry]) -> Vec<String> {
        let ready = Event::SessionReady(NodeId(node), Purpose::Pull);
        assert_eq!(self.happens(now, &ready), [format!("merge {node}")]);
        for entry in entries {
            self.map.merge(entry).unwrap();
        }
        self.happens(now, &Event::PullEnded(NodeId(node), Ok(whole(came))))
    }
}

fn hello(digest: Digest) -> Message {
    Message::Hello(Hello { op_counter: 1, digest })
}

fn sync_req(digest: Digest) -> Message {
    Message::SyncReq(SyncReq { op_counter: 1, digest })
}

#[test]
fn the_start_ends_after_three_hellos_and_a_merge_with_all_that_answered() {
    let mut trace = Trace::new(&[]);
    assert_eq!(trace.hears(0, 2, &hello(digest(9))), ["2: HelloAck"], "no merge before the map is read");
    trace.sync.on_loaded(at(10));
    assert_eq!(trace.waits(10), ["all: Hello", "Pull 2"]);
    for from in [2, 3] {
        assert_eq!(trace.hears(20, from, &Message::HelloAck(HelloAck {})), [""; 0]);
    }
    assert_eq!(trace.merges(30, 2, digest(9), &[]), [""; 0]);
    assert_eq!(trace.waits(31), ["Pull 3"]);
    for now in [1_010, 2_010] {
        assert_eq!(trace.waits(now), ["all: Hello"]);
        for from in [2, 3] {
            assert_eq!(trace.hears(now + 1, from, &Message::HelloAck(HelloAck {})), [""; 0]);
        }
    }
    assert_eq!(trace.waits(3_010), [""; 0]);
    assert!(!trace.sync.is_started(), "3 has answered, and its map is not merged");
    let own = trace.map.digest();
    trace.merges(3_020, 3, own, &[]);
    trace.waits(3_021);
    assert!(trace.sync.is_started());
}

#[test]
fn a_neighbour_that_cannot_be_merged_delays_the_start_for_three_attempts() {
    let mut trace = Trace::new(&[]);
    trace.sync.on_loaded(at(0));
    trace.waits(0);
    assert_eq!(trace.hears(1, 2, &hello(digest(9))), ["2: HelloAck", "Pull 2"]);
    let reason = Reason::truncated("refused");
    let mut now = 1;
    for tries in 1..=3 {
        trace.happens(now, &Event::SessionFailed(NodeId(2), Purpose::Pull, &reason));
        trace.waits(now);
        now += 1_000 << (tries - 1);
        if tries < 3 {
            assert!(trace.waits(now).contains(&String::from("Pull 2")));
        }
    }
    trace.waits(now);
    assert!(trace.sync.is_started());
    assert_eq!(trace.sync.neighbours().get(NodeId(2)).unwrap().pull_error, reason);
}

#[test]
fn a_controller_that_does_not_answer_is_asked_alone_and_then_lost_until_it_is_heard() {
    let mut trace = Trace::settled();
    for node in [2, 3] {
        trace.hears(4_000, node, &Message::HelloAck(HelloAck {}));
    }
    let mut asks = Vec::new();
    let present = |trace: &Trace, now| trace.sync.neighbours().present(now).count();
    let mut run = |trace: &mut Trace, until: u64| {
        while let Some(due) = trace.sync.poll_at().filter(|due| *due <= at(until)) {
            for did in trace.waits(due.as_millis()) {
                if did == "2: Hello" {
                    trace.hears(due.as_millis() + 1, 2, &Message::HelloAck(HelloAck {}));
                }
                if did == "2: Hello" || did == "3: Hello" {
                    asks.push(did);
                }
            }
        }
        core::mem::take(&mut asks)
    };
    // By then the next Hello and all that follows it.
    let (round, limit) = (30_000 * 106 / 100 + 125, 3_000);
    let did = run(&mut trace, 2_000 + round + limit);
    let of = |did: &[String], node: &str| did.iter().filter(|ask| ask.starts_with(node)).count();
    assert_eq!((of(&did, "2"), of(&did, "3")), (1, 24));
    let lost = trace.sync.neighbours().get(NodeId(3)).unwrap();
    assert!(lost.presence.is_unanswered());
    assert_eq!((present(&trace, at(0)), trace.sync.unanswered()), (1, 1));
    let did = run(&mut trace, 2_000 + 2 * (round + limit));
    assert_eq!((of(&did, "2"), of(&did, "3")), (1, 1), "one that is lost: once in a round");
    trace.hears(80_000, 3, &Message::HelloAck(HelloAck {}));
    assert_eq!(present(&trace, at(80_000)), 2);
}

#[test]
fn a_lone_controller_has_started_after_its_three_hellos() {
    let trace = Trace::settled();
    assert!(trace.sync.is_started() && !trace.sync.must_renew());
}

#[test]
fn a_sync_req_is_answered_when_and_only_when_it_is_merged() {
    let mut trace = Trace::settled();
    assert_eq!(trace.hears(4_000, 2, &sync_req(digest(5))), ["Pull 2"]);
    assert_eq!(trace.waits(4_010), [""; 0]);
    assert_eq!(trace.merges(4_020, 2, digest(5), &[entry("B")]), ["2: SyncComplete 5"]);
    assert_eq!(trace.hears(5_000, 2, &sync_req(digest(5))), ["2: SyncComplete 5"], "again: it was lost");
    let own = trace.map.digest();
    assert_eq!(trace.hears(5_001, 2, &sync_req(own)), [format!("2: SyncComplete {}", own.0[0])]);
}

#[test]
fn a_merge_that_began_after_a_sync_req_covers_it() {
    let mut trace = Trace::settled();
    assert_eq!(trace.hears(4_000, 2, &sync_req(digest(5))), ["Pull 2"]);
    // The neighbour's map changes once more before it is read.
    assert_eq!(trace.merges(4_020, 2, digest(6), &[entry("B")]), ["2: SyncComplete 5"]);
    // A SyncReq that comes while the map is being read is not covered.
    assert_eq!(trace.hears(5_000, 2, &sync_req(digest(7))), ["Pull 2"]);
    let ready = Event::SessionReady(NodeId(2), Purpose::Pull);
    assert_eq!(trace.happens(5_010, &ready), ["merge 2"]);
    assert_eq!(trace.hears(5_020, 2, &sync_req(digest(8))), [""; 0]);
    assert_eq!(trace.happens(5_030, &Event::PullEnded(NodeId(2), Ok(whole(digest(7))))), [""; 0]);
    assert_eq!(trace.waits(5_030), ["Pull 2"]);
}

#[test]
fn a_change_is_announced_and_confirmed_by_all_present_controllers() {
    let mut trace = Trace::settled();
    let own = trace.map.digest();
    for node in [2, 3] {
        assert_eq!(trace.hears(4_000, node, &hello(own))[..1], [format!("{node}: HelloAck")]);
    }
    trace.merges(4_001, 2, own, &[]);
    trace.waits(4_002);
    trace.merges(4_003, 3, own, &[]);

    trace.map.merge(&entry("B")).unwrap();
    let number = trace.sync.on_changed(at(5_000));
    assert_eq!(trace.waits(5_000), ["all: SyncReq"]);
    let announced = trace.map.digest();
    assert!(!trace.sync.is_confirmed(at(5_000), number));
    let done = |digest| Message::SyncComplete(SyncComplete { digest, blobs_missing: 1 });
    trace.hears(5_010, 2, &done(announced));
    assert!(!trace.sync.is_confirmed(at(5_010), number));
    assert_eq!(trace.waits(6_000), ["all: SyncReq"], "3 has not answered");
    // The next change is announced; the answer to the first still counts.
    trace.map.merge(&entry("C")).unwrap();
    let next = trace.sync.on_changed(at(6_100));
    assert_eq!(trace.waits(6_100), ["all: SyncReq"]);
    trace.hears(6_110, 3, &done(announced));
    assert!(trace.sync.is_confirmed(at(6_110), number) && !trace.sync.is_confirmed(at(6_110), next));
    // A Hello with our digest confirms as an answer does.
    let own = trace.map.digest();
    trace.hears(6_120, 2, &hello(own));
    trace.hears(6_120, 3, &hello(own));
    assert!(trace.sync.is_confirmed(at(6_120), next));
    assert_eq!(trace.waits(7_100), [""; 0], "all have it");
    assert!(trace.sync.is_confirmed(at(500_000), next + 1), "no controller is present");
}

#[test]
fn a_merge_that_changes_the_map_is_announced_within_a_second() {
    let mut trace = Trace::settled();
    assert_eq!(trace.hears(4_000, 2, &hello(digest(5))), ["2: HelloAck", "Pull 2"]);
    trace.merges(4_010, 2, digest(5), &[entry("B")]);
    let mut sent = None;
    while sent.is_none() {
        let now = trace.sync.poll_at().unwrap();
        assert!(now <= at(5_020), "{now:?}");
        sent = trace.waits(now.as_millis()).into_iter().find(|did| did == "all: Hello");
        if sent.is_some() {
            trace.hears(now.as_millis() + 1, 2, &Message::HelloAck(HelloAck {}));
            trace.waits(now.as_millis() + 1_000);
        }
    }
    assert!(trace.sync.poll_at().unwrap() > at(30_000), "once");
}

#[test]
fn a_replica_is_renewed_unless_all_known_controllers_were_merged_with() {
    let known = |trace: &mut Trace| {
        trace.sync.neighbours_mut().know(at(0), NodeId(2), &Hostname::new("c2").unwrap());
    };
    let mut alone = Trace::settled();
    known(&mut alone);
    assert!(alone.sync.must_renew());
    alone.sync.on_changed(at(4_000));
    assert_eq!(alone.waits(4_000), ["all: SyncReq"]);
    assert!(alone.sync.must_renew(), "an upload of a file alone stamps nothing");
    alone.map.merge(&entry("B")).unwrap();
    alone.sync.on_changed(at(5_000));
    alone.waits(5_000);
    assert!(!alone.sync.must_renew(), "once");
    let mut trace = Trace::settled();
    known(&mut trace);
    assert_eq!(trace.hears(4_000, 2, &hello(digest(5))), ["2: HelloAck", "Pull 2"]);
    trace.merges(4_010, 2, digest(5), &[entry("B")]);
    assert!(!trace.sync.must_renew());
    trace.sync.neighbours_mut().know(at(0), NodeId(3), &Hostname::new("c3").unwrap());
    assert!(trace.sync.must_renew(), "3 was not merged with");
}

#[test]
fn a_purge_needs_every_known_controller_with_the_same_map() {
    let mut trace = Trace::settled();
    let own = trace.map.digest();
    assert_eq!(trace.sync.check_purge(at(4_000), own), Ok(()));
    let name = Hostname::new("c2").unwrap();
    trace.sync.neighbours_mut().know(at(0), NodeId(2), &name);
    assert_eq!(trace.sync.check_purge(at(4_000), own), Err(PurgeRefusal::Absent(NodeId(2), name.clone())));
    trace.hears(4_000, 2, &hello(digest(5)));
    assert_eq!(trace.sync.check_purge(at(4_000), own), Err(PurgeRefusal::Differs(NodeId(2), name.clone())));
    trace.hears(4_000, 2, &hello(own));
    assert_eq!(trace.sync.check_purge(at(4_000), own), Ok(()));
    assert_eq!(trace.sync.check_purge(at(130_000), own), Err(PurgeRefusal::Absent(NodeId(2), name)));
    trace.sync.neighbours_mut().forget(NodeId(2));
    assert_eq!(trace.sync.check_purge(at(130_000), own), Ok(()));
}

#[test]
fn missing_files_are_fetched_from_neighbours_that_were_merged_with() {
    let mut trace = Trace::settled();
    assert_eq!(trace.hears(4_000, 2, &hello(digest(5))), ["2: HelloAck", "Pull 2"]);
    let ready = Event::SessionReady(NodeId(2), Purpose::Pull);
    assert_eq!(trace.happens(4_010, &ready), ["merge 2"]);
    let new = entry("B");
    trace.map.merge(&new).unwrap();
    let slot = fixture::slot(&trace.map, "B");
    trace.sync.blobs_mut().on_missing(slot, &new.hash, &Reason::default());
    assert_eq!(trace.waits(4_020), [""; 0], "the end of the merge is not reported yet");
    trace.happens(4_030, &Event::PullEnded(NodeId(2), Ok(whole(digest(5)))));
    assert_eq!(trace.sync.blobs().first_wanted(&trace.map), Some(slot));
    assert_eq!(trace.waits(4_030), ["Blobs 2"]);
    let ready = Event::SessionReady(NodeId(2), Purpose::Blobs);
    assert_eq!(trace.happens(4_040, &ready), ["fetch 2"]);
    // A pull runs at the same time.
    assert_eq!(trace.hears(4_050, 2, &hello(digest(6))), ["2: HelloAck", "Pull 2"]);
    trace.sync.blobs_mut().on_here(slot);
    assert_eq!(trace.happens(4_060, &Event::BlobsEnded(NodeId(2), Ok(()))), [""; 0]);
    assert_eq!(trace.sync.blobs().first_wanted(&trace.map), None);
}

#[test]
fn a_map_that_changed_since_it_was_announced_is_read_once() {
    let mut trace = Trace::settled();
    assert_eq!(trace.hears(4_000, 2, &hello(digest(5))), ["2: HelloAck", "Pull 2"]);
    trace.merges(4_010, 2, digest(6), &[entry("B")]);
    assert_eq!(trace.waits(4_011), [""; 0], "the announced digest is old, and the map is merged");
    assert_eq!(trace.hears(4_500, 2, &hello(digest(7))), ["2: HelloAck", "Pull 2"]);
}

#[test]
fn a_change_made_here_does_not_turn_an_old_digest_into_news() {
    let mut trace = Trace::settled();
    let own = trace.map.digest();
    assert_eq!(trace.hears(4_000, 2, &hello(digest(5))), ["2: HelloAck", "Pull 2"]);
    trace.merges(4_010, 2, digest(5), &[]);
    trace.hears(4_020, 2, &hello(own));
    trace.map.merge(&entry("B").stamp(9, 1)).unwrap();
    trace.sync.on_changed(at(5_000));
    assert_eq!(trace.waits(5_000), ["all: SyncReq"]);
    trace.sync.neighbours_mut().know(at(0), NodeId(2), &Hostname::new("c2").unwrap());
    assert_eq!(trace.sync.agreed(), 1, "later changes are not agreed");
    let own = trace.map.digest();
    trace.hears(5_010, 2, &hello(own));
    assert_eq!(trace.sync.agreed(), 9);
}

#[test]
fn the_end_of_missing_files_is_reported_to_all() {
    let mut trace = Trace::settled();
    assert_eq!(trace.hears(4_000, 2, &sync_req(digest(5))), ["Pull 2"]);
    let new = entry("B");
    trace.map.merge(&new).unwrap();
    let slot = fixture::slot(&trace.map, "B");
    trace.sync.blobs_mut().on_missing(slot, &new.hash, &Reason::default());
    assert_eq!(trace.merges(4_010, 2, digest(5), &[]), ["2: SyncComplete 5 less 1"]);
    assert_eq!(trace.waits(4_011), ["Blobs 2"]);
    trace.sync.blobs_mut().on_here(slot);
    let own = trace.map.digest().0[0];
    assert_eq!(
        trace.waits(4_500).iter().filter(|did| **did == format!("all: SyncComplete {own}")).count(),
        1
    );
    assert_eq!(trace.waits(4_501).iter().filter(|did| did.contains("SyncComplete")).count(), 0, "once");
}

#[test]
fn a_partial_merge_confirms_nothing() {
    let mut trace = Trace::settled();
    assert_eq!(trace.hears(4_000, 2, &sync_req(digest(5))), ["Pull 2"]);
    let ready = Event::SessionReady(NodeId(2), Purpose::Pull);
    let part = MergedMap { digest: digest(5), is_whole: false };
    assert_eq!(trace.happens(4_010, &ready), ["merge 2"]);
    assert_eq!(trace.happens(4_020, &Event::PullEnded(NodeId(2), Ok(part))), [""; 0]);
    assert_eq!(trace.waits(4_021), [""; 0], "and it is not read again at once");
    assert_eq!(trace.hears(5_000, 2, &sync_req(digest(5))), ["Pull 2"], "another attempt may succeed");
    assert_eq!(trace.merges(5_010, 2, digest(5), &[]), ["2: SyncComplete 5"]);
}

#[test]
fn a_map_that_stays_different_is_pulled_again_after_ten_intervals() {
    let mut trace = Trace::settled();
    assert_eq!(trace.hears(4_000, 2, &hello(digest(5))), ["2: HelloAck", "Pull 2"]);
    trace.merges(4_010, 2, digest(5), &[]);
    assert_eq!(trace.hears(303_999, 2, &hello(digest(5))), ["2: HelloAck"]);
    assert_eq!(trace.hears(304_000, 2, &hello(digest(5))), ["2: HelloAck", "Pull 2"]);
    let own = trace.map.digest();
    trace.merges(304_010, 2, digest(5), &[]);
    assert_eq!(trace.hears(900_000, 2, &hello(own)), ["2: HelloAck"]);
}
