"""The configurations in docs/owners.md and deploy/agent.yaml are valid, and do what is said beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pymon.cli.check_config import check
from pymon.containers.model import Details
from pymon.containers.owner import OwnerRules, Subject
from pymon.containers.recognise import Patterns, Recogniser

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "deploy" / "agent.yaml"
TEXT = (REPOSITORY / "docs" / "owners.md").read_text()
ID = "a" * 64
DOCKER = f"/system.slice/docker-{ID}.scope"


def blocks(text: str) -> dict[str, list[dict[str, object]]]:
    """The YAML of each section, without Compose's own."""
    found: dict[str, list[dict[str, object]]] = {}
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        for block in re.findall(r"^```yaml\n(.*?)^```$", body, re.MULTILINE | re.DOTALL):
            document = yaml.safe_load(block)
            if "services" not in document:
                found.setdefault(title, []).append(document)
    return found


SECTIONS = blocks(TEXT)


@pytest.mark.parametrize("title", SECTIONS)
def test_what_is_written_is_valid(title: str, tmp_path: Path) -> None:
    for document in SECTIONS[title]:
        file = tmp_path / "agent.yaml"
        file.write_text(yaml.safe_dump(document))
        assert check(file) == []


def owner(documents: list[dict[str, object]], path: str, details: Details | None = None) -> str | None:
    """Who owns a container by the configurations of a section together."""
    details = details or Details()
    patterns = [item["pattern"][0] for document in documents if isinstance(item := document.get("container"), dict)]
    match = Recogniser(Patterns(patterns)).recognise(path)
    assert match is not None
    rules = [rule for document in documents for rule in document.get("owners", ())]  # type: ignore[attr-defined]
    namespace = details.namespace or match.namespace
    return OwnerRules(rules).decide(Subject(match, details.labels, namespace)).owner


LABEL = Details(labels={"com.example.account": "acme"})

CASES = [
    ("Owners", f"/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope", LABEL, "operations"),
    ("Owners", DOCKER, LABEL, "acme"),
    ("Docker", DOCKER, LABEL, "acme"),
    ("Docker", DOCKER, None, None),
    ("Kubernetes", f"/kubepods.slice/cri-containerd-{ID}.scope", Details(namespace="shop"), "acme"),
    ("Kubernetes", f"/kubepods.slice/cri-containerd-{ID}.scope", Details(namespace="kube-system"), None),
    ("Any cgroup: patterns", "/tenants/acme/web", None, "acme"),
    ("Any cgroup: patterns", f"/x/tenants/acme/docker-{ID}.scope", None, None),
    ("LXD and Incus projects", "/lxc.payload.customer-acme_web", None, "acme"),
    ("LXD and Incus projects", "/lxc.payload.web", None, None),
    ("Zones", DOCKER, None, "operations"),
]


@pytest.mark.parametrize(("title", "path", "details", "expected"), CASES)
def test_what_is_written_does_what_is_said(
    title: str, path: str, details: Details | None, expected: str | None
) -> None:
    assert owner(SECTIONS[title], path, details) == expected


def test_slices() -> None:
    first, hyphen = SECTIONS["systemd slices"]
    assert owner([first], "/tenant.slice/tenant-acme.slice/acme-web.service") == "acme"
    nested = "/tenant.slice/tenant-a.slice/tenant-a-b.slice/web.service"
    assert owner([hyphen], nested) == "a-b"
    assert owner([hyphen], "/tenant.slice/tenant-a.slice/web.service") == "a"


def test_the_sample() -> None:
    assert check(SAMPLE) == []
    sample = [yaml.safe_load(SAMPLE.read_text())]
    rootless = f"/user.slice/user-1000.slice/user@1000.service/tenant.slice/tenant-bert.slice/libpod-{ID}.scope"
    assert owner(sample, rootless) == "operations"
    assert owner(sample, f"/tenant.slice/tenant-acme.slice/docker-{ID}.scope") == "acme"
    assert owner(sample, DOCKER, Details(namespace="blog")) == "bert"
    assert owner(sample, DOCKER, LABEL) is None
    # What is commented out is valid too.
    lines = [re.sub(r"^( *)# (?=- |[ a-z]+(?:\.[a-z]+)?:)", r"\1", line) for line in SAMPLE.read_text().splitlines()]
    whole = yaml.safe_load("\n".join(line for line in lines if not re.match(r" *(# |[A-Z])", line)))
    assert [next(iter(rule)) for rule in whole["owners"]] == [
        "cgroup", "cgroup", "slice", "namespace", "label", "zone", "account",
    ]  # fmt: skip


def test_users_slices() -> None:
    first, second = SECTIONS["Owners"][1:]
    rootless = f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"
    assert owner([first], rootless, LABEL) == "operations"
    assert owner([first], DOCKER, LABEL) == "acme"
    assert owner([second], rootless, LABEL) == "acme"
    assert owner([second], DOCKER, LABEL) == "acme"
