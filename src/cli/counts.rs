//! What each count of `status` means, in plain words.

use crate::wire::refusal::Refusal;

/// What comes in front of a reason in the name of its count.
const REFUSED: &str = "refused_";

/// What is counted under this name: of a refusal what it means, of the others their
/// names, which say it. The guide says more.
#[must_use]
pub fn words(name: &str) -> String {
    match reason(name) {
        Some(refusal) => refusal.meaning().trim_start().to_owned(),
        None => name.replace('_', " "),
    }
}

/// The reason whose refusals are counted under this name, if it is one of these.
#[must_use]
pub fn reason(name: &str) -> Option<Refusal> {
    let reason = name.strip_prefix(REFUSED)?;
    Refusal::ALL.iter().copied().find(|refusal| refusal.as_str() == reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_found_by_the_name_of_its_count_and_means_something() {
        for refusal in Refusal::ALL {
            assert_eq!(reason(refusal.counter()), Some(*refusal));
            assert!(words(refusal.counter()).contains(' '), "{refusal}");
        }
        assert_eq!(reason("tag"), None, "not under its bare name");
        assert_eq!(words("stale_nonces"), "stale nonces");
    }
}
