"""Completion of the command line in real shells, and manual pages: both have every option of every command."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pymon import cli
from pymon.cli.completion import SCRIPTS
from pymon.cli.grammar import Command, commands

ROOT = Path(__file__).resolve().parents[2]

TABLE = [
    # words before the cursor, and what is offered for the last one
    (("ag",), ["agent"]),
    (("node", "tok"), ["token"]),
    (("node", "token", "cr"), ["create"]),
    (("node", "token", "create", "--ex"), ["--expires"]),
    (("node", "token", "create", "n1", "--ex"), ["--expires"]),
    (("proxy", "--log."), ["--log.format", "--log.level"]),
    (("proxy", "--log.level", "d"), ["debug"]),
    (("proxy", "--no-auth"), ["--no-auth.allow-expired-self-signed"]),
    (("agent", "--qqq"), []),
    (("explain", "--re"), ["--request"]),
    (("containers", "--sort", "r"), ["runtime"]),
    (("top", "--sort", "mem"), ["memory", "memory_waiting"]),
    (("top", "--token"), ["--token-file"]),
    (("completion", ""), [*sorted(SCRIPTS), "--help"]),
]


@pytest.fixture(scope="module")
def grammar() -> list[Command]:
    return list(commands())


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory, grammar: list[Command]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    for shell, script in SCRIPTS.items():
        (folder / shell).write_text(script(grammar), encoding="utf-8")
    return {shell: folder / shell for shell in SCRIPTS}


def need(program: str) -> str:
    return shutil.which(program) or pytest.skip(f"{program} is not installed")


def told(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


def helped(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The flags of a command by its own --help."""
    with contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: "), words
    return set(re.findall(r"^  (?:-h, )?(--[a-z0-9._-]+)", text, re.MULTILINE)) | {"--help"}


def test_every_flag_that_a_command_tells_of_is_offered(grammar, capsys):
    assert {one.words[0] for one in grammar if one.words} == set(cli.COMMANDS)
    for one in grammar:
        if not one.words:
            continue
        flags = {flag for flag in one.flags() if not flag.startswith("--no-")}
        own = {flag for flag in one.flags() if flag.startswith("--no-")} & helped(one.words, capsys)
        assert flags | own == helped(one.words, capsys), one.words
        assert not [text for text in (*one.flags().values(), *one.following.values()) if "\\" in text], one.words
    assert len([one for one in grammar if one.options]) > 40


def test_the_command_prints_a_script_and_says_in_one_line_what_it_expects(capsys):
    assert cli.main(["completion", "bash"]) == 0
    assert "complete -o default -F _pymon pymon" in capsys.readouterr().out
    for words in ([], ["tcsh"], ["bash", "zsh"]):
        assert cli.main(["completion", *words]) == 2
        assert re.fullmatch(r"pymon: completion: expected one of bash, zsh, fish, got .*\n", capsys.readouterr().err)


def test_the_dispatcher_imports_nothing_for_it():
    code = "import sys; from pymon import cli; cli.main(['--help']); sys.exit('pymon.config' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_bash_completes(scripts):
    asked = [("pymon", *words) for words, _ in TABLE] + [("pymon", "proxy", "--log.level", "=", "d")]
    lines = [f"ask {' '.join(repr(word) for word in words)}" for words in asked]
    program = f"""
        source <("$1" -m pymon completion bash) || exit 1
        compopt() {{ :; }}  # it is for a completion of the shell's own
        ask() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pymon; echo "${{COMPREPLY[*]}}"; }}
        {chr(10).join(lines)}
    """
    got = told(need("bash"), "--norc", "-c", program, "bash", sys.executable).splitlines()
    assert [sorted(line.split()) for line in got[:-1]] == [sorted(expected) for _, expected in TABLE]
    assert got[-1] == "debug"


def test_fish_completes(scripts, tmp_path):
    (tmp_path / "file").touch()
    lines = [f"complete -C 'pymon {' '.join(words)}'; echo =" for words, _ in TABLE]
    lines += [
        "complete -C 'pymon proxy --log.level=d'; echo =",
        f"complete -C 'pymon agent --config.file {tmp_path}/f'",
    ]
    got = told(need("fish"), "--no-config", "-c", f"source {scripts['fish']}\n" + "\n".join(lines)).split("=\n")
    offered = [sorted(line.split("\t")[0] for line in one.splitlines()) for one in got]
    assert offered[:-2] == [sorted(expected) for _, expected in TABLE]
    assert offered[-2:] == [["--log.level=debug"], [f"{tmp_path}/file"]]


def test_zsh_completes_what_is_typed_at_a_terminal(scripts, tmp_path):
    zsh = need("zsh")
    pid, terminal = pty.fork()
    if not pid:
        os.environ.update(HOME=str(tmp_path), TERM="dumb", ZDOTDIR=str(tmp_path))
        os.execv(zsh, ["zsh", "-f", "-i"])  # noqa: S606
    try:
        seen = b""

        def until(text: bytes) -> None:
            nonlocal seen
            deadline = time.monotonic() + 60
            while text not in seen:
                assert time.monotonic() < deadline, seen
                if select.select([terminal], [], [], 0.1)[0]:
                    seen += os.read(terminal, 65536)

        set_up = f"unsetopt zle_bracketed_paste; PS1=; autoload -Uz compinit; compinit -u -D; source {scripts['zsh']}; "
        os.write(terminal, set_up.encode() + b"pymon() { print -r -- GOT:$*:END }; echo READ''Y\n")
        until(b"READY")
        os.write(terminal, b"pymon node tok\tcr\t--exp\t\n")
        until(b"GOT:node token create --expires:END")
        os.write(terminal, b"pymon proxy --log.level=d\t\n")
        until(b"GOT:proxy --log.level=debug:END")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


# --- manual pages --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    spec = importlib.util.spec_from_file_location("man", ROOT / "docs/man.py")
    assert spec is not None
    assert spec.loader is not None
    man = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(man)
    folder = tmp_path_factory.mktemp("man")
    assert man.main([str(folder)]) == 0
    return {path.stem: path for path in folder.iterdir()}


def test_each_command_has_a_page_with_each_option_and_verb(pages, grammar):
    assert pages.keys() == {"pymon", *(f"pymon-{name}" for name in cli.COMMANDS)}
    for one in grammar:
        text = pages["-".join(("pymon", *one.words[:1]))].read_text(encoding="ascii").replace("\\-", "-")
        for option in one.options:
            assert f"\\fB{'' if option.file_only else '--'}{option.name}\\fR" in text, (one.words, option.name)
        for word in one.following:
            assert f"\\fB{word}\\fR" in text
        if one.options:
            assert f"\\fB{' '.join(('pymon', *one.words))}\\fR" in text


@pytest.mark.parametrize("width", ["100", "80"])
@pytest.mark.parametrize("reader", ["mandoc", "man"])
def test_a_reader_of_pages_warns_of_nothing(pages, reader, width):
    need(reader)
    command = {"mandoc": ["mandoc", "-T", "lint", "-W", "warning"], "man": ["man", "--warnings", "-P", "cat", "-l"]}
    for path in pages.values():
        environment = {**os.environ, "MANWIDTH": width, "LC_ALL": "C.UTF-8", "MANROFFOPT": "-ww"}
        got = subprocess.run(
            [*command[reader], path], capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert (got.returncode, got.stderr) == (0, ""), path
        assert reader == "man" or got.stdout == "", path
