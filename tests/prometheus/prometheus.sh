#!/usr/bin/env bash
# prometheus.sh: the shipped alert rules, by the promtool and the Prometheus of Debian. promtool
# checks them and plays each alert (rules_test.yml). Then Prometheus scrapes a controller, by
# node_exporter's textfile collector and over HTTP, and an agent, in network namespaces, while
# what the alerts are for happens. Their waiting times are shortened, and nothing else.
set -euo pipefail
supervisor=prometheus
tree=$(cd "$(dirname "$0")/../.." && pwd)
source "$tree/tests/supervisors/lib.sh"
rules=$tree/config/thimble.rules.yml

[[ $(id -u) == 0 ]] || skip "needs root"
for need in ip minisign busybox systemd-socket-activate; do command -v $need >/dev/null || skip "$need is not installed"; done
"$tree/tests/rig/unpack.sh" prometheus
bin=$tree/target/unpacked/prometheus/usr/bin
thimble=${THIMBLE_BIN:-$tree/dist/thimble-$(uname -m)}
[[ -x $thimble ]] || fail "build it first: make dist"

work=$(mktemp -d "${TMPDIR:-/tmp}/thimble-prometheus.XXXXXX")
near=thimble-prom-$$-near far=thimble-prom-$$-far
declare -A pids=()
end() { kill "${pids[$1]}" 2>/dev/null || true; wait "${pids[$1]}" 2>/dev/null || true; unset "pids[$1]"; }
finish() {
    local status=$? name
    if ((status != 0 && status != 77)); then
        for name in "$work"/*.log; do echo "== ${name##*/}"; tail -n 25 "$name"; done >&2
        [[ -z ${pids[prometheus]-} ]] || ask ALERTS >&2 || true
    fi
    for name in "${!pids[@]}"; do end "$name"; done
    ip netns del $near 2>/dev/null || true
    ip netns del $far 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

say "promtool: the rules, and each alert by itself"
"$bin/promtool" check rules "$rules"
sed "s#RULES#$rules#" "$tree/tests/prometheus/rules_test.yml" >"$work/rules_test.yml"
"$bin/promtool" test rules "$work/rules_test.yml"
for alert in $(sed -n 's/^ *- alert: //p' "$rules"); do
    grep -q "exp_samples:.*alertname=\"$alert\"" "$work/rules_test.yml" || fail "rules_test.yml does not let $alert fire"
done

say "a controller and a host, each in a network namespace"
ip netns add $near
ip netns add $far
ip link add name net0 netns $near type veth peer name net0 netns $far
address() {
    ip -n "$1" link set lo up
    ip -n "$1" link set net0 up
    ip -n "$1" address add "$2/24" dev net0
}
address $near 10.84.0.1
address $far 10.84.0.2
minisign -G -W -p "$work/maker.pub" -s "$work/maker.key" >/dev/null
# configure NAME ROLE
configure() {
    mkdir -p "$work/$1/root" "$work/$1/state"
    cat >"$work/$1/thimble.toml" <<TOML
[node]
roles = ["$2"]
hostname = "$1"
sw_version = "12"
state_dir = "$work/$1/state"
control_socket = "$work/$1/control.sock"
[network]
interface = "net0"
[security]
key_file = "$work/$1/thimble.key"
trusted_keys = ["$work/maker.pub"]
[agent]
root = "$work/$1/root"
[timers]
hello_interval_ms = 300
hello_start_ms = 50
probe_ms = 600
TOML
}
configure controller controller
configure host agent
"$thimble" keygen --cluster -o "$work/controller/thimble.key" >/dev/null
"$thimble" keygen --node host --from "$work/controller/thimble.key" -o "$work/host/thimble.key" >/dev/null
# start NAME COMMAND..: a process that `end NAME` ends.
start() {
    local name=$1
    shift
    "$@" >>"$work/$name.log" 2>&1 </dev/null &
    pids[$name]=$!
}
controller() { "$thimble" --config "$work/controller/thimble.toml" "$@"; }
start_controller() { start controller ip netns exec $near "$thimble" --config "$work/controller/thimble.toml" run; }
start_host() { start host ip netns exec $far "$thimble" --config "$work/host/thimble.toml" run; }
# What the timer does, more often.
start_writer() {
    start writer bash -c 'while :; do "$@"; sleep 0.3; done' writer \
        "$thimble" --config "$work/controller/thimble.toml" metrics -o "$work/textfile/thimble.prom"
}
# listen NAME NODE PORT: what the socket unit does.
listen() {
    start "$1" ip netns exec $near systemd-socket-activate --accept --inetd --listen="127.0.0.1:$3" \
        "$thimble" --config "$work/$2/thimble.toml" metrics --http
}
mkdir "$work/textfile"
start_controller
start_host
start_writer
listen http controller 9748
listen http-of-host host 9749

say "node_exporter and Prometheus, which scrapes each second"
start exporter ip netns exec $near "$bin/prometheus-node-exporter" --web.listen-address=127.0.0.1:9100 \
    --collector.disable-defaults --collector.time --collector.textfile --collector.textfile.directory="$work/textfile"
sed -e 's/^\( *for:\) .*/\1 1s/' -e 's/\(mtime_seconds.*\) > 300$/\1 > 4/' "$rules" >"$work/rules.yml"
(($(diff "$rules" "$work/rules.yml" | grep -c '^>') == $(grep -c '^ *for:' "$rules") + 1)) || fail "the rules are not shortened as meant"
cat >"$work/prometheus.yml" <<YAML
global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms }
rule_files: [$work/rules.yml]
scrape_configs:
  - { job_name: node, static_configs: [{ targets: ["127.0.0.1:9100"] }] }
  - { job_name: thimble, static_configs: [{ targets: ["127.0.0.1:9748"] }] }
  - { job_name: host, static_configs: [{ targets: ["127.0.0.1:9749"] }] }
YAML
"$bin/promtool" check config "$work/prometheus.yml" >/dev/null
start prometheus ip netns exec $near "$bin/prometheus" --config.file="$work/prometheus.yml" \
    --storage.tsdb.path="$work/tsdb" --web.listen-address=127.0.0.1:9090

# ask EXPRESSION: what Prometheus' API answers, a series a line.
ask() { ip netns exec $near "$bin/promtool" query instant http://127.0.0.1:9090 "$1" 2>>"$work/promtool.log"; }
holds() { [[ -n $(ask "$1") ]]; }
is_empty() { local series; series=$(ask "$1") && [[ -z $series ]]; }
# fires ALERT JOB..: waits until it does, in each of these jobs.
fires() {
    local alert=$1 job
    shift
    for job in "$@"; do until_true "$alert fires in the job $job" holds "ALERTS{alertname=\"$alert\",alertstate=\"firing\",job=\"$job\"}"; done
    echo "   $alert fires: $*, after $SECONDS s in all"
}
# quiet [ALERT]: waits until it, or any, is no alert any more.
quiet() { until_true "${1-every alert} is quiet" is_empty "ALERTS${1+{alertname=\"$1\"\}}"; }

until_true "all three are scraped" holds 'count(thimble_up == 1) == 3'
until_true "the host is known by the file" holds 'thimble_hosts{job="node",state="current"} == 1'
until_true "the host is known over HTTP" holds 'thimble_hosts{job="thimble",state="current"} == 1'
until_true "the file has counts" holds 'thimble_datagrams_received_total{job="node"} > 0'
until_true "HTTP has counts" holds 'thimble_datagrams_received_total{job="thimble"} > 0'
until_true "the host is what it is" holds 'thimble_role{job="host",role="agent"} == 1'
until_true "node_exporter can read the file" holds 'node_textfile_scrape_error == 0'
[[ $(stat -c %a "$work/textfile/thimble.prom") == 644 && $(ls "$work/textfile") == thimble.prom ]] || fail "$(ls -l "$work/textfile")"
quiet

say "the host dies"
end host
fires ThimbleHostLost node thimble
fires ThimbleDown host
ip netns exec $near busybox wget -qO "$work/alerts" http://127.0.0.1:9090/api/v1/alerts
grep -qF '"summary":"1 hosts are lost, as 127.0.0.1:9748 sees them"' "$work/alerts" || fail "$(cat "$work/alerts")"
! grep -i 'error expanding' "$work/alerts" || fail "an annotation is wrong"
start_host
quiet

say "a rollout halts: a health script fails"
mkdir -p "$work/patch/files/etc" "$work/patch/scripts"
printf 'id = "ILL-1"\nsw_version = "12"\nsummary = "x"\nreboot_required = false\n' >"$work/patch/metadata.toml"
echo new >"$work/patch/files/etc/ill"
printf '#!/bin/sh\nexit 1\n' >"$work/patch/scripts/health"
chmod +x "$work/patch/scripts/health"
tar czf "$work/ILL-1.patch" --owner=root:0 --group=root:0 -C "$work/patch" .
minisign -S -H -s "$work/maker.key" -m "$work/ILL-1.patch" >/dev/null
controller upload "$work/ILL-1.patch" >/dev/null
controller apply ILL-1 >/dev/null
! controller host-install --all --stop-after-failures 1 >"$work/rollout.log" 2>&1 || fail "it is installed"
fires ThimbleRolloutHalted node thimble
fires ThimbleHostFailed node thimble
fires ThimbleInstallFailed host

say "the interface goes down"
ip -n $near link set net0 down
fires ThimbleInterfaceDown node thimble
ip -n $near link set net0 up
quiet ThimbleInterfaceDown

say "nothing writes the file any more"
end writer
fires ThimbleMetricsStale node
start_writer
quiet ThimbleMetricsStale

say "the daemon dies: what it said last is nowhere any more"
end controller
fires ThimbleDown node thimble
for job in node thimble; do
    until_true "$job says that it is down" holds "thimble_up{job=\"$job\"} == 0"
    until_true "there is nothing else of $job" is_empty "{__name__=~\"thimble_.+\",__name__!=\"thimble_up\",job=\"$job\"}"
done

say "nothing answers over HTTP any more"
end http-of-host
fires ThimbleMetricsMissing host
echo "prometheus: all is well"
