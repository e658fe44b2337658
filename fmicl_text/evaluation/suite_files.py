"""The shipped suites, and the two kinds of suites that a user's YAML file may describe."""

from __future__ import annotations

import os
from pathlib import Path

from fmicl_text.data.yaml_tree import Tree
from fmicl_text.files import resource_folder, user_path


def shipped_suites() -> dict[str, Path]:
    """Return the shipped suites of STS tasks, name to file."""
    return {path.stem: path for path in sorted(resource_folder("suites").glob("*.yaml"))}


def is_suite_file(name: str) -> bool:
    """Whether this is an existing YAML file."""
    return name.endswith((".yaml", ".yml")) and os.path.isfile(user_path(name))  # false for a name of 300 letters, too


def is_own_suite(name: str) -> bool:
    """Whether a YAML file describes tasks over the user's own files: each says its type, and there is no protocol."""
    value = Tree(user_path(name)).value
    if not isinstance(value, dict) or "protocol" in value:
        return False
    tasks = value.get("tasks")
    return isinstance(tasks, list) and any(isinstance(task, dict) and "type" in task for task in tasks)
