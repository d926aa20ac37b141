"""How commands show results: lines or a table for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from blip.spelling import plain

OUTPUT = 1  # the descriptor of standard output
_results: list[int] = []  # of a command that prints JSON: the descriptor it goes to


def _alone(context: typer.Context, wished: bool) -> bool:
    """Have nothing but the JSON on standard output: what is said on the way, by children too, goes to the other."""
    if wished and sys.stdout is sys.__stdout__:
        sys.stdout.flush()
        _results.append(os.dup(OUTPUT))
        os.dup2(sys.stderr.fileno(), OUTPUT)
        context.call_on_close(_restore)
    return wished


def _restore() -> None:
    sys.stdout.flush()
    kept = _results.pop()
    os.dup2(kept, OUTPUT)
    os.close(kept)


JsonFlag = Annotated[
    bool, typer.Option("--json", callback=_alone, help="Print machine-readable results, and nothing else.")
]


def show(value: Any, as_json: bool, lines: Iterable[str]) -> None:
    """Print `value` as JSON, or `lines`, with what a terminal would obey spelled; a reader may close the pipe early."""
    try:
        _print(value, as_json, lines)
    except BrokenPipeError:
        leave_off()


def leave_off() -> None:
    """Have the rest go nowhere: who reads standard output has seen enough."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, OUTPUT)
    os.close(nowhere)


def _print(value: Any, as_json: bool, lines: Iterable[str]) -> None:
    if as_json:
        text = _as_json(value)
        if _results:
            sys.stdout.flush()
            with os.fdopen(os.dup(_results[-1]), "w", encoding="utf-8") as results:
                print(text, file=results)
        else:
            typer.echo(text)
    else:
        for line in lines:
            typer.echo(plain(line))


def _as_json(value: Any) -> str:
    """As JSON, in which the bytes of a file name that is not UTF-8 are escaped, and are read back as they were."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with aligned columns."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))] if rows else []
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
