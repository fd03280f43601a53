#!/usr/bin/env bash
# uml.sh COMMAND..: runs it as root on a kernel that has TIPC and many filesystems: User
# Mode Linux, on this machine's own files, without virtualisation. Its output comes as it is made;
# its exit status is passed on, but 1 where the kernel does not boot or the command
# does not end within UML_SECONDS, and 77 (skipped) where there is no such kernel.
# UML_PROCESSOR is the one that it runs on, of those that there are: first or last.
#
# The command finds this environment and directory, and memory of its own for /run
# and TMPDIR: no network, process or scratch file of it is seen outside. Files
# elsewhere are this machine's.
set -uo pipefail
boot_seconds=60
run_seconds=${UML_SECONDS:-600}

skip() { echo "SKIPPED: User Mode Linux: $1" >&2; exit 77; }
[[ $(uname -m) == x86_64 ]] || skip "it runs on x86-64, and this is $(uname -m)"
for need in linux.uml modprobe ip; do
    PATH=$PATH:/usr/sbin:/sbin command -v $need >/dev/null || skip "$need is not installed (make setup)"
done
fail() {
    echo "uml.sh: $1" >&2
    echo "--- what the kernel said last" >&2
    tail -n 30 "$scratch/console" >&2
    exit 1
}

init=$(dirname "$(readlink -f "$0")")/uml_init.sh
scratch=$(mktemp -d "${TMPDIR:-/tmp}/thimble-uml.XXXXXX")
kernel=
# TERM has the kernel end its processes; what is deaf to that is in its group.
clean_up() {
    if [[ -n $kernel ]]; then
        kill -TERM "$kernel" 2>/dev/null && sleep 1
        kill -KILL -- "-$kernel" 2>/dev/null
    fi
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

cp "$init" "$scratch/init"
{
    export -p
    echo 'export TMPDIR=/run/tmp PATH=$PATH:/usr/sbin:/sbin MODPROBE_OPTIONS="-d /run/kernel"'
    printf 'cd %q || exit\n' "$PWD"
    printf 'exec'
    printf ' %q' "$@"
    echo
} >"$scratch/job"

# The kernel and each process on it are processes of this machine that wait for one
# another: on one processor they take turns without waking a second, which takes a third
# of the time off.
IFS=,- read -r first _ < <(awk '/^Cpus_allowed_list/ { print $2 }' /proc/self/status)
last=$(awk '/^Cpus_allowed_list/ { sub(/.*[,-]/, "", $2); print $2 }' /proc/self/status)
processor=$first
[[ ${UML_PROCESSOR:-first} == first ]] || processor=$last

# A group of its own: `set -m`. Its memory is a file that is gone at once.
set -m
taskset -c "$processor" linux.uml umid=thimble uml_dir="$scratch/" mem="${UML_MEMORY:-1G}" \
    rootfstype=hostfs rootflags=/ rw init="$scratch/init" \
    con=null con0=null,fd:3 con1=null,fd:1 quiet \
    3>"$scratch/console" 2>>"$scratch/console" </dev/null &
kernel=$!
set +m

# alive SECONDS FILE: waits for a file of the kernel's, or its end.
alive() {
    local started=$SECONDS
    while kill -0 "$kernel" 2>/dev/null; do
        [[ ! -e $scratch/$2 ]] || return 0
        ((SECONDS - started < $1)) || return 1
        sleep 0.1
    done
    [[ -e $scratch/$2 ]]
}
alive $boot_seconds booted || fail "the kernel did not boot"
alive "$run_seconds" status || fail "$* did not end within $run_seconds s"
wait "$kernel" 2>/dev/null
status=$(<"$scratch/status")
# Killed, perhaps for want of memory: the kernel's word on it.
((status < 128)) || tail -n 30 "$scratch/console" >&2
exit "$status"
