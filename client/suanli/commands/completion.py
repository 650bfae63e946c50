"""`suanli completion`: the script that makes a shell complete commands, options and the ids of jobs."""

from __future__ import annotations

import click

from suanli.terminal.console import Console, output_options

_FILES = {
    "bash": 'eval "$(suanli completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(suanli completion zsh)" in ~/.zshrc',
    "fish": "suanli completion fish > ~/.config/fish/completions/suanli.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(_FILES)))
@output_options
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    \b
    eval "$(suanli completion bash)"     in ~/.bashrc
    eval "$(suanli completion zsh)"      in ~/.zshrc
    suanli completion fish > ~/.config/fish/completions/suanli.fish
    """
    from click.shell_completion import get_completion_class

    console: Console = ctx.obj
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  # the three are click's own
    script = kind(ctx.find_root().command, {}, "suanli", "_SUANLI_COMPLETE")
    text = script.source_template % script.source_vars()  # click's own source() starts bash to ask for its version
    console.data(text)
    console.note(f"# {_FILES[shell]}")
