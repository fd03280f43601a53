//! Traces of recovery: at the start, after a crash, and where it fails.

use super::*;

#[test]
fn it_recovers_before_it_sends_anything_or_accepts_a_request() {
    let mut trace = Trace::start(3);
    assert_eq!(trace.agent.poll_at(), Some(at(0)));
    assert_eq!(trace.waits(0), ["recover"]);
    assert_eq!(trace.hello(10, CONTROLLER, 20), [""; 0]);
    assert_eq!(trace.asked(20, CONTROLLER, 7, trace.agent.nonce), [""; 0], "the journal may contain it");
    assert_eq!(trace.waits(400), [""; 0]);
    assert_eq!(trace.agent.poll_at(), None);
    let last = journal(7, Outcome::RolledBack);
    assert_eq!(trace.snapshot(500, &["A"], Some(&last)), [""; 0]);
    assert_eq!(trace.ends(500, WorkerEnd::Done), ["ack install-failed, 7 rolled back"]);
    assert_eq!(trace.agent.ack().installed_digest, digest_of(&["A"]));
    let again = trace.asked(600, CONTROLLER, 7, Nonce(99));
    assert_eq!(again, ["tell 1: 7 rolled back a script failed"]);
}

#[test]
fn failed_recovery_is_reported_and_repeated_and_no_installed_set_is_sent() {
    let mut trace = Trace::start(3);
    trace.waits(0);
    let reason = Reason::truncated("the disk is full");
    assert_eq!(trace.ends(100, WorkerEnd::Failed(&reason)), ["ack install-failed"]);
    assert_eq!(trace.agent.recovery_error(), &reason);
    assert_eq!((trace.agent.ack().installed_digest, trace.agent.detail_page(0)), (Digest::default(), None));
    let refused = trace.asked(300, CONTROLLER, 7, trace.agent.nonce);
    let why = "tell 1: 7 refused The host has an install to recover from first: the disk is full";
    assert_eq!(refused, [why, "ack install-failed"]);
    assert_eq!(trace.waits(30_099), [""; 0]);
    assert_eq!(trace.waits(30_100), ["recover"]);
    assert_eq!(trace.ends(30_200, WorkerEnd::Done), ["ack install-failed"], "it reported nothing");
    assert_eq!(trace.waits(60_200), ["recover"]);
    trace.snapshot(60_300, &["A"], None);
    assert_eq!(trace.ends(60_300, WorkerEnd::Done), ["ack idle"]);
    assert!(trace.agent.recovery_error().is_empty() && !trace.agent.ack().patch_failed);
    assert_eq!(trace.agent.ack().installed_digest, digest_of(&["A"]));
}

#[test]
fn a_crashed_install_is_recovered_and_answered_from_the_journal() {
    for (last, answer) in [
        (Some(journal(7, Outcome::RolledBack)), "tell 1: 7 rolled back a script failed"),
        (Some(journal(7, Outcome::Installed)), "tell 1: 7 installed"),
        (
            Some(journal(6, Outcome::Installed)),
            "tell 1: 7 rejected The install's worker died before it changed anything: ask again.",
        ),
        (None, "tell 1: 7 rejected The install's worker died before it changed anything: ask again."),
    ] {
        let mut trace = Trace::installing();
        let crashed = trace.crashes(2_000);
        assert_eq!(crashed, ["recover", "ack installing rolling back 0 %, 7 running"]);
        let again = trace.asked(2_100, CONTROLLER, 7, trace.agent.nonce);
        assert_eq!(again, [""; 0], "it is still recovering");
        trace.snapshot(2_500, &[], last.as_ref());
        assert_eq!(trace.ends(2_500, WorkerEnd::Done)[0], answer);
    }
}

#[test]
fn a_worker_that_cannot_be_started_rejects_an_install_and_is_tried_again_soon_for_recovery() {
    let no_installer = Reason::truncated("no installer");
    let mut trace = Trace::installing();
    let rejected = trace.ends(2_000, WorkerEnd::NotStarted(&no_installer));
    assert_eq!(rejected[0], "tell 1: 7 rejected no installer");
    assert!(!trace.agent.ack().patch_failed, "nothing was begun");

    let mut trace = Trace::installing();
    trace.crashes(2_000);
    trace.ends(2_500, WorkerEnd::NotStarted(&no_installer));
    assert_eq!(trace.waits(4_499), [""; 0]);
    assert_eq!(trace.waits(4_500)[0], "recover", "the installer may be there again");
}

#[test]
fn done_without_a_journal_entry_counts_as_a_crash() {
    let mut trace = Trace::installing();
    let done = trace.ends(2_000, WorkerEnd::Done);
    assert_eq!(done, ["recover", "ack installing rolling back 0 %, 7 running"]);
}

#[test]
fn a_crash_that_recovery_cannot_clean_up_is_broken_until_it_can() {
    let mut trace = Trace::installing();
    trace.crashes(2_000);
    let reason = Reason::truncated("read-only disk");
    let broken = trace.ends(2_500, WorkerEnd::Failed(&reason));
    assert_eq!(broken, ["tell 1: 7 broken read-only disk", "ack install-failed, 7 broken"]);
    assert_eq!(trace.agent.ack().installed_digest, Digest::default(), "the installed set is not known");
    assert_eq!(trace.asked(3_000, CONTROLLER, 7, Nonce(0)), ["tell 1: 7 broken read-only disk"]);
    assert_eq!(trace.waits(32_500), ["recover"]);
    trace.snapshot(33_000, &[], Some(&journal(7, Outcome::RolledBack)));
    assert_eq!(trace.ends(33_000, WorkerEnd::Done)[0], "tell 1: 7 rolled back a script failed");
    assert_eq!(trace.agent.ack().installed_digest, digest_of(&[]));
}

#[test]
fn an_install_that_cannot_be_undone_is_broken_and_recovered_every_30_s() {
    let mut trace = Trace::installing();
    trace.waits(1_200);
    // The worker reports the record of the previous set, and that its files are not back.
    trace.snapshot(2_000, &[], Some(&journal(7, Outcome::Broken)));
    let reason = Reason::truncated("/etc/x cannot be put back");
    let broken = trace.ends(2_000, WorkerEnd::Unfinished(&reason));
    assert_eq!(broken, ["tell 1: 7 broken /etc/x cannot be put back", "ack install-failed, 7 broken"]);
    assert_eq!(trace.agent.recovery_error(), &reason);
    assert_eq!((trace.agent.installed_digest(), trace.agent.detail_page(0)), (Digest::default(), None));
    assert_eq!(trace.agent.ack().installed_digest, Digest::default(), "the tree is not one set");
    let refused = trace.asked(3_000, OTHER, 8, trace.agent.nonce);
    assert!(refused[0].starts_with("tell 2: 8 refused The host has an install to recover"), "{refused:?}");
    for again in [32_000, 62_000] {
        assert_eq!(trace.waits(again - 1), [""; 0]);
        assert_eq!(trace.waits(again), ["recover"]);
        trace.snapshot(again, &[], Some(&journal(7, Outcome::Broken)));
        let still = trace.ends(again, WorkerEnd::Failed(&reason));
        assert_eq!(still, ["tell 1: 7 broken /etc/x cannot be put back", "ack install-failed, 7 broken"]);
    }
    assert_eq!(trace.waits(92_000), ["recover"]);
    trace.snapshot(92_100, &[], Some(&journal(7, Outcome::RolledBack)));
    let back = trace.ends(92_100, WorkerEnd::Done);
    assert_eq!(back, ["tell 1: 7 rolled back a script failed", "ack install-failed, 7 rolled back"]);
    assert_eq!(trace.agent.ack().installed_digest, digest_of(&[]));
    assert!(trace.agent.recovery_error().is_empty());
}
