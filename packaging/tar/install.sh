#!/bin/sh
# install.sh [--root DIR] [--init systemd|openrc|busybox]: installs thimble from this directory
# on this machine, or in the tree of one below DIR, whatever its architecture. Run again, it
# updates: configuration, keys and state stay, and a configuration that differs is left beside
# as thimble.toml.new. It starts nothing: it tells what to run.
set -eu
from=$(cd "$(dirname "$0")" && pwd)
fail() { echo "install.sh: $1" >&2; exit 1; }

root='' init=''
while [ $# -gt 0 ]; do
	case "$1" in
	--root) [ $# -gt 1 ] || fail "--root needs a directory"; root=${2%/}; shift ;;
	--init) [ $# -gt 1 ] || fail "--init needs systemd, openrc or busybox"; init=$2; shift ;;
	*) fail "$1 is not known; usage: install.sh [--root DIR] [--init systemd|openrc|busybox]" ;;
	esac
	shift
done
[ -z "$root" ] || [ -d "$root" ] || fail "$root is no directory"
[ "$(id -u)" = 0 ] || fail "needs root: it makes files of root's"
[ -e "$root/etc/passwd" ] || fail "there is no $root/etc/passwd: is ${root:-/} the root of a system?"

if [ -z "$init" ]; then
	if [ -e "$root/lib/systemd/systemd" ]; then init=systemd
	elif [ -e "$root/sbin/openrc-run" ]; then init=openrc
	elif [ -e "$root/etc/inittab" ] && [ -e "$root/bin/busybox" ]; then init=busybox
	else fail "no init that it knows is in ${root:-/}; name one with --init systemd, openrc or busybox"
	fi
fi
case "$init" in
systemd | openrc | busybox) ;;
*) fail "--init $init is none of systemd, openrc, busybox" ;;
esac

# put MODE FILE PLACE: replaces a file as a whole, also a program that runs.
put() {
	mkdir -p "$root$(dirname "$3")"
	cp "$from/$2" "$root$3.thimble-new"
	chmod "$1" "$root$3.thimble-new"
	chown 0:0 "$root$3.thimble-new"
	mv "$root$3.thimble-new" "$root$3"
}

# Small roots lack some of these.
mkdir -p "$root/var/lib" "$root/var/log"
put 755 thimble /usr/bin/thimble
put 755 is-set-up /usr/lib/thimble/is-set-up
put 644 thimble.8 /usr/share/man/man8/thimble.8
put 644 thimble.rules.yml /usr/share/thimble/thimble.rules.yml
for file in "$from"/doc/*; do put 644 "doc/${file##*/}" "/usr/share/doc/thimble/${file##*/}"; done
if [ ! -e "$root/etc/thimble/thimble.toml" ]; then
	put 644 thimble.toml /etc/thimble/thimble.toml
elif ! cmp -s "$from/thimble.toml" "$root/etc/thimble/thimble.toml"; then
	put 644 thimble.toml /etc/thimble/thimble.toml.new
fi

# The user, written as adduser would: it must work in the tree of another machine too.
free_id() {
	id=999
	while grep -q "^[^:]*:[^:]*:$id:" "$root/etc/passwd" "$root/etc/group"; do id=$((id - 1)); done
	echo $id
}
if ! grep -q '^thimble:' "$root/etc/passwd"; then
	if ! grep -q '^thimble:' "$root/etc/group" 2>/dev/null; then
		echo "thimble:x:$(free_id):" >>"$root/etc/group"
	fi
	group=$(sed -n 's/^thimble:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group")
	id=$group
	! grep -q "^[^:]*:[^:]*:$id:" "$root/etc/passwd" || id=$(free_id)
	echo "thimble:x:$id:$group:thimble daemon:/var/lib/thimble:/sbin/nologin" >>"$root/etc/passwd"
	[ ! -e "$root/etc/shadow" ] || echo 'thimble:!*:::::::' >>"$root/etc/shadow"
fi

case "$init" in
systemd)
	for unit in thimble thimble-guard thimble-installer; do
		put 644 "systemd/$unit.service" "/etc/systemd/system/$unit.service"
		conf=set-up.conf
		[ $unit != thimble-installer ] || conf=set-up-installer.conf
		put 644 "systemd/$conf" "/etc/systemd/system/$unit.service.d/set-up.conf"
	done
	# Not enabled: whoever has a Prometheus does that.
	for unit in thimble-metrics.service thimble-metrics.timer thimble-metrics.socket thimble-metrics@.service; do
		put 644 "systemd/$unit" "/etc/systemd/system/$unit"
	done
	next="systemctl daemon-reload; systemctl enable thimble-guard thimble-installer thimble; systemctl restart thimble-installer thimble"
	;;
openrc)
	put 755 openrc/thimble /etc/init.d/thimble
	put 755 openrc/thimble-installer /etc/init.d/thimble-installer
	next="rc-update add thimble-installer default; rc-update add thimble default; rc-service thimble-installer restart; rc-service thimble restart"
	;;
busybox)
	for script in boot daemon installer; do put 755 "busybox/$script" "/usr/lib/thimble/$script"; done
	if ! grep -q /usr/lib/thimble/ "$root/etc/inittab"; then
		cat >>"$root/etc/inittab" <<-'LINES'
		# thimble: init restarts daemon and installer whenever they end.
		::sysinit:/usr/lib/thimble/boot
		::respawn:/usr/lib/thimble/installer
		::respawn:/usr/lib/thimble/daemon
		LINES
	fi
	next="/usr/lib/thimble/boot; kill -HUP 1 (init reads its table), or, where thimble runs already, end its processes: init starts the new one"
	;;
esac

# The log is a file there. What the operator has made of it stays.
if [ "$init" != systemd ] && [ ! -e "$root/etc/logrotate.d/thimble" ]; then
	put 644 thimble.logrotate /etc/logrotate.d/thimble
fi

echo "thimble is installed in ${root:-/}, for $init. Then:"
echo "  /etc/thimble/thimble.toml and a key file, until \`thimble check-config\` says OK; chown thimble: KEYFILE"
echo "  $next"
