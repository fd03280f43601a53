//! The latest changes made here that a merge replaced by changes of other controllers,
//! for `status`. They are also logged.

use crate::types::Reason;

/// The number of lines kept.
const KEPT: usize = 8;

/// The latest lines, the oldest first.
#[derive(Debug)]
pub struct Replaced {
    lines: Vec<Reason>,
    capacity: usize,
}

impl Replaced {
    /// No lines. Allocates memory for them on a controller; an agent has none.
    #[must_use]
    pub fn new(is_controller: bool) -> Self {
        let capacity = if is_controller { KEPT } else { 0 };
        Self { lines: Vec::with_capacity(capacity), capacity }
    }

    /// Keeps a line, and drops the oldest if there is no room.
    pub fn keep(&mut self, line: &Reason) {
        if self.lines.len() == self.capacity && self.capacity > 0 {
            self.lines.remove(0);
        }
        if self.lines.len() < self.capacity {
            self.lines.push(line.clone());
        }
    }

    /// The lines, the oldest first.
    pub fn lines(&self) -> &[Reason] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_in_order() {
        let mut replaced = Replaced::new(true);
        for number in 0..=KEPT {
            replaced.keep(&Reason::format(format_args!("{number}")));
        }
        assert_eq!(replaced.lines().len(), KEPT);
        assert_eq!(replaced.lines()[0].raw(), "1");
        assert_eq!(replaced.lines()[KEPT - 1].raw(), "8");
        assert_eq!(replaced.lines.capacity(), KEPT, "nothing is allocated once the loop runs");
    }

    #[test]
    fn an_agent_keeps_none() {
        let mut replaced = Replaced::new(false);
        replaced.keep(&Reason::truncated("x"));
        assert!(replaced.lines().is_empty());
    }
}
