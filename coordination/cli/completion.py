"""The scripts that make a shell ask `coord` what may stand at the cursor. What it answers is in `completing.py`."""

from __future__ import annotations

import click
from click.shell_completion import FishComplete, ZshComplete
from rich_click import command

VARIABLE = "_COORD_COMPLETE"
_BASH = """\
_coord_completion() {
    local IFS=$'\\n' word type value current='' before
    local -i last=-1
    local -a words=()

    # Bash takes words apart at : and =, which stand within names (area:core) and before values (--repo=api).
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ $word == = && $current == -* ]]; then
            word='' last+=1
        elif (( last > 0 )) && [[ -z $current || $word == [:=]* || $current == *[:=] ]]; then
            word=$current$word
        else
            last+=1
        fi
        words[last]=$word current=$word
    done
    before=${current%"${current##*[:=]}"}

    COMPREPLY=()
    for word in $(COMP_WORDS="${words[*]}" COMP_CWORD=$last _COORD_COMPLETE=bash_complete "$1" 2>/dev/null)
    do
        type=${word%%,*} value=${word#*,}
        if [[ $type == dir ]]; then
            compopt -o dirnames 2>/dev/null
        elif [[ $type == file ]]; then
            compopt -o default 2>/dev/null
        elif [[ $value == *[[:space:]\\'\\"\\$\\&\\;\\|\\<\\>\\(\\)\\*\\?\\!\\#\\`]* && $current != [\\'\\"]* ]]; then
            printf -v value %q "$value"
            COMPREPLY+=("${value#"$before"}")
        else
            COMPREPLY+=("${value#"$before"}")
        fi
    done
}

complete -o nosort -F _coord_completion coord 2>/dev/null || complete -F _coord_completion coord
"""


def _source(shell: str) -> str:
    if shell == "bash":
        return _BASH
    kind, asks = {"zsh": (ZshComplete, "zsh_complete coord"), "fish": (FishComplete, "(commandline -t) coord")}[shell]
    script = kind(click.Group(), {}, "coord", VARIABLE).source()
    for old, new in {
        asks: f"{asks} 2>/dev/null",  # whoever presses Tab is not told what is wrong with a file
        "\n    response=": f"\n{_KEEP_OPTION}    response=",
        'split ","': 'split -m 1 ","',  # the next comma is the value's own, or the description's
    }.items():
        script = script.replace(old, new)
    return script


_KEEP_OPTION = """\
    # `--repo=a`: what is offered takes the place of what stands behind the `=`.
    [[ ${words[CURRENT]} == -*=* ]] && compset -P 1 '*='
"""


@command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, ids, repositories, plans and labels in SHELL.

    bash, in ~/.bashrc: eval "$(coord completion bash)"

    zsh, in ~/.zshrc after compinit: eval "$(coord completion zsh)"

    fish, once: coord completion fish > ~/.config/fish/completions/coord.fish
    """
    click.echo(_source(shell), nl=False)
