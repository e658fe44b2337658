"""Values of a recipe's ``train`` section that the libraries refuse or silently ignore, found before training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fmicl_text.errors import InputError

_NEEDS_EVALUATION = "needs an evaluation during training: set evaluate.during"


def check_train_section(train: dict[str, Any], evaluates: bool, no_lone_row: str | None) -> None:
    """Refuse values that cannot train.

    Args:
        train: The section, types checked.
        evaluates: Whether the recipe evaluates during training.
        no_lone_row: Why a batch of one row cannot train, if it cannot.

    Raises:
        InputError: With every problem.
    """
    problems = []

    def refuse(key: str, why: str) -> None:
        problems.append(f"train.{key}: {why}")

    def at_least(key: str, least: float, why: str = "") -> None:
        value = train.get(key)
        if value is not None and value < least:
            refuse(key, f"must be at least {least}{why}, got {value}")

    at_least("gradient_accumulation_steps", 1)
    if no_lone_row is None:
        at_least("per_device_train_batch_size", 1)
    else:
        at_least("per_device_train_batch_size", 2, f": {no_lone_row}")
    at_least("save_total_limit", 0)
    at_least("weight_decay", 0)
    for key in ("save_steps", "eval_steps", "logging_steps"):
        if train.get(key, 1) <= 0:
            refuse(key, f"must be above 0 (a share of all steps if below 1), got {train[key]}")
    if train.get("max_steps") == 0:
        refuse("max_steps", "0 steps train nothing; give at least 1, or leave it out to train for num_train_epochs")
    if train.get("num_train_epochs", 1) <= 0 and train.get("max_steps", -1) < 1:
        refuse("num_train_epochs", f"must be above 0, got {train['num_train_epochs']}")
    if train.get("dataloader_persistent_workers") and not train.get("dataloader_num_workers"):
        refuse("dataloader_persistent_workers", "needs workers: set dataloader_num_workers to 1 or more")
    if train.get("dataloader_prefetch_factor") and not train.get("dataloader_num_workers"):
        refuse("dataloader_prefetch_factor", "needs workers: set dataloader_num_workers to 1 or more")
    if train.get("resume_from_checkpoint") is not None:
        refuse("resume_from_checkpoint", "is not set in a recipe: `fmicl train --resume` resumes a run")
    if train.get("save_only_model"):
        refuse("save_only_model", "leaves out what a run is resumed from; save_total_limit: 1 keeps fewer checkpoints")
    for key in ("metric_for_best_model", "greater_is_better"):
        if train.get(key) is not None:
            refuse(key, "is not set here: evaluate.during says by which score the checkpoint is chosen")
    if train.get("enable_jit_checkpoint"):
        refuse("enable_jit_checkpoint", "is not needed: on SIGTERM a checkpoint is written by `fmicl train` itself")
    if train.get("label_smoothing_factor"):
        refuse("label_smoothing_factor", "is for classes; a contrastive loss has none")
    if train.get("neftune_noise_alpha") is not None:
        refuse("neftune_noise_alpha", "is for causal language models; sentence encoders do not support it")
    if train.get("use_liger_kernel"):
        refuse("use_liger_kernel", "is for causal language models; sentence encoders do not support it")
    schedule = train.get("lr_scheduler_type")
    if train.get("lr_scheduler_kwargs") and schedule in ("constant", "constant_with_warmup"):
        refuse("lr_scheduler_kwargs", f"has no effect: lr_scheduler_type: {schedule} takes none")
    if not evaluates:
        if train.get("save_strategy") == "best":
            refuse("save_strategy", f"best {_NEEDS_EVALUATION}")
        if train.get("eval_strategy", "no") != "no":
            refuse("eval_strategy", f"{train['eval_strategy']} {_NEEDS_EVALUATION}")
    if problems:
        raise InputError(problems)


@contextmanager
def refusals(train: dict[str, Any]) -> Iterator[None]:
    """Turn what the libraries refuse of the section into an input error, with its key where the message has it."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, ImportError, AttributeError, NotImplementedError, OSError) as error:
        message = " ".join(str(error).split())
        if isinstance(error, KeyError):  # which has nothing but the key
            message = f"no value {message} is known"
        elif isinstance(error, OSError) and error.filename:
            message = f"{error.filename}: {error.strerror}"
        key = _mentioned(train, message)
        raise InputError(f"train{f'.{key}' if key else ''}: {message}") from error


def _mentioned(train: dict[str, Any], message: str) -> str | None:
    """Return the key that a message is about: it has its name, part of its name, or its value."""
    signs = (
        lambda key, value: key in message,
        lambda key, value: key.replace("_", " ") in message or "_".join(key.split("_")[-2:]) in message,
        lambda key, value: (
            any(f"'{name}'" in message for name in value) if isinstance(value, dict) else value in message
        ),
    )
    written = {key: value if isinstance(value, str | dict) else json.dumps(value) for key, value in train.items()}
    found = (key for sign in signs for key, value in written.items() if sign(key, value))
    return next(found, None)
