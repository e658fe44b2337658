"""``fmicl recipe new``: a recipe for a user's file that trains well as it stands, each choice with its reason.

What is chosen depends on the file, the encoder and the device, and on nothing else. The objective is the default for
every kind of data, as in ``docs/choosing.md``: its temperature follows the data.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fmicl_text.data.formats import FORMATS, column_names, ending, read_file
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.errors import InputError
from fmicl_text.files import user_path
from fmicl_text.losses.columns import GROUP, is_group_column
from fmicl_text.recipe.roles import Kind, Roles, guess_roles

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

_FALLBACK = "sentence-transformers/all-MiniLM-L6-v2"
_SAMPLED = 2000  # rows whose tokens are counted
_COVERED = 0.99
_SHARE = 0.1
_SMALLEST_BATCH = 8
_FEWEST_TO_SPLIT = 50  # rows, or groups where they are held out whole
_STEPS = 100  # wanted at least
_MOST_EPOCHS = 10
_EVALUATIONS = 5
_SENTENCE = 5  # words
_NO_STRINGS = ("null", "true", "false")


def is_data(source: str) -> bool:
    """Whether a name is that of a file of texts, rather than of a recipe."""
    return ending(source) in FORMATS


def new_recipe(source: str, base: str | None = None) -> str:
    """Return a commented recipe for a file of texts, as YAML that loads.

    Args:
        source: A csv, tsv, jsonl, Parquet or txt file; its path becomes ``data.train`` as it is written.
        base: The encoder to start from; default ``sample:minilm`` where its package is installed, or else
            all-MiniLM-L6-v2 from the Hub.

    Raises:
        InputError: If the file is broken or holds no texts to train on, or the encoder cannot be loaded.
    """
    from fmicl_text.data.sources import load_train
    from fmicl_text.data.warnings import data_warnings
    from fmicl_text.encoders.text import load_model

    path = user_path(source)
    names = column_names(path)
    roles = guess_roles(read_file(path, names).columns, source)
    data = _data_section(source, roles)
    rows = load_train(data)
    whole_groups = roles.kind != "labels" and roles.group is not None
    parts, kind_of_parts = (len(set(rows[GROUP])), "groups") if whole_groups else (len(rows), "rows")
    if roles.kind == "dropout":
        undivided = "texts without pairs"
    elif parts < _FEWEST_TO_SPLIT:
        undivided = f"fewer than {_FEWEST_TO_SPLIT} {kind_of_parts}"
    else:
        undivided = f"so few {kind_of_parts}"
        with suppress(InputError):  # the hashes may leave a tenth of them empty
            split = data.model_copy(update={"heldout": _SHARE})
            rows, data = load_train(split), split
    base = base or _default_base()
    model = load_model(base)
    if roles.kind == "dropout" and _is_static(model):
        raise InputError(
            f"{source}: has one column of text and no label, so its views must differ by dropout, but {base} is a "
            "static embedding and has none: take another --base, or a file of pairs"
        )
    batch = _batch(len(rows))
    choices = [*_model(base, model, rows), *_data(data, roles, len(rows)), *_loss()]
    choices += [*_training(model, data, len(rows), batch, roles.kind), *_evaluation(data, len(rows), batch, undivided)]
    warnings = data_warnings(rows, batch)
    if ending(path) in (".csv", ".tsv") and (sentence := _sentence_of(names)):
        warnings.insert(
            0, f"line 1 is read as the names of the columns, but {sentence} looks like a row; put a line of names above"
        )
    for warning in warnings:
        logger.warning("%s: %s", source, warning)
    notes = [f"# Note: {warning}" for warning in warnings]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.removesuffix(".gz").removesuffix(path.suffix)).strip("-._")
    head = [
        f"# Fine-tune {base} on {json.dumps(path.name, ensure_ascii=False)} ({roles.kind})",
        "#",
        "# Written by `fmicl recipe new` from a look at the file; any line may be changed.",
        *notes,
        f"name: {_scalar(name or 'pairs')}",
    ]
    return "\n".join([*head, *choices]) + "\n"


def _sentence_of(names: Sequence[str]) -> str | None:
    """Return the first of a file's names of columns that is a sentence rather than a name."""
    return next((json.dumps(name, ensure_ascii=False) for name in names if len(name.split()) >= _SENTENCE), None)


def _data_section(source: str, roles: Roles) -> DataSection:
    columns = Columns(anchor=roles.anchor, positive=roles.positive, negatives=roles.negatives, group=roles.group)
    if roles.kind == "dropout":
        return DataSection(train=source, columns=columns, views="dropout")
    return DataSection(train=source, columns=columns, views="group" if roles.kind == "labels" else "columns")


def _default_base() -> str:
    from fmicl_text.data.samples import minilm_path

    try:
        minilm_path()
    except InputError:
        return _FALLBACK
    return "sample:minilm"


def _is_static(model: SentenceTransformer) -> bool:
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    return isinstance(model[0], StaticEmbedding)


def _model(base: str, model: SentenceTransformer, rows: Any) -> list[str]:
    found = [_section(0, "model"), _line(1, "base", base)]
    counts = None if _is_static(model) else _lengths(model, rows)
    if counts is not None:
        tokens = counts[math.ceil(_COVERED * len(counts)) - 1]
        longest = model.max_seq_length or tokens
        wanted = min(8 * math.ceil(tokens / 8), longest)
        cut = sum(count > wanted for count in counts)
        reason = f"of {len(counts):,} texts that were counted, {f'{cut:,}' if cut else 'none'} would be cut"
        if tokens > longest:
            reason += "; this model reads no more"
        found.append(_line(1, "max_seq_length", wanted, reason))
    return found


def _lengths(model: SentenceTransformer, rows: Any) -> list[int] | None:
    """Return the numbers of tokens of some texts, in rising order."""
    from fmicl_text.encoders.tokens import token_counts

    texts = [name for name in rows.column_names if not is_group_column(name)]
    some = rows.select(range(0, len(rows), math.ceil(len(rows) / _SAMPLED)))
    counts = token_counts(model, [text for name in texts for text in some[name]])
    return None if counts is None else sorted(counts)


def _data(data: DataSection, roles: Roles, rows: int) -> list[str]:
    found = [_section(0, "data"), _line(1, "train", data.train, f"{rows:,} rows to train on"), _section(1, "columns")]
    found.append(_line(2, "anchor", roles.anchor, roles.reason))
    if roles.positive is not None:
        found.append(_line(2, "positive", roles.positive))
    if roles.negatives:
        found.append(_section(2, "negatives"))
    lines = found + [_item(3, column) for column in roles.negatives]
    if roles.group is not None:
        lines.append(_line(2, "group", roles.group, "rows with the same value are never each other's negatives"))
    if data.views == "dropout":
        lines.append(_line(1, "views", "dropout", "a text is its own positive, encoded with another dropout mask"))
    if data.views == "group":
        lines.append(_line(1, "views", "group", "a positive is another text of the same group"))
    if data.heldout is not None:
        kept = "by its anchor" if data.columns.group is None or data.views == "group" else "in whole groups"
        lines.append(_line(1, "heldout", _SHARE, f"a tenth, chosen {kept}, is never trained on and measured instead"))
    return lines


def _loss() -> list[str]:
    reason = "f-MICL as it comes: on a par with InfoNCE, better where positives share a label, and safe for any encoder"
    return [_section(0, "loss", reason), _line(1, "objective", "fmicl")]


def _batch(rows: int) -> int:
    import torch

    most = 256 if torch.accelerator.is_available() else 64
    return min(most, max(_SMALLEST_BATCH, 2 ** int(math.log2(max(rows / 8, 1)))))


def _steps(data: DataSection, rows: int, batch: int) -> tuple[int, int]:
    """Return how many epochs to train, and the steps of all of them."""
    of_epoch = max(math.ceil(rows / batch) - data.ends_in_a_lone_row(rows, batch), 1)
    epochs = min(max(math.ceil(_STEPS / of_epoch), 1), _MOST_EPOCHS)
    return epochs, epochs * of_epoch


def _why(epochs: int, steps: int) -> str:
    if steps < _STEPS:
        return "; more epochs would have so few rows learned by heart"
    return f"; the fewest epochs that give {_STEPS}" if epochs > 1 else ""


def _training(model: SentenceTransformer, data: DataSection, rows: int, batch: int, kind: Kind) -> list[str]:
    import torch

    accelerated = torch.accelerator.is_available()
    epochs, steps = _steps(data, rows, batch)
    if _is_static(model):
        rate, why = 1e-3, "static embeddings take large steps"
    elif kind == "dropout":
        rate, why = 3e-5, "that of SimCSE"
    else:
        rate, why = 5e-5, "usual for an encoder that embeds sentences already"
    device = "this GPU" if accelerated else "a CPU"
    of_rows = f"an eighth of {rows:,} rows at most, and what suits {device}"
    if batch > rows / 8:
        of_rows = f"more than an eighth of {rows:,} rows: fewer would leave a row too few negatives"
    return [
        _section(0, "train"),
        _line(1, "per_device_train_batch_size", batch, of_rows),
        _line(1, "num_train_epochs", epochs, f"{steps:,} steps{_why(epochs, steps)}"),
        _line(1, "learning_rate", rate, why),
        _line(1, "warmup_steps", math.ceil(steps / 10), "a tenth of the steps"),
        _line(1, "precision", "auto", "what the device is faster with"),
        _line(1, "logging_steps", max(steps // 20, 1)),
    ]


def _evaluation(data: DataSection, rows: int, batch: int, undivided: str) -> list[str]:
    _, steps = _steps(data, rows, batch)
    heldout = data.heldout is not None
    criterion = ("heldout", "of the checkpoints, the best on the held-out pairs is kept")
    nothing = ("none", f"nothing is held out of {undivided}: the last checkpoint is kept")
    lines = [
        _section(0, "evaluate"),
        _line(1, "during", *(criterion if heldout else nothing)),
        _line(
            1, "every_steps", max(steps // _EVALUATIONS, 1), "a score and a checkpoint" if heldout else "a checkpoint"
        ),
    ]
    if heldout:
        lines += [_line(1, "before", True, "so that the gain is seen"), _section(1, "after"), _item(2, "heldout")]
    return lines


def _section(depth: int, key: str, reason: str = "") -> str:
    return "  " * depth + f"{key}:" + (f"  # {reason}" if reason else "")


def _line(depth: int, key: str, value: str | int | float | bool | None, reason: str = "") -> str:
    said = " ".join(reason.split())  # names of columns in it may have line ends
    return "  " * depth + f"{key}: {_scalar(value)}" + (f"  # {said}" if said else "")


def _item(depth: int, value: str) -> str:
    return "  " * depth + f"- {_scalar(value)}"


def _scalar(value: str | int | float | bool | None) -> str:
    """Write a value so that YAML reads it back as it is; JSON is YAML."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*(:[\w./-]+)*", value, re.ASCII):
        return value if value.lower() not in _NO_STRINGS else json.dumps(value)
    if isinstance(value, float):
        return f"{value:.1e}" if value < 0.01 else str(value)
    return json.dumps(value, ensure_ascii=False)
