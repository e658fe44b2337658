"""The type of matrix products in training: what a recipe asks for, and what the device is faster with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainingArguments

from fmicl_text.encoders.section import ModelSection
from fmicl_text.errors import InputError
from fmicl_text.evaluation.embeddings import cpu_has_bfloat16
from fmicl_text.recipe.training_arguments import PRECISION
from fmicl_text.runs.manifest import AUTOCAST

logger = logging.getLogger(__name__)


def settings_of(train: Mapping[str, Any], on_cpu: bool) -> dict[str, bool]:
    """Return what of the trainer's arguments the recipe's ``train`` section leaves to the device.

    ``precision``, which can only be ``auto``, is bfloat16 on a device that has instructions for it, and else float32.
    On a CPU without them ``bf16: true`` is dropped: emulating them is several times slower than float32. ``fp16: true``
    is dropped on any CPU, which accelerate trains in float32 all the same.

    Args:
        train: The section.
        on_cpu: Whether a CPU trains.
    """
    if PRECISION in train:
        return {"bf16": _has_bfloat16(on_cpu)}
    if not on_cpu:
        return {}
    emulated = train.get("bf16") and not cpu_has_bfloat16()
    return ({"bf16": False} if emulated else {}) | ({"fp16": False} if train.get("fp16") else {})


def _has_bfloat16(on_cpu: bool) -> bool:
    if on_cpu:
        return cpu_has_bfloat16()
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def require_half_precision(model: ModelSection, arguments: SentenceTransformerTrainingArguments) -> None:
    """Refuse flash attention where training would compute it in float32.

    Raises:
        InputError: With what gives half precision.
    """
    if model.is_flash_in_float32 and not (arguments.bf16 or arguments.fp16):
        raise InputError(
            f"model.attn_implementation: {model.attn_implementation} computes in half precision alone; set "
            "train.bf16 or train.fp16 to true, or model.dtype to bfloat16, or take sdpa"
        )


def precision(arguments: SentenceTransformerTrainingArguments, dtype: str) -> str:
    """Return the type of matrix products in training: that of autocast, or else of the weights, ``dtype``."""
    kind = "bfloat16" if arguments.bf16 else "float16"
    return f"{kind} {AUTOCAST}" if arguments.bf16 or arguments.fp16 else dtype


def tell(train: Mapping[str, Any], arguments: SentenceTransformerTrainingArguments, dtype: str) -> None:
    """Say what was left to the device, and why it is what it is, and warn of weights that it is slow with.

    Args:
        train: The recipe's section.
        arguments: What became of it.
        dtype: Type of the encoder's weights.
    """
    device, found = "CPU" if arguments.use_cpu else "device", precision(arguments, dtype)
    if arguments.bf16 and PRECISION in train:
        logger.info("precision: auto is %s, which this %s has instructions for", found, device)
    elif PRECISION in train:
        logger.info("precision: auto is %s, as this %s has no bfloat16 instructions", found, device)
    elif train.get("bf16") and not arguments.bf16:
        logger.warning("this CPU has no bfloat16 instructions: training without autocast, which is faster here")
    elif train.get("fp16") and not arguments.fp16:
        logger.warning("train.fp16 is for a GPU: training without autocast on this CPU")
    if found == "bfloat16" and arguments.use_cpu and not cpu_has_bfloat16():
        logger.warning("this CPU has no bfloat16 instructions: model.dtype: float32 is several times faster here")
