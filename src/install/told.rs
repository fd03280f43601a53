//! What is to be told of an install that shows only after its plan. It is in the journal until
//! the outcome is remembered.

use crate::limits;

/// How much of a line is told, in bytes: a reason has room for one beside it.
const LINE_BYTES: usize = limits::REASON_BYTES * 5 / 8;

/// Lines of one kind, of which there may be many. All are logged, and the first is told with
/// the number of the rest.
#[derive(Default)]
pub(super) struct Told {
    first: Option<String>,
    more: usize,
}

impl Told {
    /// Adds a line.
    pub fn add(&mut self, line: &str) {
        log::warn!("{line}");
        match self.first {
            None => self.first = Some(line.to_owned()),
            Some(_) => self.more += 1,
        }
    }

    /// All of it in one line; `None` if there is nothing to tell.
    pub fn line(self) -> Option<String> {
        let first = cut(&self.first?, LINE_BYTES).to_owned();
        Some(if self.more == 0 {
            first
        } else {
            format!("{first}; and {} more, see the host's log", self.more)
        })
    }
}

/// A reason with what is to be told behind it. A long reason is cut, so that a line has room.
pub(super) fn with_told(reason: &str, told: &[String]) -> String {
    let told = told.join("; ");
    match (reason, told.as_str()) {
        (reason, "") => reason.to_owned(),
        ("", told) => told.to_owned(),
        (reason, told) => {
            let room = limits::REASON_BYTES.saturating_sub(told.len() + 2);
            format!("{}; {told}", cut(reason, room.max(limits::REASON_BYTES - LINE_BYTES)))
        }
    }
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_leaves_room_for_what_is_told() {
        let mut told = Told::default();
        ["/a stays", "/b stays", "/c stays"].into_iter().for_each(|line| told.add(line));
        let told = [told.line().unwrap()];
        assert_eq!(told, ["/a stays; and 2 more, see the host's log"]);
        assert_eq!(with_told("it hurts", &told), "it hurts; /a stays; and 2 more, see the host's log");
        assert_eq!(
            (with_told("it hurts", &[]).as_str(), with_told("", &told)),
            ("it hurts", told[0].clone())
        );
        let long = with_told(&"ä".repeat(limits::REASON_BYTES), &told);
        assert!(long.len() <= limits::REASON_BYTES && long.ends_with(&told[0]), "{long}");
        assert!(Told::default().line().is_none());
    }
}
