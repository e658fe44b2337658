"""Configurations of data sets on the Hub, of which many have several: which one is meant, and which there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fmicl_text.errors import InputError
from fmicl_text.text import did_you_mean


@contextmanager
def explained_configuration(source: str, config: str | None, revision: str | None) -> Iterator[None]:
    """Name the configurations of a data set if it does not load as none was given, or one that it does not have.

    Args:
        source: Hub id.
        config: The configuration asked for; ``None`` is the data set's default, or its only one.
        revision: Branch, tag or commit on the Hub.

    Raises:
        InputError: In place of a ``ValueError`` of loading, if the configuration is why. Others pass.
    """
    try:
        yield
    except ValueError:
        problem = _problem(source, config, revision)
        if problem is None:
            raise
        raise InputError(f"{source}: {problem}") from None


def _problem(source: str, config: str | None, revision: str | None) -> str | None:
    """Return what is wrong with a configuration; ``None`` if nothing is, or it cannot be found out."""
    from datasets import get_dataset_config_names, get_dataset_default_config_name

    try:
        names = get_dataset_config_names(source, revision=revision)
        default = get_dataset_default_config_name(source, revision=revision)
    except Exception:  # of the network, or of a broken data set, which the error of loading says too
        return None
    if config is None and default is None:
        remedy = "set data.config to one of them; where there is no such key, as for data.heldout and evaluations, name"
        return f"has several configurations, {', '.join(names)}: {remedy} a file, hf://datasets/{source}/FILE"
    if config is not None and config not in names:
        return f'no configuration "{config}"{did_you_mean(config, names)}; there is {", ".join(names)}'
    return None
