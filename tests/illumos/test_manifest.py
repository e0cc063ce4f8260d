"""deploy/pymon-agent.xml, as far as Linux can tell: the structure of a manifest of SMF, and flags that there are."""

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import option_table

MANIFEST = Path(__file__).parents[2] / "deploy" / "pymon-agent.xml"
# Of the DTD: what a service may hold, in this order.
ORDER = """
create_default_instance single_instance restarter dependency dependent method_context exec_method property_group
instance stability template
""".split()


@pytest.fixture(scope="module")
def service():
    bundle = ET.parse(MANIFEST).getroot()  # noqa: S314 - a file of ours
    assert (bundle.tag, bundle.get("type"), len(bundle)) == ("service_bundle", "manifest", 1)
    return bundle[0]


def test_it_is_a_manifest_of_one_service(service):
    text = MANIFEST.read_text()
    assert '<!DOCTYPE service_bundle SYSTEM "/usr/share/lib/xml/dtd/service_bundle.dtd.1">' in text
    assert (service.tag, service.get("type")) == ("service", "service")
    positions = [ORDER.index(child.tag) for child in service]
    assert positions == sorted(positions)
    assert len({child.get("name") for child in service.iter("dependency")}) == 2


def test_it_waits_for_network_and_local_file_systems(service):
    needed = {
        fmri.get("value")
        for dependency in service.iter("dependency")
        if dependency.get("grouping") == "require_all"
        for fmri in dependency.iter("service_fmri")
    }
    assert needed == {"svc:/milestone/network:default", "svc:/system/filesystem/local:default"}


def test_programs_are_found_and_privileges_are_few(service):
    variables = {item.get("name"): item.get("value") for item in service.iter("envvar")}
    assert variables["PATH"].split(":")[0] == "/usr/sbin"
    (credential,) = service.iter("method_credential")
    assert set(credential.get("privileges").split(",")) == {"basic", "file_dac_read", "file_dac_search"}


def test_the_program_is_what_is_watched(service):
    values = {item.get("name"): item.get("value") for item in service.iter("propval")}
    assert values["duration"] == "child"
    methods = {item.get("name"): item.get("exec") for item in service.iter("exec_method")}
    assert methods.keys() == {"start", "stop"}
    assert methods["stop"] == ":kill"


def test_every_flag_is_one_of_the_agent(service):
    (start,) = [item.get("exec") for item in service.iter("exec_method") if item.get("name") == "start"]
    program, command, *flags = shlex.split(start)
    assert (Path(program).name, command) == ("pymon", "agent")
    known = {option.name for option in option_table(COLLECTORS, "sunos5")}
    assert flags
    for flag in flags:
        match = re.fullmatch(r"--([a-z.-]+)=(\S+)", flag)
        assert match, flag
        assert match[1] in known
