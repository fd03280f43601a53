//! Compares the output that README shows with the output of a command.
//!
//! `...` stands for what varies: within a line for some text, alone for any lines. All
//! else must be equal, except for blanks at a line's end and empty lines at the end.

/// How the two differ, or `None`.
pub fn differs(shown: &[String], came: &[String]) -> Option<String> {
    let mut came: Vec<&str> = came.iter().map(|line| line.trim_end()).collect();
    while came.last().is_some_and(|line| line.is_empty()) {
        came.pop();
    }
    let shown: Vec<&str> = shown.iter().map(|line| line.trim_end()).collect();
    if fits(&shown, &came) {
        return None;
    }
    let same = shown.iter().zip(&came).take_while(|(shown, came)| **shown != "..." && line_fits(shown, came));
    let first = same.count();
    let line = |lines: &[&str]| lines.get(first).map_or("nothing".to_owned(), |line| format!("{line:?}"));
    Some(format!("line {}: README shows {}, and the output is {}", first + 1, line(&shown), line(&came)))
}

fn fits(shown: &[&str], came: &[&str]) -> bool {
    match (shown, came) {
        ([], came) => came.is_empty(),
        (["...", rest @ ..], came) => (0..=came.len()).any(|skipped| fits(rest, &came[skipped..])),
        ([line, shown @ ..], [first, came @ ..]) => line_fits(line, first) && fits(shown, came),
        _ => false,
    }
}

fn line_fits(shown: &str, came: &str) -> bool {
    match shown.split_once("...") {
        None => shown == came,
        Some((before, rest)) => came.strip_prefix(before).is_some_and(|came| {
            // The dots stand for at least one character.
            came.char_indices()
                .skip(1)
                .map(|(at, _)| at)
                .chain([came.len()])
                .any(|at| at > 0 && line_fits(rest, &came[at..]))
        }),
    }
}

#[test]
fn dots_stand_for_what_varies_and_all_else_must_be_equal() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let differs = |shown, came| differs(&lines(shown), &lines(came));
    for (shown, came) in [
        ("", ""),
        ("a", "a  \n\n"),
        ("up ... s", "up 15 s"),
        ("a ... b ...", "a 1 b 2"),
        ("a\n...\nz", "a\nz"),
        ("a\n...\nz", "a\nb\nc\nz"),
    ] {
        assert_eq!(differs(shown, came), None, "{shown} / {came}");
    }
    for (shown, came) in
        [("", "a"), ("a", ""), ("a", "b"), ("up ... s", "up  s"), ("a\n...\nz", "a\nb"), ("a", "a\nb")]
    {
        assert!(differs(shown, came).is_some(), "{shown} / {came}");
    }
}
