"""What of accelerate's configurations a run can use: processes that each hold the encoder, not sharding."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from fmicl_text.data.yaml_tree import Place, check_tokens
from fmicl_text.errors import InputError
from fmicl_text.text import one_line

NO_SHARDING = (
    "is not supported: a checkpoint has encoder, loss and optimizer whole, and a sharded run could not be resumed from "
    "it. Each process holds the encoder (--num-processes); with too little memory for that, use loss.mini_batch_size, "
    "train.gradient_checkpointing or model.lora"
)
_WHOLE = ("NO", "MULTI_CPU", "MULTI_GPU")
_USED = ("distributed_type", "num_processes")
_UNUSED: dict[str, tuple[Any, ...]] = {
    "compute_environment": ("LOCAL_MACHINE",),
    "num_machines": (1,),
    "machine_rank": (0,),
    "mixed_precision": ("no",),
    "downcast_bf16": ("no",),
    "gpu_ids": ("all",),
    "main_training_function": ("main",),
    "rdzv_backend": ("static", "c10d"),
    "same_network": (True, False),
    "use_cpu": (False,),
    "debug": (True, False),
}
"""Keys of the file that say nothing here -> the values that they may have; any other key must be empty or false."""
_REMEDIES = {
    "num_machines": "; start `accelerate launch -m fmicl_text train RECIPE` on each machine",
    "mixed_precision": "; the recipe says it, by train.bf16 or train.fp16",
    "gpu_ids": "; set CUDA_VISIBLE_DEVICES",
}


def processes_of(file: Path) -> int:
    """Return the number of processes that a configuration of ``accelerate config`` asks for.

    Raises:
        InputError: If the file cannot be read, or asks for what ``fmicl train`` does not do, such as sharding: each of
            these keys.
    """
    try:
        text = file.read_text(encoding="utf-8")
        check_tokens(text, lambda line: Place(line, f"{file}:{line}"))
        settings = yaml.safe_load(text)
    except InputError:
        raise
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or a date that is none
        raise InputError(f"{file}: cannot be read: {one_line(error)}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{file}: must have the keys that `accelerate config` writes")
    kind, number = settings.get("distributed_type", "NO"), settings.get("num_processes", 1)
    problems = []
    if kind not in _WHOLE:
        problems.append(f"distributed_type: {kind} {NO_SHARDING}")
    if not isinstance(number, int) or number < 1:
        problems.append(f"num_processes: must be at least 1, got {number}")
    for key, value in settings.items():
        belongs_to_kind = kind not in _WHOLE and str(key).startswith(str(kind).lower())
        if key not in _USED and value and value not in _UNUSED.get(key, ()) and not belongs_to_kind:
            problems.append(f"{key}: {value} is not supported here{_REMEDIES.get(key, '')}")
    if problems:
        raise InputError([f"{file}: {problem}" for problem in problems])
    return int(number)


def refuse_sharding() -> None:
    """Refuse to run where ``accelerate launch`` has been told to shard the model.

    Raises:
        InputError: If it has.
    """
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1"):
            raise InputError(f"accelerate launch: {name} {NO_SHARDING}")
