//! Asks before something that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;

/// Whether somebody must be asked before `what`, a sentence about what is final:
/// not where the command line says `--yes`.
///
/// # Errors
/// [`Exit::Usage`] where nobody can be asked.
pub(super) fn must_ask(invocation: &Invocation, out: &Out, what: &str) -> Result<bool, Failure> {
    if invocation.has("yes") {
        return Ok(false);
    }
    if out.is_json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(invocation.usage(&format!("{what}, and nobody can be asked here: say so with --yes")));
    }
    Ok(true)
}

/// Asks somebody at the terminal.
///
/// # Errors
/// [`Exit::Refused`] where the answer is no.
pub(super) fn ask(question: &str) -> Result<(), Failure> {
    // The question goes where errors go: standard output is the result's alone.
    if is_yes(&mut io::stdin().lock(), &mut io::stderr(), &format!("{question} [y/N] "))? {
        Ok(())
    } else {
        Err(Failure::new(Exit::Refused, "left as it is: nothing was changed"))
    }
}

/// Whether the answer is yes. Anything else is no, and so is none at all.
fn is_yes(answers: &mut impl BufRead, questions: &mut impl Write, question: &str) -> io::Result<bool> {
    questions.write_all(question.as_bytes())?;
    questions.flush()?;
    let mut answer = String::new();
    if answers.read_line(&mut answer)? == 0 {
        // Ctrl-D leaves the cursor behind the question.
        questions.write_all(b"\n")?;
    }
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for (answer, meant) in
            [("y\n", true), ("Yes\n", true), ("\n", false), ("", false), ("n\n", false), ("yep\n", false)]
        {
            let mut asked = Vec::new();
            assert_eq!(
                is_yes(&mut answer.as_bytes(), &mut asked, "Go? [y/N] ").unwrap(),
                meant,
                "{answer:?}"
            );
            assert!(asked.starts_with(b"Go? [y/N] "));
        }
    }
}
