"""``fmicl train --accelerate-config``: how many processes a file asks for, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fmicl_text.cli import main
from fmicl_text.errors import InputError
from fmicl_text.recipe.accelerate import processes_of

DEFAULT = {
    "compute_environment": "LOCAL_MACHINE",
    "debug": False,
    "distributed_type": "MULTI_GPU",
    "downcast_bf16": "no",
    "enable_cpu_affinity": False,
    "gpu_ids": "all",
    "machine_rank": 0,
    "main_training_function": "main",
    "mixed_precision": "no",
    "num_machines": 1,
    "num_processes": 2,
    "rdzv_backend": "static",
    "same_network": True,
    "tpu_env": [],
    "tpu_use_cluster": False,
    "tpu_use_sudo": False,
    "use_cpu": False,
}
"""What `accelerate config` writes for two GPUs."""


@pytest.fixture
def write(tmp_path: Path):
    def write(**changes) -> Path:
        (tmp_path / "accelerate.yaml").write_text(yaml.safe_dump(DEFAULT | changes))
        return tmp_path / "accelerate.yaml"

    return write


def test_number_of_processes(write):
    assert processes_of(write()) == 2 and processes_of(write(distributed_type="NO", num_processes=1)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}}, "distributed_type: FSDP is not supported"),
        (
            {"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 2}},
            "distributed_type: DEEPSPEED is not",
        ),
        ({"mixed_precision": "bf16"}, "mixed_precision: bf16 .*train.bf16"),
        ({"num_machines": 2}, "num_machines: 2 .*on each machine"),
        ({"gpu_ids": "1,2"}, "gpu_ids: .*CUDA_VISIBLE_DEVICES"),
        ({"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, "dynamo_config: "),
        ({"num_processes": 0}, "num_processes: must be at least 1"),
    ],
)
def test_what_is_refused(write, changes: dict, message: str):
    with pytest.raises(InputError, match=message) as caught:
        processes_of(write(**changes))
    assert len(caught.value.problems) == 1


def test_a_date_that_is_none_is_no_configuration(tmp_path):
    file = tmp_path / "accelerate.yaml"
    file.write_text("num_processes: 2024-99-99\n")
    with pytest.raises(InputError, match=r"accelerate\.yaml: cannot be read: month must be in"):
        processes_of(file)


def test_deep_nesting(write):
    file = write()
    file.write_text("a: " + "[" * 16_000)
    with pytest.raises(InputError, match=r"accelerate\.yaml:1: is nested in more than 20 levels"):
        processes_of(file)


def test_sharding_is_refused_before_the_recipe_is_read(write, monkeypatch, capsys):
    file = write(distributed_type="FSDP", fsdp_config={"fsdp_version": 2})
    assert main(["train", "nothing.yaml", "--accelerate-config", str(file)]) == 2
    assert "FSDP is not supported" in capsys.readouterr().err
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")  # as accelerate launch sets it
    assert main(["train", "nothing.yaml"]) == 2
    assert "DEEPSPEED is not supported" in capsys.readouterr().err
