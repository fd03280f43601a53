//! The meaning of each counter of `status`.

use crate::wire::refusal::Refusal;

/// The prefix of a refusal's name in the name of its counter.
const REFUSED: &str = "refused_";

/// The meaning of a counter: that of its refusal, otherwise its name with spaces. The
/// guide explains more.
#[must_use]
pub fn words(name: &str) -> String {
    match reason(name) {
        Some(refusal) => refusal.meaning().trim_start().to_owned(),
        None => name.replace('_', " "),
    }
}

/// The refusal that this counter counts; `None` for other counters.
#[must_use]
pub fn reason(name: &str) -> Option<Refusal> {
    let reason = name.strip_prefix(REFUSED)?;
    Refusal::ALL.iter().copied().find(|refusal| refusal.as_str() == reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_found_by_its_counter_and_has_a_meaning() {
        for refusal in Refusal::ALL {
            assert_eq!(reason(refusal.counter()), Some(*refusal));
            assert!(words(refusal.counter()).contains(' '), "{refusal}");
        }
        assert_eq!(reason("tag"), None, "the prefix is part of the name");
        assert_eq!(words("stale_nonces"), "stale nonces");
    }
}
