//! The changes from one query of the daemon to the next: one line each, with the time, or
//! one JSON document each.
//!
//! Ages and counts change with every query and are not reported by themselves: texts that
//! differ only in these count as equal.

use std::io;

use super::super::controllers::{neighbour_json, neighbour_text};
use super::super::hosts::host_json;
use super::super::out::Out;
use super::super::progress;
use super::super::status::{Utc, by_state};
use super::super::status_json::counts;
use super::super::term::Style;
use super::super::{rollout, spread};
use super::view::WatchState;
use crate::control::{HOSTS_BY, HostRow, HostState, RequestStatus};
use crate::json::Value;

/// The key of a fact: its kind, and its name within the kind.
type FactKey = (&'static str, String);

/// A fact about the cluster.
struct Fact {
    key: FactKey,
    text: String,
    /// The text without ages and counts; a difference is reported.
    gist: String,
    data: Value,
}

/// The facts of the last query.
#[derive(Default)]
pub struct News {
    previous: Vec<Fact>,
}

impl News {
    /// Writes the new facts, and those that no longer hold.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn write(
        &mut self,
        view: &WatchState,
        gone: Option<&str>,
        unix_ms: u64,
        out: &mut Out,
    ) -> io::Result<()> {
        for event in self.events(view, gone) {
            let WatchEvent { key: (what, key), text, is_over, data } = event;
            let over = if is_over { "over: " } else { "" };
            out.line(format_args!("{} {over}{text}", Utc(unix_ms)))?;
            out.json(|| {
                Value::object([
                    ("time_ms", unix_ms.into()),
                    ("what", Value::text(what)),
                    ("key", Value::text(key)),
                    ("over", is_over.into()),
                    ("text", Value::text(text)),
                    ("data", data),
                ])
            })?;
        }
        Ok(())
    }

    fn events(&mut self, view: &WatchState, gone: Option<&str>) -> Vec<WatchEvent> {
        let facts = facts(view, gone);
        let mut events = Vec::new();
        for Fact { key, text, .. } in &self.previous {
            // The end of a host's install is reported instead.
            if key.0 != "host" && facts.iter().all(|now| now.key != *key) {
                events.push(WatchEvent {
                    key: key.clone(),
                    text: text.clone(),
                    is_over: true,
                    data: Value::Null,
                });
            }
        }
        for host in &view.ended {
            let (key, text) = (("host", host.node.to_string()), progress::line(host));
            events.push(WatchEvent { key, text, is_over: true, data: host_json(host) });
        }
        for Fact { key, text, gist, data } in &facts {
            if !self.previous.iter().any(|fact| fact.key == *key && fact.gist == *gist) {
                events.push(WatchEvent {
                    key: key.clone(),
                    text: text.clone(),
                    is_over: false,
                    data: data.clone(),
                });
            }
        }
        self.previous = facts;
        events
    }
}

/// A change.
struct WatchEvent {
    key: FactKey,
    text: String,
    is_over: bool,
    data: Value,
}

/// The current facts.
fn facts(view: &WatchState, gone: Option<&str>) -> Vec<Fact> {
    let report = &view.report;
    let row = &report.row;
    let mut facts: Vec<Fact> = Vec::new();
    let mut add = |what, key: String, text: String, gist: Option<String>, data| {
        let gist = gist.unwrap_or_else(|| text.clone());
        facts.push(Fact { key: (what, key), text, gist, data });
    };
    // A new incarnation means a restart.
    let text = format!("{} ({}), incarnation {}", row.hostname, report.roles().join(", "), row.incarnation);
    add("daemon", String::new(), text, None, Value::Null);
    for trouble in report.alerts().iter().map(String::as_str).chain(gone) {
        let gist = gist(trouble);
        add("trouble", gist.clone(), format!("TROUBLE: {trouble}"), Some(gist), Value::Null);
    }
    for one in &report.neighbours {
        let text = format!("controller {}", neighbour_text(one));
        let gist = gist(&text);
        add("controller", one.node.to_string(), text, Some(gist), neighbour_json(one));
    }
    if row.is_controller {
        let text = format!("{} hosts{}", row.hosts, by_state(&row.hosts_by));
        add("hosts", String::new(), text, None, counts(&HOSTS_BY, &row.hosts_by.0));
    }
    if let Some(row) = &report.rollout {
        for (_, line) in rollout::lines(row, &[], Style::default(), false) {
            add("rollout", String::new(), line, None, rollout::rollout_json(row));
        }
    }
    if let Some(row) = &report.spread {
        for (kind, line) in ["spread", "receive"].iter().zip(spread::lines(row)) {
            add(kind, String::new(), line, None, spread::json(row));
        }
    }
    for host in &view.at_work {
        add("host", host.node.to_string(), step(host), None, host_json(host));
    }
    facts
}

/// A host's step, without the percentage.
fn step(host: &HostRow) -> String {
    match (host.install, host.state) {
        (RequestStatus::Waiting, _) => progress::line(host),
        (_, HostState::Installing { step, .. }) => format!("{}: {}", host.hostname, step.as_str()),
        _ => progress::line(host),
    }
}

/// A text without its numbers and their units of time, which change with every query.
fn gist(text: &str) -> String {
    let mut gist = String::new();
    let mut is_behind_number = false;
    for word in text.split(' ') {
        let bare = word.trim_matches(|c: char| c.is_ascii_punctuation());
        let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
        let is_unit = is_behind_number && ["s", "min", "h", "d"].contains(&bare);
        is_behind_number = is_number;
        if !is_number && !is_unit {
            gist.push_str(word);
            gist.push(' ');
        }
    }
    gist
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hosts::tests::row as host;
    use crate::cli::status::tests::report;
    use crate::types::{NodeId, Reason};
    use crate::wire::install::{Outcome, Step};

    fn texts(events: Vec<WatchEvent>) -> Vec<String> {
        let over = |event: &WatchEvent| if event.is_over { "over: " } else { "" };
        events.iter().map(|event| format!("{}{}", over(event), event.text)).collect()
    }

    fn trouble(view: &mut WatchState, text: &str) {
        view.report.row.alerts = [Reason::truncated(text)].into_iter().collect();
    }

    #[test]
    fn ages_and_counts_are_not_reported_and_names_are() {
        let at = |text| gist(text);
        assert_eq!(
            at("refused: 5 so far, last 59 s ago, as x"),
            at("refused: 61 so far, last 1 min 2 s ago, as x")
        );
        assert_ne!(at("controller-1 is lost"), at("controller-2 is lost"));
        assert_ne!(at("from 10.0.0.1"), at("from 10.0.0.2"));
    }

    #[test]
    fn only_changes_are_reported_and_each_end_once() {
        let (mut news, mut view) =
            (News::default(), WatchState { report: report(), ..WatchState::default() });
        trouble(&mut view, "silent for 3 s");
        let first = texts(news.events(&view, None));
        assert!(first.contains(&"TROUBLE: silent for 3 s".to_owned()), "{first:?}");
        assert!(first.iter().any(|line| line.starts_with("controller controller-1")), "{first:?}");
        trouble(&mut view, "silent for 1 min 4 s");
        assert_eq!(texts(news.events(&view, None)), [""; 0]);
        view.report.row.hosts_by.0[4] += 1;
        assert_eq!(texts(news.events(&view, None)).len(), 1);
        trouble(&mut view, "another");
        assert_eq!(
            texts(news.events(&view, None)),
            ["over: TROUBLE: silent for 1 min 4 s", "TROUBLE: another"]
        );
        assert_eq!(texts(news.events(&view, Some("no answer for 2 s"))), ["TROUBLE: no answer for 2 s"]);
        assert_eq!(texts(news.events(&view, Some("no answer for 3 s"))), [""; 0]);
        assert_eq!(texts(news.events(&view, None)), ["over: TROUBLE: no answer for 3 s"]);
        view.report.row.incarnation += 1;
        assert_eq!(texts(news.events(&view, None)), ["w0 (controller), incarnation 10"]);
    }

    #[test]
    fn a_host_is_reported_by_its_steps_and_by_its_end() {
        let (mut news, mut view) =
            (News::default(), WatchState { report: report(), ..WatchState::default() });
        news.events(&view, None);
        let mut at = |state, install, is_at_work| {
            let row = HostRow { node: NodeId(3), state, install, ..host("w-3") };
            let view = match is_at_work {
                true => WatchState { at_work: vec![row], report: report(), ..WatchState::default() },
                false => WatchState { ended: vec![row], report: report(), ..WatchState::default() },
            };
            texts(news.events(&view, None))
        };
        let installing = |percent| HostState::Installing { step: Step::Fetching, percent };
        assert_eq!(at(HostState::Idle, RequestStatus::Waiting, true), ["w-3: asked, no answer yet"]);
        assert_eq!(at(installing(1), RequestStatus::Running, true), ["w-3: fetching"]);
        assert_eq!(at(installing(50), RequestStatus::Running, true), [""; 0]);
        let ended = RequestStatus::Ended(Outcome::Installed);
        assert_eq!(at(HostState::Idle, ended, false), ["over: w-3: installed"]);
        view.ended.clear();
        assert_eq!(texts(news.events(&view, None)), [""; 0]);
    }
}
