"""``pymon up``: agent, proxy, directory and authority on one machine, with a first account, and where to look."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from cryptography import x509
from cryptography.exceptions import InvalidSignature

import pymon
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import AgentOptions, agent_options
from pymon.agent.options import option_table as agent_table
from pymon.cli.agent import serve_agent
from pymon.cli.cert import issue_client
from pymon.cli.names import check_zone
from pymon.cli.new_files import NewFiles
from pymon.cli.prometheus import http_sd_job, triton_sd_job
from pymon.cli.proxy import serve_proxy
from pymon.config import ADDRESS, Address, ConfigError, Option, load
from pymon.directory.authority import CERTIFICATE_FILE, Authority
from pymon.directory.data_dir import AUTHORITY_FOLDER, DIRECTORY_FILE, default_data_dir
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DirectoryError
from pymon.dns.options import DnsOptions
from pymon.log import setup
from pymon.peer import plain_address
from pymon.proxy.build import Proxy
from pymon.proxy.options import DATA_DIR, ZONE, ProxyOptions
from pymon.service.serve import stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymon.config import Listen

ACCOUNT = "admin"
"""The first account: an operator, who sees what nobody owns, and the node."""

NODE = "local"

_FROM_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104

_SERVER_DAYS = 825
_RENEW = dt.timedelta(days=30)
_CLIENT_DAYS = 3650

_SAY = """\
pymon {version} measures this machine. Stop it with Ctrl-C.

  page                 http://{agent}/
  everything           curl http://{agent}{path}
  which containers     curl http://{agent}/v1/containers
  as a tenant          curl --cacert {ca} --cert {cert} --key {key} https://{proxy}/v1/sd
  one container        the same with https://{proxy}/v1/UUID/metrics
  names                dig @{dns_host} -p {dns_port} cmon.{zone}
  another account      pymon account create NAME --data-dir {data_dir}
                       pymon cert create NAME --out DIR --zone {zone} --proxy {proxy} --data-dir {data_dir}

Prometheus:

  scrape_configs:
{http_sd}
or, where <uuid>.cmon.{zone} and cmon.{zone} resolve, by a resolver that asks {dns} for {zone}:

  scrape_configs:
{triton_sd}
"""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was asked for, and the files that are there once `_prepare` is done."""

    agent: AgentOptions
    proxy_address: Address
    telemetry_address: Address
    dns_address: Address
    data_dir: Path
    zone: str

    @property
    def client(self) -> Path:
        """Directory of the first account's certificate."""
        return self.data_dir / "clients" / ACCOUNT

    @property
    def proxy_host(self) -> str:
        """What the proxy is called from here; its certificate is for that too."""
        return plain_address(_reachable(self.proxy_address).host)

    @property
    def tls(self) -> Path:
        """Directory of the proxy's certificate."""
        return self.data_dir / "tls"

    def dns(self) -> DnsOptions:
        """The options of the DNS server."""
        try:
            own = str(ipaddress.ip_address(self.proxy_host))
        except ValueError:
            own = "127.0.0.1"
        return DnsOptions(listen_addresses=(self.dns_address,), proxy_addresses=(own,))

    def proxy(self) -> ProxyOptions:
        """The proxy's options."""
        return ProxyOptions(
            listen_addresses=(self.proxy_address,),
            telemetry_address=self.telemetry_address,
            tls_cert=self.tls / "server-cert.pem",
            tls_key=self.tls / "server-key.pem",
            data_dir=self.data_dir,
            directory=str(self.data_dir / DIRECTORY_FILE),
            zone=self.zone,
            allow_expired_self_signed=False,
            terminator_addresses=(),
            terminator_trust=frozenset(),
            terminator_header="",
            upstream_ca=None,
            upstream_cert=None,
            upstream_key=None,
            upstream_max_requests=32,
            include_stopped=False,
            log_level=self.agent.log_level,
            log_format=self.agent.log_format,
        )


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT."""
    plan = _load(argv, os.environ)
    setup(plan.agent.log_level, plan.agent.log_format)
    _prepare(plan)
    uvloop.run(_run(plan))
    return 0


def _load(argv: Sequence[str], environ: Mapping[str, str]) -> _Plan:
    table = (
        *agent_table(COLLECTORS),
        DATA_DIR,
        ZONE,
        Option("proxy.listen-address", ADDRESS, Address("", 9163), "Address of the proxy, with TLS."),
        Option("dns.listen-address", ADDRESS, Address("127.0.0.1", 9153), "Address to answer DNS on, UDP and TCP."),
        Option("proxy.telemetry-address", ADDRESS, Address("127.0.0.1", 9165), "Address of the proxy's own metrics."),
    )
    settings = load(
        table,
        argv,
        environ,
        program="pymon up",
        description="Run everything on this machine and say where to look.",
        version=f"pymon {pymon.__version__}",
    )
    check_zone(DnsOptions(), settings["zone"])
    agent = agent_options(settings, COLLECTORS)
    if agent.web_config_file is not None:
        raise ConfigError("web.config.file: expected none, as the proxy here asks the agent without TLS or passwords")
    return _Plan(
        agent=agent,
        proxy_address=settings["proxy.listen-address"],
        telemetry_address=settings["proxy.telemetry-address"],
        dns_address=settings["dns.listen-address"],
        data_dir=(settings["data-dir"] or default_data_dir(environ, os.geteuid())).absolute(),
        zone=settings["zone"],
    )


# --- the first start -----------------------------------------------------------------------------


def _prepare(plan: _Plan) -> None:
    """Make what is not there yet: directory, authority, the proxy's certificate, the first account and its own."""
    plan.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Where an authority is, there was a directory: an empty one must not take the place of one that was lost.
    first = not (plan.data_dir / AUTHORITY_FOLDER).exists()
    with open_directory(str(plan.data_dir / DIRECTORY_FILE), create=first) as directory:
        authority = Authority.load_or_create(plan.data_dir / AUTHORITY_FOLDER)
        directory.set_authority(authority.der)
        _server_certificate(plan, authority)
        if not plan.client.exists():
            if ACCOUNT not in directory.snapshot().accounts_by_name:
                directory.create_account(ACCOUNT, operator=True)
            _client_certificate(plan, directory, authority)


def _server_certificate(plan: _Plan, authority: Authority) -> None:
    """A certificate for every name that the proxy is reached by here; anew when it ends soon or lacks its key."""
    file, key_file = plan.tls / "server-cert.pem", plan.tls / "server-key.pem"
    names = _names(plan.zone, plan.proxy_host)
    if file.exists() and key_file.exists():
        try:
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            raise ConfigError(f"{file}: expected a certificate in PEM; remove it to have a new one") from None
        have = {str(name.value) for name in found}
        lasts = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC) > _RENEW
        if have >= set(names) and lasts and _is_issued_by(certificate, authority.certificate):
            return
    certificate_pem, key_pem = authority.issue_server(names, _SERVER_DAYS)
    # One of them without the other is worth nothing.
    file.unlink(missing_ok=True)
    key_file.unlink(missing_ok=True)
    with NewFiles(plan.tls, {key_file.name: (key_pem, 0o600), file.name: (certificate_pem, 0o644)}):
        pass


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(zone: str, proxy_host: str) -> list[str]:
    machine = socket.gethostname().lower()
    names = [f"cmon.{zone}", f"*.cmon.{zone}", "localhost", "127.0.0.1", "::1", proxy_host.partition("%")[0]]
    return list(dict.fromkeys([*names, machine] if machine.isascii() else names))


def _client_certificate(plan: _Plan, directory: Directory, authority: Authority) -> None:
    proxy = Address(plan.proxy_host, plan.proxy_address.port or 9163)
    issue_client(directory, authority, ACCOUNT, plan.client, _CLIENT_DAYS, "pymon up", plan.zone, proxy)


# --- running -------------------------------------------------------------------------------------


async def _run(plan: _Plan) -> None:
    stop = stop_on_signals()
    agent_listens: asyncio.Future[Address] = asyncio.get_running_loop().create_future()

    def agent_started(_: AgentOptions, addresses: tuple[Listen, ...]) -> None:
        agent_listens.set_result(next(address for address in addresses if isinstance(address, Address)))

    bound: dict[str, Address] = {}

    def proxy_started(name: str, addresses: tuple[Listen, ...]) -> None:
        if isinstance(addresses[0], Address):
            bound[name] = addresses[0]
        if name in {"proxy", "dns"} and {"proxy", "dns"} <= bound.keys():
            _say(plan, agent_listens.result(), bound["proxy"], bound["dns"])

    async def front() -> None:
        address = _reachable(await agent_listens)
        with open_directory(str(plan.data_dir / DIRECTORY_FILE)) as directory:
            _register(directory, f"http://{address}")
        options = plan.proxy()
        await serve_proxy(Proxy(options), options, plan.dns(), stop, proxy_started)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve_agent(plan.agent, None, stop, agent_started))
            group.create_task(front())
    except* (ConfigError, DirectoryError, OSError) as errors:
        # One line about the first: the other part ended because of it.
        raise errors.exceptions[0] from None


def _reachable(address: Address) -> Address:
    """Where something that listens on an address is reached from here."""
    return Address(_FROM_HERE.get(address.host, address.host), address.port)


def _register(directory: Directory, url: str) -> None:
    """Have this machine's agent in the directory, under the address that it has now."""
    known = directory.snapshot().nodes.get(NODE)
    if known is not None and known.url == url:
        return
    if known is not None:
        directory.delete_node(NODE)
    directory.create_node(NODE, url)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _say(plan: _Plan, agent: Address, proxy: Address, dns: Address) -> None:
    files = {
        "ca_file": str(plan.client / CERTIFICATE_FILE),
        "cert_file": str(plan.client / f"{ACCOUNT}-cert.pem"),
        "key_file": str(plan.client / f"{ACCOUNT}-key.pem"),
    }
    near = Address(plan.proxy_host, proxy.port)
    sys.stdout.write(
        _SAY.format(
            version=pymon.__version__,
            agent=_reachable(agent),
            path=plan.agent.telemetry_path,
            ca=shlex.quote(files["ca_file"]),
            cert=shlex.quote(files["cert_file"]),
            key=shlex.quote(files["key_file"]),
            proxy=near,
            data_dir=shlex.quote(str(plan.data_dir)),
            zone=plan.zone,
            dns=_reachable(dns),
            dns_host=_reachable(dns).host,
            dns_port=dns.port,
            http_sd=_indented(http_sd_job(near, files)),
            triton_sd=_indented(triton_sd_job(ACCOUNT, plan.zone, Address(f"cmon.{plan.zone}", near.port), files)),
        )
    )
    sys.stdout.flush()
