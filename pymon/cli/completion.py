"""``pymon completion SHELL``: print a script with which bash, zsh or fish completes the words of ``pymon``.

The three scripts do the same: they find the command and verb among the words before the cursor, and offer the words,
flags or values that may follow. All of these are in the script, so that no Python runs at a press of the key.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING

from pymon.config import ConfigError, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pymon.cli.grammar import Command
    from pymon.config import Option

ARGUMENTS = "SHELL"

_HELP = """\
usage: pymon completion bash|zsh|fish

Print a script with which the shell completes the words of pymon. To load it:

  bash  source <(pymon completion bash)          in ~/.bashrc
  zsh   source <(pymon completion zsh)           in ~/.zshrc, after compinit
  fish  pymon completion fish | source           in ~/.config/fish/config.fish
"""


def option_table() -> tuple[Option, ...]:
    """Return the options of the command: none."""
    return ()


def run(argv: Sequence[str]) -> int:
    """Print the script of a shell. Return 0."""
    match list(argv):
        case ["--help" | "-h", *_]:
            sys.stdout.write(_HELP)
        case [shell] if shell in SCRIPTS:
            from pymon.cli.grammar import commands  # noqa: PLC0415  # it imports every command

            sys.stdout.write(SCRIPTS[shell](list(commands())))
        case _:
            got = shown(argv[0]) if len(argv) == 1 else f"{len(argv)} arguments"
            raise ConfigError(f"completion: expected one of {', '.join(SCRIPTS)}, got {got}")
    return 0


def _quoted(text: str) -> str:
    """Return a text in single quotes, as bash, zsh and fish all read it. text: without backslashes."""
    plain = " ".join(text.split()).replace("'", "'\\''")
    return f"'{plain}'"


def _path(command: Command) -> str:
    return " ".join(("pymon", *command.words))


def _patterns(paths: Iterable[str], between: str) -> str:
    return between.join(map(_quoted, paths))


def _offers(command: Command) -> dict[str, str]:
    return command.following | (command.flags() if command.words else {"--help": "", "--version": ""})


def _values(commands: Iterable[Command]) -> Mapping[tuple[str, ...] | None, list[str]]:
    """Return the commands with a flag, as ``PATH --FLAG``, by what may follow it."""
    found: defaultdict[tuple[str, ...] | None, list[str]] = defaultdict(list)
    for command in commands:
        for flag, values in command.values().items():
            found[values].append(f"{_path(command)} {flag}")
    return found


_BASH = """\
# bash completion for pymon: source <(pymon completion bash)
_pymon() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path=pymon words= i
    # bash splits --flag=value into three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${COMP_WORDS[i]}" in
            @PATHS@) path+=" ${COMP_WORDS[i]}" ;;
        esac
    done
    COMPREPLY=()
    case "$path $prev" in
@VALUES@
    esac
    case "$path" in
@OFFERS@
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _pymon pymon
"""


def _bash(commands: Sequence[Command]) -> str:
    values = []
    for words, flags in _values(commands).items():
        if words is None:
            does = "return"  # -o default: files
        elif words:
            does = f'mapfile -t COMPREPLY < <(compgen -W {_quoted(" ".join(words))} -- "$cur"); return'
        else:
            does = "compopt +o default; return"
        values.append(f"        {_patterns(flags, '|')}) {does} ;;")
    offers = [f"        {_quoted(_path(one))}) words={_quoted(' '.join(_offers(one)))} ;;" for one in commands]
    return _filled(_BASH, commands, "|", values, offers)


_ZSH = """\
#compdef pymon
# zsh completion for pymon: source <(pymon completion zsh), after compinit
_pymon() {
    local prev=${words[CURRENT-1]} path_=pymon word
    local -a offers
    for word in ${words[2,CURRENT-1]}; do
        case "$path_ $word" in
            @PATHS@) path_+=" $word" ;;
        esac
    done
    if [[ ${words[CURRENT]} == --*=* ]]; then
        prev=${words[CURRENT]%%=*}
        compset -P '*='
    fi
    case "$path_ $prev" in
@VALUES@
    esac
    case "$path_" in
@OFFERS@
    esac
    _describe pymon offers
    [[ ${words[CURRENT]} == -* ]] || _files
}
(( $+functions[compdef] )) && compdef _pymon pymon
"""


def _zsh(commands: Sequence[Command]) -> str:
    values = []
    for words, flags in _values(commands).items():
        does = (
            "_files" if words is None else f"compadd -- {' '.join(map(_quoted, words))}" if words else "_message value"
        )
        values.append(f"        {_patterns(flags, '|')}) {does}; return ;;")
    offers = []
    for one in commands:
        texts = (_quoted(f"{word}:{help}" if help else word) for word, help in _offers(one).items())
        offers.append(f"        {_quoted(_path(one))}) offers=({' '.join(texts)}) ;;")
    return _filled(_ZSH, commands, "|", values, offers)


_FISH = """\
# fish completion for pymon: pymon completion fish | source
function __pymon_offers
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l previous $before[-1]
    set -l path pymon
    for word in $before[2..]
        switch "$path $word"
            case @PATHS@
                set path "$path $word"
        end
    end
    set -l front
    if string match -q -- '--*=*' "$current"
        set previous (string split -m 1 = -- "$current")[1]
        set front "$previous="
    end
    switch "$path $previous"
@VALUES@
    end
    switch "$path"
@OFFERS@
    end
end
complete -c pymon -f -a '(__pymon_offers)'
"""


def _fish(commands: Sequence[Command]) -> str:
    values = []
    for words, flags in _values(commands).items():
        if words is None:
            does = '__fish_complete_path (string replace -- "$front" "" "$current") | string replace -r "^" -- "$front"'
        elif words:
            does = f'printf "%s\\n" "$front"{{{",".join(map(_quoted, words))}}}'
        else:
            does = "true"
        values.append(f"        case {_patterns(flags, ' ')}\n            {does}\n            return")
    offers = []
    for one in commands:
        pairs = " ".join(f"{_quoted(word)} {_quoted(help)}" for word, help in _offers(one).items())
        offers.append(f"        case {_quoted(_path(one))}\n            printf '%s\\t%s\\n' {pairs}")
    return _filled(_FISH, commands, " ", values, offers)


def _filled(script: str, commands: Sequence[Command], between: str, values: list[str], offers: list[str]) -> str:
    paths = _patterns((_path(one) for one in commands if one.words), between)
    parts = {"@PATHS@": paths, "@VALUES@": "\n".join(values), "@OFFERS@": "\n".join(offers)}
    for name, text in parts.items():
        script = script.replace(name, text)
    return script


SCRIPTS: Mapping[str, Callable[[Sequence[Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
FOLLOWING = dict.fromkeys(SCRIPTS, "")
