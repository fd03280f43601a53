//! The lines and refusals about other controllers, missing patch files, and hosts that
//! prevent a command: what is wrong, and what to do.

use std::fmt;

use crate::fsm::controller::Controller;
use crate::fsm::sync::PurgeRefusal;
use crate::fsm::sync::neighbours::{Neighbour, Neighbours};
use crate::limits;
use crate::repo::entry::EntryState;
use crate::time::Instant;
use crate::types::{Hostname, NodeId, PatchId, Reason};

/// The line after a commit.
pub const FREES_KEPT_FILES: &str = "Hosts free the files that they kept to undo it at their next install.";

/// The line after a controller was dropped.
pub const DROPPED_HERE_ALONE: &str =
    "It is dropped on this controller alone: run this command on the others too.";

/// A controller's name, or its node id while the name is not known.
pub struct DisplayName<'c>(pub NodeId, pub &'c Hostname);

impl<'c> DisplayName<'c> {
    /// The name of a neighbour.
    #[must_use]
    pub const fn of(neighbour: &'c Neighbour) -> Self {
        Self(neighbour.node, &neighbour.hostname)
    }
}

impl fmt::Display for DisplayName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.is_empty() { write!(f, "{}", self.0) } else { write!(f, "{}", self.1) }
    }
}

/// Controllers, by name: no more than a cluster has.
pub type Few<'c> = heapless::Vec<&'c Neighbour, { limits::CONTROLLERS }>;

/// Sorts controllers by name, those without one first.
pub fn by_name<'c>(neighbours: impl Iterator<Item = &'c Neighbour>) -> Few<'c> {
    let mut few: Few<'c> = neighbours.collect();
    few.sort_unstable_by_key(|one| (&one.hostname, one.node));
    few
}

/// Controllers, separated by commas.
struct All<'l, 'c>(&'l Few<'c>);

impl fmt::Display for All<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, neighbour) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, DisplayName::of(neighbour))?;
        }
        Ok(())
    }
}

/// A word in the singular or the plural.
fn plural<'w>(controllers: &Few<'_>, one: &'w str, more: &'w str) -> &'w str {
    if controllers.len() == 1 { one } else { more }
}

/// A change that is durable here, and which other controllers have confirmed it.
struct Durable<'c> {
    with: Few<'c>,
    without: Few<'c>,
    lost: Few<'c>,
}

impl fmt::Display for Durable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { with, without, lost } = self;
        f.write_str("Durable here")?;
        if !with.is_empty() {
            write!(f, ", and on {}", All(with))?;
        } else if without.is_empty() {
            f.write_str("; no other controller is present")?;
        }
        if !without.is_empty() {
            write!(f, "; {} {} not confirmed it yet", All(without), plural(without, "has", "have"))?;
        }
        if !lost.is_empty() {
            write!(f, "; {} {} lost", All(lost), plural(lost, "is", "are"))?;
        }
        f.write_str(".")
    }
}

/// Which controllers have confirmed the change of this number.
#[must_use]
pub fn durable_on(now: Instant, neighbours: &Neighbours<'_>, number: u32) -> Reason {
    let is_present = |one: &Neighbour| one.is_present(now, neighbours.lost_after());
    let those = |are: &dyn Fn(&Neighbour) -> bool| by_name(neighbours.iter().filter(|one| are(one)));
    let durable = Durable {
        with: those(&|one| is_present(one) && one.confirmed >= number),
        without: those(&|one| is_present(one) && one.confirmed < number),
        lost: those(&|one| one.is_known && !is_present(one)),
    };
    Reason::format(format_args!("{durable}"))
}

/// The refusal of a purge.
#[must_use]
pub fn purge_refused(refusal: &PurgeRefusal) -> Reason {
    match refusal {
        PurgeRefusal::Absent(node, hostname) => {
            let called = DisplayName(*node, hostname);
            Reason::format(format_args!(
                "Controller {called} is not present and could bring purged patches back: wait for it, or, if \
                 it is gone for good, run thimble drop-controller {called}."
            ))
        }
        PurgeRefusal::Differs(node, hostname) => Reason::format(format_args!(
            "Controller {} does not have the same repository yet: wait until thimble status calls it \
             synced, and try again.",
            DisplayName(*node, hostname)
        )),
    }
}

/// The controller of this name or node id, if it may be dropped.
///
/// # Errors
/// There is none, or more than one, or it is present.
pub fn find_droppable(now: Instant, neighbours: &Neighbours<'_>, name: &Hostname) -> Result<NodeId, Reason> {
    let by_id = NodeId::from_hex(name.as_str());
    let matches = |one: &&Neighbour| Some(one.node) == by_id || one.hostname == *name;
    let found = by_name(neighbours.iter().filter(matches));
    let mut found = found.iter();
    match (found.next(), found.next()) {
        (Some(one), None) if one.is_present(now, neighbours.lost_after()) => {
            Err(Reason::format(format_args!(
                "Controller {name} is present: it would be added again at once. Stop it first, and wait until \
             thimble status calls it lost."
            )))
        }
        (Some(one), None) => Ok(one.node),
        (Some(first), Some(second)) => Err(Reason::format(format_args!(
            "More than one controller is called {name}: use its node id, {} or {}.",
            first.node, second.node
        ))),
        (None, _) => Err(Reason::format(format_args!(
            "No controller {name} is known: thimble status lists those that are."
        ))),
    }
}

/// A suggestion to append to the refusal of an unknown name.
pub struct Suggestion<'n>(Option<&'n str>);

impl<'n> Suggestion<'n> {
    /// The most similar of these names, if any is similar.
    pub fn of(word: &str, names: impl Iterator<Item = &'n str>) -> Self {
        let most = if word.len() < 6 { 1 } else { 2 };
        let edits =
            |name: &str| (0..=most).find(|edits| is_similar(word.as_bytes(), name.as_bytes(), *edits));
        // A name with another number is another host or patch: no typing error.
        let has_its_digits = |name: &&str| digits(name).eq(digits(word));
        let near = names.filter(has_its_digits).filter_map(|name| Some((edits(name)?, name)));
        Self(near.min().map(|(_, name)| name))
    }
}

fn digits(word: &str) -> impl Iterator<Item = u8> {
    word.bytes().filter(u8::is_ascii_digit)
}

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, " Did you mean {name}?"))
    }
}

/// Whether `edits` bytes inserted, removed or replaced turn `a` into `b`, ignoring the
/// case of letters. Cheap enough for all names of a table in one turn.
fn is_similar(a: &[u8], b: &[u8], edits: u8) -> bool {
    let alike = a.iter().zip(b).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let (a, b) = (&a[alike..], &b[alike..]);
    let Some(left) = edits.checked_sub(1).filter(|_| a.len().abs_diff(b.len()) <= edits.into()) else {
        return a.is_empty() && b.is_empty();
    };
    match (a.split_first(), b.split_first()) {
        (Some((_, a_rest)), Some((_, b_rest))) => {
            is_similar(a_rest, b_rest, left) || is_similar(a_rest, b, left) || is_similar(a, b_rest, left)
        }
        // One is empty, and the rest of the other is no longer than the edits left.
        _ => true,
    }
}

/// The first patch file that hosts need and this controller lacks, and the reason.
#[must_use]
pub fn incomplete(controller: &Controller<'_>) -> Option<Reason> {
    let blobs = controller.sync().blobs();
    let entry = controller.map().entry(blobs.first_wanted(controller.map())?)?;
    let way_out = if entry.state == EntryState::Committed { "delete" } else { "remove" };
    let reason = match blobs.reason(&entry.hash) {
        "" => "It is still to be fetched.",
        reason => reason,
    };
    Some(Reason::format(format_args!(
        "Incomplete: the file of {id} is not here. Until it is fetched or uploaded here again, no host is \
         shown as current and none is asked to install. If nobody has it: thimble {way_out} {id}. {reason}",
        id = entry.id,
    )))
}

/// The refusal of a commit because a host that it concerns is lost.
#[must_use]
pub fn commit_refused_by_lost(id: &PatchId, host: &Hostname) -> Reason {
    Reason::format(format_args!(
        "{id} may not be on host {host}, which is lost: bring it back, drop-host it if it is gone, or commit \
         with --force."
    ))
}
