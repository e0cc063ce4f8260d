"""Whose a container is."""

import pytest
import yaml

from pymon.containers.model import Match
from pymon.containers.owner import OwnerRules, RuleError, Subject, account_name

PATH = "/tenant.slice/tenant-bob.slice/docker-x.scope"

# rules, labels, namespace, zone owner, the owner
DECISIONS = [
    ("[]", {}, "", "", None),
    ("[{label: who}]", {"who": "alice"}, "", "", "alice"),
    ("[{label: who}]", {"who": "Alice"}, "", "", "alice"),
    ("[{label: who}]", {"who": ""}, "", "", None),
    ("[{label: who}]", {}, "", "", None),
    ("[{label: who, account: ops}]", {"who": "any thing"}, "", "", "ops"),
    ("[{label: who, account: ops}]", {}, "", "", None),
    (r"[{cgroup: '/.*/tenant-(?P<account>[a-z]+)\.slice/.*'}]", {}, "", "", "bob"),
    (r"[{cgroup: 'tenant-(?P<account>[a-z]+)'}]", {}, "", "", None),
    ("[{cgroup: '/tenant.slice/.*', account: ops}]", {}, "", "", "ops"),
    (r"[{slice: 'tenant-(?P<account>[^.]+)\.slice'}]", {}, "", "", "bob"),
    (r"[{slice: '(?P<account>.+)\.slice'}]", {}, "", "", "tenant-bob"),
    ("[{slice: 'tenant.slice', account: ops}]", {}, "", "", "ops"),
    ("[{slice: '.*scope', account: ops}]", {}, "", "", None),
    ("[{namespace: true}]", {}, "shop", "", "shop"),
    ("[{namespace: true}]", {}, "", "", None),
    ("[{namespace: true, account: ops}]", {}, "shop", "", "ops"),
    ("[{namespace: {shop: carol}}]", {}, "shop", "", "carol"),
    ("[{namespace: {shop: carol}}]", {}, "blog", "", None),
    ("[{zone: true}]", {}, "", "dave", "dave"),
    ("[{zone: true}]", {}, "", "", None),
    ("[{account: ops}]", {}, "", "", "ops"),
    ("[{label: who}, {namespace: true}, {account: ops}]", {"who": "alice"}, "shop", "", "alice"),
    ("[{label: who}, {namespace: true}, {account: ops}]", {}, "shop", "", "shop"),
    ("[{label: who}, {namespace: true}, {account: ops}]", {}, "", "", "ops"),
]


@pytest.mark.parametrize(("rules", "labels", "namespace", "zone_owner", "owner"), DECISIONS)
def test_decisions(rules, labels, namespace, zone_owner, owner):
    subject = Subject(Match(PATH, "docker"), labels, namespace, zone_owner)
    decision = OwnerRules(yaml.safe_load(rules)).decide(subject)
    assert (decision.owner, decision.problem) == (owner, "")


@pytest.mark.parametrize(
    "name", ["a b", "-a", ".a", "_a", "a/b", "\u00e9", "\u212aelvin", "x" * 64, "a\n", '"} evil 1']
)
def test_a_name_that_is_none_leaves_it_unowned(name):
    rules = OwnerRules([{"label": "who"}, {"account": "ops"}])
    decision = rules.decide(Subject(Match(PATH, "docker"), {"who": name}))
    assert decision.owner is None
    assert decision.problem.startswith(f"'{PATH}': rule 0 yields '")
    assert "\n" not in decision.problem


def test_a_pattern_decides_before_all_rules():
    rules = OwnerRules([{"account": "ops"}])
    assert rules.decide(Subject(Match(PATH, "pattern", account="eve"), {})).owner == "eve"
    decision = rules.decide(Subject(Match(PATH, "pattern", account="no account"), {}))
    assert (decision.owner, decision.problem[:60]) == (None, f"'{PATH}': container.patte"[:60])


@pytest.mark.parametrize(
    ("name", "account"),
    [("alice", "alice"), ("A.b-C_9", "a.b-c_9"), ("9", "9"), ("x" * 63, "x" * 63), ("", None), ("a@b", None)],
)
def test_account_names(name, account):
    assert account_name(name) == account


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("alice", "owners: expected a list of rules"),
        ("{label: who}", "owners: expected a list of rules"),
        ("[who]", "owners[0]: expected a mapping with one of label, cgroup, slice, namespace, zone or account"),
        ("[{}]", "owners[0]: expected one of label, cgroup, slice, namespace, zone or account"),
        ("[{account: a}, {lable: x}]", "owners[1]: unknown key 'lable', expected one of label, cgroup, slice, "),
        ("[{label: a, zone: true}]", "owners[0]: has label and zone, expected one of them"),
        ("[{label: 3}]", "owners[0].label: 3, expected the key of a runtime label"),
        ("[{label: ''}]", "owners[0].label: '', expected the key of a runtime label"),
        ("[{cgroup: '('}]", "owners[0].cgroup: '(': missing ), unterminated subpattern at position 0, expected "),
        ("[{cgroup: /a}]", "owners[0].cgroup: '/a', expected a group (?P<account>…), or an account beside it"),
        ("[{cgroup: 7}]", "owners[0].cgroup: 7, expected a regular expression"),
        ("[{slice: a.slice}]", "owners[0].slice: 'a.slice', expected a group (?P<account>…), or an account beside it"),
        ("[{namespace: false}]", "owners[0].namespace: False, expected true, or a mapping of namespaces to accounts"),
        ("[{namespace: {}}]", "owners[0].namespace: {}, expected true, or a mapping of namespaces to accounts"),
        ("[{namespace: {a: '!'}}]", "owners[0].namespace.a: '!', expected the name of an account: 1 to 63 of "),
        ("[{namespace: {1: a}}]", "owners[0].namespace: 1, expected the name of a namespace"),
        ("[{zone: 1}]", "owners[0].zone: 1, expected true"),
        ("[{account: '!'}]", "owners[0].account: '!', expected the name of an account: 1 to 63 of "),
        ("[{account: 5}]", "owners[0].account: 5, expected the name of an account: 1 to 63 of "),
        ("[{account: null}]", "owners[0].account: None, expected the name of an account: 1 to 63 of "),
    ],
)
def test_rules_that_are_not_valid(rules, message):
    with pytest.raises(RuleError) as error:
        OwnerRules(yaml.safe_load(rules))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
