"""What ``fmicl export`` made of a run, published with it: the files, and a table of what they cost for the card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmicl_text.encoders.lora import ADAPTER_CONFIG
from fmicl_text.encoders.openvino import OPENVINO, loaded_by
from fmicl_text.errors import InputError
from fmicl_text.hub.links import files_under, refuse_links
from fmicl_text.hub.markdown import plain
from fmicl_text.hub.private import shorten
from fmicl_text.hub.source import Source
from fmicl_text.runs.exports import RANGES, Export, read_exports
from fmicl_text.runs.folder import RunFolder


def stage_exports(source: Source, folder: Path) -> list[Export]:
    """Copy a run's exports to the folder of what is published, and return their records.

    OpenVINO's files go to ``openvino/``, where sentence-transformers finds them, the ranges of int8 embeddings to
    ``embeddings/int8/``.

    Raises:
        InputError: If there are none, a record is damaged, or an adapter is published, which OpenVINO does not load.
    """
    run = RunFolder(source.model.parent)
    found = dict(read_exports(run)) if source.recipe is not None else {}
    if not found:
        raise InputError(f"--exports: `fmicl export` has made nothing of {run.path}")
    for place, export in found.items():
        if export.kind == "openvino":
            if (folder / ADAPTER_CONFIG).is_file():
                raise InputError(f"{place}: is a whole encoder, and an adapter is published; see --merge-adapter")
            files, target = files_under(place / "model" / OPENVINO), folder / OPENVINO
        else:
            files, target = [file for file in (place / RANGES,) if file.exists()], folder / "embeddings" / place.name
        refuse_links(files, [run.path])
        for file in files:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file.name)
    return list(found.values())


def on_card(export: Export, repo: str) -> dict[str, Any]:
    """Return what the card says of an export.

    Args:
        export: Its record.
        repo: Where it is published.
    """
    before, after = export.forms
    return {
        "usage": _usage(export, repo),
        "names": [before.name, after.name],
        "rows": [
            [f"bytes of {export.sized}", f"{before.bytes:,}", f"{after.bytes:,}"],
            ["rows a second, where it was measured", *(f"{form.rows_per_second:,.0f}" for form in export.forms)],
            *_scores(export),
        ],
    }


def _usage(export: Export, repo: str) -> str:
    if export.kind == "openvino":
        return f"`{loaded_by(repo, export.precision)}` computes by OpenVINO on the CPU."
    ranges = (
        f', with `ranges=safetensors.numpy.load_file(FILE)["ranges"]` of `embeddings/int8/{RANGES}`'
        if export.precision == "int8"
        else ""
    )
    return f'`quantize_embeddings(embeddings, "{export.precision}")` of `sentence_transformers.util`{ranges}.'


def _scores(export: Export) -> Iterator[list[str]]:
    for score in export.scores:
        unit = f" ({score.before.unit})" if score.before.unit else ""
        after = "missing" if score.after is None else score.before.written(score.after.value)
        name = plain(shorten(f"{score.evaluation}: {score.before.key}"))
        yield [name + unit, score.before.written(score.before.value), after]
