//! `thimble metrics`, read with the parser of prometheus_client.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::Value;
use thimble::wire::frame::Role;

use crate::cluster::Cluster;
use crate::node::Node;
use crate::over::{Datagrams, To};
use crate::patch::Patch;
use crate::wait;

/// Reads OpenMetrics strictly, and the older format that the textfile collector
/// reads; writes every sample of the first as JSON.
const READER: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as older
text = sys.stdin.read()
families = list(strict(text))
assert len(list(older(text))) > 10
assert all(family.documentation for family in families), 'a family without HELP'
print(json.dumps([{'family': family.name, 'type': family.type, 'unit': family.unit, 'name': sample.name,
    'labels': sample.labels, 'value': sample.value} for family in families for sample in family.samples]))
";

/// A Python that has prometheus_client. Debian's package is for Debian's own Python.
fn python() -> Option<&'static str> {
    ["/usr/bin/python3", "python3"].into_iter().find(|python| {
        let mut command = Command::new(python);
        command.args(["-c", "import prometheus_client.openmetrics.parser"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

/// The samples of a text, as the parser understands it.
fn samples(python: &str, text: &str) -> Vec<Value> {
    let mut command = Command::new(python);
    command.args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The value of the one sample with this name and these labels.
fn value(samples: &[Value], name: &str, labels: &[(&str, &str)]) -> f64 {
    let is_meant = |sample: &&Value| {
        sample["name"] == name && labels.iter().all(|(label, value)| sample["labels"][label] == *value)
    };
    let found: Vec<_> = samples.iter().filter(is_meant).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0]["value"].as_f64().unwrap()
}

#[test]
fn a_real_parser_reads_the_metrics_and_they_match_status() {
    need_root!();
    let Some(python) = python() else {
        return crate::skip("metrics", "needs prometheus_client: apt-get install python3-prometheus-client");
    };
    let cluster = Cluster::of("metrics", 2, 1).start();
    let _patch = Patch::new(&cluster, "METER-1").file("etc/meter", b"1").applied(&cluster);
    let controller = &cluster.nodes[0];
    let socket = Datagrams::new(&cluster.stranger);
    socket.send(b"no datagram of ours", To::One(Role::Controller, controller.address));
    wait::until_true("it is refused", || controller.refused("too_short") == 1);
    wait::until_true("the host is out of date", || cluster.host(2)["current"] == "no");

    let metrics = samples(python, &controller.thimble(&["metrics"]).ok());
    let of = |name: &str, labels: &[(&str, &str)]| value(&metrics, name, labels);
    assert_eq!(of("thimble_datagrams_refused_total", &[("reason", "too_short")]), 1.0);
    assert_eq!(of("thimble_hosts", &[("state", "out_of_date")]), 1.0);
    assert_eq!(of("thimble_hosts", &[("state", "lost")]), 0.0);
    assert_eq!(of("thimble_patches", &[("state", "applied")]), 1.0);
    assert_eq!(of("thimble_neighbour_up", &[("hostname", "controller-1")]), 1.0);
    assert_eq!(of("thimble_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert_eq!(of("thimble_role", &[("role", "agent")]), 0.0);
    assert!(of("thimble_datagrams_received_total", &[]) > 0.0);
    assert!(of("thimble_memory_own_bytes", &[]) > 4096.0);
    assert!(of("thimble_memory_budget_bytes", &[]) > 0.0);
    // Workers have loaded the repository and changed it. The bare program has 400 KiB.
    assert!(of("thimble_worker_peak_bytes", &[]) > 400.0 * 1024.0);

    // Every count of `status` is there under its own name.
    let status = controller.json(&["status"]);
    for name in status["counters"].as_object().unwrap().keys() {
        let named = |sample: &Value| match name.strip_prefix("refused_") {
            Some(reason) => sample["labels"]["reason"] == reason,
            None => sample["family"] == format!("thimble_{name}"),
        };
        assert!(metrics.iter().any(named), "{name}");
    }
    // The same as JSON; a value that does not change is equal.
    let json = controller.json(&["metrics"]);
    let json = json["metrics"].as_array().unwrap();
    assert_eq!(json.len(), metrics.len());
    let budget = json.iter().find(|one| one["name"] == "thimble_memory_budget_bytes").unwrap();
    assert_eq!(budget["value"].as_f64().unwrap(), of("thimble_memory_budget_bytes", &[]));

    let agent = samples(python, &cluster.nodes[2].thimble(&["metrics"]).ok());
    assert_eq!(value(&agent, "thimble_installed_patches", &[]), 0.0);
    assert!(value(&agent, "thimble_controller_age_seconds", &[]) < 30.0);
    assert!(!agent.iter().any(|sample| sample["family"] == "thimble_hosts"));
}

#[test]
fn each_metric_is_explained_in_a_whole_sentence() {
    need_root!();
    let cluster = Cluster::new("helps", 0).start();
    let text = cluster.thimble(&["metrics"]).ok();
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
    let cut: Vec<_> = helps.filter(|help| help.ends_with(" that.") || !help.ends_with('.')).collect();
    assert!(cut.is_empty() && text.contains("# HELP thimble_hosts_silent "), "{cut:?}");
}

const ALL_OF_A_DEAD_ONE: &str =
    "# TYPE thimble_up gauge\n# HELP thimble_up 1 if the daemon answered.\nthimble_up 0\n# EOF\n";

#[test]
fn metrics_without_a_daemon_write_nothing_to_standard_output_and_that_it_is_down_elsewhere() {
    need_root!();
    let mut cluster = Cluster::new("no-metrics", 0).start();
    let node = &mut cluster.nodes[0];
    let file = node.dir.join("thimble.prom");
    let into_file = ["metrics", "-o", file.to_str().unwrap()];
    assert_eq!(node.thimble(&into_file).ok(), "");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nthimble_up 1\n") && text.ends_with("\n# EOF\n"), "{text}");
    assert_eq!(request(node, "GET /metrics HTTP/1.1\r\n\r\n").lines().next(), Some("HTTP/1.1 200 OK"));

    node.stop();
    let ended = node.thimble(&["metrics"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, ""));
    let ended = node.thimble(&into_file);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, ""));
    assert!(ended.stderr.contains("the daemon is not running"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), ALL_OF_A_DEAD_ONE);
    let answer = request(node, "GET /metrics HTTP/1.1\r\n\r\n");
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, ALL_OF_A_DEAD_ONE);
}

/// What `metrics --http` answers to a request, as inetd would run it: a connection is both its
/// standard input and its standard output.
fn request(node: &Node, request: &str) -> String {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(wait::LONG)).unwrap();
    ours.write_all(request.as_bytes()).unwrap();
    let mut command = Command::new(&node.binary);
    command.arg("--config").arg(node.config_file()).args(["metrics", "--http"]);
    command.stdin(OwnedFd::from(theirs.try_clone().unwrap())).stdout(OwnedFd::from(theirs));
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    assert!(child.wait().unwrap().success());
    answer
}

#[test]
fn an_http_request_is_answered_with_the_metrics_and_another_with_what_is_there() {
    need_root!();
    let cluster = Cluster::new("http-metrics", 0).start();
    let node = &cluster.nodes[0];
    let answer = request(node, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9748\r\nAccept: */*\r\n\r\n");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let wanted = "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
                  Connection: close";
    assert_eq!(head, wanted);
    if let Some(python) = python() {
        assert_eq!(value(&samples(python, text), "thimble_up", &[]), 1.0);
    }
    for asked in ["GET / HTTP/1.1\r\n\r\n", "POST /metrics HTTP/1.1\r\n\r\n", "\r\n\r\n"] {
        let answer = request(node, asked);
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nOnly GET /metrics is here.\n"), "{answer}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named_with_what_to_do() {
    need_root!();
    let cluster = Cluster::new("metrics-file", 0).start();
    let node = &cluster.nodes[0];
    let ended = node.thimble(&["metrics", "-o", "/nonexistent/thimble.prom"]);
    assert_eq!(ended.code, 1);
    for part in ["/nonexistent/thimble.prom cannot be written", "(os error 2)", "its directory must exist"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    for wrong in [
        &["metrics", "--http", "-o", "x"][..],
        &["--json", "metrics", "--http"],
        &["--json", "metrics", "-o", "x"],
    ] {
        let ended = node.thimble(wrong);
        assert_eq!(ended.code, 2, "{wrong:?}");
        assert!(ended.stderr.contains("takes one of --json, --http and -o FILE"), "{}", ended.stderr);
    }
}
