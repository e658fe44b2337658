"""``fmicl publish`` and the Hub's own client, unmodified, against a Hub on the loopback."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_client import Finished, Fmicl
from hub_server import Fault, File, HubServer
from huggingface_hub import ModelCard, constants
from run_folders import finished_run, write
from safetensors.torch import load
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense

from fmicl_text.cli import main

TOKEN = "hf_" + "Secret" * 5 + "0123"
READER = "hf_" + "Reader" * 6
COMMIT = "POST /api/models/me/tiny/commit"
STORAGE = "PUT /storage"
SENTENCES = ["the dog runs", "a man sings in the park"]


@pytest.fixture(scope="module")
def server():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def command(server: HubServer):
    with Fmicl(server.url) as command:
        yield command


@pytest.fixture
def hub(server: HubServer) -> HubServer:
    """An empty Hub that knows ``me``, and someone who may only read."""
    server.reset()
    server.tokens |= {TOKEN: ("me", True), READER: ("me", False)}
    return server


@pytest.fixture
def publish(command: Fmicl, hub: HubServer):
    """Run ``fmicl publish SOURCE me/tiny --license mit`` with more options; no command ever ends in a traceback."""

    def publish(source: Path, *options: str, token: str = TOKEN, license: str | None = "mit") -> Finished:
        licence = ["--license", license] if license else []
        finished = command("publish", source, "me/tiny", *licence, *options, HF_TOKEN=token)
        assert "Traceback" not in finished.err, finished.err
        return finished

    return publish


@pytest.fixture
def run(tmp_path: Path, tiny_encoder_path: Path) -> Path:
    return finished_run(tmp_path / "tiny-run", tiny_encoder_path)


def put(files: dict[str, bytes], folder: Path) -> Path:
    """Write what a repository holds to a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def encode(folder: Path) -> np.ndarray:
    return SentenceTransformer(str(folder), device="cpu").encode(SENTENCES)


def test_one_commit_has_it_all_and_plain_sentence_transformers_loads_it(publish, hub, run: Path, tmp_path: Path):
    finished = publish(run)
    assert finished.status == 0, finished.err
    repo = hub.repos["me/tiny"]
    assert list(repo.messages.values()) == ["initial commit", "Publish tiny-run with fmicl-text"]
    assert finished.out.splitlines()[-2:] == [
        f"published and checked: commit {repo.heads['main']}",
        f"{hub.url}/me/tiny",
    ]
    assert not repo.private
    files = repo.files()
    encoder = {path.relative_to(run / "model").as_posix() for path in (run / "model").rglob("*") if path.is_file()}
    assert files.keys() == encoder | {
        "README.md",
        "recipe.yaml",
        "manifest.json",
        "results/stsb.json",
        "results/before-stsb.json",
    }
    assert files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    assert np.array_equal(encode(put(files, tmp_path / "copy")), encode(run / "model"))


def test_what_is_published_has_no_path_of_the_machine(publish, hub, run: Path, tmp_path: Path):
    publish(run)
    for name, content in hub.repos["me/tiny"].files().items():
        assert str(tmp_path).encode() not in content, name
        assert os.getcwd().encode() not in content, name
    recipe = hub.repos["me/tiny"].files()["recipe.yaml"].decode()
    assert "train: pairs.csv\n" in recipe and "publish:" not in recipe
    manifest = json.loads(hub.repos["me/tiny"].files()["manifest.json"])
    assert manifest["command"] == "fmicl train recipe.yaml --output=tiny-run"
    assert manifest["data"] == {"training": {"path": "pairs.csv", "sha256": "0" * 64}}


def test_a_dry_run_writes_the_same_files_and_asks_the_hub_nothing(publish, hub, run: Path, tmp_path: Path):
    finished = publish(run, "--dry-run", "--private", token="")
    folder = tmp_path / "tiny-run-publish"
    assert finished.status == 0 and str(folder) in finished.out
    assert hub.requests == []
    written = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert publish(run, "--private").status == 0
    assert written == hub.repos["me/tiny"].files() and hub.repos["me/tiny"].private
    again = publish(run, "--dry-run")
    assert again.status == 2 and "--overwrite replaces it" in again.err
    assert publish(run, "--dry-run", "--overwrite").status == 0


def test_publishing_again_changes_and_uploads_nothing(publish, hub, run: Path):
    publish(run)
    uploads = hub.count(STORAGE)
    assert uploads and publish(run).status == 0
    assert len(hub.repos["me/tiny"].commits) == 2 and hub.count(STORAGE) == uploads


def test_another_result_of_the_same_weights_is_added(publish, hub, run: Path):
    publish(run)
    score = {"name": "sentences", "metric": "uniformity", "metric_type": "uniformity", "value": -2.0, "unit": ""}
    result = {"format": 2, "kind": "geometry", "name": "geometry", "protocol": "p", "model": "m", "scores": [score]}
    write(run / "results" / "geometry.json", result)
    uploads = hub.count(STORAGE)
    assert publish(run).status == 0
    assert "results/geometry.json" in hub.repos["me/tiny"].files() and hub.count(STORAGE) == uploads


def test_of_several_seeds_the_first_is_published_or_the_one_named(
    publish, hub, tmp_path: Path, tiny_encoder_path: Path
):
    run = finished_run(tmp_path / "seeds", tiny_encoder_path, seeds=(7, 8))
    assert publish(run).status == 0
    files = hub.repos["me/tiny"].files()
    assert json.loads(files["manifest.json"])["seed"] == 7
    assert "81.00 ± 1.59" in files["README.md"].decode() and "results/summary.json" in files
    assert publish(run / "seed-8" / "model", "--revision", "seed-8").status == 0
    assert json.loads(hub.repos["me/tiny"].files("seed-8")["manifest.json"])["seed"] == 8


def test_an_encoder_by_itself(publish, hub, tiny_encoder_path: Path):
    assert publish(tiny_encoder_path, "--language", "en").status == 0
    files = hub.repos["me/tiny"].files()
    data = ModelCard(files["README.md"].decode()).data
    assert "f-micl" not in data.tags and data.license == "mit" and data.language == ["en"]
    assert not files.keys() & {"recipe.yaml", "manifest.json"}


# What is refused


def spoil(run: Path, how: str) -> None:
    model, manifest = run / "model", run / "manifest.json"
    match how:
        case "running":
            write(manifest, json.loads(manifest.read_text()) | {"state": "running"})
        case "result missing":
            (run / "results" / "stsb.json").unlink()
        case "pickle":
            torch.save({}, model / "pytorch_model.bin")
        case "only a pickle":
            (model / "model.safetensors").rename(model / "pytorch_model.bin")
        case "pickle in disguise":
            torch.save({}, model / "notes.txt")
        case "code":
            (model / "modeling.py").write_text("print('hello')")
        case "local path":
            (model / "notes.txt").write_text("first line\nmade from /home/alice/private/pairs.csv\n")
        case "token":
            (model / "notes.txt").write_text(f"token: {READER}\n")
        case "link":
            (model / "vocab.txt").symlink_to(model.parent.parent / "netrc")
            (model.parent.parent / "netrc").write_text("machine example.org password geheim")
        case "tokenizer missing":
            (model / "tokenizer.json").unlink()
        case "foreign result":
            write(run / "results" / "notes.json", {"notes": "mine"})
        case "own token":
            write(manifest, json.loads(manifest.read_text()) | {"environment": {"X": TOKEN}})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("running", "is not finished"),
        ("result missing", "is not finished"),
        ("pickle", "pytorch_model.bin: is a pickle"),
        ("only a pickle", "python -c 'from sentence_transformers import SentenceTransformer; SentenceTransformer(\""),
        ("pickle in disguise", "notes.txt: is not text"),
        ("code", "modeling.py: an encoder with Python code of its own is not published"),
        ("local path", "notes.txt:2: has the local path /home/alice/private/pairs.csv in it"),
        ("token", "notes.txt:1: has a Hugging Face token in it"),
        ("own token", "has your token of the Hub in it"),
        ("link", "vocab.txt: is a link to"),
        ("tokenizer missing", "has no tokenizer: none of tokenizer.json, vocab.txt is there"),
        ("foreign result", "notes.json: not the result of an evaluation"),
    ],
)
def test_a_refusal_asks_the_hub_nothing(publish, hub, run: Path, how: str, message: str):
    spoil(run, how)
    finished = publish(run)
    assert finished.status == 2 and message in finished.err, finished.err
    assert TOKEN not in finished.err and READER not in finished.err
    assert hub.requests == []


def test_the_conversion_command_makes_what_can_be_published(publish, hub, run: Path, tmp_path: Path):
    model = SentenceTransformer(str(run / "model"), device="cpu")
    weights = model[0].model.state_dict()
    (run / "model" / "model.safetensors").unlink()
    torch.save(weights, run / "model" / "pytorch_model.bin")
    refusal = publish(run).err
    convert = next(line for line in refusal.splitlines() if line.startswith("    python -c"))
    python, option, code = shlex.split(convert)
    assert (python, option) == ("python", "-c")
    exec(code, {})
    assert publish(run / "model-safetensors").status == 0
    assert np.allclose(
        encode(put(hub.repos["me/tiny"].files(), tmp_path / "copy")),
        model.encode(["the dog runs", "a man sings in the park"]),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--license", "Apache 2.0"], "license: must be the Hub's name of one"),
        (["--license", "unknown"], "license: must be the Hub's name of one"),
        (["--language", "english"], "language: must be an ISO 639 code"),
        (["--create-pr", "--revision", "dev"], "leave --revision out"),
        (["--merge-adapter"], "has no adapter"),
    ],
)
def test_options_that_cannot_be(publish, hub, run: Path, options: list[str], message: str):
    finished = publish(run, *options)
    assert finished.status == 2 and message in finished.err, finished.err
    assert not hub.repos


@pytest.mark.parametrize("repo", ["me/x.git", "me/x--y", f"me/{'x' * 120}"])
def test_a_name_that_the_hub_does_not_take_is_found_out_in_the_dry_run(command: Fmicl, hub, run: Path, repo: str):
    finished = command("publish", run, repo, "--license", "mit", "--dry-run", HF_TOKEN="")
    assert finished.status == 2 and "error: repo: is not a name that the Hub accepts" in finished.err, finished.err
    assert "Traceback" not in finished.err and not (run.parent / "tiny-run-publish").exists()


def test_a_dry_run_replaces_a_link_and_what_an_earlier_one_wrote_alone(publish, hub, run: Path, tmp_path: Path):
    folder, precious = tmp_path / "tiny-run-publish", tmp_path / "precious"
    precious.mkdir()
    for name in ("modules.json", "README.md", "thesis.tex"):
        (precious / name).write_text("[]")
    folder.symlink_to(precious)
    assert publish(run, "--dry-run").status == 2
    assert publish(run, "--dry-run", "--overwrite").status == 0
    assert not folder.is_symlink() and (folder / "model.safetensors").is_file()
    assert sorted(file.name for file in precious.iterdir()) == ["README.md", "modules.json", "thesis.tex"]
    for name, target in (("config.json", precious / "thesis.tex"), ("modules.json.txt", tmp_path / "nowhere")):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    assert publish(run, "--dry-run", "--overwrite").status == 0
    assert (precious / "thesis.tex").read_text() == "[]" and not (folder / "config.json").is_symlink()
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "nowhere")
    assert publish(run, "--dry-run").status == 2
    assert publish(run, "--dry-run", "--overwrite").status == 0 and not (tmp_path / "nowhere").exists()
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("mine")
    finished = publish(run, "--dry-run", "--overwrite")
    assert finished.status == 2 and "holds files that no dry run writes: .git/config" in finished.err
    assert (folder / ".git" / "config").read_text() == "mine"


def test_without_a_licence_the_base_models_is_named(publish, hub, run: Path, tmp_path: Path, tiny_encoder_path: Path):
    base = tmp_path / "base"
    shutil.copytree(tiny_encoder_path, base)
    (base / "README.md").write_text("---\nlicense: cc-by-nc-4.0\nlanguage: cy\n---\nA base model.\n")
    own = finished_run(tmp_path / "own", tiny_encoder_path, model={"base": str(base)})
    finished = publish(own, license=None)
    assert finished.status == 2 and "base, its base model, is under cc-by-nc-4.0" in finished.err
    assert publish(own, "--dry-run").status == 0
    card = ModelCard.load(tmp_path / "own-publish" / "README.md")
    assert card.data.language == ["cy"] and "cc-by-nc-4.0" in card.text and card.data.license == "mit"
    said = finished_run(tmp_path / "said", tiny_encoder_path, publish={"license": "cc-by-sa-4.0", "language": ["fr"]})
    assert publish(said, license=None).status == 0
    data = ModelCard(hub.repos["me/tiny"].files()["README.md"].decode()).data
    assert (data.license, data.language) == ("cc-by-sa-4.0", ["fr"])


@pytest.mark.parametrize(
    ("source", "message"),
    [("nowhere", "no folder 'nowhere'"), ("empty", "neither a run"), ("transformer", "has no modules.json")],
)
def test_what_is_no_source(publish, hub, tmp_path: Path, monkeypatch, source: str, message: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "transformer" / "config.json", {})
    finished = publish(Path(source))
    assert finished.status == 2 and message in finished.err


def test_a_repository_that_holds_something_else_stays_unless_told(publish, hub, run: Path):
    old = {"README.md": b"mine", "pytorch_model.bin": b"old", "model.safetensors": b"other weights"}
    repo = hub.make_repo("me/tiny", files=old)
    finished = publish(run)
    assert finished.status == 2 and "holds something else: README.md, model.safetensors, pytorch_model" in finished.err
    assert repo.files() == old and hub.count("POST /api/(repos|models)") == 0
    assert publish(run, "--overwrite").status == 0
    assert len(repo.commits) == 3 and "pytorch_model.bin" not in repo.files() and "recipe.yaml" in repo.files()


def test_a_readme_alone_is_something_too(publish, hub, run: Path):
    hub.make_repo("me/tiny", files={"README.md": b"notes of mine"})
    assert publish(run).status == 2


def test_a_new_branch_has_the_encoder_only_and_main_stays(publish, hub, run: Path):
    repo = hub.make_repo("me/tiny", files={"old.txt": b"old"})
    assert publish(run, "--revision", "js/v2").status == 0
    assert repo.files() == {"old.txt": b"old"}
    assert "old.txt" not in repo.files("js/v2") and "model.safetensors" in repo.files("js/v2")
    assert publish(run, "--revision", "js/v2").status == 0, "a branch with the same weights is updated"


def test_a_branch_that_was_made_before_the_commit_failed_is_no_hindrance(publish, hub, run: Path):
    repo = hub.make_repo("me/tiny", files={"old.txt": b"old"})
    hub.faults.append(Fault(COMMIT, 503))
    assert publish(run, "--revision", "dev").status == 1 and "dev" in repo.heads
    assert publish(run, "--revision", "dev").status == 0
    assert "old.txt" not in repo.files("dev") and repo.files() == {"old.txt": b"old"}


def test_a_pull_request_leaves_main_alone(publish, hub, run: Path):
    repo = hub.make_repo("me/tiny")
    hub.tokens["hf_" + "x" * 34] = ("someone", True)
    finished = publish(run, "--create-pr", token="hf_" + "x" * 34)
    assert finished.status == 0 and finished.out.splitlines()[-1] == f"{hub.url}/me/tiny/discussions/1"
    assert repo.files() == {} and "model.safetensors" in repo.files("refs/pr/1")


def test_a_pull_request_needs_a_repository(publish, hub, run: Path):
    finished = publish(run, "--create-pr")
    assert finished.status == 2 and "a pull request needs it" in finished.err and not hub.repos


def test_private_is_not_published_to_a_public_repository(publish, hub, run: Path):
    repo = hub.make_repo("me/tiny")
    finished = publish(run, "--private")
    assert finished.status == 2 and "already exists and is public" in finished.err and repo.files() == {}


# What goes wrong


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("GET /api/whoami", 401), "the Hub does not accept the token: log in by `hf auth login`"),
        (Fault("GET /api/models/me/tiny", 500), "the Hub failed (status 500: out of order)"),
        (Fault("POST /api/repos/create", 403, times=9), "the token may not write to me/tiny"),
        (Fault("POST /api/repos/create", 500), "the Hub failed (status 500"),
        (Fault("/preupload/", 403), "the token may not write to me/tiny"),
        (Fault("/lfs/objects/batch", 413), "the files are too large for the Hub"),
        (Fault(STORAGE, 403), "the storage for large files, localhost, refused: its addresses expire"),
        (Fault(COMMIT, 401), "the Hub does not accept the token"),
        (Fault(COMMIT, 409), "me/tiny is being changed by someone else (status 409"),
        (Fault(COMMIT, 412), "me/tiny was changed by someone else in the meantime"),
        (Fault(COMMIT, 429, headers={"Retry-After": "77"}), "too many requests: wait 77 seconds (status 429"),
        (Fault(COMMIT, 503), "the Hub failed (status 503: out of order)"),
        (Fault(COMMIT), "the Hub could not be reached, or the connection broke off"),
        (
            Fault("POST /api/validate-yaml", 400),
            "the Hub refused (status 400: out of order)",
        ),
        (Fault("POST /api/validate-yaml"), "the Hub could not be reached, or the connection broke off"),
    ],
    ids=str,
)
def test_a_failure_is_explained_changes_nothing_and_the_same_command_repeats_it(
    publish, hub, run: Path, fault, message
):
    hub.faults.append(fault)
    finished = publish(run)
    assert finished.status == 1 and message in finished.err, finished.err
    assert "nothing was" in finished.err
    assert "me/tiny" not in hub.repos or hub.repos["me/tiny"].files() == {}
    hub.faults.clear()
    assert publish(run).status == 0
    assert list(hub.repos["me/tiny"].messages.values()) == ["initial commit", "Publish tiny-run with fmicl-text"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/preupload/", 429, headers={"Retry-After": "0"}),
        Fault("/lfs/objects/batch", 503),
        Fault(STORAGE, 500),
        Fault(STORAGE, after=5000),
        Fault(STORAGE, after=5000, times=2),
    ],
    ids=str,
)
def test_the_client_rides_out_what_passes(publish, hub, run: Path, fault: Fault):
    hub.faults.append(fault)
    finished = publish(run)
    assert finished.status == 0 and fault.times == 0, finished.err
    assert len(hub.repos["me/tiny"].commits) == 2


def test_an_upload_that_breaks_every_time_can_be_repeated(publish, hub, run: Path):
    hub.faults.append(Fault(rf"{STORAGE}.*/2$", after=5000, times=100))
    finished = publish(run)
    assert finished.status == 1 and "broke off" in finished.err and "the same command tries again" in finished.err
    assert hub.repos["me/tiny"].files() == {}
    hub.faults.clear()
    assert publish(run).status == 0 and len(hub.repos["me/tiny"].commits) == 2


def test_what_the_hub_says_does_not_reach_the_terminal_as_commands(publish, hub, run: Path):
    hub.faults.append(Fault(COMMIT, 500, message="\x1b[2J\x1b]0;title\x07 gone"))
    finished = publish(run)
    assert finished.status == 1 and "gone" in finished.err and "\x1b" not in finished.err


def test_a_commit_whose_reply_is_lost_is_found_and_checked(publish, hub, run: Path):
    hub.faults.append(Fault(COMMIT, answered=True))
    finished = publish(run)
    repo = hub.repos["me/tiny"]
    assert finished.status == 0, finished.err
    assert f"published and checked: commit {repo.heads['main']}" in finished.out and len(repo.commits) == 2
    assert publish(run).status == 0 and len(repo.commits) == 2, "nothing is left to commit"


def test_a_pull_request_whose_reply_is_lost_is_found(publish, hub, run: Path):
    repo = hub.make_repo("me/tiny", files={"old.txt": b"old"})
    repo.pull_requests.append("Publish tiny-run with fmicl-text")  # of the same title, with something else in it
    repo.commit("refs/pr/1", repo.commits[repo.heads["main"]], "nothing")
    hub.faults.append(Fault(COMMIT, answered=True))
    finished = publish(run, "--create-pr", "--overwrite")
    assert finished.status == 0 and finished.out.splitlines()[-1] == f"{hub.url}/me/tiny/discussions/2", finished.err


def test_if_nobody_can_say_whether_a_commit_arrived_neither_is_claimed(publish, hub, run: Path):
    hub.faults.append(Fault(COMMIT, answered=True))
    hub.faults.append(Fault("GET /api/models/me/tiny(/revision/main)?$", 503, times=0))

    def no_more_answers() -> None:
        hub.faults[1].times = 99

    hub.stored = _OnWrite({}, no_more_answers)
    hub.make_repo("me/tiny")
    finished = publish(run)
    assert finished.status == 1 and "nothing was published" not in finished.err
    assert f"not known whether anything was published: see {hub.url}/me/tiny before" in finished.err
    hub.faults.clear()
    assert publish(run).status == 0 and len(hub.repos["me/tiny"].commits) == 2


def test_a_change_by_someone_else_meanwhile_is_not_overwritten(publish, hub, run: Path):
    """The commit names its parent: what was looked at is what is replaced."""
    repo = hub.make_repo("me/tiny")
    head, listing = repo.heads["main"], repo.commits[repo.heads["main"]]

    hub.stored = _OnWrite({}, lambda: repo.commit("main", listing, "someone else's"))
    finished = publish(run)
    assert finished.status == 1 and "changed by someone else in the meantime" in finished.err
    assert repo.files() == {} and repo.heads["main"] != head


class _OnWrite(dict):
    """A store that does something when the first object arrives."""

    def __init__(self, content: dict, action) -> None:
        super().__init__(content)
        self.action = action

    def __setitem__(self, key, value) -> None:
        super().__setitem__(key, value)
        if self.action:
            self.action, action = None, self.action
            action()


def test_what_the_hub_has_is_compared_with_what_was_sent(publish, hub, run: Path):
    hub.corrupt.add("model.safetensors")
    finished = publish(run)
    assert finished.status == 1 and "differs from what was sent: model.safetensors" in finished.err


def test_a_download_that_fails_says_that_it_is_published(publish, hub, run: Path):
    hub.faults.append(Fault("GET /api/models/me/tiny/tree", 403, times=9))
    finished = publish(run)
    assert "may not write" not in finished.err
    assert finished.status == 1 and f"it is published at {hub.url}/me/tiny, but was not checked" in finished.err
    hub.faults.clear()
    assert publish(run).status == 0 and len(hub.repos["me/tiny"].commits) == 2


@pytest.mark.parametrize(
    ("token", "status", "message"),
    [("", 2, "no token for the Hub"), ("hf_wrong", 1, "does not accept the token"), (READER, 2, "may only read")],
)
def test_tokens_that_do_not_do(publish, hub, run: Path, token: str, status: int, message: str):
    finished = publish(run, token=token)
    assert finished.status == status and message in finished.err, finished.err
    assert not hub.repos


def test_a_token_for_some_repositories_is_refused_where_it_may_not_write(publish, hub, run: Path):
    hub.roles[READER] = "fineGrained"
    finished = publish(run, token=READER)
    assert finished.status == 1 and "the token may not write to me/tiny" in finished.err and not hub.repos


def test_someone_elses_name(command: Fmicl, hub, run: Path):
    finished = command("publish", run, "other/tiny", "--license", "mit", HF_TOKEN=TOKEN)
    assert finished.status == 1 and "the token may not write to other/tiny" in finished.err and not hub.repos


def test_no_secret_in_any_file_or_log_line(hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With all the logging there is, a Hub that repeats the token, and uploads tried again at signed addresses."""
    hub.faults.append(Fault(STORAGE, 500))
    hub.faults.append(Fault(COMMIT, 403, message=f"no rights for 'Bearer {TOKEN}'"))
    home = tmp_path / "home"
    home.mkdir()
    settings = {
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "HF_DEBUG": "1",
        "HF_HUB_VERBOSITY": "debug",
        "TMPDIR": str(home),
        "WANDB_API_KEY": "0123456789abcdef0123456789abcdef",
    }
    monkeypatch.chdir(tmp_path)
    outputs = []
    with Fmicl(hub.url, **settings) as command:
        for status in (1, 0):
            finished = command("publish", run, "me/tiny", "--license", "mit")
            assert finished.status == status, finished.err
            outputs += [finished.out, finished.err]
    assert "no rights for 'Bearer [secret]'" in outputs[1] and "Request " in outputs[1], "the logs were on"
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    contents += hub.repos["me/tiny"].files().values()
    contents += [output.encode() for output in outputs]
    assert len(contents) > 20
    for secret in (TOKEN, settings["WANDB_API_KEY"], "X-Signature"):
        assert not [content for content in contents if secret.encode() in content], secret


def test_offline_is_said(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["publish", str(run), "me/tiny", "--license", "mit"]) == 2
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err


# Adapters


@pytest.fixture
def adapter(tmp_path: Path, tiny_encoder_path: Path) -> Path:
    """An encoder saved as a LoRA adapter on a local transformer."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
    torch.manual_seed(0)
    settings = {"task_type": peft.TaskType.FEATURE_EXTRACTION, "r": 4, "target_modules": ["query", "value"]}
    model.add_adapter(peft.LoraConfig(**settings))
    for name, parameter in model.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def test_an_adapter_is_merged_into_its_base(publish, hub, adapter: Path, tiny_encoder_path: Path, tmp_path: Path):
    assert publish(adapter, "--merge-adapter").status == 0
    files = hub.repos["me/tiny"].files()
    assert "adapter_config.json" not in files and "model.safetensors" in files
    assert "base_model" not in ModelCard(files["README.md"].decode()).data.to_dict(), "it is a folder of this machine"
    merged, expected = encode(put(files, tmp_path / "copy")), encode(adapter)
    assert np.abs(merged - expected).max() < 1e-5 < np.abs(encode(tiny_encoder_path) - expected).max()


def test_an_adapter_on_a_local_base_is_refused(publish, hub, adapter: Path):
    finished = publish(adapter)
    assert finished.status == 2 and "--merge-adapter publishes the two as one" in finished.err and not hub.repos


def test_an_adapter_on_a_base_of_the_hub_stays_one(publish, hub, adapter: Path, tiny_encoder_path: Path):
    files = {path.name: path.read_bytes() for path in tiny_encoder_path.iterdir() if path.is_file()}
    hub.make_repo("me/base", files={name: content for name, content in files.items() if name != "modules.json"})
    config = json.loads((adapter / "adapter_config.json").read_text())
    write(adapter / "adapter_config.json", config | {"base_model_name_or_path": "me/base"})
    finished = publish(adapter)
    assert finished.status == 0, finished.err
    files = hub.repos["me/tiny"].files()
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    card = ModelCard(files["README.md"].decode())
    assert (card.data.base_model, card.data.base_model_relation) == ("me/base", "adapter")
    assert "pip install -U sentence-transformers peft" in card.text


# Base models of the Hub


@pytest.fixture
def base(hub: HubServer, tiny_encoder_path: Path) -> dict[str, bytes]:
    """The files of me/base, an encoder on the Hub."""
    folder = tiny_encoder_path
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    hub.make_repo("me/base", files=files)
    return files


def test_a_run_is_pinned_to_the_commit_that_its_base_model_had(command: Fmicl, hub, base, recipe: Path, tmp_path: Path):
    """Though the Hub's model changes: the run folder repeats, and goes on with, the same one."""
    options = ["--set", "model.base=me/base", "--set", "publish={}"]
    repo, run = hub.repos["me/base"], tmp_path / "run"
    commit = repo.heads["main"]
    first = command("train", recipe, *options, "--output", run, HF_TOKEN=TOKEN)
    assert first.status == 0, (first.err, hub.requests)
    assert json.loads((run / "manifest.json").read_text())["base_model"] == {"revision": commit}
    assert f"revision: {commit}\n" in (run / "recipe.yaml").read_text()
    changed = dict(repo.commits[commit])
    changed["config_sentence_transformers.json"] = File(b'{"similarity_fn_name": "dot"}', large=False)
    repo.commit("main", changed, "another")
    again = command("train", run / "recipe.yaml", "--output", tmp_path / "again", HF_TOKEN=TOKEN)
    assert again.status == 0 and "changed" not in again.err, again.err
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (run, tmp_path / "again")]
    assert weights[0] == weights[1]
    on = command("train", recipe, *options, "--output", run, "--resume", HF_TOKEN=TOKEN)
    assert on.status == 0, on.err
    new = command("train", recipe, *options, "--output", tmp_path / "new", HF_TOKEN=TOKEN)
    assert new.status == 0 and repo.heads["main"] in (tmp_path / "new" / "recipe.yaml").read_text(), new.err


@pytest.mark.parametrize("module", ["", "2_Dense/"])
def test_pickles_of_the_hub_are_refused(
    command: Fmicl, hub, base, tmp_path: Path, tiny_encoder_path: Path, module: str
):
    model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
    model.append(Dense(32, 32))
    model.save_pretrained(str(tmp_path / "dense"), create_model_card=False)
    folder = tmp_path / "dense"
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    torch.save(load(files.pop(f"{module}model.safetensors")), tmp_path / "weights")
    name = f"{module}pytorch_model.bin"
    hub.make_repo("me/old", files=files | {name: (tmp_path / "weights").read_bytes()})
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,score\nthe dog,a cat,1\nman,woman,2\n")
    finished = command("eval", "pairs", "me/old", tmp_path / "pairs.csv", HF_TOKEN=TOKEN)
    assert finished.status == 2 and "Traceback" not in finished.err
    assert f"the model 'me/old' has its weights in a pickle ({name})" in finished.err, finished.err
    assert "save_pretrained(" in finished.err and "me-old-safetensors" in finished.err


# At the end of training


@pytest.fixture
def recipe(tmp_path: Path, tiny_encoder_path: Path) -> Path:
    rows = [{"question": f"the dog runs {i}", "answer": f"a cat sings {i}"} for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "trained",
        "model": {"base": str(tiny_encoder_path)},
        "data": {
            "train": str(tmp_path / "pairs.jsonl"),
            "columns": {"anchor": "question", "positive": "answer"},
        },
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 6, "max_steps": 2, "logging_steps": 1},
        "evaluate": {"during": None},
        "publish": {"repo": "me/tiny", "license": "mit", "language": ["en"]},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    return tmp_path / "recipe.yaml"


def test_training_publishes_at_its_end(command: Fmicl, hub, recipe: Path, tmp_path: Path):
    finished = command("train", recipe, "--output", tmp_path / "run", HF_TOKEN=TOKEN)
    assert finished.status == 0 and f"{hub.url}/me/tiny" in finished.out, finished.err
    repo = hub.repos["me/tiny"]
    assert repo.private and len(repo.commits) == 2
    again = command("train", "--resume", tmp_path / "run", HF_TOKEN=TOKEN)
    assert again.status == 0 and len(repo.commits) == 2, again.err  # it holds what was trained
    assert np.array_equal(encode(put(repo.files(), tmp_path / "copy")), encode(tmp_path / "run" / "model"))


def test_a_token_that_does_not_do_is_found_out_before_training(command: Fmicl, hub, recipe: Path, tmp_path: Path):
    finished = command("train", recipe, "--output", tmp_path / "run", HF_TOKEN="hf_wrong")
    assert finished.status == 1 and "does not accept the token" in finished.err
    assert not (tmp_path / "run").exists()


def test_a_token_that_may_only_read_is_found_out_before_training(command: Fmicl, hub, recipe: Path, tmp_path: Path):
    finished = command("train", recipe, "--output", tmp_path / "run", HF_TOKEN=READER)
    assert finished.status == 2 and "the token for the Hub may only read" in finished.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("repo", "message"),
    [
        (
            {"private": False},
            "me/tiny already exists and is public; make it private on the Hub, or set publish.private",
        ),
        (
            {"private": True, "files": {"README.md": b"mine", "model.safetensors": b"mine"}},
            "publish.repo: me/tiny holds something already: README.md, model.safetensors; name another one, or",
        ),
    ],
    ids=["public", "full"],
)
def test_a_repository_that_would_be_refused_is_found_out_before_training(
    command: Fmicl, hub, recipe: Path, tmp_path: Path, repo: dict, message: str
):
    hub.make_repo("me/tiny", **repo)
    before = len(hub.repos["me/tiny"].commits)
    finished = command("train", recipe, "--output", tmp_path / "run", HF_TOKEN=TOKEN)
    assert finished.status == 2 and message in finished.err, finished.err
    assert not (tmp_path / "run").exists() and len(hub.repos["me/tiny"].commits) == before


checks_here = pytest.mark.skipif(
    "https://huggingface.co/api" in inspect.getsource(ModelCard.validate),
    reason="this client has cards checked there, whatever HF_ENDPOINT is",
)


@checks_here
def test_a_licence_that_the_hub_does_not_know_is_found_out_before_training(
    command: Fmicl, hub, recipe: Path, tmp_path: Path
):
    finished = command(
        "train", recipe, "--output", tmp_path / "run", "--set", "publish.license=apache2", HF_TOKEN=TOKEN
    )
    assert finished.status == 2 and not (tmp_path / "run").exists()
    assert 'publish: the Hub does not accept its settings: "license" must be one of' in finished.err, finished.err


@checks_here
def test_a_check_of_the_licence_that_fails_is_left_to_the_end(command: Fmicl, hub, recipe: Path, tmp_path: Path):
    hub.faults.append(Fault("POST /api/validate-yaml", 500))
    finished = command("train", recipe, "--output", tmp_path / "run", HF_TOKEN=TOKEN)
    assert finished.status == 0 and "model.safetensors" in hub.repos["me/tiny"].files(), finished.err


def test_a_run_that_could_not_be_published_is_kept_and_publishes_later(
    command: Fmicl, hub, recipe: Path, tmp_path: Path
):
    hub.faults.append(Fault(COMMIT, 503))
    finished = command("train", recipe, "--output", tmp_path / "run", HF_TOKEN=TOKEN)
    assert finished.status == 1 and "the run itself is complete" in finished.err
    again = re.search(r"fmicl (publish .+ me/tiny --private)$", finished.err, re.MULTILINE)
    assert again and command(*again[1].split(), HF_TOKEN=TOKEN).status == 0
    assert hub.repos["me/tiny"].private and "model.safetensors" in hub.repos["me/tiny"].files()


def test_training_publishes_the_exports_of_its_recipe(command: Fmicl, hub, recipe: Path, tmp_path: Path):
    """Made once: a run that could not be published is resumed, and publishes what it had made."""
    scored = "sentence1,sentence2,score\nthe dog,a cat,1\nman,woman,2\na cat,a dog,3\n"
    (tmp_path / "scored.csv").write_text(scored)
    measured = ["--set", "publish.exports=[embeddings/int8, embeddings/binary]"]
    measured += ["--set", f"evaluate.after=[{tmp_path / 'scored.csv'}]"]
    planned = command("train", recipe, *measured, "--dry-run", HF_TOKEN=TOKEN)
    assert "  publish   me/tiny, private, mit, with embeddings/int8, embeddings/binary\n" in planned.out, planned.err
    hub.faults.append(Fault(COMMIT, 503))
    finished = command("train", recipe, *measured, "--output", tmp_path / "run", HF_TOKEN=TOKEN)
    assert finished.status == 1 and "the run itself is complete" in finished.err
    record = tmp_path / "run" / "embeddings" / "int8" / "export.json"
    made = record.stat().st_mtime_ns
    again = re.search(r"fmicl (train --resume \S+/run)$", finished.err, re.MULTILINE)
    assert again and (resumed := command(*again[1].split(), HF_TOKEN=TOKEN)).status == 0, resumed.err
    files = hub.repos["me/tiny"].files()
    assert "embeddings/int8/ranges.safetensors" in files and record.stat().st_mtime_ns == made
    card = files["README.md"].decode()
    assert "| bytes of a vector | 128 | 32 |" in card and "| bytes of a vector | 128 | 4 |" in card
