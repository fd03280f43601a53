//! What the system says of an error, without allocating.

use std::{fmt, io};

use super::sys;
use crate::types::Text;

/// Shows an error as std does, but without heap memory where it is the system's: "No such device
/// (os error 19)". Its kind alone would be "uncategorized error".
pub struct OsError<'e>(pub &'e io::Error);

impl fmt::Display for OsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(number) => write!(f, "{}", Errno(number)),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The same of an error's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        let text: Text<64> = Text::truncated(sys::error_text(self.0, &mut text));
        write!(f, "{text} (os error {})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_in_the_systems_words_with_its_number() {
        for number in [libc::ENODEV, libc::ENETUNREACH, libc::EAGAIN, libc::EMFILE, 4_000] {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(OsError(&error).to_string(), error.to_string());
        }
        assert!(
            OsError(&io::Error::from_raw_os_error(libc::ENODEV)).to_string().starts_with("No such device")
        );
        assert_eq!(OsError(&io::ErrorKind::UnexpectedEof.into()).to_string(), "unexpected end of file");
    }
}
