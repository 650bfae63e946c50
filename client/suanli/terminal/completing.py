"""What a shell is told when somebody presses Tab: fast, and without asking anybody but this machine's disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

ID_LETTERS = 10
JOBS_MAX = 50


def jobs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Names and ids of the jobs that this machine knows, newest first."""
    from click.shell_completion import CompletionItem

    from suanli.jobs.store import Store
    from suanli_protocol.errors import SuanliError

    try:
        records = Store().all()[:JOBS_MAX]
    except SuanliError:
        return []
    found: list[CompletionItem] = []
    for record in records:
        title = f"{record.phase} {record.name or record.plan.get('title', '')}"
        for word in (record.name, record.id[:ID_LETTERS]):
            if word and word.startswith(incomplete) and " " not in word:
                found.append(CompletionItem(word, help=title))
    return found


def settings(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Names of settings."""
    from click.shell_completion import CompletionItem

    from suanli.config import MEANING

    return [CompletionItem(name, help=text) for name, text in MEANING.items() if name.startswith(incomplete)]
