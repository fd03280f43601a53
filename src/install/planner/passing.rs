//! The parts of the record that a plan passes over without reading them.

use super::Planner;
use crate::install::error::InstallError;
use crate::install::layout::LayoutItem;
use crate::install::order::order;
use crate::install::record_file::Items;
use crate::install::record_table::Segment;

impl Planner<'_, '_> {
    /// Passes over the parts of the record in which nothing changes.
    pub(super) fn pass_over(
        &mut self,
        items: &mut Items<'_>,
        brought: Option<&LayoutItem>,
    ) -> Result<(), InstallError> {
        if self.record.table().is_worn() {
            return Ok(());
        }
        while let Some(segment) = items.segment() {
            let has_brought = brought
                .is_some_and(|brought| items.after().is_none_or(|after| order(&brought.path, after).is_lt()));
            if has_brought || !self.stays(segment)? {
                break;
            }
            self.draft.keep(self.record, segment)?;
            items.skip();
        }
        Ok(())
    }

    /// Whether nothing changes in a segment, nor follows from it for what comes before or
    /// after.
    fn stays(&mut self, segment: &Segment) -> Result<bool, InstallError> {
        let summary = &segment.summary;
        if !summary.is_closed || !self.keeps(summary.slots.iter().copied()) {
            return Ok(false);
        }
        self.leave(&summary.first)?;
        let is_free = self.new_file.top.is_none() && self.old_file.top.is_none();
        Ok(is_free && self.recorded.inside().iter().all(|(_, made)| made.is_wanted && made.is_written))
    }

    /// Whether nothing changes for the patches that have these slots.
    pub(super) fn keeps(&self, slots: impl Iterator<Item = u16>) -> bool {
        let mut ranks: Vec<_> = slots.filter_map(|slot| self.record.rank_of(slot)).collect();
        ranks.sort_unstable();
        self.ranks.keep(&ranks)
    }
}
