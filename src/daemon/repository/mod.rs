//! The life of a controller's repository in the daemon: a state machine.
//!
//! The repository is on the disk, where workers alone read and change it. The loop keeps
//! the map in memory, from their reports. This machine holds how far that map may be
//! used, when the store is to be loaded, and what is being changed for whom. The loop
//! reports events to it and starts the workers.
//!
//! ```text
//!              on_loaded                on_started
//!   Loading --------------> Starting ---------------> Serving
//!      |                    lists are answered,       changes are made
//!      | on_load_failed     maps are merged
//!      v
//!   the daemon ends; but it loads again if the worker has only crashed
//!
//!   Absent: the node is no controller; no request waits for a repository
//! ```
//!
//! `Loading` holds the first load of the store. `Starting` and `Serving` hold a load
//! after a crash: the worker that crashed may have changed the store without a report.
//!
//! ```text
//!   from                event               to
//!   no load, or Due     on_worker_crashed   Due now
//!   Due                 on_load_started     Running
//!   Running             on_worker_crashed   Running, stale
//!   Running             on_loaded           no load: the map is that of the store
//!   Running, stale      on_loaded           Due now
//!   Running, any        on_load_failed      Due after LOAD_RETRY
//! ```
//!
//! `Starting` and `Serving` also hold the merge and the change at work, at most one each:
//!
//! ```text
//!   on_pull_started      on_pull_reported               on_pull_ended
//!   on_change_started    on_change_reported, repeated   on_change_ended
//! ```
//!
//! The purge floor that is sent with the map is settled when a load, a merge or a change
//! has ended, and neither a load nor a merge is due or at work.
//!
//! An event that does not fit the state changes nothing.

#[cfg(test)]
mod tests;

use super::control_socket::ConnectionId;
use crate::fsm::event::MergedMap;
use crate::repo::entry::EntryState;
use crate::time::{Duration, Instant};

/// The store is loaded again so long after that failed.
const LOAD_RETRY: Duration = Duration::from_secs(5);

/// What is being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Patches get this state.
    Patches(EntryState),
    /// Patch files are added.
    Upload,
    /// Deleted patches are purged.
    Purge,
    /// A controller that is gone is dropped.
    DropController,
    /// The rollout begins, goes on or ends.
    Rollout,
}

/// For whom it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// For the command on this connection.
    Command(ConnectionId),
    /// For this controller itself, which settles the rollout.
    Controller,
}

/// A change of the store that a worker is making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is being changed.
    pub kind: ChangeKind,
    /// For whom.
    pub requester: Requester,
    /// The worker has reported something that other controllers lack.
    pub has_changed: bool,
}

/// What follows a load that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadFailure {
    /// The daemon ends: it has never seen its repository, in which there is a fault.
    Fatal,
    /// The store is loaded again in a while.
    Retry,
}

/// Load of the store, by a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// To be started at this time.
    Due(Instant),
    /// Running; stale if the store may have changed since it started.
    Running { is_stale: bool },
}

/// A merge of another controller's map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pull {
    merged: Option<MergedMap>,
}

/// A repository that has been loaded once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Loaded {
    /// The store may differ from the map in memory until this load has ended.
    load: Option<Load>,
    pull: Option<Pull>,
    change: Option<Change>,
    /// The map's purge floor when it was last complete.
    settled_floor: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Loading(Load),
    Starting(Loaded),
    Serving(Loaded),
}

/// The state machine; see the module.
#[derive(Debug, PartialEq, Eq)]
pub struct Repository {
    state: State,
}

impl Repository {
    /// For a node that is no controller.
    #[must_use]
    pub const fn absent() -> Self {
        Self { state: State::Absent }
    }

    /// For a controller that starts now: its repository is to be loaded at once.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { state: State::Loading(Load::Due(now)) }
    }

    /// A worker that loads the store is about to start.
    pub fn on_load_started(&mut self) {
        if let Some(load) = self.load_mut() {
            *load = Load::Running { is_stale: false };
        }
    }

    /// The worker has loaded the store; `floor` is the map's purge floor now. True for
    /// the first load: lists may be answered from now on.
    #[must_use]
    pub fn on_loaded(&mut self, now: Instant, floor: u64) -> bool {
        let is_stale = self.load() == Some(Load::Running { is_stale: true });
        let load = is_stale.then_some(Load::Due(now));
        match &mut self.state {
            State::Absent => false,
            State::Loading(_) => {
                self.state = State::Starting(Loaded { load, ..Loaded::default() });
                self.settle_floor(floor);
                true
            }
            State::Starting(loaded) | State::Serving(loaded) => {
                loaded.load = load;
                self.settle_floor(floor);
                false
            }
        }
    }

    /// The worker that loads the store has failed. If it has not found a fault in the store
    /// (`has_crashed`: it was killed, or cannot be started), another may succeed.
    #[must_use]
    pub fn on_load_failed(&mut self, now: Instant, has_crashed: bool) -> LoadFailure {
        let again = Load::Due(now + LOAD_RETRY);
        match &mut self.state {
            State::Starting(loaded) | State::Serving(loaded) => loaded.load = Some(again),
            State::Loading(load) if has_crashed => *load = again,
            State::Loading(_) | State::Absent => return LoadFailure::Fatal,
        }
        LoadFailure::Retry
    }

    /// A worker that changes the store has crashed, possibly between a change and its
    /// report.
    pub fn on_worker_crashed(&mut self, now: Instant) {
        let next = match self.load() {
            Some(Load::Running { .. }) => Load::Running { is_stale: true },
            Some(Load::Due(_)) | None => Load::Due(now),
        };
        match &mut self.state {
            State::Absent => {}
            State::Loading(load) => *load = next,
            State::Starting(loaded) | State::Serving(loaded) => loaded.load = Some(next),
        }
    }

    /// The controller has merged what others have. True the first time: changes may be
    /// made from now on.
    #[must_use]
    pub fn on_started(&mut self) -> bool {
        let State::Starting(loaded) = self.state else { return false };
        self.state = State::Serving(loaded);
        true
    }

    /// A worker that changes the store has been started.
    pub fn on_change_started(&mut self, kind: ChangeKind, requester: Requester) {
        if let Some(loaded) = self.loaded_mut() {
            loaded.change = Some(Change { kind, requester, has_changed: false });
        }
    }

    /// That worker has reported something that other controllers lack.
    pub fn on_change_reported(&mut self) {
        if let Some(change) = self.loaded_mut().and_then(|loaded| loaded.change.as_mut()) {
            change.has_changed = true;
        }
    }

    /// That worker has ended; `floor` is the map's purge floor now.
    pub fn on_change_ended(&mut self, floor: u64) -> Option<Change> {
        let change = self.loaded_mut()?.change.take();
        self.settle_floor(floor);
        change
    }

    /// A worker that merges another controller's map has been started.
    pub fn on_pull_started(&mut self) {
        if let Some(loaded) = self.loaded_mut() {
            loaded.pull = Some(Pull::default());
        }
    }

    /// That worker has reported the map that it merged.
    pub fn on_pull_reported(&mut self, merged: MergedMap) {
        if let Some(pull) = self.loaded_mut().and_then(|loaded| loaded.pull.as_mut()) {
            pull.merged = Some(merged);
        }
    }

    /// That worker has ended; `floor` is the map's purge floor now. Returns what it
    /// has reported.
    pub fn on_pull_ended(&mut self, floor: u64) -> Option<MergedMap> {
        let pull = self.loaded_mut()?.pull.take();
        self.settle_floor(floor);
        pull?.merged
    }

    /// When a load is to be started.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        match self.load() {
            Some(Load::Due(at)) => Some(at),
            Some(Load::Running { .. }) | None => None,
        }
    }

    /// Whether the store has been loaded, or there is none.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        !matches!(self.state, State::Loading(_))
    }

    /// Whether changes may be made, or there is no repository to wait for.
    #[must_use]
    pub const fn is_serving(&self) -> bool {
        matches!(self.state, State::Absent | State::Serving(_))
    }

    /// Whether a worker is loading the store.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        matches!(self.load(), Some(Load::Running { .. }))
    }

    /// The change at work.
    #[must_use]
    pub fn change(&self) -> Option<&Change> {
        self.loaded()?.change.as_ref()
    }

    /// The purge floor to send with the map, whose own is `floor`. None while workers
    /// may have reported a new floor and not yet all entries: with the new floor, the
    /// receiver would take what the map lacks for purged; with the old one, it would
    /// take the digest of what is left for merged.
    #[must_use]
    pub fn floor_to_send(&self, floor: u64) -> Option<u64> {
        Some(self.loaded()?.settled_floor).filter(|settled| *settled == floor)
    }

    /// Settles the map's purge floor unless entries may be missing from the map.
    fn settle_floor(&mut self, floor: u64) {
        if let Some(loaded) = self.loaded_mut()
            && loaded.load.is_none()
            && loaded.pull.is_none()
        {
            loaded.settled_floor = floor;
        }
    }

    const fn load(&self) -> Option<Load> {
        match self.state {
            State::Absent => None,
            State::Loading(load) => Some(load),
            State::Starting(loaded) | State::Serving(loaded) => loaded.load,
        }
    }

    const fn load_mut(&mut self) -> Option<&mut Load> {
        match &mut self.state {
            State::Absent => None,
            State::Loading(load) => Some(load),
            State::Starting(loaded) | State::Serving(loaded) => loaded.load.as_mut(),
        }
    }

    const fn loaded(&self) -> Option<&Loaded> {
        match &self.state {
            State::Absent | State::Loading(_) => None,
            State::Starting(loaded) | State::Serving(loaded) => Some(loaded),
        }
    }

    const fn loaded_mut(&mut self) -> Option<&mut Loaded> {
        match &mut self.state {
            State::Absent | State::Loading(_) => None,
            State::Starting(loaded) | State::Serving(loaded) => Some(loaded),
        }
    }
}
