"""Where the shipped recipes and suites lie: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CHECKOUT = {"recipes": "recipes", "suites": "eval/suites"}


def resource_folder(name: str) -> Path:
    """Return the folder of shipped ``recipes`` or ``suites``.

    A wheel carries them as ``fmicl_text/_recipes`` and ``fmicl_text/_suites`` (see ``pyproject.toml``);
    an editable install reads them from the checkout.
    """
    packaged = _PACKAGE / f"_{name}"
    return packaged if packaged.is_dir() else _PACKAGE.parent / _CHECKOUT[name]
