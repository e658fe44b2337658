"""Real training processes that are killed and resumed: a process with all libraries in it, which forks one a trial.

As a script: ``python fault_trials.py FOLDER RECIPE TRIALS SEED`` prints what came of each trial as a line of JSON.
Nothing is patched: a trial dies by SIGKILL from outside after a random time, or by its own hand or a full disk at the
n-th time that Python's audit hook sees it touch its run folder, wherever that is: in the middle of a checkpoint, too.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fmicl_text.cli import main

TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir"}
FULL = signal.SIGXFSZ
"""Stands for a full disk: what the system sends, and Python ignores, when a file would grow over a limit."""
STOPS = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, None, FULL, signal.SIGKILL, signal.SIGINT]
"""By which signal a trial stops at a touch; None is SIGKILL after some time."""
ROOM = 60_000  # bytes that a file may have on a full disk: less than weights or an optimizer's state
PATIENCE = 300  # seconds that a process may take
IMPORTED_LATE = (
    "torch",
    "transformers",
    "sentence_transformers",
    "matplotlib",
    "jinja2",
    "scipy",
    "sklearn",
    "datasets",
)


class Ended(NamedTuple):
    """How a process ended: its exit status, negative if by a signal, its output, and how long it took."""

    status: int
    output: str
    seconds: float


def forked(action: Callable[[], int], log: Path) -> int:
    """Run an action in a process of its own, its output in a file; return the process."""
    sys.stdout.flush()
    if process := os.fork():
        return process
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    status = 70
    try:
        status = action()
    except BaseException as error:
        print(f"traceback: {error!r}")
    finally:
        sys.stdout.flush()
        os._exit(status)


def waited(process: int, log: Path, patience: float = PATIENCE) -> Ended:
    """Wait for a process, and kill it after so many seconds."""
    start = time.monotonic()
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() - start > patience:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)
    return Ended(os.waitstatus_to_exitcode(ended[1]), log.read_text(), time.monotonic() - start)


def watched(folder: Path, seen: Callable[[int], None], action: Callable[[], int]) -> Callable[[], int]:
    """Return an action that calls ``seen`` with 1, 2, 3, ... as it touches a folder; for a process of its own."""

    def act() -> int:
        count, name = 0, str(folder)

        def hook(event: str, arguments: tuple) -> None:
            nonlocal count
            if event in TOUCHES and isinstance(arguments[0], (str, os.PathLike)) and name in str(arguments[0]):
                count += 1
                seen(count)

        sys.addaudithook(hook)
        return action()

    return act


def die_at(touch: int, number: int) -> Callable[[int], None]:
    """Send this process a signal at a touch, or have its disk full from then on."""

    def die(count: int) -> None:
        if count == touch and number == FULL:
            resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))
        elif count == touch:
            os.kill(os.getpid(), number)

    return die


def train(recipe: Path, run: Path) -> Callable[[], int]:
    """Start a run, or go on with it, as a user would."""
    started = (run / "recipe.yaml").is_file()
    arguments = ["--resume", str(run)] if started else [str(recipe), "--output", str(run)]
    return lambda: main(["train", *arguments])


def outcome(run: Path) -> dict[str, str]:
    """Return what must be the same, bit by bit, as SHA-256: weights, metrics and results, wherever the run lies."""
    files = [run / "model" / "model.safetensors", run / "metrics.jsonl", *sorted((run / "results").iterdir())]
    hashes = {}
    for file in files:
        content = file.read_bytes()
        if file.parent.name == "results":  # which also name the run's place, and a run may have moved
            document = json.loads(content)
            content = json.dumps({key: document.get(key) for key in ("scores", "items")}).encode()
        hashes[file.relative_to(run).as_posix()] = hashlib.sha256(content).hexdigest()
    return hashes


def damage_newest(run: Path, chance: random.Random) -> list[str]:
    """Break a file of the newest checkpoint: cut it short, change a byte, or delete it."""
    checkpoints = sorted((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    files = [file for file in sorted(checkpoints[-1].rglob("*")) if file.is_file()] if checkpoints else []
    files = [file for file in files if file.stat().st_size]
    if not files:
        return []
    file, how = chance.choice(files), chance.choice(["cut", "changed", "deleted"])
    content = bytearray(file.read_bytes())
    if how == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif how == "changed":
        content[chance.randrange(len(content))] ^= 0x40
        file.write_bytes(content)
    else:
        file.unlink()
    return [f"{file.relative_to(run)} {how}"]


def trial(number: int, recipe: Path, folder: Path, seconds: float, touches: int, seed: int) -> dict:
    """Stop a run once or twice, do something to its folder or not, go on until it is done, and say what came of it.

    Args:
        number: Of the trial; it decides how the run is stopped.
        recipe: What to run.
        folder: Where.
        seconds: That a run takes which is not stopped.
        touches: How often it touches its folder.
        seed: Of what is left to chance.
    """
    chance, log = random.Random(f"{seed} {number}"), folder / f"{number}.log"
    run = folder / f"run-{number}"
    told: dict = {"trial": number, "stops": [], "damage": [], "unfinished": 0, "said": ""}
    for attempt in range(1 + chance.choice([1, 1, 2]), 0, -1):
        action, after = train(recipe, run), PATIENCE
        if attempt > 1:  # the last one may end
            how = STOPS[(number + attempt) % len(STOPS)]
            if how is None:
                after = chance.uniform(0.1, 0.9) * seconds
                told["stops"].append(f"SIGKILL after {after:.2f} s")
            else:
                action = watched(run, die_at(touch := chance.randint(1, touches), how), action)
                told["stops"].append(f"{how.name} at touch {touch}")
        ended = waited(forked(action, log), log, after)
        told["said"] += ended.output
        told.setdefault("statuses", []).append(ended.status)
        checkpoints = (run / "checkpoints").glob("checkpoint-*")
        told["unfinished"] += any(not (checkpoint / "seal.json").is_file() for checkpoint in checkpoints)
        if attempt > 1 and run.exists():
            if number % 3 == 0 and ended.status == -signal.SIGKILL:
                told["damage"] += damage_newest(run, chance)
            if number % 2:
                run = run.rename(folder / f"moved-{number}-{attempt}")
    told["outcome"] = outcome(run) if ended.status == 0 else None
    told["checkpoints"] = sorted(path.name for path in (run / "checkpoints").glob("checkpoint-*"))
    shutil.rmtree(run, ignore_errors=True)
    return told


def trials(folder: Path, recipe: Path, count: int, seed: int) -> None:
    """Make two runs that are not stopped, and so many that are."""
    import torch

    import fmicl_text.training.train  # noqa: F401

    torch.set_num_threads(1)
    log, counted, modules = folder / "whole.log", folder / "touches", folder / "modules"

    def count_touches() -> int:
        status = watched(
            folder / "again", lambda count: counted.write_text(str(count)), train(recipe, folder / "again")
        )()
        modules.write_text(json.dumps([name for name in sys.modules if name.split(".")[0] in IMPORTED_LATE]))
        return status

    again = waited(forked(count_touches, log), log)
    assert again.status == 0, again.output
    for name in json.loads(modules.read_text()):  # once here, rather than in every trial
        with suppress(ImportError):  # a library may list what is not a module
            importlib.import_module(name)
    gc.freeze()  # or every trial would collect what the libraries made
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    assert len([name for name in threads if name != "jemalloc_bg_thd"]) == 1, f"not to be forked: {threads}"  # it may
    whole = waited(forked(train(recipe, folder / "whole"), log), log)
    touches = int(counted.read_text())
    outcomes = [outcome(folder / name) for name in ("whole", "again")]
    print(json.dumps({"outcomes": outcomes, "seconds": whole.seconds, "touches": touches}), flush=True)
    for number in range(count):
        print(json.dumps(trial(number, recipe, folder, whole.seconds, touches, seed)), flush=True)


if __name__ == "__main__":
    trials(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
