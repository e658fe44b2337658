"""What README and the pages of docs/ show works as shown: commands, recipes, Python, pictures and links."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from fmicl_text.cli import command_line, main
from fmicl_text.recipe.file import load_recipe, shipped_recipes
from fmicl_text.recipe.schema import Recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "fmicl_text/losses/README.md")),
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
]
BASE = {
    "name": "documented",
    "model": {"base": "sample:minilm"},
    "data": {"train": "pairs.csv", "columns": {"anchor": "question", "positive": "answer"}, "heldout": 0.1},
    "loss": {"objective": "fmicl"},
}
"""What a part of a recipe in the documentation is a part of."""
ELSEWHERE = ("hf auth login", "accelerate config", "git clone ", "cd ", "export ", "pytest")
"""Beginnings of commands of other programs that need no check."""


class Block(NamedTuple):
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(r"^( *)```([^\n`]*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE):
            indent, language, code = block.groups()
            code = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
            found.append(Block(page, text[: block.start()].count("\n") + 1, language, code))
    return found


BLOCKS = blocks()


def place(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def of(language: str) -> list[Any]:
    return [pytest.param(block, id=place(block)) for block in BLOCKS if block.language == language]


def commands() -> list[Any]:
    """Each line of the blocks of bash, those that are continued in one."""
    return [
        pytest.param(line, id=f"{place(block)} {line.split('  #')[0].strip()[:60]}")
        for block in BLOCKS
        if block.language == "bash"
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    ]


def test_every_block_is_of_a_language_that_is_checked():
    known = {"bash", "yaml", "python", "diff", "text"}
    assert [
        place(block) for block in BLOCKS if block.language not in known and not block.language.startswith("{")
    ] == []


@pytest.mark.parametrize("line", commands())
def test_commands_exist_with_their_options(line: str, work: Path):
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"\w+=.*", words[0]):  # a variable of the environment
        words = words[1:]
    text = " ".join(words)
    if text.startswith(ELSEWHERE):
        return
    if words[0] == "make":
        assert all(re.search(rf"^{word}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for word in words[1:])
    elif words[0] == "eval":  # completion by the shell
        assert "register-python-argcomplete fmicl" in line
    elif words[:2] == ["pip", "install"]:
        check_installed(words[-1])
    elif words[0] == "python":
        check_program(words[1:])
    elif text.startswith("accelerate launch"):
        check_command(words[words.index("fmicl_text") + 1 :], work)
    else:
        assert words[0] == "fmicl"
        check_command(words[1:], work)


def check_installed(package: str) -> None:
    name, extras = re.fullmatch(r"([\w.-]+)(?:\[([\w,]+)\])?", package).groups()
    assert name in ("fmicl-text", ".")
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not extras or set(extras.split(",")) <= extra.keys()


def check_program(words: list[str]) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None
    else:
        assert (ROOT / words[0]).is_file()


def check_command(words: list[str], work: Path) -> None:
    parsed = parse(words)
    if parsed.verb == "train" and parsed.overrides:
        load_recipe(parsed.recipe if parsed.recipe in shipped_recipes() else work / "my.yaml", parsed.overrides)
    if parsed.verb == "recipe" and parsed.action in ("show", "copy"):
        assert parsed.name in shipped_recipes()


def parse(words: list[str]) -> argparse.Namespace:
    """Parse a command as ``fmicl`` would, without running it."""
    return command_line(words).parse_args(words)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of someone who reads the documentation: a recipe, files of data, code of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(BASE), encoding="utf-8")
    texts = [f"the dog number {i} runs" for i in range(200)]
    for name in ("pairs.csv", "faq.csv"):
        rows = "".join(f"{text},answer {i} to it\n" for i, text in enumerate(texts))
        (tmp_path / name).write_text(f"question,answer\n{rows}", encoding="utf-8")
    (tmp_path / "scored.csv").write_text(
        "sentence1,sentence2,score\n" + "".join(f"{text},answer {i},{i % 5}\n" for i, text in enumerate(texts)),
        encoding="utf-8",
    )
    for block in BLOCKS:
        if named := re.match(r"# ([\w-]+\.(?:py|yaml))\n", block.text):
            (tmp_path / named[1]).write_text(block.text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What code of the documentation registers is forgotten afterwards."""
    from fmicl_text.core import DIVERGENCES, KERNELS
    from fmicl_text.losses import registry

    monkeypatch.setattr(registry, "_registered", {})
    for registered in (DIVERGENCES, KERNELS):
        monkeypatch.setattr(registered, "_things", dict(registered._things))
    yield
    for name in [name for name in sys.modules if name.startswith("fmicl_imports_")]:
        del sys.modules[name]


@pytest.mark.parametrize("block", of("yaml"))
def test_recipes_suites_and_spaces_load(block: Block, work: Path, forgetful: None):
    written = yaml.safe_load(block.text)
    file = work / "documented.yaml"
    if "tasks" in written:
        from fmicl_text.evaluation.mteb.own_suite import load_own_suite

        file.write_text(block.text, encoding="utf-8")
        assert load_own_suite(file).tasks
    elif any("." in key for key in written):
        from fmicl_text.sweep.space import read_space

        file.write_text(block.text, encoding="utf-8")
        assert read_space(str(file))
    else:
        assert written.keys() <= Recipe.model_fields.keys()
        for section, of_base in BASE.items():
            of_block = written.get(section)
            if isinstance(of_block, dict) and isinstance(of_base, dict) and not replaces(section, of_block):
                written[section] = of_base | of_block
        file.write_text(yaml.safe_dump(BASE | written), encoding="utf-8")
        load_recipe(file, imports=True)


def replaces(section: str, written: dict[str, Any]) -> bool:
    """Whether a section in the documentation stands in place of that of :data:`BASE`, rather than adding to it."""
    return section == "loss" or "scratch" in written or "train" in written


WHOLE = [block for block in of("yaml") if {"name", "data"} <= yaml.safe_load(block.values[0].text).keys()]


@pytest.mark.parametrize("block", WHOLE)
def test_whole_recipes_would_run(block: Block, work: Path, tiny_encoder_path: Path, capsys: pytest.CaptureFixture[str]):
    written = yaml.safe_load(block.text)
    if not written["model"]["base"].startswith("sample:"):
        written["model"]["base"] = str(tiny_encoder_path)
    (work / "whole.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    assert main(["train", "whole.yaml", "--dry-run"]) == 0
    assert "rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if "```python" in page.read_text()]
)
def test_python_runs_from_the_first_block_of_a_page_to_the_last(
    page: Path, work: Path, tiny_encoder_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: None
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    names: dict[str, Any] = {"dataset": pairs()}
    for block in BLOCKS:
        if block.page == page and block.language == "python":
            run(block, tiny_encoder_path, names)


@pytest.mark.parametrize("block", of("diff"))
def test_lines_that_replace_others_train(
    block: Block, work: Path, tiny_encoder_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code = "\n".join(line[1:] for line in block.text.splitlines() if not line.startswith("-"))
    names: dict[str, Any] = {"dataset": pairs()}
    run(block._replace(text=code), tiny_encoder_path, names)
    assert names["trainer"].state.global_step > 0


def run(block: Block, encoder: Path, names: dict[str, Any]) -> None:
    code = re.sub("sentence-transformers/all-MiniLM-L6-v2|sample:minilm", str(encoder), block.text)
    exec(compile("\n" * block.line + code, str(block.page), "exec"), names)


def pairs() -> Any:
    from datasets import Dataset

    return Dataset.from_dict(
        {"anchor": ["a dog runs", "the cat sleeps"] * 4, "positive": ["dog runs", "cat sleeps"] * 4}
    )


def test_the_commands_of_the_first_page_run(work: Path, capsys: pytest.CaptureFixture[str]):
    """Those about recipes; the others are run by the tests of training."""
    for line in ("recipe list", "recipe new pairs.csv --overwrite", "recipe validate pairs.yaml", "recipe schema"):
        assert main(line.split()) == 0, line
    assert "quickstart" in capsys.readouterr().out


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_lead_somewhere(page: Path):
    """Links to files; Sphinx checks those to headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.slow
def test_quickstart_dry_run_in_a_process_of_its_own(tmp_path: Path):
    import subprocess

    command = [sys.executable, "-m", "fmicl_text", "train", "quickstart", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "steps of 64 rows" in done.stdout
    assert not list(tmp_path.iterdir())


def test_pictures_are_what_the_code_draws(tmp_path: Path):
    """`python docs/pictures.py` draws them anew."""
    import runpy

    drawn = runpy.run_path(str(DOCS / "pictures.py"))
    drawn["write"](tmp_path)
    assert {file.name for file in (DOCS / "pictures").iterdir()} == {file.name for file in tmp_path.iterdir()}
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (DOCS / "pictures" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "choosing.md"], ids=["README", "choosing"])
def test_figures_of_the_study_are_those_of_its_report(page: Path):
    report = (ROOT / "eval/results/default_loss.md").read_text(encoding="utf-8")
    figures = re.findall(r"[+-][\d.]+ \([+-][\d.]+ to [+-][\d.]+\)", page.read_text(encoding="utf-8"))
    assert len(figures) > 20 and [figure for figure in figures if figure not in report] == []
