//! `watch`: shows the cluster's state, live, until Ctrl-C.
//!
//! | file | contents |
//! |---|---|
//! | `view` | the state, queried once a second, and the block of lines that shows it |
//! | `news` | the changes since, one line or document each, for pipes and `--json` |

mod news;
mod view;

use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use super::term::Screen;
use super::{rollout, sys};
use crate::clock::unix_ms;
use crate::time::Span;
use news::News;
use view::WatchState;

/// The time between two queries of the daemon.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the interrupt key is checked meanwhile.
const KEY: Duration = Duration::from_millis(100);

/// `thimble watch [--until-done]`
pub fn watch(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let socket = invocation.socket()?;
    let is_until_done = invocation.has("until-done");
    sys::note_interrupts();
    // The first failure to connect is an error. Later the daemon is waited for.
    let mut client = Some(Client::connect(&socket)?);
    let mut screen = Screen::new(out.is_live());
    let (mut view, mut news) = (WatchState::default(), News::default());
    let mut silent_since: Option<(Instant, Failure)> = None;
    let mut is_first = true;
    loop {
        let looked = client.take().map_or_else(|| Client::connect(&socket), Ok).and_then(|mut asked| {
            view = WatchState::ask(&mut asked, &view)?;
            Ok(asked)
        });
        match looked {
            Ok(asked) => (client, silent_since) = (Some(asked), None),
            Err(failure) if is_first || failure.exit == Exit::NotPermitted => return Err(failure),
            Err(failure) => {
                let since = silent_since.take().map_or_else(Instant::now, |(since, _)| since);
                silent_since = Some((since, failure));
            }
        }
        is_first = false;
        let gone = silent_since.as_ref().map(|(since, failure)| {
            let span = Span::of_millis(since.elapsed().as_millis() as u64);
            format!("The daemon has not answered for {span}; retrying each second: {}", failure.message)
        });
        if screen.is_live() {
            let lines = view.lines(out.style(), gone.as_deref());
            out.block(&mut screen, &lines, false)?;
        } else {
            news.write(&view, gone.as_deref(), unix_ms(), out)?;
        }
        if is_until_done && gone.is_none() {
            match &view.report.rollout {
                None if !view.report.row.is_controller => {
                    let sentence = "this node is not a controller and has no rollouts: watch on a controller";
                    return Err(Failure::new(Exit::Refused, sentence));
                }
                None => return Ok(()),
                Some(row) if rollout::is_over(row) => {
                    return match rollout::exit(row) {
                        Exit::Done => Ok(()),
                        other => Err(Failure::silent(other)),
                    };
                }
                Some(_) => {}
            }
        }
        let next = Instant::now() + INTERVAL;
        while Instant::now() < next {
            if sys::is_interrupted() {
                // The terminal has echoed ^C where the next line begins.
                out.control(if screen.is_live() { "\r\x1b[K" } else { "" })?;
                return Ok(());
            }
            thread::sleep(KEY);
        }
    }
}
