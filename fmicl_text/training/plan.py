"""What a run would do: ``fmicl train --dry-run``."""

from __future__ import annotations

from dataclasses import dataclass

from fmicl_text.data.mining import described
from fmicl_text.data.streams import Stream
from fmicl_text.encoders.tokens import longest_text
from fmicl_text.losses import ContrastiveLoss
from fmicl_text.recipe.schema import Recipe
from fmicl_text.training.build import check_build, check_rows, precision
from fmicl_text.training.inputs import Inputs, load_inputs
from fmicl_text.training.loss_state import contrastive_losses


@dataclass(frozen=True)
class Plan:
    """What a run would do; ``rows`` is None for a stream, ``buffer`` for all else.

    ``trained`` is how many of the ``parameters`` train, ``loss`` the loss as Python has it, ``weights`` says which
    step's weights are kept and why, ``after`` names what is measured at the end, ``dims`` at how many dimensions beside
    all, ``mining`` says how negatives are mined, and ``warnings`` why the data will not train well. ``image_size`` is
    None for texts. ``prompts`` has what is put before the texts of a column.
    """

    rows: int | None
    buffer: int | None
    columns: list[str]
    parameters: int
    trained: int
    dimensions: int
    max_seq_length: int | None
    image_size: int | None
    loss: str
    batch: int
    steps: int
    prompts: dict[str, str]
    device: str
    precision: str
    remote_code: bool
    imports: list[str]
    mining: str | None
    warnings: list[str]
    weights: str
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
        loss=_loss(recipe, loss),
        batch=trainer.get_total_train_batch_size(arguments),
        steps=steps,
        prompts=arguments.prompts or {},
        device=str(arguments.device),
        precision=precision(arguments),
        remote_code=recipe.model.trust_remote_code,
        imports=recipe.imports,
        mining=described(recipe.data.mine, recipe.model) if recipe.data.mine is not None else None,
        warnings=check_rows(recipe, inputs, trainer.model, arguments),
        weights=_weights(inputs, arguments.load_best_model_at_end),
        after=[asked.name for asked in recipe.evaluate.after],
        dims=recipe.evaluate.dims,
    )


def _loss(recipe: Recipe, loss: ContrastiveLoss) -> str:
    """Return a loss as Python has it, and at which dimensions."""
    described = f"{loss.objective.loss_name}({loss.extra_repr()})"
    if recipe.matryoshka is None:
        return described
    return f"{described}, on the first {', '.join(map(str, recipe.matryoshka.dims))} numbers of each vector"


def _weights(inputs: Inputs, keeps_best: bool) -> str:
    """Say which step's weights are kept, and why."""
    during, why = inputs.during, inputs.choice.why
    if during is None:
        return f"of the last step: {why}"
    score = f"{during.name} {during.metric.name}"
    if not keeps_best:
        return f"of the last step: load_best_model_at_end is false; {score} is measured ({why})"
    return f"of the best checkpoint by {score} ({why})"
