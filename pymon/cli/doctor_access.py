"""The lines of ``pymon doctor`` about what this user can read: runtimes, namespaces, node collectors and owners.

These functions do not raise for missing access: they yield a line with the problem, and a line with the remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymon.agent.container_log import ownership
from pymon.agent.look import registry_of
from pymon.config import ConfigError
from pymon.containers.access import FIX, daemon_answers, reads_namespaces, runtime_access
from pymon.sources.errors import SourceError
from pymon.sources.node import CMON_COLLECTORS, NODE_COLLECTORS, NodeContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymon.agent.options import AgentOptions
    from pymon.sources.node import Collector

Line = tuple[str, str]

_DENIED = frozenset(("eacces", "eperm"))
_MISSING = frozenset(("enoent", "nodata", "eopnotsupp"))
_PRESSURE_FIX = "start the kernel (4.20 or newer) with psi=1"


def owners(options: AgentOptions) -> Iterator[Line]:
    """Yield the number of containers, and how many of them have no owner."""
    try:
        with registry_of(options) as registry:
            containers = registry.containers()
    except ConfigError as error:
        yield "containers", f"cannot be listed: {error}"
        return
    yield "containers", ownership(containers)
    if any(container.owner is None for container in containers):
        yield _fix(
            "pymon containers --explain NAME shows what each owner rule makes of one; docs/owners.md has the rules"
        )
        if not options.owners:
            yield _fix("there are no owner rules: --config.file names a file that has them")


def runtimes(options: AgentOptions) -> Iterator[Line]:
    """Yield what pymon can read about the containers of each runtime."""
    found = runtime_access(options.rootfs, options.runtime_paths)
    if not found:
        yield "runtimes", "none found"
        yield _fix("--container.pattern or --container.all says what to measure")
    for access in found:
        if access.problem:
            yield f"runtime {access.runtime}", f"names and labels cannot be read: {access.problem}"
            yield _fix(FIX)
        else:
            yield f"runtime {access.runtime}", f"can be read: {access.known}"
            if access.lacking:
                yield f"runtime {access.runtime}", f"no labels: {access.lacking}"


def daemons(options: AgentOptions) -> Iterator[Line]:
    """Yield whether the daemons of runtimes answer that know what is in no file."""
    for answer in daemon_answers(options.rootfs, options.runtime_paths):
        name = f"daemon {answer.runtime}"
        if answer.version:
            yield name, f"answers on {answer.socket}: {answer.version}"
        elif answer.missing:
            yield name, f"its files alone describe containers: {answer.problem}"
        else:
            yield name, f"exit codes, restarts and labels cannot be asked for: {answer.problem}"
            yield _fix("let pymon connect to the socket, as root may; it is asked in CRI")


def namespaces(options: AgentOptions) -> Iterator[Line]:
    """Yield whether pymon can read the network namespaces of other users' processes."""
    if reads_namespaces(options.procfs):
        yield "network namespaces", "can be read"
    else:
        yield "network namespaces", "those of other users' processes cannot be read: their containers have no network"
        yield _fix(FIX)


def collectors(options: AgentOptions) -> Iterator[Line]:
    """Yield whether each node collector works. Each enabled collector collects once."""
    context = NodeContext(options.procfs, options.sysfs, options.rootfs)
    for item in CMON_COLLECTORS if options.dialect == "cmon" else NODE_COLLECTORS:
        name = f"collector {item.name}"
        if item.name not in options.collectors:
            yield name, f"off; --collector.{item.name} switches it on"
            continue
        error, answers = _ask(item, context)
        if error is None:
            yield name, "answers"
            continue
        if error.reason == "nodata" and not answers:
            yield name, f"nothing to collect: {str(error).removeprefix(f'{item.name}: ')}"
            continue
        yield name, f"answers in part: {error}" if answers else f"does not answer: {error}"
        yield _fix(_collector_fix(item.name, error))


def _ask(item: Collector, context: NodeContext) -> tuple[SourceError | None, bool]:
    """Collect once. Return the first error, or None, and whether there were values in spite of it."""
    source = item.make(context)
    try:
        source.collect()
    except SourceError as error:
        return error, False
    finally:
        source.close()
    return next(iter(source.problems), None), True


def _collector_fix(name: str, error: SourceError) -> str:
    if error.reason in _DENIED:
        return FIX
    if name == "pressure":
        return f"{_PRESSURE_FIX}, or leave it out with --no-collector.{name}"
    if error.reason in _MISSING:
        return f"none where this machine has no such thing; --no-collector.{name} leaves it out"
    if error.reason == "timeout":
        return "mend or unmount the file system that does not answer"
    return f"look at the file; --no-collector.{name} leaves it out"


def _fix(text: str) -> Line:
    return "", f"fix: {text}"
