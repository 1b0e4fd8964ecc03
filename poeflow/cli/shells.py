"""Completion for bash, zsh and fish: the scripts they load, and the format of the answers.

The line up to the cursor is split here, not by the shell: bash splits `flow.yaml:step` at the
colon.
"""

import os
import re
from typing import Final

from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    split_arg_string,
)

from poeflow.lazy_pattern import lazy_pattern

MORE: Final = "more"
"""The type of an item that may be followed by more of the same word."""
LINE: Final = "POEFLOW_COMPLETE_LINE"
BREAKS: Final = "POEFLOW_COMPLETE_BREAKS"
_PLAIN: Final = lazy_pattern(r"([^\w@%+=:,./~\-\[\]])")
_BASH: Final = """\
%(complete_func)s() {
    local IFS=$'\\n'
    COMPREPLY=($(env POEFLOW_COMPLETE_LINE="${COMP_LINE:0:COMP_POINT}" \\
        POEFLOW_COMPLETE_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null))
}
complete -o nosort -o nospace -o default -F %(complete_func)s %(prog_name)s 2>/dev/null ||
    complete -o nospace -o default -F %(complete_func)s %(prog_name)s
"""
_ZSH: Final = """\
#compdef %(prog_name)s
if ! (( $+functions[compdef] )); then
    autoload -Uz compinit && compinit
fi
%(complete_func)s() {
    local -a lines done more shown
    local line kind value
    lines=("${(@f)$(env POEFLOW_COMPLETE_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" \\
        %(complete_var)s=zsh_complete "${words[1]}" 2>/dev/null)}")
    for line in $lines; do
        kind="${line%%%%:*}"
        value="${line#*:}"
        case $kind in
            done) done+=("$value") ;;
            more) more+=("$value") ;;
            file) _files ;;
        esac
    done
    (( $#done )) && compadd -Q -V done -S ' ' -a done
    (( $#more )) && compadd -Q -V more -S '' -a more
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""
_FISH: Final = """\
function %(complete_func)s
    set -l lines (env POEFLOW_COMPLETE_LINE=(commandline -cp | string collect) \\
        %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null)
    for line in $lines
        if test $line = "file:"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


def words() -> tuple[list[str], str]:
    """Return the complete words after `poeflow`, and the one to complete."""
    line = os.environ.get(LINE, "")
    found = split_arg_string(line)[1:]
    is_begun = bool(found) and not re.search(r"(?<!\\)\s\Z", line)
    return (found[:-1], found[-1]) if is_begun else (found, "")


class _Shell(ShellComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        return words()


class Bash(_Shell):
    """Bash replaces what follows the last of its word breaks, and adds the text as it is."""

    name = "bash"
    source_template = _BASH

    def complete(self) -> str:
        """Return the texts that may replace the end of the word, one a line."""
        args, incomplete = self.get_completion_args()
        breaks = os.environ.get(BREAKS, "")
        ends = (at + (one != "@") for at, one in enumerate(incomplete) if one in breaks)
        start = max(ends, default=0)  # the replaced part begins with an @, and after the others
        items = self.get_completions(args, incomplete)
        values = [one for one in items if one.type not in ("file", "dir")]
        return "\n".join(
            f"{_quoted(one.value[start:])}{'' if one.type == MORE else ' '}" for one in values
        )


class Zsh(_Shell):
    """Zsh takes whole words, quoted, and adds the space itself."""

    name = "zsh"
    source_template = _ZSH

    def format_completion(self, item: CompletionItem) -> str:
        if item.type in ("file", "dir"):
            return "file:"
        return f"{'more' if item.type == MORE else 'done'}:{_quoted(item.value)}"


class Fish(_Shell):
    """Fish takes whole words with a description each, and quotes them itself."""

    name = "fish"
    source_template = _FISH

    def format_completion(self, item: CompletionItem) -> str:
        if item.type in ("file", "dir"):
            return "file:"
        description = " ".join((item.help or "").split())
        return f"{item.value}\t{description}" if description else item.value


def register() -> None:
    """Register these shells with click in place of its own."""
    for shell in (Bash, Zsh, Fish):
        add_completion_class(shell)


def _quoted(value: str) -> str:
    return _PLAIN.sub(r"\\\1", value)
