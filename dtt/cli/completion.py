"""
C{dtt completion}: scripts that complete commands, options and files in a shell.

The scripts are generated from the table of commands and their options, so they are complete.  They do not run
dtt, so completion is fast.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.python import usage

from dtt.app.usage import CommandOptions, OptionHelp
from dtt.cli.commands import options_of
from dtt.cli.complaints import print_line
from dtt.cli.table import COMMANDS, SUMMARIES

#: The shells.
SHELLS = ("bash", "zsh", "fish")


def described() -> dict[str, list[OptionHelp]]:
    """
    Return the options of each command.
    """
    return {name: options_of(name).described() for name in COMMANDS}


def first_words() -> list[str]:
    """
    Return the words that may follow C{dtt}.
    """
    return sorted({name.split()[0] for name in SUMMARIES})


def second_words(first: str) -> list[str]:
    """
    Return the words that follow C{dtt} and a first word; none if that is a command
    itself.
    """
    return sorted(name.split()[1] for name in COMMANDS if name.startswith(f"{first} "))


def _groups() -> list[str]:
    return [word for word in first_words() if second_words(word)]


def bash(commands: dict[str, list[OptionHelp]]) -> Iterator[str]:
    """
    Yield the lines of the script for bash.
    """
    yield "# bash completion of dtt; load it with: source <(dtt completion bash)"
    yield "_dtt() {"
    yield "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}"
    yield "    local command=${COMP_WORDS[1]} options= files= directories="
    yield "    COMPREPLY=()"
    yield "    if (( COMP_CWORD == 1 )) || { [[ $command == help ]] && (( COMP_CWORD == 2 )); }; then"
    yield f'        COMPREPLY=($(compgen -W "{" ".join(first_words())} --help --version" -- "$current"))'
    yield "        return"
    yield "    fi"
    for group in _groups():
        yield f"    if [[ $command == {group} ]]; then"
        yield "        if (( COMP_CWORD == 2 )); then"
        yield f'            COMPREPLY=($(compgen -W "{" ".join(second_words(group))}" -- "$current"))'
        yield "            return"
        yield "        fi"
        yield '        command="$command ${COMP_WORDS[2]}"'
        yield "    fi"
    yield "    case $command in"
    for name, options in commands.items():
        if name == "completion":
            continue
        yield f'        "{name}")'
        yield f'            options="{" ".join(f"--{each.long}" for each in options)}"'
        files = [f"--{each.long}" for each in options if each.value == "FILE"]
        directories = [f"--{each.long}" for each in options if each.value == "DIR"]
        yield f'            files=" {" ".join(files)} " directories=" {" ".join(directories)} " ;;'
    yield "        completion)"
    yield f'            options="{" ".join(SHELLS)}" ;;'
    yield "    esac"
    yield '    if [[ $before == -* && $files == *" $before "* ]]; then'
    yield '        COMPREPLY=($(compgen -f -- "$current"))'
    yield '    elif [[ $before == -* && $directories == *" $before "* ]]; then'
    yield '        COMPREPLY=($(compgen -d -- "$current"))'
    yield "    elif [[ $current == -* || $command == completion ]]; then"
    yield '        COMPREPLY=($(compgen -W "$options" -- "$current"))'
    yield "    else"
    yield '        COMPREPLY=($(compgen -f -- "$current"))'
    yield "    fi"
    yield "}"
    yield "complete -o filenames -F _dtt dtt"


def _quoted(text: str) -> str:
    """
    Return a text in single quotation marks, without those in it.
    """
    return "'" + text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}") + "'"


def _summary(option: OptionHelp) -> str:
    first = option.text.split(". ")[0].split(": ")[0].rstrip(".")
    return first if len(first) <= 70 else f"{first[:67]}..."


def _zsh_spec(option: OptionHelp) -> str:
    text = _summary(option).replace("[", "(").replace("]", ")").replace(":", ",")
    if not option.value:
        return _quoted(f"--{option.long}[{text}]")
    action = {"FILE": "_files", "DIR": "_files -/"}.get(option.value, "")
    return _quoted(f"*--{option.long}=[{text}]:{option.value.replace(':', ' ')}:{action}")


def zsh(commands: dict[str, list[OptionHelp]]) -> Iterator[str]:
    """
    Yield the lines of the script for zsh.
    """
    yield "#compdef dtt"
    yield "# zsh completion of dtt: save it as _dtt in a directory of $fpath"
    yield "_dtt() {"
    yield "    local -a commands"
    yield "    commands=("
    for word in first_words():
        summary = SUMMARIES.get(word) or f"Commands: {', '.join(second_words(word))}."
        yield f"        {_quoted(f'{word}:{summary}')}"
    yield "    )"
    yield "    if (( CURRENT == 2 )); then"
    yield "        _describe command commands"
    yield "        return"
    yield "    fi"
    yield "    local command=$words[2]"
    for group in _groups():
        yield f"    if [[ $command == {group} ]]; then"
        yield "        if (( CURRENT == 3 )); then"
        yield f"            compadd {' '.join(second_words(group))}"
        yield "            return"
        yield "        fi"
        yield '        command="$command $words[3]"'
        yield "    fi"
    yield "    case $command in"
    yield "        help) compadd " + " ".join(first_words()) + " ;;"
    for name, options in commands.items():
        if name == "completion":
            yield f"        completion) compadd {' '.join(SHELLS)} ;;"
            continue
        yield f"        {_quoted(name)}) _arguments -s \\"
        for option in options:
            yield f"            {_zsh_spec(option)} \\"
        yield "            '*:file:_files' ;;"
    yield "    esac"
    yield "}"
    yield 'if [[ $funcstack[1] == _dtt ]]; then _dtt "$@"; else compdef _dtt dtt; fi'


def fish(commands: dict[str, list[OptionHelp]]) -> Iterator[str]:
    """
    Yield the lines of the script for fish.
    """
    yield "# fish completion of dtt: save it as ~/.config/fish/completions/dtt.fish"
    for word in first_words():
        summary = SUMMARIES.get(word) or f"Commands: {', '.join(second_words(word))}."
        yield f"complete -c dtt -f -n __fish_use_subcommand -a {word} -d {_quoted(summary)}"
    yield f"complete -c dtt -f -n '__fish_seen_subcommand_from completion' -a {_quoted(' '.join(SHELLS))}"
    yield f"complete -c dtt -f -n '__fish_seen_subcommand_from help' -a {_quoted(' '.join(first_words()))}"
    for group in _groups():
        words = " ".join(second_words(group))
        condition = f"__fish_seen_subcommand_from {group}; and not __fish_seen_subcommand_from {words}"
        yield f"complete -c dtt -f -n {_quoted(condition)} -a {_quoted(words)}"
    for name, options in commands.items():
        condition = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split())
        for option in options:
            takes = {"": "", "FILE": " -r -F", "DIR": " -x -a '(__fish_complete_directories)'"}
            value = takes.get(option.value, " -x")
            yield (
                f"complete -c dtt -n {_quoted(condition)} -l {option.long}{value} -d "
                f"{_quoted(_summary(option))}"
            )


class CompletionOptions(CommandOptions):
    """
    The options of C{dtt completion}.
    """

    synopsis = "bash|zsh|fish"
    longdesc = (
        "Prints a script that completes commands, options and files. For bash: source <(dtt "
        "completion bash), in "
        "~/.bashrc. For zsh: save it as _dtt in a directory of $fpath. For fish: save it as "
        "~/.config/fish/completions/dtt.fish."
    )

    def parseArgs(self, *shells: str) -> None:
        """
        Take the shell.

        @raise usage.UsageError: it is unknown, or there is not exactly one.
        """
        if len(shells) != 1 or shells[0] not in SHELLS:
            given = f", not {shells[0][:40]!r}" if len(shells) == 1 else ""
            raise usage.UsageError(f"completion takes one of {', '.join(SHELLS)}{given}")
        (self["shell"],) = shells

    def run(self) -> int:
        """
        Print the script.

        @return: the exit code.
        """
        make = {"bash": bash, "zsh": zsh, "fish": fish}[self["shell"]]
        print_line("\n".join(make(described())))
        return 0
