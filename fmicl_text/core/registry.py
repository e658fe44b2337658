"""Registries of objects by name, each imported when it is first used: listing the names imports nothing."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from fmicl_text.core.checks import not_one_of

Thing = TypeVar("Thing")


def modules_in(package: str) -> list[str]:
    """Return the names of a package's modules in alphabetical order, importing none of them."""
    spec = importlib.util.find_spec(package)
    assert spec is not None  # the package is part of this one
    return sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations))


class Registry(Mapping[str, Thing], Generic[Thing]):
    """A mapping from names to things, of which those of the package are imported on first use.

    Args:
        kind: What the things are, for error messages: ``"divergence"``.
        places: Name -> ``"module:attribute"``.
    """

    def __init__(self, kind: str, places: Mapping[str, str]) -> None:
        self.kind = kind
        self._places = dict(places)
        self._things: dict[str, Thing] = {}

    @classmethod
    def of_files(cls, kind: str, package: str, attribute: str) -> Registry[Any]:
        """Return the registry of a package with one module for each thing, kept there under ``attribute``."""
        return cls(kind, {name: f"{package}.{name}:{attribute}" for name in modules_in(package)})

    def __getitem__(self, name: str) -> Thing:
        if name not in self._things:
            module, _, attribute = self._places[name].partition(":")
            self._things[name] = getattr(importlib.import_module(module), attribute)
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._places, *self._things]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self._things

    def named(self, name: str) -> Thing:
        """Return the thing called ``name``.

        Raises:
            ValueError: If there is none, listing the valid names and the nearest.
        """
        if name not in self:
            raise not_one_of(self.kind, name, self)
        return self[name]

    def register(self, name: str, thing: Thing) -> None:
        """Add a thing under a new name; the same thing may be registered again.

        Raises:
            ValueError: If the name belongs to another thing.
        """
        if name in self and self[name] != thing:
            raise ValueError(f"there already is a {self.kind} called {name!r}; register yours under another name")
        self._things[name] = thing


KERNELS: Registry[Any] = Registry(
    "kernel",
    {
        "gaussian": "fmicl_text.core.kernels:GaussianKernel",
        "cosine": "fmicl_text.core.kernels:CosineKernel",
        "cosine-critic": "fmicl_text.core.kernels:CosineCritic",
    },
)
"""What makes the kernels that recipes can name: classes, or functions that return a :class:`Kernel`."""


def register_kernel(name: str, factory: Any) -> None:
    """Make a kernel available under a name, as those of the package are.

    Args:
        name: The name in recipes and arguments.
        factory: A subclass of :class:`fmicl_text.core.Kernel`, or a function that returns a kernel. Its parameters are
            the kernel's settings, of which ``sigma``, ``mu`` and ``temperature`` can be set by name in a recipe. It is
            told whether the width is learned if it has a parameter ``learn``, and given the divergence if it has a
            parameter ``divergence``.

    Raises:
        ValueError: If another kernel has the name.
    """
    KERNELS.register(name, factory)
