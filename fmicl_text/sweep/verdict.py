"""What a sweep found: each finalist against InfoNCE, on data that did not choose, with seeds that did not choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fmicl_text.errors import InputError
from fmicl_text.evaluation.kind import Evaluation
from fmicl_text.evaluation.paired import PairedTest
from fmicl_text.evaluation.results import Score
from fmicl_text.evaluation.statistics import holm
from fmicl_text.report.cells import difference, mean_sd, number, p_value, signed_interval
from fmicl_text.report.compare import LEVEL, items_of_seeds, paired_test_of
from fmicl_text.report.runs import Run, read_runs, spread
from fmicl_text.sweep.board import Board, Trial
from fmicl_text.sweep.finalists import finalists
from fmicl_text.sweep.plan import FINALISTS, Plan
from fmicl_text.training.criterion import Criterion

_FEW = 5  # seeds, of whose variance a bootstrap sees less than 4/5
_MANY = 6  # runs whose ranks say something


@dataclass(frozen=True)
class Row:
    """A finalist.

    Attributes:
        arm: Its name.
        settings: What was tuned, in words.
        chosen_by: Mean and standard deviation over the seeds of the score that chooses.
        judged: The same of the score that judges.
        test: Of the second against InfoNCE's, on the same items and seeds; None for InfoNCE, or without items.
        p_value: Of the test, adjusted for the number of finalists (Holm).
        verdict: The same in words.
    """

    arm: str
    settings: str
    chosen_by: tuple[float, float | None]
    judged: tuple[float, float | None]
    test: PairedTest | None
    p_value: float | None
    verdict: str


@dataclass(frozen=True)
class Verdict:
    """What a sweep found.

    Attributes:
        chooses: The score that chooses.
        judges: The score that judges.
        unit: Of the score that judges.
        rows: The finalists, InfoNCE first.
        winner: Name of the arm with the best mean of the score that chooses.
        summary: The winner against InfoNCE, in a sentence.
        warnings: Reasons for caution.
    """

    chooses: str
    judges: str
    unit: str
    rows: list[Row]
    winner: str
    summary: str
    warnings: list[str] = field(default_factory=list)

    def row(self, arm: str) -> Row:
        """Return the row of an arm."""
        return next(row for row in self.rows if row.arm == arm)

    def table(self) -> tuple[list[str], list[tuple[str, list[str]]]]:
        """Return headings and rows, as text."""
        headings = [
            f"{self.chooses} (chooses)",
            f"{self.judges} (judges)",
            "minus InfoNCE",
            "95% interval",
            "p (Holm)",
            "verdict",
            "settings",
        ]
        rows = []
        for row in self.rows:
            test = row.test
            cells = [
                mean_sd(row.chosen_by),
                mean_sd(row.judged, self.unit),
                "" if test is None else difference(test.difference, self.unit),
                "" if test is None else signed_interval(test.ci95, self.unit),
                p_value(row.p_value),
                row.verdict,
                row.settings,
            ]
            rows.append((row.arm, [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in cells]))
        return headings, rows


def verdict(plan: Plan, board: Board, criterion: Criterion, warnings: Sequence[str]) -> Verdict:
    """Read the finalists' runs, and test each against InfoNCE."""
    chosen = finalists(plan, board)
    runs = read_runs([plan.final_folder(trial.arm).path for trial in chosen], plan.final_seeds)
    title, score, judge = judge_of(plan, runs[0])
    tests = [test_against(run, runs[0], title, score) for run in runs[1:]]
    adjusted = iter(holm([test.p_value for test in tests if test is not None]))
    rows = []
    for trial, run, test in zip(chosen, runs, [None, *tests], strict=True):
        p = None if test is None else next(adjusted)
        values = [seed.results.scores(title)[score.key].value for seed in run.seeds.values()]
        words = "the baseline" if run is runs[0] else _words(test, p, score)
        rows.append(Row(trial.arm, trial.described, spread(_during(run)), spread(values), test, p, words))
    sign = -1 if criterion.metric.higher_is_better else 1
    winner = min(rows, key=lambda row: sign * row.chosen_by[0])
    label = f"{criterion.name} {criterion.metric.name}"
    notes = [*warnings, *_cautions(plan, board), *_agreement(runs, title, score, criterion, label, judge)]
    return Verdict(label, judge, score.unit, rows, winner.arm, _summary(winner, rows[0], judge, score.unit), notes)


def judge_of(plan: Plan, run: Run) -> tuple[str, Score, str]:
    """Return the title of the first result that can judge, its first score that can, and a name for both.

    Where what judges is what chose, it is the same score of it.
    """
    chose = plan.recipe.evaluate.during
    results = run.first.results
    names = {file.stem: title for title, file in results.files.items()}
    for asked in plan.recipe.evaluate.after:
        title = names[asked.result_name]
        wanted = (chose.metric or "") if isinstance(chose, Evaluation) and chose.name == asked.name else ""
        for score in sorted(results.by_title[title].scores, key=lambda score: not _is_called(score, wanted)):
            if score.higher_is_better is not None:
                return title, score, f"{asked.result_name} {score.metric}"
    raise InputError("evaluate.after: of no score that is measured is high or low better, so nothing judges")


def _is_called(score: Score, name: str) -> bool:
    return name.casefold() in {each.casefold() for each in (score.key, score.metric, score.metric_type)}


def _during(run: Run) -> list[float]:
    found = [seed.manifest.best for seed in run.seeds.values() if seed.manifest is not None]
    return [float(next(iter((best.model_extra or {}).values()))) for best in found if best is not None]


def test_against(run: Run, baseline: Run, title: str, score: Score) -> PairedTest | None:
    """Test a score of a run against another run's; None if what each item scored is not known of both."""
    items = [
        items_of_seeds([of.seeds[seed].results.items.get(title, {}) for seed in baseline.seeds])
        for of in (run, baseline)
    ]
    scores = baseline.first.results.scores(title)
    return paired_test_of(score.key, scores, *items)


def _words(test: PairedTest | None, p: float | None, score: Score) -> str:
    if test is None or p is None:
        return "not tested: what each item scored is not known"
    if p > LEVEL:
        return "no difference beyond noise"
    return "better" if (test.difference > 0) == score.higher_is_better else "worse"


def _summary(winner: Row, baseline: Row, judge: str, unit: str) -> str:
    found = f"{mean_sd(winner.judged, unit)} on {judge}".replace("\N{NO-BREAK SPACE}", " ")
    if winner is baseline:
        return f"InfoNCE, tuned, is chosen: {found}"
    of_infonce = mean_sd(baseline.judged, unit).replace("\N{NO-BREAK SPACE}", " ")
    return f"{winner.arm} is chosen: {found}, InfoNCE tuned alike {of_infonce}: {winner.verdict}"


def _cautions(plan: Plan, board: Board) -> list[str]:
    found = []
    if plan.seeds < _FEW:
        few = f"{plan.seeds} seed{'s' * (plan.seeds > 1)}"
        found.append(f"{few}: so few understate how much seeds differ, and the intervals with them")
    trials = [trial for trial in board.trials() if trial.arm != FINALISTS]
    scores = [trial.score for trial in trials if trial.score is not None]
    if len(scores) > 1 and len(set(scores)) == 1:
        found.append("all trials have the same score, so nothing was chosen by it")
    for state, what in (("failed", "failed"), ("pruned", "were stopped early")):
        names = [trial.name for trial in trials if trial.state == state]
        if names:
            found.append(f"trials that {what}: {', '.join(names)}")
    return found


def _agreement(
    runs: Sequence[Run], title: str, score: Score, criterion: Criterion, label: str, judge: str
) -> list[str]:
    """Say how far what chooses orders the finalists' runs as what judges does."""
    from scipy.stats import spearmanr

    chose = [value for run in runs for value in _during(run)]
    judged = [seed.results.scores(title)[score.key].value for run in runs for seed in run.seeds.values()]
    if len(chose) != len(judged) or len(judged) < _MANY or len(set(chose)) == 1 or len(set(judged)) == 1:
        return []
    sign = 1 if criterion.metric.higher_is_better == score.higher_is_better else -1
    rho = sign * float(spearmanr(chose, judged).statistic)
    return [f"{label} ranks the {len(judged)} final runs as {judge} does with a rank correlation of {number(rho)}"]


def tried(plan: Plan, board: Board, trials: Sequence[Trial], criterion: Criterion) -> list[tuple[str, list[str]]]:
    """Return a row for each arm: its number of trials, its default, if that is among them, and its best."""
    rows = []
    for arm in dict.fromkeys(trial.arm for trial in trials):
        of_arm = [trial for trial in trials if trial.arm == arm]
        best = board.best(of_arm)
        default = next((trial for trial in of_arm if plan.is_default(arm, trial.settings)), None)
        scores = [trial.score if trial is not None else None for trial in (default, best[0] if best else None)]
        cells = ["" if value is None else number(value, criterion.metric.unit) for value in scores]
        rows.append((arm, [str(len(of_arm)), *cells, best[0].described if best else ""]))
    return rows
