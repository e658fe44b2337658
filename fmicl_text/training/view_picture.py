"""A picture of the views that a training compares, so that one sees what it is asked to take for the same."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from fmicl_text.encoders.views import PIXELS, PixelCollator
from fmicl_text.files import write_bytes
from fmicl_text.training.trainer import ContrastiveTrainer

_IMAGES = 10


def draw_views(trainer: ContrastiveTrainer, path: Path) -> None:
    """Draw images from all over the training data, and below each two views of it.

    The first ones of a folder sorted by class would all be of one.

    Args:
        trainer: With views.
        path: The PNG to write.
    """
    from matplotlib.figure import Figure

    assert trainer.views is not None and trainer.train_dataset is not None
    count = len(trainer.train_dataset)
    shown = min(_IMAGES, count)
    rows = [trainer.train_dataset[number * count // shown] for number in range(shown)]
    images = PixelCollator(trainer.views.size)(rows)[PIXELS]  # (B, S, S, 3)
    views = [view.permute(0, 2, 3, 1) for view in trainer.views.draw(images, trainer.args.seed)]
    lines = torch.stack([images.float() / 255, *views]).cpu()  # (3, B, S, S, 3)
    lines = torch.nn.functional.pad(lines, [0, 0, *[trainer.views.size // 16] * 4], value=1.0)  # white between them
    figure = Figure(figsize=(0.8 * len(rows), 0.8 * len(lines)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(lines.transpose(1, 2).flatten(2, 3).flatten(0, 1).numpy())
    axes.set_axis_off()
    axes.set_title("images, and two views of each", fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    write_bytes(path, file.getvalue())
