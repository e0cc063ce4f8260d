"""`/v1/account/metrics` in OpenMetrics: the types that families have at the agent, and what a parser takes."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

import pymon
from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.agent.scrape import Scrape
from pymon.exposition.negotiation import TEXTS, Format
from pymon.proxy.aggregate import Adder, Merger
from pymon.proxy.part import Part
from tests.agent.fixture_host import copy_host
from tests.exposition.openmetrics2 import read, unescaped
from tests.oracle import Series, parse

PLUGINS = b"""\
# TYPE wait histogram
wait_bucket{le="1"} 1
wait_bucket{le="2.5"} 2
wait_bucket{le="+Inf"} 3
wait_sum 4.5
wait_count 3
# TYPE age summary
age{quantile="0",of=",le=\\"7\\""} 1
age{quantile="1",of=",le=\\"7\\""} 9
age_sum{of=",le=\\"7\\""} 10
age_count{of=",le=\\"7\\""} 2
# HELP runs_total How "often", a \\\\ and a \\nline.
# TYPE runs_total counter
runs_total 5
# TYPE disk_info gauge
disk_info 1
# TYPE word untyped
word 7
"""
OTHER = b"""\
# TYPE runs gauge
runs 1
# TYPE wait_created gauge
wait_created 1
# TYPE word untyped
word 8
"""


def types(text: bytes) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text.decode(), re.MULTILINE))


def series(text: bytes) -> dict[Series, Fraction]:
    """Every series and its value. Bounds are numbers."""

    def same(name: str, value: str) -> str:
        return str(float(value)) if name in ("le", "quantile") else value

    return {
        (metric, frozenset((name, same(name, value)) for name, value in labels)): number
        for (metric, labels), number in parse(text).items()
    }


def of_openmetrics2(text: bytes) -> dict[Series, float]:
    found = {}
    for family in read(text).values():
        for (name, labels), value in family.series.items():
            found[name, frozenset((label, of) for label, of in labels if of)] = value
    return found


def both(make, *bodies: bytes) -> tuple[bytes, bytes]:
    """The same parts as text and as OpenMetrics, which are parsed and have the same series."""
    wholes = []
    for form in TEXTS:
        whole = make(form)
        for number, body in enumerate(bodies):
            whole.add(Part(f"u{number}", "n", body, ("s",)))
        wholes.append(whole.body() + form.end)
    text, openmetrics_text, older, newest = wholes
    assert older == openmetrics_text
    assert of_openmetrics2(newest) == {
        (metric, frozenset((name, unescaped(value)) for name, value in labels)): float(number)
        for (metric, labels), number in series(text).items()
    }
    of_text = series(text)
    of_openmetrics = series(openmetrics_text)
    assert bool(list(parse_openmetrics(openmetrics_text.decode()))) == bool(bodies)
    assert of_openmetrics.items() <= of_text.items()
    # Sums leave out families that clash. In OpenMetrics more do: a histogram has a sample with the suffix _created.
    assert of_openmetrics == of_text or make is MAKERS["by service"]
    return text, openmetrics_text


MAKERS = {
    "all": lambda form: Merger(form=form),
    "by service": lambda form: Adder("service", form=form),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("bodies", [(PLUGINS,), (PLUGINS, OTHER), (OTHER, PLUGINS), (PLUGINS, PLUGINS), ()])
def test_what_plugins_may_say(make, bodies: tuple[bytes, ...]) -> None:
    both(make, *bodies)


def test_openmetrics_2_has_one_line_for_a_histogram() -> None:
    whole = Merger(form=Format.OPENMETRICS_2_0_0)
    for uuid in ("u", "v"):
        whole.add(Part(uuid, "n", PLUGINS))
    text = whole.body().decode()
    assert text.startswith(
        "# TYPE wait histogram\n"
        'wait{uuid="u",node="n"} {count:3,sum:4.5,bucket:[1:1,2.5:2,+Inf:3]}\n'
        'wait{uuid="v",node="n"} {count:3,sum:4.5,bucket:[1:1,2.5:2,+Inf:3]}\n'
        "# TYPE age summary\n"
        'age{uuid="u",node="n",of=",le=\\"7\\""} {count:2,sum:10,quantile:[0:1,1:9]}\n'
    )
    assert '# HELP runs_total How \\"often\\", a' in text
    added = Adder("service", form=Format.OPENMETRICS_2_0_0)
    for uuid, more in (("u", b""), ("v", b'wait_bucket{le="1.5"} 2\n')):
        body = b"# TYPE wait histogram\n" + more + PLUGINS.partition(b"\n")[2].partition(b"# TYPE age")[0]
        added.add(Part(uuid, "n", body, ("s",)))
    assert added.body() == b'# TYPE wait histogram\nwait{service="s"} {count:6,sum:9,bucket:[1:2,2.5:4,+Inf:6]}\n'


def test_openmetrics_2_has_no_label_list_with_a_comma_at_its_end_and_no_counter_that_is_no_number() -> None:
    whole = Merger(form=Format.OPENMETRICS_2_0_0)
    whole.add(Part("u", "n", b'# TYPE a_total counter\na_total{b="1",} 2\na_total NaN\n'))
    assert whole.body() == b'# TYPE a_total counter\na_total{uuid="u",node="n",b="1"} 2\n'


def test_a_counter_without_its_suffix_is_unknown() -> None:
    whole = Merger(form=Format.OPENMETRICS_1_0_0)
    whole.add(Part("u", "n", b"# TYPE plain counter\nplain 6\n"))
    assert whole.body() == b'# TYPE plain unknown\nplain{uuid="u",node="n"} 6\n'


def test_types_of_plugins() -> None:
    _, text = both(MAKERS["all"], PLUGINS)
    assert types(text) == {
        "wait": "histogram", "age": "summary", "runs": "counter", "disk_info": "unknown",
        "word": "unknown",
    }  # fmt: skip
    assert b'le="1.0"' in text
    assert b'of=",le=\\"7\\""' in text
    assert b'# HELP runs How \\"often\\", a \\\\ and a \\nline.\n' in text


@pytest.mark.parametrize("host", ["v1", "v2"])
async def test_types_are_those_at_the_agent(host: str, tmp_path: Path) -> None:
    flags = [*copy_host(host, tmp_path).flags(), "--source=cgroupfs"]
    agent = build_agent(load_agent_options(flags, {}, COLLECTORS, version=pymon.__version__))
    agent.collection.start()
    told: dict[Format, list[bytes]] = {Format.TEXT_0_0_4: [], Format.OPENMETRICS_1_0_0: []}
    try:
        for container in agent.registry.containers():
            for form, bodies in told.items():
                lent = await agent.collection.scrape(Scrape("container", str(container.uuid), format=form))
                assert lent is not None
                bodies.append(bytes(lent.data))
                lent.release()
    finally:
        await agent.collection.stop()
    text, openmetrics = both(MAKERS["all"], *told[Format.TEXT_0_0_4])
    assert types(text) == types(b"".join(told[Format.TEXT_0_0_4]))
    assert types(openmetrics) == types(b"".join(told[Format.OPENMETRICS_1_0_0]))
