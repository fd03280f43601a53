//! The lines and the refusals that speak of other controllers, of missing patch
//! files and of hosts in the way: what is the matter, and what to do.

use std::fmt;

use crate::fsm::controller::Controller;
use crate::fsm::sync::PurgeRefusal;
use crate::fsm::sync::neighbours::{Neighbour, Neighbours};
use crate::limits;
use crate::time::Instant;
use crate::types::{Hostname, NodeId, PatchId, Reason};

/// What follows a commit.
pub const FREES_KEPT_FILES: &str = "Hosts free the files that they kept to undo it at their next install.";

/// What follows the dropping of a controller.
pub const DROPPED_HERE_ALONE: &str =
    "Each controller is told for itself: give this command on the others too.";

/// A controller by its name, or by its node id where it has told none yet.
pub struct Called<'c>(pub NodeId, pub &'c Hostname);

impl<'c> Called<'c> {
    /// What this neighbour is called.
    #[must_use]
    pub const fn of(neighbour: &'c Neighbour) -> Self {
        Self(neighbour.node, &neighbour.hostname)
    }
}

impl fmt::Display for Called<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.is_empty() { write!(f, "{}", self.0) } else { write!(f, "{}", self.1) }
    }
}

/// Some of the controllers, by name: there are never more than a cluster has.
pub type Few<'c> = heapless::Vec<&'c Neighbour, { limits::CONTROLLERS }>;

/// These controllers by name, those without one first.
pub fn by_name<'c>(neighbours: impl Iterator<Item = &'c Neighbour>) -> Few<'c> {
    let mut few: Few<'c> = neighbours.collect();
    few.sort_unstable_by_key(|one| (&one.hostname, one.node));
    few
}

/// Controllers in a row.
struct All<'l, 'c>(&'l Few<'c>);

impl fmt::Display for All<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, neighbour) in self.0.iter().enumerate() {
            write!(f, "{}{}", if place == 0 { "" } else { ", " }, Called::of(neighbour))?;
        }
        Ok(())
    }
}

/// A word in the singular or the plural.
fn number<'w>(these: &Few<'_>, one: &'w str, more: &'w str) -> &'w str {
    if these.len() == 1 { one } else { more }
}

/// A change that is durable here, and who else has it.
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
            write!(f, "; {} {} not confirmed it yet", All(without), number(without, "has", "have"))?;
        }
        if !lost.is_empty() {
            write!(f, "; {} {} lost", All(lost), number(lost, "is", "are"))?;
        }
        f.write_str(".")
    }
}

/// On which controllers the change of this number is.
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

/// Why no purge can be made.
#[must_use]
pub fn no_purge(refusal: &PurgeRefusal) -> Reason {
    match refusal {
        PurgeRefusal::Absent(node, hostname) => {
            let called = Called(*node, hostname);
            Reason::format(format_args!(
                "Controller {called} is not present, and it could bring back what is purged: wait for it, or \
                 if it is gone for good: thimble drop-controller {called}."
            ))
        }
        PurgeRefusal::Differs(node, hostname) => Reason::format(format_args!(
            "Controller {} has not the same repository yet: wait until thimble status calls it synced, and \
             try again.",
            Called(*node, hostname)
        )),
    }
}

/// The controller of this name or node id, where it may be dropped.
///
/// # Errors
/// There is none, or more than one, or it is present.
pub fn to_drop(now: Instant, neighbours: &Neighbours<'_>, name: &Hostname) -> Result<NodeId, Reason> {
    let by_id = NodeId::from_hex(name.as_str());
    let is_meant = |one: &&Neighbour| Some(one.node) == by_id || one.hostname == *name;
    let found = by_name(neighbours.iter().filter(is_meant));
    let mut found = found.iter();
    match (found.next(), found.next()) {
        (Some(one), None) if one.is_present(now, neighbours.lost_after()) => {
            Err(Reason::format(format_args!(
                "Controller {name} is present: it would be met again at once. Stop it first, and wait until \
             thimble status calls it lost."
            )))
        }
        (Some(one), None) => Ok(one.node),
        (Some(first), Some(second)) => Err(Reason::format(format_args!(
            "More than one controller is called {name}: name it by its node id, {} or {}.",
            first.node, second.node
        ))),
        (None, _) => Err(Reason::format(format_args!(
            "No controller {name} is known: thimble status lists those that are."
        ))),
    }
}

/// A name that can have been meant where a word is none, to put behind what is
/// said of it.
pub struct Meant<'n>(Option<&'n str>);

impl<'n> Meant<'n> {
    /// The nearest of these names, if it is near.
    pub fn of(word: &str, names: impl Iterator<Item = &'n str>) -> Self {
        let most = if word.len() < 6 { 1 } else { 2 };
        let edits = |name: &str| (0..=most).find(|edits| is_near(word.as_bytes(), name.as_bytes(), *edits));
        // Who types compute-7 means no other number.
        let has_its_digits = |name: &&str| digits(name).eq(digits(word));
        let near = names.filter(has_its_digits).filter_map(|name| Some((edits(name)?, name)));
        Self(near.min().map(|(_, name)| name))
    }
}

fn digits(word: &str) -> impl Iterator<Item = u8> {
    word.bytes().filter(u8::is_ascii_digit)
}

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, " Did you mean {name}?"))
    }
}

/// Whether so many bytes put in, taken out or exchanged make `b` of `a`, large
/// letters and small being the same. Small: for all names of a table in one turn.
fn is_near(a: &[u8], b: &[u8], edits: u8) -> bool {
    let alike = a.iter().zip(b).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let (a, b) = (&a[alike..], &b[alike..]);
    let Some(left) = edits.checked_sub(1).filter(|_| a.len().abs_diff(b.len()) <= edits.into()) else {
        return a.is_empty() && b.is_empty();
    };
    match (a.split_first(), b.split_first()) {
        (Some((_, a_rest)), Some((_, b_rest))) => {
            is_near(a_rest, b_rest, left) || is_near(a_rest, b, left) || is_near(a, b_rest, left)
        }
        // What is left of the one is no longer than what may be put in.
        _ => true,
    }
}

/// Which patch file hosts need and this controller lacks, and why, if it does.
#[must_use]
pub fn incomplete(controller: &Controller<'_>) -> Option<Reason> {
    let blobs = controller.sync().blobs();
    let entry = controller.map().entry(blobs.first_wanted(controller.map())?)?;
    let why = match blobs.reason(&entry.hash) {
        "" => "It is still to be fetched.",
        why => why,
    };
    Some(Reason::format(format_args!(
        "Incomplete: the file of {} is not here. No host is called current, none is asked to install until it \
         comes, or is uploaded here again. {why}",
        entry.id
    )))
}

/// Why a patch is not committed: this host, which it concerns, is lost.
#[must_use]
pub fn may_not_be_on_lost(id: &PatchId, host: &Hostname) -> Reason {
    Reason::format(format_args!(
        "{id} may not be on host {host}, which is lost: bring it back, drop-host it if it is gone, or commit \
         with --force."
    ))
}
