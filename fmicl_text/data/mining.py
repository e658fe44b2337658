"""Hard negatives for the pairs of a data set, found by sentence-transformers' ``mine_hard_negatives`` and cached."""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

from fmicl_text.data.fingerprints import fingerprint, tuples
from fmicl_text.data.row_cache import kept
from fmicl_text.data.section import MineSection
from fmicl_text.encoders.revisions import model_revision
from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.text import load_encoder, locate
from fmicl_text.errors import InputError
from fmicl_text.losses.columns import GROUP, group_of

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)


def mined(rows: Dataset, mine: MineSection, base: ModelSection, source: str) -> Dataset:
    """Return pairs with the columns ``negative_1`` to ``negative_k``, mined now or taken from the cache.

    The cache entry depends on the rows, the state of the encoder, the settings and the version of
    sentence-transformers.

    Args:
        rows: Columns ``anchor``, ``positive`` and perhaps ``group``.
        mine: The settings.
        base: The encoder that mines, unless the settings name another.
        source: Name of the data in messages.

    Raises:
        InputError: If the encoder cannot be loaded, or too few pairs have enough negatives.
    """
    section = _section(mine, base)
    assert section.base is not None  # texts have no new encoders
    encoder = miner(mine, base)
    made_from = [
        fingerprint(rows.column_names, tuples(rows)),
        model_revision(locate(section.base), section.revision),
        section.model_dump(exclude={"base", "revision"}),
        mine.model_dump(exclude={"model"}),
        metadata.version("sentence-transformers"),
    ]
    return kept(made_from, lambda: mine_negatives(rows, mine, encoder, source), f"the hard negatives of {source}")


def miner(mine: MineSection, base: ModelSection) -> SentenceTransformer:
    """Load the encoder that mines: the one that the settings name, or the base as it is before training.

    Raises:
        InputError: If it cannot be loaded, with the key that names it.
    """
    try:
        return load_encoder(_section(mine, base))
    except InputError as error:
        if mine.model is None:
            raise
        problems = [f"data.mine.model: {problem.removeprefix('model.base: ')}" for problem in error.problems]
        raise InputError(problems) from error


def _section(mine: MineSection, base: ModelSection) -> ModelSection:
    if mine.model is None:
        return base.without_autocast.model_copy(update={"head": "none", "lora": None})
    return ModelSection(base=mine.model)


def described(mine: MineSection, base: ModelSection) -> str:
    """Say in a line how negatives are mined."""
    settings = mine.model_dump(exclude={"model", "num_negatives"}, exclude_defaults=True)
    shown = {"relative_margin": mine.relative_margin} | settings
    listed = ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
    how = f" ({listed})" if listed else ""
    return f"{mine.num_negatives} for each pair, mined by {mine.model or base.base}{how} and kept in the cache"


def mine_negatives(rows: Dataset, mine: MineSection, encoder: SentenceTransformer, source: str) -> Dataset:
    """Mine hard negatives among the positives of all pairs; none is of the anchor's group, or the anchor itself.

    The library knows no groups, so it is asked for as many more candidates as a group has texts, and those of the
    anchor's group are dropped. They still count in the ranks of ``range_min``. Pairs without enough negatives are left
    out, and a warning counts them.

    With groups, ``group_negative_1`` and so on are those of the negatives, which are offered to every anchor.

    Args:
        rows: Columns ``anchor``, ``positive`` and perhaps ``group``.
        mine: The settings.
        encoder: Finds the nearest texts, by its own similarity and its prompts for queries and documents.
        source: Name of the data in messages.

    Raises:
        InputError: If fewer than two pairs have enough negatives.
    """
    from sentence_transformers.util import mine_hard_negatives

    anchors, positives = rows["anchor"][:], rows["positive"][:]
    groups = rows[GROUP][:] if GROUP in rows.column_names else list(range(len(rows)))
    groups_of: dict[str, set[int]] = defaultdict(set)  # of a text, in either column
    for texts in (anchors, positives) if GROUP in rows.column_names else ():
        for text, group in zip(texts, groups, strict=True):
            groups_of[text].add(group)
    largest = max(Counter(group for found in groups_of.values() for group in found).values(), default=1)
    spare = min(largest - 1 + (not set(anchors).isdisjoint(positives)), len(set(positives)))
    settings = mine.model_dump(exclude={"model", "num_negatives", "range_max"})
    with _seeded():
        triplets = mine_hard_negatives(
            rows.select_columns(["anchor", "positive"]),
            encoder,
            num_negatives=mine.num_negatives + spare,
            range_max=None if mine.range_max is None else mine.range_max + spare,
            output_format="triplet",
            verbose=False,
            **settings,
        )
    found: dict[tuple[str, str], list[str]] = defaultdict(list)  # best first
    for anchor, positive, negative in tuples(triplets):
        if negative != anchor and groups_of.get(anchor, set()).isdisjoint(groups_of.get(negative, ())):
            found[anchor, positive].append(negative)
    chosen = [_choose(found[pair], mine) for pair in zip(anchors, positives, strict=True)]
    complete = [i for i, negatives in enumerate(chosen) if len(negatives) == mine.num_negatives]
    if len(complete) < 2:
        raise InputError(
            f"{source}: data.mine: only {len(complete):,} of {len(rows):,} pairs have {mine.num_negatives} negatives; "
            "ask for fewer (num_negatives), or allow more (relative_margin: null, range_max, max_score)"
        )
    if len(complete) < len(rows):
        logger.warning(
            "%s: data.mine: %s of %s pairs are left out, as they have fewer than %d negatives",
            source,
            f"{len(rows) - len(complete):,}",
            f"{len(rows):,}",
            mine.num_negatives,
        )
    columns = {name: rows[name][:] for name in ("anchor", "positive")}
    table: dict[str, list[Any]] = {name: [values[i] for i in complete] for name, values in columns.items()}
    for number in range(mine.num_negatives):
        table[f"negative_{number + 1}"] = [chosen[i][number] for i in complete]
    if GROUP in rows.column_names:
        table[GROUP] = [groups[i] for i in complete]
        for number in range(1, mine.num_negatives + 1):  # a text of several groups counts as one of them
            name = f"negative_{number}"
            table[group_of(name)] = [min(groups_of[negative]) for negative in table[name]]
    return type(rows).from_dict(table)


def _choose(negatives: list[str], mine: MineSection) -> list[str]:
    """Take the first negatives, or random ones if that is the strategy: more may have been found than are needed."""
    distinct = list(dict.fromkeys(negatives))
    if mine.sampling_strategy == "random" and len(distinct) > mine.num_negatives:
        return random.Random(repr(distinct)).sample(distinct, mine.num_negatives)
    return distinct[: mine.num_negatives]


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed Python's random generator, from which the library samples, within this context."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)
