//! What the patches of an install have at one path.

use super::{Planner, Surveyed};
use crate::install::layout::{DirectoryPart, LayoutItem, MemberPart, Part};
use crate::install::plan::Brought;
use crate::install::record::{Content, Stack};

/// What the patches have at one path.
#[derive(Default)]
pub(super) struct Parts {
    pub members: Vec<(Brought, Option<MemberPart>, String)>,
    pub directories: Vec<(u16, DirectoryPart)>,
    /// The patches whose paths lead through it as a link.
    pub through: Vec<u16>,
}

impl Planner<'_, '_> {
    /// Puts a part of a patch with those of its kind. Of a patch that is installed, only
    /// the files count whose layer is lost.
    pub(super) fn sort_part(&self, item: LayoutItem, old: Option<&Stack>, parts: &mut Parts) {
        let Some(Surveyed { rank, is_again }) = self.surveyed.get(usize::from(item.patch)) else { return };
        let rank = *rank;
        if *is_again {
            let layers = old.into_iter().flat_map(|stack| &stack.layers);
            let mut lost = layers.filter(|layer| layer.content == Content::Lost);
            if !lost.any(|layer| self.ranks.moved(layer.rank) == Some(rank)) {
                return;
            }
        }
        match item.part {
            Part::Member(part) => {
                let brought = Brought { rank, number: Some(part.number), is_config: part.is_config };
                let mount = part.mount.clone();
                parts.members.push((brought, Some(part), mount));
            }
            Part::Removal { mount } => {
                parts.members.push((Brought { rank, number: None, is_config: false }, None, mount));
            }
            // Each path below a directory that is missing has told of it.
            Part::Directory(part)
                if part.member.is_none()
                    && parts.directories.last().is_some_and(|(other, _)| *other == rank) => {}
            Part::Directory(part) if !is_again => parts.directories.push((rank, part)),
            Part::Through if !is_again && parts.through.last() != Some(&rank) => parts.through.push(rank),
            Part::Directory(_) | Part::Through => {}
        }
    }
}
