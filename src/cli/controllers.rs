//! Commands about other controllers, and controllers as text and JSON.

use super::command::Invocation;
use super::exit::Failure;
use super::hosts::{by, lost_json, named, way_json};
use super::out::Out;
use super::patches::print_lines;
use crate::control::{BlobRow, LossCause, NeighbourRow, Request};
use crate::json::Value;
use crate::time::Span;

/// `thimble purge`
pub fn purge(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    print_lines(invocation, Request::Purge, out)
}

/// `thimble drop-controller CONTROLLER`
pub fn drop_controller(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let texts = invocation.texts()?;
    let controller = named(invocation, "controller", texts.first().copied().unwrap_or_default())?;
    print_lines(invocation, Request::DropController { controller }, out)
}

/// Another controller, as a line of `status`.
pub(super) fn neighbour_text(row: &NeighbourRow) -> String {
    let mut text =
        if row.hostname.is_empty() { row.node.to_string() } else { format!("{} {}", row.hostname, row.node) };
    if !row.address.is_empty() {
        text.push_str(&format!(" at {}", row.address));
    }
    let state = match (row.is_lost, row.is_synced) {
        (true, _) => "lost",
        (false, true) => "synced",
        (false, false) => "not synced",
    };
    text.push_str(&format!(": {state}"));
    // The trouble of a silent controller says already when it was heard.
    let is_in_trouble = row.lost == Some(LossCause::Silent) && !row.trouble.is_empty();
    if let Some(age_ms) = row.age_ms.filter(|_| !is_in_trouble) {
        text.push_str(&format!(", heard {} ago{}", Span::of_millis(age_ms), by(row.way)));
    }
    match row.blobs_missing {
        0 => {}
        1 => text.push_str(", lacks 1 patch file"),
        more => text.push_str(&format!(", lacks {more} patch files")),
    }
    if !row.trouble.is_empty() {
        text.push_str(&format!("; {}", row.trouble));
    }
    text
}

/// A patch whose file is missing here, as a line of `status`.
pub(super) fn blob_text(row: &BlobRow) -> String {
    let needed = if row.is_wanted { ", which hosts need" } else { "" };
    let reason = if row.reason.is_empty() { "not asked for yet".to_owned() } else { row.reason.to_string() };
    format!("the file of {}{needed}: {reason}", row.id)
}

/// Another controller as JSON.
pub(super) fn neighbour_json(row: &NeighbourRow) -> Value {
    Value::object([
        ("node", Value::text(row.node)),
        ("hostname", Value::text(&row.hostname)),
        ("address", Value::text(&row.address)),
        ("age_ms", Value::or_null(row.age_ms.map(Value::from))),
        ("lost", row.is_lost.into()),
        ("synced", row.is_synced.into()),
        ("op_counter", row.op_counter.into()),
        ("missing_count", row.blobs_missing.into()),
        ("trouble", Value::text(&row.trouble)),
        ("lost_because", lost_json(row.lost)),
        ("heard_by", way_json(row.way)),
    ])
}

/// A patch whose file is missing here, as JSON.
pub(super) fn blob_json(row: &BlobRow) -> Value {
    Value::object([
        ("id", Value::text(&row.id)),
        ("hash", Value::text(row.hash)),
        ("wanted", row.is_wanted.into()),
        ("reason", Value::text(&row.reason)),
    ])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::Way;
    use crate::types::{Hash, Hostname, NodeId, PatchId, Reason, Text};

    pub fn row() -> NeighbourRow {
        NeighbourRow {
            node: NodeId(0x1f),
            hostname: Hostname::new("controller-1").unwrap(),
            address: Text::truncated("10.84.0.11"),
            age_ms: Some(2_100),
            way: Some(Way::Multicast),
            lost: None,
            is_lost: false,
            is_synced: true,
            op_counter: 9,
            blobs_missing: 0,
            trouble: Reason::default(),
        }
    }

    pub fn blob() -> BlobRow {
        BlobRow {
            id: PatchId::new("P1").unwrap(),
            hash: Hash([0xAB; 32]),
            is_wanted: true,
            reason: Reason::truncated("no controller has it"),
        }
    }

    #[test]
    fn a_controller_is_shown_with_its_state_and_trouble() {
        let here = "controller-1 000000000000001f at 10.84.0.11: ";
        let shown = |row: NeighbourRow| neighbour_text(&row).strip_prefix(here).unwrap().to_owned();
        assert_eq!(shown(row()), "synced, heard 2 s ago by multicast");
        let apart = NeighbourRow { is_synced: false, ..row() };
        assert_eq!(shown(apart.clone()), "not synced, heard 2 s ago by multicast");
        let refused = NeighbourRow { trouble: Reason::truncated("it refused"), ..apart };
        assert_eq!(shown(refused), "not synced, heard 2 s ago by multicast; it refused");
        assert_eq!(
            shown(NeighbourRow { blobs_missing: 2, ..row() }),
            "synced, heard 2 s ago by multicast, lacks 2 patch files"
        );
        let silent = NeighbourRow {
            is_lost: true,
            age_ms: Some(130_000),
            lost: Some(LossCause::Silent),
            trouble: Reason::truncated("silent for 130 s"),
            ..row()
        };
        assert_eq!(shown(silent.clone()), "lost; silent for 130 s");
        let trouble = Reason::truncated(LossCause::Ended.words());
        let ended = NeighbourRow { lost: Some(LossCause::Ended), age_ms: Some(3_000), trouble, ..silent };
        assert_eq!(shown(ended), "lost, heard 3 s ago by multicast; its thimble has ended");
    }

    #[test]
    fn a_controller_that_was_never_heard_is_shown_by_its_id() {
        let never = NeighbourRow {
            hostname: Hostname::default(),
            address: Text::truncated(""),
            age_ms: None,
            is_lost: true,
            is_synced: false,
            ..row()
        };
        assert_eq!(neighbour_text(&never), "000000000000001f: lost");
    }

    #[test]
    fn a_missing_file_is_named_by_its_patch_with_the_reason() {
        assert_eq!(blob_text(&blob()), "the file of P1, which hosts need: no controller has it");
        let new = BlobRow { is_wanted: false, reason: Reason::default(), ..blob() };
        assert_eq!(blob_text(&new), "the file of P1: not asked for yet");
    }
}
