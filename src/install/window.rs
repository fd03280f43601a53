//! A set of numbers near each other.

/// A set of numbers from one on, which has a bound.
pub(super) struct Window {
    first: u64,
    words: Vec<u64>,
}

impl Window {
    /// The bits of a word.
    const WORD: u64 = u64::BITS as u64;
    /// 256 KiB.
    const WORDS: u64 = 32 * 1024;

    /// None, from this number on.
    pub fn new(first: u64) -> Self {
        Self { first, words: Vec::new() }
    }

    fn place(&self, number: u64) -> Option<(usize, u64)> {
        let at = number.checked_sub(self.first)?;
        let word = usize::try_from(at / Self::WORD).ok().filter(|_| at / Self::WORD < Self::WORDS)?;
        Some((word, 1 << (at % Self::WORD)))
    }

    /// Adds a number; false if it is out of bounds.
    pub fn insert(&mut self, number: u64) -> bool {
        let Some((word, bit)) = self.place(number) else { return false };
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words.get_mut(word).into_iter().for_each(|word| *word |= bit);
        true
    }

    /// Takes a number out, if it is in.
    pub fn remove(&mut self, number: u64) {
        let place = self.place(number);
        if let Some((word, bit)) = place.and_then(|(word, bit)| Some((self.words.get_mut(word)?, bit))) {
            *word &= !bit;
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The lowest and the highest number; 0 and 0 if there is none.
    pub fn bounds(&self) -> (u64, u64) {
        let mut numbers = self.iter();
        let lowest = numbers.next().unwrap_or_default();
        (lowest, numbers.last().unwrap_or(lowest))
    }

    /// The numbers, in their order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let bits = |word: u64| (0..Self::WORD).filter(move |bit| word >> bit & 1 == 1);
        self.words
            .iter()
            .zip(0..)
            .flat_map(move |(word, at)| bits(*word).map(move |bit| self.first + at * Self::WORD + bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_numbers_has_what_was_put_in_and_not_taken_out() {
        let last = 10 + Window::WORDS * Window::WORD - 1;
        let mut window = Window::new(10);
        for number in [10, 73, 74, last] {
            assert!(window.insert(number));
        }
        for number in [9, last + 1, u64::MAX] {
            assert!(!window.insert(number));
            window.remove(number);
        }
        assert_eq!(window.iter().collect::<Vec<_>>(), [10, 73, 74, last]);
        [10, 74, last].into_iter().for_each(|number| window.remove(number));
        assert!(!window.is_empty());
        window.remove(73);
        assert!(window.is_empty() && window.iter().next().is_none());
    }
}
