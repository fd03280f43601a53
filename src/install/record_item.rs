//! One item of a record, as it is on the disk.
//!
//! What of an item changes after it was written has a fixed size and place, so that it can
//! be written over:
//!
//! ```text
//! kind u8 | length of the path u16 LE | path | ...
//!     a directory: is made u8 | is listed u8 | if it is, what is listed | slots u16 LE
//!     a stack: length of the mount point u16 LE | mount point | base | layers
//! what is listed: length of the mount point u16 LE | mount point | access before |
//!     how many u16 LE | of each: slot u16 LE | access
//! an access: mode u16 LE | owner u32 LE | group u32 LE
//! a base: is there u8 | number u64 LE | mode u16 LE
//! a layer: slot u16 LE | is config u8 | content u8 | number u64 LE | facts
//! facts: mode u16 LE | size u64 LE | print, 32 bytes
//! ```

use super::error::InstallError;
use super::frames::LEN_BYTES;
use super::record::{
    Access, Base, Content, Directory, Installed, Item, ItemKind, Layer, Listed, Object, Stack,
};
use super::tree::Print;

const DIRECTORY: u8 = 1;
const STACK: u8 = 2;
/// The contents of layers.
pub(super) const LOST: u8 = 0;
const OBJECT: u8 = 1;
const NOTHING: u8 = 2;
/// What of an object is known once it is unpacked.
pub(super) const FACTS_BYTES: usize = 2 + 8 + 32;
/// What one patch says of a directory that it lists.
const LISTED_BYTES: usize = 2 + 2 + 4 + 4;
/// A base, and whether there is one.
const BASE_BYTES: usize = 1 + 8 + 2;
/// The part of a layer before its content, and the whole.
pub(super) const BEFORE_CONTENT: usize = 2 + 1;
pub(super) const BEFORE_FACTS: usize = BEFORE_CONTENT + 1 + 8;
pub(super) const LAYER_BYTES: usize = BEFORE_FACTS + FACTS_BYTES;

/// The error for an item that is none.
pub(super) fn undecodable() -> InstallError {
    let path = ".thimble/items".to_owned();
    InstallError::Damaged { path, what: "is damaged: it cannot be decoded" }
}

/// An item as it is on the disk. Most items stay as they are.
pub(super) struct RawItem<'r> {
    pub bytes: &'r [u8],
    pub path: &'r str,
    what: RawKind<'r>,
}

enum RawKind<'r> {
    /// The slots of the patches that it is a member of.
    Directory(&'r [[u8; 2]]),
    Stack(RawStack<'r>),
}

/// The stack of such an item.
#[derive(Clone, Copy)]
pub(super) struct RawStack<'r> {
    pub mount: &'r str,
    base: Option<u64>,
    layers: &'r [[u8; LAYER_BYTES]],
}

impl<'r> RawItem<'r> {
    /// The item in these bytes; `None` if there is none.
    pub fn new(bytes: &'r [u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let path = take_text(&mut rest)?;
        let what = match *kind {
            DIRECTORY => {
                take_u8(&mut rest)?;
                if take_u8(&mut rest)? != 0 {
                    skip_listed(&mut rest)?;
                }
                let (slots, []) = rest.as_chunks() else { return None };
                RawKind::Directory(slots)
            }
            STACK => {
                let mount = take_text(&mut rest)?;
                let (base, rest) = rest.split_first_chunk::<BASE_BYTES>()?;
                let (layers, []) = rest.as_chunks() else { return None };
                let (has_base, number) = base.split_first()?;
                let number = u64::from_le_bytes(*number.first_chunk()?);
                RawKind::Stack(RawStack { mount, base: (*has_base != 0).then_some(number), layers })
            }
            _ => return None,
        };
        Some(Self { bytes, path, what })
    }

    /// The item. What it has in place of ranks is in the record with this table.
    pub fn item(&self, installed: &Installed) -> Result<Item, InstallError> {
        decode(self.bytes, installed).ok_or_else(undecodable)
    }

    /// The stack, if the path has one.
    pub fn stack(&self) -> Option<RawStack<'r>> {
        if let RawKind::Stack(stack) = self.what { Some(stack) } else { None }
    }

    /// The slots of its patches.
    pub fn slots(&self) -> impl Iterator<Item = u16> {
        let (members, stack) = match self.what {
            RawKind::Directory(members) => (members, None),
            RawKind::Stack(stack) => (&[][..], Some(stack)),
        };
        let layers = stack.into_iter().flat_map(|stack| stack.slots());
        members.iter().map(|slot| u16::from_le_bytes(*slot)).chain(layers)
    }

    /// Whether the directories that it is in cannot go.
    pub fn wants_directories(&self) -> bool {
        match self.what {
            RawKind::Directory(members) => !members.is_empty(),
            RawKind::Stack(stack) => stack.has_file(),
        }
    }

    /// Where its layers begin.
    pub fn layers_at(&self) -> usize {
        self.bytes.len() - self.stack().map_or(0, |stack| stack.layers.as_flattened().len())
    }
}

impl<'r> RawStack<'r> {
    /// The slots of its layers, bottom first.
    pub fn slots(self) -> impl DoubleEndedIterator<Item = u16> + ExactSizeIterator + 'r {
        self.layers.iter().map(|[low, high, ..]| u16::from_le_bytes([*low, *high]))
    }

    /// Whether the top layer has a file in place.
    pub fn has_file(self) -> bool {
        self.layers.last().is_some_and(|top| top.get(BEFORE_CONTENT) != Some(&NOTHING))
    }

    /// The slots of its layers, bottom first, and whether the object of each is lost.
    pub fn lost(self) -> impl DoubleEndedIterator<Item = (u16, bool)> + 'r {
        let is_lost = self.layers.iter().map(|layer| layer.get(BEFORE_CONTENT) == Some(&LOST));
        self.slots().zip(is_lost)
    }

    /// The numbers of the objects of its layers, bottom first.
    pub fn objects(self) -> impl DoubleEndedIterator<Item = Option<u64>> + 'r {
        self.layers.iter().map(|layer| match layer.split_at_checked(BEFORE_CONTENT)?.1 {
            [OBJECT, number @ ..] => number.first_chunk().map(|number| u64::from_le_bytes(*number)),
            _ => None,
        })
    }

    /// The numbers of its kept objects. The top is in place, not kept.
    pub fn kept(self) -> impl Iterator<Item = u64> + 'r {
        self.base.into_iter().chain(self.objects().rev().skip(1).flatten())
    }
}

/// Appends an item. `slots` are those of the patches, by rank. Returns where in the buffer
/// its layers begin.
pub(super) fn encode(item: &Item, slots: &[u16], into: &mut Vec<u8>) -> usize {
    let slot = |rank: &u16| slots.get(usize::from(*rank)).copied().unwrap_or_default();
    let start = into.len();
    into.extend([0; LEN_BYTES]);
    let text = |into: &mut Vec<u8>, text: &str| {
        // Paths are shorter: limits::PATH_BYTES, and the kernel's bound for what links lead to.
        into.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
        into.extend_from_slice(text.as_bytes());
    };
    into.push(if matches!(item.what, ItemKind::Directory(_)) { DIRECTORY } else { STACK });
    text(into, &item.path);
    let mut layers_at = into.len();
    match &item.what {
        ItemKind::Directory(Directory { is_made, members_of, listed }) => {
            into.extend([u8::from(*is_made), u8::from(listed.is_some())]);
            if let Some(Listed { mount, before, layers }) = listed {
                text(into, mount);
                encode_access(before, into);
                // A set has fewer patches: limits::EFFECTIVE.
                into.extend(u16::try_from(layers.len()).unwrap_or(u16::MAX).to_le_bytes());
                for (rank, access) in layers {
                    into.extend(slot(rank).to_le_bytes());
                    encode_access(access, into);
                }
            }
            into.extend(members_of.iter().flat_map(|rank| slot(rank).to_le_bytes()));
        }
        ItemKind::Stack(Stack { mount, base, layers }) => {
            text(into, mount);
            into.push(base.is_some().into());
            into.extend(base.map_or(0, |base| base.number).to_le_bytes());
            into.extend(base.map_or(0, |base| base.mode).to_le_bytes());
            layers_at = into.len();
            for Layer { rank, content, is_config } in layers {
                let (kind, object) = match content {
                    Content::Lost => (LOST, None),
                    Content::Object(object) => (OBJECT, Some(object)),
                    Content::Nothing => (NOTHING, None),
                };
                into.extend(slot(rank).to_le_bytes());
                into.extend([(*is_config).into(), kind]);
                into.extend(object.map_or(0, |object| object.number).to_le_bytes());
                into.extend(object.map_or([0; FACTS_BYTES], facts));
            }
        }
    }
    let len = u32::try_from(into.len() - start - LEN_BYTES).unwrap_or(u32::MAX).to_le_bytes();
    into.iter_mut().skip(start).zip(len).for_each(|(to, from)| *to = from);
    layers_at
}

/// What of an object is known once it is unpacked.
pub(super) fn facts(object: &Object) -> [u8; FACTS_BYTES] {
    let parts = object.mode.to_le_bytes().into_iter().chain(object.size_bytes.to_le_bytes());
    let mut facts = [0; FACTS_BYTES];
    facts.iter_mut().zip(parts.chain(*object.print.bytes())).for_each(|(to, from)| *to = from);
    facts
}

/// The item in these bytes; `None` if there is none.
fn decode(bytes: &[u8], installed: &Installed) -> Option<Item> {
    let (kind, mut rest) = bytes.split_first()?;
    let path = take_text(&mut rest)?.to_owned();
    let what = match *kind {
        DIRECTORY => {
            let is_made = take_u8(&mut rest)? != 0;
            let listed = take_u8(&mut rest)? != 0;
            let listed = if listed { Some(take_listed(&mut rest, installed)?) } else { None };
            let (slots, []) = rest.as_chunks() else { return None };
            let ranks = slots.iter().map(|slot| installed.rank_of(u16::from_le_bytes(*slot)));
            let members_of = ranks.collect::<Option<_>>()?;
            ItemKind::Directory(Directory { is_made, members_of, listed })
        }
        STACK => {
            let mount = take_text(&mut rest)?.to_owned();
            let (has_base, rest) = rest.split_first()?;
            let (number, rest) = rest.split_first_chunk()?;
            let (mode, rest) = rest.split_first_chunk()?;
            let base = Base { number: u64::from_le_bytes(*number), mode: u16::from_le_bytes(*mode) };
            let base = (*has_base != 0).then_some(base);
            let (layers, []) = rest.as_chunks() else { return None };
            let layers = layers.iter().map(|layer| decode_layer(layer, installed)).collect::<Option<_>>()?;
            ItemKind::Stack(Stack { mount, base, layers })
        }
        _ => return None,
    };
    Some(Item { path, what })
}

fn encode_access(Access { mode, uid, gid }: &Access, into: &mut Vec<u8>) {
    into.extend(mode.to_le_bytes());
    into.extend(uid.to_le_bytes());
    into.extend(gid.to_le_bytes());
}

fn take_listed(bytes: &mut &[u8], installed: &Installed) -> Option<Listed> {
    let mount = take_text(bytes)?.to_owned();
    let before = take_access(bytes)?;
    let count = u16::from_le_bytes(take(bytes)?);
    let mut layer = || Some((installed.rank_of(u16::from_le_bytes(take(bytes)?))?, take_access(bytes)?));
    Some(Listed { mount, before, layers: (0..count).map(|_| layer()).collect::<Option<_>>()? })
}

/// The patches that list a directory are those that it is a member of, or some of them.
fn skip_listed(bytes: &mut &[u8]) -> Option<()> {
    take_text(bytes)?;
    take_access(bytes)?;
    let count = u16::from_le_bytes(take(bytes)?);
    *bytes = bytes.get(usize::from(count) * LISTED_BYTES..)?;
    Some(())
}

fn take_access(bytes: &mut &[u8]) -> Option<Access> {
    let mode = u16::from_le_bytes(take(bytes)?);
    Some(Access { mode, uid: u32::from_le_bytes(take(bytes)?), gid: u32::from_le_bytes(take(bytes)?) })
}

fn take_u8(bytes: &mut &[u8]) -> Option<u8> {
    let [byte] = take(bytes)?;
    Some(byte)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn take_text<'b>(bytes: &mut &'b [u8]) -> Option<&'b str> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
    *bytes = rest;
    str::from_utf8(text).ok()
}

fn decode_layer(bytes: &[u8; LAYER_BYTES], installed: &Installed) -> Option<Layer> {
    let (slot, rest) = bytes.split_first_chunk()?;
    let ([is_config, content], rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let content = match *content {
        LOST => Content::Lost,
        NOTHING => Content::Nothing,
        OBJECT => {
            let (mode, rest) = rest.split_first_chunk()?;
            let (size_bytes, print) = rest.split_first_chunk()?;
            let (mode, size_bytes) = (u16::from_le_bytes(*mode), u64::from_le_bytes(*size_bytes));
            let (number, print) = (u64::from_le_bytes(*number), Print::from_bytes(print)?);
            Content::Object(Object { number, mode, size_bytes, print })
        }
        _ => return None,
    };
    Some(Layer { rank: installed.rank_of(u16::from_le_bytes(*slot))?, content, is_config: *is_config != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patches_of_a_listed_directory_are_told_without_decoding_it() {
        let access = Access { mode: 0o2770, uid: u32::MAX, gid: 33 };
        let layers = vec![(1, access), (2, access)];
        let listed = Some(Listed { mount: "var".to_owned(), before: access, layers });
        let directory = Directory { is_made: true, members_of: vec![0, 1, 2], listed };
        let item = Item { path: "var/app".to_owned(), what: ItemKind::Directory(directory) };
        let mut bytes = Vec::new();
        encode(&item, &[7, 300, 9], &mut bytes);
        let raw = RawItem::new(&bytes[LEN_BYTES..]).unwrap();
        assert_eq!(raw.slots().collect::<Vec<_>>(), [7, 300, 9]);
        // None of its bytes may be missing.
        let whole = &bytes[LEN_BYTES..];
        let most = whole.len() - 2 * 3;
        assert!((0..most).all(|len| RawItem::new(&whole[..len]).is_none()));
    }
}
