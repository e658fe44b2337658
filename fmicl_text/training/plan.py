"""What a run would do: ``fmicl train --dry-run``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fmicl_text.data.mining import described
from fmicl_text.data.streams import Stream
from fmicl_text.encoders.tokens import longest_text
from fmicl_text.recipe.build import loss_settings
from fmicl_text.recipe.schema import Recipe
from fmicl_text.training.build import check_build, check_rows, precision
from fmicl_text.training.inputs import load_inputs
from fmicl_text.training.loss_state import contrastive_losses


@dataclass(frozen=True)
class Plan:
    """What a run would do; ``rows`` is None for a stream, ``buffer`` for all else.

    ``trained`` is how many of the ``parameters`` train. ``during`` says which score chooses the checkpoint and why,
    ``after`` names what is measured at the end, ``dims`` at how many dimensions beside all, ``mining`` says how
    negatives are mined, and ``warnings`` why the data will not train well. ``image_size`` is None for texts.
    ``prompts`` has what is put before the texts of a column.
    """

    rows: int | None
    buffer: int | None
    columns: list[str]
    parameters: int
    trained: int
    dimensions: int
    max_seq_length: int | None
    image_size: int | None
    loss: dict[str, Any]
    batch: int
    steps: int
    prompts: dict[str, str]
    device: str
    precision: str
    remote_code: bool
    imports: list[str]
    mining: str | None
    warnings: list[str]
    during: str
    after: list[str]
    dims: list[int]


def plan(recipe: Recipe) -> Plan:
    """Load everything a run needs and say what it would do, without writing anything.

    Raises:
        InputError: As :func:`fmicl_text.training.train.train`.
    """
    inputs = load_inputs(recipe, mine=False)
    trainer = check_build(recipe, inputs)
    arguments = trainer.args
    [loss] = contrastive_losses(trainer.loss).values()
    *_, steps = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
    rows = inputs.train
    return Plan(
        rows=None if isinstance(rows, Stream) else len(rows),
        buffer=recipe.data.shuffle_buffer if isinstance(rows, Stream) else None,
        columns=list(recipe.data.columns.used) if isinstance(rows, Stream) else rows.column_names,
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        trained=sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad),
        dimensions=trainer.model.get_embedding_dimension(),
        max_seq_length=longest_text(trainer.model),
        image_size=trainer.views.size if trainer.views is not None else None,
        loss=loss_settings(recipe, loss),
        batch=trainer.get_total_train_batch_size(arguments),
        steps=steps,
        prompts=arguments.prompts or {},
        device=str(arguments.device),
        precision=precision(arguments),
        remote_code=recipe.model.trust_remote_code,
        imports=recipe.imports,
        mining=described(recipe.data.mine, recipe.model) if recipe.data.mine is not None else None,
        warnings=check_rows(recipe, inputs, trainer.model, arguments),
        during=f"{inputs.during.name} {inputs.during.metric.name} ({inputs.choice.why})"
        if inputs.during
        else f"none ({inputs.choice.why}): the last checkpoint is kept",
        after=[asked.name for asked in recipe.evaluate.after],
        dims=recipe.evaluate.dims,
    )
