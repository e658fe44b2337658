"""``train.optim_args``: arguments that the libraries would silently ignore, found before training."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from transformers import Trainer

from fmicl_text.errors import InputError
from fmicl_text.text import did_you_mean

_ELSEWHERE = {"lr": "learning_rate", "learning_rate": "learning_rate", "weight_decay": "weight_decay"}
"""What each group of parameters is given, which holds over the optimizer's own."""


def check_optimizer_arguments(trainer: Trainer, optim: str) -> None:
    """Refuse arguments of the optimizer that it is not given.

    Which ones transformers hands on differs from optimizer to optimizer, and is written down nowhere: an argument is
    handed on if a value that no argument can have makes a difference.

    Args:
        trainer: Its arguments count.
        optim: What the recipe calls the optimizer.

    Raises:
        InputError: With every such argument, and those that there are.
    """
    pairs = [part.partition("=") for part in (trainer.args.optim_args or "").replace(" ", "").split(",") if part]
    if wrong := [name for name, sign, value in pairs if not (name and sign and value) or "=" in value]:
        raise InputError(f"train.optim_args: must be like momentum=0.9,nesterov=true, got {wrong[0]} without one value")
    if not pairs:
        return
    plain = _settings(trainer, None)

    def is_handed_on(name: str) -> bool:
        try:
            return bool(_settings(trainer, f"{name}=?") != plain)
        except (ValueError, AttributeError):  # as it is read
            return True

    problems = []
    for name, *_ in pairs:
        if name in _ELSEWHERE:
            problems.append(f"train.optim_args: {name} has no effect here; set train.{_ELSEWHERE[name]}")
        elif not is_handed_on(name):
            there = [own for own in _parameters(plain[0]) if own not in _ELSEWHERE and is_handed_on(own)]
            takes = f"there are {', '.join(there)}" if there else "it takes none here, but train has fields for it"
            problems.append(f"train.optim_args: {optim} is not given {name}{did_you_mean(name, there)}; {takes}")
    if problems:
        raise InputError(problems)


def _settings(trainer: Trainer, optim_args: str | None) -> tuple[Any, Any]:
    arguments = copy.copy(trainer.args)
    arguments.optim_args = optim_args
    return trainer.get_optimizer_cls_and_kwargs(arguments, trainer.model)


def _parameters(optimizer: Any) -> list[str]:
    """Return the names of an optimizer's arguments but for what it optimises."""
    return [name for name in inspect.signature(optimizer).parameters if name not in ("self", "params", "kwargs")]
