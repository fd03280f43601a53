//! The wording of lines about other controllers and missing files.

use super::hosts::{is_lost, on_all_hosts};
use super::wording;
use super::wording::*;
use crate::daemon::fixture::{CONTROLLER_LOST, HOST_LOST, at, controller, peer, receive_ack};
use crate::fsm::controller::Controller;
use crate::fsm::sync::PurgeRefusal;
use crate::fsm::sync::neighbours::{Neighbour, Neighbours};
use crate::repo::digest::set_digest;
use crate::repo::entry::EntryState;
use crate::repo::fixture::{entry, slot};
use crate::repo::rules::OnAllHosts;
use crate::types::{Hostname, NodeId, Reason};

fn name(text: &str) -> Hostname {
    Hostname::new(text).unwrap()
}

/// Known neighbours, by name; those with a time were heard then.
fn neighbours<'a>(slots: &'a mut [Option<Neighbour>], all: &[(u64, &str, Option<u64>)]) -> Neighbours<'a> {
    let mut neighbours = Neighbours::new(slots, CONTROLLER_LOST);
    // In another order than that of their names.
    for (node, hostname, heard) in all.iter().rev() {
        neighbours.know(at(0), NodeId(*node), &name(hostname));
        if let Some(heard) = heard {
            neighbours.heard(at(*heard), NodeId(*node), peer());
        }
    }
    neighbours
}

#[test]
fn the_reply_names_controllers_that_confirmed_that_did_not_and_that_are_lost() {
    let all = [(1, "controller-1", Some(900)), (2, "controller-2", Some(900)), (3, "controller-3", None)];
    let line = |all: &[(u64, &str, Option<u64>)], confirmed: &[u64]| {
        let mut slots = [const { None }; 7];
        let mut neighbours = neighbours(&mut slots, all);
        for node in confirmed {
            neighbours.get_mut(NodeId(*node)).unwrap().confirmed = 7;
        }
        durable_on(at(1000), &neighbours, 7).raw().to_owned()
    };
    assert_eq!(line(&[], &[]), "Durable here; no other controller is present.");
    assert_eq!(line(&all[..1], &[1]), "Durable here, and on controller-1.");
    assert_eq!(line(&all[..2], &[1, 2]), "Durable here, and on controller-1, controller-2.");
    assert_eq!(line(&all[..1], &[]), "Durable here; controller-1 has not confirmed it yet.");
    assert_eq!(line(&all[..2], &[]), "Durable here; controller-1, controller-2 have not confirmed it yet.");
    assert_eq!(
        line(&all, &[2]),
        "Durable here, and on controller-2; controller-1 has not confirmed it yet; controller-3 is lost."
    );
    assert_eq!(line(&all[2..], &[]), "Durable here; no other controller is present; controller-3 is lost.");
}

#[test]
fn a_refused_purge_names_the_controller_and_what_to_do() {
    let absent = purge_refused(&PurgeRefusal::Absent(NodeId(1), name("controller-1")));
    assert!(absent.raw().starts_with("Controller controller-1 is not present"), "{absent}");
    assert!(absent.raw().ends_with("thimble drop-controller controller-1."), "{absent}");
    let unnamed = purge_refused(&PurgeRefusal::Differs(NodeId(0xab), Hostname::default()));
    assert!(unnamed.raw().contains("00000000000000ab does not have the same repository yet"), "{unnamed}");
}

#[test]
fn a_present_controller_cannot_be_dropped() {
    let mut slots = [const { None }; 7];
    let neighbours = neighbours(
        &mut slots,
        &[(1, "here", Some(900)), (2, "gone", Some(1)), (3, "twin", None), (4, "twin", None)],
    );
    let drop = |text: &str| find_droppable(at(1000), &neighbours, &name(text));
    assert_eq!(drop("gone"), Ok(NodeId(2)));
    assert_eq!(drop("0000000000000002"), Ok(NodeId(2)));
    assert_eq!(drop("0000000000000004"), Ok(NodeId(4)));
    assert!(drop("here").unwrap_err().raw().contains("here is present"));
    assert!(drop("0000000000000001").unwrap_err().raw().contains("is present"));
    let twins = drop("twin").unwrap_err();
    assert!(twins.raw().contains("0000000000000003 or 0000000000000004"), "{twins}");
    assert!(drop("nobody").unwrap_err().raw().contains("No controller nobody is known"));
}

#[test]
fn an_incomplete_controller_names_the_file_and_the_reason() {
    let spare = entry("SPARE").state(EntryState::Available);
    let mut controller = controller(&[spare.clone(), entry("NEEDED")]);
    assert_eq!(incomplete(&controller), None);
    controller.blob_missing(&spare.hash, &Reason::truncated("nobody has it"));
    assert_eq!(incomplete(&controller), None, "no host needs it");
    controller.blob_missing(&entry("NEEDED").hash, &Reason::default());
    let line = incomplete(&controller).unwrap();
    assert!(line.raw().starts_with("Incomplete: the file of NEEDED is not here."), "{line}");
    assert!(line.raw().ends_with("It is still to be fetched."), "{line}");
    controller.blob_missing(&entry("NEEDED").hash, &Reason::truncated("its signer is not trusted here"));
    let line = incomplete(&controller).unwrap();
    assert!(line.raw().ends_with("its signer is not trusted here"), "{line}");
    controller.blob_here(&entry("NEEDED").hash);
    assert_eq!(incomplete(&controller), None);
}

#[test]
fn a_patch_is_on_all_hosts_when_each_host_concerned_reports_it() {
    let here = entry("HERE");
    let elsewhere = entry("ELSEWHERE").concerning(&["storage"]);
    let mut controller = controller(&[here.clone(), elsewhere, entry("SPARE").state(EntryState::Available)]);
    let on_all = |controller: &Controller<'_>, now, text: &str, despite_lost| {
        on_all_hosts(at(now), controller, slot(controller.map(), text), despite_lost)
    };
    let named = |text: &str| name(text);
    assert_eq!(on_all(&controller, 0, "HERE", false), OnAllHosts::Everywhere, "there is none");
    // A host that has what it should have need not be asked what that is.
    let wanted = set_digest([(&here.id, &here.hash)]);
    receive_ack(&mut controller, at(1), 1, "has-it", wanted);
    assert_eq!(on_all(&controller, 1, "HERE", false), OnAllHosts::Everywhere);
    assert_eq!(on_all(&controller, 1, "SPARE", false), OnAllHosts::NotOn(named("has-it")));
    receive_ack(&mut controller, at(2), 2, "silent", set_digest([]));
    assert_eq!(on_all(&controller, 2, "HERE", false), OnAllHosts::MayNotBeOn(named("silent")));
    assert_eq!(on_all(&controller, 2, "ELSEWHERE", false), OnAllHosts::Everywhere, "no host concerned");
    let lost = HOST_LOST.as_millis() / 1000 + 2;
    receive_ack(&mut controller, at(lost), 1, "has-it", wanted);
    assert!(is_lost(at(lost), &controller, &named("silent")));
    assert!(!is_lost(at(lost), &controller, &named("has-it")));
    assert_eq!(on_all(&controller, lost, "HERE", false), OnAllHosts::MayNotBeOn(named("silent")));
    assert_eq!(on_all(&controller, lost, "HERE", true), OnAllHosts::Everywhere, "lost ones do not count");
}

#[test]
fn a_similar_name_is_suggested_and_no_other() {
    let names = ["HELLO-1", "HELLO-20", "TZ-1", "W"];
    let suggestion = |word| wording::Suggestion::of(word, names.into_iter()).to_string();
    assert_eq!(suggestion("hello-1"), " Did you mean HELLO-1?");
    assert_eq!(suggestion("HELO-1"), " Did you mean HELLO-1?");
    assert_eq!(suggestion("HELLO20"), " Did you mean HELLO-20?");
    assert_eq!(suggestion("ELO-20"), " Did you mean HELLO-20?");
    assert_eq!(suggestion("TZ1"), " Did you mean TZ-1?");
    // Another number is another patch.
    for none in ["TZ-2", "HELLO-21", "HELLO", "GOODBYE-1"] {
        assert_eq!(suggestion(none), "", "{none}");
    }
}
