"""The command line, see the package."""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow.parquet as pq

from eval.benchmarks.images import __doc__ as about
from eval.benchmarks.images.arms import ARMS, PILOT, overrides
from eval.benchmarks.images.report import SEEDS, TRAINED, TUNED, Measurements, write_report
from fmicl_text.evaluation.items import write_result
from fmicl_text.evaluation.kind import Effort, Given
from fmicl_text.evaluation.kinds.images import OfImages
from fmicl_text.evaluation.results import read_result
from fmicl_text.evaluation.scored_model import scored_model
from fmicl_text.files import write_json
from fmicl_text.recipe.file import load_recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.train import train

RECIPE = Path(__file__).parent / "recipe.yaml"
RESULTS = Path(__file__).parents[2] / "results" / "images"


def main() -> None:
    """Tune and train what is missing, then write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.benchmarks.images",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the two files of CIFAR-10")
    parser.add_argument("--runs", type=Path, default=Path("runs/images"), help="where the runs go")
    parser.add_argument("--pilot", action="store_true", help="two arms alone")
    parser.add_argument("--arms", nargs="*", choices=ARMS, help="these alone, as where processes share them; or none")
    args = parser.parse_args()
    study = Study(args.data, args.runs)
    arms = args.arms if args.arms is not None else PILOT if args.pilot else ARMS
    for arm in arms:
        study.run(arm)
    write_report(study.measured, RESULTS)


class Study:
    """Trains and measures arms.

    Args:
        data: Folder of the two files of CIFAR-10.
        runs: Where runs go, and what was measured.
    """

    def __init__(self, data: Path, runs: Path) -> None:
        self._bank, self._test = (str(data / f"cifar10_{part}.parquet") for part in ("train", "test"))
        self._runs = runs
        self.measured = Measurements(runs / "measured")

    def run(self, arm: str) -> None:
        """Tune, train and measure an arm, as far as it is not done."""
        setting = ARMS[arm][self._tuned(arm)]
        for seed in SEEDS:
            file = self.measured.of_seed(arm, seed)
            if not file.is_file():
                self._measure(self._train(arm, setting, seed), self._test, file, baselines=arm == PILOT[0])

    def _tuned(self, arm: str) -> int:
        """Return which of the settings of an arm is the better one."""
        if not self.measured.tuning(arm).is_file():
            found = []
            for setting in ARMS[arm]:
                scratch = self._runs / f"{arm}-tuned.json"
                self._measure(self._train(arm, setting, 0), self._images_that_choose(), scratch, method="knn")
                found.append(read_result(scratch).scores[0].value)
            document = {"settings": list(ARMS[arm]), "kNN": found, "chosen": found.index(max(found))}
            write_json(self.measured.tuning(arm), document)
        return self.measured.chosen(arm)

    def _images_that_choose(self) -> str:
        """Write the further training images by which settings are chosen, and return the file."""
        file = self._runs / "tune.parquet"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pq.read_table(self._bank).slice(TRAINED, TUNED), file)
        return str(file)

    def _train(self, arm: str, setting: str, seed: int) -> str:
        """Train, or finish a training, and return the folder of the model."""
        changes = [f"data.train={self._bank}", f"seeds=[{seed}]", *overrides(arm, setting)]
        folder = RunFolder(self._runs / f"{arm}-{ARMS[arm].index(setting)}" / f"seed-{seed}")
        train(load_recipe(RECIPE, changes), folder.path, resume=folder.recipe.is_file())
        return str(folder.model)

    def _measure(self, model: str, test: str, file: Path, method: str = "images", baselines: bool = False) -> None:
        asked = OfImages(name=method, train=self._bank, test=test, rows=TRAINED, k=200, baselines=baselines)
        measured = asked.load(Given()).measure(scored_model(model, file.stem), Effort(512))
        names = {"data": "cifar10_train.parquet, cifar10_test.parquet", "model": file.stem}
        write_result(type(measured)(measured.result.model_copy(update=names), measured.items), file)


if __name__ == "__main__":
    main()
