"""Real training processes that are killed and resumed: a process with all libraries in it, which forks one a trial.

As a script, ``python fault_trials.py FOLDER RECIPE AIMED OTHERS SEED`` prints of each trial what came of it, as JSON.
Nothing is patched: a trial dies by SIGKILL from outside after a random time, or by its own hand or a full disk at the
n-th time that Python's audit hook sees it touch its run folder, wherever that is: in the middle of a checkpoint, too.

The first trials are aimed: on any machine each ends as its :class:`Aim` says. Where the others stop, and so what they
meet, is left to chance and to the machine, and only what holds of every run may be asked of them.
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
from fmicl_text.training.checkpoints import PREFIX, SEAL, in_order, is_sealed, newest_sealed

TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir"}
FULL = signal.SIGXFSZ
"""Stands for a full disk: what the system sends, and Python ignores, when a file would grow over a limit."""
STOPS = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, None, FULL, signal.SIGKILL, signal.SIGINT]
"""By which signal a trial stops at a touch; None is SIGKILL after some time."""


class Aim(NamedTuple):
    """A way to stop a run while it writes a checkpoint, neither its first nor its last, and what comes of that.

    Attributes:
        how: The signal that stops it, at any touch up to the one that would seal the checkpoint.
        status: With which the stopped process ends.
        said: By it, or when the run goes on.
        damage: Whether its newest sealed checkpoint is damaged after that.
    """

    how: signal.Signals
    status: int
    said: tuple[str, ...]
    damage: bool = False


RESUME = "fmicl train --resume"
AIMS = [
    Aim(signal.SIGKILL, -signal.SIGKILL, (f"has no {SEAL}: it was not finished, and is deleted",)),
    Aim(signal.SIGKILL, -signal.SIGKILL, ("it is set aside as damaged-checkpoint-",), damage=True),
    Aim(signal.SIGTERM, 128 + signal.SIGTERM, (f"is written; to continue: {RESUME}",)),
    Aim(signal.SIGINT, 128 + signal.SIGINT, (f"is written; to continue: {RESUME}",)),
    Aim(FULL, 1, ("cannot be written to", f"to continue once that is fixed: {RESUME}")),
]
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


def watched(folder: Path, seen: Callable[[str], None], action: Callable[[], int]) -> Callable[[], int]:
    """Return an action that tells ``seen`` what it touches in a folder, each time; for a process of its own."""

    def act() -> int:
        name = str(folder)

        def hook(event: str, arguments: tuple) -> None:
            if event in TOUCHES and isinstance(arguments[0], (str, os.PathLike)) and name in str(arguments[0]):
                seen(str(arguments[0]))

        sys.addaudithook(hook)
        return action()

    return act


def die_at(touch: int, number: int) -> Callable[[str], None]:
    """Send this process a signal at a touch, the first being 1, or have its disk full from then on."""
    count = 0

    def die(_: str) -> None:
        nonlocal count
        count += 1
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
    """Break a file of the newest sealed checkpoint, if there is one: cut it short, change a byte, or delete it.

    Its seal is not deleted: without it, a checkpoint is one that was not finished, and trials leave enough of those.
    """
    checkpoint = newest_sealed(run / "checkpoints")
    if checkpoint is None:
        return []
    files = [file for file in sorted(checkpoint.rglob("*")) if file.is_file() and file.stat().st_size]
    file = chance.choice(files)
    how = chance.choice(["cut", "changed"] if file.name == SEAL else ["cut", "changed", "deleted"])
    content = bytearray(file.read_bytes())
    if how == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif how == "changed":
        content[chance.randrange(len(content))] ^= 0x40
        file.write_bytes(content)
    else:
        file.unlink()
    return [f"{file.relative_to(run)} {how}"]


def aimed_at(touched: list[str], chance: random.Random) -> tuple[str, int]:
    """Return a checkpoint, neither the first nor the last, and a touch of it before it is sealed.

    Args:
        touched: What a run touches that is not stopped, by names in its folder.
        chance: What chooses.
    """
    written = list(dict.fromkeys(Path(name).parts[1] for name in touched if f"/{PREFIX}" in name))
    checkpoint = chance.choice(written[1:-1])
    of_it = [name for name in touched if f"/{checkpoint}" in name]
    sealing = next(touch for touch, name in enumerate(of_it, 1) if SEAL in name)
    return f"checkpoints/{checkpoint}", chance.randint(2, sealing)  # after the first, its folder is there


def trial(
    number: int, aim: Aim | None, recipe: Path, folder: Path, seconds: float, touched: list[str], seed: int
) -> dict:
    """Stop a run once or twice, do something to its folder or not, go on until it is done, and say what came of it.

    Args:
        number: Of the trial; it decides how the run is stopped if that is not aimed.
        aim: How it is stopped, once; None leaves it to chance.
        recipe: What to run.
        folder: Where.
        seconds: That a run takes which is not stopped.
        touched: What it touches, by names in its folder.
        seed: Of what is left to chance.
    """
    chance, log = random.Random(f"{seed} {number}"), folder / f"{number}.log"
    run = folder / f"run-{number}"
    told: dict = {"trial": number, "stops": [], "damage": [], "unfinished": 0, "said": ""}
    stops = 1 if aim else chance.choice([1, 1, 2])
    for attempt in range(1 + stops, 0, -1):
        action, after = train(recipe, run), PATIENCE
        if attempt > 1:  # the last one may end
            how, part, touch = STOPS[(number + attempt) % len(STOPS)], "", chance.randint(1, len(touched))
            if aim:
                how, (part, touch) = aim.how, aimed_at(touched, chance)
            if how is None:
                after = chance.uniform(0.1, 0.9) * seconds
                told["stops"].append(f"SIGKILL after {after:.2f} s")
            else:
                action = watched(run / part, die_at(touch, how), action)
                told["stops"].append(f"{how.name} at touch {touch} of {part or 'the run'}")
        ended = waited(forked(action, log), log, after)
        told["said"] += ended.output
        told.setdefault("statuses", []).append(ended.status)
        told["unfinished"] += any(not is_sealed(checkpoint) for checkpoint in in_order(run / "checkpoints"))
        if attempt > 1 and run.exists():
            if aim.damage if aim else number % 3 == 0 and ended.status == -signal.SIGKILL:
                told["damage"] += damage_newest(run, chance)
            if number % 2:
                run = run.rename(folder / f"moved-{number}-{attempt}")
    told["outcome"] = outcome(run) if ended.status == 0 else None
    told["checkpoints"] = [path.name for path in in_order(run / "checkpoints")]
    shutil.rmtree(run, ignore_errors=True)
    return told


def trials(folder: Path, recipe: Path, aimed: int, others: int, seed: int) -> None:
    """Make two runs that are not stopped, and so many that are, some of them as the first aims say."""
    import torch

    import fmicl_text.training.train  # noqa: F401

    torch.set_num_threads(1)
    log, touches, modules = folder / "whole.log", folder / "touches", folder / "modules"

    def note_touches() -> int:
        run, names = folder / "again", []
        status = watched(run, names.append, train(recipe, run))()
        touches.write_text(json.dumps([os.path.relpath(name, run) for name in names]))
        modules.write_text(json.dumps([name for name in sys.modules if name.split(".")[0] in IMPORTED_LATE]))
        return status

    again = waited(forked(note_touches, log), log)
    assert again.status == 0, again.output
    for name in json.loads(modules.read_text()):  # once here, rather than in every trial
        with suppress(ImportError):  # a library may list what is not a module
            importlib.import_module(name)
    gc.freeze()  # or every trial would collect what the libraries made
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    assert len([name for name in threads if name != "jemalloc_bg_thd"]) == 1, f"not to be forked: {threads}"  # it may
    whole = waited(forked(train(recipe, folder / "whole"), log), log)
    touched = json.loads(touches.read_text())
    outcomes = [outcome(folder / name) for name in ("whole", "again")]
    print(json.dumps({"outcomes": outcomes, "seconds": whole.seconds, "touches": len(touched)}), flush=True)
    for number, aim in enumerate([*AIMS[:aimed], *[None] * others]):
        print(json.dumps(trial(number, aim, recipe, folder, whole.seconds, touched, seed)), flush=True)


if __name__ == "__main__":
    trials(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
