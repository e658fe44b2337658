"""What a release and the public CI rest on: one version everywhere, targets that exist, versions that are supported."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml

import fmicl_text
from fmicl_text.cli import VERBS

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GITHUB = ROOT / ".github"


def targets(commands: str) -> list[str]:
    """Targets of the ``make`` commands in a script, in order."""
    return [target for line in re.findall(r"^ *make ([a-z -]+)", commands, re.MULTILINE) for target in line.split()]


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and PROJECT["version"] == fmicl_text.__version__ == citation["version"] == newest[1]


def test_the_workflow_does_what_the_own_ci_does_on_every_supported_python():
    jobs = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    called = {}
    for name, job in jobs.items():
        steps = "\n".join(step["run"] for step in job["steps"] if "run" in step)
        called[name] = targets(steps.replace(" PYTHON=python", ""))
    assert sorted(chain(*called.values())) == sorted(targets((ROOT / ".ci" / "run").read_text(encoding="utf-8")))
    assert called["floor"] == ["test-floor"]
    named = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r"Python :: 3\.", one)]
    assert jobs["test"]["strategy"]["matrix"]["python"] == named
    (lowest,) = [
        step["with"]["python-version"] for step in jobs["floor"]["steps"] if "python-version" in step.get("with", {})
    ]
    assert PROJECT["requires-python"] == f">={lowest}" and lowest == named[0]


@pytest.mark.parametrize("file", [".ci/run", ".github/workflows/ci.yml", "CONTRIBUTING.md"])
def test_targets_exist(file: str):
    text = (ROOT / file).read_text(encoding="utf-8")
    called = [word for line in re.findall(r"(?<![\w-])make ([a-z][a-z -]*)", text) for word in line.split()]
    assert called
    for target in called:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_templates_ask_for_what_the_command_line_has():
    bug = (GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    for form in (bug, (GITHUB / "ISSUE_TEMPLATE" / "idea.yml").read_text(encoding="utf-8")):
        document = yaml.safe_load(form)
        assert document["name"] and document["description"]
        assert all(one["type"] == "textarea" and one["attributes"]["label"] for one in document["body"])
    for page in (bug, (ROOT / "SECURITY.md").read_text(encoding="utf-8")):
        named = re.findall(r"`fmicl (\w+)", page)
        assert "env" in named and set(named) <= VERBS.keys()


def test_what_security_says_of_options_is_so():
    from fmicl_text.cli import command_line

    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "--allow-imports" in text
    assert command_line(["train"]).parse_args(["train", "x", "--allow-imports"]).allow_imports
