r"""Whose a container is: the operator's ordered rules, of which the first that yields something decides.

A rule has one selector, and an `account` where the selector itself does not yield a name:

    - label: com.example.account                    the value of a runtime label
    - cgroup: /tenants/(?P<account>[^/]+)/.*        a group of a match of the whole cgroup path
    - slice: tenant-(?P<account>[^.]+)\.slice         a group of a match of a whole slice's name, the innermost first
    - namespace: true                               the namespace (Kubernetes, containerd, LXD project) itself
    - namespace: {shop: alice, blog: bob}           an account for each namespace named
    - zone: true                                    the owner of the zone
    - account: operations                           all that is left

What is yielded and is not the name of an account leaves the container unowned, for the operator to see: falling
through to a later rule could show it to somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .files import shown
from .model import Match

_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_EXPECTED = "1 to 63 of a-z 0-9 . _ - that do not begin with a sign"
_SELECTORS = ("label", "cgroup", "slice", "namespace", "zone")


class RuleError(ValueError):
    """A rule that is not valid: one line with the key and what was expected."""


def account_name(text: str) -> str | None:
    """The account that `text` names, in lower case; None if it cannot be the name of one."""
    # ASCII first: lower() turns some other letters (KELVIN SIGN) into ASCII ones.
    name = text.lower() if text.isascii() else text
    return name if _ACCOUNT.fullmatch(name) else None


@dataclass(frozen=True, slots=True)
class Subject:
    """What the rules look at. zone_owner: the account that an illumos zone belongs to."""

    match: Match
    labels: Mapping[str, str]
    namespace: str = ""
    zone_owner: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The owner of a container, None when it has none; `problem` is one line when a name was yielded and refused."""

    owner: str | None
    problem: str = ""


_Rule = Callable[[Subject], str]


class OwnerRules:
    """Ordered rules, as read from configuration."""

    def __init__(self, rules: object = (), key: str = "owners") -> None:
        """Rules of plain data, a list of mappings, called `key`; RuleError when one is not valid."""
        if not isinstance(rules, list | tuple):
            raise RuleError(f"{key}: expected a list of rules")
        self._rules = [_parse(rule, f"{key}[{index}]") for index, rule in enumerate(rules)]

    def decide(self, subject: Subject) -> Decision:
        """The owner. What an operator's `--container.pattern` captured comes before all rules."""
        if subject.match.account:
            return _checked(subject.match.account, subject, "container.pattern")
        for index, rule in enumerate(self._rules):
            if name := rule(subject):
                return _checked(name, subject, f"rule {index}")
        return Decision(None)


def _checked(name: str, subject: Subject, origin: str) -> Decision:
    account = account_name(name)
    if account is None:
        return Decision(None, f"{shown(subject.match.path)}: {origin} yields {shown(name)}, expected {_EXPECTED}")
    return Decision(account)


def _parse(rule: object, where: str) -> _Rule:
    if not isinstance(rule, Mapping):
        raise RuleError(f"{where}: expected a mapping with one of {', '.join(_SELECTORS)} or account")
    for name in rule:
        if name not in _SELECTORS and name != "account":
            raise RuleError(f"{where}: unknown key {name!r}, expected one of {', '.join(_SELECTORS)}, account")
    selectors = [name for name in _SELECTORS if name in rule]
    if len(selectors) > 1:
        raise RuleError(f"{where}: has {' and '.join(selectors)}, expected one of them")
    account = _fixed(rule["account"], f"{where}.account") if "account" in rule else ""
    if not selectors:
        if not account:
            raise RuleError(f"{where}: expected one of {', '.join(_SELECTORS)} or account")
        return lambda _: account
    selector = selectors[0]
    yields = _PARSERS[selector](rule[selector], f"{where}.{selector}", bool(account))
    return (lambda subject: account if yields(subject) else "") if account else yields


def _fixed(value: object, where: str) -> str:
    name = account_name(value) if isinstance(value, str) else None
    if name is None:
        raise RuleError(f"{where}: {value!r}, expected the name of an account: {_EXPECTED}")
    return name


def _label(value: object, where: str, _: bool) -> _Rule:
    if not isinstance(value, str) or not value:
        raise RuleError(f"{where}: {value!r}, expected the key of a runtime label")
    return lambda subject: subject.labels.get(value, "")


def _expression(value: object, where: str, has_account: bool) -> re.Pattern[str]:
    if not isinstance(value, str) or not value:
        raise RuleError(f"{where}: {value!r}, expected a regular expression")
    try:
        compiled = re.compile(value, re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        why = " ".join(str(error).split())
        raise RuleError(f"{where}: {value!r}: {why}, expected a regular expression") from error
    if not has_account and "account" not in compiled.groupindex:
        raise RuleError(f"{where}: {value!r}, expected a group (?P<account>…), or an account beside it")
    return compiled


def _captured(found: re.Match[str] | None) -> str:
    """The account in a match, "" without one; for a rule with a fixed account any text will do."""
    if found is None:
        return ""
    return (found["account"] or "") if "account" in found.re.groupindex else "matched"


def _cgroup(value: object, where: str, has_account: bool) -> _Rule:
    compiled = _expression(value, where, has_account)
    return lambda subject: _captured(compiled.fullmatch(subject.match.path))


def _slice(value: object, where: str, has_account: bool) -> _Rule:
    compiled = _expression(value, where, has_account)

    def rule(subject: Subject) -> str:
        for component in reversed(subject.match.path.split("/")):
            if component.endswith(".slice") and (name := _captured(compiled.fullmatch(component))):
                return name
        return ""

    return rule


def _namespace(value: object, where: str, _: bool) -> _Rule:
    if value is True:
        return lambda subject: subject.namespace
    if not isinstance(value, Mapping) or not value:
        raise RuleError(f"{where}: {value!r}, expected true, or a mapping of namespaces to accounts")
    accounts: dict[str, str] = {}
    for namespace, account in value.items():
        if not isinstance(namespace, str):
            raise RuleError(f"{where}: {namespace!r}, expected the name of a namespace")
        accounts[namespace] = _fixed(account, f"{where}.{namespace}")
    return lambda subject: accounts.get(subject.namespace, "")


def _zone(value: object, where: str, _: bool) -> _Rule:
    if value is not True:
        raise RuleError(f"{where}: {value!r}, expected true")
    return lambda subject: subject.zone_owner


_PARSERS: Mapping[str, Callable[[object, str, bool], _Rule]] = {
    "label": _label,
    "cgroup": _cgroup,
    "slice": _slice,
    "namespace": _namespace,
    "zone": _zone,
}
