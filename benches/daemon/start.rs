//! How soon an agent answers after its start, and what it does when nothing happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::common::figures::{Figure, Most};
use crate::controllers::Asker;
use crate::process::{cpu, waits};
use crate::wait;

const ROUNDS: usize = 21;
/// How often it is asked while it starts.
const ASKED_EACH: Duration = Duration::from_micros(500);
/// For so long, however busy the machine is, it is asked: a minute and more.
const QUESTIONS: usize = 20_000;
/// docs/architecture.md, "Budgets", in percent of one processor.
const MOST_CPU: f64 = 0.01;

/// From the start of the process to the first answer that a controller receives.
pub fn first_answer() {
    let mut cluster = Cluster::new("bench-start", 1).start();
    let mut asker = Asker::new(&cluster, &cluster.nodes[1]);
    cluster.nodes[0].stop();
    let mut values = Vec::new();
    for _ in 0..ROUNDS {
        cluster.nodes[1].stop();
        let questions: Vec<_> = (0..QUESTIONS).map(|_| asker.question()).collect();
        let started = Instant::now();
        cluster.nodes[1].spawn();
        let is_over = AtomicBool::new(false);
        let elapsed = thread::scope(|scope| {
            let (asker, is_over) = (&asker, &is_over);
            scope.spawn(move || {
                for question in questions.iter().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    asker.say(question);
                    thread::sleep(ASKED_EACH);
                }
            });
            let answered = wait::until("the agent answers", || asker.answer().map(|_| started.elapsed()));
            is_over.store(true, Ordering::Relaxed);
            answered
        });
        values.push(elapsed.as_secs_f64() * 1e3);
        cluster.nodes[1].answers();
        // Answers that are still on their way are not of the next start.
        asker.empty();
    }
    Figure::new("start", "agent's start to its first Hello answered", "ms", values).record();
}

/// For ten minutes, or as many seconds as `IDLE_SECONDS` says.
pub fn idle() {
    let seconds = std::env::var("IDLE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let mut cluster = Cluster::new("bench-idle", 1);
    cluster.nodes.iter_mut().for_each(|node| node.timers.clear());
    cluster.nodes[1].is_split = true;
    let cluster = cluster.start();
    let (controller, agent) = (&cluster.nodes[0], &cluster.nodes[1]);
    let all = [
        ("controller, 1 host", controller.pid(), None),
        ("agent's daemon", agent.pid(), Some(Most::Value(MOST_CPU))),
        ("agent's installer", agent.installer_pid(), Some(Most::Value(MOST_CPU))),
    ];
    let before = all.map(|(_, pid, _)| (cpu(pid), waits(pid)));
    let began = Instant::now();
    thread::sleep(Duration::from_secs(seconds));
    let elapsed = began.elapsed().as_secs_f64();
    for ((name, pid, most), (cpu_before, waits_before)) in all.into_iter().zip(before) {
        let spent = (cpu(pid) - cpu_before).as_secs_f64() * 100.0 / elapsed;
        let mut figure =
            Figure::new("idle", &format!("CPU in {seconds} s without work, {name}"), "%", vec![spent]);
        if let Some(most) = most {
            figure = figure.target(most).budget(most);
        }
        figure.record();
        let woken = (waits(pid) - waits_before) as f64 * 60.0 / elapsed;
        let name = format!("wake-ups in {seconds} s without work, {name}");
        Figure::new("idle", &name, "a minute", vec![woken]).record();
    }
}
