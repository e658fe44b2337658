"""Groups of rows: a label, or the id of a document. Rows of one group are never each other's negatives.

In a data set they are the column ``group``, 64-bit identities that are the same on every machine and in every process;
:class:`fmicl_text.losses.identities.IdentityCollator` hands them to the loss.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import random
from typing import TYPE_CHECKING

from fmicl_text.errors import InputError
from fmicl_text.losses.columns import GROUP
from fmicl_text.text import is_utf8

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

_NEEDED = "each row needs a group, one of its own if it shares none"


@functools.lru_cache(maxsize=2**16, typed=True)  # True == 1, which is another group
def identity(value: str | float) -> int:
    """Return a signed 64-bit hash of a group, by its :func:`group_name`."""
    digest = hashlib.blake2b(group_name(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def is_group(value: object) -> bool:
    """Return whether a value can be a group: text, a truth value or a whole number, which may be stored as a float."""
    if isinstance(value, str):
        return bool(value.strip()) and is_utf8(value)
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int)


def group_name(value: str | float) -> str:
    """Return a group as text: 7, 7.0 (what tables make of whole numbers beside empty cells) and ``"7"`` are one.

    So are True and ``"true"``, as JSON writes it.
    """
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(int(value))


def group_complaint(value: object) -> str:
    """Say why a value cannot be a group."""
    if value is None:
        return f"has no value; {_NEEDED}"
    if isinstance(value, str):
        return "has half of a surrogate pair, which is not text" if value.strip() else f"is empty; {_NEEDED}"
    return f"has {value!r:.40}, which is no text, whole number or truth value"


def pair_within_groups(rows: Dataset, seed: int, source: str) -> Dataset:
    """Make pairs of labelled texts: the positive of a text is another text of its group.

    The distinct texts of a group are shuffled into a circle, in which the positive of a text is the next one. So every
    text is a positive as often as any other, and the pairs depend on the texts, their groups and the seed alone; they
    are the same in every epoch.

    Args:
        rows: Columns ``anchor`` and ``group``.
        seed: Seed of the shuffling.
        source: Name of the data in messages.

    Returns:
        Columns ``anchor``, ``positive`` and ``group``, without the rows whose group has no other text; a warning
        counts those.

    Raises:
        InputError: If no group has two different texts.
    """
    from datasets import Dataset

    anchors, groups = rows["anchor"][:], rows[GROUP][:]
    members: dict[int, dict[str, None]] = {}
    for anchor, group in zip(anchors, groups, strict=True):
        members.setdefault(group, {})[anchor] = None
    following: dict[tuple[int, str], str] = {}
    for group, texts in members.items():
        circle = sorted(texts)
        random.Random(f"{seed} {group}").shuffle(circle)
        following |= {(group, text): circle[i - 1] for i, text in enumerate(circle) if len(circle) > 1}
    paired = [row for row in zip(groups, anchors, strict=True) if row in following]
    if not paired:
        raise InputError(f"{source}: no group has two different texts, so there are no pairs to train on")
    if alone := [texts for texts in members.values() if len(texts) == 1]:
        example = next(iter(alone[0]))
        logger.warning(
            "%s: %s of %s groups have only one text, as has %.60r; their %s rows have no positive and are left out",
            source,
            f"{len(alone):,}",
            f"{len(members):,}",
            example,
            f"{len(anchors) - len(paired):,}",
        )
    return Dataset.from_dict(
        {
            "anchor": [anchor for _, anchor in paired],
            "positive": [following[row] for row in paired],
            GROUP: [group for group, _ in paired],
        }
    )


def pair_with_known(heldout: Dataset, known: Dataset, seed: int, source: str) -> Dataset:
    """Pair each held-out text with a training text of its group: in use, too, a new text is searched among known ones.

    Args:
        heldout: Columns ``anchor`` and ``group``.
        known: The rows that are trained on, with the same columns.
        seed: Decides, with a text and its group, which known text becomes its positive.
        source: Name of the data in messages.

    Returns:
        Columns ``anchor``, ``positive`` and ``group``, without the rows of groups that training does not know; a
        warning counts those.

    Raises:
        InputError: If training knows none of the groups.
    """
    from datasets import Dataset

    texts: dict[int, set[str]] = {}
    for anchor, group in zip(known["anchor"][:], known[GROUP][:], strict=True):
        texts.setdefault(group, set()).add(anchor)
    members = {group: sorted(found) for group, found in texts.items()}
    rows = [row for row in zip(heldout["anchor"][:], heldout[GROUP][:], strict=True) if row[1] in members]
    if not rows:
        raise InputError(f"{source}: no held-out text has a group that is trained on; hold out a smaller share")
    if lost := len(heldout) - len(rows):
        logger.warning(
            "%s: %s held-out rows have a group that is not trained on; they are left out", source, f"{lost:,}"
        )
    return Dataset.from_dict(
        {
            "anchor": [anchor for anchor, _ in rows],
            "positive": [random.Random(f"{seed} {group} {anchor}").choice(members[group]) for anchor, group in rows],
            GROUP: [group for _, group in rows],
        }
    )
