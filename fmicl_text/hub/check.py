"""What is not published: pickles and foreign files, encoders without tokenizer, local paths, and secrets."""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.encoders.pickles import PICKLES, convert
from fmicl_text.errors import InputError
from fmicl_text.hub.links import files_under, refuse_links
from fmicl_text.hub.own_code import WHY
from fmicl_text.hub.private import ADDRESS, local_paths, secrets

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_WEIGHTS = ".safetensors"
_SENTENCEPIECE = ".model"
_TEXTS = (".json", ".txt", ".jinja", ".md", ".yaml")
_OPENVINO = re.compile(r"openvino_[\w.-]*\.(xml|bin)")
"""The two files of a model for OpenVINO: its operations, as text, and its numbers alone, which are no pickle."""
_OF_THE_CARD = "assets"
"""Folder of the images on the card that sentence-transformers writes, which is not the one that is published."""
_LICENCES = ("LICENSE", "LICENCE", "NOTICE")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
"""Vocabularies: their entries may look like local paths."""


def encoder_files(folder: Path, links_into: Sequence[Path] | None = ()) -> list[Path]:
    """Return the files of an encoder, relative to its folder; hidden ones and its card are left out.

    Args:
        folder: The encoder's folder, resolved.
        links_into: Other folders that links in it may lead into; None if nobody will follow them.

    Raises:
        InputError: If a link leads elsewhere; if there is a file that sentence-transformers does not read from
            safetensors and text. All of them at once, pickled weights with the command that converts them.
    """
    files = [file.relative_to(folder) for file in files_under(folder)]
    files = [
        file
        for file in files
        if not any(part.startswith(".") for part in file.parts)
        and file.name != "README.md"
        and file.parts[0] != _OF_THE_CARD
    ]
    if links_into is not None:
        refuse_links((folder / file for file in files), [folder, *links_into])
    unknown = [file for file in files if file.suffix not in (_WEIGHTS, _SENTENCEPIECE, *_TEXTS)]
    unknown = [file for file in unknown if file.stem not in _LICENCES and not _OPENVINO.fullmatch(file.name)]
    pickles = [file for file in unknown if file.suffix.lower() in PICKLES]
    code = [file for file in unknown if file.suffix == ".py"]
    others = [file for file in unknown if file not in pickles and file not in code]
    problems = [f"{folder / file}: is a pickle, which can run code on the machine that loads it" for file in pickles]
    if pickles:
        problems.append(
            f"convert the weights, if you trust them, and publish what comes out:\n    {convert(str(folder))}"
        )
    problems += [f"{folder / file}: {WHY}; if it loads without this file, move it elsewhere" for file in code]
    problems += [f"{folder / file}: is not part of an encoder; move it elsewhere" for file in others]
    if not any(file.suffix == _WEIGHTS for file in files) and not pickles:
        problems.append(f"{folder}: has no weights (*.safetensors)")
    if problems:
        raise InputError(problems)
    return files


def check_tokenizers(model: SentenceTransformer, folder: Path, source: Path) -> None:
    """Check that an encoder has the vocabulary files of each of its tokenizers.

    Without them transformers still loads the model, with a tokenizer that knows no words.

    Args:
        model: The encoder, loaded.
        folder: What it was loaded from.
        source: What it is called in the error.

    Raises:
        InputError: A tokenizer has none of its files in the folder.
    """
    there = {file.name for file in folder.rglob("*")}
    for module in model.modules():
        tokenizer = getattr(module, "tokenizer", None)
        files = set(getattr(tokenizer, "vocab_files_names", {}).values())
        if files and not files & there:
            raise InputError(
                f"{source}: has no tokenizer: none of {', '.join(sorted(files))} is there; save the encoder again by "
                "SentenceTransformer.save_pretrained"
            )


def check_contents(folder: Path) -> None:
    """Search every file that is to be published for local paths and secrets.

    Raises:
        InputError: If any has a local absolute path or a secret in it, or is not the text its name says; all of them
            at once, each with its file and line. A secret itself is not shown.
    """
    problems: list[str] = []
    patterns = secrets()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        if file.stat().st_size == 0:
            continue
        with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for what, pattern in patterns.items():
                end = _end_of_text(file, content) if what == ADDRESS else len(content)
                if match := pattern.search(content, 0, end):
                    line = content[: match.start()].count(b"\n") + 1
                    problems.append(f"{name}:{line}: has {what} in it")
        if file.suffix == _WEIGHTS:
            problems += [f"{name}: header: has the local path {path} in it" for _, path in local_paths(_header(file))]
        elif file.suffix != _SENTENCEPIECE and not _is_numbers(file):
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                problems.append(f"{name}: is not text")
                continue
            if file.suffix == ".json":  # a path may come after an escaped line break
                text = re.sub(r"\\(.)", lambda escape: escape[1] if escape[1] in '"\\/' else " ", text)
            if file.name not in _VOCABULARIES:
                problems += [f"{name}:{line}: has the local path {path} in it" for line, path in local_paths(text)]
    if problems:
        raise InputError([*problems, "nothing was published; remove what others should not see, and publish again"])


def _end_of_text(file: Path, content: mmap.mmap) -> int:
    """Return where the numbers of a file begin: after the header of safetensors, whose first 8 bytes are its length."""
    if file.suffix == _WEIGHTS:
        return 8 + int.from_bytes(content[:8], "little")
    return 0 if _is_numbers(file) else len(content)


def _is_numbers(file: Path) -> bool:
    return file.suffix == ".bin" and _OPENVINO.fullmatch(file.name) is not None


def _header(weights: Path) -> str:
    """Return the metadata in the header of a safetensors file, one entry per line."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="numpy") as file:
            return "\n".join(f"{key}: {value}" for key, value in (file.metadata() or {}).items())
    except SafetensorError as error:
        raise InputError(f"{weights.name}: is not safetensors: {error}") from None
