"""Older spellings of settings, as sections inside ``loss:`` or as objects, in the one spelling there is now.

kernel: {name: gaussian, sigma: 0.158}         kernel: gaussian, sigma: 0.158
queue: {size: 4096, momentum: 0.999}           queue: 4096, momentum: 0.999
momentum: {start: 0.99, schedule: cosine}      momentum: 0.99, momentum_schedule: cosine
negatives: ring                                region: ring
negatives: {pairs: within, region: ball, outer: 0.2, anneal: {schedule: linear, steps: 50}}
negatives: within, region: ball, region_outer: 0.2, region_schedule: linear, region_steps: 50
region=Annealing(Region(0.2), 50)              the same, of the arguments of a loss class
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fmicl_text.section import KeyPath

_SECTIONS = {
    "kernel": {"name": "kernel"},
    "queue": {"size": "queue"},
    "momentum": {"start": "momentum", "schedule": "momentum_schedule"},
    "negatives": {"pairs": "negatives", "outer": "region_outer", "inner": "region_inner"},
    "anneal": {"schedule": "region_schedule", "steps": "region_steps"},
}
"""Section -> its keys that have another name now; a key that is not named here keeps its name."""
_KEPT = {"queue": ("momentum",), "momentum": (), "negatives": ("region", "anneal"), "anneal": ()}
"""Section -> its keys that keep their name; a kernel may have any."""
_REGIONS = ("ball", "ring")


class Flat(NamedTuple):
    """Settings in the one spelling.

    Attributes:
        settings: By name; a value that is not a mapping stays as it is.
        written: Where the settings in sections were written.
        twice: Where settings were written that are given in the flat spelling too, which takes precedence.
    """

    settings: Any
    written: dict[str, KeyPath]
    twice: dict[str, KeyPath]


def flattened(settings: Any) -> Flat:
    """Return settings in the one spelling there is now."""
    flat = Flat(settings, {}, {})
    if not isinstance(settings, dict):
        return flat
    flat = flat._replace(settings={key: value for key, value in settings.items() if not _is_section(key, value)})
    for key, section in settings.items():
        if _is_section(key, section):
            _move(section, (key,), key, flat)
    found = flat.settings
    if found.get("negatives") in _REGIONS and "region" not in found:
        found["region"] = found.pop("negatives")
        flat.written["region"] = flat.written.pop("negatives", ("negatives",))
    if not isinstance(found.get("region"), str | dict | list | int | float | None):
        found |= _of_object(found["region"])
    return flat


def keys_of(section: str) -> list[str]:
    """Return the keys of a section in the older spelling; none for what is no such section, and for a kernel."""
    return [*_SECTIONS[section], *_KEPT[section]] if section in _KEPT else []


def _is_section(key: Any, value: Any) -> bool:
    return key in _SECTIONS and isinstance(value, dict)


def _move(section: dict[Any, Any], path: KeyPath, kind: str, flat: Flat) -> None:
    for key, value in section.items():
        if kind == "negatives" and _is_section(key, value):
            _move(value, (*path, key), key, flat)
            continue
        name = _SECTIONS[kind].get(key, key)
        (flat.twice if name in flat.settings else flat.written)[name] = (*path, key)
        flat.settings.setdefault(name, value)
    if kind == "anneal":
        flat.settings.setdefault("region_schedule", "linear")


def _of_object(region: Any) -> dict[str, Any]:
    """Return a Region, an Annealing or an Adaptation as settings."""
    from fmicl_text.core import Adaptation, Annealing, Region

    if isinstance(region, Annealing):
        return _of_object(region.region) | {"region_schedule": region.schedule, "region_steps": region.steps}
    if isinstance(region, Adaptation):
        schedule = {"region_schedule": "adaptive", "region_delta": region.delta, "region_window": region.window}
        return _of_object(region.region) | schedule
    if isinstance(region, Region):
        ring = {"region": "ring", "region_outer": region.outer, "region_inner": region.inner}
        return ring if region.inner else {"region": "ball", "region_outer": region.outer}
    return {"region": region}
