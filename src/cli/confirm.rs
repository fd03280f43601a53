//! Asks for confirmation before a change that cannot be undone.

use std::io::{self, BufRead, IsTerminal};

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::{self, Out};

/// Whether to ask for confirmation: unless the command line has `--yes`. `what` is a
/// sentence about the change.
///
/// # Errors
/// [`Exit::Usage`]: there is no terminal to ask at.
pub(super) fn must_ask(invocation: &Invocation, out: &Out, what: &str) -> Result<bool, Failure> {
    if invocation.has("yes") {
        return Ok(false);
    }
    if out.is_json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(invocation.usage(&format!("{what}; without a terminal, confirm with --yes")));
    }
    Ok(true)
}

/// Asks at the terminal.
///
/// # Errors
/// [`Exit::Refused`]: the answer is no.
pub(super) fn ask(question: &str) -> Result<(), Failure> {
    // The question goes to standard error: standard output is for the result.
    if is_yes(&mut io::stdin().lock(), &mut out::ask, &format!("{question} [y/N] "))? {
        Ok(())
    } else {
        Err(Failure::new(Exit::Refused, "not confirmed: nothing was changed"))
    }
}

/// Whether the answer is yes. Any other answer is no, and so is the end of input.
fn is_yes(
    answers: &mut impl BufRead,
    ask: &mut dyn FnMut(&str) -> io::Result<()>,
    question: &str,
) -> io::Result<bool> {
    ask(question)?;
    let mut answer = String::new();
    if answers.read_line(&mut answer)? == 0 {
        // Ctrl-D leaves the cursor on the line of the question.
        ask("\n")?;
    }
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_and_yes_mean_yes() {
        for (answer, meant) in
            [("y\n", true), ("Yes\n", true), ("\n", false), ("", false), ("n\n", false), ("yep\n", false)]
        {
            let mut asked = String::new();
            let mut ask = |question: &str| {
                asked.push_str(question);
                Ok(())
            };
            assert_eq!(is_yes(&mut answer.as_bytes(), &mut ask, "Go? [y/N] ").unwrap(), meant, "{answer:?}");
            assert!(asked.starts_with("Go? [y/N] "));
        }
    }
}
