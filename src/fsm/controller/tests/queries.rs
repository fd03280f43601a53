//! What hosts have: when it is known, and when a host is asked for it.

use super::*;

#[test]
fn a_host_that_has_what_it_should_is_not_queried() {
    let mut trace = Trace::start(&[entry("A"), entry("B")], 4);
    assert_eq!(trace.hears(100, 5, ack(&["A", "B"])), [""; 0]);
    assert!(trace.host(5).is_known());
    assert_eq!(trace.state("A"), PatchState::Applied);
    assert_eq!(trace.currency(5), Currency::Current);
}

#[test]
fn a_host_that_has_something_else_is_queried_once() {
    let mut trace = Trace::start(&[entry("A"), entry("B")], 4);
    assert_eq!(trace.hears(100, 5, ack(&["A"])), ["query 5"]);
    assert_eq!(trace.hears(150, 5, ack(&["A"])), [""; 0]);
    assert_eq!((trace.state("A"), trace.state("B")), (PatchState::PartialApply, PatchState::PartialApply));
    assert_eq!(trace.answers(200, 5, &["A"]), [""; 0]);
    assert_eq!(trace.hears(300, 5, ack(&["A"])), [""; 0], "it is known now");
    assert_eq!((trace.state("A"), trace.state("B")), (PatchState::Applied, PatchState::PartialApply));
    assert_eq!(trace.currency(5), Currency::OutOfDate);
    assert_eq!(trace.hears(400, 5, ack(&["B"])), ["query 5"], "its installed set has changed");
}

#[test]
fn a_query_is_ended_when_the_ack_answers_it() {
    let mut trace = Trace::start(&[entry("A")], 4);
    assert_eq!(trace.hears(100, 5, ack(&[])), ["query 5"]);
    assert_eq!(trace.hears(200, 5, ack(&["A"])), ["hang up on 5"]);
    assert!(trace.host(5).is_known());
    assert_eq!(trace.answers(300, 5, &[]), [""; 0], "a late answer is ignored");
    assert_eq!(trace.state("A"), PatchState::Applied);
}

#[test]
fn an_unreachable_host_that_has_something_new_is_queried_at_once() {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.hears(100, 5, ack(&[]));
    trace
        .event(200, &Event::SessionFailed(NodeId(5), Purpose::QueryDetailed, &Reason::truncated("no route")));
    assert_eq!(trace.hears(300, 5, ack(&[])), [""; 0], "it waits");
    assert_eq!(trace.hears(400, 5, ack(&["A'"])), ["query 5"]);
}

#[test]
fn a_merge_changes_what_hosts_should_have() {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.hears(100, 5, ack(&["A"]));
    assert_eq!(trace.currency(5), Currency::Current);
    trace.merges(200, &entry("B").state(EntryState::Available));
    assert_eq!((trace.currency(5), trace.state("B")), (Currency::Current, PatchState::Available));
    trace.merges(300, &entry("B").stamp(2, 1));
    assert_eq!((trace.currency(5), trace.state("B")), (Currency::OutOfDate, PatchState::PartialApply));
    trace.merges(400, &entry("A").state(EntryState::Available).stamp(3, 1));
    assert_eq!(trace.state("A"), PatchState::PartialRemove);
    assert_eq!(trace.hears(500, 5, ack(&["B"])), [""; 0]);
    assert_eq!((trace.state("A"), trace.state("B")), (PatchState::Available, PatchState::Applied));
}

#[test]
fn a_patch_that_the_map_does_not_know_is_asked_for_again_when_it_does() {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.hears(100, 5, ack(&["A", "X"]));
    trace.answers(200, 5, &["A", "X"]);
    assert_eq!((trace.host(5).foreign, trace.state("A")), (1, PatchState::Applied));
    trace.merges(300, &entry("X").state(EntryState::Available));
    assert_eq!(trace.state("X"), PatchState::NotApplicable, "the host may have it");
    assert_eq!(trace.waits(300), ["query 5"]);
    trace.answers(400, 5, &["A", "X"]);
    assert_eq!((trace.host(5).foreign, trace.state("X")), (0, PatchState::PartialRemove));
}

#[test]
fn an_entry_that_is_not_reported_when_the_repository_is_read_again_is_purged() {
    let (kept, purged) = (entry("A").stamp(3, 1), entry("B").stamp(4, 1));
    let mut trace = Trace::start(&[kept.clone(), purged, entry("C").stamp(5, 1)], 4);
    // A worker merged a purge, and died before its report.
    trace.controller.on_loading();
    trace.controller.raise_floor(at(100), 7);
    trace.merges(100, &kept);
    // Another worker reports a change that the reading worker did not see.
    trace.merges(100, &entry("C").stamp(8, 2));
    trace.merges(100, &entry("D").stamp(9, 2).state(EntryState::Deleted));
    trace.controller.on_loaded(at(100));
    let held = |text: &str| trace.controller.map().get(&fixture::id(text)).is_some();
    assert_eq!(["A", "B", "C", "D"].map(held), [true, false, true, true]);
}

#[test]
fn other_content_with_a_known_id_is_another_patch() {
    let mut trace = Trace::start(&[entry("A")], 4);
    trace.hears(100, 5, ack(&["A'"]));
    trace.answers(200, 5, &["A'"]);
    assert_eq!((trace.host(5).foreign, trace.state("A")), (1, PatchState::PartialApply));
}
