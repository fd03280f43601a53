//! Makes room for an install on a filesystem that is nearly full, out of what is kept
//! there.
//!
//! A covered layer can be fetched again, so its object is given up, the lowest first. What
//! was there before any patch cannot, so it moves to the root's kept directory; until it
//! is needed again it lies there under the same number, and then staging copies it back.

use std::os::fd::AsFd;

use super::check::Needed;
use super::error::{ErrorContext, InstallError, InstallRefusal};
use super::installer::Installer;
use super::journal::Journal;
use super::kept::{BLOCK_BYTES, Kept};
use super::needs::Objects;
use super::planner::Plan;
use super::record::{Installed, ItemKind};
use super::record_draft::Draft;
use super::record_file::Record;
use super::record_table::REDUCED;
use super::{check, set_aside};
use crate::job::{Source, Space};
use crate::sorted::FlatSet;

/// What an install does before it stages its files.
#[derive(Default)]
pub(super) struct Room {
    /// Objects of covered layers that are given up.
    dropped: Objects,
    /// Objects from before any patch that move to the root's filesystem.
    moved: Objects,
}

impl Installer<'_> {
    /// Finds room for a plan, beside a reserve. Refuses one for which there is none.
    pub fn find_room(
        &self,
        record: &Record,
        journal: &Journal,
        plan: &mut Plan<'_>,
        adds: bool,
        reserve_bytes: u64,
        source: &mut dyn Source,
    ) -> Result<Room, InstallError> {
        let mut room = Room::default();
        if adds {
            let record_bytes = plan.draft.bytes_with(&plan.next)?;
            let spare_bytes = set_aside::missing_bytes(self.home.as_fd(), &plan.next, record_bytes);
            let needed = plan.needs.of("");
            needed.bytes = needed.bytes.saturating_add(spare_bytes);
        }
        // The root last: others may move objects to it.
        let needed = std::mem::take(&mut plan.needs.by_mount);
        let (root, others): (Vec<_>, Vec<_>) = needed.into_iter().partition(|(mount, _)| mount.is_empty());
        let mut to_root = 0;
        for (mount, mut needed) in others.into_iter().chain(root) {
            needed.bytes = needed.bytes.saturating_add(reserve_bytes);
            if mount.is_empty() {
                needed.bytes = needed.bytes.saturating_add(to_root);
            }
            let Err(error) = self.check_space(&mount, needed) else { continue };
            if source.give_up_kept(true) && self.check_space(&mount, needed).is_ok() {
                continue;
            }
            let InstallError::Refused(refusal) = &error else { return Err(error) };
            let InstallRefusal::NoSpace { needed, free, .. } = **refusal else { return Err(error) };
            let short = needed.saturating_sub(free);
            let to_root_now = reserve_bytes.saturating_add(to_root);
            let made = self.make_room(record, journal, &plan.kept, &mount, short, to_root_now)?;
            let Some((made, moved_bytes)) = made else { return Err(error) };
            to_root += moved_bytes;
            room.dropped.extend(made.dropped);
            room.moved.extend(made.moved);
        }
        Ok(room)
    }

    /// Chooses what a filesystem can do without, so that `short` more bytes are free, and
    /// tells how much of that moves to the root, which needs `to_root` bytes already. `None`
    /// if there is not enough.
    fn make_room(
        &self,
        record: &Record,
        journal: &Journal,
        kept: &Kept<'_>,
        mount: &str,
        mut short: u64,
        to_root: u64,
    ) -> Result<Option<(Room, u64)>, InstallError> {
        let mut room = Room::default();
        let mut moved_bytes = 0;
        let mut entering = Vec::new();
        let mut moves = journal.moves();
        while let Some(switch) = moves.next_switch()? {
            entering.extend(switch.to.filter(|to| !to.is_fresh).map(|to| to.number));
        }
        let entering = FlatSet::from(entering);
        let mut items = record.items();
        while let Some((_, stack)) = items.next_stack()? {
            for number in stack.covered().filter(|number| !entering.contains(number)) {
                if short > 0 && stack.mount == mount {
                    short = short.saturating_sub(kept.size_bytes(mount, &number.to_string())?);
                    room.dropped.push((mount.to_owned(), number));
                }
            }
        }
        let mut items = record.items();
        while let Some((_, stack)) = items.next_stack()? {
            if short == 0 || mount.is_empty() {
                break;
            }
            let base = stack.base.map(|base| base.number);
            let base = base.filter(|number| stack.mount == mount && !entering.contains(number));
            let Some(number) = base else { continue };
            let size_bytes = kept.size_bytes(mount, &number.to_string())?;
            let takes = size_bytes.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES;
            // One of no size lies at the root already.
            let bytes = to_root.saturating_add(moved_bytes + takes);
            if size_bytes > 0 && self.check_space("", Needed { bytes, inodes: 1 }).is_ok() {
                moved_bytes += takes;
                short = short.saturating_sub(size_bytes);
                room.moved.push((mount.to_owned(), number));
            }
        }
        Ok((short == 0).then_some((room, moved_bytes)))
    }

    /// Checks that a filesystem has what is needed.
    pub fn check_space(&self, mount: &str, needed: Needed) -> Result<(), InstallError> {
        let space = self.tree.dir(mount).and_then(|dir| Space::of(dir.as_fd()));
        check::space(mount, needed, space.context("measure", mount)?)
    }

    /// Gives up and moves what was chosen. The set that is installed stays the same, and
    /// its record says what is left.
    pub fn take_room(
        &self,
        record: &mut Record,
        plan: &mut Plan<'_>,
        room: &Room,
    ) -> Result<(), InstallError> {
        let kept = &plan.kept;
        for (mount, number) in &room.moved {
            kept.transfer(mount, "", &number.to_string())?;
        }
        if !room.moved.is_empty() {
            kept.barrier()?;
        }
        if !room.dropped.is_empty() {
            let dropped: FlatSet<u64> = room.dropped.iter().map(|(_, number)| *number).collect();
            plan.draft.forget(|number| dropped.contains(&number))?;
            let mut reduced = Draft::begin(self.home.as_fd(), &REDUCED, &record.patches)?;
            let mut items = record.items();
            while let Some(mut item) = items.next()? {
                if let ItemKind::Stack(stack) = &mut item.what {
                    stack.forget(|number| dropped.contains(&number));
                }
                reduced.push(&item)?;
            }
            let installed = Installed { mounts: reduced.mounts()?, ..Installed::clone(record) };
            reduced.finish(&installed)?;
            REDUCED.publish(self.home.as_fd())?;
            *record = self.record()?;
        }
        for (mount, number) in room.moved.iter().chain(&room.dropped) {
            kept.remove(mount, &number.to_string())?;
        }
        Ok(())
    }
}
