r"""A temperature that follows how far positive and negative pairs overlap: the default width of f-MICL by row.

**Overlap.** Twice the share of negative pairs that are more similar than their anchor's positive, ties half,

    rho = min(1, 2 P(s_ij > s_ii)),    i's positive is i, its negatives are j,

is 0 where every positive is nearer than every negative, and 1 where being the positive says nothing of the cosine.
(Below 1, ``1 - rho/2`` is the area under the curve of Mann and Whitney, anchor by anchor.) It is high for one of two
reasons: the encoder knows little of the data yet, or many negatives are as right as the positives. If a share q of the
negatives has the anchor's label, as a positive does, it cannot fall below q, however good the encoder is.

**Temperature.** The lower it is, the more of an anchor's push goes to the negatives that are nearest (Wang, Liu,
"Understanding the Behaviour of Contrastive Loss", CVPR 2021, arXiv 2012.09740). Where little overlaps these are the
near misses from which there is most to learn. Where much overlaps they are those that may be as right as the positive:
it is better to push all alike, which moves labels apart and leaves texts of one label together. Hence

    tau = 0.05 (1 + 3 rho),

from 0.05, the temperature of MultipleNegativesRankingLoss, where nothing overlaps, to 0.2, where everything does.
Between these lie the best temperatures of those tried, of InfoNCE on the kinds of data of
``eval/benchmarks/default_loss``.

Each batch has its own, a constant for the gradient. So there is nothing to keep for a resume; an encoder that knows
little begins at a high temperature, which falls as it learns; where labels are shared it stays high. Texts and groups
that are known to be the same do not count. As a mean over pairs, rho does not depend on the batch size in expectation;
over processes it is that of the whole batch. Of a large batch some 512 rows are compared with all of their negatives:
a small part of a sweep, and over processes one more trip around the ring.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fmicl_text.core.batch import Batch
from fmicl_text.core.devices import rank, total, visit, world_size
from fmicl_text.core.kernels import CosineKernel, Kernel
from fmicl_text.core.pairs import Block, Rows
from fmicl_text.core.tiles import of_rows, tiles

LOWEST = 0.05
"""The temperature where no negative is as similar as its anchor's positive."""
_RISE = 3.0
_ROWS = 512
"""Of a larger batch, about so many rows are compared with all of their negatives."""
_COSINE = CosineKernel(1.0)


def of_batch_width(kernel: Kernel, batch: Batch, negatives: str) -> Kernel:
    """Return a kernel with the temperature that the overlap of a batch gives, a scalar tensor without gradient.

    Args:
        kernel: A kernel whose width is adaptive.
        batch: The batch; where its negatives are restricted to a region, all of them count here.
        negatives: One of :data:`fmicl_text.core.NEGATIVES`.
    """
    found = overlap(batch._replace(region=None).candidates(negatives), batch.own(_COSINE))
    return kernel.of_batch(LOWEST * (1 + _RISE * found))


@torch.no_grad()
def overlap(rows: Sequence[Sequence[Block]], own: Tensor) -> Tensor:
    """Return ``rho`` of the processes that share the batch, a scalar; 0 without any negative pair.

    Args:
        rows: For each set of ``B`` rows the blocks of their negatives, as :meth:`Batch.candidates` returns them.
        own: Cosine of each row with its positive ``(B,)``.
    """
    step = -(-len(own) * world_size() // _ROWS)
    first = min(-rank() * len(own) % step, len(own))  # of more than 512 processes, some have none
    chosen = torch.arange(first, len(own), step, device=own.device)  # (b,)
    positives = own[chosen]
    nearer = torch.zeros((), dtype=torch.int64, device=own.device)  # in halves of a pair
    pairs = torch.zeros_like(nearer)
    for block in (of_rows(block, chosen) for blocks in rows for block in blocks):

        def look(visiting: Rows, _: Tensor | None, block: Block = block) -> None:
            for tile in tiles(block, visiting):
                positive = positives[tile.i, None]  # (b, 1)
                counts = torch.ones_like(tile.cosines, dtype=torch.bool) if tile.out is None else ~tile.out  # (b, m)
                nearer.add_((counts & (tile.cosines > positive)).sum() + (counts & (tile.cosines >= positive)).sum())
                pairs.add_(counts.sum())

        visit(block.columns, look)
    return (total(nearer).to(own.dtype) / total(pairs).clamp(min=1)).clamp(max=1)
