"""nginx as a server of captured answers, and as the peer of the proxy."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.load import CPU, Front

FRONT_CPU = "0"

_COMMON = """
daemon off;
user root;
worker_processes 1;
pid {place}/pid;
error_log {place}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  server_tokens off;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_body_temp_path {place}/body;
  proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi;
  scgi_temp_path {place}/scgi;
{http}
}}
"""

_STATIC = """
  server {{
    listen 127.0.0.1:{port};
    root {root};
    default_type "text/plain; version=0.0.4; charset=utf-8";
    etag off;
    add_header Last-Modified "";
    add_header Vary "Accept, Accept-Encoding";
    open_file_cache max=10000 inactive=1h;
    open_file_cache_valid 1h;
    location = /requests {{ stub_status; }}
    location = /v1/containers {{
      proxy_pass http://127.0.0.1:{inventory};
      proxy_read_timeout 120s;
    }}
  }}
"""

_ZONE = "  limit_req_zone $ssl_client_s_dn zone={name}:1m rate={rate}r/s;\n"

_FRONT = """
  upstream {name} {{
    server 127.0.0.1:{upstream};
    keepalive 64;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_protocols TLSv1.3;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_client_certificate {tenants};
    ssl_verify_client on;
    location ~ ^/v1/[0-9a-f-]+/metrics$ {{
      limit_req zone={name} burst={burst} nodelay;
      limit_req_status 429;
      proxy_pass http://{name};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffer_size 16k;
      proxy_buffers 8 16k;
    }}
  }}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A front of nginx. upstream: port; rate: requests a second that an account may make."""

    upstream: int
    rate: int = 1_000_000
    burst: int = 1_000_000


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[bytes], what: str, seconds: float = 60) -> None:
    """Until `port` accepts connections. RuntimeError when the process ends before, or in no time."""
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{what} did not start") from None
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def _running(place: Path, http: str, port: int, cpu: str) -> Iterator[int]:
    """The process id of the worker."""
    place.mkdir()
    (place / "nginx.conf").write_text(_COMMON.format(place=place, http=http))
    command = ["taskset", "-c", cpu, "nginx", "-c", place / "nginx.conf", "-e", place / "error.log"]
    process = subprocess.Popen(command)
    try:
        wait_for(port, process, "nginx")
        yield int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextlib.contextmanager
def static(place: Path, bodies: Mapping[str, bytes], inventory: int, cpu: str = CPU) -> Iterator[Front]:
    """Answers /v1/<uuid>/metrics with the bodies by UUID, and hands /v1/containers to the port `inventory`."""
    root = place / "bodies"
    for uuid, body in bodies.items():
        path = root / "v1" / uuid / "metrics"
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
    port = free_port()
    http = _STATIC.format(port=port, root=root, inventory=inventory)
    with _running(place / "static", http, port, cpu) as pid:
        yield Front("captured", port, pid)


@contextlib.contextmanager
def fronts(
    place: Path, peers: Mapping[str, Peer], certificate: Path, key: Path, authority: Path, tenants: Path
) -> Iterator[dict[str, Front]]:
    """One nginx that is the proxy before each of `peers`, each on a port of its own.

    authority: of its certificate. tenants: of its clients'.
    """
    ports = {name: free_port() for name in peers}
    http = ""
    for name, peer in peers.items():
        http += _ZONE.format(name=name, rate=peer.rate)
        http += _FRONT.format(
            name=name,
            upstream=peer.upstream,
            port=ports[name],
            certificate=certificate,
            key=key,
            tenants=tenants,
            burst=peer.burst,
        )
    with _running(place / "front", http, next(iter(ports.values())), FRONT_CPU) as pid:
        yield {name: Front(f"nginx {name}", port, pid, authority) for name, port in ports.items()}


def requests_handled(front: Front) -> int:
    """How many requests a static nginx has had so far, this one included."""
    with socket.create_connection(("127.0.0.1", front.port)) as client:
        client.sendall(b"GET /requests HTTP/1.0\r\n\r\n")
        said = client.makefile("rb").read()
    return int(said.split(b"requests\n")[1].split()[2])
