"""What README and the pages of docs/ say is so: blocks, commands within sentences, pictures, links and figures."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from doc_blocks import BLOCKS, DOCS, PAGES, ROOT, Block, named, of, place

from fmicl_text.cli import command_line

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_block_is_of_a_language_that_is_checked():
    known = {"bash", "yaml", "python", "diff", "text"}
    assert [
        place(block) for block in BLOCKS if block.language not in known and not block.language.startswith("{")
    ] == []


@pytest.mark.parametrize("block", of("yaml"))
def test_suites_and_spaces_load(block: Block, tmp_path: Path):
    """Recipes train in test_documentation_runs.py."""
    file = tmp_path / "shown.yaml"
    file.write_text(block.text, encoding="utf-8")
    if "tasks:" in block.text:
        from fmicl_text.evaluation.mteb.own_suite import load_own_suite

        assert load_own_suite(file).tasks
    elif any("." in key for key in yaml.safe_load(block.text)):
        from fmicl_text.sweep.space import read_space

        assert read_space(str(file))


@pytest.mark.parametrize("page", [pytest.param(page, id=named(page)) for page in PAGES])
def test_commands_within_sentences_exist_with_their_options(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for program, rest in re.findall(r"`(fmicl|make|python) ([^`]+)`", text):
        words = rest.split()
        if program == "make":
            targets = [word for word in words if "=" not in word]
            assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in targets), rest
        elif program == "python":
            module = words[1].replace(".", "/") if words[0] == "-m" else words[0]
            assert any((ROOT / name).exists() for name in (module, f"{module}.py", f"{module}/__main__.py")), rest
        else:
            parser = command_line(words)
            while words and (below := subcommands(parser)) and not words[0].startswith("-"):
                parser = below[words.pop(0)]
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options(parser), rest


def subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    return next((action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)), {})


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize("page", [pytest.param(page, id=named(page)) for page in PAGES])
def test_links_lead_somewhere(page: Path):
    """Links to files; Sphinx checks those to headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_pictures_are_what_the_code_draws(tmp_path: Path):
    """`python docs/pictures.py` draws them anew."""
    import runpy

    drawn = runpy.run_path(str(DOCS / "pictures.py"))
    drawn["write"](tmp_path)
    assert {file.name for file in (DOCS / "pictures").iterdir()} == {file.name for file in tmp_path.iterdir()}
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (DOCS / "pictures" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "choosing.md"], ids=["README", "choosing"])
def test_figures_of_the_studies_are_those_of_their_reports(page: Path):
    reports = [ROOT / "eval/results" / name for name in ("default_loss.md", "sweeps.md")]
    report = "".join(file.read_text(encoding="utf-8") for file in reports)
    report = re.sub(r"([+-][\d.]+) \| ([+-][\d.]+ to [+-][\d.]+) \|", r"\1 (\2)", report)  # in two columns of a table
    figures = re.findall(r"[+-][\d.]+ \([+-][\d.]+ to [+-][\d.]+\)", page.read_text(encoding="utf-8"))
    assert len(figures) > 20 and [figure for figure in figures if figure not in report] == []
