"""One process trains on one GPU, however many there are.

transformers would spread the batch of a single process over all GPUs by ``DataParallel``, which accelerate does not
prepare: without autocast, and with another batch size than the recipe says. Its documentation has no argument that
prevents this, only the environment variable ``CUDA_VISIBLE_DEVICES``, which must be set before CUDA is looked at; so
a private attribute of its arguments is set here.
"""

from __future__ import annotations

import logging

from transformers import TrainingArguments

logger = logging.getLogger(__name__)


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Let a single process train on its first GPU alone, and say so where there are more.

    Args:
        arguments: Of the trainer; those of one of several processes have one GPU already.
    """
    if arguments.n_gpu > 1:
        logger.info(
            "this process trains on the first of %d GPUs; --num-processes %d trains on all of them, with as many "
            "times the batch; CUDA_VISIBLE_DEVICES chooses one",
            arguments.n_gpu,
            arguments.n_gpu,
        )
        arguments._n_gpu = 1
