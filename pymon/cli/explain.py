"""Explanation of a container's owner: what each owner rule yields, and which rule decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymon.agent.build_zones import OWNED_BY_ZONE
from pymon.agent.source import source_of
from pymon.cli.table import fields, printable, table
from pymon.containers.owner import OwnerRules, Subject

if TYPE_CHECKING:
    from pymon.agent.options import AgentOptions
    from pymon.containers.identity import Container


_MAX_LABELS = 100
"""The most labels of a container that are shown; their number is not limited."""


def explain(options: AgentOptions, container: Container) -> str:
    """Return the explanation of a container's owner as text for a terminal."""
    default = OWNED_BY_ZONE if source_of(options) == "kstat" else ()
    rules = OwnerRules(options.owners or default)
    subject = container.subject
    if subject is None:
        raise AssertionError("a container is made with what its owner is decided by")
    steps = rules.explain(subject)
    rows = [(step.rule, f"{step.yielded or 'nothing'}{' (decides)' if step.decides else ''}") for step in steps]
    labels = sorted(container.labels.items())
    about = fields([
        ("container", container.name),
        ("uuid", str(container.uuid)),
        ("cgroup", container.id),
        ("runtime", container.runtime),
        ("namespace", container.namespace),
        *((f"label {printable(key)}", text) for key, text in labels[:_MAX_LABELS]),
        *([("more labels", str(len(labels) - _MAX_LABELS))] if len(labels) > _MAX_LABELS else ()),
    ])  # fmt: skip
    return f"{about}\n{table(('RULE', 'YIELDS'), rows)}\n{_verdict(rules, subject, container)}"


def _verdict(rules: OwnerRules, subject: Subject, container: Container) -> str:
    decision = rules.decide(subject)
    if decision.owner is not None:
        lines = [f"owner {decision.owner}, if the proxy's directory has an account of that name or UUID"]
    elif decision.problem:
        lines = ["no owner: what decides is no account's name", decision.problem]
    else:
        lines = ["no owner: no rule yields anything; only operators see the container (docs/owners.md)"]
    lines += [problem for problem in container.problems if problem != decision.problem]
    return "".join(f"{printable(line)}\n" for line in lines)
