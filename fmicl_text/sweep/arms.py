"""What a sweep compares: objectives, each with its divergence and kernel, and what is tuned within each.

``loss.objective``, ``loss.divergence`` and ``loss.kernel`` are compared: every combination of their values is an arm.
All other keys are tuned within each arm, where they apply: ``loss.sigma`` only with a kernel that has a width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from pydantic import ValidationError

from fmicl_text.data.yaml_tree import dotted
from fmicl_text.errors import InputError
from fmicl_text.findings import Finding, explain
from fmicl_text.losses.objective import Objective
from fmicl_text.losses.registry import chosen as objective_of
from fmicl_text.losses.registry import objectives
from fmicl_text.recipe.schema import PublishSection, Recipe
from fmicl_text.sweep.space import Choices, Part, Range, Scalar, Values
from fmicl_text.text import did_you_mean

INFONCE = "infonce"
OWN = "recipe"
"""The arm of the recipe as it is, which is not tuned."""
_COMPARED = ("objective", "divergence", "kernel")
_TRAINING_ALONE = ("mine", "augment", "shuffle_buffer")
"""Keys of ``data`` on which held-out rows do not depend."""
_TEMPERATURE = Range(low=0.01, high=0.5, log=True)
_SIGMA = Range(low=0.1, high=0.7, log=True)

Settings = dict[str, Scalar]
"""Key of the recipe, such as ``train.learning_rate`` -> the value of a trial."""
UNSET = object()
"""In place of a value: the recipe's own, or the default."""


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared.

    Attributes:
        name: What it is called, also in the names of folders.
        loss: Its ``loss`` section, before anything is tuned.
        tuned: Key of the recipe -> the values to try, in the order in which they are chosen.
    """

    name: str
    loss: Mapping[str, Any]
    tuned: Mapping[str, Values]

    @property
    def is_infonce(self) -> bool:
        """Whether it is InfoNCE, with which the others are compared."""
        return self.loss["objective"] == INFONCE

    def applies(self, key: str, value: Scalar, chosen: Mapping[str, Scalar]) -> bool:
        """Return whether a key can have a value beside what is chosen already, and does anything there."""
        return not key.startswith("loss.") or not _problems(self._loss({**chosen, key: value}))

    def may_apply(self, key: str) -> bool:
        """Return whether a key applies beside some choice of the keys before it."""
        return any(self._applying(key, chosen) for chosen in self.before(key))

    def why_not(self, key: str, value: Scalar) -> str:
        """Return what is wrong with a key that applies nowhere."""
        return _problems(self._loss({**next(self.before(key)), key: value}))[0].message

    def before(self, key: str) -> Iterator[Settings]:
        """Yield every choice of the settings of the loss that come before a key; of a range, its ends."""
        loss = [other for other in self.tuned if other.startswith("loss.")]
        yield from self._chosen({}, loss[: loss.index(key)] if key in loss else loss)

    def _chosen(self, chosen: Settings, keys: Sequence[str]) -> Iterator[Settings]:
        if not keys:
            yield chosen
            return
        key = keys[0]
        for settings in [chosen | {key: value} for value in self._applying(key, chosen)] or [chosen]:
            yield from self._chosen(settings, keys[1:])

    def _applying(self, key: str, chosen: Mapping[str, Scalar]) -> list[Scalar]:
        """Return the values of a key, of a range its ends, that it can have beside what is chosen already."""
        return [value for value in self.tuned[key].some if self.applies(key, value, chosen)]

    def choose(self, choice: Callable[[str, Values], Any]) -> Settings:
        """Return a value of each key that applies, as ``choice(key, values)`` chooses them one after the other.

        A key for which it chooses :data:`UNSET` is left out.
        """
        chosen: Settings = {}
        for key, values in self.tuned.items():
            if self._applying(key, chosen) and (value := choice(key, values)) is not UNSET:
                chosen[key] = value
        return chosen

    def grid(self, most: int) -> list[Settings] | None:
        """Return every combination of values; None if there are more than ``most``, or any number of a range."""
        found: list[Settings] = []
        for settings in self._combinations({}, list(self.tuned)):
            if settings is None or len(found) == most:
                return None
            found.append(settings)
        return found

    def _combinations(self, chosen: Settings, keys: list[str]) -> Iterator[Settings | None]:
        if not keys:
            yield chosen
            return
        key, values = keys[0], self.tuned[keys[0]]
        applying = self._applying(key, chosen)
        if not applying:
            yield from self._combinations(chosen, keys[1:])
        elif isinstance(values, Range):
            yield None
        else:
            for value in applying:
                yield from self._combinations(chosen | {key: value}, keys[1:])

    def default(self, base: Recipe) -> Settings:
        """Return the settings that the arm has when nothing is tuned, as far as they are among the values to try."""
        document = self.recipe(base, {}).model_dump(mode="json")

        def own(key: str, values: Values) -> Any:
            value: Any = document
            for step in key.split("."):
                value = value.get(step) if isinstance(value, dict) else None
            return value if value in values else UNSET

        return self.choose(own)

    def recipe(self, base: Recipe, settings: Mapping[str, Scalar]) -> Recipe:
        """Return the recipe of settings.

        Raises:
            InputError: The recipe refuses a value, with its key.
        """
        document = base.model_dump(mode="json") | {"loss": self._loss(settings)}
        for key, value in settings.items():
            section, *path = key.split(".")
            if section != "loss":
                _put(document, [section, *path], value, key)
        try:
            return Recipe.model_validate(document)
        except ValidationError as error:
            found = explain(error, document, Recipe)
            raise InputError([f"{dotted(one.path)}: {one.message}" for one in found]) from None

    def _loss(self, settings: Mapping[str, Scalar]) -> dict[str, Any]:
        chosen = {key.removeprefix("loss."): value for key, value in settings.items() if key.startswith("loss.")}
        return {**self.loss, **chosen}


def arms_of(base: Recipe, parts: Sequence[Part]) -> list[Arm]:
    """Return the arms of a space: InfoNCE, whose temperature is tuned in any case, the others, and the recipe's own.

    Raises:
        InputError: With every key or value that the recipe refuses in all arms.
    """
    if not isinstance(base.loss, Objective):
        raise InputError(f'loss.objective: "{base.loss.objective}" is declared by a file that was not run')
    if problems := [problem for part in parts for problem in _not_varied(base, part)]:
        raise InputError(list(dict.fromkeys(problems)))
    arms: dict[str, Arm] = {}
    read: list[tuple[Part, list[Arm]]] = []
    for part in parts:
        try:
            found = [_arm(base.loss, part, fixed) for fixed in _fixed(base.loss, part)]
        except InputError as error:
            problems += error.problems
            continue
        read.append((part, found))
        if twice := [arm.name for arm in found if arm.name in arms]:
            place = next(iter(part.places.values()), "the space")
            problems.append(f"{place}: {', '.join(twice)}: another part has it too; each is compared once")
        arms.update({arm.name: arm for arm in found})
    problems += _unused(base, read)
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    baseline = next((arm for arm in arms.values() if arm.is_infonce), None)
    if baseline is None:
        loss = _kept(base.loss, {"objective": INFONCE})
        baseline = Arm(
            INFONCE, loss, _ordered(loss, {k: v for part in parts for k, v in part.keys.items() if _of_all(k)})
        )
    if not {"loss.temperature", "loss.sigma"} & baseline.tuned.keys():
        wide = (
            {"loss.sigma": _SIGMA} if baseline.loss.get("kernel") == "gaussian" else {"loss.temperature": _TEMPERATURE}
        )
        baseline = replace(baseline, tuned={**baseline.tuned, **wide})
    own = Arm(OWN, _given(base.loss), {})
    return [baseline, *(arm for arm in arms.values() if arm.name != baseline.name), own]


def without_results(recipe: Recipe, seed: int) -> Recipe:
    """Return a recipe of one seed that measures nothing but the score that chooses: what judges is not looked at."""
    evaluate = recipe.evaluate.model_copy(update={"after": [], "before": False})
    return recipe.model_copy(update={"evaluate": evaluate, "seeds": [seed], "publish": PublishSection()})


def _fixed(base: Objective, part: Part) -> Iterator[dict[str, Any]]:
    """Yield every combination of what is compared."""
    listed = {}
    for name in _COMPARED:
        if (values := part.keys.get(f"loss.{name}")) is not None:
            if not isinstance(values, Choices) or None in values.values:
                raise InputError(f"{part.places[f'loss.{name}']}: loss.{name}: must be a list of names")
            listed[name] = values.values
    known = set()
    for combination in product(*listed.values()):
        fixed = {"objective": base.objective} | dict(zip(listed, combination, strict=True))
        declared = objective_of(fixed)
        if declared is not None:
            fixed = {name: value for name, value in fixed.items() if name in declared.model_fields}
        if tuple(fixed.items()) not in known:
            known.add(tuple(fixed.items()))
            yield fixed


def _arm(base: Objective, part: Part, fixed: dict[str, Any]) -> Arm:
    if objective_of(fixed) is None:
        hint = did_you_mean(str(fixed["objective"]), objectives())
        raise InputError(
            f'{part.places["loss.objective"]}: loss.objective: no objective "{fixed["objective"]}"{hint}; '
            f"there are {', '.join(objectives())}"
        )
    for finding in _problems(fixed):
        name = str(finding.path[0]) if finding.path else "objective"
        raise InputError(f"{part.places.get(f'loss.{name}', 'the space')}: loss.{name}: {finding.message}")
    kept = _kept(base, fixed)
    name = "-".join(str(fixed.get(key, kept.get(key))) for key in _COMPARED if key in fixed or key == "objective")
    tuned = _ordered(kept, {k: values for k, values in part.keys.items() if k.removeprefix("loss.") not in _COMPARED})
    if fixed["objective"] == "fmicl" and "divergence" not in fixed:
        name += f"-{kept.get('divergence', 'js')}"
    return Arm(name, kept, tuned)


def _kept(base: Objective, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``loss`` section with what the recipe gives, except what does not go with what is fixed.

    Settings of an objective of its own, such as its temperature, say nothing about another objective.
    """
    same = fixed["objective"] == base.objective
    given = {name: value for name, value in _given(base).items() if same or name in Objective.model_fields}
    loss = {**given, **fixed}
    while findings := [one for one in _problems(loss) if one.path and one.path[0] not in fixed]:
        loss.pop(str(findings[0].path[0]), None)
    return loss


def _given(base: Objective) -> dict[str, Any]:
    """Return what a recipe gives, but for defaults by name, such as ``sigma: adaptive``, which depend on the rest."""
    by_name = {name: value for name, value in base.defaults().items() if isinstance(value, str)}
    given = base.model_dump(mode="json", include=base.model_fields_set)
    return {name: value for name, value in given.items() if by_name.get(name) != value}


def _not_varied(base: Recipe, part: Part) -> Iterator[str]:
    """Yield what is wrong with keys that cannot be varied, since by what they decide trials are compared."""
    drawn = any(isinstance(source.heldout, float) for source in base.data.sources.values())
    for key in part.keys:
        section, _, name = key.partition(".")
        data = section == "data" and (name == "heldout" or (drawn and name.partition(".")[0] not in _TRAINING_ALONE))
        if data or section in ("name", "evaluate", "imports", "seeds", "publish"):
            yield f"{part.places[key]}: {key}: cannot be varied, as trials are compared by it; set it in the recipe"
        elif not name:
            yield f"{part.places[key]}: {key}: must be a key of a section, such as loss.sigma"


def _of_all(key: str) -> bool:
    """Whether a key is one of every objective."""
    section, _, name = key.partition(".")
    return section != "loss" or (name in Objective.model_fields and name not in _COMPARED)


def _ordered(loss: Mapping[str, Any], tuned: Mapping[str, Values]) -> dict[str, Values]:
    """Return settings in an order in which each comes after those that decide whether it applies."""
    ordered: list[str] = []
    for key in tuned:
        later = (place for place, other in enumerate(ordered) if _decides(loss, tuned, key, other))
        ordered.insert(next(later, len(ordered)), key)
    return {key: tuned[key] for key in ordered}


def _decides(loss: Mapping[str, Any], tuned: Mapping[str, Values], first: str, other: str) -> bool:
    """Whether it depends on a setting if another applies, and not the other way round."""
    if not (first.startswith("loss.") and other.startswith("loss.")):
        return False

    def fits(settings: Settings) -> bool:
        return not _problems({**loss, **{key.removeprefix("loss."): value for key, value in settings.items()}})

    def rules_out(one: str, another: str) -> bool:
        return any(
            fits({one: value}) and not any(fits({one: value, another: beside}) for beside in tuned[another].some)
            for value in tuned[one].some
        )

    def alone(key: str) -> bool:
        return any(fits({key: value}) for value in tuned[key].some)

    if not (alone(first) and alone(other)):
        return alone(first) and not rules_out(first, other)  # the other needs it
    return rules_out(first, other) and not rules_out(other, first)


def _unused(base: Recipe, read: Sequence[tuple[Part, Sequence[Arm]]]) -> list[str]:
    """Return what is wrong with each value that no arm accepts of the parts that have it, whatever else is chosen."""
    problems: dict[tuple[str, str, str], list[str]] = {}
    for part, arms in read:
        for key, values in part.keys.items():
            for value in values.some:
                place = (part.places[key], key, repr(value))
                if problems.get(place, ["not seen yet"]):
                    problems[place] = _why_unused(base, part, arms, key, value)
    return [problem for found in problems.values() for problem in found]


def _why_unused(base: Recipe, part: Part, arms: Sequence[Arm], key: str, value: Scalar) -> list[str]:
    name = key.removeprefix("loss.")
    if not key.startswith("loss."):
        try:
            arms[0].recipe(base, {key: value})
        except InputError as error:
            return [f"{part.places[key]}: {problem}" for problem in error.problems]
        return []
    best = next((arm for arm in arms if name in _fields(arm)), None)
    if name in _COMPARED:
        objectives_here = ", ".join(dict.fromkeys(str(arm.loss["objective"]) for arm in arms))
        return [] if best is not None else [f"{part.places[key]}: {key}: {objectives_here} has no {name}"]
    if any(arm.applies(key, value, chosen) for arm in arms for chosen in arm.before(key)):
        return []
    return [f"{part.places[key]}: {key}: {(best or arms[0]).why_not(key, value)}"]


def _fields(arm: Arm) -> Mapping[str, Any]:
    declared = objective_of(dict(arm.loss))
    return declared.model_fields if declared else {}


def _problems(loss: Mapping[str, Any]) -> list[Finding]:
    settings = dict(loss)
    declared: type[Objective] = objective_of(settings) or Objective
    try:
        declared.model_validate(settings)
    except ValidationError as error:
        return explain(error, settings, declared)
    return []


def _put(document: dict[str, Any], path: list[str], value: Scalar, key: str) -> None:
    section: Any = document
    for step in path[:-1]:
        if section.get(step) is None:
            section[step] = {}
        section = section[step]
        if not isinstance(section, dict):
            raise InputError(f"{key}: {step} is a value, it has no keys")
    section[path[-1]] = value
