"""YAML as plain values that remember where each of them was written.

YAML is read by the core schema of version 1.2, where ``3e-5`` is a number and ``no`` is text: with it
``eval_strategy: no`` means what it says. Aliases are refused, and so are files of more than 100,000 bytes, nesting of
more than twenty levels, and whole numbers of more than 64 bits. Lines are those that pyyaml records in the
``start_mark`` of each node of :func:`yaml.compose`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fmicl_text.data.readers import read_text
from fmicl_text.errors import InputError
from fmicl_text.section import KeyPath

_CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
_MOST_BYTES = 100_000
_DEEPEST = 20
_LARGEST = 2**63 - 1
_BEGIN = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_END = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_SECRET = re.compile("token|secret|password|api_?key", re.IGNORECASE)
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")}


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


for _end in (_Loader, _Dumper):
    _end.yaml_implicit_resolvers = {}
    for _name, _pattern, _first in _CORE_SCHEMA:
        _end.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)


def dump(value: dict[str, Any]) -> str:
    """Return ``value`` as YAML in block style, which :class:`Tree` reads back unchanged."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class Place(NamedTuple):
    """Where a value was written; places sort in reading order, overrides last."""

    order: int
    text: str


Locate = Callable[[int], Place]
"""Line number, from 1, to place."""


class Tree:
    """What a YAML file and the overrides after it say.

    Args:
        path: The file.

    Attributes:
        value: Plain dicts, lists and scalars.
        problems: What is wrong but did not end the reading, such as a key that appears twice.

    Raises:
        InputError: If the file cannot be read, or is not a YAML mapping; with the line.
    """

    def __init__(self, path: Path) -> None:
        def locate(line: int) -> Place:
            return Place(line, f"{path}:{line}")

        if (size := path.stat().st_size if path.is_file() else 0) > _MOST_BYTES:
            raise InputError(f"{path}: has {size:,} bytes; more than {_MOST_BYTES:,} are not read")
        node = _compose(read_text(path), locate)
        if not isinstance(node, yaml.MappingNode):
            raise InputError(f"{path}: {'is not a mapping of keys to values' if node else 'is empty'}")
        self.problems: list[tuple[Place, str]] = []
        self._places: dict[KeyPath, Place] = {(): locate(_line(node))}
        self.value: dict[str, Any] = self._plain(node, (), locate)

    def set(self, override: str) -> None:
        """Apply ``a.b=c``, where c is YAML; sections on the way are made if they are not there.

        The items of a list go by their numbers, from 0, as in ``data.train.0.rows=100``.

        Raises:
            InputError: If it is not of this form, one of the sections is a value, or a list has no such item.
        """
        key, equals, text = override.partition("=")
        place = Place(sys.maxsize, f"--set {f'{key}=[secret]' if _SECRET.search(key) else override}")
        steps = key.split(".")
        if not equals or not all(steps):
            raise InputError(f"{place.text}: write it as KEY=VALUE, for example --set loss.divergence=js")
        node = _compose(text, lambda _: place)
        section: Any = self.value
        path: KeyPath = (steps[0],)
        for step in steps[1:]:
            if isinstance(section, dict) and section.get(path[-1]) is None:
                section[path[-1]] = {}
                self._places[path] = place
            section = section[path[-1]]
            path = (*path, _key(section, step, path, place))
        self._places = {old: where for old, where in self._places.items() if old[: len(path)] != path}
        self._places[path] = place
        section[path[-1]] = None if node is None else self._plain(node, path, lambda _: place)

    def place(self, path: KeyPath) -> Place:
        """Return where the value at ``path`` was written; for one that is not there, its section."""
        while path not in self._places:
            path = path[:-1]
        return self._places[path]

    def has(self, path: KeyPath) -> bool:
        """Whether there is something at ``path``."""
        return path in self._places

    def rename(self, path: KeyPath, key: str | None) -> None:
        """Give the value at ``path`` another key; drop it for ``None``, or if that key already exists."""
        section = self._at(path[:-1])
        value = section.pop(path[-1])
        if key is not None and key not in section:
            section[key] = value
            for old in [old for old in self._places if old[: len(path)] == path]:
                self._places[*path[:-1], key, *old[len(path) :]] = self._places.pop(old)

    def replace(self, path: KeyPath, value: Any) -> None:
        """Put another value in the place of the one at ``path``."""
        self._at(path[:-1])[path[-1]] = value

    def _at(self, path: KeyPath) -> Any:
        value: Any = self.value
        for step in path:
            value = value[step]
        return value

    def _plain(self, node: yaml.Node, path: KeyPath, locate: Locate) -> Any:
        here = locate(_line(node))
        if len(path) > _DEEPEST:
            self.problems.append((here, f"{dotted(path[:1])}: is nested in more than {_DEEPEST} levels"))
        elif node.tag not in _TAGS:
            self.problems.append((here, f"{dotted(path)}: the YAML tag {node.tag} is not read"))
        elif isinstance(node, yaml.SequenceNode):
            self._places |= {(*path, index): locate(_line(item)) for index, item in enumerate(node.value)}
            return [self._plain(item, (*path, index), locate) for index, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            return self._section(node, path, locate)
        else:
            return self._scalar(node, path, here)
        return None

    def _scalar(self, node: yaml.Node, path: KeyPath, here: Place) -> Any:
        try:
            value = yaml.constructor.SafeConstructor().construct_object(node)
        except (ValueError, KeyError, IndexError, yaml.YAMLError):  # `!!int many`
            self.problems.append((here, f'{dotted(path)}: "{node.value:.60}" is not of its tag {node.tag}'))
            return None
        if isinstance(value, int) and abs(value) > _LARGEST:
            self.problems.append((here, f"{dotted(path)}: {node.value:.60} is too large a number"))
            return None
        if isinstance(value, str) and _NO_TEXT.search(value):
            self.problems.append(
                (here, f"{dotted(path)}: has an escape that stands for no text, such as \\0 or \\ud800")
            )
            return None
        return value

    def _section(self, node: yaml.MappingNode, path: KeyPath, locate: Locate) -> dict[str, Any]:
        section: dict[str, Any] = {}
        for key_node, value_node in node.value:
            here, key = locate(_line(key_node)), key_node.value
            if key_node.tag != "tag:yaml.org,2002:str" or not isinstance(key, str) or _NO_TEXT.search(key):
                self.problems.append((here, f"{dotted(path)}: a key must be text"))
            elif key in section:
                first = self._places[*path, key].text
                self.problems.append((here, f"{dotted((*path, key))}: appears twice, first at {first}"))
            else:
                self._places[*path, key] = here
                section[key] = self._plain(value_node, (*path, key), locate)
        return section


def _key(section: Any, step: str, path: KeyPath, place: Place) -> str | int:
    """Return a step of an override as a key of the section at ``path``, or as the number of an item of the list."""
    if isinstance(section, dict):
        return step
    if not isinstance(section, list):
        raise InputError(f"{place.text}: {dotted(path)} is a value, it has no keys")
    if not step.isdecimal() or int(step) >= len(section):
        raise InputError(f"{place.text}: {dotted(path)} is a list of {len(section)}, whose items are numbered from 0")
    return int(step)


def listed(text: str) -> list[Any]:
    """Return the values that ``a, b`` lists, as YAML within brackets reads them; none if it is not such a list."""
    try:
        node = _compose(f"[{text}]", lambda line: Place(line, text))
        values = yaml.constructor.SafeConstructor().construct_document(node)
    except (InputError, yaml.YAMLError, ValueError):
        return []
    return values if isinstance(values, list) else []


def dotted(path: KeyPath) -> str:
    """Write a path as people do: ``loss.kernel.sigma``, ``seeds[0]``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".") or "the recipe"


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _compose(text: str, locate: Locate) -> yaml.Node | None:
    """Parse one YAML document.

    Raises:
        InputError: With the place, if it is not YAML.
    """
    try:
        check_tokens(text, locate)
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise InputError(f"{locate(line).text}: not YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{locate(line).text}: not YAML: {error.reason}") from None


def check_tokens(text: str, locate: Locate) -> None:
    """Refuse aliases and deep nesting, which takes the scanner the square of the depth, and the parser its stack.

    Raises:
        InputError: With the place.
        yaml.YAMLError: It is not YAML.
    """
    depth = 0
    for token in yaml.scan(text, Loader=_Loader):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.AliasToken):
            raise InputError(f"{locate(line).text}: not YAML: aliases (*name) are not read; write the value out")
        depth += isinstance(token, _BEGIN) - isinstance(token, _END)
        if depth > _DEEPEST + 1:  # the levels of a value at this depth; the outermost is the recipe
            raise InputError(f"{locate(line).text}: is nested in more than {_DEEPEST} levels")
