//! Basic types: identities, hashes, bounded text.
//!
//! All outside input is converted to one of these before it is stored, compared or shown.
//! So no name can be too long, break a table, escape a directory or contain what a terminal
//! obeys or hides ([`crate::visible`]).

mod states;

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use heapless::String;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits;
use crate::visible::{self, Visible};

pub use states::{InterfaceState, SpreadEnding};

pub(crate) mod bytes;

/// A node: a controller, an agent or both. Set by the node's key file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// A cluster: all nodes that share a key ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// An install request: chosen at random by the controller that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A one-use number of an agent, which the next `AgentInstallReq` must repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(pub u64);

macro_rules! hex_u64 {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
        impl $name {
            /// Reads the sixteen hexadecimal digits that `Display` writes.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                if hex { u64::from_str_radix(text, 16).ok().map(Self) } else { None }
            }
        }
    )*};
}
hex_u64!(NodeId, ClusterId, RequestId, Nonce);

/// BLAKE3-256 of a whole patch file, which identifies its content.
#[derive(Clone, Copy, Default, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hash(#[serde(with = "bytes")] pub [u8; 32]);

/// BLAKE3-256 over a set: a repository map, or the patches of a host.
#[derive(Clone, Copy, Default, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(#[serde(with = "bytes")] pub [u8; 32]);

macro_rules! hex_bytes {
    ($($name:ident),*) => {$(
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                bytes::is_same(&self.0, &other.0)
            }
        }
        impl core::hash::Hash for $name {
            fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }
        impl fmt::Display for $name {
            /// All 64 hexadecimal digits, or as many as the precision asks for.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = f.precision().unwrap_or(64);
                for byte in self.0.iter().take(digits.div_ceil(2)) {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self:.12}")
            }
        }
    )*};
}
hex_bytes!(Hash, Digest);

impl Hash {
    /// Reads the 64 hexadecimal digits that `Display` writes.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = Self::default();
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != hash.0.len() || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in hash.0.iter_mut().zip(pairs) {
            let digits =
                core::str::from_utf8(pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(hash)
    }
}

/// Why a string is not a [`Name`] or a [`Text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadText {
    /// It is empty.
    Empty,
    /// It is longer than its bound, in bytes.
    TooLong {
        /// The most bytes it may have.
        most: usize,
    },
    /// It contains a character that is not allowed.
    Character(char),
}

impl fmt::Display for BadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong { most } => write!(f, "it is longer than {most} bytes"),
            Self::Character(c) => write!(f, "{c:?} is not allowed in it"),
        }
    }
}

impl core::error::Error for BadText {}

/// An identifier of at most `N` bytes: ASCII letters, digits and `. _ - + ~ :`,
/// not starting with `.` or `-`. Safe as a file name and as a column.
/// The empty name, its default, stands for "not known".
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<const N: usize>(String<N, u8>);

impl<const N: usize> Name<N> {
    /// Checks `text` and makes it a name.
    ///
    /// # Errors
    /// [`BadText`]: it is empty, longer than `N` bytes, or contains another character.
    pub fn new(text: &str) -> Result<Self, BadText> {
        check_name(text)?;
        String::try_from(text).map(Self).map_err(|_| BadText::TooLong { most: N })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the empty name, which stands for "not known".
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether the characters of `text` are those of a [`Name`].
fn check_name(text: &str) -> Result<(), BadText> {
    let first = text.chars().next().ok_or(BadText::Empty)?;
    if matches!(first, '.' | '-') {
        return Err(BadText::Character(first));
    }
    // Three names come with each ack of a host: a test of a bit for each byte.
    for byte in text.bytes() {
        let is_allowed =
            NAME_BYTES.get(usize::from(byte >> 6)).is_some_and(|bits| bits >> (byte & 63) & 1 != 0);
        if !is_allowed {
            let is_other = |c: &char| !c.is_ascii_alphanumeric() && !"._-+~:".contains(*c);
            return Err(BadText::Character(text.chars().find(is_other).unwrap_or_default()));
        }
    }
    Ok(())
}

/// A bit for each character of ASCII: those that a [`Name`] may have.
const NAME_BYTES: [u64; 2] = {
    let mut bits = [0; 2];
    let mut byte: u8 = 0;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'~' | b':') {
            bits[(byte >> 6) as usize] |= 1 << (byte & 63);
        }
        byte += 1;
    }
    bits
};

/// A line for people of at most `N` bytes. What a terminal would obey or hide is escaped
/// when the line is made, and again where it is shown, as it may come from another node:
/// only [`raw`](Self::raw) is not, and that is not for showing.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const N: usize>(String<N, u16>);

impl<const N: usize> Text<N> {
    /// `text` on one line, truncated to `N` bytes, as [`Visible`] shows it.
    #[must_use]
    pub fn truncated(text: &str) -> Self {
        Self::format(format_args!("{text}"))
    }

    /// Formats a line, truncated to `N` bytes: `Text::format(format_args!(..))`.
    #[must_use]
    pub fn format(arguments: fmt::Arguments<'_>) -> Self {
        let mut line = String::new();
        // The only error is that the text is longer than `N`: it is truncated, and not
        // within a character or an escape.
        let _ = fmt::write(&mut visible::Escaping(&mut line), arguments);
        Self(line)
    }

    /// `text` as it is. It may have characters that are hidden, for which it is compared.
    ///
    /// # Errors
    /// [`BadText`]: it has a control character, or more than `N` bytes.
    pub fn exact(text: &str) -> Result<Self, BadText> {
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(BadText::Character(c));
        }
        String::try_from(text).map(Self).map_err(|_| BadText::TooLong { most: N })
    }

    /// The line as it is, for a comparison or as a path. To show it, display it.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// True for an empty line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

macro_rules! text_traits {
    ($name:ident, $check:expr) => {
        impl<const N: usize> fmt::Display for $name<N> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Only text of another node is hidden; its column is not filled up.
                match self.0.chars().any(visible::is_hidden) {
                    true => write!(f, "{}", Visible(&self.0)),
                    false => f.pad(&self.0),
                }
            }
        }
        impl<const N: usize> fmt::Debug for $name<N> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0.as_str())
            }
        }
        impl<const N: usize> Serialize for $name<N> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }
        impl<'de, const N: usize> Deserialize<'de> for $name<N> {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <&str>::deserialize(from)?;
                let check: fn(&str) -> Result<Self, BadText> = $check;
                check(text).map_err(de::Error::custom)
            }
        }
    };
}
text_traits!(Name, |text| if text.is_empty() { Ok(Self::default()) } else { Self::new(text) });
text_traits!(Text, Self::exact);

/// A patch's id, for example `THIMBLE-0001`.
pub type PatchId = Name<{ limits::PATCH_ID_BYTES }>;
/// A host's name.
pub type Hostname = Name<{ limits::HOSTNAME_BYTES }>;
/// The kind of a host (`controller`, `worker`, ...), set in its configuration.
pub type NodeType = Name<{ limits::NODETYPE_BYTES }>;
/// The release of the base system that runs on a host or that a patch is for.
pub type SwVersion = Name<{ limits::SW_VERSION_BYTES }>;
/// The reason of a refusal or a failure, for the operator.
pub type Reason = Text<{ limits::REASON_BYTES }>;

/// A path for a message: [`Visible`], and the middle of a long one is left out, so that
/// what follows it in the message is not cut off.
#[derive(Clone, Copy, Debug)]
pub struct ShownPath<'p>(pub &'p str);

impl ShownPath<'_> {
    /// A longer path is shown in part.
    const WHOLE_BYTES: usize = 96;
    /// How much of its begin is shown then.
    const BEGIN_BYTES: usize = 32;
    /// How much of its end.
    const END_BYTES: usize = 60;
}

impl fmt::Display for ShownPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0;
        // How far the characters get, as they are shown.
        let within = |most: usize| {
            let mut used = 0_usize;
            move |c: char| {
                used = used.saturating_add(visible::shown_bytes(c));
                used <= most
            }
        };
        if path.chars().all(within(Self::WHOLE_BYTES)) {
            return write!(f, "{}", Visible(path));
        }
        let (mut begins, mut ends) = (within(Self::BEGIN_BYTES), within(Self::END_BYTES));
        let to = path.char_indices().find(|(_, c)| !begins(*c)).map_or(0, |(at, _)| at);
        let from = path.char_indices().rev().take_while(|(_, c)| ends(*c)).last();
        let end = from.and_then(|(at, _)| path.get(at..)).unwrap_or_default();
        write!(f, "{}...{}", Visible(path.get(..to).unwrap_or_default()), Visible(end))
    }
}

/// The addresses that a node's multicast goes out from by its interface; unspecified where it has
/// none of a family, or does not use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddresses {
    /// Over IPv4.
    pub v4: Ipv4Addr,
    /// Over IPv6.
    pub v6: Ipv6Addr,
}

impl InterfaceAddresses {
    /// None.
    pub const NONE: Self = Self { v4: Ipv4Addr::UNSPECIFIED, v6: Ipv6Addr::UNSPECIFIED };

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }
}

impl fmt::Display for InterfaceAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.v4.is_unspecified(), self.v6.is_unspecified()) {
            (false, false) => write!(f, "{} and {}", self.v4, self.v6),
            (true, false) => write!(f, "{}", self.v6),
            (false, true) => write!(f, "{}", self.v4),
            (true, true) => f.write_str("no address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_characters_that_could_escape_a_directory_or_a_column() {
        for bad in ["", ".", "..", "-rf", "a/b", "a b", "a\n", "é", "a\u{1b}[2J"] {
            assert!(PatchId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["A", "THIMBLE-0001", "1.0~rc1+deb12u1", "x:y_z"] {
            assert_eq!(PatchId::new(good).unwrap().as_str(), good);
        }
        let long = [b'a'; limits::PATCH_ID_BYTES + 1];
        let long = core::str::from_utf8(&long).unwrap();
        assert_eq!(PatchId::new(long), Err(BadText::TooLong { most: limits::PATCH_ID_BYTES }));
        assert!(PatchId::new(&long[1..]).is_ok());
    }

    #[test]
    fn text_is_truncated_and_hidden_characters_are_escaped() {
        assert_eq!(Text::<5>::truncated("a\nbéf").raw(), "a\\nb");
        assert_eq!(Text::<9>::truncated("ab\u{202e}c").raw(), "ab", "no half escape");
        assert_eq!(Text::<8>::format(format_args!("{}-{}", 12345, 67890)).raw(), "12345-67");
    }

    #[test]
    fn text_of_another_node_stays_as_it_is_and_is_shown_escaped() {
        let mut bytes = [0u8; 16];
        let encoded = postcard::to_slice("a\u{202e}b", &mut bytes).unwrap();
        let text = postcard::from_bytes::<Text<8>>(encoded).unwrap();
        assert_eq!(text.raw(), "a\u{202e}b");
        assert_eq!(format!("{text}"), "a\\u{202e}b");
        assert!(!format!("{text:?}").contains('\u{202e}'));
        assert_eq!(format!("{:4}|", Text::<8>::truncated("é")), "é   |");
    }

    #[test]
    fn names_and_text_are_checked_when_decoded() {
        let mut bytes = [0u8; 16];
        let encoded = postcard::to_slice("a/b", &mut bytes).unwrap();
        assert!(postcard::from_bytes::<PatchId>(encoded).is_err());
        assert!(postcard::from_bytes::<Text<2>>(encoded).is_err());
        assert_eq!(postcard::from_bytes::<Text<3>>(encoded).unwrap().raw(), "a/b");
        let encoded = postcard::to_slice("a\u{7}", &mut bytes).unwrap();
        assert!(postcard::from_bytes::<Text<3>>(encoded).is_err());
    }

    #[test]
    fn identities_read_what_they_write() {
        let id = NodeId(0x00ab_cdef_0123_4567);
        let mut text = String::<16>::new();
        fmt::write(&mut text, format_args!("{id}")).unwrap();
        assert_eq!(NodeId::from_hex(&text), Some(id));
        assert_eq!(NodeId::from_hex("+0abcdef01234567"), None);
        assert_eq!(NodeId::from_hex("abc"), None);
        let hash = Hash(core::array::from_fn(|at| at as u8 * 7));
        let mut text = String::<65>::new();
        fmt::write(&mut text, format_args!("{hash}")).unwrap();
        assert_eq!(Hash::from_hex(&text), Some(hash));
        assert_eq!(Hash::from_hex(&text[1..]), None);
        assert_eq!(Hash::from_hex(&text.replacen("07", "+7", 1)), None);
        text.push('0').unwrap();
        assert_eq!(Hash::from_hex(&text), None);
    }

    #[test]
    fn the_middle_of_a_long_path_is_left_out() {
        let shown = |path: &str| ShownPath(path).to_string();
        assert_eq!(shown(&"a".repeat(96)), "a".repeat(96));
        let long = format!("etc/{}/conf", "x".repeat(3_000));
        assert_eq!(shown(&long), format!("etc/{}...{}/conf", "x".repeat(28), "x".repeat(55)));
        let turned = shown(&"\u{202e}".repeat(96));
        assert!(turned.len() <= 96 && turned.starts_with("\\u{202e}") && turned.contains("..."), "{turned}");
        // Never within a character.
        let wide = shown(&"\u{e9}".repeat(200));
        assert!(wide.len() <= 96 && wide.starts_with('\u{e9}') && wide.ends_with('\u{e9}'), "{wide}");
    }
}
