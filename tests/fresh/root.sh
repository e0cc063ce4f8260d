# A bare Debian of debootstrap as the root of another process, to be sourced.
#
# Packages come from where this machine's apt and pip have them: their settings are copied into the root, and what these
# refer to is mounted there, to be read only. The network is this machine's.

SUITE=bookworm

# The files and folders that pip's settings name, one a line; of a file:// index also what lies beside its pages.
pip_paths() {
	{
		env | sed -n 's/^PIP_[A-Z_]*=//p'
		cat /etc/pip.conf /etc/xdg/pip/pip.conf "$HOME/.pip/pip.conf" "$HOME/.config/pip/pip.conf" 2>/dev/null || true
	} | tr ' =' '\n\n' | sed -nE 's|^file://(/.*)/[^/]+/?$|\1|p; s|^(/.+)$|\1|p' | sort -u
}

# root_mount ROOT: in a mount namespace of its own, mount what a process needs there.
root_mount() {
	local root=$1 path
	mount --bind "$root" "$root"
	for path in /proc /sys /dev; do
		mount --rbind "$path" "$root$path"
	done
	mount -t tmpfs tmpfs "$root/run"
	while read -r path; do
		# What is below /etc was copied.
		if [[ -d $path && $path != /etc/* ]]; then
			mkdir -p "$root$path"
			mount --bind "$path" "$root$path"
			mount -o remount,bind,ro "$root$path"
		fi
	done < <(pip_paths)
}

# root_settings ROOT: set the array `settings` to the variables by which pip and apt find packages there.
root_settings() {
	local root=$1 name
	settings=()
	for name in $(compgen -e | grep -E '^(PIP_.*|(http|https|no)_proxy|(HTTP|HTTPS|NO)_PROXY)$'); do
		settings+=("$name=${!name}")
	done
	if [ -e "$root/etc/fresh-ca.pem" ]; then
		settings+=(PIP_CERT=/etc/fresh-ca.pem SSL_CERT_FILE=/etc/fresh-ca.pem)
	fi
}

# root_make ROOT PACKAGES LOG: make a bare Debian with these packages and this machine's settings of apt and pip.
root_make() {
	local root=$1 packages=$2 log=$3 mirror proxy file to
	mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | awk -v suite="$SUITE" '$2 == suite { print $1; exit }')
	proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
	http_proxy=${proxy:-${http_proxy-}} start debootstrap --variant=minbase --include="$packages" "$SUITE" "$root" "$mirror" \
		>"$log" || { tail -20 "$log"; exit 1; }
	rm -f "$root/etc/machine-id" "$root/etc/apt/sources.list"
	cp -a /etc/apt/. "$root/etc/apt/"
	cp -a /usr/share/keyrings/. "$root/usr/share/keyrings/"
	for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/xdg/pip "$HOME/.pip" "$HOME/.config/pip"; do
		if [ -e "$file" ]; then
			to=${file/#"$HOME"//root}
			mkdir -p "$root$(dirname "$to")"
			cp -rL "$file" "$root$(dirname "$to")/"
		fi
	done
	for file in "${PIP_CERT-}" "${SSL_CERT_FILE-}"; do
		if [ -f "$file" ]; then
			cp -L "$file" "$root/etc/fresh-ca.pem"
			break
		fi
	done
}

# start COMMAND...: run it in the background, so that a signal is heard at once, and in a session of its own, so that
# `clean` ends all of it.
pid=
start() {
	setsid "$@" &
	pid=$!
	wait "$pid"
	pid=
}

# clean FOLDER: end what was started, and delete the folder.
clean() {
	trap '' INT TERM
	if [ -n "$pid" ]; then
		kill -TERM -- "-$pid" 2>/dev/null || true
		for _ in {1..50}; do
			kill -0 -- "-$pid" 2>/dev/null || break
			sleep 0.2
		done
		kill -KILL -- "-$pid" 2>/dev/null || true
	fi
	rm -rf --one-file-system "$1"
}
