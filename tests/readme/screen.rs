//! The lines on a terminal after a command has ended: each as it was drawn last, without
//! colours.

/// The lines on the screen after `written`.
///
/// # Panics
/// An escape sequence is unknown or incomplete.
pub fn after(written: &str) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0, 0);
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        match c {
            '\n' => row += 1,
            '\r' => column = 0,
            '\t' => column = column / 8 * 8 + 8,
            '\x1b' => {
                assert_eq!(chars.next(), Some('['), "an unknown escape: {written:?}");
                let mut parameter = String::new();
                let last = loop {
                    match chars.next() {
                        Some(c) if c.is_ascii_alphabetic() => break c,
                        Some(c) => parameter.push(c),
                        None => panic!("an escape has no end: {written:?}"),
                    }
                };
                match (last, parameter.as_str()) {
                    ('A', up) => row -= up.parse::<usize>().unwrap_or(1),
                    ('K', "" | "0") => lines[row].truncate(column),
                    ('K', "2") => lines[row].clear(),
                    ('J', "" | "0") => {
                        lines.truncate(row + 1);
                        lines[row].truncate(column);
                    }
                    ('m', _) | ('h' | 'l', "?25") => {}
                    other => panic!("an unknown escape {other:?}: {written:?}"),
                }
            }
            _ => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.into_iter().map(|line| line.into_iter().collect()).collect()
}

#[test]
fn each_line_is_as_it_was_drawn_last() {
    assert_eq!(after("a\r\n\x1b[1mb\x1b[0m\r\n"), ["a", "b", ""]);
    assert_eq!(after("10%\r\n\x1b[1A\r\x1b[Kdone\r\n"), ["done", ""]);
    assert_eq!(after("12345\r\x1b[2Kab\tc"), ["ab      c"]);
    assert_eq!(after("a\r\nb\r\n\x1b[2A\r\x1b[Jc"), ["c"]);
}
