"""What a sweep would do, and how long that would take: ``fmicl sweep --dry-run``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from fmicl_text.sweep.plan import Plan, judged
from fmicl_text.training.inputs import load_inputs
from fmicl_text.training.plan import plan as plan_run
from fmicl_text.training.timing import Times, times

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedArm:
    """What is tried of an arm.

    Attributes:
        name: What it is called.
        trials: How many trials it has.
        tuned: Key of the recipe -> its values, in words.
    """

    name: str
    trials: int
    tuned: Mapping[str, str]


@dataclass(frozen=True)
class Estimate:
    """What a sweep would do.

    Attributes:
        arms: What is compared.
        chooses: The score that chooses.
        judges: What finalists are measured by; the first gives the verdict.
        finalists: How many there are at most.
        seeds: Seeds of each of them.
        runs: How many runs there are: trials, then finalists'.
        steps: Steps of a run.
        evaluations: How often a run measures the score that chooses.
        device: Where it trains.
        times: Seconds of a step and of one evaluation of each kind, as they were measured here.
        seconds: Of all runs, divided among the workers; without what is loaded, saved and drawn.
        workers: Processes on this machine.
        bytes: Space that is needed at most.
        folder: Where everything would go.
        warnings: Why runs will train badly, or the verdict will be a poor one.
    """

    arms: list[PlannedArm]
    chooses: str
    judges: list[str]
    finalists: int
    seeds: list[int]
    runs: int
    steps: int
    evaluations: int
    device: str
    times: Times
    seconds: float
    workers: int
    bytes: int
    folder: str
    warnings: list[str]


def estimate(plan: Plan) -> Estimate:
    """Load everything a sweep needs, time the parts of a run, and say what the sweep would do; nothing is written.

    Raises:
        InputError: The recipe or its data cannot be used.
    """
    recipe, criterion, warnings = judged(plan.recipe, load_inputs(plan.recipe, mine=False))
    run = plan_run(recipe)
    logger.info("timing a few steps, and each evaluation once")
    measured = times(recipe)
    trial = run.steps * measured.step + run.evaluations * measured.during
    number = plan.number()
    if number is None:
        number = plan.affordable(trial)
    runs = plan.runs(number)
    judging = plan.most_finalists * plan.seeds * sum(measured.after.values())
    if plan.halving and run.steps <= recipe.evaluate.every_steps:
        every = f"evaluate.every_steps ({recipe.evaluate.every_steps:,})"
        warnings.append(
            f"--halving stops no trial, as none is measured before its end: set {every} below {run.steps:,}"
        )
    return Estimate(
        arms=[
            PlannedArm(
                arm.name,
                len(plan.planned(arm, number)),
                {key: str(values) for key, values in arm.tuned.items() if arm.may_apply(key)},
            )
            for arm in plan.arms
        ],
        chooses=f"{criterion.name} {criterion.metric.name}",
        judges=[asked.result_name for asked in recipe.evaluate.after],
        finalists=plan.most_finalists,
        seeds=plan.final_seeds,
        runs=runs,
        steps=run.steps,
        evaluations=run.evaluations,
        device=run.device,
        times=measured,
        seconds=(runs * trial + judging) / plan.workers,
        workers=plan.workers,
        bytes=plan.bytes(run.parameters),
        folder=str(plan.folder),
        warnings=[*run.warnings, *warnings],
    )
