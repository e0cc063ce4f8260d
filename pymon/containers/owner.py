r"""Owner rules: the operator's ordered rules, of which the first that yields a name decides who owns a container.

A rule has one selector. It also has an `account` if the selector does not yield a name itself:

    - label: com.example.account                    the value of a runtime label
    - cgroup: /tenants/(?P<account>[^/]+)/.*        a group in a match of the whole cgroup path
    - slice: tenant-(?P<account>[^.]+)\.slice       a group in a match of the whole name of a slice
    - namespace: true                               the namespace (Kubernetes, containerd, LXD project) itself
    - namespace: {shop: alice, blog: bob}           an account for each namespace that is listed
    - zone: true                                    the owner of the zone
    - account: operations                           a fixed account, for every container

Rules by label and by namespace skip containers below a user's slice: the user writes the files that both come from.
With `rootless: true` beside the selector, a rule does not skip them.

A container can be in nested slices. The outermost slice that any slice rule matches decides, and the first rule that
matches this slice yields the name. Inner slices do not count, because a user to whom a cgroup is delegated chooses the
names of the cgroups inside it.

If a rule yields text that is not a valid account name, the container has no owner, and the operator sees why. Trying
the next rule instead could show the container to another account.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

from pymon import account_name

from .files import shown
from .model import Match

_SELECTORS = ("label", "cgroup", "slice", "namespace", "zone")
_OF_FILES = ("label", "namespace")
"""Selectors of what a runtime's files say."""


class RuleError(ValueError):
    """A rule is not valid. The message is one line with the key and what was expected."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The input of the owner rules.

    zone_owner: the account that an illumos zone belongs to, or "".
    unread: the runtime's files have not been read yet, so labels and namespace are not known.
    """

    match: Match
    labels: Mapping[str, str]
    namespace: str = ""
    zone_owner: str = ""
    unread: bool = False


class _UnreadError(Exception):
    """A rule needs labels or a namespace that have not been read yet."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The owner of a container.

    owner: name of an account, or None without an owner.
    problem: one line about a yielded name that is not valid, or "".
    """

    owner: str | None
    problem: str = ""


class Step(NamedTuple):
    """One rule in the explanation of an owner.

    rule: the rule as configured, on one line.
    yielded: the name that the rule yields, "" if it does not apply.
    decides: whether this rule decides the owner.
    """

    rule: str
    yielded: str
    decides: bool


_Rule = Callable[[Subject], str]


@dataclass(frozen=True, slots=True)
class _Slice:
    """A rule for slices. account: the fixed owner, "" if the pattern captures the owner's name."""

    pattern: re.Pattern[str]
    account: str = ""

    def matches(self, name: str) -> bool:
        return self.pattern.fullmatch(name) is not None

    def named(self, name: str) -> str:
        """Return the account of a slice that matches, "" if the pattern captured none."""
        return self.account or _captured(self.pattern.fullmatch(name))


def _slices(subject: Subject) -> Iterator[str]:
    """Return the names of the slices that contain a container, the outermost first."""
    return (name for name in subject.match.path.split("/") if name.endswith(".slice"))


class OwnerRules:
    """The owner rules of a configuration, in order."""

    def __init__(self, rules: object = (), key: str = "owners") -> None:
        """rules: a list of mappings, as read from YAML. key: its name in messages. Raises RuleError."""
        for error in rule_errors(rules, key):
            raise RuleError(error)
        plain = cast("Sequence[Mapping[str, object]]", rules)
        self._rules = [_parse(rule, f"{key}[{index}]") for index, rule in enumerate(plain)]
        self._texts = [", ".join(f"{name}: {_plain(value)}" for name, value in rule.items()) for rule in plain]

    def decide(self, subject: Subject) -> Decision:
        """Return the owner. The account that an operator's `--container.pattern` captured precedes all rules.

        The owner is None if a rule needs data that has not been read yet. Trying the next rule instead could give the
        container to another account until the data has been read.
        """
        if subject.match.account:
            return _checked(subject.match.account, subject, "container.pattern")
        index, name = self._first(subject)
        return _checked(name, subject, f"rule {index}") if name else Decision(None)

    def _first(self, subject: Subject) -> tuple[int, str]:
        """Return the index of the rule that decides and the name that it yields; (0, "") if none decides."""
        for index, rule in enumerate(self._rules):
            if not isinstance(rule, _Slice):
                try:
                    found = index, rule(subject)
                except _UnreadError:
                    break
            elif any(map(rule.matches, _slices(subject))):
                found = self._outermost(subject)
            else:
                continue
            if found[1]:
                return found
        return 0, ""

    def _outermost(self, subject: Subject) -> tuple[int, str]:
        """Return the index and the name of the slice rule that decides.

        Of the rules that match the outermost slice that any rule matches, this is the first that yields a name. If
        none of them yields one, the name is "".
        """
        rules = [(index, rule) for index, rule in enumerate(self._rules) if isinstance(rule, _Slice)]
        for name in _slices(subject):
            found = [(index, rule.named(name)) for index, rule in rules if rule.matches(name)]
            if found:
                return next((decision for decision in found if decision[1]), found[0])
        return 0, ""

    def explain(self, subject: Subject) -> list[Step]:
        """Return a step for the container patterns and for each rule, including rules after the one that decides."""
        index, name = self._first(subject)
        deciding = 0 if subject.match.account else index + 1 if name else None
        origins = ["container.pattern, group account", *(f"rule {i}, {text}" for i, text in enumerate(self._texts))]
        yielded = [subject.match.account or "", *(_yielded(rule, subject) for rule in self._rules)]
        return [Step(*step, at == deciding) for at, step in enumerate(zip(origins, yielded, strict=True))]


def _yielded(rule: _Rule | _Slice, subject: Subject) -> str:
    """Return the name that a rule yields without regard to other rules; "" if it yields none or needs unread data."""
    if isinstance(rule, _Slice):
        return next((rule.named(name) for name in _slices(subject) if rule.matches(name)), "")
    try:
        return rule(subject)
    except _UnreadError:
        return ""


def _read(subject: Subject) -> Subject:
    """Return the subject. Raises _UnreadError if its labels and namespace have not been read."""
    if subject.unread:
        raise _UnreadError
    return subject


def rule_errors(rules: object, key: str = "owners") -> Iterator[str]:
    """Yield one line for each rule that is not valid. rules: as read from YAML. key: its name in the lines."""
    if not isinstance(rules, list | tuple):
        yield f"{key}: expected a list of rules"
        return
    for index, rule in enumerate(rules):
        try:
            _parse(rule, f"{key}[{index}]")
        except RuleError as error:
            yield str(error)


def _plain(value: object) -> str:
    """Return a value of a rule as YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {account}" for name, account in value.items()) + "}"
    return "true" if value is True else str(value)


def _checked(name: str, subject: Subject, origin: str) -> Decision:
    account = account_name.folded(name)
    if account is None:
        yielded = f"{shown(subject.match.path)}: {origin} yields {shown(name)}"
        return Decision(None, f"{yielded}, expected {account_name.EXPECTED}")
    return Decision(account)


def _parse(rule: object, where: str) -> _Rule | _Slice:
    if not isinstance(rule, Mapping):
        raise RuleError(f"{where}: expected a mapping with one of {', '.join(_SELECTORS)} or account")
    for name in rule:
        if name not in (*_SELECTORS, "account", "rootless"):
            expected = f"expected one of {', '.join(_SELECTORS)}, account, rootless"
            raise RuleError(f"{where}: unknown key {name!r}, {expected}")
    selectors = [name for name in _SELECTORS if name in rule]
    if len(selectors) > 1:
        raise RuleError(f"{where}: has {' and '.join(selectors)}, expected one of them")
    if "rootless" in rule and (rule["rootless"] is not True or not set(_OF_FILES) & set(selectors)):
        raise RuleError(f"{where}.rootless: {rule['rootless']!r}, expected true beside {' or '.join(_OF_FILES)}")
    account = _fixed(rule["account"], f"{where}.account") if "account" in rule else ""
    if not selectors:
        if not account:
            raise RuleError(f"{where}: expected one of {', '.join(_SELECTORS)} or account")
        return lambda _: account
    selector = selectors[0]
    yields = _PARSERS[selector](rule[selector], f"{where}.{selector}", bool(account))
    if isinstance(yields, _Slice):
        return replace(yields, account=account)
    if selector in _OF_FILES and "rootless" not in rule:
        yields = _of_the_system(yields)
    return (lambda subject: account if yields(subject) else "") if account else yields


def _of_the_system(rule: _Rule) -> _Rule:
    """Return a rule that yields nothing for containers below users' slices."""
    return lambda subject: "" if subject.match.uid is not None else rule(subject)


def _fixed(value: object, where: str) -> str:
    name = account_name.folded(value) if isinstance(value, str) else None
    if name is None:
        raise RuleError(f"{where}: {value!r}, expected the name of an account: {account_name.EXPECTED}")
    return name


def _label(value: object, where: str, _: bool) -> _Rule:
    if not isinstance(value, str) or not value:
        raise RuleError(f"{where}: {value!r}, expected the key of a runtime label")
    return lambda subject: _read(subject).labels.get(value, "")


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
    """Return the group `account` of a match, "" without a match.

    An expression without this group belongs to a rule with a fixed account, which only needs text that is not empty.
    """
    if found is None:
        return ""
    return (found["account"] or "") if "account" in found.re.groupindex else "matched"


def _cgroup(value: object, where: str, has_account: bool) -> _Rule:
    compiled = _expression(value, where, has_account)
    return lambda subject: _captured(compiled.fullmatch(subject.match.path))


def _slice(value: object, where: str, has_account: bool) -> _Slice:
    return _Slice(_expression(value, where, has_account))


def _namespace(value: object, where: str, _: bool) -> _Rule:
    if value is True:
        return lambda subject: _read(subject).namespace
    if not isinstance(value, Mapping) or not value:
        raise RuleError(f"{where}: {value!r}, expected true, or a mapping of namespaces to accounts")
    accounts: dict[str, str] = {}
    for namespace, account in value.items():
        if not isinstance(namespace, str):
            raise RuleError(f"{where}: {namespace!r}, expected the name of a namespace")
        accounts[namespace] = _fixed(account, f"{where}.{namespace}")
    return lambda subject: accounts.get(_read(subject).namespace, "")


def _zone(value: object, where: str, _: bool) -> _Rule:
    if value is not True:
        raise RuleError(f"{where}: {value!r}, expected true")
    return lambda subject: subject.zone_owner


_PARSERS: Mapping[str, Callable[[object, str, bool], _Rule | _Slice]] = {
    "label": _label,
    "cgroup": _cgroup,
    "slice": _slice,
    "namespace": _namespace,
    "zone": _zone,
}
