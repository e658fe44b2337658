"""The ``fmicl`` command in a process of its own, talking to a :class:`hub_server.HubServer`.

The Hub's client reads its settings when it is imported, so they cannot be changed within the tests' own process. One
process runs many commands, since importing torch takes seconds.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lighter import blank_pictures, compile_templates_once, leave_syncs_out


@dataclass(frozen=True)
class Finished:
    """What a command ended in; all that was written to the two streams, by whatever library."""

    status: int
    out: str
    err: str


def environment(endpoint: str, home: Path | str) -> dict[str, str]:
    """This process's environment, with another Hub and without what it knows of the real one."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    # Xet's client is compiled and has servers of its own, which are not there; with this the client uploads by LFS.
    ours |= {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
    # On a busy machine the server may be late; the client would ask again, and faults are counted by requests.
    return ours | {"HF_HUB_ETAG_TIMEOUT": "300", "HF_HUB_DOWNLOAD_TIMEOUT": "300"}


class Fmicl:
    """Runs commands one after another, with settings from the start; use it as a context manager."""

    def __init__(self, endpoint: str, **settings: str) -> None:
        self.home = tempfile.TemporaryDirectory()
        self.environment = environment(endpoint, self.home.name) | settings

    def __enter__(self) -> Fmicl:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        self.home.cleanup()

    def __call__(self, *arguments: object, **variables: str) -> Finished:
        """Run a command with extra environment variables, in the current folder."""
        call = {"arguments": list(map(str, arguments)), "variables": variables, "folder": os.getcwd()}
        assert self.process.stdin and self.process.stdout
        print(json.dumps(call), file=self.process.stdin, flush=True)
        return Finished(**json.loads(self.process.stdout.readline()))


def serve(calls: IO[str], answers: IO[str]) -> None:
    """Run the commands that come in, with the streams caught at their file descriptors."""
    from fmicl_text.cli import main

    compile_templates_once()
    leave_syncs_out()
    blank_pictures()
    before, sleep = dict(os.environ), time.sleep
    time.sleep = lambda seconds: sleep(seconds / 100)  # the Hub's client waits, up to 8 s, before it tries again
    for line in calls:
        call = json.loads(line)
        os.chdir(call["folder"])
        os.environ.update(call["variables"])
        with tempfile.TemporaryDirectory() as scratch:
            streams = [Path(scratch) / "out", Path(scratch) / "err"]
            for number, file in enumerate(streams, 1):
                with file.open("w") as opened:
                    os.dup2(opened.fileno(), number)
            try:
                status = main(call["arguments"])
            except SystemExit as leaving:
                status = int(leaving.code or 0)
            except BaseException:
                import traceback

                traceback.print_exc()
                status = -1
            sys.stdout.flush()
            sys.stderr.flush()
            out, err = (file.read_text() for file in streams)
        print(json.dumps({"status": status, "out": out, "err": err}), file=answers, flush=True)
        gc.freeze()  # what libraries were imported: garbage is looked for among a command's own objects
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    serve(sys.stdin, os.fdopen(os.dup(1), "w"))
