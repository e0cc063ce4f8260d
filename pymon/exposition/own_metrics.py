"""What a program says of itself, through prometheus_client.

All counters and histograms begin with the process, so formats that tell it say since when they count.

Values are read when they are written, so that counting is a dictionary's work: prometheus_client's own counter costs
4 µs each time.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest as text_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pymon.exposition.own_text import in_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

    from pymon.exposition.histogram import Histogram
    from pymon.exposition.negotiation import Format

Values: TypeAlias = "Mapping[tuple[Any, ...], float]"
"""Values by what the labels say, in the order of the labels."""


class _Family(Collector):
    """A family in a registry. read: makes it, with or without its values."""

    def __init__(self, read: Callable[[bool], Metric]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return (self._read(False),)

    def collect(self) -> Iterable[Metric]:
        return (self._read(True),)


class _Plain(Collector):
    """A gauge or a counter, which it also writes itself: prometheus_client takes 4 µs for a sample."""

    def __init__(self, kind: str, name: str, help: str, labels: tuple[str, ...], values: Callable[[], Values]) -> None:
        self._counts = kind == "counter"
        self._name, self._help, self._labels, self._values = name, help, labels, values
        self._sample = name + ("_total" if self._counts else "")
        self._starts: dict[tuple[Any, ...], str] = {}
        self._heads = [
            f"# HELP {shown} {said}\n# TYPE {shown} {kind}\n"
            for shown, said in ((self._sample, _escaped(help, "")), (name, _escaped(help, '"')))
        ]

    def describe(self) -> Iterable[Metric]:
        return (self._empty(),)

    def collect(self) -> Iterable[Metric]:
        family = self._empty()
        for key, value in self._sorted():
            family.add_metric([str(part) for part in key], value)
        return (family,)

    def write(self, *, openmetrics: bool) -> bytes:
        """Return the family's text, the same as that of prometheus_client."""
        values = self._sorted()
        before = self._starts
        self._starts = {key: before[key] if key in before else self._start(key) for key, _ in values}
        starts = self._starts
        lines = (f"{starts[key]} {floatToGoString(value)}\n" for key, value in values)  # type: ignore[no-untyped-call]
        return (self._heads[openmetrics] + "".join(lines)).encode()

    def _sorted(self) -> list[tuple[tuple[Any, ...], float]]:
        # A copy in one step, as other threads may count meanwhile.
        return sorted(dict(self._values()).items())

    def _empty(self) -> GaugeMetricFamily | CounterMetricFamily:
        make = CounterMetricFamily if self._counts else GaugeMetricFamily
        return make(self._name, self._help, labels=self._labels)

    def _start(self, key: tuple[Any, ...]) -> str:
        pairs = sorted(zip(self._labels, map(str, key), strict=True))
        block = ",".join(f'{label}="{_escaped(value, chr(34))}"' for label, value in pairs)
        return f"{self._sample}{{{block}}}" if block else self._sample


def _escaped(text: str, quote: str) -> str:
    """Return text with backslashes, newlines and this character, if any, escaped."""
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace(quote, f"\\{quote}") if quote else text


class _Process(Collector):
    """What prometheus_client says of the process, and what Go's library adds.

    own: says how many descriptors are in other tables.
    """

    def __init__(self, own: OwnMetrics) -> None:
        self._process = ProcessCollector(registry=None)
        self._own = own

    def collect(self) -> Iterable[Metric]:
        for family in self._process.collect():
            if family.name == "process_open_fds":
                family.samples = [
                    one._replace(value=one.value + self._own.more_descriptors()) for one in family.samples
                ]
            yield family
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        yield GaugeMetricFamily(
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes.",
            value=2**64 - 1 if limit == resource.RLIM_INFINITY else limit,
        )


def _process_start_seconds() -> float:
    """Return when the process began, in seconds since the epoch; now where the system does not say it."""
    samples = (sample for family in ProcessCollector(registry=None).collect() for sample in family.samples)
    return next((one.value for one in samples if one.name == "process_start_time_seconds"), time.time())


Samples: TypeAlias = "dict[str, list[tuple[str, dict[str, str], float]]]"
"""Name, labels and value of each sample, by family."""


def _key(name: str, labels: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


class _Summed(Collector):
    """The families of a registry, with the samples of other processes added. Families that it lacks are left out."""

    def __init__(self, registry: CollectorRegistry, others: Iterable[Samples]) -> None:
        self._registry = registry
        self._others = others

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            more: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[str, dict[str, str], float]] = {}
            for samples in self._others:
                for name, labels, value in samples.get(family.name, ()):
                    key = _key(name, labels)
                    more[key] = name, labels, value + (more[key][2] if key in more else 0.0)
            own = family.samples
            family.samples = []
            for sample in own:
                found = more.pop(_key(sample.name, sample.labels), None)
                family.add_sample(sample.name, sample.labels, sample.value + (found[2] if found else 0.0))
            for name, labels, value in more.values():
                family.add_sample(name, labels, value)
            yield family


class OwnMetrics:
    """A registry with the metrics of the process. Families are written in the order in which they are added.

    others: returns the samples of other processes, which are added to those of this one. more_descriptors: returns the
    number of open descriptors of threads that have a table of their own.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.others: Callable[[], Iterable[Samples]] = tuple
        self.more_descriptors: Callable[[], int] = int
        self._families: list[Collector] = []
        self._register(_Process(self))
        self._start_ms = round(1000 * _process_start_seconds())

    def build_info(self, **labels: str) -> None:
        """Add pymon_build_info with these labels."""
        said = {tuple(labels.values()): 1.0}
        self.gauges("pymon_build_info", "Constant 1, labelled with what is running.", tuple(labels), lambda: said)

    def gauge(self, name: str, help: str, value: Callable[[], float | None]) -> None:
        """Add a gauge without labels. It is absent while its value is None."""

        def values() -> Values:
            found = value()
            return {} if found is None else {(): found}

        self.gauges(name, help, (), values)

    def gauges(self, name: str, help: str, labels: tuple[str, ...], values: Callable[[], Values]) -> None:
        """Add a gauge with labels. values: called at each scrape, returns values by the values of the labels."""
        self._add("gauge", name, help, labels, values)

    def counters(self, name: str, help: str, labels: tuple[str, ...], values: Callable[[], Values]) -> None:
        """Add a counter with labels; the name is without ``_total``."""
        self._add("counter", name, help, labels, values)

    def histograms(
        self, name: str, help: str, labels: tuple[str, ...], histograms: Mapping[tuple[str, ...], Histogram]
    ) -> None:
        """Add a histogram for each value of the labels."""

        def read(filled: bool) -> Metric:
            family = HistogramMetricFamily(name, help, labels=labels)
            for key, histogram in sorted(dict(histograms).items()) if filled else ():
                family.add_metric(key, histogram.buckets(), histogram.sum_seconds)
            return family

        self._register(_Family(read))

    def _add(self, kind: str, name: str, help: str, labels: tuple[str, ...], values: Callable[[], Values]) -> None:
        self._register(_Plain(kind, name, help, labels, values))

    def _register(self, family: Collector) -> None:
        self.registry.register(family)
        self._families.append(family)

    def render(self, form: Format, names: frozenset[str] | None = None) -> bytes:
        """Return the exposition of all, or of the samples with these names, without the last line of the format."""
        latest = openmetrics_latest if form.openmetrics else text_latest
        others = list(self.others())
        body: bytes
        if names is None and not others:
            body = b"".join(
                family.write(openmetrics=form.openmetrics)
                if isinstance(family, _Plain)
                else latest(family).removesuffix(form.end)
                for family in self._families
            )
        else:
            registry = self.registry if names is None else self.registry.restricted_registry(names)
            body = latest(_Summed(registry, others) if others else registry)  # type: ignore[arg-type]  # has collect
        return in_format(body.removesuffix(form.end), form, self._start_ms)

    def samples(self) -> Samples:
        """Return all samples, for the `others` of another process."""
        return {
            family.name: [(sample.name, sample.labels, sample.value) for sample in family.samples]
            for family in self.registry.collect()
        }
