"""Versions that affect figures."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

from fmicl_text import __version__

_version = cache(metadata.version)  # which reads and parses a file


def versions() -> dict[str, str]:
    """Return the versions of this package, Python and the libraries that affect figures."""
    libraries = (
        "torch",
        "transformers",
        "sentence-transformers",
        "datasets",
        "accelerate",
        "numpy",
        "scipy",
        "scikit-learn",
    )
    return {
        "fmicl-text": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in libraries},
    }
