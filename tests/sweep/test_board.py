"""Trials shared by several workers: as many as planned, taken up again from workers that were killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from filelock import FileLock, Timeout

from fmicl_text.errors import InputError
from fmicl_text.evaluation.metrics import SPEARMAN
from fmicl_text.sweep.board import Board, Trial
from fmicl_text.sweep.plan import Plan
from fmicl_text.sweep.progress import progress

WORKER = """
import sys, time
from pathlib import Path
from fmicl_text.sweep import board as boards

folder, url, name, seconds, heartbeat = sys.argv[1:]
boards.HEARTBEAT = int(heartbeat)
board = boards.Board("shared", url, Path(folder), ["a", "b"], True, "plan")
sys.stdin.readline()

def train(trial, place):
    width = trial.suggest_float("width", 0.0, 1.0)
    Path(folder, f"begun-{name}").write_text(str(width))
    time.sleep(float(seconds))
    return width

while any(trial.state in ("waiting", "running") for trial in board.trials()):
    if (arm := board.next_arm()) is None:
        time.sleep(0.1)
    else:
        board.run(arm, train, ())
"""


def board(folder: Path, url: str | None = None, plan: str = "plan", **options) -> Board:
    url = url or f"sqlite:///{folder}/sweep.db"
    return Board("shared", url, folder, ["a", "b"], higher_is_better=True, plan=plan, **options)


def run_all(board: Board, train=lambda trial, place: trial.suggest_float("width", 0.0, 1.0), refused=()) -> None:
    while (arm := board.next_arm()) is not None:
        board.run(arm, train, refused)


def test_arms_take_turns_and_have_what_was_planned(tmp_path: Path):
    first = board(tmp_path)
    for _ in range(2):  # what is planned already stays
        first.plan("a", [{"width": 0.25}, {}])
        first.plan("b", [{}, {}, {}])
    run_all(first)
    done = first.trials()
    assert [trial.name for trial in done] == ["a-000", "b-000", "a-001", "b-001", "b-002"]
    assert done[0].settings == {"width": 0.25} and done[0].score == 0.25
    assert first.best(done) == sorted(done, key=lambda trial: -trial.score)
    again = board(tmp_path / "again")
    again.plan("b", [{}, {}, {}])
    run_all(again)
    assert [t.settings for t in again.trials()] == [t.settings for t in done if t.arm == "b"]  # drawn by the seed


def test_a_trial_that_is_stopped_keeps_its_settings(tmp_path: Path):
    def stop(trial, place):
        drawn.append(trial.suggest_float("width", 0.0, 1.0))
        raise KeyboardInterrupt

    drawn: list[float] = []
    first = board(tmp_path)
    first.plan("a", [{}, {}])
    with pytest.raises(KeyboardInterrupt):
        first.run("a", stop, ())
    assert [trial.state for trial in first.trials()] == ["waiting", "waiting"]
    run_all(first)
    assert [trial.settings["width"] for trial in first.trials()][:1] == drawn


def test_trials_that_end_at_once_are_counted_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = board(tmp_path)
    first.plan("a", [{}, {}])
    storage = first._studies["a"]._storage
    change = storage.set_trial_state_values

    def changed(*arguments, **more):
        with pytest.raises(Timeout):  # else another might end between the time that is noted and when all see it
            FileLock(tmp_path / "workers" / ".claim", timeout=0).acquire()
        return change(*arguments, **more)

    monkeypatch.setattr(storage, "set_trial_state_values", changed)
    ended = [first.run("a", lambda trial, place: float(place), ()) for _ in range(2)]
    criterion = SimpleNamespace(name="own", metric=SPEARMAN)
    assert [progress(trial, first, criterion)[:12] for trial in ended] == ["trial 1 of 2", "trial 2 of 2"]


def test_a_setting_that_is_refused_is_a_trial_that_failed(tmp_path: Path):
    def refuse(trial, place):
        if place == 0:
            raise InputError("too wide")
        return 1.0

    first = board(tmp_path)
    first.plan("a", [{}, {}])
    run_all(first, refuse, (InputError,))
    found = [replace(trial, took=None, ended=None) for trial in first.trials()]
    assert found == [Trial("a", 0, "failed", {}, why="too wide"), Trial("a", 1, "complete", {}, 1.0)]


def test_another_sweep_of_the_same_name_is_refused(tmp_path: Path):
    board(tmp_path)
    with pytest.raises(InputError, match='another sweep "shared", of another recipe'):
        board(tmp_path, plan="other")
    with pytest.raises(InputError, match=r"--storage: .*; write a database as"):
        board(tmp_path, "nosuch://x")


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("mysql+pymysql://me:geheim@host/sweeps", "pymysql", "pymysql"),
        ("mysql://me:geheim@host/sweeps", "MySQLdb", "mysqlclient"),
        ("mysql+mysqlconnector://me:geheim@host/sweeps", "mysql", "mysql-connector-python"),
        ("postgresql+psycopg://me:geheim@host/sweeps", "psycopg", '"psycopg[binary]"'),
    ],
)
def test_a_driver_that_is_missing(tmp_path: Path, monkeypatch, url: str, module: str, package: str):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(InputError) as caught:
        board(tmp_path, url)
    assert str(caught.value) == f"--storage: needs the database's driver {module}: pip install {package}"


def test_the_url_reaches_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A driver that connects to nothing: what it is asked for, and what a user reads."""
    asked = {}
    driver = ModuleType("pymysql")
    driver.paramstyle, driver.Error = "pyformat", type("Error", (Exception,), {})
    for name in ("OperationalError", "ProgrammingError", "InterfaceError", "InternalError"):
        setattr(driver, name, driver.Error)

    def connect(**where):
        asked.update(where)
        raise driver.OperationalError(2003, "Can't connect to MySQL server on 'host'")

    driver.connect = driver.Connect = connect
    monkeypatch.setitem(sys.modules, "pymysql", driver)
    with pytest.raises(InputError, match=r"--storage: .*Can't connect to MySQL server on 'host'.*; write"):
        board(tmp_path, "mysql+pymysql://me:geheim@host:3307/sweeps")
    given = {key: asked.get(key) for key in ("host", "port", "user", "password", "database")}
    assert given == {"host": "host", "port": 3307, "user": "me", "password": "geheim", "database": "sweeps"}


def test_trials_that_are_behind_are_stopped(tmp_path: Path):
    from fmicl_text.sweep.worker import Halving

    criterion = SimpleNamespace(logged="score")

    def train(trial, place):
        callback = Halving(trial, criterion)
        for step in (2, 4, 6):
            state = SimpleNamespace(global_step=step, max_steps=6)
            callback.on_evaluate(None, state, None, metrics={"eval_score": scores[place]})
        return scores[place]

    scores = [0.5, 0.6, 0.1, 0.7]
    first = board(tmp_path, halving=2)
    first.plan("a", [{}] * 4)
    run_all(first, train)
    assert [trial.state for trial in first.trials()] == ["complete", "complete", "pruned", "complete"]
    assert [trial.score for trial in first.best(first.trials())] == [0.7, 0.6, 0.5]


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A server of its own on a socket in a folder; it does not run as root, so a root starts it as another user."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), shutil.which("pg_ctl")]
    if not (binaries := [Path(one) if Path(one).is_dir() else Path(one).parent for one in found if one]):
        pytest.skip("PostgreSQL's server is not installed here (Debian: apt install postgresql)")
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    environment = os.environ | {"LC_ALL": "C"}

    def run(program: str, *arguments: str) -> None:
        command = [binaries[-1] / program, *arguments]
        subprocess.run(command, check=True, user=user, env=environment, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-D", f"{folder}/db", "-U", "fmicl", "-A", "trust", "--no-sync")
        run("pg_ctl", "-D", f"{folder}/db", "-w", "-l", f"{folder}/log", "-o", f"-k {folder} -h '' -F", "start")
    except (subprocess.CalledProcessError, LookupError, PermissionError) as error:
        pytest.skip(f"PostgreSQL's server cannot be started here: {error}")
    try:
        yield f"postgresql+psycopg2://fmicl@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-D", f"{folder}/db", "-m", "immediate", "stop")


@pytest.fixture
def shallow() -> Iterator[Path]:
    """A folder that another user can reach, with a name that is short enough for a socket."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("shared", [True, False], ids=["one folder", "a folder each"])
def test_trials_of_a_killed_worker_are_taken_up_again(tmp_path: Path, shallow: Path, shared: bool):
    """Known at once by the lock of the worker in a folder that is shared, otherwise by its heartbeat."""
    pytest.importorskip("psycopg2")
    beat = "600" if shared else "1"
    folders = {name: tmp_path / (name if not shared else "both") for name in ("killed", "lives")}
    with postgres(shallow) as url:
        leader = board(folders["killed"], url)
        leader.plan("a", [{}] * 3)
        leader.plan("b", [{}] * 3)

        def start(name: str, seconds: float) -> subprocess.Popen[bytes]:
            folders[name].mkdir(exist_ok=True)
            command = [sys.executable, "-c", WORKER, folders[name], url, name, str(seconds), beat]
            return subprocess.Popen(command, stdin=subprocess.PIPE)

        def let(worker: subprocess.Popen[bytes]) -> None:
            """Have it begin, when it has imported what takes most of its time."""
            assert worker.stdin
            worker.stdin.close()

        killed, lives = start("killed", 600), start("lives", 0.1)
        try:
            let(killed)
            begun = folders["killed"] / "begun-killed"
            while not begun.is_file() or not begun.read_text():
                assert killed.poll() is None
                time.sleep(0.05)
            let(lives)  # no earlier, or it might do all trials alone
            killed.send_signal(signal.SIGKILL)
            assert lives.wait() == 0
        finally:
            killed.kill()
            lives.kill()
        done = leader.trials()
        leader.close()
        settings = [trial.settings["width"] for trial in done]
        assert [trial.state for trial in done] == ["complete"] * 6 and len(set(settings)) == 6
        assert float(begun.read_text()) in settings


@pytest.mark.parametrize(("budget", "number"), [(100.0, 3), (1.0, 1)])
def test_a_budget_is_for_equal_trials_and_the_finalists(budget: float, number: int):
    # 100 s for two workers are 50 runs of 4 s: 6 of finalists, 1 of the recipe itself, and 3.9 of each of 11 arms
    plan = SimpleNamespace(budget=budget, workers=2, most_finalists=3, seeds=2, arms=["own", *range(11)])
    plan._at_most = int
    assert Plan.affordable(plan, 4.0) == number


def test_runs_that_have_names_are_planned_once_each(tmp_path: Path):
    """More of them may follow when a sweep goes on with more seeds, or with trials that are better."""
    first = board(tmp_path)
    first.plan_runs("a", ["one", "two"])
    run_all(first, lambda trial, place: float(place))
    first.plan_runs("a", ["two", "three"])
    run_all(first, lambda trial, place: float(place))
    assert [(trial.run, trial.score) for trial in first.trials()] == [("one", 0.0), ("two", 1.0), ("three", 2.0)]


def test_how_long_a_trial_took_is_all_of_its_time(tmp_path: Path):
    """Not that of its steps alone: loading, saving and drawing count in a budget."""
    first = board(tmp_path)
    first.plan("a", [{}])
    begun = time.time()
    run_all(first, lambda trial, place: time.sleep(0.05) or 1.0)
    [trial] = first.trials()
    assert 0.05 <= trial.took <= time.time() - begun and trial.seconds is None
