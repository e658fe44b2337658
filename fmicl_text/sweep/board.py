"""The trials of a sweep in Optuna's storage, shared by all workers: planned, taken, taken up again, finished.

Each arm is a study, so that TPE and successive halving compare within an arm alone. Trials are planned by putting them
into their study's queue, from which a worker takes one by an atomic change of its state: an arm has as many trials as
were planned, no matter how many workers there are or how often they are stopped.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from fmicl_text.errors import InputError
from fmicl_text.files import cannot_write
from fmicl_text.sweep.arms import Settings
from fmicl_text.text import one_line

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Running

logger = logging.getLogger(__name__)

HEARTBEAT = 30
"""Seconds between two signs of life of a worker in a database; after twice as many without one its trial is free."""
_PLACE, RUN, _WORKER, _WHY, _SECONDS = "place", "run", "worker", "why", "seconds"
_PACKAGES = {
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
    "psycopg": '"psycopg[binary]"',
    "psycopg2": "psycopg2-binary",
}
"""Drivers of databases whose package has another name."""
_RANDOM = 4
"""Trials of an arm that are drawn at random before TPE proposes, the default among them."""

State = Literal["waiting", "running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial of an arm.

    Attributes:
        arm: Name of the arm.
        place: Its number within the arm.
        state: Where it stands; a pruned one was stopped by successive halving.
        settings: What was chosen for it.
        score: The score that chooses, in its unit; None if it has none.
        seconds: How long it trained.
        why: Why it failed.
        took: How long it took a worker in all, in seconds, from the moment it was last taken.
        run: Its name, if it was planned by that; see :meth:`Board.plan_runs`.
        ended: When it ended, in seconds since 1970.
    """

    arm: str
    place: int
    state: State
    settings: Settings
    score: float | None = None
    seconds: float | None = None
    why: str | None = None
    took: float | None = None
    run: str | None = None
    ended: float | None = None

    @property
    def name(self) -> str:
        """What it is called, also its folder."""
        return f"{self.arm}-{self.place:03}"

    @property
    def described(self) -> str:
        """Its settings in words."""
        return ", ".join(f"{key.removeprefix('loss.')} {_short(value)}" for key, value in self.settings.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Board:
    """The trials of a sweep.

    Args:
        name: Name of the sweep in its storage.
        storage: A database's URL, or the file of Optuna's journal, which ends in ``.journal``.
        folder: The folder of the sweep; workers that share it see at once which of them were killed.
        arms: Names of the arms.
        higher_is_better: Of the score.
        plan: A digest of what the sweep is; another sweep's studies are refused.
        halving: Steps at which the score is first measured, for successive halving; None for none.
        seed: Seed of what is drawn.

    Raises:
        InputError: The storage cannot be reached, or has another sweep of this name.
    """

    def __init__(
        self,
        name: str,
        storage: str,
        folder: Path,
        arms: Sequence[str],
        higher_is_better: bool,
        plan: str,
        halving: int | None = None,
        seed: int = 0,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        self.seed = seed
        self._higher_is_better = higher_is_better
        self._workers = folder / "workers"
        self._workers.mkdir(parents=True, exist_ok=True)
        self.worker = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._life = FileLock(self._workers / self.worker)
        self._life.acquire()  # released by the system if this process is killed
        # Two processes may take the same row of SQLite, which knows no lock of a row.
        self._claim = FileLock(self._workers / ".claim")
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if halving is not None:
            pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=halving, reduction_factor=3)
        backend = _storage(storage)
        self._studies: dict[str, Study] = {
            arm: optuna.create_study(
                storage=backend,
                study_name=f"{name}: {arm}",
                direction="maximize" if higher_is_better else "minimize",
                pruner=pruner,
                load_if_exists=True,
            )
            for arm in arms
        }
        first = next(iter(self._studies.values()))
        if first.user_attrs.setdefault("plan", plan) != plan:
            raise InputError(
                f'{storage} has another sweep "{name}", of another recipe, space or score; '
                "give this one another name with --set name=NAME"
            )
        first.set_user_attr("plan", plan)

    def close(self) -> None:
        """Say that this worker is gone."""
        self._life.release()
        (self._workers / self.worker).unlink(missing_ok=True)

    @property
    def facts(self) -> dict[str, Any]:
        """What was noted for all workers."""
        return dict(next(iter(self._studies.values())).user_attrs)

    def note(self, **facts: Any) -> None:
        """Note something for all workers."""
        for key, value in facts.items():
            next(iter(self._studies.values())).set_user_attr(key, value)

    def plan(self, arm: str, trials: Sequence[Mapping[str, Any]]) -> None:
        """Plan trials of an arm: the settings of each that are fixed. What is planned already stays."""
        study = self._studies[arm]
        known = {trial.user_attrs.get(_PLACE) for trial in study.get_trials(deepcopy=False)}
        for place, fixed in enumerate(trials):
            if place not in known:
                study.enqueue_trial(dict(fixed), user_attrs={_PLACE: place})

    def plan_runs(self, arm: str, runs: Sequence[str]) -> None:
        """Plan runs that have a name in place of settings; those of a name that is planned already stay."""
        study = self._studies[arm]
        planned = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
        known = {trial.get(RUN) for trial in planned}
        free = count(1 + max((trial.get(_PLACE, -1) for trial in planned), default=-1))
        for run in runs:
            if run not in known:
                study.enqueue_trial({}, user_attrs={_PLACE: next(free), RUN: run})

    def trials(self) -> list[Trial]:
        """Return every planned trial as it stands, round by round."""
        found = [_trial(arm, t) for arm, study in self._studies.items() for t in _latest(study)]
        return sorted(found, key=lambda trial: trial.place)

    def best(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the complete ones of some trials, the best first."""
        complete = [trial for trial in trials if trial.state == "complete"]
        sign = -1 if self._higher_is_better else 1
        return sorted(complete, key=lambda trial: sign * (trial.score or 0.0))

    def next_arm(self) -> str | None:
        """Return the arm whose next trial is due, if any is waiting.

        Trials of workers that are dead wait again once no other does: to look for them takes a query or more a study,
        and workers that look at every trial would keep each other from taking one.
        """
        if (arm := self._waiting()) is None:
            with self._claim:
                self._take_up_again()
            arm = self._waiting()
        return arm

    def _waiting(self) -> str | None:
        return next((trial.arm for trial in self.trials() if trial.state == "waiting"), None)

    def run(
        self, arm: str, train: Callable[[Running, int], float], refused: tuple[type[Exception], ...]
    ) -> Trial | None:
        """Take the next trial of an arm and train it, with signs of life; return it, unless none was left.

        A trial that is interrupted goes back into the queue, with the settings it has.

        Args:
            arm: The arm.
            train: Takes the trial and its place, returns the score.
            refused: Errors that are about the settings: the trial has failed, and the sweep goes on.
        """
        import optuna

        study = self._studies[arm]
        taken: list[int] = []
        scores: list[float] = []

        def objective(trial: Running) -> float:
            self._claim.release()
            if (place := trial.user_attrs.get(_PLACE)) is None:  # another worker took the last that was planned
                raise _NothingLeftError
            taken.append(trial.number)
            trial.set_user_attr(_WORKER, self.worker)
            seed = zlib.crc32(f"{self.seed} {arm} {place}".encode())  # the same, whichever worker draws
            study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM)
            try:
                scores.append(train(trial, place))
                return scores[0]
            except refused as error:
                trial.set_user_attr(_WHY, str(error))
                raise
            finally:
                self._claim.acquire()  # until it has ended: trials are counted in the order of their ends

        self._claim.acquire()
        try:
            study.optimize(objective, n_trials=1, catch=(_NothingLeftError, *refused))
        except BaseException as error:
            if scores and isinstance(error, ValueError):  # Optuna's: the trial has ended already
                logger.warning("%s: another worker took the trial up, as this one gave no sign of life", arm)
                return None
            for number in taken:
                _queue_again(study, study.trials[number])
            raise
        finally:
            self._claim.release()
        return _trial(arm, study.trials[taken[0]]) if taken else None

    def _take_up_again(self) -> None:
        """Put the trials of workers that are dead back into the queue."""
        import optuna

        for study in self._studies.values():
            running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
            for trial in running:
                if self._is_dead(trial.user_attrs.get(_WORKER)):
                    try:
                        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                    except ValueError:  # another worker was faster
                        continue
                    _queue_again(study, study.trials[trial.number])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                optuna.storages.fail_stale_trials(study)

    def _is_dead(self, worker: str | None) -> bool:
        """Whether a worker that shares the folder was killed; of others, heartbeats tell."""
        if worker is None or worker == self.worker or not (self._workers / worker).exists():
            return False
        try:
            with FileLock(self._workers / worker, timeout=0):
                return True
        except Timeout:
            return False


class _NothingLeftError(Exception):
    """There is no planned trial left in the study."""


def note_seconds(trial: Running, seconds: float) -> None:
    """Note how long a trial trained."""
    trial.set_user_attr(_SECONDS, seconds)


def _storage(place: str) -> BaseStorage:
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    if place.endswith(".journal"):
        try:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            return optuna.storages.JournalStorage(JournalFileBackend(place))
        except OSError as error:
            raise cannot_write("--storage", Path(place), error) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                place, heartbeat_interval=HEARTBEAT, heartbeat_stale_trial_callback=_queue_again
            )
    except ImportError as error:
        cause = error.__cause__ or error  # Optuna does not say what is missing
        module = getattr(cause, "name", None)
        if module is None:
            raise InputError(f"--storage: {one_line(cause)}") from None
        module = module.partition(".")[0]
        package = _PACKAGES.get(module, module)
        raise InputError(f"--storage: needs the database's driver {module}: pip install {package}") from None
    except (ArgumentError, NoSuchModuleError, DBAPIError) as error:
        why = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise InputError(
            f"--storage: {why}; write a database as postgresql+psycopg://USER@HOST/NAME, mysql+pymysql:// or "
            "sqlite:///FILE, or name a file that ends in .journal"
        ) from None


def _queue_again(study: Study, trial: FrozenTrial) -> None:
    """Put a trial that did not end back into the queue, with the settings that it has."""
    import optuna

    trial.user_attrs.pop(_WORKER, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


def _latest(study: Study) -> list[FrozenTrial]:
    """Return the last trial of each place: earlier ones were interrupted."""
    by_place = {t.user_attrs[_PLACE]: t for t in study.get_trials(deepcopy=False) if _PLACE in t.user_attrs}
    return list(by_place.values())


def _trial(arm: str, trial: FrozenTrial) -> Trial:
    states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    return Trial(
        arm,
        trial.user_attrs[_PLACE],
        states.get(trial.state.name, "waiting"),
        dict(trial.params),
        trial.value if trial.state.name == "COMPLETE" else None,
        trial.user_attrs.get(_SECONDS),
        trial.user_attrs.get(_WHY),
        None if trial.duration is None else trial.duration.total_seconds(),
        trial.user_attrs.get(RUN),
        None if trial.datetime_complete is None else trial.datetime_complete.timestamp(),
    )
