"""`make test-floor` tests what pyproject.toml promises."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def test_the_floor_is_the_lowest_version_that_the_package_allows():
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "constraints-floor.txt").read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = {one.name: one for one in map(Requirement, project["dependencies"])}
    assert {"accelerate", "datasets", "huggingface_hub", "sentence-transformers", "transformers"} <= pinned.keys()
    for name in pinned.keys() - {"torch"}:  # whose builds for CPU and GPU are chosen elsewhere
        [lowest] = [Version(one.version) for one in requirements[name].specifier if one.operator == ">="]
        assert lowest.release[:2] == Version(pinned[name]).release[:2], name
        assert Version(pinned[name]) in requirements[name].specifier
