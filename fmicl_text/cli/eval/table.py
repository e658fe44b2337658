"""Results on the terminal: one table for every kind of evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.results import Result


def print_results(console: Console, results: Sequence[Result]) -> None:
    """Print the results of one evaluation of one or several models: what was measured, the scores, what is missing.

    Lines with paths are soft-wrapped, since a path that is cut in two cannot be copied.
    """
    from rich.table import Table

    first = results[0]
    alike = {key: value for key, value in first.facts.items() if all(of.facts.get(key) == value for of in results)}
    for result in results:
        own = _about({key: value for key, value in result.facts.items() if key not in alike})
        console.print(f"{result.model} on {result.name}{f' ({own})' if own else ''}", soft_wrap=True)
    console.print(first.protocol, soft_wrap=True)
    console.print(_about({"data": first.data, **alike}), soft_wrap=True)
    scores = {score.key: score for result in results for score in result.scores}
    table = Table()
    table.add_column("score")
    table.add_column("metric")
    table.add_column("n", justify="right")
    for result in results:
        table.add_column("value" if len(results) == 1 else result.model, justify="right")
        if len(results) == 1:
            table.add_column("95% interval", justify="right")
    for key, score in scores.items():
        unit = f" ({score.unit})" if score.unit else ""
        n = "" if score.n is None else f"{score.n:,}"
        table.add_row(score.name, score.metric + unit, n, *_cells(key, results))
    for task in dict.fromkeys(task for result in results for task in result.missing):
        table.add_row(task, "", "", "missing")
    console.print(table)
    for line in dict.fromkeys(_notes(results)):
        console.print(line, soft_wrap=True)


def _about(facts: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if value is not None)


def _cells(key: str, results: Sequence[Result]) -> Iterable[str]:
    for result in results:
        score = next((score for score in result.scores if score.key == key), None)
        value = "" if score is None else score.written(score.value)
        interval = "" if score is None or score.ci95 is None else " to ".join(map(score.written, score.ci95))
        if len(results) == 1:
            yield from (value, interval)
        else:
            yield f"{value} ({interval})" if interval else value


def _notes(results: Sequence[Result]) -> Iterable[str]:
    for result in results:
        model = f"{result.model}: " if len(results) > 1 else ""
        for task, why in result.missing.items():
            yield f"{model}{task} is missing: {why}"
        if result.missing:
            yield f"{model}no average is shown, since tasks are missing"
        for score in result.scores:
            if score.no_interval:
                yield f"{model}{score.name} has no interval: {score.no_interval}"
