"""What a sweep tries: values of recipe keys, from a YAML file or from ``--set a.b=v1,v2``.

loss.divergence: [kl, js]                     these values
loss.sigma: {low: 0.1, high: 0.7, log: true}  any number between two, drawn evenly on a logarithmic scale
loss.shift: none                              this value alone
NAME: {KEY: VALUES, ...}                      a part: its keys are combined with each other, not with another part's
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fmicl_text.data.yaml_tree import Tree, listed
from fmicl_text.errors import InputError
from fmicl_text.findings import explain
from fmicl_text.losses.nested import flattened
from fmicl_text.section import Conflict, Section
from fmicl_text.text import did_you_mean

if TYPE_CHECKING:
    from optuna import Trial

Scalar = str | int | float | bool | None
_FOLDER = Path(__file__).parent / "spaces"


@dataclass(frozen=True)
class Choices:
    """One of several values."""

    values: tuple[Scalar, ...]

    @property
    def some(self) -> tuple[Scalar, ...]:
        """Values by which the whole is checked: all of them."""
        return self.values

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def suggest(self, trial: Trial, key: str) -> Scalar:
        """Have a trial choose."""
        return trial.suggest_categorical(key, self.values)

    def __str__(self) -> str:
        return ", ".join("null" if value is None else str(value) for value in self.values)


class Range(Section):
    """Any number between two, both included; whole numbers if both ends are."""

    low: int | float
    """The smallest."""
    high: int | float
    """The largest."""
    log: bool = False
    """Whether numbers are drawn evenly on a logarithmic scale."""

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse ends in the wrong order, and a logarithm of 0."""
        if self.low >= self.high:
            yield ("high",), f"must be above low, {self.low}"
        if self.log and self.low <= 0:
            yield ("low",), f"must be above 0 on a logarithmic scale, got {self.low}"

    @property
    def some(self) -> tuple[Scalar, ...]:
        """Values by which the whole is checked: the ends."""
        return self.low, self.high

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def suggest(self, trial: Trial, key: str) -> Scalar:
        """Have a trial choose."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{self.low} to {self.high}" + (", log" if self.log else "")


Values = Choices | Range


@dataclass(frozen=True)
class Part:
    """Keys whose values are combined with each other.

    Attributes:
        keys: Key of the recipe, such as ``loss.sigma`` -> its values.
        places: Key -> where it was written, for messages.
    """

    keys: Mapping[str, Values]
    places: Mapping[str, str]


def shipped_spaces() -> dict[str, Path]:
    """Return the spaces that come with the package, name to file."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def read_space(source: str) -> list[Part]:
    """Read a space from a file, or one that is shipped: ``text`` or ``images``.

    Raises:
        InputError: With everything that is wrong with it, each with its line.
    """
    shipped = shipped_spaces()
    path = shipped.get(source, Path(source))
    if not path.is_file():
        raise InputError(
            f'no space "{source}"{did_you_mean(source, shipped)}; there are {", ".join(shipped)}, or name a YAML file'
        )
    tree = Tree(path)
    problems = [f"{place.text}: {text}" for place, text in tree.problems]
    shared: dict[str, Values] = {}
    parts: list[dict[str, Values]] = []
    places: list[dict[str, str]] = []
    shared_places: dict[str, str] = {}

    def read(place: str, key: str, written: Any, into: dict[str, Values], at: dict[str, str]) -> None:
        name = _spelled(key)
        if (first := at.setdefault(name, place)) != place:
            problems.append(f"{place}: {key}: is {name}, which is there already, at {first}")
            return
        try:
            into[name] = _values(written)
        except InputError as error:
            problems.extend(f"{place}: {key}: {problem}" for problem in error.problems)

    for key, written in tree.value.items():
        if "." in key:
            read(tree.place((key,)).text, key, written, shared, shared_places)
        elif isinstance(written, dict) and all("." in inner for inner in written):
            parts.append({})
            places.append({})
            for inner, values in written.items():
                read(tree.place((key, inner)).text, inner, values, parts[-1], places[-1])
        else:
            place = tree.place((key,)).text
            problems.append(
                f"{place}: {key}: must be a key of a section, such as loss.sigma, or a mapping of such keys"
            )
    if problems:
        raise InputError(problems)
    if not parts:
        return [Part(shared, shared_places)]
    return [Part(shared | part, shared_places | at) for part, at in zip(parts, places, strict=True)]


def read_grid(overrides: Sequence[str]) -> tuple[Part, list[str]]:
    """Take ``a.b=v1,v2`` out of overrides: the keys with several values, and the overrides that have one.

    Raises:
        InputError: The same value, or a key, is given twice.
    """
    keys: dict[str, Values] = {}
    places: dict[str, str] = {}
    rest = []
    for override in overrides:
        key, _, text = override.partition("=")
        if len(values := listed(text)) > 1:
            name, place = _spelled(key), f"--set {override}"
            if name in places:
                raise InputError(f"{place}: {key}: is there already, at {places[name]}; give all its values in one")
            try:
                keys[name] = _values(values)
            except InputError as error:
                raise InputError([f"{place}: {problem}" for problem in error.problems]) from None
            places[name] = place
        else:
            rest.append(override)
    return Part(keys, places), rest


def _values(written: Any) -> Values:
    if isinstance(written, dict):
        try:
            return Range.model_validate(written)
        except ValidationError as error:
            found = explain(error, written, Range)
            raise InputError([f"{'.'.join(map(str, one.path))}: {one.message}" for one in found]) from None
    values = written if isinstance(written, list) else [written]
    if not values or any(isinstance(value, list | dict) for value in values):
        raise InputError("must be a list of texts and numbers, or {low: ..., high: ..., log: true}")
    if len(set(map(repr, values))) < len(values):
        raise InputError("has the same value twice")
    return Choices(tuple(values))


def _spelled(key: str) -> str:
    """Return a key in the one spelling there is: ``loss.kernel.sigma`` is ``loss.sigma``."""
    section, *path = key.split(".")
    if section != "loss" or len(path) != 2:
        return key
    [name, *_] = flattened({path[0]: {path[1]: 0}}).settings
    return f"loss.{name}" if name != path[0] or path[1] in ("name", "size", "start") else key
