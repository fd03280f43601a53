//! The lines and the refusals that speak of other controllers, of missing patch
//! files and of hosts in the way: what is the matter, and what to do.

use std::fmt;

use crate::fsm::controller::Controller;
use crate::fsm::sync::PurgeRefusal;
use crate::fsm::sync::neighbours::{Neighbour, Neighbours};
use crate::limits;
use crate::time::Instant;
use crate::types::{Hostname, NodeId, Reason};

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

/// Some of the controllers: there are never more than a cluster has.
type Few<'c> = heapless::Vec<&'c Neighbour, { limits::CONTROLLERS }>;

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
    let those = |are: &dyn Fn(&Neighbour) -> bool| neighbours.iter().filter(|one| are(one)).collect();
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
    let mut found = neighbours.iter().filter(is_meant);
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

/// Which patch file hosts need and this controller lacks, and why, if it does.
#[must_use]
pub fn incomplete(controller: &Controller<'_>) -> Option<Reason> {
    let blobs = controller.sync().blobs();
    let entry = controller.map().entry(blobs.first_wanted(controller.map())?)?;
    let why = match blobs.why(&entry.hash) {
        "" => "It is still to be fetched.",
        why => why,
    };
    Some(Reason::format(format_args!(
        "Incomplete: the file of {} is not here. No host is called current, none is asked to install until it \
         comes, or is uploaded here again. {why}",
        entry.id
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::actions::Peer;
    use crate::time::Duration;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    fn name(text: &str) -> Hostname {
        Hostname::new(text).unwrap()
    }

    /// Neighbours that are known, by name; those with a time were heard then.
    fn neighbours<'a>(
        places: &'a mut [Option<Neighbour>],
        all: &[(u64, &str, Option<u64>)],
    ) -> Neighbours<'a> {
        let mut neighbours = Neighbours::new(places, Duration::from_secs(120));
        for (node, hostname, heard) in all {
            neighbours.know(at(0), NodeId(*node), &name(hostname));
            if let Some(heard) = heard {
                neighbours.heard(at(*heard), NodeId(*node), Peer::Ip(([127, 0, 0, 1], 1).into()));
            }
        }
        neighbours
    }

    #[test]
    fn the_reply_names_those_that_have_a_change_those_that_have_not_and_the_lost() {
        let all = [(1, "controller-1", Some(900)), (2, "controller-2", Some(900)), (3, "controller-3", None)];
        let said = |all: &[(u64, &str, Option<u64>)], confirmed: &[u64]| {
            let mut places = [const { None }; 7];
            let mut neighbours = neighbours(&mut places, all);
            for node in confirmed {
                neighbours.get_mut(NodeId(*node)).unwrap().confirmed = 7;
            }
            durable_on(at(1000), &neighbours, 7).as_str().to_owned()
        };
        assert_eq!(said(&[], &[]), "Durable here; no other controller is present.");
        assert_eq!(said(&all[..1], &[1]), "Durable here, and on controller-1.");
        assert_eq!(said(&all[..2], &[1, 2]), "Durable here, and on controller-1, controller-2.");
        assert_eq!(said(&all[..1], &[]), "Durable here; controller-1 has not confirmed it yet.");
        assert_eq!(
            said(&all[..2], &[]),
            "Durable here; controller-1, controller-2 have not confirmed it yet."
        );
        assert_eq!(
            said(&all, &[2]),
            "Durable here, and on controller-2; controller-1 has not confirmed it yet; controller-3 is lost."
        );
        assert_eq!(
            said(&all[2..], &[]),
            "Durable here; no other controller is present; controller-3 is lost."
        );
    }

    #[test]
    fn a_purge_in_whose_way_a_controller_is_names_it_and_what_to_do() {
        let absent = no_purge(&PurgeRefusal::Absent(NodeId(1), name("controller-1")));
        assert!(absent.as_str().starts_with("Controller controller-1 is not present"), "{absent}");
        assert!(absent.as_str().ends_with("thimble drop-controller controller-1."), "{absent}");
        let unnamed = no_purge(&PurgeRefusal::Differs(NodeId(0xab), Hostname::default()));
        assert!(unnamed.as_str().contains("00000000000000ab has not the same repository yet"), "{unnamed}");
    }

    #[test]
    fn only_one_that_is_not_present_is_dropped() {
        let mut places = [const { None }; 7];
        let neighbours = neighbours(
            &mut places,
            &[(1, "here", Some(900)), (2, "gone", Some(1)), (3, "twin", None), (4, "twin", None)],
        );
        let drop = |text: &str| to_drop(at(1000), &neighbours, &name(text));
        assert_eq!(drop("gone"), Ok(NodeId(2)));
        assert_eq!(drop("0000000000000002"), Ok(NodeId(2)));
        assert_eq!(drop("0000000000000004"), Ok(NodeId(4)));
        assert!(drop("here").unwrap_err().as_str().contains("here is present"));
        assert!(drop("0000000000000001").unwrap_err().as_str().contains("is present"));
        let twins = drop("twin").unwrap_err();
        assert!(twins.as_str().contains("0000000000000003 or 0000000000000004"), "{twins}");
        assert!(drop("nobody").unwrap_err().as_str().contains("No controller nobody is known"));
    }
}
