"""What a run would do: ``fmicl train --dry-run``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentence_transformers import SentenceTransformerTrainingArguments
from transformers import TrainerState

from fmicl_text.data.mining import described, miner
from fmicl_text.data.mixture import SourceSection
from fmicl_text.data.section import DataSection
from fmicl_text.data.streams import Stream
from fmicl_text.encoders.tokens import longest_text
from fmicl_text.losses import ContrastiveLoss
from fmicl_text.recipe.schema import IN_TURN, PublishSection, Recipe
from fmicl_text.training import on_cuda
from fmicl_text.training.build import check_build, check_rows
from fmicl_text.training.inputs import Inputs, load_inputs
from fmicl_text.training.loss_state import contrastive_losses
from fmicl_text.training.precision import precision

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class PlannedSource:
    """What is trained on, and by which loss; ``rows`` is None for a stream, ``buffer`` for all else.

    ``loss`` is the loss as Python has it, ``mining`` says how negatives are mined, ``prompts`` what is put before the
    texts of a column, and ``weight`` is None if there is one source, or none has a weight.
    """

    rows: int | None
    buffer: int | None
    columns: list[str]
    loss: str
    mining: str | None
    prompts: dict[str, str]
    weight: float | None


@dataclass(frozen=True)
class Plan:
    """What a run would do; ``sources`` are by name, and the name of a single one is empty.

    ``drawn`` says how batches are drawn from several sources, ``trained`` how many of the ``parameters`` train, and
    ``adapter`` by which LoRA, if by one. ``weights`` says which step's weights are kept, and why, and ``evaluations``
    how often what chooses them is measured. ``after`` names what is measured at the end, ``dims`` at how many
    dimensions beside all. ``warnings`` say why the data will train badly. ``image_size`` is None for texts. ``loading``
    is optimizer and loading of batches, where CUDA has defaults of its own. ``publish`` says what goes to the Hub at
    the end, if anything does.
    """

    sources: dict[str, PlannedSource]
    drawn: str
    parameters: int
    trained: int
    adapter: str | None
    dimensions: int
    max_seq_length: int | None
    image_size: int | None
    batch: int
    steps: int
    device: str
    precision: str
    loading: str | None
    remote_code: bool
    imports: list[str]
    warnings: list[str]
    weights: str
    evaluations: int
    after: list[str]
    dims: list[int]
    publish: str | None


def plan(recipe: Recipe) -> Plan:
    """Load everything a run needs and say what it would do, without writing anything.

    Raises:
        InputError: As :func:`fmicl_text.training.train.train`.
    """
    inputs = load_inputs(recipe, mine=False)
    for source in recipe.data.sources.values():
        if source.mine is not None and source.mine.model is not None:
            miner(source.mine, recipe.model)
    trainer = check_build(recipe, inputs)
    arguments = trainer.args
    _, per_epoch, *_, steps = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
    losses = dict(zip(recipe.data.sources, contrastive_losses(trainer.loss).values(), strict=True))
    prompts = {"": arguments.prompts} if isinstance(recipe.data, DataSection) else arguments.prompts
    return Plan(
        sources={
            name: _planned(recipe, name, inputs.train[name], losses[name], prompts.get(name))
            for name in recipe.data.sources
        },
        drawn=_drawn(recipe),
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        trained=sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad),
        adapter=None if recipe.model.lora is None else recipe.model.lora.described,
        dimensions=trainer.model.get_embedding_dimension(),
        max_seq_length=longest_text(trainer.model),
        image_size=trainer.views.size if trainer.views is not None else None,
        batch=trainer.get_total_train_batch_size(arguments),
        steps=steps,
        device=str(arguments.device),
        precision=precision(arguments, recipe.model.dtype),
        loading=on_cuda.described(arguments),
        remote_code=recipe.model.trust_remote_code,
        imports=recipe.imports,
        warnings=check_rows(recipe, inputs, trainer.model, arguments),
        weights=_weights(inputs, arguments.load_best_model_at_end),
        evaluations=_evaluations(arguments, steps, per_epoch),
        after=[asked.name for asked in recipe.evaluate.after],
        dims=recipe.evaluate.dims,
        publish=_published(recipe.publish),
    )


def _evaluations(arguments: SentenceTransformerTrainingArguments, steps: int, per_epoch: int) -> int:
    """Return how often a run measures during training: after its last step in any case, by epochs at its end too."""
    if arguments.eval_strategy == "no":
        return 0
    state = TrainerState()
    state.compute_steps(arguments, steps)
    by_epochs = arguments.eval_strategy == "epoch"
    every, unit = (per_epoch, per_epoch) if by_epochs else (state.eval_steps, 1)
    due = sum(step >= arguments.eval_delay * unit for step in range(every, steps, every))
    return arguments.eval_on_start + due + 1 + by_epochs


def _planned(
    recipe: Recipe,
    name: str,
    rows: Dataset | Stream,
    loss: ContrastiveLoss,
    prompts: str | dict[str, str] | None,
) -> PlannedSource:
    source = recipe.data.sources[name]
    return PlannedSource(
        rows=None if isinstance(rows, Stream) else len(rows),
        buffer=source.shuffle_buffer if isinstance(rows, Stream) else None,
        columns=list(source.columns.used) if isinstance(rows, Stream) else rows.column_names,
        loss=_loss(recipe, loss, name),
        mining=described(source.mine, recipe.model) if source.mine is not None else None,
        prompts={"every text": prompts} if isinstance(prompts, str) else prompts or {},
        weight=source.weight if isinstance(source, SourceSection) else None,
    )


def _drawn(recipe: Recipe) -> str:
    if recipe.train.get("multi_dataset_batch_sampler") == IN_TURN:
        return "in turn, until one ends"
    return "by weight" if recipe.weights else "in proportion to their rows"


def _loss(recipe: Recipe, loss: ContrastiveLoss, source: str) -> str:
    """Return a loss as Python has it, and at which dimensions."""
    described = f"{loss.objective.loss_name}({loss.extra_repr()})"
    matryoshka = recipe.matryoshka_of(source)
    if matryoshka is None:
        return described
    return f"{described}, on the first {', '.join(map(str, matryoshka.dims))} numbers of each vector"


def _published(section: PublishSection) -> str | None:
    """Say where the encoder goes, who can see it there, and with what."""
    if section.repo is None:
        return None
    exports = f", with {', '.join(section.exports)}" if section.exports else ""
    return f"{section.repo}, {'private' if section.private else 'public'}, {section.license}{exports}"


def _weights(inputs: Inputs, keeps_best: bool) -> str:
    """Say which step's weights are kept, and why."""
    during, why = inputs.during, inputs.choice.why
    if during is None:
        return f"of the last step: {why}"
    score = f"{during.name} {during.metric.name}"
    if not keeps_best:
        return f"of the last step: load_best_model_at_end is false; {score} is measured ({why})"
    return f"of the best checkpoint by {score} ({why})"
