"""What the README shows works as shown."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from fmicl_text.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(start: str) -> list[list[str]]:
    """Return the ``fmicl`` commands of the block that begins so, each without the name of the program."""
    (block,) = [block for block in blocks("bash") if block.startswith(start)]
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


def test_first_commands_are_the_targets_that_ci_runs() -> None:
    targets = [line.split("#")[0].strip() for line in blocks("bash")[0].splitlines()]
    assert targets == ["make quickstart", "make test", "make test-floor"]


def test_one_line_change_trains(tiny_encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset

    script = "\n".join(line[1:] for line in blocks("diff")[0].splitlines() if not line.startswith("-"))
    assert "FMICLLoss(model)" in script
    dataset = Dataset.from_dict(
        {"anchor": ["a dog runs", "the cat sleeps"] * 4, "positive": ["dog runs", "cat sleeps"] * 4}
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    exec(script.replace("sentence-transformers/all-MiniLM-L6-v2", str(tiny_encoder_path)), {"dataset": dataset})


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_run(block: str) -> None:
    exec(block, {})


def test_recipe_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands about a run of the user's own are parsed here and run by the training tests."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"question {i},answer {i}\n" for i in range(200))
    (tmp_path / "pairs.csv").write_text("question,answer\n" + rows, encoding="utf-8")
    for command in commands("fmicl recipe list"):
        if command[0] == "recipe":
            assert main(command) == 0, command
        else:
            parsed = parse(command)
            assert parsed.verb == command[0]
    assert (tmp_path / "my.yaml").is_file()


def test_sweep_commands_are_those_of_the_command_line() -> None:
    assert all(parse(command).verb == "sweep" for command in commands("fmicl sweep"))


def test_infonce_is_compared_by_the_same_recipe() -> None:
    from fmicl_text.recipe.file import load_recipe

    training, report = map(parse, commands("fmicl train quickstart"))
    assert load_recipe(training.recipe, training.overrides).loss.objective == "infonce"
    assert report.verb == "report" and report.runs == [Path("runs/quickstart"), training.output]


def parse(command: list[str]):
    """Parse a command as ``fmicl`` would, without running it."""
    import argparse
    import importlib

    parser = argparse.ArgumentParser()
    verb = parser.add_subparsers(dest="verb").add_parser(command[0])
    importlib.import_module(f"fmicl_text.cli.{command[0]}").add_arguments(verb)
    return parser.parse_args(command)


@pytest.mark.slow
def test_quickstart_dry_run_in_a_process_of_its_own(tmp_path: Path) -> None:
    import subprocess

    command = [sys.executable, "-m", "fmicl_text", "train", "quickstart", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "steps of 64 rows" in done.stdout
    assert not list(tmp_path.iterdir())
