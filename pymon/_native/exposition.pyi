"""Parser of expositions of other programs. It works without the GIL."""

class Exposition:
    """An incremental parser of the text format 0.0.4. Time and memory are linear in the length of the text.

    There are two dialects. The loose one accepts the format's definition, as node_exporter does for text files. The
    strict one is what agents write: one family after the other, each with an optional HELP, a TYPE and samples, single
    spaces, no comments. Both refuse time stamps, duplicate labels, duplicate series in a family, a second TYPE or HELP,
    a bound (le, quantile) that is not a number or in the wrong place, and bytes that are not UTF-8.
    """

    def __init__(self, data: bytes, *, strict: bool = False, allow_repeated: bool = False) -> None:
        """allow_repeated: duplicate series are marked and not refused."""
    def run(self, max_bytes: int = ...) -> bool:
        """Parse about `max_bytes` more bytes, at least one line. Returns True at the end or if there is a `problem`.

        The GIL is released. Only one thread may use the object.
        """
    @property
    def problem(self) -> tuple[str, int, int, bytes, bytes, bytes] | None:
        """The problem of the text, None if there is none.

        It is (reason, line number, offset of the line, the line, the wrong part of it, name of the sample or family or
        b""). The reasons are newline, utf8, nul, line (strict only: malformed or in the wrong place), name, metadata
        (here the name is the keyword), help_twice, type_twice, kind, escape, label, label_twice, label_reserved,
        nothing, number, large, trailing, suffix, le and quantile (not a number), false_le and false_quantile (in the
        wrong place), family_twice, series_twice.
        """
    @property
    def steps(self) -> int:
        """The number of bytes and table slots looked at so far, for tests of the time bound."""
    @property
    def family_count(self) -> int:
        """The number of families, with those that have no samples."""
    @property
    def sample_count(self) -> int:
        """The number of samples, with duplicates."""
    @property
    def repeated(self) -> list[int]:
        """The numbers of the samples whose series is a duplicate."""
    def families(self, start: int = 0, stop: int = ...) -> list[tuple[bytes, bytes, bytes | None, int, int, bool]]:
        """Return a range of the families.

        Each is (name, kind, help as written or None, number of its first sample, number of samples, few digits). kind:
        counter, gauge, histogram, summary or untyped. In the strict dialect the samples of a family are consecutive.
        few digits: all values have the form -?D(.D)?(e[+-]dd)? where D is at most 40 digits.
        """
    def samples(self, start: int = 0, stop: int = ...) -> list[tuple[int, str, tuple[tuple[str, str], ...], str, bool]]:
        """Return a range of the samples.

        Each is (number of the family, suffix after its name, labels in order, value, duplicate). value: the text, with
        infinities and NaN in their usual spelling.
        """
    def rows(self, start: int = 0, stop: int = ...) -> list[tuple[bytes, bytes, bytes]]:
        """Return a range of the samples as written: (suffix, text between the braces, value)."""
    def openmetrics2(self, heads: list[bytes], start_ms: int = 0) -> bytes:
        """Return the exposition in OpenMetrics 2.0, without its last line.

        heads: the metadata lines of each family. start_ms: since when all counters, histograms and summaries count, in
        milliseconds since the epoch; 0: not known. Duplicate series are left out, and what the format does not allow
        (native/core/exposition_openmetrics2.h). ValueError: the text has not been parsed to its end, or has a problem.
        """
    def protobuf(self, start_ms: int = 0) -> bytes:
        """Return the exposition in protocol buffers: MetricFamily messages, each after its length.

        start_ms: when all counters, histograms and summaries were created, in milliseconds since the epoch; 0: not
        known. Duplicate series are left out. ValueError: the text has not been parsed to its end, or has a problem.
        """

    def labelled(self, family: int, front: bytes, taken: tuple[bytes, ...]) -> bytes:
        """Return the samples of a family with labels in front of their own. The dialect must be the strict one.

        Each sample has a newline before it. front: labels separated by commas. taken: names of these labels, at most 8;
        own labels with these names are renamed to exported_<name>, with more prefixes until the name is free. The GIL
        is released. Raises ValueError if the text is not parsed to its end.
        """

def read_labels(data: bytes, at: int) -> tuple[tuple[tuple[str, str], ...], int, tuple[str, bytes] | None]:
    """Parse labels in the loose dialect. at: the offset after the opening brace.

    Returns the labels, the offset after the closing brace, and (reason, wrong text) of a problem or None.
    """

def split_labels(labels: bytes) -> list[tuple[bytes, bytes]]:
    """Split the text between the braces of a parsed sample into (name, value). Values are quoted and escaped."""

def number(data: bytes) -> str | None:
    """Return a number of the loose dialect, with infinities and NaN in their usual spelling.

    Returns None if it is malformed or beyond the range of a double.
    """

def unescaped(text: bytes) -> str:
    """Remove the escapes of a parsed help or label value."""
