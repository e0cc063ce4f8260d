"""Whose a container is."""

from pathlib import Path

import pytest
import yaml

from pymon import account_name
from pymon.containers.model import Match
from pymon.containers.owner import Decision, OwnerRules, RuleError, Subject

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PATH = "/tenant.slice/tenant-bob.slice/docker-x.scope"

# rules, labels, namespace, zone owner, the owner
DECISIONS = [
    ("[]", {}, "", "", None),
    ("[{label: who}]", {"who": "alice"}, "", "", "alice"),
    ("[{label: who}]", {"who": "Alice"}, "", "", "alice"),
    ("[{label: who}]", {"who": "Al@Example.com"}, "", "", "al@example.com"),
    ("[{account: al@example.com}]", {}, "", "", "al@example.com"),
    ("[{label: who}]", {"who": ""}, "", "", None),
    ("[{label: who}]", {}, "", "", None),
    ("[{label: who, account: ops}]", {"who": "any thing"}, "", "", "ops"),
    ("[{label: who, account: ops}]", {}, "", "", None),
    (r"[{cgroup: '/.*/tenant-(?P<account>[a-z]+)\.slice/.*'}]", {}, "", "", "bob"),
    (r"[{cgroup: 'tenant-(?P<account>[a-z]+)'}]", {}, "", "", None),
    ("[{cgroup: '/tenant.slice/.*', account: ops}]", {}, "", "", "ops"),
    (r"[{slice: 'tenant-(?P<account>[^.]+)\.slice'}]", {}, "", "", "bob"),
    (r"[{slice: '(?P<account>.+)\.slice'}]", {}, "", "", "tenant"),
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


@pytest.mark.parametrize(
    ("rules", "owner"),
    [
        ("[{label: who}]", None),
        ("[{label: who}, {account: ops}]", "ops"),
        ("[{label: who, account: bob}, {account: ops}]", "ops"),
        ("[{namespace: true}]", None),
        ("[{namespace: {shop: carol}}, {account: ops}]", "ops"),
        ("[{label: who, rootless: true}]", "alice"),
        ("[{label: who, account: bob, rootless: true}]", "bob"),
        ("[{namespace: true, rootless: true}]", "shop"),
        ("[{namespace: {shop: carol}, rootless: true}]", "carol"),
        (r"[{slice: 'user-(?P<account>[0-9]+)\.slice'}]", "1000"),
    ],
)
def test_what_a_user_writes_chooses_no_owner_unless_a_rule_says_so(rules, owner):
    path = "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-x.scope"
    for unread in (False, True) if "rootless" not in rules else (False,):
        subject = Subject(Match(path, "podman", uid=1000), {"who": "alice"}, "shop", unread=unread)
        assert OwnerRules(yaml.safe_load(rules)).decide(subject).owner == owner


@pytest.mark.parametrize(
    "rule",
    ["{label: who, rootless: false}", "{label: who, rootless: 1}", "{cgroup: '/x', account: a, rootless: true}",
     "{account: a, rootless: true}", "{zone: true, rootless: true}"],
)  # fmt: skip
def test_rootless_stands_beside_what_files_say(rule):
    with pytest.raises(RuleError, match=r"^owners\[0\]\.rootless: .*, expected true beside label or namespace$"):
        OwnerRules([yaml.safe_load(rule)])


@pytest.mark.parametrize(("rules", "labels", "namespace", "zone_owner", "owner"), DECISIONS)
def test_decisions(rules, labels, namespace, zone_owner, owner):
    subject = Subject(Match(PATH, "docker"), labels, namespace, zone_owner)
    decision = OwnerRules(yaml.safe_load(rules)).decide(subject)
    assert (decision.owner, decision.problem) == (owner, "")


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/t.slice/t-tenant-a.slice/app/t-tenant-b.slice/docker-x.scope", "a"),
        ("/t.slice/t-tenant-a.slice/t-tenant-a-b.slice/docker-x.scope", "a"),
        ("/t.slice/t-tenant-a.slice/docker-x.scope", "a"),
        ("/t-tenant-a.slice/t-tenant-b.slice/t-tenant-c.slice/docker-x.scope", "a"),
        ("/app/t-tenant-b.slice/docker-x.scope", "b"),
        ("/t.slice/docker-x.scope", None),
        ("/t-tenant-a.scope/t-tenant-b.slice", "b"),
    ],
)
def test_of_slices_inside_one_another_the_outermost_match_decides(path, owner):
    rules = OwnerRules([{"slice": r"t-tenant-(?P<account>[^.]+)\.slice"}])
    assert rules.decide(Subject(Match(path, "docker"), {})) == Decision(owner)


def test_the_outermost_match_of_all_slice_rules_decides():
    rules = OwnerRules([
        {"slice": r"b\.slice", "account": "b"},
        {"namespace": True},
        {"slice": r"a\.slice", "account": "a"},
        {"slice": r"(?P<account>[a-z])\.slice"},
    ])  # fmt: skip

    def owner(path, namespace=""):
        return rules.decide(Subject(Match(path, "docker"), {}, namespace)).owner

    assert owner("/a.slice/app/b.slice/docker-x.scope") == "a"
    assert owner("/b.slice/app/a.slice/docker-x.scope") == "b"
    assert owner("/c.slice/app/b.slice/docker-x.scope") == "c"
    assert owner("/a.slice/docker-x.scope") == "a"
    assert owner("/a.slice/docker-x.scope", "shop") == "shop"
    assert owner("/a.slice/app/b.slice/docker-x.scope", "shop") == "a"


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/tenant.slice/tenant-acme.slice/docker-x.scope", "acme"),
        ("/tenant.slice/tenant-acme.slice/tenant-acme-x.slice/docker-x.scope", "acme"),
        ("/system.slice/mallorys.service/tenant-acme.slice/docker-x.scope", "operations"),
        ("/system.slice/docker-y.scope/tenant.slice/tenant-acme.slice/docker-x.scope", "operations"),
        ("/tenant.slice/tenant-mallory.slice/m.service/tenant-acme.slice/docker-x.scope", "operations"),
        ("/user.slice/user-1000.slice/user@1000.service/tenant-acme.slice/docker-x.scope", "operations"),
        ("/user.slice/user-1000.slice/session-1.scope/docker-x.scope", "operations"),
        ("/system.slice/docker-x.scope", None),
    ],
)
def test_with_the_configuration_to_begin_with_no_delegated_cgroup_is_another_accounts(path, owner):
    rules = OwnerRules(yaml.safe_load((DEPLOY / "agent.yaml").read_text())["owners"])
    assert rules.decide(Subject(Match(path, "docker"), {})).owner == owner


def test_an_outer_match_that_names_nobody_leaves_nothing_to_an_inner_one():
    rules = OwnerRules([{"slice": r"t(?:-tenant-(?P<account>[^.]+))?\.slice"}])
    assert rules.decide(Subject(Match("/t.slice/app/t-tenant-b.slice/docker-x.scope", "docker"), {})).owner is None
    rules = OwnerRules([{"slice": r"t(-(?P<account>.))?\.slice"}, {"slice": r"t\.slice", "account": "ops"}])
    assert rules.decide(Subject(Match("/t.slice/t-b.slice/docker-x.scope", "docker"), {})).owner == "ops"
    rules = OwnerRules([{"slice": r"t-(?P<account>[^.]+)\.slice"}, {"account": "ops"}])
    assert rules.decide(Subject(Match("/t-!.slice/t-b.slice/docker-x.scope", "docker"), {})).owner is None


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
    [("alice", "alice"), ("A.b-C_9", "a.b-c_9"), ("9", "9"), ("x" * 63, "x" * 63), ("a@B", "a@b"), ("", None)],
)
def test_account_names(name, account):
    assert account_name.folded(name) == account


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
        ("[{namespace: {a: '!'}}]", "owners[0].namespace.a: '!', expected the name of an account: 1 to 63 letters"),
        ("[{namespace: {1: a}}]", "owners[0].namespace: 1, expected the name of a namespace"),
        ("[{zone: 1}]", "owners[0].zone: 1, expected true"),
        ("[{account: '!'}]", "owners[0].account: '!', expected the name of an account: 1 to 63 letters"),
        ("[{account: 5}]", "owners[0].account: 5, expected the name of an account: 1 to 63 letters"),
        ("[{account: null}]", "owners[0].account: None, expected the name of an account: 1 to 63 letters"),
    ],
)
def test_rules_that_are_not_valid(rules, message):
    with pytest.raises(RuleError) as error:
        OwnerRules(yaml.safe_load(rules))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", [{"label": "who"}, {"namespace": True}, {"namespace": {"shop": "a"}}])
def test_what_has_not_been_read_decides_nothing(rule):
    """Else a container would be somebody else's for as long as its description hangs."""
    before, after = {"cgroup": "/t/(?P<account>[^/]+)"}, {"account": "ops"}
    rules = OwnerRules([before, rule, after])
    unread = Subject(Match("/t/b", "docker"), {}, "", "", unread=True)
    assert rules.decide(unread) == Decision("b"), "a path is known"
    unread = Subject(Match("/docker/x", "docker"), {}, "shop", "", unread=True)
    assert rules.decide(unread) == Decision(None)
    assert [step.yielded for step in rules.explain(unread)] == ["", "", "", "ops"]
    assert not any(step.decides for step in rules.explain(unread))
    assert rules.decide(Subject(Match("/docker/x", "docker"), {})) == Decision("ops")
