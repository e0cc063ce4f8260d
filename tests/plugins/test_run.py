import os
import signal
import threading
import time
from pathlib import Path

import pytest

from pymon.plugins.run import MAX_OUTPUT_BYTES, MAX_STDERR_BYTES, run
from tests.plugins.scripts import script

LONG = 30.0


@pytest.fixture
def stop():
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


@pytest.fixture
def ran(tmp_path, stop):
    def ran(body, timeout_seconds=LONG):
        path = script(tmp_path / "plugins", "a", body)
        return run((str(path), "argument"), timeout_seconds, stop[0])

    return ran


def is_gone(pid):
    """Whether no process has this number, or only one that waits to be reaped by somebody else."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_output_argument_and_standard_error(ran):
    ended = ran('echo "$#:$1"; pwd; echo careful >&2')
    assert (ended.output, ended.reason, ended.stderr) == (b"1:argument\n/\n", "", b"careful\n")
    assert 0 < ended.seconds < LONG
    assert ended.left is None


def test_a_program_that_closes_its_output_is_waited_for(ran, tmp_path):
    ended = ran(f"echo 1; exec >&- 2>&-; sleep 0.2; touch {tmp_path}/late")
    assert ended.output == b"1\n"
    assert (tmp_path / "late").exists()


@pytest.mark.parametrize(("body", "status"), [("echo 1; exit 3", "3"), ("kill -9 $$", "signal 9")])
def test_a_failed_exit_costs_the_output(ran, body, status):
    ended = ran(body)
    assert (ended.output, ended.reason) == (None, "exit")
    assert ended.text.endswith(f"expected exit status 0, got {status}")


def test_past_the_timeout_the_whole_process_group_is_killed(ran, tmp_path):
    ended = ran(f"sleep 300 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; trap '' TERM; wait", 0.5)
    assert (ended.output, ended.reason) == (None, "timeout")
    assert 0.5 <= ended.seconds < LONG
    assert is_gone(int((tmp_path / "child").read_text()))
    assert is_gone(int((tmp_path / "self").read_text()))


def test_what_a_plugin_leaves_in_its_group_ends_with_it(ran, tmp_path):
    ended = ran(f"sleep 300 >/dev/null 2>&1 & echo $! > {tmp_path}/child; echo 1")
    assert ended.output == b"1\n"
    assert is_gone(int((tmp_path / "child").read_text()))


def test_a_child_that_fled_the_group_with_the_pipe_cannot_hold_us(ran, tmp_path):
    ended = ran(f"setsid sh -c 'echo $$ > {tmp_path}/child; exec sleep 300' & echo 1; exit 0", 0.7)
    assert ended.reason == "timeout"
    child = int((tmp_path / "child").read_text())
    os.kill(child, signal.SIGKILL)
    assert is_gone(child)


def test_output_up_to_the_limit_is_taken(ran):
    ended = ran(f"head -c {MAX_OUTPUT_BYTES} /dev/zero")
    assert len(ended.output) == MAX_OUTPUT_BYTES


def test_output_without_end_is_stopped(ran):
    ended = ran("exec yes")
    assert (ended.output, ended.reason) == (None, "size")


def test_standard_error_without_end_is_read_and_not_kept(ran):
    ended = ran("head -c 3000000 /dev/zero >&2; echo 1")
    assert ended.output == b"1\n"
    assert len(ended.stderr) == MAX_STDERR_BYTES


@pytest.mark.parametrize("text", ["", "#!/nowhere/sh\n"])
def test_what_cannot_be_started_says_so(tmp_path, stop, text):
    path = tmp_path / "a"
    path.write_text(text)
    path.chmod(0o755)
    ended = run((str(path), "argument"), LONG, stop[0])
    assert (ended.output, ended.reason) == (None, "exec")
    assert ended.text.startswith(f"{path}: ")


def test_an_argument_with_a_null_byte_is_refused(stop):
    assert run(("/bin/true", "a\0b"), LONG, stop[0]).reason == "exec"


def test_stop_ends_a_run_at_once(tmp_path, stop):
    path = script(tmp_path / "plugins", "a", f"touch {tmp_path}/started; exec sleep 300")
    results = []
    thread = threading.Thread(target=lambda: results.append(run((str(path), "x"), 300, stop[0])))
    thread.start()
    deadline = time.monotonic() + 20
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.write(stop[1], b"\0")
    thread.join(20)
    assert [ended.reason for ended in results] == ["stopped"]


def test_runs_leave_no_descriptor_behind(ran):
    ran("echo 1")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for body in ("echo 1", "exit 1", "exec yes"):
        ran(body)
    ran("exec sleep 300", 0.05)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
