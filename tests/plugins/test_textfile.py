import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from pymon.agent.workers import NodeWorker
from pymon.exposition.families import parse_text, write
from pymon.plugins.textfile import MAX_FILE_BYTES, Textfile

NODE_EXPORTER = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")


def collected(*directories):
    source = Textfile([str(directory) for directory in directories])
    source.collect()
    return source


def lines(source):
    """The exposition less what is said of the files."""
    families = [family for family in source.families if not family.name.startswith("node_textfile_")]
    return write(families, openmetrics=False).decode()


def scrape_error(source):
    (family,) = (family for family in source.families if family.name == "node_textfile_scrape_error")
    return family.samples[0].value


def mtimes(source):
    return {
        dict(sample.labels)["file"]: sample.value
        for family in source.families
        if family.name == "node_textfile_mtime_seconds"
        for sample in family.samples
    }


def test_files_called_prom_are_read_and_no_others(tmp_path):
    (tmp_path / "a.prom").write_text("a 1\n")
    (tmp_path / "b.prom.tmp").write_text("b 1\n")
    (tmp_path / "c.txt").write_text("c 1\n")
    (tmp_path / ".d.prom").write_text("# HELP d Hidden.\nd 1\n")
    os.utime(tmp_path / "a.prom", ns=(0, 1_700_000_000_999_999_999))
    source = collected(tmp_path)
    assert lines(source) == (
        f"# HELP d Hidden.\n# TYPE d untyped\nd 1\n# HELP a Metric read from {tmp_path}/a.prom\n# TYPE a untyped\na 1\n"
    )
    assert mtimes(source)[f"{tmp_path}/a.prom"] == "1700000000"
    assert scrape_error(source) == "0"
    assert not source.problems


def test_one_bad_file_costs_that_file(tmp_path):
    (tmp_path / "bad.prom").write_text("a 1\nb{ 2\n")
    (tmp_path / "good.prom").write_text("# HELP c C.\nc 1\n")
    (tmp_path / "stamped.prom").write_text("d 1 1500000000000\n")
    source = collected(tmp_path)
    assert lines(source) == "# HELP c C.\n# TYPE c untyped\nc 1\n"
    assert scrape_error(source) == "1"
    assert list(mtimes(source)) == [f"{tmp_path}/good.prom"]
    assert [problem.reason for problem in source.problems] == ["parse", "parse"]
    assert str(source.problems[0]).startswith(f"{tmp_path}/bad.prom: line 2: ")


def test_what_is_no_file_neither_blocks_nor_fails_the_others(tmp_path):
    os.mkfifo(tmp_path / "pipe.prom")
    (tmp_path / "directory.prom").mkdir()
    (tmp_path / "gone.prom").symlink_to("nowhere")
    with (tmp_path / "large.prom").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    (tmp_path / "good.prom").write_text("# HELP c C.\nc 1\n")
    source = collected(tmp_path)
    assert lines(source) == "# HELP c C.\n# TYPE c untyped\nc 1\n"
    assert sorted(problem.reason for problem in source.problems) == ["eisdir", "enoent", "size", "type"]


def test_a_missing_directory_is_an_error(tmp_path):
    source = collected(tmp_path / "nowhere")
    assert scrape_error(source) == "1"
    assert [problem.reason for problem in source.problems] == ["enoent"]
    assert not mtimes(source)


def test_directories_may_be_several_and_patterns(tmp_path):
    for name in ("one", "two", ".three", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.prom").write_text(f'# HELP a A.\na{{at="{name}"}} 1\n')
    source = collected(tmp_path / "[^o]*", tmp_path / "o?e")
    assert [line for line in lines(source).splitlines() if line[0] == "a"] == [
        'a{at=".three"} 1',
        'a{at="two"} 1',
        'a{at="one"} 1',
    ]


def test_a_second_collection_forgets_the_first(tmp_path):
    (tmp_path / "a.prom").write_text("a\n")
    source = collected(tmp_path)
    (tmp_path / "a.prom").write_text("a 2\n")
    source.collect()
    assert "\na 2\n" in lines(source)
    assert scrape_error(source) == "0"
    assert not source.problems


def test_a_file_cannot_speak_for_the_collector(tmp_path):
    (tmp_path / "a.prom").write_text("node_textfile_scrape_error 5\nnode_textfile_mtime_seconds 1\n")
    source = collected(tmp_path)
    assert scrape_error(source) == "0"
    assert list(mtimes(source)) == [f"{tmp_path}/a.prom"]
    assert [problem.reason for problem in source.problems] == ["duplicate", "duplicate"]


def test_files_that_do_not_agree_are_an_error_that_is_logged_once(tmp_path, caplog):
    (tmp_path / "e.prom").write_text('# HELP job x\njob{name="a"} 1\n')
    (tmp_path / "f.prom").write_text('# HELP job y\njob{name="b"} 2\nother 1\n')
    source = collected(tmp_path)
    assert scrape_error(source) == "1"
    assert [problem.reason for problem in source.problems] == ["help"]
    assert len(mtimes(source)) == 2
    assert "other 1\n" in lines(source)
    source.collect()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"text file: {tmp_path}/f.prom: job: expected the help that the family has elsewhere")
    ]
    (tmp_path / "f.prom").unlink()
    source.collect()
    assert scrape_error(source) == "0"
    (tmp_path / "f.prom").write_text("# HELP job y\njob 2\n")
    source.collect()
    assert len(caplog.records) == 2, "it is new again"


def test_a_series_that_is_there_again_is_an_error_whatever_the_order_of_its_labels(tmp_path):
    (tmp_path / "a.prom").write_text(
        '# HELP e E.\ne{x="1",y="2"} 1\ne{y="2",x="1"} 2\ne{x="1",y="2"} 3\ng{x=""} 1\ng 2\n'
    )
    (tmp_path / "b.prom").write_text('# HELP e E.\ne{z="",y="2",x="1"} 4\n')
    source = collected(tmp_path)
    assert [line for line in lines(source).splitlines() if line[0] == "e"] == ['e{x="1",y="2"} 1']
    assert scrape_error(source) == "1"
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in source.problems] == [
        "a.prom: e: {y='2', x='1'} was there before, and 1 more",
        "a.prom: g: {} was there before",
        "b.prom: e: {x='1', y='2', z=''} was there before",
    ]


def test_problems_of_one_collection_are_logged_up_to_a_limit(tmp_path, caplog):
    for number in range(25):
        (tmp_path / f"{number:02}.prom").write_text("a\n")
    source = collected(tmp_path)
    assert len(source.problems) == 25
    assert len(caplog.records) == 11
    assert caplog.records[-1].getMessage() == "text file: 15 more problems"


def test_lines_with_other_labels_each_do_not_grow_with_their_square(tmp_path):
    (tmp_path / "a.prom").write_text("".join(f'e{{x{number}="1"}} 1\n' for number in range(20_000)))
    (tmp_path / "b.prom").write_text("".join(f'f{{x{number}="1"}} 1\n' for number in range(500)))
    source = collected(tmp_path)
    assert [problem.reason for problem in source.problems] == ["parse"]
    assert "expected the same labels in its lines, got 20000 different ones" in str(source.problems[0])
    assert next(family.name for family in source.families) == "f"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a 1 x" + " " * 40_000 + "y\n", id="blanks behind a word"),
        pytest.param("a 1" + " " * 8_000_000 + "x\n", id="blanks"),
        pytest.param("# HELP a" + " " * 8_000_000 + "\\\n", id="a help"),
        pytest.param("a{" + 'x="1",' * 1_000_000 + "\n", id="labels"),
        pytest.param("a " + "1" * 8_000_000 + "\n", id="digits"),
    ],
)
def test_a_hostile_file_is_refused_in_little_time(tmp_path, text):
    """The first took 11 s."""
    (tmp_path / "a.prom").write_text(text)
    started = time.process_time()
    source = collected(tmp_path)
    assert time.process_time() - started < 1
    assert scrape_error(source) == "1"
    assert len(str(source.problems[0])) < 300


def test_it_runs_in_a_worker_of_the_agent(tmp_path):
    (tmp_path / "a.prom").write_text("a 1\n")
    (tmp_path / "b.prom").write_text("b\n")
    worker = NodeWorker(Textfile([str(tmp_path)]))
    worker.collect()
    assert worker.error is None
    assert [problem.reason for problem in worker.problems] == ["parse"]
    assert "a" in {family.name for family in worker.source.families}


# --- beside node_exporter

DIRECTORIES = {
    "different help": {
        "a.prom": '# HELP e A.\n# TYPE e counter\ne{f="a"} 1\n',
        "b.prom": '# HELP e B.\n# TYPE e counter\ne{f="b"} 2\n',
    },
    "help in the first file": {
        "a.prom": '# HELP e A.\n# TYPE e counter\ne{f="a"} 1\n',
        "b.prom": '# TYPE e counter\ne{f="b"} 2\n',
    },
    "help in the second file": {"a.prom": 'e{f="a"} 1\n', "b.prom": '# HELP e B.\ne{f="b"} 2\n'},
    "no help": {"a.prom": 'e{f="a"} 1\n', "b.prom": 'e{f="b"} 2\n'},
    "empty help": {"a.prom": '# HELP e\ne{f="a"} 1\n', "b.prom": '# HELP e \ne{f="b"} 2\n'},
    "same help": {"a.prom": '# HELP e E.\ne{f="a"} 1\n', "b.prom": '# HELP e E.\ne{f="b"} 2\n'},
    "different types": {
        "a.prom": '# HELP e E.\n# TYPE e counter\ne{f="a"} 1\n',
        "b.prom": '# HELP e E.\n# TYPE e gauge\ne{f="b"} 2\n',
    },
    "duplicates": {"a.prom": 'e{f="a",g="b"} 1\ne{g="b",f="a"} 2\n', "b.prom": "f 1\n", "c.prom": "f 2\n"},
    "uneven labels": {"a.prom": 'e{c="1",a="2"} 1\nf 1\ne 2\ne{b="3"} 3\n'},
    "uneven between files": {"a.prom": '# HELP e E.\ne{a="1"} 1\n', "b.prom": '# HELP e E.\ne{b="1"} 1\n'},
    "histograms": {
        "a.prom": "# TYPE h histogram\n"
        'h_bucket{le="1000000",a="x"} 5\nh_bucket{a="x",le="0.50"} 1\nh_count{a="x"} 7\nh_sum{a="x"} 2.5\n'
        'h_bucket{le="1.0"} 2\nh_bucket{le="+Inf"} 3\nh_count 3\n'
    },
    "summaries": {"a.prom": '# TYPE s summary\ns{quantile="0.50"} 1\ns{quantile="0.1"} 1\ns{x="1",quantile="0.1"} 4\n'},
    "numbers": {"a.prom": "a +Inf\nb infinity\nc -inf\nd nan\ne +5\nf .5\ng 5.\nh 1e-7\ni 08\n"},
    "comments and blanks": {"a.prom": '# c\n#\n\n \t e{ a = "1" ,\tb="2", }-Inf\n#HELP e E.\n # TYPE f\nf{}\t1\n'},
    "types in capitals": {"a.prom": "# TYPE e GAUGE\ne 1\n"},
    "escapes": {"a.prom": '# HELP e a \\\\ b \\n c "d"\ne{a="\\"\\\\\\n ä"} 1\n'},
    "nothing": {"a.prom": "", "b.prom": "# HELP x y\n", "c": "c 1\n"},
    "a time stamp": {"a.prom": "e 1 1500000000000\n", "b.prom": "f 1\n"},
    **{
        f"bad: {text!a}": {"a.prom": text, "b.prom": "good 1\n"}
        for text in (
            "e 1", "e\n", "e 1\r\n", "e 0x10\n", "e 1_0\n", "e 1e999\n", "e 1 2 3\n", 'e{a="1",a="2"} 1\n', "e{,} 1\n",
            'e{a="1"\n', 'e{a="\\x"} 1\n', "e{a=1} 1\n", "5e 1\n", "e 1\n# TYPE e gauge\n", "# HELP e a\\d\ne 1\n",
            "# TYPE e stateset\ne 1\n", "# HELP e a\n# HELP e b\n", '# TYPE h histogram\nh_bucket{le="x"} 1\n', "# c",
            '{"a"} 1\n', "-\n",
        )
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def node_exporter(tmp_path_factory):
    """Asks node_exporter about a directory: the bytes of its exposition."""
    if NODE_EXPORTER is None:
        pytest.skip("prometheus-node-exporter is not installed")
    link = tmp_path_factory.mktemp("node_exporter") / "directory"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [NODE_EXPORTER, f"--web.listen-address={address}", "--collector.disable-defaults",
               "--collector.textfile", f"--collector.textfile.directory={link}"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield lambda directory: asked(address, link, directory)
        finally:
            process.terminate()


def asked(address, link, directory):
    link.unlink(missing_ok=True)
    link.symlink_to(directory)
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                return answer.read()
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "node_exporter does not answer"
            time.sleep(0.05)


def comparable(data):
    """Families as sets of numbers, less those that node_exporter has of itself."""
    own = re.compile(r"go_|process_|promhttp_|node_exporter_|node_scrape_collector_")
    return {
        family.name: (
            family.kind,
            family.help,
            {(s.suffix, frozenset(s.labels), repr(float(s.value))) for s in family.samples},
        )
        for family in parse_text(data)
        if not own.match(family.name)
    }


LEFT_OUT = ("different help", "help in the first file", "help in the second file", "different types", "duplicates")
"""Samples are left out, here and there; Debian's node_exporter says nothing of it."""


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directory_says_here_what_it_says_to_node_exporter(name, node_exporter, tmp_path):
    directory = tmp_path / "files"
    directory.mkdir()
    for file, text in DIRECTORIES[name].items():
        (directory / file).write_bytes(text.encode())
    theirs = comparable(node_exporter(directory))
    ours = comparable(write(collected(directory).families, openmetrics=False))
    if name in LEFT_OUT:
        assert ours["node_textfile_scrape_error"][2] == {("", frozenset(), "1.0")}
        del ours["node_textfile_scrape_error"], theirs["node_textfile_scrape_error"]
    assert relative(ours) == relative(theirs)


def relative(families):
    """In order, and files by the last part of their paths: the directory has another name there."""
    ordered = {
        name: (kind, help, sorted((suffix, sorted(labels), value) for suffix, labels, value in samples))
        for name, (kind, help, samples) in sorted(families.items())
    }
    return re.sub(r"/[^ ',\"]*/([^/ ',\"]*\.prom)", r"\1", repr(ordered))
