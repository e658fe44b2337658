"""The study of default losses: its parts are apart, its figures right, its training the trainer's."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn.functional import normalize
from words import WORDS

from eval.benchmarks.default_loss.held_out import Retrieval, Similarity
from eval.benchmarks.default_loss.jobs import Job, dropout_job, key, label_job, pair_job, read_jobs, write_jobs
from eval.benchmarks.default_loss.objectives import MNRL, OBJECTIVES, TUNED, Objective, Unavailable
from eval.benchmarks.default_loss.report import APART, Study, choice, verdicts, write_report
from eval.benchmarks.default_loss.runs import Setting, plan, read_runs, run_all
from eval.benchmarks.default_loss.training import batches, train


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return list(dict.fromkeys(" ".join(draw.choices(WORDS, k=8)) for _ in range(2 * count)))[:count]


def a_pair_job(steps: int = 2, hard_negatives: bool = False) -> Job:
    texts = sentences(300)
    rows = [dict(zip(("anchor", "positive", "negative"), texts[i : i + 3], strict=True)) for i in range(0, 300, 3)]
    rows += [{**rows[i], "positive": rows[i + 1]["positive"].upper() + "!"} for i in range(0, 40, 4)]  # links two rows
    rows += [{**rows[i], "negative": rows[-i - 20]["positive"]} for i in range(20)]
    job = pair_job("pairs", "paraphrase", "choose", rows, hard_negatives=hard_negatives)
    return Job(**{**vars(job), "steps": steps})


def a_label_job(steps: int = 2) -> Job:
    rows = [{"text": text, "label": "ab"[i % 2] if i % 5 else "c"} for i, text in enumerate(sentences(200, seed=1))]
    return Job(**{**vars(label_job("labels", "judge", [*rows, {"text": "a dog", "label": "rare"}])), "steps": steps})


@pytest.mark.parametrize("hard_negatives", [False, True])
def test_parts_of_pairs_share_no_text(hard_negatives: bool):
    job = a_pair_job(hard_negatives=hard_negatives)
    assert len(job.train) == (3 if hard_negatives else 2) and len({len(column) for column in job.train}) == 1
    trained = set(map(key, itertools.chain(*job.train)))
    held_out = [set(map(key, part.queries + right_documents(part))) for part in (job.dev, job.test)]
    assert trained and not held_out[0] & held_out[1]
    for part, right in zip((job.dev, job.test), held_out, strict=True):
        assert right and not trained & set(map(key, part.texts))


def right_documents(part: Retrieval) -> list[str]:
    return [text for text, group in zip(part.documents, part.document_groups, strict=True) if group >= 0]


def test_linked_pairs_are_one_group():
    rows = [{"anchor": f"a{i}", "positive": f"p{i}"} for i in range(40)]
    rows += [{"anchor": f"a{i}", "positive": f"p{i + 1}"} for i in range(0, 40, 2)]
    job = pair_job("pairs", "paraphrase", "choose", rows)
    for part in (job.dev, job.test):
        assert part.groups == list(range(len(part.queries)))
        assert len(part.documents) == 2 * len(part.queries)
        for document, group in zip(part.documents, part.document_groups, strict=True):
            assert int(document[1:]) // 2 == int(part.queries[group][1:]) // 2


def test_negatives_and_others_are_searched_and_right_for_nobody():
    rows = [{"anchor": f"a{i}", "positive": f"p{i}", "negative": f"n{i}"} for i in range(40)]
    job = pair_job("pairs", "paraphrase", "choose", rows, others=["o1", *(f"P {i}!" for i in range(40)), "o2"])
    for part in (job.dev, job.test):
        groups = dict(zip(part.documents, part.document_groups, strict=True))
        assert {text for text, group in groups.items() if group == -1 and text[0] == "n"}
        assert groups["o1"] == groups["o2"] == -1
        own = {text[1:] for text in part.queries} | {text[1:] for text in job.train[0]}
        assert not [text for text in groups if text[0] == "P" and text[2:-1] in own], "known texts are never others"
        assert all(group >= 0 for text, group in groups.items() if text[0] == "p")


def test_parts_of_labels_share_no_text_and_positives_have_the_label():
    job = a_label_job()
    parts = [set(itertools.chain(*job.train)), set(job.dev.queries), set(job.test.queries)]
    for a, b in itertools.combinations(parts, 2):
        assert not a & b
    label_of = dict(zip(job.train[0], job.groups, strict=True))
    for anchor, positive in zip(*job.train, strict=True):
        assert anchor != positive and label_of[anchor] == label_of[positive]
    assert set(job.groups) == {0, 1, 2}, "a label of few texts is left out"


def test_jobs_survive_a_file(tmp_path: Path):
    similarity = Job("s", "dropout", "judge", 2, [["ä", "b"]], None, *[Similarity(["ä"], ["b"], [1.5])] * 2)
    jobs = [a_pair_job(), a_label_job(), similarity]
    write_jobs(jobs, tmp_path / "jobs.json.gz")
    assert list(read_jobs(tmp_path / "jobs.json.gz").values()) == jobs


def test_retrieval_figures_are_scikit_learns():
    torch.manual_seed(0)
    vectors = normalize(torch.randn(70, 8), dim=1)
    groups = [i % 7 for i in range(30)]
    of_documents = [i % 9 - 1 for i in range(40)]
    items = Retrieval(list(map(str, range(30))), groups, list(map(str, range(30, 70))), of_documents).items(vectors)
    check(items, (vectors[:30] @ vectors[30:].T).numpy(), np.equal.outer(groups, of_documents))


def test_any_text_of_the_label_is_right_but_not_the_query_itself():
    torch.manual_seed(0)
    vectors = normalize(torch.randn(30, 8), dim=1)
    groups = [i % 7 for i in range(30)]
    items = Retrieval(list(map(str, range(30))), groups).items(vectors)
    others = ~np.eye(30, dtype=bool)
    cosines = (vectors @ vectors.T).numpy()[others].reshape(30, 29)
    check(items, cosines, np.equal.outer(groups, groups)[others].reshape(30, 29))


def check(items: dict, cosines: np.ndarray, right: np.ndarray) -> None:
    expected = [average_precision_score(r, c) for r, c in zip(right, cosines, strict=True)]
    np.testing.assert_allclose(items["map"].values, expected, rtol=1e-9)
    nearest = right[np.arange(len(right)), cosines.argmax(axis=1)]
    np.testing.assert_array_equal(items["accuracy@1"].values, nearest)


@pytest.mark.parametrize("name", ["MNRL", "KL balance 0.1", "InfoNCE 0.05"])
def test_the_loop_trains_as_the_trainer_does(name: str, tiny_encoder, tmp_path: Path):
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler

    class InOrder(DefaultBatchSampler):
        def __init__(self, dataset: Dataset, **options: object) -> None:
            options = {name: options[name] for name in ("batch_size", "drop_last")}
            super().__init__(SequentialSampler(dataset), **options)

    for module in tiny_encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    objective = next(o for o in OBJECTIVES if o.name == name)
    start = {parameter: tensor.clone() for parameter, tensor in tiny_encoder.state_dict().items()}
    columns = [sentences(640), sentences(640, seed=1)]
    order = torch.randperm(640, generator=torch.Generator().manual_seed(5)).tolist()  # an epoch of batches() of seed 5
    train(tiny_encoder, objective.build(tiny_encoder), batches(tiny_encoder, columns, 10, 5), 1e-3, torch.float32)
    ours = {parameter: tensor.clone() for parameter, tensor in tiny_encoder.state_dict().items()}

    tiny_encoder.load_state_dict(start)
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=64,
        num_train_epochs=1,
        learning_rate=1e-3,
        warmup_steps=1,
        batch_sampler=InOrder,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    rows = {"anchor": [columns[0][i] for i in order], "positive": [columns[1][i] for i in order]}
    SentenceTransformerTrainer(
        model=tiny_encoder,
        args=arguments,
        train_dataset=Dataset.from_dict(rows),
        loss=objective.build(tiny_encoder),
    ).train()
    moved = max((ours[parameter] - tensor).abs().max().item() for parameter, tensor in start.items())
    assert moved > 1e-3
    for parameter, tensor in tiny_encoder.state_dict().items():
        torch.testing.assert_close(tensor, ours[parameter], rtol=1e-4, atol=1e-5)


@pytest.fixture
def models(tiny_encoder_path: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_encoder_path, tmp_path / "models" / "minilm")
    return tmp_path / "models"


def test_a_study_from_end_to_end(models: Path, tmp_path: Path, capfd: pytest.CaptureFixture):
    jobs = {job.name: job for job in (a_pair_job(), a_label_job())}
    setting = Setting(tmp_path / "runs", models, "cpu", 1)
    names = ("MNRL", "KL balance 0", "InfoNCE")
    objectives = [o for o in OBJECTIVES if o.name.startswith(names)]
    objectives.append(Objective("of tomorrow", "FMICLLoss", {"unheard_of": 1}))
    seeds = [1, 2]

    def left() -> list:
        return plan(jobs.values(), ["minilm"], seeds, objectives, read_runs(setting.folder))

    run_all(left(), setting, workers=2)
    assert "of tomorrow: FMICLLoss has no setting unheard_of" in capfd.readouterr().out
    runs = read_runs(setting.folder)
    assert len(runs) == 2 * (1 + 2 * (len(objectives) - 1))
    for run in runs:
        assert run["failed"] is None
        assert (run["losses"] == []) == (run["objective"] == "start")
    del objectives[-1]
    assert left() == []

    file = next(setting.folder.glob("*.jsonl"))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], lines[-1][:100]]))  # as a process that was killed leaves it
    assert [len(unit.objectives) for unit in left()] == [1]

    study = Study.of(jobs, runs)
    write_report(study, tmp_path)
    document = json.loads((tmp_path / "default_loss.json").read_text())
    assert len(document["runs"]) == len(runs)
    assert set(document["choosing"]) == {o.name for o in objectives} - {"MNRL"}
    page = (tmp_path / "default_loss.md").read_text()
    assert TUNED in page and "| KL balance 0.5 |" in page
    assert (tmp_path / "default_loss.png").stat().st_size > 10_000


def test_a_broken_encoder_scores_nothing(models: Path, tmp_path: Path):
    job = a_label_job(steps=4)
    objective = Objective("broken", MNRL, {"scale": float("inf")})
    setting = Setting(tmp_path / "runs", models, "cpu", 1)
    run_all(plan([job], ["minilm"], [1], [objective], []), setting, 1)
    run = next(run for run in read_runs(setting.folder) if run["objective"] == "broken")
    assert run["failed"] and run["test"]["map"]["score"] == 0
    study = Study.of({job.name: job}, [*read_runs(setting.folder), run | {"objective": "KL balance 0.5"}])
    assert study.compare(("labels", "minilm"), "broken", "start", "test").p_value == 0


def test_dropout_views_are_one_column_and_for_sentence_transformers_one_twice(models: Path, tmp_path: Path):
    pairs = Similarity(sentences(20), sentences(20, seed=1), [float(i) for i in range(20)])
    job = dropout_job("dropout", "judge", sentences(100, seed=2), rows_of(pairs), rows_of(pairs))
    job = Job(**{**vars(job), "steps": 2})
    setting = Setting(tmp_path / "runs", models, "cpu", 1)
    objectives = [o for o in OBJECTIVES if o.name in ("MNRL", "InfoNCE 0.05")]
    run_all(plan([job], ["minilm"], [1], objectives, []), setting, 1)
    losses = {run["objective"]: (run["failed"], run["losses"]) for run in read_runs(setting.folder)}
    assert losses["MNRL"] != losses["InfoNCE 0.05"] and losses["MNRL"][0] is losses["InfoNCE 0.05"][0] is None
    assert losses["MNRL"][1][0] == pytest.approx(losses["InfoNCE 0.05"][1][0], rel=0.05)


def rows_of(pairs: Similarity) -> list[dict]:
    columns = zip(pairs.sentences1, pairs.sentences2, pairs.scores, strict=True)
    return [dict(zip(("sentence1", "sentence2", "score"), row, strict=True)) for row in columns]


def test_a_loss_that_is_not_there_is_told():
    with pytest.raises(Unavailable, match=r"fmicl_text\.losses has no FutureLoss"):
        Objective("x", "FutureLoss").build(None)
    with pytest.raises(Unavailable, match=r"x: .*negatives must be .*got .sideways"):
        Objective("x", "FMICLLoss", {"negatives": "sideways"}).build(None)


def runs_of(job: Job, scores: dict[str, float], seeds: int = 3) -> list[dict]:
    """Runs in which a share of the queries have precision 1, the others 0; of tuned InfoNCE at every temperature."""
    made = []
    n = len(job.test.queries)
    for objective, share in scores.items():
        for seed in [0] if objective == "start" else range(1, seeds + 1):
            values = (np.random.default_rng([n, seed]).random(n) < share).astype(float)
            of = {
                "statistic": "mean",
                "values": values.tolist(),
                "gold": None,
                "source": "",
                "score": 100 * values.mean(),
            }
            parts = {"dev": {"map": of}, "test": {"map": of}}
            made.append(
                {"job": job.name, "start": "minilm", "objective": objective, "seed": seed, "failed": None, **parts}
            )
    return made


def test_a_candidate_that_harms_one_job_is_not_chosen():
    def job(name: str, half: str) -> Job:
        part = Retrieval([f"{name} {i}" for i in range(400)], [0] * 400)
        return Job(name, "label", half, 1, [[], []], None, part, part)

    jobs = {name: job(name, "choose") for name in "abc"} | {"d": job("d", "judge")}
    usual = {
        "start": 0.5,
        "MNRL": 0.6,
        "InfoNCE 0.02": 0.5,
        "InfoNCE 0.05": 0.6,
        "InfoNCE 0.1": 0.7,
        "InfoNCE 0.2": 0.4,
    }
    runs = [
        run
        for name, item in jobs.items()
        for run in runs_of(item, usual | {"KL balance 0.1": 0.3 if name == "b" else 0.95, "KL balance 0.5": 0.62})
    ]
    study = Study.of(jobs, runs)
    assert study.scores(("a", "minilm"), TUNED, "test") == study.scores(("a", "minilm"), "InfoNCE 0.1", "test")
    choosing = verdicts(study, "choose", "dev")
    assert choosing["KL balance 0.1"]["start"]["below"] == ["b/minilm"]
    assert choosing["KL balance 0.1"]["MNRL"]["worst"] == "b/minilm"
    assert choosing["KL balance 0.1"]["MNRL"]["average"] > choosing["KL balance 0.5"]["MNRL"]["average"] > 0
    assert choosing["KL balance 0.5"]["MNRL"]["below"] == []
    assert choice({name: choosing[name] for name in ("KL balance 0.1", "KL balance 0.5")}) == "KL balance 0.5"
    assert choice(choosing) == "InfoNCE 0.1"
    assert choosing["KL balance 0.5"][TUNED]["average"] < 0


def test_a_start_with_few_objectives_is_reported_apart(tmp_path: Path):
    part = Retrieval([f"{i}" for i in range(100)], [0] * 100)
    job = Job("a", "label", "judge", 1, [[], []], None, part, part)
    every = {"start": 0.5, "MNRL": 0.6, "js row 0.07 cross": 0.6, "InfoNCE 0.1": 0.6}
    few = [run | {"start": APART} for run in runs_of(job, {"start": 0.1, "MNRL": 0.5, "js row 0.07 cross": 0.9})]
    common = {"device": "cpu", "precision": "float32", "steps": 1}
    study = Study.of({"a": job}, [run | common for run in runs_of(job, every) + few])
    assert study.tasks("judge") == [("a", "minilm")] and study.tasks_apart == [("a", APART)]
    assert "a/minilm-mlm" not in verdicts(study, "judge", "test")["js row 0.07 cross"]["MNRL"]["tests"]
    write_report(study, tmp_path)
    lines = (tmp_path / "default_loss.md").read_text().split("## From a masked language model")[1].splitlines()
    scores, difference = (line for line in lines[:20] if line.startswith("| js row 0.07 cross |"))
    test = study.compare(("a", APART), "js row 0.07 cross", "MNRL", "test")
    assert f"{test.difference:+.2f} ({test.ci95[0]:+.2f} to {test.ci95[1]:+.2f})" in difference and " ± " in scores
    assert not any(line.startswith("| InfoNCE 0.1 |") for line in lines[:20]), "which was not run from there"


def test_averages_over_jobs_are_compared_over_the_seeds_that_all_have():
    def job(name: str) -> Job:
        part = Retrieval([f"{name} {i}" for i in range(100)], [0] * 100)
        return Job(name, "label", "choose", 1, [[], []], None, part, part)

    jobs = {name: job(name) for name in "ab"}
    runs = runs_of(jobs["a"], {"MNRL": 0.5, "InfoNCE 0.05": 0.8}) + runs_of(
        jobs["b"], {"MNRL": 0.5, "InfoNCE 0.05": 0.6}, seeds=2
    )
    study = Study.of(jobs, runs)
    tasks = study.tasks_by_kind()["label"]
    assert tasks == [("a", "minilm"), ("b", "minilm")]
    both = study.compare_all(tasks, "InfoNCE 0.05", "MNRL")
    scores = {(task, name): study.scores(task, name, "test")[:2] for task in tasks for name in ("InfoNCE 0.05", "MNRL")}
    means = [np.mean(scores[task, "InfoNCE 0.05"]) - np.mean(scores[task, "MNRL"]) for task in tasks]
    assert both.difference == pytest.approx(np.mean(means)) and both.ci95[0] < both.difference < both.ci95[1]
    assert study.compare_all(tasks[:1], "InfoNCE 0.05", "MNRL") == study.compare(
        tasks[0], "InfoNCE 0.05", "MNRL", "test"
    )
    assert study.compare_all(tasks, "InfoNCE 0.05", "unheard of") is None


def test_two_objectives_are_compared_over_the_seeds_that_both_have(tmp_path: Path):
    part = Retrieval([f"{i}" for i in range(100)], [0] * 100)
    job = Job("a", "label", "choose", 1, [[], []], None, part, part)
    runs = runs_of(job, {"start": 0.2, "MNRL": 0.5}) + runs_of(job, {"KL balance 0.1": 0.6}, seeds=2)
    study = Study.of({"a": job}, [run | {"device": "cpu", "precision": "float32", "steps": 1} for run in runs])
    task = ("a", "minilm")
    of = {name: study.scores(task, name, "test") for name in ("start", "MNRL", "KL balance 0.1")}
    expected = {
        "KL balance 0.1": np.mean(of["KL balance 0.1"]) - np.mean(of["MNRL"][:2]),
        "start": of["start"][0] - np.mean(of["MNRL"]),
    }
    for name, difference in expected.items():
        assert study.difference(task, name, "MNRL") == pytest.approx(difference)
        assert study.compare(task, name, "MNRL", "test").difference == pytest.approx(difference)
    assert study.difference(task, "KL balance 0.1", "unheard of") is None
    write_report(study, tmp_path)
    page = (tmp_path / "default_loss.md").read_text()
    assert "seeds 1, 2, 3, all of them on all tasks for MNRL alone" in page
    assert f"| label | 1 | {expected['start']:+.2f} | {expected['KL balance 0.1']:+.2f} |" in page
