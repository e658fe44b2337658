"""The exports of a run that its recipe publishes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fmicl_text.hub.source import find_source
from fmicl_text.runs.exports import Export, read_exports
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.export_embeddings import export_embeddings
from fmicl_text.training.export_openvino import export_openvino

logger = logging.getLogger(__name__)

_BY_KIND: dict[str, Callable[[Path, Any, bool], tuple[Path, Export]]] = {
    "embeddings": export_embeddings,
    "openvino": export_openvino,
}


def make_exports(run: Path, names: Sequence[str]) -> None:
    """Make the exports of a finished run that are not there yet.

    Args:
        run: Its folder; of several seeds, the first one's encoder is exported.
        names: Kinds and precisions, which are their folders in the run, such as ``embeddings/int8``.

    Raises:
        InputError: As :func:`~fmicl_text.training.export_embeddings.export_embeddings` and
            :func:`~fmicl_text.training.export_openvino.export_openvino`.
    """
    if not names:
        return
    folder = RunFolder(find_source(run).model.parent)
    there = {place.relative_to(folder.path).as_posix() for place, _ in read_exports(folder)}
    for name in names:
        if name not in there:
            logger.info("exporting %s", name)
            kind, _, precision = name.partition("/")
            _BY_KIND[kind](run, precision, True)
