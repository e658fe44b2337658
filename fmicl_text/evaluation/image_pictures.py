"""Pictures of how an encoder sees images: the nearest neighbours of a few, and a map of many."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fmicl_text.evaluation.images import LabelledImages

_ASKED, _FOUND, _ON_THE_MAP = 6, 8, 500


def pictures(data: LabelledImages, bank: np.ndarray, test: np.ndarray) -> dict[str, bytes]:
    """Return PNG files by what they show.

    Args:
        data: The images.
        bank: Embeddings of the labelled images, ``(N, D)``.
        test: Embeddings of the test images, ``(Q, D)``.
    """
    return {"neighbours": _png(_neighbours(data, bank, test)), "map": _png(_map(data, test))}


def _neighbours(data: LabelledImages, bank: np.ndarray, test: np.ndarray) -> Figure:
    """Draw test images that stand evenly apart, the same for every model, each with its nearest labelled ones."""
    from matplotlib.figure import Figure

    asked = np.linspace(0, len(test) - 1, min(_ASKED, len(test))).astype(int)
    unit = bank / np.maximum(np.linalg.norm(bank, axis=1, keepdims=True), 1e-12)
    nearest = np.argsort(-(test[asked] @ unit.T), axis=1)[:, :_FOUND]
    figure = Figure(figsize=(0.8 * (_FOUND + 1), 0.8 * len(asked)))
    axes = figure.subplots(len(asked), _FOUND + 1, squeeze=False)
    for row, (query, found) in enumerate(zip(asked, nearest, strict=True)):
        label = data.test[int(query)]["label"]
        shown = [data.test[int(query)], *(data.bank[int(place)] for place in found)]
        for column, one in enumerate(shown):
            cell = axes[row, column]
            cell.imshow(np.frombuffer(one["image"], np.uint8).reshape(data.size, data.size, 3))
            colour = "black" if not column else "#3f9e6e" if one["label"] == label else "#dd6b3d"
            cell.set(xticks=[], yticks=[])
            for side in cell.spines.values():
                side.set(color=colour, linewidth=2)
        for cell in axes[row, len(shown) :]:
            cell.set_axis_off()
    figure.suptitle("test image, and its nearest: green of its class, orange of another", fontsize=8)
    return figure


def _map(data: LabelledImages, test: np.ndarray) -> Figure:
    """Draw test images as points, near where their embeddings are near, coloured by class."""
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    rows = np.linspace(0, len(test) - 1, min(_ON_THE_MAP, len(test))).astype(int)
    unit = test[rows] / np.maximum(np.linalg.norm(test[rows], axis=1, keepdims=True), 1e-12)
    perplexity = min(30.0, max(1.0, (len(rows) - 1) / 3))
    points = TSNE(perplexity=perplexity, init="random", max_iter=500, random_state=0).fit_transform(unit)
    labels = np.array(data.test.select(rows)["label"])
    figure = Figure(figsize=(5, 4.4))
    axes = figure.subplots()
    for number, name in enumerate(data.classes[:20]):
        of_class = labels == name
        x, y = points[of_class].T
        axes.scatter(x, y, s=8, label=name, color=f"C{number % 10}", marker="o^"[number // 10])
    axes.set(xticks=[], yticks=[], title="test images by t-SNE of their embeddings")
    axes.legend(fontsize=6, ncols=2)
    return figure


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return file.getvalue()
