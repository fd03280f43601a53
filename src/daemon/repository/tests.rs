//! The life of a repository as traces of events.

use super::*;
use crate::types::Digest;

const FLOOR: u64 = 40;
const NEW_FLOOR: u64 = 70;
const CHANGE: (ChangeKind, Requester) = (ChangeKind::Purge, Requester::Command(ConnectionId::new(3, 1)));

fn at(secs: u64) -> Instant {
    Instant::from_millis(secs * 1000)
}

/// What has happened to a repository so far, an event a line.
struct Trace {
    repository: Repository,
    lines: Vec<String>,
}

impl Trace {
    fn of(repository: Repository) -> Self {
        let mut trace = Self { repository, lines: Vec::new() };
        trace.note("begin");
        trace
    }

    /// A repository in state `Starting`, its trace empty.
    fn starting() -> Self {
        let mut trace = Self::of(Repository::new(at(0)));
        trace.does("load starts", Repository::on_load_started);
        trace.does("loaded", |repository| assert!(repository.on_loaded(at(1), FLOOR)));
        trace.lines.clear();
        trace
    }

    /// A repository in state `Serving`, its trace empty.
    fn serving() -> Self {
        let mut trace = Self::starting();
        assert!(trace.repository.on_started());
        trace
    }

    fn does(&mut self, event: &str, apply: impl FnOnce(&mut Repository)) {
        apply(&mut self.repository);
        self.note(event);
    }

    fn note(&mut self, event: &str) {
        let Repository { state } = &self.repository;
        let name = match state {
            State::Absent => "absent",
            State::Loading(_) => "loading",
            State::Starting(_) => "starting",
            State::Serving(_) => "serving",
        };
        let load = match self.repository.load() {
            None => String::new(),
            Some(Load::Due(at)) => format!(", load due at {}", at.as_millis() / 1000),
            Some(Load::Running { is_stale: false }) => ", load running".to_owned(),
            Some(Load::Running { is_stale: true }) => ", stale load running".to_owned(),
        };
        let due = self.repository.poll_at().is_some();
        assert_eq!(due, load.contains("due"), "the loop wakes for a load that is due and no other");
        assert_eq!(self.repository.is_loading(), load.contains("running"));
        self.lines.push(format!("{event}: {name}{load}"));
    }

    fn floor_sent(&self, floor: u64) -> Option<u64> {
        self.repository.floor_to_send(floor)
    }
}

/// What may be asked of a repository: lists, changes.
fn allows(repository: &Repository) -> (bool, bool) {
    (repository.is_loaded(), repository.is_serving())
}

#[test]
fn a_controller_loads_its_repository_merges_what_others_have_and_serves() {
    let mut trace = Trace::of(Repository::new(at(0)));
    assert_eq!(allows(&trace.repository), (false, false));
    trace.does("early start", |repository| assert!(!repository.on_started()));
    trace.does("load starts", Repository::on_load_started);
    trace.does("loaded", |repository| assert!(repository.on_loaded(at(1), FLOOR), "the first load"));
    assert_eq!(allows(&trace.repository), (true, false));
    trace.does("started", |repository| assert!(repository.on_started()));
    assert_eq!(allows(&trace.repository), (true, true));
    trace.does("started again", |repository| assert!(!repository.on_started(), "told once"));
    assert_eq!(
        trace.lines,
        [
            "begin: loading, load due at 0",
            "early start: loading, load due at 0",
            "load starts: loading, load running",
            "loaded: starting",
            "started: serving",
            "started again: serving",
        ]
    );
}

#[test]
fn an_agent_has_no_repository_and_waits_for_none() {
    let mut trace = Trace::of(Repository::absent());
    assert_eq!(allows(&trace.repository), (true, true));
    trace.does("a crash", |repository| repository.on_worker_crashed(at(1)));
    trace.does("a load", Repository::on_load_started);
    trace.does("loaded", |repository| assert!(!repository.on_loaded(at(2), FLOOR)));
    trace.does("started", |repository| assert!(!repository.on_started()));
    assert_eq!(
        trace.lines,
        ["begin: absent", "a crash: absent", "a load: absent", "loaded: absent", "started: absent"]
    );
    assert_eq!(trace.floor_sent(0), None);
}

#[test]
fn a_first_load_that_fails_is_fatal_and_one_that_is_killed_or_a_later_one_is_tried_again() {
    let mut first = Trace::of(Repository::new(at(0)));
    first.does("load starts", Repository::on_load_started);
    assert_eq!(first.repository.on_load_failed(at(1), false), LoadFailure::Fatal);

    let mut killed = Trace::of(Repository::new(at(0)));
    killed.does("load starts", Repository::on_load_started);
    killed.does("is killed", |repository| {
        assert_eq!(repository.on_load_failed(at(1), true), LoadFailure::Retry);
    });
    assert_eq!(killed.repository.poll_at(), Some(at(1) + LOAD_RETRY));
    killed.does("load starts", Repository::on_load_started);
    killed.does("loaded", |repository| assert!(repository.on_loaded(at(18), FLOOR), "the first"));

    let mut later = Trace::serving();
    later.does("crash", |repository| repository.on_worker_crashed(at(10)));
    later.does("load starts", Repository::on_load_started);
    later
        .does("fails", |repository| assert_eq!(repository.on_load_failed(at(12), false), LoadFailure::Retry));
    later.does("load starts", Repository::on_load_started);
    later.does("loaded", |repository| assert!(!repository.on_loaded(at(18), FLOOR), "not the first"));
    assert_eq!(
        later.lines,
        [
            "crash: serving, load due at 10",
            "load starts: serving, load running",
            "fails: serving, load due at 17",
            "load starts: serving, load running",
            "loaded: serving",
        ]
    );
}

#[test]
fn a_crash_during_a_load_asks_for_another() {
    let mut trace = Trace::starting();
    trace.does("crash", |repository| repository.on_worker_crashed(at(10)));
    trace.does("load starts", Repository::on_load_started);
    trace.does("crash", |repository| repository.on_worker_crashed(at(11)));
    trace.does("started", |repository| assert!(repository.on_started()));
    trace.does("loaded", |repository| assert!(!repository.on_loaded(at(12), FLOOR)));
    trace.does("load starts", Repository::on_load_started);
    trace.does("loaded", |repository| assert!(!repository.on_loaded(at(13), FLOOR)));
    assert_eq!(
        trace.lines,
        [
            "crash: starting, load due at 10",
            "load starts: starting, load running",
            "crash: starting, stale load running",
            "started: serving, stale load running",
            "loaded: serving, load due at 12",
            "load starts: serving, load running",
            "loaded: serving",
        ]
    );
}

#[test]
fn a_crash_during_the_first_load_asks_for_another() {
    let mut trace = Trace::of(Repository::new(at(0)));
    trace.does("load starts", Repository::on_load_started);
    trace.does("crash", |repository| repository.on_worker_crashed(at(1)));
    trace.does("loaded", |repository| assert!(repository.on_loaded(at(2), FLOOR), "the first load"));
    assert_eq!(trace.lines[2..], ["crash: loading, stale load running", "loaded: starting, load due at 2"]);
    assert_eq!(trace.floor_sent(FLOOR), None, "entries may be missing");
}

#[test]
fn a_crash_brings_the_next_try_of_a_load_forward() {
    let mut trace = Trace::serving();
    trace.does("crash", |repository| repository.on_worker_crashed(at(10)));
    trace.does("load starts", Repository::on_load_started);
    trace
        .does("fails", |repository| assert_eq!(repository.on_load_failed(at(12), false), LoadFailure::Retry));
    trace.does("crash", |repository| repository.on_worker_crashed(at(13)));
    assert_eq!(trace.lines[2..], ["fails: serving, load due at 17", "crash: serving, load due at 13"]);
}

#[test]
fn a_change_is_known_with_what_and_for_whom_until_it_ends() {
    let mut repository = Trace::serving().repository;
    let (kind, requester) = CHANGE;
    assert_eq!(repository.change(), None);
    repository.on_change_started(kind, requester);
    assert_eq!(repository.change(), Some(&Change { kind, requester, has_changed: false }));
    assert_eq!(repository.on_change_ended(FLOOR), Some(Change { kind, requester, has_changed: false }));
    assert_eq!(repository.change(), None);
    repository.on_change_reported();

    repository.on_change_started(kind, Requester::Controller);
    assert!(!repository.change().unwrap().has_changed, "a report of the last change does not count");
    repository.on_change_reported();
    let change = repository.on_change_ended(FLOOR).unwrap();
    assert_eq!(change, Change { kind, requester: Requester::Controller, has_changed: true });
    assert_eq!(repository.on_change_ended(FLOOR), None);
}

#[test]
fn a_merge_ends_with_what_it_reported_itself() {
    let mut repository = Trace::starting().repository;
    let merged = MergedMap { digest: Digest([7; 32]), is_whole: true };
    repository.on_pull_reported(merged);
    repository.on_pull_started();
    assert_eq!(repository.on_pull_ended(FLOOR), None, "the report before it was none of its own");
    repository.on_pull_started();
    repository.on_pull_reported(merged);
    assert!(repository.on_started());
    assert_eq!(repository.on_pull_ended(FLOOR), Some(merged));
    assert_eq!(repository.on_pull_ended(FLOOR), None);
}

#[test]
fn a_purge_floor_is_sent_once_the_map_is_complete_below_it() {
    let mut trace = Trace::of(Repository::new(at(0)));
    assert_eq!(trace.floor_sent(0), None, "nothing is loaded");
    trace.does("load starts", Repository::on_load_started);
    assert_eq!(trace.floor_sent(FLOOR), None);
    trace.does("loaded", |repository| assert!(repository.on_loaded(at(1), FLOOR)));
    assert_eq!(trace.floor_sent(FLOOR), Some(FLOOR));

    // A merge reports the new floor first, and entries after it.
    trace.does("merge starts", Repository::on_pull_started);
    assert_eq!(trace.floor_sent(FLOOR), Some(FLOOR));
    assert_eq!(trace.floor_sent(NEW_FLOOR), None);
    // A change that ends meanwhile settles nothing.
    trace.repository.on_change_started(CHANGE.0, CHANGE.1);
    assert!(trace.repository.on_change_ended(NEW_FLOOR).is_some());
    assert_eq!(trace.floor_sent(NEW_FLOOR), None);
    assert_eq!(trace.repository.on_pull_ended(NEW_FLOOR), None);
    assert_eq!(trace.floor_sent(NEW_FLOOR), Some(NEW_FLOOR));
}

#[test]
fn a_purge_raises_the_floor_that_is_sent_when_it_ends() {
    let mut repository = Trace::serving().repository;
    repository.on_change_started(CHANGE.0, CHANGE.1);
    assert_eq!(repository.floor_to_send(NEW_FLOOR), None);
    assert!(repository.on_change_ended(NEW_FLOOR).is_some());
    assert_eq!(repository.floor_to_send(NEW_FLOOR), Some(NEW_FLOOR));
}

#[test]
fn a_crashed_merge_leaves_the_floor_unsettled_until_a_load_has_ended_well() {
    let mut repository = Trace::serving().repository;
    repository.on_pull_started();
    repository.on_worker_crashed(at(10));
    assert_eq!(repository.on_pull_ended(NEW_FLOOR), None);
    assert_eq!(repository.floor_to_send(NEW_FLOOR), None, "entries may be missing");
    repository.on_load_started();
    assert_eq!(repository.on_load_failed(at(11), false), LoadFailure::Retry);
    assert_eq!(repository.floor_to_send(NEW_FLOOR), None, "the load may have reported the floor alone");
    repository.on_change_started(CHANGE.0, CHANGE.1);
    assert!(repository.on_change_ended(NEW_FLOOR).is_some());
    assert_eq!(repository.floor_to_send(NEW_FLOOR), None, "a load is still due");
    repository.on_load_started();
    assert!(!repository.on_loaded(at(17), NEW_FLOOR));
    assert_eq!(repository.floor_to_send(NEW_FLOOR), Some(NEW_FLOOR));
}
