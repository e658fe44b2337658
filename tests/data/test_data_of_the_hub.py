"""What is said if data of the Hub does not come: one line, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hub_server import Fault, HubServer

from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.sources import load_rows
from fmicl_text.data.streams import Stream, load_stream
from fmicl_text.errors import InputError
from fmicl_text.evaluation import suites, transfer_tasks

FILE = "hf://datasets/me/pairs/a.csv"
LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"
COLUMNS = Columns(anchor="a", positive="b")

WAYS: dict[str, Callable[[], Any]] = {
    "rows": lambda: load_rows("me/pairs", COLUMNS),
    "file": lambda: load_rows(FILE, COLUMNS),
    "stream": lambda: load_stream(DataSection(train="me/pairs", columns=COLUMNS, streaming=True)),
    "streamed file": lambda: load_stream(DataSection(train=FILE, columns=COLUMNS, streaming=True)),
    "suite": lambda: suites.load_task(suites.Task("T", 3, hub=suites.HubSource("me/pairs", "main", "test"))),
    "transfer": lambda: transfer_tasks._from_hub(transfer_tasks.HubPart("me/pairs", ("train",))),
}


@pytest.fixture
def hub(loopback_hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "rows")
    return loopback_hub


def problem(way: str) -> str:
    with pytest.raises(InputError) as caught:
        WAYS[way]()
    (said,) = caught.value.problems
    assert "me/pairs" in said.partition(": ")[0] and "\n" not in said
    return said


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            Fault("me/pairs", 403, 99, {"X-Error-Code": "GatedRepo"}),
            "accept its terms at {}/datasets/me/pairs, then {}",
        ),
        (Fault("me/pairs", 401, 99, {"X-Error-Code": "RepoNotFound"}), "the Hub has no data set me/pairs, or it is"),
        (Fault("me/pairs", 503, 99), "the Hub cannot be reached now, it answers with status 503"),
        (Fault("me/pairs", None, 99), "the Hub cannot be reached now: "),
    ],
    ids=["gated", "private", "down", "reset"],
)
def test_data_that_the_hub_does_not_give(hub: HubServer, fault: Fault, said: str, way: str):
    hub.make_repo("me/pairs", files={"a.csv": b"a,b\nthe dog,a cat\nbig,small\n"})
    hub.faults.append(replace(fault))
    found = problem(way)
    assert said.format(hub.url, LOG_IN) in found or ("now" in said and "check your connection" in found)


@pytest.mark.parametrize("way", [way for way in WAYS if "file" not in way])
def test_data_made_by_a_script(hub: HubServer, way: str):
    hub.make_repo("me/pairs", files={"pairs.py": b"raise SystemExit\n"})
    found = problem(way)
    assert "scripts are no longer supported" in found and "refs/convert/parquet" in found


@pytest.mark.parametrize(("source", "files"), [("me/pairs", ()), (FILE, (FILE,))])
def test_the_hub_is_out_of_reach_when_training_on_a_stream_begins(hub: HubServer, source: str, files: tuple[str, ...]):
    hub.faults.append(Fault("me/pairs", None, 99))
    stream = Stream(source, COLUMNS, "train", None, files, {}, "0" * 40)
    with pytest.raises(InputError, match=f"^{source}: cannot be read from the Hub: "):
        stream.shuffled(0, 10)
