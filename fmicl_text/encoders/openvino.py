"""Encoders converted to OpenVINO, whole or in int8, by sentence-transformers' own exporters."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fmicl_text.encoders.lora import has_adapter, merge_adapter
from fmicl_text.encoders.text import load_model
from fmicl_text.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EXTRA = 'pip install "fmicl-text[openvino]"'
"""The command that installs what the conversion needs."""
OPENVINO = "openvino"
"""The folder, within that of an encoder, with OpenVINO's files."""
Precision = Literal["float32", "int8"]
"""Of the products of matrices."""
NAMES: dict[Precision, str] = {"float32": "openvino_model", "int8": "openvino_model_qint8_quantized"}
"""Precision -> the name that sentence-transformers gives the two files of a model, .xml and .bin."""
_CALIBRATION_TOKENS = 384  # to which sentence-transformers fills up the texts of the calibration


def check_convertible(model: SentenceTransformer, precision: Precision, place: str) -> None:
    """Refuse the conversion of an encoder that cannot be converted.

    Args:
        model: The encoder.
        precision: To what.
        place: The key or folder with which the message begins.

    Raises:
        InputError: It does not begin with a transformer; for int8, it reads fewer tokens than the library's
            calibration has.
    """
    from sentence_transformers.base.modules import Transformer

    if not isinstance(model[0], Transformer):
        begins = type(model[0]).__name__
        raise InputError(f"{place}: the encoder begins with {begins}; what OpenVINO converts is a transformer")
    longest = getattr(model[0].model.config, "max_position_embeddings", None)
    if precision == "int8" and longest is not None and longest < _CALIBRATION_TOKENS:
        raise InputError(
            f"{place}: the encoder reads at most {longest} tokens; sentence-transformers calibrates int8 with "
            f"{_CALIBRATION_TOKENS}. Take float32"
        )


def require_openvino(place: str) -> None:
    """Refuse a conversion where the libraries for it are missing.

    Args:
        place: The key or option with which the message begins.

    Raises:
        InputError: With the command that installs them.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where nncf, at import, decides to log
            import optimum.intel.openvino  # noqa: F401
    except ImportError as error:
        raise InputError(f"{place}: needs OpenVINO and optimum-intel ({error}): {EXTRA}") from None


def convert(encoder: Path, folder: Path, precision: Precision, texts: Sequence[str]) -> None:
    """Save an encoder for OpenVINO, with its tokenizer and modules; an adapter is merged into its base.

    Args:
        encoder: Its folder.
        folder: Where it goes.
        precision: For int8, weights and activations are quantised.
        texts: By which the ranges of activations are found, for int8; of them the first 300 at most.

    Raises:
        InputError: As :func:`check_convertible`; if optimum-intel does not know the encoder's architecture.
    """
    from sentence_transformers.backend import export_static_quantized_openvino_model

    # nncf draws its progress on standard output.
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
        source = _whole(encoder, Path(scratch) / "whole", precision)
        try:
            converted = _load(source, {"export": True})
        except ValueError as error:  # an architecture that it does not know, or not with these transformers
            reason = str(error).partition(". ")[0]
            raise InputError(f"{encoder}: optimum-intel does not convert this encoder: {reason}") from None
        converted.save_pretrained(str(folder), create_model_card=False)
        if precision == "float32":
            return
        calibration = Path(scratch) / "calibration"
        calibration.mkdir()
        (calibration / "texts.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts), "utf-8")
        export_static_quantized_openvino_model(
            converted,
            None,
            str(folder),
            dataset_name=str(calibration),
            dataset_config_name="default",
            dataset_split="train",
            column_name="text",
        )
    for suffix in (".xml", ".bin"):
        (folder / OPENVINO / NAMES["float32"]).with_suffix(suffix).unlink()


def load_converted(folder: Path, precision: Precision) -> SentenceTransformer:
    """Load what :func:`convert` saved; it computes on the CPU, in as many threads as torch."""
    import torch

    threads = {"INFERENCE_NUM_THREADS": str(torch.get_num_threads())}
    return _load(folder, {"file_name": f"{NAMES[precision]}.xml", "ov_config": threads})


def loaded_by(name: str, precision: str) -> str:
    """Return the line of Python that loads a converted encoder, by the name of its folder or repository."""
    file = "" if precision == "float32" else f', model_kwargs={{"file_name": "{NAMES["int8"]}.xml"}}'
    return f'SentenceTransformer("{name}", backend="openvino"{file})'


def _load(folder: Path, options: dict[str, object]) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        str(folder), device="cpu", backend="openvino", local_files_only=True, model_kwargs=options
    )


def _whole(encoder: Path, scratch: Path, precision: Precision) -> Path:
    """Return the folder of an encoder, or of the sum of an adapter and its base; refuse one that is not converted."""
    model = load_model(str(encoder))
    check_convertible(model, precision, str(encoder))
    if not has_adapter(model):
        return encoder
    merge_adapter(model)
    model.save_pretrained(str(scratch), create_model_card=False)
    return scratch
