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
use super::kept::{BLOCK_BYTES, Kept};
use super::plan::Plan;
use super::record::Record;
use super::state_files::INSTALLED;
use super::{check, set_aside, survey, sys};
use crate::job::Space;
use crate::sorted::{FlatMap, FlatSet};

/// Objects by mount point and number.
type Objects = Vec<(String, u64)>;

/// What an install does before it stages its files.
#[derive(Default)]
pub(super) struct Room {
    /// Objects of covered layers that are given up.
    dropped: Objects,
    /// Objects from before any patch that move to the root's filesystem.
    moved: Objects,
    /// Such objects that come back.
    pub returning: Objects,
}

impl Installer<'_> {
    /// Finds room for a plan, beside a reserve. Refuses one for which there is none, or
    /// whose kept objects are missing.
    pub fn find_room(
        &self,
        record: &Record,
        plan: &mut Plan,
        kept: &Kept<'_>,
        reserve_bytes: u64,
    ) -> Result<Room, InstallError> {
        let mut room = Room::default();
        let mut needed: FlatMap<String, Needed> = FlatMap::default();
        let none = || Needed { bytes: reserve_bytes, inodes: 0 };
        let mut need = |mount: &str, bytes: u64| {
            let needed = needed.get_or_insert_with(mount.to_owned(), none);
            let bytes = bytes.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES;
            needed.bytes = needed.bytes.saturating_add(bytes);
            needed.inodes += 1;
        };
        for switch in &mut plan.moves.switches {
            let Some(to) = switch.to.as_mut().filter(|to| !to.is_fresh) else { continue };
            let name = to.number.to_string();
            if kept.has(&switch.mount, &name)? {
                continue;
            }
            if !kept.has("", &name)? {
                return Err(survey::lost_object(record, &switch.path));
            }
            // Undoing leaves it where it lies now.
            to.is_fresh = true;
            need(&switch.mount, kept.size_bytes("", &name)?);
            room.returning.push((switch.mount.clone(), to.number));
        }
        for staged in &plan.stage {
            need(&staged.mount, staged.size_bytes);
        }
        for save in &plan.moves.saves {
            let mount = plan.moves.switches.iter().find(|switch| switch.path == save.path);
            let Some(mount) = mount.map(|switch| &switch.mount) else { continue };
            if !kept.holds(mount).hard_links {
                let stat =
                    self.tree.parent(&save.path).and_then(|(dir, name)| sys::stat_at(dir.as_fd(), name));
                need(mount, stat.context("look at", &save.path)?.size_bytes);
            }
        }
        if !plan.moves.added.is_empty() {
            let spare_bytes = set_aside::missing_bytes(self.home.as_fd(), &plan.next)?;
            let needed = needed.get_or_insert_with(String::new(), none);
            needed.bytes = needed.bytes.saturating_add(spare_bytes);
        }
        // The root last: others may move objects to it.
        let (root, others): (Vec<_>, Vec<_>) = needed.into_iter().partition(|(mount, _)| mount.is_empty());
        let mut to_root = 0;
        for (mount, mut needed) in others.into_iter().chain(root) {
            if mount.is_empty() {
                needed.bytes = needed.bytes.saturating_add(to_root);
            }
            let Err(error) = self.check_space(&mount, needed) else { continue };
            let InstallError::Refused(refusal) = &error else { return Err(error) };
            let InstallRefusal::NoSpace { needed, free, .. } = **refusal else { return Err(error) };
            let short = needed.saturating_sub(free);
            let to_root_now = reserve_bytes.saturating_add(to_root);
            let made = self.make_room(record, plan, kept, &mount, short, to_root_now)?;
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
        plan: &Plan,
        kept: &Kept<'_>,
        mount: &str,
        mut short: u64,
        to_root: u64,
    ) -> Result<Option<(Room, u64)>, InstallError> {
        let mut room = Room::default();
        let mut moved_bytes = 0;
        let entering: FlatSet<u64> =
            plan.moves.switches.iter().filter_map(|switch| switch.to).map(|to| to.number).collect();
        let stacks = || record.paths.values().filter(|stack| stack.mount == mount);
        for number in stacks().flat_map(|stack| stack.covered()).filter(|number| !entering.contains(number)) {
            if short == 0 {
                break;
            }
            short = short.saturating_sub(kept.size_bytes(mount, &number.to_string())?);
            room.dropped.push((mount.to_owned(), number));
        }
        for number in stacks().filter_map(|stack| stack.base).filter(|number| !entering.contains(number)) {
            if short == 0 || mount.is_empty() {
                break;
            }
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
        plan: &mut Plan,
        kept: &Kept<'_>,
        room: &Room,
    ) -> Result<(), InstallError> {
        for (mount, number) in &room.moved {
            kept.transfer(mount, "", &number.to_string())?;
        }
        if !room.moved.is_empty() {
            kept.barrier()?;
        }
        if !room.dropped.is_empty() {
            let dropped: FlatSet<u64> = room.dropped.iter().map(|(_, number)| *number).collect();
            record.forget(&dropped);
            plan.next.forget(&dropped);
            INSTALLED.write(self.home.as_fd(), record)?;
        }
        for (mount, number) in room.moved.iter().chain(&room.dropped) {
            kept.remove(mount, &number.to_string())?;
        }
        Ok(())
    }
}
