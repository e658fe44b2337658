"""BatchNorm in several processes: the statistics of the whole batch, as on one device."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from sentence_transformers import SentenceTransformerTrainingArguments
from torch import nn

from fmicl_text.losses.length_groups import BATCH_NORMS
from fmicl_text.losses.sentences import SentenceLoss

logger = logging.getLogger(__name__)


def has_batch_norms(losses: Iterable[SentenceLoss]) -> bool:
    """Whether an encoder, projector or predictor has a BatchNorm, which has no statistics of a row alone."""
    return any(isinstance(part, BATCH_NORMS) for loss in losses for part in loss.modules())


def share_batch_norms(losses: Sequence[SentenceLoss], arguments: SentenceTransformerTrainingArguments) -> None:
    """Have the BatchNorms of encoder, moving average, projector and predictor share their statistics over processes.

    torch does so on GPUs alone; on CPUs each process keeps its own, and a warning says so.
    """
    if arguments.world_size == 1 or not has_batch_norms(losses):
        return
    if arguments.device.type == "cpu":
        if arguments.process_index == 0:
            logger.warning(
                "BatchNorm has statistics of each process's own rows: on CPUs torch cannot share them, and "
                "the result is not that of one process with the whole batch"
            )
        return
    for loss in losses:
        nn.SyncBatchNorm.convert_sync_batchnorm(loss)
