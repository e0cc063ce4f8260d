"""``pymon up``: run agent, proxy, directory and authorities on one machine, and print how to use them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import logging
import os
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

import pymon
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import AgentOptions, agent_errors, agent_options
from pymon.agent.options import option_table as agent_table
from pymon.cli.agent import serve_agent
from pymon.cli.cert import issue_client
from pymon.cli.new_files import NewFiles, put_file
from pymon.cli.next_step import create_account, program
from pymon.cli.prometheus import http_sd_job, own_jobs, triton_sd_job
from pymon.cli.site import Site, write_site
from pymon.cli.waiting import Waiting, bold
from pymon.config import (
    ADDRESS,
    Address,
    ConfigError,
    Option,
    Settings,
    load,
    option,
    options_of,
    parse_yaml,
    setting,
    values_of,
)
from pymon.data_dir import default_data_dir
from pymon.data_lock import locked
from pymon.directory.authority import CERTIFICATE_FILE, SERVER_DAYS, Authority, is_issued_by
from pymon.directory.data_dir import AUTHORITY_FOLDER, DIRECTORY_FILE, MACHINES_FOLDER
from pymon.directory.directory import Directory, open_directory
from pymon.directory.machines import Machines, machines_trust
from pymon.directory.model import DamagedError
from pymon.dns.listen import bind
from pymon.dns.listen import close as close_sockets
from pymon.dns.options import DnsOptions
from pymon.front.names import zone_errors
from pymon.front.proxy import serve_proxy
from pymon.log import setup
from pymon.peer import plain_address
from pymon.proxy.build import DIRECTORY_COPY, Proxy
from pymon.proxy.options import ZONE, ProxyOptions
from pymon.service.ending import stop_on_signals
from pymon.service.listen import listening
from pymon.service.loop import run as run_loop
from pymon.service.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pymon.config import Listen

_log = logging.getLogger("pymon.up")

ACCOUNT = "admin"
"""The first account. It is an operator, so it can also read the node and containers without an owner."""

NODE = "local"

AGENT_FILE = "agent.yaml"
"""Name of the configuration file in the data directory, which is used without --config.file."""

_FROM_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104

_RENEW = dt.timedelta(days=30)
_CLIENT_DAYS = 3650

_SAY = """\
pymon {version} measures this machine. Stop it with Ctrl-C.

  page                 http://{agent}/
  everything           curl http://{agent}{path}
  in a terminal        {program} top --url http://{agent}
  which containers     curl http://{agent}/v1/containers
  as a tenant          curl --cacert {ca} --cert {cert} --key {key} https://{proxy}/v1/sd
  one container        the same with https://{proxy}/v1/UUID/metrics
  names                dig @{dns_host} -p {dns_port} cmon.{zone}
  another account      {program} account create NAME --data-dir {data_dir}
                       {program} cert create NAME --out DIR --zone {zone} --proxy {proxy} --data-dir {data_dir}
  configuration        {config}
  owner of one         {program} containers --config.file {config} --explain NAME

Next, in another terminal, create a tenant; each command prints the next one:

  {next_step}

Prometheus:

  scrape_configs:
{http_sd}
or, where <uuid>.cmon.{zone} and cmon.{zone} resolve, by a resolver that asks {dns} for {zone}:

  scrape_configs:
{triton_sd}
and, for the operator, of the agent and the proxy themselves (deploy/prometheus-rules.yml has alerts):

{own}
"""

_CONFIG = """\
# Made and read by `pymon up`. Each flag that `pymon up --help` shows is a key here. docs/owners.md has more on owners.

owners:
  # What users run in their own slices is the operator's: a user writes his containers' labels himself.
  - cgroup: /user\\.slice/user-{others}\\.slice/.*
    account: {account}
  # Who may start containers of the system says whose they are: docker run --label pymon.account=NAME
  - label: pymon.account
    rootless: true  # below the slice of the user who runs this, which the rule above leaves out
  # On illumos a zone is its owner's.
  - zone: true
"""


@dataclass(frozen=True, slots=True)
class _Plan:
    """The settings of `pymon up`, and the paths of the files that `_prepare` creates."""

    agent: AgentOptions
    data_dir: Path
    config: Path
    zone: str = setting(ZONE)
    proxy_address: Address = option("proxy.listen-address", ADDRESS, Address("127.0.0.1", 9163), "Address of the "
        "proxy, with TLS.")  # fmt: skip
    dns_address: Address = option("dns.listen-address", ADDRESS, Address("127.0.0.1", 9153), "Address to answer DNS "
        "on, UDP and TCP.")  # fmt: skip
    telemetry_address: Address = option("proxy.telemetry-address", ADDRESS, Address("127.0.0.1", 9165), "Address of "
        "the proxy's own metrics.")  # fmt: skip

    @property
    def client(self) -> Path:
        """The directory with the certificate of the first account."""
        return self.data_dir / "clients" / ACCOUNT

    @property
    def proxy_host(self) -> str:
        """The host under which this machine reaches the proxy. The proxy's certificate is valid for it."""
        return plain_address(_reachable(self.proxy_address).host)

    @property
    def tls(self) -> Path:
        """The directory with the certificate of the proxy."""
        return self.data_dir / "tls"

    def dns(self) -> DnsOptions:
        """Return the options of the DNS server."""
        try:
            own = str(ipaddress.ip_address(self.proxy_host))
        except ValueError:
            own = "127.0.0.1"
        return DnsOptions(listen_addresses=(self.dns_address,), proxy_addresses=(own,))

    def proxy(self) -> ProxyOptions:
        """Return the options of the proxy."""
        return ProxyOptions(
            listen_addresses=(self.proxy_address,),
            telemetry_address=self.telemetry_address,
            tls_cert=self.tls / "server-cert.pem",
            tls_key=self.tls / "server-key.pem",
            data_dir=self.data_dir,
            directory=str(self.data_dir / DIRECTORY_FILE),
            zone=self.zone,
            drain_seconds=0.0,  # there is no other proxy to which clients could go
            log_level=self.agent.log_level,
            log_format=self.agent.log_format,
        )


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code."""
    plan = _load(argv, os.environ)
    setup(plan.agent.log_level, plan.agent.log_format)
    _check_free(plan)
    with locked(plan.data_dir, "up"):
        try:
            with Waiting() as waiting:
                waiting.say("looking at the directory, the authorities and the certificates in the data directory")
                _prepare(plan)
        except DamagedError:
            if not (plan.data_dir / DIRECTORY_COPY).exists():  # the proxy serves from this copy
                raise
        run_loop(_run(plan, lambda: _load(argv, os.environ).agent))
    _log.info("ended")
    return 0


def option_table() -> tuple[Option, ...]:
    """Return the options of `pymon up`."""
    return *agent_table(COLLECTORS), *options_of(_Plan)


def settings_errors(settings: Settings) -> Iterator[str]:
    """Yield one line for each error in the settings of `pymon up`."""
    yield from zone_errors(DnsOptions(), settings["zone"])
    yield from agent_errors(settings)
    if settings["web.config.file"] is not None:
        yield "web.config.file: expected none, as the proxy here asks the agent without TLS or passwords"
    if settings["join"] is not None:
        yield "join: expected none, as the agent here has its proxy"


def _load(argv: Sequence[str], environ: Mapping[str, str]) -> _Plan:
    settings = _settings(argv, environ)
    data_dir = (settings["data-dir"] or default_data_dir(environ, os.geteuid())).absolute()
    config = settings["config.file"]
    if config is None:
        config = data_dir / AGENT_FILE
        if config.exists():
            settings = _settings([*argv, f"--config.file={config}"], environ)
        else:
            owners = parse_yaml(_first_config(), config)["owners"]
            settings = Settings({**settings.values, "owners": tuple(owners)}, settings.given)
    for error in settings_errors(settings):
        raise ConfigError(error)
    agent = agent_options(settings, COLLECTORS)
    return _Plan(agent=agent, data_dir=data_dir, config=config, **values_of(_Plan, settings))


def _settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    return load(
        option_table(),
        argv,
        environ,
        program="pymon up",
        description="Run everything on this machine and say where to look.",
        version=f"pymon {pymon.__version__}",
    )


def _first_config() -> bytes:
    """Return the content of the configuration file that the first start writes.

    Its rules give the containers in users' slices to the first account, whatever their labels say. If `pymon up` is not
    run by root, the slice of the user who runs it is excepted.
    """
    uid = os.geteuid()
    others = "[0-9]+" if uid == 0 else rf"(?!{uid}\.)[0-9]+"
    return _CONFIG.format(others=others, account=ACCOUNT).encode()


def _check_free(plan: _Plan) -> None:
    """Bind all addresses and close them again. Raises OSError, which names the address, if one cannot be bound.

    This is called before any file is written.
    """
    with contextlib.ExitStack() as close:
        for flag, address in (
            *(("web.listen-address", address) for address in plan.agent.listen_addresses),
            ("proxy.listen-address", plan.proxy_address),
            ("proxy.telemetry-address", plan.telemetry_address),
        ):
            with _told(flag):
                close.enter_context(listening(address))
        with _told("dns.listen-address"):
            for pair in bind(plan.dns_address):
                close.callback(close_sockets, pair)


@contextlib.contextmanager
def _told(flag: str) -> Iterator[None]:
    """Add the flag that chooses another address to an OSError."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; --{flag} chooses another address") from None


# --- the first start -----------------------------------------------------------------------------


def _prepare(plan: _Plan) -> None:
    """Create what does not exist yet: directory, authorities, the proxy's certificate, the first account and its files.

    Raises DamagedError if the directory is damaged.
    """
    plan.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # If there is an authority, there was a directory. A new, empty directory must not replace one that was lost.
    first = not (plan.data_dir / AUTHORITY_FOLDER).exists()
    with open_directory(str(plan.data_dir / DIRECTORY_FILE), create=first) as directory:
        tenants = Authority.load_or_create(plan.data_dir / AUTHORITY_FOLDER)
        machines = Machines.load_or_create(plan.data_dir / MACHINES_FOLDER).authority
        directory.set_authority(tenants.der)
        _server_certificate(plan, machines, tenants)
        trust = machines_trust(plan.data_dir / MACHINES_FOLDER, tenants)
        if not plan.client.exists():
            if ACCOUNT not in directory.snapshot().accounts_by_name:
                directory.create_account(ACCOUNT, operator=True)
            _client_certificate(plan, directory, tenants, trust)
        elif (file := plan.client / CERTIFICATE_FILE).exists() and file.read_bytes() != trust:
            put_file(file, trust, 0o644)
    if plan.config == plan.data_dir / AGENT_FILE and not plan.config.exists():
        with NewFiles(plan.data_dir, {AGENT_FILE: (_first_config(), 0o644)}):
            pass


def _server_certificate(plan: _Plan, machines: Authority, tenants: Authority) -> None:
    """Issue the proxy's certificate, unless there is one that can be kept.

    A certificate is kept if it covers all names of the proxy, is valid for 30 more days, has its key, and was issued by
    the machines' authority. One that an old authority for both sides has issued is kept too, because some clients may
    only trust that authority. Raises ConfigError if the existing file is not a certificate.
    """
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
        issuers = [machines.certificate, *([tenants.certificate] if tenants.issued_for_both_sides else [])]
        if have >= set(names) and lasts and any(is_issued_by(certificate, issuer) for issuer in issuers):
            return
    certificate_pem, key_pem = machines.issue_server(names, SERVER_DAYS)
    # Certificate and key are only usable together, so both are replaced.
    file.unlink(missing_ok=True)
    key_file.unlink(missing_ok=True)
    with NewFiles(plan.tls, {key_file.name: (key_pem, 0o600), file.name: (certificate_pem, 0o644)}):
        pass


def _names(zone: str, proxy_host: str) -> list[str]:
    machine = socket.gethostname().lower()
    names = [f"cmon.{zone}", f"*.cmon.{zone}", "localhost", "127.0.0.1", "::1", proxy_host.partition("%")[0]]
    return list(dict.fromkeys([*names, machine] if machine.isascii() else names))


def _client_certificate(plan: _Plan, directory: Directory, tenants: Authority, trust: bytes) -> None:
    proxy = Address(plan.proxy_host, plan.proxy_address.port or 9163)
    issue_client(directory, tenants, trust, ACCOUNT, plan.client, _CLIENT_DAYS, "pymon up", plan.zone, proxy)


# --- running -------------------------------------------------------------------------------------


async def _run(plan: _Plan, read: Callable[[], AgentOptions]) -> None:
    stop = stop_on_signals()
    agent_listens: asyncio.Future[Address] = asyncio.get_running_loop().create_future()

    def agent_started(_: AgentOptions, addresses: tuple[Listen, ...]) -> None:
        _log_addresses("agent", addresses)
        agent_listens.set_result(next(address for address in addresses if isinstance(address, Address)))

    bound: dict[str, Address] = {}

    def proxy_started(name: str, addresses: tuple[Listen, ...]) -> None:
        _log_addresses(name, addresses)
        if isinstance(addresses[0], Address):
            bound[name] = addresses[0]
        if bound.keys() == {"proxy", "telemetry", "dns"}:
            _say(plan, agent_listens.result(), bound)

    async def front() -> None:
        address = _reachable(await agent_listens)
        with contextlib.suppress(DamagedError), open_directory(str(plan.data_dir / DIRECTORY_FILE)) as directory:
            _register(directory, f"http://{address}")
        options = plan.proxy()
        await serve_proxy(Proxy(options), options, plan.dns(), stop, proxy_started)

    async def agent() -> None:
        await serve_agent(plan.agent, None, stop, agent_started, read)
        agent_listens.cancel()  # it may have been stopped before it listened

    async with together() as group:
        group.create_task(agent())
        group.create_task(front())


def _log_addresses(part: str, addresses: tuple[Listen, ...]) -> None:
    for address in addresses:
        _log.info("listening", extra={"fields": {"part": part, "address": str(address)}})


def _reachable(address: Address) -> Address:
    """Return the address at which this machine reaches a listener: loopback for a wildcard address."""
    return Address(_FROM_HERE.get(address.host, address.host), address.port)


def _register(directory: Directory, url: str) -> None:
    """Add this machine's agent to the directory, or update its URL."""
    known = directory.snapshot().nodes.get(NODE)
    if known is None:
        directory.create_node(NODE, url)
    elif known.url != url:
        directory.set_node(NODE, url=url)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _owner_label(agent: AgentOptions) -> str:
    """Return the label whose value the agent's owner rules use as the name of the account, "" for none."""
    return next((rule["label"] for rule in agent.owners if "label" in rule and "account" not in rule), "")


def _say(plan: _Plan, agent: Address, bound: Mapping[str, Address]) -> None:
    """Print how to use the parts, and write the file for other commands.

    bound: the addresses on which the parts of the proxy listen, by name: proxy, telemetry and dns.
    """
    proxy, dns = bound["proxy"], bound["dns"]
    files = {
        "ca_file": str(plan.client / CERTIFICATE_FILE),
        "cert_file": str(plan.client / f"{ACCOUNT}-cert.pem"),
        "key_file": str(plan.client / f"{ACCOUNT}-key.pem"),
    }
    near = Address(plan.proxy_host, proxy.port)
    write_site(plan.data_dir, Site(plan.zone, near, _owner_label(plan.agent)))
    said = _SAY.format(
        version=pymon.__version__,
        agent=_reachable(agent),
        path=plan.agent.telemetry_path,
        ca=shlex.quote(files["ca_file"]),
        cert=shlex.quote(files["cert_file"]),
        key=shlex.quote(files["key_file"]),
        proxy=near,
        data_dir=shlex.quote(str(plan.data_dir)),
        config=shlex.quote(str(plan.config)),
        program=program(),
        next_step=create_account("acme", plan.data_dir),
        own=_indented(own_jobs(_reachable(agent), plan.agent.telemetry_path, _reachable(bound["telemetry"]))),
        zone=plan.zone,
        dns=_reachable(dns),
        dns_host=_reachable(dns).host,
        dns_port=dns.port,
        http_sd=_indented(http_sd_job(near, files)),
        triton_sd=_indented(triton_sd_job(ACCOUNT, plan.zone, Address(f"cmon.{plan.zone}", near.port), files)),
    )
    # What is not indented are headings.
    lines = (line if line.startswith((" ", "\n")) else bold(line.rstrip("\n"), sys.stdout) + "\n"
             for line in said.splitlines(keepends=True))  # fmt: skip
    sys.stdout.write("".join(lines))
    sys.stdout.flush()
