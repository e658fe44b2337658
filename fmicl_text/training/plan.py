"""What a run would do: ``fmicl train --dry-run``."""

from __future__ import annotations

from dataclasses import dataclass

from fmicl_text.data.mining import described
from fmicl_text.data.streams import Stream
from fmicl_text.encoders.tokens import longest_text
from fmicl_text.recipe.schema import Recipe
from fmicl_text.training.build import check_build, check_rows, precision
from fmicl_text.training.inputs import Inputs, load_inputs


@dataclass(frozen=True)
class Plan:
    """What a run would do; ``rows`` is None for a stream, ``buffer`` for all else.

    ``loss`` is the loss as Python has it, ``weights`` says which step's weights are kept and why, ``after`` names what
    is measured at the end, ``mining`` says how negatives are mined, and ``warnings`` why the data will not train well.
    ``image_size`` is None for texts.
    """

    rows: int | None
    buffer: int | None
    columns: list[str]
    parameters: int
    dimensions: int
    max_seq_length: int | None
    image_size: int | None
    loss: str
    batch: int
    steps: int
    device: str
    precision: str
    remote_code: bool
    imports: list[str]
    mining: str | None
    warnings: list[str]
    weights: str
    after: list[str]


def plan(recipe: Recipe) -> Plan:
    """Load everything a run needs and say what it would do, without writing anything.

    Raises:
        InputError: As :func:`fmicl_text.training.train.train`.
    """
    inputs = load_inputs(recipe, mine=False)
    trainer = check_build(recipe, inputs)
    arguments = trainer.args
    *_, steps = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
    rows = inputs.train
    return Plan(
        rows=None if isinstance(rows, Stream) else len(rows),
        buffer=recipe.data.shuffle_buffer if isinstance(rows, Stream) else None,
        columns=list(recipe.data.columns.used) if isinstance(rows, Stream) else rows.column_names,
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        dimensions=trainer.model.get_embedding_dimension(),
        max_seq_length=longest_text(trainer.model),
        image_size=trainer.views.size if trainer.views is not None else None,
        loss=f"{recipe.loss.loss_name}({trainer.loss.extra_repr()})",
        batch=trainer.get_total_train_batch_size(arguments),
        steps=steps,
        device=str(arguments.device),
        precision=precision(arguments),
        remote_code=recipe.model.trust_remote_code,
        imports=recipe.imports,
        mining=described(recipe.data.mine, recipe.model) if recipe.data.mine is not None else None,
        warnings=check_rows(recipe, inputs, trainer.model, arguments),
        weights=_weights(inputs, arguments.load_best_model_at_end),
        after=[asked.name for asked in recipe.evaluate.after],
    )


def _weights(inputs: Inputs, keeps_best: bool) -> str:
    """Say which step's weights are kept, and why."""
    during, why = inputs.during, inputs.choice.why
    if during is None:
        return f"of the last step: {why}"
    score = f"{during.name} {during.metric.name}"
    if not keeps_best:
        return f"of the last step: load_best_model_at_end is false; {score} is measured ({why})"
    return f"of the best checkpoint by {score} ({why})"
