# Runs under systemd on a Debian with pymon's packages: what the units do there. See units.py.
set -eu

fail() {
	echo "units: $*"
	journalctl --no-pager --lines=40 --unit 'pymon-*'
	exit 1
}

# answer URL: what is there, as soon as something is.
answer() {
	python3 -c '
import ssl, sys, time, urllib.request
insecure = ssl._create_unverified_context()
end = time.monotonic() + 120
while True:
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=60, context=insecure).read().decode())
        break
    except OSError as error:
        if time.monotonic() > end:
            sys.exit(f"{sys.argv[1]}: {error}")' "$1" || fail "no answer"
}

# well UNIT: it runs, as its user, and nothing that it needs was refused.
well() {
	systemctl is-active --quiet "$1" || fail "$1 does not run"
	[ "$(stat -c %U "/proc/$(systemctl show --value -p MainPID "$1")")" = "$1" ] || fail "$1 does not run as $1"
	if journalctl --no-pager --unit "$1" | grep -iE 'not permitted|permission denied|cannot be read|traceback'; then
		fail "$1 was refused something"
	fi
	systemd-analyze security --no-pager "$1" | tail -1
}

# ended UNIT: it ends well.
ended() {
	systemctl stop "$1"
	[ "$(systemctl show --value -p Result "$1")" = success ] || fail "$1: $(systemctl show -p Result "$1")"
}

echo "the agent, enabled by its package"
answer http://127.0.0.1:9164/metrics >/run/metrics
grep -q '^node_cpu_seconds_total' /run/metrics || fail "nothing of the node"
well pymon-agent
SECONDS=0
until journalctl --no-pager --output cat --unit pymon-agent | grep 'columns of containers are filled by BPF'; do
	[ "$SECONDS" -lt 120 ] || fail "without BPF"
done

echo "the fetcher of applications' metrics, enabled as docs/apps.md says"
[ "$(systemctl is-enabled pymon-app-fetcher)" = disabled ] || fail "the fetcher was enabled"
[ "$(systemctl is-active pymon-app-fetcher)" = inactive ] || fail "the fetcher was started"
systemctl enable --now --quiet pymon-app-fetcher
SECONDS=0
until pymon doctor --container.app-metrics=/run/pymon/app-fetcher.sock | grep 'their metrics are fetched through'; do
	[ "$SECONDS" -lt 120 ] || fail "the fetcher does not answer"
done
[ "$(stat -c '%U %G %a' /run/pymon/app-fetcher.sock)" = "root pymon-agent 660" ] || fail "the socket is somebody's"
runuser -u nobody -- test -e /run/pymon/app-fetcher.sock && fail "anybody sees the socket"
ended pymon-app-fetcher

echo "the proxy, enabled as docs/install.md says"
[ "$(systemctl is-enabled pymon-proxy)" = disabled ] || fail "the proxy was enabled"
[ "$(systemctl is-active pymon-proxy)" = inactive ] || fail "the proxy was started"
runuser -u pymon-proxy -- pymon cert server --data-dir /var/lib/pymon --out /var/lib/pymon/tls localhost
runuser -u pymon-proxy -- pymon account create operations --operator --data-dir /var/lib/pymon
sed -i '$a workers: 2' /etc/pymon/proxy.yaml
systemctl enable --now --quiet pymon-proxy
answer https://127.0.0.1:9163/_ping
well pymon-proxy
ended pymon-proxy
ended pymon-agent
echo "units: passed"
