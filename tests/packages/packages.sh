#!/usr/bin/env bash
# What is in dist, installed into bare Debians and run there: packages.sh [deb] [units] [wheel] [sdist] [image]. As root.
#
# deb     the Debian packages: installed, run with the user and the capabilities of their units, upgraded, removed, purged.
# units   the units of the Debian packages, under systemd in a guest: units.py.
# wheel   the wheel, without a compiler: pymon up.
# sdist   the source package, with gcc alone: one collection.
# image   an image on the bare root, with podman.
set -euo pipefail

repository=$(cd "$(dirname "$0")/../.." && pwd)
. "$repository/tests/fresh/root.sh"
READY_SECONDS=120

say() { echo "package-test: $*"; }
fail() { say "$*"; exit 1; }

# In the mount namespace.

# in_root COMMAND...: run it with the root changed.
in_root() {
	"${within[@]}" "$@"
}

# serve LOG PATTERN COMMAND...: run it in the root until its log has the pattern. Its id is in `served`.
serve() {
	local log=$root/$1 pattern=$2
	shift 2
	SECONDS=0
	"${within[@]}" "$@" >"$log" 2>&1 &
	served=$!
	until grep -q "$pattern" "$log"; do
		if ! kill -0 "$served" 2>/dev/null || [ "$SECONDS" -gt "$READY_SECONDS" ]; then
			cat "$log"
			fail "$*: not ready after $SECONDS s"
		fi
		sleep 0.2
	done
}

# ended: what `serve` began ends well by SIGTERM.
ended() {
	kill -TERM "$served"
	wait "$served" || fail "ended with $? after SIGTERM"
}

# read_from URL: write what is there. The certificate is of an authority in the root.
read_from() {
	/usr/bin/python3 -c '
import ssl, sys, urllib.request
insecure = ssl._create_unverified_context()
print(urllib.request.urlopen(sys.argv[1], timeout=60, context=insecure).read().decode())' "$1"
}

# address LOG PATTERN: where a process said that it listens, on the line with the pattern.
address() {
	sed -nE "/$2/s/.*msg=listening.* address=([^ ]+).*/\\1/p" "$root/$1"
}

# as_unit UNIT: set the array `command` to what systemd would run, as the unit's user and with its capabilities.
as_unit() {
	local unit=$root/lib/systemd/system/$1.service user capabilities
	user=$(sed -n 's/^User=//p' "$unit")
	capabilities=$(sed -n 's/^AmbientCapabilities=//p' "$unit" | sed 's/CAP_/+/g; s/ /,/g' | tr '[:upper:]' '[:lower:]')
	command=(setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs
		--bounding-set="-all${capabilities:+,$capabilities}" --inh-caps="-all${capabilities:+,$capabilities}"
		--ambient-caps="-all${capabilities:+,$capabilities}")
	read -ra words < <(sed -n 's/^ExecStart=//p' "$unit" | sed 's|%S|/var/lib|g')
	command+=("${words[@]}")
}

install_deb() {
	say "Debian packages: installed"
	in_root apt-get update -qq
	in_root sh -c 'apt-get install -qq /packages/*.deb' >"$root/apt.log" 2>&1 ||
		{ tail -20 "$root/apt.log"; fail "not installed"; }
	if grep -iE 'error|traceback' "$root/apt.log"; then
		fail "said while it was installed"
	fi
}

try_deb() {
	install_deb
	in_root sh -c '! command -v gcc' >/dev/null || fail "a compiler is there"
	in_root getent passwd pymon-agent pymon-proxy
	in_root pymon --version
	in_root pymon check-config /etc/pymon/agent.yaml
	in_root man -w pymon 2>/dev/null || in_root test -f /usr/share/man/man1/pymon.1.gz
	[ -n "$(find "$root/usr/lib/pymon" -name '*.pyc' -print -quit)" ] || fail "not compiled"

	say "the agent, as its unit runs it"
	as_unit pymon-agent
	# What StateDirectory= does.
	in_root install -d -o pymon-agent -g pymon-agent /var/lib/pymon-agent
	serve agent.log 'columns of containers are filled\|containers are read from files' "${command[@]}" --web.listen-address=127.0.0.1:0
	cat "$root/agent.log"
	read_from "http://$(address agent.log logger=pymon.agent)/metrics" >"$root/metrics"
	grep -c '^node_' "$root/metrics" || fail "nothing of the node"
	grep -E '^pymon_bpf_columns|^pymon_build_info' "$root/metrics" || true
	ended

	say "the proxy, as its unit runs it"
	in_root runuser -u pymon-proxy -- pymon cert server --data-dir /var/lib/pymon --out /var/lib/pymon/tls localhost
	in_root runuser -u pymon-proxy -- pymon account create acme --data-dir /var/lib/pymon
	as_unit pymon-proxy
	serve proxy.log 'listening part=proxy' "${command[@]}" --web.listen-address=127.0.0.1:0 --telemetry.listen-address=127.0.0.1:0
	cat "$root/proxy.log"
	read_from "https://$(address proxy.log part=proxy)/_ping"
	ended

	say "upgraded: configuration and data stay"
	echo '# changed by the administrator' >>"$root/etc/pymon/agent.yaml"
	mkdir "$root/newer"
	for package in "$root"/packages/*.deb; do
		dpkg-deb -R "$package" "$root/newer/tree"
		sed -i -E 's/^Version: .*/&+newer/; s/\(= ([^)]*)\)/(= \1+newer)/' "$root/newer/tree/DEBIAN/control"
		find "$root/newer/tree" -path '*/etc/pymon/*' -type f -exec sed -i '1i # changed by the package' {} +
		dpkg-deb -Znone -b "$root/newer/tree" "$root/newer/$(basename "$package")" >/dev/null
		rm -r "$root/newer/tree"
	done
	in_root sh -c 'dpkg --install --force-confold /newer/*.deb' >"$root/dpkg.log" 2>&1 || { cat "$root/dpkg.log"; fail "not upgraded"; }
	in_root dpkg-query --show 'pymon*' | grep -c '+newer$' | grep -qx 3 || fail "not upgraded"
	grep -q 'changed by the administrator' "$root/etc/pymon/agent.yaml" || fail "configuration lost"
	grep -q 'changed by the package' "$root/etc/pymon/proxy.yaml" || fail "configuration not upgraded"
	in_root runuser -u pymon-proxy -- pymon account list --data-dir /var/lib/pymon | grep acme || fail "accounts lost"

	say "removed: configuration and data stay; purged: they go"
	in_root apt-get remove -qq pymon pymon-agent pymon-proxy >/dev/null 2>&1
	for path in etc/pymon/agent.yaml etc/pymon/proxy.yaml var/lib/pymon/directory.db; do
		[ -e "$root/$path" ] || fail "/$path went with the package"
	done
	[ ! -e "$root/usr/lib/pymon" ] || { find "$root/usr/lib/pymon" | head; fail "left in /usr/lib/pymon"; }
	in_root apt-get purge -qq pymon pymon-agent pymon-proxy >/dev/null 2>&1
	for path in etc/pymon var/lib/pymon var/lib/pymon-agent var/log/pymon; do
		[ ! -e "$root/$path" ] || { find "$root/$path"; fail "/$path is left"; }
	done
}

try_wheel() {
	say "wheel: installed without a compiler"
	in_root sh -c '! command -v gcc' >/dev/null || fail "a compiler is there"
	in_root apt-get update -qq
	in_root apt-get install -qq --no-install-recommends python3-venv libbpf1 >/dev/null 2>&1
	in_root python3 -m venv /opt/pymon
	in_root sh -c '/opt/pymon/bin/pip --quiet --quiet --disable-pip-version-check install --only-binary :all: /packages/pymon-*.whl'
	serve up.log 'Stop it with' /opt/pymon/bin/pymon up --web.listen-address 127.0.0.1:0 --proxy.listen-address 127.0.0.1:0 \
		--dns.listen-address 127.0.0.1:0 --proxy.telemetry-address 127.0.0.1:0
	read_from "$(sed -nE 's|^ *page +(http://\S+/)$|\1|p' "$root/up.log")metrics" >"$root/metrics"
	grep -c '^node_' "$root/metrics" || fail "nothing of the node"
	ended
	in_root /opt/pymon/bin/pymon doctor | grep -i bpf | head -5
}

try_sdist() {
	say "source package: built with gcc alone"
	in_root apt-get update -qq
	in_root apt-get install -qq --no-install-recommends python3-venv python3-dev gcc libc6-dev >/dev/null 2>&1
	in_root sh -c '! command -v clang' >/dev/null || fail "clang is there"
	in_root python3 -m venv /opt/built
	in_root sh -c '/opt/built/bin/pip --quiet --quiet --disable-pip-version-check install /packages/pymon-*.tar.gz'
	in_root /opt/built/bin/pymon collect >"$root/metrics"
	grep -c '^node_' "$root/metrics" || fail "nothing of the node"
	in_root /opt/built/bin/pymon doctor | grep -i bpf | head -5
}

# The packages alone: what boots the root says more.
try_units() {
	install_deb
}

# Outside of it: podman makes namespaces of its own.

# try_image BARE: an image on that root, built, and run where the runtime can (crun cannot where version 1 and version 2
# cgroups both have controllers).
try_image() {
	tar -C "$1" -c . | podman import --quiet - "$image-base" >/dev/null
	make --no-print-directory -C "$repository" image BASE="localhost/$image-base" IMAGE="$image" >"$folder/image.log" 2>&1 ||
		{ tail -20 "$folder/image.log"; fail "no image"; }
	for runtime in crun runc; do
		if podman --runtime "$runtime" run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
			"$image" --version; then
			return
		fi
	done
	say "the image is built, but was not run: see above"
}

inside() {
	root=$1
	shift
	root_mount "$root"
	root_settings "$root"
	within=(env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
		DEBIAN_FRONTEND=noninteractive "${settings[@]}" chroot "$root")
	for name in "$@"; do
		"try_$name"
	done
}

if [ "${1-}" = --inside ]; then
	shift
	inside "$@"
	exit
fi

[ "$(id -u)" = 0 ] || fail "not root: nothing was tested (chroot and mounts need it)"
command -v debootstrap >/dev/null || fail "debootstrap: not found; apt-get install debootstrap"

image=pymon-package-test
folder=$(mktemp -d /var/tmp/pymon-packages.XXXXXX)
trap 'podman rmi --force "$image" "$image-base" >/dev/null 2>&1 || true; clean "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "a bare $SUITE in $folder"
root_make "$folder/bare" python3,util-linux "$folder/debootstrap.log"
mkdir "$folder/bare/packages"
cp "$repository"/dist/* "$folder/bare/packages"
for name in "$@"; do
	if [ "$name" = image ]; then
		try_image "$folder/bare"
		continue
	fi
	cp -a "$folder/bare" "$folder/$name"
	start unshare --mount --propagation private "$0" --inside "$folder/$name" "$name"
	if [ "$name" = units ]; then
		PYTHONPATH=$repository start python3 "$repository/tests/packages/units.py" "$folder/$name"
	fi
done
say "passed: $*"
