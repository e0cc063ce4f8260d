#!/usr/bin/env bash
# README's two commands on a bare machine: fresh.sh COMMAND..., where COMMAND is run or test.
#
# A Debian 12 of debootstrap's smallest kind with python3, gcc, make and git, its root a mount of its own, has a clone of
# what is committed here. root.sh says where packages come from.
# All mounts are in a mount namespace of their own, so nothing outside sees them and they end with it.
set -euo pipefail

READY_SECONDS=1200
repository=$(cd "$(dirname "$0")/../.." && pwd)
. "$repository/tests/fresh/root.sh"

say() { echo "fresh-test: $*"; }

# In the mount namespace: mount, change the root, and run the commands there.
inside() {
	local root=$1 name settings
	shift
	root_mount "$root"
	root_settings "$root"
	for name in WEB PROXY DNS; do
		settings+=("PYMON_${name}_LISTEN_ADDRESS=127.0.0.1:0")
	done
	settings+=(PYMON_PROXY_TELEMETRY_ADDRESS=127.0.0.1:0)
	for name in "$@"; do
		"command_$name" "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "${settings[@]}" \
			chroot "$root" make -C /root/pymon
	done
}

# make run until it says that it serves and answers; it must end well by SIGTERM.
command_run() {
	local root=$1 said="$1/root/run.log" pid page
	shift
	say "make run"
	SECONDS=0
	"$@" run >"$said" 2>&1 &
	pid=$!
	until grep -q 'Stop it with' "$said"; do
		if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -gt "$READY_SECONDS" ]; then
			cat "$said"
			say "make run: not ready after $SECONDS s"
			exit 1
		fi
		sleep 0.2
	done
	say "make run: ready after $SECONDS s"
	cat "$said"
	page=$(sed -nE 's|^ *page +(http://\S+/)$|\1|p' "$said")
	/usr/bin/python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=60).read()' "${page}metrics"
	# make starts pymon as its one child and ends as it does.
	kill -TERM "$(pgrep -P "$pid" -x pymon)"
	wait "$pid"
}

command_test() {
	shift
	say "make test"
	"$@" test
}

if [ "${1-}" = --inside ]; then
	shift
	inside "$@"
	exit
fi

[ "$(id -u)" = 0 ] || { say "not root: nothing was tested (chroot and mounts need it)"; exit 1; }
command -v debootstrap >/dev/null || { say "debootstrap: not found; apt-get install debootstrap"; exit 1; }

folder=$(mktemp -d /var/tmp/pymon-fresh.XXXXXX)
trap 'clean "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

root=$folder/root
say "a bare $SUITE in $root"
root_make "$root" python3,gcc,make,git "$folder/debootstrap.log"
git clone --quiet --no-hardlinks "$repository" "$root/root/pymon"
start unshare --mount --propagation private "$0" --inside "$root" "$@"
say "passed: make $*"
