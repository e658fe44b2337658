"""Compare objectives on images under SimCLR, MoCo v2 and MoCo v3: tune each a little, train with every seed, report.

    python eval/benchmarks/vision.py --data DATA --pilot
    python eval/benchmarks/vision.py --data DATA

``DATA`` is a folder with ``cifar10_train.parquet`` and ``cifar10_test.parquet``. Each arm has two settings; that of
the better kNN on 2,000 further training images, with seed 0, is trained with seeds 1, 2 and 3 and measured once on the
test images. ``--pilot`` runs two arms alone, which shows whether the size can tell objectives apart. What is in
``eval/results/vision`` is not done again, so an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev

import pyarrow.parquet as pq

from fmicl_text.evaluation.items import Parts, read_items, write_result
from fmicl_text.evaluation.kind import Effort, Given
from fmicl_text.evaluation.kinds.images import OfImages
from fmicl_text.evaluation.paired import PairedTest, paired_test
from fmicl_text.evaluation.results import read_result
from fmicl_text.evaluation.scored_model import scored_model
from fmicl_text.files import read_json, write_json, write_text
from fmicl_text.recipe.file import load_recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.train import train

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "vision"
TRAINED, TUNED = 10_000, 2_000
SEEDS = (1, 2, 3)
MOCO_V2 = ", queue: 4096, momentum: 0.99"
MOCO_V3 = ", momentum: 0.99, momentum_schedule: cosine"
PREDICTOR = "model.predictor={widths: [256, 128], batch_norm: hidden}"
SHIFT = "objective: fmicl, shift: row, negatives: both"


def _arms(way: str, also: str) -> dict[str, tuple[str, str]]:
    """Return arm -> its two settings, for InfoNCE (NT-Xent where both views meet) against KL and JS."""
    first = "objective: ntxent" if way == "simclr" else "objective: infonce"
    arms = {f"{way}-infonce": tuple(f"{{{first}, temperature: {tau}{also}}}" for tau in (0.2, 0.5))}
    for divergence in ("kl", "js"):
        arms[f"{way}-fmicl-{divergence}"] = tuple(
            f"{{{SHIFT}, divergence: {divergence}, sigma: {sigma}{also}}}" for sigma in (0.4472, 0.7071)
        )
    return arms  # type: ignore[return-value]


ARMS: dict[str, tuple[str, str]] = {
    **_arms("simclr", ""),
    "simclr-fmicl-pearson": tuple(f"{{{SHIFT}, divergence: pearson, sigma: {s}}}" for s in (0.7071, 1.0)),  # type: ignore
    "simclr-fmicl-vlc": tuple(f"{{{SHIFT}, divergence: vlc, sigma: {s}}}" for s in (0.7071, 1.0)),  # type: ignore
    "simclr-fmicl-kl-cosine": (
        f"{{{SHIFT}, divergence: kl, kernel: cosine-critic, temperature: 0.2}}",
        f"{{{SHIFT}, divergence: kl, kernel: cosine-critic, temperature: 1.0}}",
    ),
    "simclr-kernel-infonce": (
        "{objective: kernel-infonce, kernel: laplacian, temperature: 0.2}",
        "{objective: kernel-infonce, kernel: laplacian, temperature: 0.5}",
    ),
    "simclr-au": ("{objective: alignment-uniformity, t: 2}", "{objective: alignment-uniformity, t: 1}"),
    **_arms("moco-v2", MOCO_V2),
    **_arms("moco-v3", MOCO_V3),
}
PILOT = ("simclr-infonce", "simclr-fmicl-js")
METHODS = ("kNN", "linear")
WAYS = ("simclr", "moco-v2", "moco-v3")
MARGIN = 1.0
"""Points by which an accuracy may be lower and still be on a par."""
CLAIMS = {
    "Gaussian above cosine similarity": (0.0, [("simclr-fmicl-kl", "simclr-fmicl-kl-cosine")]),
    f"f-MICL at least on a par with InfoNCE, within {MARGIN:g} point": (
        MARGIN,
        [(f"{way}-fmicl-{divergence}", f"{way}-infonce") for way in WAYS for divergence in ("kl", "js")],
    ),
}


def main() -> None:
    """Tune and train what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the two files of CIFAR-10")
    parser.add_argument("--runs", type=Path, default=Path("runs/vision"), help="where the runs go")
    parser.add_argument("--pilot", action="store_true", help="two arms alone")
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="these alone, as where processes share them")
    args = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    split = _split(args.data, args.runs)
    arms = args.arms or (PILOT if args.pilot else tuple(ARMS))
    for arm in arms:
        chosen = _tune(arm, args, split)
        for seed in SEEDS:
            file = RESULTS / f"{arm}-seed{seed}.json"
            if not file.is_file():
                model = _train(arm, ARMS[arm][chosen], seed, args)
                _measure(model, str(args.data / "cifar10_test.parquet"), args, file, baselines=arm == PILOT[0])
    _report()


def _split(data: Path, runs: Path) -> str:
    """Write the further training images by which settings are chosen, and return the file."""
    file = runs / "tune.parquet"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pq.read_table(data / "cifar10_train.parquet").slice(TRAINED, TUNED), file)
    return str(file)


def _tune(arm: str, args: argparse.Namespace, split: str) -> int:
    """Return which of the settings of an arm is the better one."""
    file = RESULTS / f"{arm}-tuned.json"
    if not file.is_file():
        found = []
        for setting in ARMS[arm]:
            model = _train(arm, setting, 0, args)
            scratch = args.runs / f"{arm}-tuned.json"
            _measure(model, split, args, scratch, method="knn")
            found.append(read_result(scratch).scores[0].value)
        write_json(file, {"settings": list(ARMS[arm]), "kNN": found, "chosen": found.index(max(found))})
    return int(read_json(file)["chosen"])


def _train(arm: str, loss: str, seed: int, args: argparse.Namespace) -> str:
    overrides = [f"data.train={args.data}/cifar10_train.parquet", f"loss={loss}", f"seeds=[{seed}]"]
    if arm.startswith("moco-v3"):
        overrides.append(PREDICTOR)
    folder = RunFolder(args.runs / f"{arm}-{ARMS[arm].index(loss)}" / f"seed-{seed}")
    train(load_recipe(HERE / "vision.yaml", overrides), folder.path, resume=folder.recipe.is_file())
    return str(folder.model)


def _measure(
    model: str, test: str, args: argparse.Namespace, file: Path, method: str = "images", baselines: bool = False
) -> None:
    bank = str(args.data / "cifar10_train.parquet")
    asked = OfImages(name=method, train=bank, test=test, rows=TRAINED, k=200, baselines=baselines)
    measured = asked.load(Given()).measure(scored_model(model, file.stem), Effort(512))
    result = measured.result.model_copy(
        update={"data": "cifar10_train.parquet, cifar10_test.parquet", "model": file.stem}
    )
    write_result(type(measured)(result, measured.items), file)


def _report() -> None:
    """Write ``vision.md`` of the arms that have all seeds."""
    done = [arm for arm in ARMS if all((RESULTS / f"{arm}-seed{seed}.json").is_file() for seed in SEEDS)]
    files = {arm: [RESULTS / f"{arm}-seed{seed}.json" for seed in SEEDS] for arm in done}
    lines = [
        "# Objectives on images",
        "",
        "`python eval/benchmarks/vision.py --data DATA`",
        "",
        "10,000 rows of CIFAR-10 (JPEG-coded), 234 steps of 128 images, a ResNet of 1.2 million parameters; "
        f"seeds {', '.join(map(str, SEEDS))}; the better of two settings by kNN on {TUNED:,} further training images "
        "with seed 0. Accuracy x 100 on the 10,000 test images, k = 200, mean ± standard deviation over the seeds. "
        "At this size it says nothing of the paper's 800 epochs.",
        "",
        "| arm | setting | kNN | linear |",
        "|---|---|---|---|",
    ]
    for arm in done:
        tuned = read_json(RESULTS / f"{arm}-tuned.json")
        cells = [_spread([read_result(file).score(method).value for file in files[arm]]) for method in METHODS]
        lines.append(f"| {arm} | `{tuned['settings'][tuned['chosen']]}` | {' | '.join(cells)} |")
    if PILOT[0] in done:
        first = [read_result(file) for file in files[PILOT[0]]]
        for system in ("raw pixels", "random encoder"):
            cells = [_spread([r.score(f"{method}, {system}").value for r in first]) for method in METHODS]
            lines.append(f"| {system} | | {' | '.join(cells)} |")
    lines += ["", "| difference | kNN | linear |", "|---|---|---|"]
    for a, b in combinations(done, 2):
        if a.split("-")[0:2] == b.split("-")[0:2] or (a.startswith("simclr") and b.startswith("simclr")):
            lines.append(f"| {b} - {a} | {' | '.join(_difference(files[b], files[a], m) for m in METHODS)} |")
    lines += ["", "| claim of the paper | pair | here, by linear accuracy |", "|---|---|---|"]
    for claim, (margin, pairs) in CLAIMS.items():
        for ours, other in pairs:
            if ours in done and other in done:
                said = _said(_test(files[ours], files[other], "linear"), margin)
                lines.append(f"| {claim} | {ours} against {other} | {said} |")
    pairs = [(f"{way}-fmicl-kl", f"{way}-fmicl-js") for way in WAYS]
    if all(arm in done for pair in pairs for arm in pair):
        said = _differs([_test(files[kl], files[js], "linear") for kl, js in pairs])
        lines.append(f"| the best divergence differs | KL against JS under {', '.join(WAYS)} | {said} |")
    lines += ["", "Paired bootstrap over test images and seeds; few seeds understate how much seeds differ.", ""]
    write_text(RESULTS.parent / "vision.md", "\n".join(lines))


def _test(ours: list[Path], others: list[Path], method: str) -> PairedTest:
    """Test the difference in accuracy of two arms, over test images and seeds."""

    def items(files: list[Path]) -> dict[str, list[Parts]]:
        return {method: [read_items(file, read_result(file))[f"{method} accuracy"] for file in files]}

    return paired_test(items(ours), items(others))


def _difference(ours: list[Path], others: list[Path], method: str) -> str:
    test = _test(ours, others, method)
    low, high = test.ci95
    return f"{test.difference:+.2f} ({low:+.2f} to {high:+.2f}, p {test.p_value:.3f})"


def _said(test: PairedTest, margin: float = 0) -> str:
    """Say whether a claim that a difference is above zero held; within the margin below, two are on a par."""
    low, high = test.ci95
    return "did not hold" if high < 0 else "held" if low > -margin else "cannot be told here"


def _differs(tests: list[PairedTest]) -> str:
    """Say whether one of two is better in some places and worse in others."""
    said = {_said(test) for test in tests}
    if {"held", "did not hold"} <= said:
        return "held"
    return "did not hold" if len(said) == 1 and "cannot be told here" not in said else "cannot be told here"


def _spread(values: list[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


if __name__ == "__main__":
    main()
