"""Time ``fmicl eval sts --suite sts7-mteb`` and mteb side by side: the same seven tasks, pairs, model and cores.

    python eval/benchmarks/sts_speed.py --model MODEL --data DATA

``MODEL`` is what ``fmicl eval sts`` takes, on this machine; ``DATA`` a folder with ``sts/``. Each run is a process of
its own, from start to end, imports and all. The programs take turns, so that what slows the machine for a while slows
each. mteb is given the pairs in memory: it neither downloads nor reads its own copy, and keeps no cache; all else is
its default.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from fmicl_text.encoders.text import locate
from fmicl_text.evaluation.results import read_result
from fmicl_text.evaluation.suites import load_pairs, load_suite
from fmicl_text.files import read_json, write_json, write_text
from fmicl_text.versions import versions

RESULTS = Path(__file__).parent.parent / "results"
SUITE = "sts7-mteb"
OURS = [sys.executable, "-m", "fmicl_text", "eval", "sts", "--suite", SUITE]
PROGRAMS = {
    "mteb": [sys.executable, __file__, "--run-mteb"],
    "fmicl": OURS,
    "fmicl --bf16": [*OURS, "--bf16"],
}
"""Program -> its command; ``--model``, ``--data`` and ``--output`` follow in the program's own way."""


def main() -> None:
    """Time every program, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder or sample:minilm")
    parser.add_argument("--data", required=True, help="folder with sts/")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each program; default 3")
    parser.add_argument("--cores", type=int, default=2, help="cores each run may use; default 2")
    parser.add_argument("--output", type=Path, default=RESULTS / "sts_speed", help="path of the report, no suffix")
    parser.add_argument("--run-mteb", action="store_true", help="run mteb once and write its scores to --output")
    args = parser.parse_args()
    if args.run_mteb:
        write_json(args.output, run_mteb(args.model, args.data))
        return
    document = measure(args.model, args.data, args.repeats, args.cores)
    write_json(args.output.with_suffix(".json"), document)
    write_text(args.output.with_suffix(".md"), markdown(document))


def run_mteb(model: str, data: str) -> dict[str, float]:
    """Score a model by mteb's own tasks on the suite's pairs: task -> Spearman x 100."""
    import mteb
    from datasets import Dataset, DatasetDict
    from sentence_transformers import SentenceTransformer

    tasks = []
    for name, pairs in load_pairs(load_suite(SUITE), data)[0].items():
        task = mteb.get_task(name)
        columns = {"sentence1": pairs.sentences1, "sentence2": pairs.sentences2, "score": pairs.scores}
        task.dataset = DatasetDict(test=Dataset.from_dict(columns))
        task.data_loaded = True
        tasks.append(task)
    results = mteb.evaluate(SentenceTransformer(locate(model)), tasks, cache=None, show_progress_bar=False)
    return {r.task_name: 100 * r.scores["test"][0]["cosine_spearman"] for r in results.task_results}


def _scores(output: Path) -> dict[str, float]:
    """Return Spearman x 100 of each task, from what ``fmicl eval sts`` wrote."""
    return {score.name: score.value for score in read_result(output).scores if score.name != "average"}


def measure(model: str, data: str, repeats: int, cores: int) -> dict:
    """Run every program ``repeats`` times in turn, and gather its wall times and scores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    # As a user's shell has it: settings of the allocator or of threads would favour one program.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "OMP_"))}
    seconds: dict[str, list[float]] = {program: [] for program in PROGRAMS}
    cpu_seconds: dict[str, list[float]] = {program: [] for program in PROGRAMS}
    scores: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            for program, command in PROGRAMS.items():
                output = Path(folder) / f"{program.replace(' ', '')}-{repeat}.json"
                named = ["--model", model] if program == "mteb" else [model]
                start, used = time.perf_counter(), _cpu_seconds()
                subprocess.run(
                    [*command, *named, "--data", data, "--output", str(output)],
                    env=environment,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                seconds[program].append(time.perf_counter() - start)
                cpu_seconds[program].append(_cpu_seconds() - used)
                scores[program] = read_json(output) if program == "mteb" else _scores(output)
                print(f"{program}: {seconds[program][-1]:.1f} s, CPU {cpu_seconds[program][-1]:.1f} s", flush=True)
    pairs = load_pairs(load_suite(SUITE), data)[0].values()
    sentences = [text for task in pairs for text in task.sentences1 + task.sentences2]
    return {
        "command": "python eval/benchmarks/sts_speed.py --model MODEL --data DATA",
        "model": model if model.startswith("sample:") else Path(model).name,
        "cores": cores,
        "machine": platform.machine(),
        "sentences": {"all": len(sentences), "distinct": len(set(sentences))},
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "speedup": {program: median(seconds["mteb"]) / median(seconds[program]) for program in PROGRAMS},
        "scores": scores,
        "largest_difference": {
            program: max(abs(score - scores["mteb"][task]) for task, score in of_program.items())
            for program, of_program in scores.items()
        },
        "versions": versions(),
    }


def _cpu_seconds() -> float:
    """Time that the runs so far have spent computing, on all cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def markdown(document: dict) -> str:
    """Return the report as a page."""
    programs = list(document["seconds"])
    lines = [
        f"# `fmicl eval sts --suite {SUITE}` and mteb, side by side",
        "",
        f"`{document['command']}`",
        "",
        f"{document['model']}, {document['cores']} cores ({document['machine']}); whole processes, "
        f"{len(document['seconds']['mteb'])} of each in turn. mteb encodes all {document['sentences']['all']:,} "
        f"sentences, sorted by characters; fmicl the {document['sentences']['distinct']:,} distinct ones, sorted by "
        "tokens.",
        "",
        "| program | seconds, median | all runs | CPU seconds, median | times as fast as mteb | largest difference "
        "of a task's score |",
        "|---|---|---|---|---|---|",
    ]
    for program in programs:
        times = document["seconds"][program]
        runs = ", ".join(f"{value:.1f}" for value in times)
        lines.append(
            f"| {program} | {median(times):.1f} | {runs} | {median(document['cpu_seconds'][program]):.1f} "
            f"| {document['speedup'][program]:.2f} | {document['largest_difference'][program]:.4f} |"
        )
    lines += ["", f"| Spearman x 100 | {' | '.join(programs)} |", "|---" * (len(programs) + 1) + "|"]
    for task in document["scores"]["mteb"]:
        cells = " | ".join(f"{document['scores'][program][task]:.4f}" for program in programs)
        lines.append(f"| {task} | {cells} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
