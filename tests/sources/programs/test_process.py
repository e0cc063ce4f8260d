import errno
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.programs.process import STDERR_LIMIT_BYTES, Runner, find_program
from tests.sources.programs.scripts import script, wait_until

SOON = 30.0


@pytest.fixture
def runner():
    it = Runner()
    yield it
    it.close()


@pytest.fixture
def run(runner, tmp_path):
    def call(body, *words, seconds=SOON, limit=1 << 20):
        script(tmp_path, "it", body)
        return runner.run((str(tmp_path / "it"), *words), time.monotonic() + seconds, limit)

    return call


def gone(pid):
    """Whether a process has ended; one that init has not waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def pids(path):
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), "the program has not started")
    return [int(word) for word in path.read_text().split()]


def test_output_messages_and_status_come_back(run):
    output = run('printf "a\\tb\\n"; echo oh >&2; exit 3')
    assert (output.status, output.stdout, output.stderr) == (3, b"a\tb\n", "oh\n")


def test_words_reach_the_program_as_they_are(run):
    assert run('printf "%s\\n" "$@"', "a b", "$HOME", ";ls", "*").stdout == b"a b\n$HOME\n;ls\n*\n"


def test_the_environment_is_the_c_locale_and_the_system_s_own_directories(run, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("PATH", "/tmp/evil")
    environment = dict(line.split("=", 1) for line in run("env").stdout.decode().splitlines())
    assert environment["LC_ALL"] == "C"
    assert environment["PATH"] == "/usr/sbin:/usr/bin:/sbin:/bin"
    assert not environment.keys() - {"LC_ALL", "PATH", "PWD", "OLDPWD", "SHLVL", "_"}


def test_programs_are_looked_for_in_path_and_then_in_the_system_s_directories(tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("true", "only-here"):
        script(mine, name, "exit 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"mine::.:{mine}:/usr/bin")
    assert find_program("true") == f"{mine}/true"
    monkeypatch.setenv("PATH", "mine:")
    assert find_program("true") == "/usr/bin/true"
    with pytest.raises(SourceError, match=r"^only-here: expected in /usr/sbin, /usr/bin, /sbin, /bin, not there$"):
        find_program("only-here")
    monkeypatch.delenv("PATH")
    assert find_program("true") == "/usr/bin/true"


def test_it_has_no_input_and_no_descriptors_of_ours(run):
    with Path(os.devnull).open() as ours:
        assert ours.fileno() > 2
        output = run("cat; ls /proc/self/fd")
    assert [int(word) for word in output.stdout.split()][:3] == [0, 1, 2]
    assert len(output.stdout.split()) == 4  # and that of ls on the directory


def test_past_its_deadline_the_whole_group_is_killed(run, tmp_path):
    with pytest.raises(SourceError, match="it: not done in time") as caught:
        run(f'sleep 1000 & echo $$ $! >"{tmp_path}/pids"; wait', seconds=1)
    assert caught.value.reason == "deadline"
    for pid in pids(tmp_path / "pids"):
        wait_until(lambda pid=pid: gone(pid), "a process of the group lives on")


def test_a_child_that_keeps_the_pipe_open_is_killed_at_the_deadline(run, tmp_path):
    with pytest.raises(SourceError, match="not done in time"):
        run(f'sleep 1000 & echo $! >"{tmp_path}/pids"', seconds=1)
    for pid in pids(tmp_path / "pids"):
        wait_until(lambda pid=pid: gone(pid), "a process of the group lives on")


def test_one_that_closes_its_output_and_stays_is_killed_at_the_deadline(run):
    with pytest.raises(SourceError, match="not done in time"):
        run("exec >&- 2>&-; sleep 1000", seconds=1)


def test_endless_output_ends_it(run):
    with pytest.raises(SourceError, match="more than 1000000 bytes") as caught:
        run("exec yes", limit=1_000_000)
    assert caught.value.reason == "size"


def test_endless_messages_are_dropped(run):
    output = run("head -c 3000000 /dev/zero | tr '\\0' e >&2; echo done")
    assert output.stdout == b"done\n"
    assert output.stderr == "e" * STDERR_LIMIT_BYTES


def test_bytes_of_messages_that_are_no_utf_8_are_shown(run):
    assert run(r"printf '\377' >&2").stderr == r"\xff"


def test_a_signal_is_told(run):
    assert run("kill -TERM $$").status == -signal.SIGTERM


@pytest.mark.parametrize(("mode", "reason"), [(0o644, "eacces"), (None, "enoent")])
def test_what_cannot_be_started_is_an_error_of_one_line(runner, tmp_path, mode, reason):
    path = tmp_path / "it"
    if mode is not None:
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
    with pytest.raises(SourceError, match=str(path)) as caught:
        runner.run((str(path),), time.monotonic() + SOON, 100)
    assert caught.value.reason == reason


def test_what_is_no_program_is_an_error(runner, tmp_path):
    path = tmp_path / "it"
    path.write_bytes(b"\x7fELF but no more")
    path.chmod(0o755)
    with pytest.raises(SourceError) as caught:
        runner.run((str(path),), time.monotonic() + SOON, 100)
    assert caught.value.reason == "enoexec"


def test_cancel_ends_what_is_running_and_what_would_run(runner, tmp_path):
    script(tmp_path, "it", f'echo $$ >"{tmp_path}/pids"; exec sleep 1000')
    errors = []

    def work():
        try:
            runner.run((str(tmp_path / "it"),), time.monotonic() + 1000, 100)
        except SourceError as error:
            errors.append(error.reason)

    thread = threading.Thread(target=work)
    thread.start()
    (pid,) = pids(tmp_path / "pids")
    runner.cancel()
    thread.join(30)
    assert not thread.is_alive()
    assert gone(pid)
    with pytest.raises(SourceError):
        runner.run((str(tmp_path / "it"),), time.monotonic() + 1000, 100)
    assert errors == ["cancelled"]


def test_without_a_descriptor_to_wait_with_it_is_killed_and_an_error(run, tmp_path, monkeypatch):
    def none_left():
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr("selectors.DefaultSelector", none_left)
    with pytest.raises(SourceError) as caught:
        run("sleep 100; exit 0")
    assert (caught.value.reason, str(caught.value)) == ("emfile", f"{tmp_path}/it: Too many open files")
    mine = os.fsencode(tmp_path)
    commands = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists()]
    assert not [command for command in commands if mine in command], "it has been killed and reaped"


def test_cancel_as_often_as_one_likes(runner):
    for _ in range(70_000):  # more than a pipe holds
        runner.cancel()
    with pytest.raises(SourceError) as caught:
        runner.run(("true",), time.monotonic() + SOON, 100)
    assert caught.value.reason == "cancelled"


def test_while_one_cannot_be_killed_no_other_is_started(tmp_path, monkeypatch):
    runner = Runner(kill_seconds=0.1)
    monkeypatch.setattr(os, "killpg", lambda *_: None)  # as if it hung in the kernel
    script(tmp_path, "it", "exec sleep 1000")
    argv = (str(tmp_path / "it"),)
    with pytest.raises(SourceError, match="not done in time"):
        runner.run(argv, time.monotonic() + 0.1, 100)
    with pytest.raises(SourceError, match=r"process \d+ cannot be killed") as caught:
        runner.run(argv, time.monotonic() + SOON, 100)
    assert caught.value.reason == "stuck"
    stuck = runner._stuck
    stuck.kill()
    stuck.wait(30)
    script(tmp_path, "it", "echo back")
    assert runner.run(argv, time.monotonic() + SOON, 100).stdout == b"back\n"
    runner.close()


def test_no_descriptor_is_left_behind(run):
    run("true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for body in ("echo a", "exit 1", "exec yes"):
        for _ in range(3):
            try:
                run(body, limit=1000)
            except SourceError as error:
                assert error.reason == "size"  # noqa: PT017
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_program_is_found_in_the_order_of_the_directories(tmp_path):
    for directory in ("a", "b", "c"):
        (tmp_path / directory).mkdir()
    script(tmp_path / "b", "it", "")
    script(tmp_path / "c", "it", "")
    (tmp_path / "a" / "it").write_text("not executable")
    found = find_program("it", [str(tmp_path / name) for name in "abc"])
    assert found == str(tmp_path / "b" / "it")


def test_a_program_that_is_not_there_is_no_data(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin")
    with pytest.raises(SourceError, match="no-such-program: expected in /usr/sbin, /usr/bin, /sbin, /bin") as caught:
        find_program("no-such-program")
    assert caught.value.reason == "nodata"


def test_a_directory_is_no_program(tmp_path):
    (tmp_path / "it").mkdir()
    with pytest.raises(SourceError):
        find_program("it", (str(tmp_path),))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc for its session")
def test_it_has_a_session_of_its_own(run):
    output = run("cut -d' ' -f1,5,6 /proc/$$/stat")
    pid, group, session = map(int, output.stdout.split())
    assert pid == group == session
    assert session != os.getsid(0)
