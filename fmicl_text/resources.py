"""Where the shipped recipes, suites and published tables lie: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CHECKOUT = {"recipes": "recipes", "suites": "eval/suites", "published": "eval/published"}


def resource_folder(name: str) -> Path:
    """Return the folder of shipped ``recipes``, ``suites`` or ``published`` tables.

    A wheel carries them as ``fmicl_text/_recipes`` and so on (see ``pyproject.toml``);
    an editable install reads them from the checkout.
    """
    packaged = _PACKAGE / f"_{name}"
    return packaged if packaged.is_dir() else _PACKAGE.parent / _CHECKOUT[name]
