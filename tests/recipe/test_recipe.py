"""Recipes: what loads, what is refused and in which words, and that a resolved recipe is the same recipe."""

from __future__ import annotations

import subprocess
import sys
from math import sqrt
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import MeanOfTokens
from loss_table import LOSS_TABLE
from pydantic import BaseModel, ValidationError
from work import calls

from fmicl_text import Adaptation, Annealing, Region
from fmicl_text.data.yaml_tree import dump
from fmicl_text.errors import InputError
from fmicl_text.losses.papers.fmicl import FMICL
from fmicl_text.losses.papers.infonce import InfoNCE
from fmicl_text.losses.registry import objectives
from fmicl_text.recipe.file import dump_recipe, find_recipe, load_recipe, shipped_recipes
from fmicl_text.recipe.schema import Recipe
from fmicl_text.recipe.training_arguments import training_arguments_model, training_arguments_schema

OBJECTIVES = list(objectives())
CHOICE = ", ".join(f'"{name}"' for name in OBJECTIVES[:-1]) + f' or "{OBJECTIVES[-1]}"'
KNOWN = ", ".join(FMICL.model_fields)

MINIMAL = """\
name: small
model: {base: some/encoder}
data:
  train: pairs.csv
  columns: {anchor: question, positive: answer}
loss: {objective: fmicl}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(source: str | Path, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_recipe(source, overrides)
    folder = f"{Path(source).parent}/"
    return [problem.replace(folder, "") for problem in caught.value.problems]


def test_defaults(write):
    recipe = load_recipe(write(MINIMAL))
    assert recipe.model.head == "none" and recipe.model.pooling is None
    assert recipe.data.views == "columns" and recipe.data.split == "train"
    assert recipe.evaluate.during == "auto" and recipe.evaluate.every_steps == 125 and recipe.evaluate.after == []
    assert recipe.seeds == [42] and recipe.train == {}
    assert recipe.loss == FMICL()


def test_every_error_at_once_with_line_key_and_nearest_name(write):
    path = write("""\
name: two words
modl:
  base: some/encoder
  max_seq_lenght: "32"
  pooling: cla
data:
  train: pairs.csv
  columns: {anchor: question, positiv: answer}
  heldout: pairs.csv
loss:
  objective: fmcil
  divergence: kl
  order: 3
  kernel: {name: gaussian, sigma: -1, tau: 3}
train:
  learnin_rate: 3e-5
  bf16: yes
  lr_scheduler_type: 3
  report_to: 4
  seed: 3
  output_dir: here
seeds: [1, -2, x]
outputs: {}
""")
    assert problems(path, "loss.divergenc=js", "evaluate.before=maybe", "train") == [
        'recipe.yaml:1: name: must be letters, digits, - _ and ., with a letter or digit first, got "two words"',
        'recipe.yaml:2: modl: unknown key (did you mean "model"?)',
        'recipe.yaml:4: model.max_seq_lenght: unknown key (did you mean "max_seq_length"?)',
        'recipe.yaml:4: model.max_seq_length: must be a whole number, got "32"',
        'recipe.yaml:5: model.pooling: must be "cls", "mean", "max" or "lasttoken", got "cla" (did you mean "cls"?)',
        'recipe.yaml:8: data.columns.positiv: unknown key (did you mean "positive"?)',
        "recipe.yaml:9: data.heldout: is the training data; name a source with other rows, "
        "or a share of it such as 0.1",
        f'recipe.yaml:11: loss.objective: must be {CHOICE}, got "fmcil" (did you mean "fmicl"?)',
        'recipe.yaml:14: loss.kernel.sigma: must be greater than 0 or "measured" or "adaptive", got -1',
        f"recipe.yaml:14: loss.kernel.tau: unknown key; known here are {KNOWN}",
        'recipe.yaml:16: train.learnin_rate: unknown key (did you mean "learning_rate"?)',
        'recipe.yaml:17: train.bf16: must be true or false, got "yes"',
        *[p for p in problems(path) if p.startswith("recipe.yaml:18: train.lr_scheduler_type: must be ")],
        "recipe.yaml:19: train.report_to: must be text or a list, got 4",
        "recipe.yaml:20: train.seed: belongs at the top of the recipe, as `seeds: [42]`",
        "recipe.yaml:21: train.output_dir: cannot be set in a recipe; give `fmicl train --output FOLDER`",
        "recipe.yaml:22: seeds[1]: must be greater than or equal to 0, got -2",
        'recipe.yaml:22: seeds[2]: must be a whole number, got "x"',
        "recipe.yaml:23: outputs: unknown key; known here are name, model, data, loss, train, evaluate, imports, "
        "seeds, publish",
        "--set train: write it as KEY=VALUE, for example --set loss.divergence=js",
        '--set evaluate.before=maybe: evaluate.before: must be true or false, got "maybe"',
        '--set loss.divergenc=js: loss.divergenc: unknown key (did you mean "divergence"?)',
    ]
    # The wrong sigma kept the loss's rule from being checked; it is the next thing said.
    found = problems(path, "loss.kernel=gaussian")
    assert "recipe.yaml:13: loss.order: belongs to divergence: tsallis, got divergence: kl" in found


def test_missing_keys_are_at_their_section(write):
    assert problems(write("name: x\nmodel:\n  revision: main\ndata:\n  columns: {}\nloss: {kernel: {}}\n")) == [
        "recipe.yaml:2: model.base: is missing",
        "recipe.yaml:4: data.train: is missing",
        "recipe.yaml:5: data.columns.anchor: is missing",
        f"recipe.yaml:6: loss.objective: is missing; it is one of {', '.join(OBJECTIVES)}",
    ]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("data.views=dropout", "data.views: dropout makes the positive from the anchor"),
        ("data.columns={anchor: text}", "data.columns: views from columns need a positive column"),
        ("data.columns={anchor: a, positive: a}", "data.columns: each role takes a column of its own, got a, a"),
        ("data.columns={anchor: a, negatives: [b]}", "data.columns.negatives: needs a positive column"),
        ("data.heldout=pairs.csv", "data.heldout: is the training data"),
        ("data.rows=1", "data.rows: must be greater than or equal to 2, got 1"),
        ("data={train: a.txt, columns: {anchor: text}, views: dropout, heldout: b.txt}", "data.heldout: needs columns"),
        ("loss={objective: fmicl, order: 2}", "loss.order: belongs to divergence: tsallis"),
        ("loss={objective: fmicl, divergence: kl, order: 2}", "loss.order: belongs to divergence: tsallis"),
        ("loss={objective: fmicl, divergence: tsallis, order: 1}", "loss.order: must be greater than 1, got 1"),
        ("loss={objective: fmicl, alpha: 1, balance_cosine: 0.1}", "loss.balance_cosine: is another way to give alpha"),
        ("loss={objective: fmicl, alpha: -1}", 'loss.alpha: must be greater than or equal to 0 or "auto", got -1'),
        ("loss={objective: fmicl, alpha: aut}", 'loss.alpha: must be a number or "auto", got "aut" (did you'),
        (
            "loss={objective: fmicl, balance_cosine: 1.1}",
            'loss.balance_cosine: must be less than or equal to 1 or "measured", got 1.1',
        ),
        ("loss={objective: fmicl, mu: 2.5}", "loss.mu: must be less than or equal to 2, got 2.5"),
        (
            "loss={objective: fmicl, temperature: 1}",
            "loss.temperature: belongs to kernel: cosine or cosine-critic, got",
        ),
        ("loss={objective: fmicl, momentum_schedule: cosine}", "loss.momentum_schedule: belongs to momentum"),
        (
            "loss={objective: fmicl, kernel: {name: gaussian, sigma: 1, mu: 2.5}}",
            "loss.kernel.mu: must be less than or",
        ),
        (
            "loss={objective: fmicl, kernel: {name: gaussian, sigma: .inf}}",
            "loss.kernel.sigma: must be a finite number",
        ),
        ("loss={objective: fmicl, kernel: [1]}", "loss.kernel: must be text, got [1]"),
        (
            "loss={objective: fmicl, sigma: 0.1, kernel: {name: gaussian, sigma: 0.1}}",
            "loss.sigma: is given twice, also as kernel.sigma",
        ),
        (
            "loss={objective: fmicl, kernel: {name: cosine-critic}, learn_kernel: true}",
            "loss.learn_kernel: does not go with kernel: cosine-critic",
        ),
        (
            "loss={objective: infonce, kernel: {name: cosine-critic, temperature: 1}}",
            'loss.kernel.name: must be "gaussian" or "cosine", got "cosine-critic"',
        ),
        ("loss={objective: kcl, s: 2}", "loss.s: belongs to kernel: riesz"),
        ("loss={objective: kernel-infonce, gamma: 1}", "loss.gamma: belongs to kernel: exponential"),
        ("loss={objective: kernel-infonce, weight: 1}", "loss.weight: belongs to mix: losses"),
        ("loss={objective: hcl, tau_plus: 1}", "loss.tau_plus: must be less than 1, got 1"),
        ("loss={objective: fmicl, balance_cosine: 0, shift: dv}", "loss.shift: balances the terms by itself"),
        ("loss={objective: dcl, negatives: {region: ball, inner: 0.1}}", "loss.negatives.inner: belongs to region: r"),
        ("loss={objective: dcl, negatives: {region: ring, inner: 1}}", "loss.negatives.inner: must be less than 1"),
        ("loss={objective: dcl, negatives: within}", "loss.negatives: unknown key"),
        ("loss={objective: dcl, region: disc}", 'loss.region: must be "ball" or "ring", got "disc"'),
        ("loss={objective: dcl, queue: 0}", "loss.queue: must be greater than 0, got 0"),
        ("loss={objective: dcl, queue: {size: 0}}", "loss.queue.size: must be greater than 0, got 0"),
        (
            "loss={objective: contextual-infonce, queue: {size: 5}}",
            "loss.queue.size: does not go with contextual-infonce",
        ),
        ("loss={objective: infonce, alpha: 1}", "loss.alpha: unknown key; known here are objective, mini_batch_s"),
        ("evaluate.after=[heldout]", "evaluate.after[0]: heldout needs data.heldout"),
        ("evaluate.after=[st7]", 'evaluate.after[0]: no suite "st7" (did you mean "sts7"?); there are geometry,'),
        ("evaluate.after=[other.yaml]", 'evaluate.after[0]: no suite "other.yaml"'),
        ("evaluate.after=[sts7, sts7]", "evaluate.after: has something twice: sts7, sts7"),
        ("model.revision=../../../x", 'model.revision: must be a branch, a tag or a commit, got "../../../x"'),
        ("data.revision=../x", 'data.revision: must be a branch, a tag or a commit, got "../x"'),
        (
            "train={hub_token: x}",
            "train.hub_token: is a secret, which no recipe should hold: log in by `hf auth",
        ),
        ("train={push_to_hub: true}", "train.push_to_hub: is not how this publishes; set publish.repo and publish.l"),
        ("data.rows=99999999999999999999", "data.rows: 99999999999999999999 is too large a number"),
        ("evaluate.every_steps=0", "evaluate.every_steps: must be greater than 0, got 0"),
        ("evaluate=null", "evaluate: must be a mapping of keys, got null"),
        ("train=[]", "train: must be a mapping of keys, got []"),
        ("seeds=[]", "seeds: must not be empty, got []"),
        ("seeds=[1, 1]", "seeds: must differ, got [1, 1]"),
        ("seeds=[4294967296]", "seeds[0]: must be less than 4294967296"),
        ("seeds=42", "seeds: must be a list, got 42"),
        ("name=../up", "name: must be letters, digits, - _ and ."),
        ("model.max_seq_length=true", "model.max_seq_length: must be a whole number, got true"),
    ],
)
def test_impossible_values_and_combinations(write, override, problem):
    found = problems(write(MINIMAL), override)
    assert len(found) == 1
    assert found[0].startswith(f"--set {override}: {problem}")


HUB = "publish={repo: me/small, license: mit, exports: [embeddings/int8, openvino/int8]}"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ([HUB], "publish.exports: needs evaluate.after, which says what they cost"),
        ([HUB, "publish.repo=null"], "publish.exports: needs publish.repo, to which they go"),
        (
            [HUB, "publish.exports=[embeddings/int4]"],
            'publish.exports[0]: must be "embeddings/int8", "embeddings/binary"',
        ),
        (
            [HUB, "publish.exports=[openvino/int8, openvino/int8]"],
            "publish.exports: must differ, got openvino/int8, open",
        ),
        ([HUB, "model.lora={}"], "publish.exports: has a whole encoder for OpenVINO, beside which no adapter can be"),
        (
            [HUB, "data={train: images, columns: {anchor: image}, views: augment}"],
            "publish.exports: is for encoders of texts, not of images",
        ),
    ],
)
def test_exports_that_cannot_be_made_measured_or_published(write, overrides: list[str], problem: str):
    measured = [] if overrides == [HUB] else ["evaluate.after=[geometry]"]
    found = problems(write(MINIMAL), *overrides, *measured)
    assert any("--set publish" in line and problem in line for line in found), found
    whole = ["model.lora={merge: true}", "evaluate.after=[geometry]"]
    assert load_recipe(write(MINIMAL), [HUB, *whole]).publish.converted == ["int8"]


def test_keys_that_look_like_a_choice(write):
    """``fmicl`` is a value of ``objective``; as a key it is as unknown as any other, and hides nothing."""
    override = "loss={objective: fmicl, fmicl: {alpha: 1}, kernel: {name: gaussian, gaussian: 1, sigma: x}, alpha: [1]}"
    assert [problem.removeprefix(f"--set {override}: ") for problem in problems(write(MINIMAL), override)] == [
        'loss.kernel.sigma: must be a number or "measured" or "adaptive", got "x"',
        'loss.alpha: must be a number or "auto", got [1]',
        f"loss.fmicl: unknown key; known here are {KNOWN}",
        f"loss.kernel.gaussian: unknown key; known here are {KNOWN}",
    ]


@pytest.mark.parametrize("objective", ["[1]", '{"a": 1}', "null", "3"])
def test_an_objective_that_is_no_name(write, objective):
    override = f"loss.objective={objective}"
    assert problems(write(MINIMAL), override) == [
        f"--set {override}: loss.objective: must be {CHOICE}, got {objective}"
    ]


def test_best_model_needs_a_score(write):
    found = problems(write(MINIMAL), "evaluate.during=null", "train.load_best_model_at_end=true")
    assert found == [
        "--set train.load_best_model_at_end=true: train.load_best_model_at_end: "
        "needs evaluate.during, the score that says which is best"
    ]


STREAMED = ["data.streaming=true", "train.max_steps=10"]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["data.streaming=true"], "data.streaming: needs train.max_steps: a stream has no length"),
        (["data.streaming=true", "train.num_train_epochs=3"], "data.streaming: needs train.max_steps"),
        ([*STREAMED, "data.train=sample:wikipedia"], "data.streaming: is for files and the Hub"),
        ([*STREAMED, "train.save_strategy=epoch"], 'train.save_strategy: must be "steps" with data.streaming'),
        ([*STREAMED, "train.batch_sampler=no_duplicates"], "train.batch_sampler: cannot choose among rows of a stream"),
        ([*STREAMED, "train.accelerator_config={split_batches: true}"], "train.accelerator_config: cannot say how"),
        ([*STREAMED, "data.shuffle_buffer=0"], "data.shuffle_buffer: must be greater than 0, got 0"),
        (["data.streeming=true", "train.max_steps=10"], 'data.streeming: unknown key (did you mean "streaming"?)'),
    ],
)
def test_streams_need_steps_and_refuse_what_needs_all_rows(write, overrides, problem):
    (found,) = problems(write(MINIMAL), *overrides)
    assert problem in found
    recipe = load_recipe(
        write(MINIMAL), [*STREAMED, "data.train=shards/*.parquet", "train.batch_sampler=batch_sampler"]
    )
    assert recipe.data.streaming and recipe.data.shuffle_buffer == 10_000


def test_samples_may_hold_out_their_own_rows(write):
    recipe = load_recipe(write(MINIMAL), ["data.train=sample:wikipedia", "data.heldout=sample:wikipedia"])
    assert recipe.data.heldout == "sample:wikipedia"


def test_a_suite_may_be_a_file(write, tmp_path):
    suite = tmp_path / "mine.yaml"
    suite.write_text("tasks: []")
    assert load_recipe(write(MINIMAL), [f"evaluate.after=[{suite}]"]).evaluate.after[0].name == str(suite)
    (tmp_path / "sts7.yaml").write_text("tasks: []")
    (found,) = problems(write(MINIMAL), f"evaluate.after=[sts7, {tmp_path}/sts7.yaml]")
    assert "evaluate.after: has something twice" in found, "their results would be one file"


@pytest.mark.parametrize("key", ["token", "TOKEN", "Api_Key", "apikey", "client_secret", "PASSWORD"])
def test_a_secret_on_the_command_line_is_not_repeated(write, key: str):
    (found,) = problems(write(MINIMAL), f"publish.{key}=geheim")
    assert found.startswith(f"--set publish.{key}=[secret]: publish.{key}: unknown key") and "geheim" not in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: x\ndata: [1\nloss: 2\n", "recipe.yaml:3: not YAML: expected ',' or ']', but got ':'"),
        ("a: 1\n\tb: 2\n", "recipe.yaml:2: not YAML: found character '\\t' that cannot start any token"),
        ("a: 1\nb: \x07\n", "recipe.yaml:2: not YAML: special characters are not allowed"),
        ("a: &x 1\nb: *x\n", "recipe.yaml:2: not YAML: aliases (*name) are not read; write the value out"),
        ("a: 1\n---\nb: 1\n", "recipe.yaml:2: not YAML: but found another document"),
        ("#" * 100_001, "recipe.yaml: has 100,001 bytes; more than 100,000 are not read"),
        ("", "recipe.yaml: is empty"),
        ("# nothing\n", "recipe.yaml: is empty"),
        ("- a\n", "recipe.yaml: is not a mapping of keys to values"),
    ],
)
def test_what_is_no_recipe_at_all(write, text, problem):
    assert problems(write(text)) == [problem]


@pytest.mark.parametrize("opened", ["[", "{a: ", "- ", "? ", "a: [{", "[[x]: "])
def test_deep_nesting_is_refused_before_it_is_parsed(write, opened: str):
    """Most of it is not even read: each level that is takes more than a hundred calls, and more the deeper it lies."""
    recipe, found = write("\n" + opened * 16_000), []
    assert calls(lambda: found.extend(problems(recipe))) < 100_000
    assert found == ["recipe.yaml:2: is nested in more than 20 levels"]


def test_twenty_levels_are_read(write):
    def nested(levels: int) -> list[str]:
        text = MINIMAL + "seeds: " + "[" * levels + "1" + "]" * levels
        return [problem for problem in problems(write(text)) if "nested" in problem]

    assert nested(19) == [] and nested(20) == ["recipe.yaml:7: seeds: is nested in more than 20 levels"]


def test_yaml_that_can_be_read_past(write):
    text = MINIMAL + "name: again\n1: one\nseeds: !!python/tuple [1]\ntrain: {max_steps: !!int many}\n"
    assert [p for p in problems(write(text)) if "seeds: must" not in p and "train.max_steps: must" not in p] == [
        f"recipe.yaml:7: name: appears twice, first at {write(text)}:1".replace(f"{write(text).parent}/", ""),
        "recipe.yaml:8: the recipe: a key must be text",
        "recipe.yaml:9: seeds: the YAML tag tag:yaml.org,2002:python/tuple is not read",
        'recipe.yaml:10: train.max_steps: "many" is not of its tag tag:yaml.org,2002:int',
    ]


def test_not_utf8(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"name: x\nmodel: \xff\n")
    [problem] = problems(path)
    assert problem.startswith("recipe.yaml, line 2: not UTF-8 text (byte 0xff); save it as UTF-8: ")


def test_overrides(write):
    recipe = load_recipe(
        write(MINIMAL),
        [
            "loss.kernel.name=gaussian",  # makes the section
            "loss.kernel.sigma=1e-1",
            "evaluate.after=[sts7]",
            "data.rows=100",
            "name=a=b",
            "name=2024-01-31",  # the last one counts, and a date is text
            "model.revision=",
        ],
    )
    assert recipe.loss == FMICL(kernel="gaussian", sigma=0.1, mu=1.0)
    after = [asked.name for asked in recipe.evaluate.after]
    assert (after, recipe.data.rows, recipe.name) == (["sts7"], 100, "2024-01-31")
    assert recipe.model.revision is None


def test_an_override_replaces_what_the_file_says(write):
    path = write(MINIMAL.replace("fmicl}", "fmicl, kernel: {name: gaussian, sigma: 1}}"))
    cosine = load_recipe(path, ["loss.kernel={name: cosine, temperature: 0.1}"]).loss
    assert cosine == FMICL(kernel="cosine", temperature=0.1)
    assert load_recipe(path, ["loss.kernel.sigma=2"]).loss == FMICL(sigma=2)
    path = write(MINIMAL.replace("fmicl}", "fmicl, sigma: 1}"))
    assert load_recipe(path, ["loss.sigma=2"]).loss == FMICL(sigma=2)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("los.divergence=js", '--set los.divergence=js: los: unknown key (did you mean "loss"?)'),
        ("model.base.x=1", "--set model.base.x=1: model.base is a value, it has no keys"),
        ("=1", "--set =1: write it as KEY=VALUE, for example --set loss.divergence=js"),
        ("a..b=1", "--set a..b=1: write it as KEY=VALUE, for example --set loss.divergence=js"),
        ("seeds=[1", "--set seeds=[1: not YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_wrong_overrides_are_cited(write, override, problem):
    assert problems(write(MINIMAL), override) == [problem]


def test_training_arguments_keep_their_meaning(write):
    text = MINIMAL + (
        "train:\n  learning_rate: 3e-5\n  eval_strategy: no\n  lr_scheduler_type: cosine\n  warmup_steps: 0.1\n"
        "  batch_sampler: no_duplicates\n  report_to: [none]\n  bf16: true\n  metric_for_best_model: null\n"
    )
    assert load_recipe(write(text)).train == {
        "learning_rate": 3e-5,
        "eval_strategy": "no",
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "batch_sampler": "no_duplicates",
        "report_to": ["none"],
        "bf16": True,
        "metric_for_best_model": None,
    }


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("num_train_epochs=true", "must be a number, got true"),
        ("per_device_train_batch_size=8.5", "must be a whole number, got 8.5"),
        ("per_device_train_batch_size='8'", 'must be a whole number, got "8"'),
        ("optim=adamw_torhc", '(did you mean "adamw_torch"?)'),
        ("batch_sampler=no_duplicate", '(did you mean "no_duplicates"?)'),
        ("lr_scheduler_kwargs=3", "got 3"),
        ("parallelism_config={}", "must be null, got {}"),
    ],
)
def test_training_arguments_of_the_wrong_type(write, setting, problem):
    (found,) = problems(write(MINIMAL), f"train.{setting}")
    assert found.startswith(f"--set train.{setting}: train.{setting.split('=')[0]}: must be ")
    assert problem in found


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("do_train", "`fmicl train` trains"),
        ("do_eval", "`evaluate`"),
        ("per_device_eval_batch_size", "`evaluate`"),
        ("train_sampling_strategy", "train.batch_sampler"),
        ("label_names", "data.columns"),
        ("hub_private_repo", "publish.repo"),
    ],
)
def test_training_arguments_that_would_change_nothing(write, key, instead):
    """Their values are not looked at; editors do not offer them."""
    (found,) = problems(write(MINIMAL), f"train.{key}=sequential")
    assert f"train.{key}: " in found and instead in found
    assert key not in training_arguments_schema()["properties"]


def test_training_arguments_reach_the_library(tmp_path):
    """Every shipped ``train:`` section builds real training arguments that hold what it says."""
    from sentence_transformers import SentenceTransformerTrainingArguments

    for name in shipped_recipes():
        train = load_recipe(name).train
        arguments = SentenceTransformerTrainingArguments(output_dir=str(tmp_path), **{**train, "bf16": False})
        for key in train.keys() - {"bf16"}:
            assert getattr(arguments, key) == train[key]


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("{objective: infonce}", {}),
        ("{objective: infonce, kernel: {name: cosine, temperature: 0.05}}", {"kernel": "cosine", "temperature": 0.05}),
        ("{objective: infonce, temperature: 0.05}", {"kernel": "cosine", "temperature": 0.05}),
        ("{objective: fmicl, divergence: js, balance_cosine: 0.1}", {"divergence": "js", "balance_cosine": 0.1}),
        ("{objective: fmicl, balance_cosine: 1.0}", {"balance_cosine": 1}),
        ("{objective: fmicl, alpha: 0, learn_kernel: true}", {"alpha": 0.0, "learn_kernel": True}),
        (
            "{objective: fmicl, alpha: auto, learn_kernel: false, kernel: {name: cosine-critic}}",
            {"alpha": "auto", "kernel": "cosine-critic", "temperature": 1.0},
        ),
        (
            "{objective: fmicl, divergence: tsallis, order: 3, negatives: both, alpha: null}",
            {"divergence": "tsallis", "order": 3.0, "negatives": "both"},
        ),
        ("{objective: infonce, queue: {size: 64, momentum: 0.9}}", {"queue": 64, "momentum": 0.9}),
        ("{objective: infonce, queue: 64, momentum: 0.9}", {"queue": 64, "momentum": 0.9}),
        ("{objective: infonce, queue: {size: 64}}", {"queue": 64, "momentum": 0.999}),
        (
            "{objective: fmicl, negatives: {pairs: within, region: ring, anneal: {steps: 50, schedule: step}}}",
            {"negatives": "within", "region": Annealing(Region(0.1, 0.1), 50, "step")},
        ),
        (
            "{objective: fmicl, negatives: within, region: ring, region_steps: 50, region_schedule: step}",
            {"negatives": "within", "region": Annealing(Region(0.1, 0.1), 50, "step")},
        ),
        (
            "{objective: infonce, negatives: {region: ball, anneal: {schedule: adaptive}}}",
            {"region": Adaptation(Region(0.1))},
        ),
        (
            "{objective: infonce, region: ball, region_schedule: adaptive, region_delta: 0.2, region_window: 3}",
            {"region": Adaptation(Region(0.1), delta=0.2, window=3)},
        ),
    ],
)
def test_a_loss_section_is_the_arguments_of_the_class(write, loss, settings):
    """In the spelling there is now, and in the one of before, with sections."""
    recipe = load_recipe(write(MINIMAL), [f"loss={loss}"])
    assert recipe.loss == objectives()[recipe.loss.objective].of("loss", settings)
    assert Recipe.model_validate(yaml.safe_load(dump_recipe(recipe))) == recipe


def test_roles_in_order(write):
    recipe = load_recipe(write(MINIMAL), ["data.columns={negatives: [n, m], positive: p, anchor: a}"])
    assert list(recipe.data.columns.roles.items()) == [
        ("anchor", "a"),
        ("positive", "p"),
        ("negative_1", "n"),
        ("negative_2", "m"),
    ]


def test_recipes_are_frozen(write):
    with pytest.raises(ValidationError, match="frozen"):
        load_recipe(write(MINIMAL)).name = "other"


# Words that YAML could take for something else, and any other text that UTF-8 can hold.
texts = st.one_of(
    st.sampled_from(
        ["no", "null", "~", "3e-5", "010", "0x1", "true", "1:30", "2024-01-31", "", " a", "a: b", "# a", "="]
    ),
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\x85\0"), max_size=20
    ),  # PyYAML breaks lines at it
)
revisions = st.from_regex(r"[a-z0-9][a-z0-9./-]{0,9}", fullmatch=True).filter(lambda text: ".." not in text)
positive = st.floats(1e-6, 1e6)
optional = lambda values: st.none() | values  # noqa: E731
kernels = st.one_of(
    st.fixed_dictionaries({"name": st.just("gaussian"), "sigma": positive}, optional={"mu": st.floats(0.1, 2)}),
    st.fixed_dictionaries({"name": st.just("cosine"), "temperature": positive}),
)
recipes = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True),
        "model": st.fixed_dictionaries(
            {"base": texts}, optional={"revision": optional(revisions), "max_seq_length": optional(st.integers(1, 512))}
        ),
        "data": st.fixed_dictionaries(
            {
                "train": texts,
                "columns": st.lists(texts, min_size=3, max_size=5, unique=True).map(
                    lambda names: {"anchor": names[0], "positive": names[1], "negatives": names[2:]}
                ),
            },
            optional={
                "rows": optional(st.integers(2, 10**9)),
                "split": texts,
                "config": optional(texts),
                "revision": optional(revisions),
                "shuffle_buffer": st.integers(1, 10**9),
            },
        ),
        "loss": st.one_of(
            st.fixed_dictionaries({"objective": st.just("infonce")}, optional={"kernel": optional(kernels)}),
            st.fixed_dictionaries(
                {"objective": st.just("fmicl"), "alpha": st.one_of(st.none(), st.just("auto"), positive)},
                optional={"kernel": optional(kernels), "learn_kernel": st.booleans()},
            ),
        ),
        "evaluate": st.fixed_dictionaries(
            {"during": st.sampled_from([None, "auto", "stsb-dev"])},
            optional={"before": st.booleans(), "data": optional(texts)},
        ),
        "seeds": st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True),
    },
    optional={
        "train": st.fixed_dictionaries(
            {}, optional={"learning_rate": positive, "run_name": texts, "metric_for_best_model": st.none()}
        )
    },
)


@given(recipes)
@settings(max_examples=60)
def test_resolved_recipe_loads_to_an_equal_one(tmp_path_factory, recipe):
    first = Recipe.model_validate(recipe)
    path = tmp_path_factory.getbasetemp() / "resolved.yaml"
    path.write_text(dump_recipe(first), encoding="utf-8")
    assert load_recipe(path) == first


def test_resolved_recipe_is_tidy(write):
    text = dump_recipe(load_recipe(write(MINIMAL), ["evaluate.during=null", "seeds=[1, 2]"]))
    assert text == (
        "name: small\n"
        "model:\n  base: some/encoder\n  trust_remote_code: false\n  dtype: float32\n  head: none\n"
        "data:\n  train: pairs.csv\n  split: train\n"
        "  columns:\n    anchor: question\n    positive: answer\n    negatives: []\n  views: columns\n"
        "  streaming: false\n  shuffle_buffer: 10000\n"
        "loss:\n  objective: fmicl\n  gather_across_devices: true\n  divergence: js\n"
        "  kernel: gaussian\n  sigma: adaptive\n  mu: 1.0\n  learn_kernel: false\n"
        "  shift: row\n  critic: ratio\n  negatives: cross\n"
        "train: {}\n"
        "evaluate:\n  during: null\n  every_steps: 125\n  before: false\n  after: []\n  dims: []\n"
        "imports: []\n"
        "seeds:\n- 1\n- 2\n"
        "publish:\n  private: true\n  language: []\n  exports: []\n"
    )


def shipped(*names: str):
    return pytest.mark.parametrize("name", names or list(shipped_recipes()))


@shipped()
def test_shipped_recipes(name, write):
    recipe = load_recipe(name)
    path = find_recipe(name)
    first, _ = path.read_text(encoding="utf-8").split("\n", 1)
    assert first.startswith("# ") and not first.endswith(".")
    assert recipe.name == path.stem == Path(name).name
    assert load_recipe(path.stem) == recipe, "a unique stem will do"
    assert load_recipe(write(dump_recipe(recipe))) == recipe


def test_shipped_recipes_cover_the_papers_table():
    names = {f"text/fmicl-{divergence}-bert-base" for divergence in ("kl", "js", "pearson", "sh", "tsallis", "vlc")}
    assert names <= shipped_recipes().keys()
    for name in names:
        recipe = load_recipe(name)
        sigma, divergence = recipe.loss.sigma, name.split("-")[1]
        assert sigma == pytest.approx(sqrt(1 / 40), rel=1e-5)
        assert recipe.loss == FMICL(divergence=divergence, sigma=sigma, mu=1.0, alpha=409600.0, negatives="within")
        assert (recipe.train["per_device_train_batch_size"], recipe.train["learning_rate"]) == (64, 3e-5)
        assert recipe.train["num_train_epochs"] == 1


@shipped("text/unsup-simcse-bert-base", "text/unsup-simcse-roberta-base", "text/sup-simcse-bert-base")
def test_shipped_recipes_have_simcses_values(name):
    recipe = load_recipe(name)
    batch, rate, epochs, head = {
        "text/unsup-simcse-bert-base": (64, 3e-5, 1, "mlp-train-only"),
        "text/unsup-simcse-roberta-base": (512, 1e-5, 1, "mlp-train-only"),
        "text/sup-simcse-bert-base": (512, 5e-5, 3, "mlp"),
    }[name]
    train = recipe.train
    assert (train["per_device_train_batch_size"], train["learning_rate"], train["num_train_epochs"]) == (
        batch,
        rate,
        epochs,
    )
    assert recipe.model.model_dump(include={"pooling", "max_seq_length", "head"}) == {
        "pooling": "cls",
        "max_seq_length": 32,
        "head": head,
    }
    assert recipe.loss == InfoNCE(kernel="cosine", temperature=0.05)
    assert (recipe.evaluate.during.name, recipe.evaluate.every_steps) == ("stsb-dev", 125)


def test_names_of_recipes():
    assert find_recipe("quickstart").name == "quickstart.yaml"
    assert find_recipe("fmicl-js-bert-base") == find_recipe("text/fmicl-js-bert-base")
    with pytest.raises(
        InputError, match=r'no recipe "quickstrat" \(did you mean "quickstart"\?\); `fmicl recipe list`'
    ):
        find_recipe("quickstrat")
    with pytest.raises(InputError, match=r"mine\.yaml: no such file"):
        find_recipe("mine.yaml")


def test_every_key_is_described():
    def described(section: type[BaseModel]) -> None:
        for name, field in section.model_fields.items():
            assert field.description and "\n" not in field.description, f"{section.__name__}.{name}"

    for objective in objectives().values():
        described(objective)
    sections = [Recipe, *Recipe.model_json_schema()["$defs"]]
    import fmicl_text.recipe.schema as module

    for section in sections:
        schema = getattr(module, section, None) if isinstance(section, str) else section
        if schema is not None and isinstance(schema, type):
            described(schema)


def test_every_training_argument_can_be_given():
    import dataclasses

    from sentence_transformers import SentenceTransformerTrainingArguments

    fields = {field.name for field in dataclasses.fields(SentenceTransformerTrainingArguments)}
    assert set(training_arguments_model().model_fields) == {*fields, "precision"}


def test_torch_waits_until_it_is_needed(write):
    code = f"""
import sys
from fmicl_text.recipe.file import load_recipe
load_recipe({str(write(MINIMAL))!r})
import fmicl_text.cli.recipe
assert not {{"torch", "transformers", "datasets"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_resolved_recipe_is_plain_yaml():
    """Other tools read it too: YAML 1.1, as PyYAML has it, gives the same values."""
    recipe = load_recipe("quickstart")
    assert yaml.safe_load(dump_recipe(recipe)) == recipe.model_dump(mode="json")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_setting_reaches_its_loss(objective: str, write, tiny_encoder):
    """The class says of itself what the recipe said."""
    from fmicl_text.recipe.build import build_loss

    loss = f"{{objective: {objective}, {LOSS_TABLE[objective].every_setting}, mini_batch_size: 4}}"
    settings = build_loss(load_recipe(write(MINIMAL), [f"loss={loss}"]), tiny_encoder).get_config_dict()
    said = yaml.safe_load(loss)
    assert said.pop("objective") == objective
    assert {key: settings[key] for key in said} == said


@pytest.mark.parametrize(
    ("objective", "arguments"),
    [
        (name, arguments)
        for name, loss in LOSS_TABLE.items()
        for arguments, _ in loss.refused
        if not any(isinstance(value, Region) for value in arguments.values())
    ],
)
def test_a_recipe_refuses_what_the_class_refuses(objective: str, arguments: dict, write):
    """What the class says of them is tested with the losses; what it allows, by ``every_setting`` above."""
    from fmicl_text.recipe.build import build_loss

    with pytest.raises(InputError, match="loss"):
        build_loss(load_recipe(write(MINIMAL), [f"loss={dump({'objective': objective} | arguments)}"]), MeanOfTokens())


@pytest.mark.parametrize(
    ("negatives", "region"),
    [
        ("ball", (0.1, 0.0)),
        ("ring", (0.1, 0.1)),
        ("{region: ring, outer: 0.5, inner: 0.2}", (0.5, 0.2)),
        ("{region: ball, outer: 0.3}", (0.3, 0.0)),
    ],
)
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "contextual-infonce"])
def test_regions(objective, negatives, region, write):
    loss = f"{{objective: {objective}, negatives: {negatives}}}"
    assert load_recipe(write(MINIMAL), [f"loss={loss}"]).loss.course() == Region(*region)


@pytest.mark.parametrize(
    ("anneal", "message"),
    [
        (
            "{steps: 50, schedule: adaptive}",
            "belongs to region_schedule: linear or step or exponential, got .*adaptive",
        ),
        ("{schedule: step}", "is required with region_schedule: step"),
        ("{}", "is required with region_schedule: linear"),
    ],
)
def test_steps_of_an_annealing(anneal, message, write):
    with pytest.raises(
        InputError, match=rf"loss\.(negatives\.anneal\.steps|negatives\.region_steps|region_steps).*{message}"
    ):
        load_recipe(write(MINIMAL), [f"loss={{objective: infonce, negatives: {{region: ball, anneal: {anneal}}}}}"])


@pytest.mark.parametrize("key", ["prompts", "router_mapping"])
def test_columns_by_role_or_by_the_name_they_have_in_the_data(write, key):
    """Questions are the anchors of the data that trains."""
    for name in ("question", "anchor"):
        recipe = load_recipe(write(MINIMAL), [f"train={{{key}: {{{name}: 'query: ', answer: x}}, max_steps: 3}}"])
        assert recipe.training_arguments() == {key: {"anchor": "query: ", "positive": "x"}, "max_steps": 3}


def test_one_prompt_for_all_columns(write):
    assert load_recipe(write(MINIMAL), ["train.prompts='query: '"]).training_arguments() == {"prompts": "query: "}


@pytest.mark.parametrize(
    ("prompts", "problem"),
    [
        (
            "{qestion: x}",
            'train.prompts.qestion: is not a column (did you mean "question"?); there are question, answer, anc',
        ),
        ("{query: x}", "train.prompts.query: is not a column; there are question, answer, anchor, positive"),
        ("{anchor: x, question: y}", "train.prompts.anchor: is given twice, also as question, its column"),
        (
            "{question: {anchor: x}}",
            'train.prompts.question: must be text, got {"anchor": "x"}',
        ),
    ],
)
def test_prompts_of_what_is_no_column(write, prompts, problem):
    [found] = problems(write(MINIMAL), f"train.prompts={prompts}")
    assert found.startswith(f"--set train.prompts={prompts}: {problem}")


def test_a_column_called_like_another_role(write):
    swapped = "data.columns={anchor: positive, positive: anchor}"
    [found] = problems(write(MINIMAL), swapped, "train.prompts={anchor: x}")
    assert "train.prompts.anchor: is the name of a role and of another role's column" in found


def test_prompts_are_the_models(write):
    [found] = problems(write(MINIMAL), "train.prompts={anchor: 'q: '}", "model.prompts={query: 'q: '}")
    assert "train.prompts: is given by model.prompts, which evaluation uses too; drop it" in found
    [found] = problems(write(MINIMAL), "model.prompts={querry: 'query: '}")
    assert 'model.prompts.querry: unknown key (did you mean "query"?)' in found
    images = "data={train: photos, columns: {anchor: image}, views: augment}"
    [found] = problems(write(MINIMAL), images, "model.prompts={query: 'query: '}")
    assert "model.prompts: is for texts, not for images (data.views: augment)" in found


def test_the_largest_number(write):
    largest = 2**63 - 1
    assert load_recipe(write(MINIMAL), [f"data.rows={largest}"]).data.rows == largest
    for number in (largest + 1, -largest - 1):
        override = f"data.rows={number}"
        assert problems(write(MINIMAL), override)[0] == f"--set {override}: data.rows: {number} is too large a number"
