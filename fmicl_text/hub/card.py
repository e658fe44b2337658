"""The model card.

sentence-transformers writes a card too, from a trainer's state: it shows rows of the training data, asks the Hub about
the base model, and cannot be made of a run that has ended. This one is made from the run's folder alone, by the
Hub client's own classes. What comes from recipes, manifests, data and results is shown as plain text, never as markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from fmicl_text import __version__
from fmicl_text.data.formats import FORMATS, ending
from fmicl_text.data.mixture import SourceSection
from fmicl_text.data.section import AugmentSection, DataSection
from fmicl_text.encoders.images import image_size, reads_images
from fmicl_text.encoders.lora import ADAPTER_CONFIG, base_of
from fmicl_text.encoders.prompts import Prompts, pools_prompts
from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.tokens import longest_text
from fmicl_text.errors import InputError
from fmicl_text.evaluation.results import Result, Score
from fmicl_text.evaluation.suites import load_suite
from fmicl_text.hub.base_model import BaseModel, as_hub_id, describe_base
from fmicl_text.hub.exports import on_card
from fmicl_text.hub.markdown import plain
from fmicl_text.hub.private import is_local, last_part, shorten
from fmicl_text.hub.source import Source
from fmicl_text.recipe.schema import PublishSection, Recipe
from fmicl_text.runs.exports import Export
from fmicl_text.text import one_line

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard
    from sentence_transformers import SentenceTransformer


_TAGS = ["sentence-transformers", "sentence-similarity", "feature-extraction"]
_IMAGE_TAGS = ["sentence-transformers", "image-feature-extraction"]
_PAIRS = {
    "dropout": "a text encoded twice, with two dropout masks",
    "augment": "two random changes of an image",
}
"""Pairs that are made of one column, by ``data.views``."""


def model_card(
    source: Source,
    target: PublishSection,
    model: SentenceTransformer,
    adapter: bool,
    exports: Sequence[Export] = (),
) -> ModelCard:
    """Write the card of an encoder.

    Args:
        source: The encoder and its record.
        target: The repository, the licence, and the languages; if none, those of the base model's card are taken.
        model: The encoder, loaded.
        adapter: Whether it is published as an adapter.
        exports: The records of exports that are published with it.

    Raises:
        InputError: If the Hub's client finds the metadata wrong.
    """
    from huggingface_hub import ModelCard, ModelCardData

    recipe = source.recipe
    base = _base(source)
    assert target.repo is not None and target.license is not None
    manifest = source.manifest[1] if source.manifest else None
    language = list(target.language or base.language)
    data = ModelCardData(
        model_name=target.repo.partition("/")[2],
        base_model=base.hub_id,
        base_model_relation=("adapter" if adapter else "finetune") if base.hub_id else None,
        datasets=_datasets(recipe) if recipe else None,
        eval_results=[
            _eval_result(name, score) for name, r in source.results.items() for score in r.scores if not score.baseline
        ]
        or None,
        language=language or None,
        library_name="sentence-transformers",
        license=target.license,
        pipeline_tag="image-feature-extraction" if reads_images(model) else "sentence-similarity",
        tags=(_IMAGE_TAGS if reads_images(model) else _TAGS) + (_tags(recipe) if recipe else []),
    )
    card = ModelCard.from_template(
        data,
        template_str=files("fmicl_text.hub").joinpath("card.md.jinja").read_text(encoding="utf-8"),
        title=plain(target.repo.partition("/")[2]),
        repo=target.repo,
        dimensions=model.get_embedding_dimension(),
        similarity=plain(model.similarity_fn_name),
        adapter=adapter,
        prompts={name: _code(prompt) for name, prompt in Prompts.of(model).given().items()},
        parts=_parts(recipe),
        pools_prompts=pools_prompts(model),
        scratch=recipe is not None and recipe.model.is_new,
        images=image_size(model) if reads_images(model) else None,
        license=plain(target.license),
        base_license=plain(base.license or ""),
        limits=list(_limits(source, model, language)),
        exports=[on_card(export, target.repo) for export in exports],
        **_results(source),
        **(_training(source, base, model) if recipe else {"trained": False, "citations": []}),
        version=plain(manifest.versions.get("fmicl-text", __version__) if manifest else __version__),
    )
    _validate(card)
    return card


def _base(source: Source) -> BaseModel:
    """Return the base model: what the run began with, or of a lone adapter what it refers to."""
    if source.recipe is not None:
        return describe_base(source.recipe.model)
    if (source.model / ADAPTER_CONFIG).is_file():
        return describe_base(ModelSection(base=base_of(source.model)))
    return BaseModel("", None)


def _validate(card: ModelCard) -> None:
    """Read the card back as the Hub's client does, and compare."""
    from huggingface_hub import ModelCard

    try:
        again = ModelCard(str(card))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"the card's metadata is wrong: {error}") from error
    assert again.data.to_dict() == card.data.to_dict()


def _parts(recipe: Recipe | None) -> list[int]:
    """Return at how many of its first numbers an embedding was trained too, by any source, most first."""
    trained = [recipe.matryoshka_of(source) for source in recipe.data.sources] if recipe else []
    return sorted({dim for one in trained if one is not None for dim in one.dims}, reverse=True)[1:]


def _code(text: str) -> str:
    """Return text as code on one line of Markdown, with its spaces; a mark longer than any in the text is around it."""
    shown = json.dumps(text, ensure_ascii=False)
    marks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{marks} {shown} {marks}" if "`" in shown else f"`{shown}`"


def _datasets(recipe: Recipe) -> list[str] | None:
    """Return the Hub ids of the training data that comes from the Hub."""
    found = [_dataset(source.train) for source in recipe.data.sources.values()]
    return [*dict.fromkeys(name for name in found if name is not None)] or None


def _dataset(source: str) -> str | None:
    if match := re.match(r"hf://datasets/([^/@]+/[^/@]+)", source):
        return match[1]
    elsewhere = source.startswith("sample:") or ending(source) in FORMATS or is_local(source)
    return source if not elsewhere and as_hub_id(source) else None


def _heldout(heldout: float | str | None) -> str | None:
    return f"{100 * heldout:g}% of the data" if isinstance(heldout, float) else heldout and last_part(heldout)


def _eval_result(evaluation: str, score: Score) -> EvalResult:
    from huggingface_hub import EvalResult

    task_type, task_name = next(task for pattern, task in _TASKS.items() if re.match(pattern, score.metric_type))
    hub = _hub_sources(evaluation).get(score.name)
    name = shorten(evaluation)
    dataset = one_line(shorten(score.name) if hub else f"{name} {shorten(score.name)}")
    return EvalResult(
        task_type=task_type,
        task_name=task_name,
        dataset_type=hub.dataset if hub else "unknown",
        dataset_name=dataset,
        dataset_config=None if hub else dataset,  # else the Hub merges all results of unknown data sets
        dataset_revision=hub.revision if hub else None,
        dataset_split=hub.split if hub else None,
        metric_type=one_line(score.metric_type),
        metric_name=one_line(f"{score.metric} ({name})" if hub else score.metric),
        metric_value=score.value / 100 if score.unit == "%" else score.value,  # the scale of sentence-transformers
    )


_TASKS = {
    r"(spearman|pearson|kendall)": ("semantic-similarity", "Semantic Similarity"),
    r"(cosine_)?(accuracy|mrr|ndcg|map|recall|precision)@\d+$": ("information-retrieval", "Information Retrieval"),
    r"(cosine|max)_(ap|f1|accuracy|roc_auc)": ("binary-classification", "Binary Classification"),
    r"(accuracy|f1)$": ("classification", "Classification"),
    r"v_measure": ("clustering", "Clustering"),
    r"": ("feature-extraction", "Feature Extraction"),
}
"""Pattern of a metric's type -> the task it belongs to, as sentence-transformers' cards and the Hub call it."""


def _hub_sources(suite: str) -> dict[str, Any]:
    try:
        return {task.name: task.hub for task in load_suite(suite).tasks}
    except InputError:  # a suite of the user's own
        return {}


def _results(source: Source) -> dict[str, Any]:
    before = {(name, score.key): score for name, result in source.before.items() for score in result.scores}
    scores = [(name, score) for name, result in source.results.items() for score in result.scores]
    rows = [
        {
            "evaluation": plain(shorten(name)),
            "task": plain(shorten(score.name)),
            "metric": plain(score.metric) + (" (%)" if score.unit == "%" else ""),
            "before": score.written(before[name, score.key].value) if (name, score.key) in before else "",
            "score": score.written(score.value),
            "interval": " to ".join(map(score.written, score.ci95)) if score.ci95 else "",
            "n": f"{score.n:,}" if score.n else "",
        }
        for name, score in scores
    ]
    return {
        "rows": rows,
        "before": any(row["before"] for row in rows),
        "intervals": any(score.ci95 for _, score in scores),
        "baselines": any(score.baseline for _, score in scores),
        "protocols": {plain(shorten(name)): plain(shorten(r.protocol)) for name, r in source.results.items()},
        "missing": [
            plain(shorten(f"{name}, {task}: {why}"))
            for name, result in source.results.items()
            for task, why in result.missing.items()
        ],
        "seed": source.manifest[1].seed if source.manifest else None,
        "seeds": source.recipe.seeds if source.recipe else [],
        "summary": dict(_summary(source.seeds)),
    }


def _summary(seeds: list[dict[str, Result]]) -> Iterator[tuple[str, str]]:
    """Yield mean and standard deviation (n - 1) of each score that every seed has."""
    by_seed = [{(name, s.key): s for name, result in seed.items() for s in result.scores} for seed in seeds]
    for name, key in by_seed[0] if by_seed else ():
        of_seeds = [scores[name, key] for scores in by_seed if (name, key) in scores]
        if len(of_seeds) == len(by_seed):
            values = [score.value for score in of_seeds]
            deviation = of_seeds[0].written(stdev(values)) if len(values) > 1 else "unknown"
            yield plain(shorten(f"{name}: {key}")), f"{of_seeds[0].written(mean(values))} ± {deviation}"


def _training(source: Source, base: BaseModel, model: SentenceTransformer) -> dict[str, Any]:
    from fmicl_text.losses import LOSSES
    from fmicl_text.recipe.build import at_dimensions, build_losses, loss_settings

    recipe = source.recipe
    assert recipe is not None and source.manifest is not None
    manifest = source.manifest[1]
    losses = build_losses(recipe, model)
    objective = " and ".join(map(_called, _objectives(recipe)))
    citations = dict.fromkeys(LOSSES[name].citation.strip() for name in ("fmicl", *_objectives(recipe)))
    for name, loss in losses.items():
        trained: Any = at_dimensions(recipe, loss, name)
        citations[trained.citation.strip()] = None
    rows = {
        "base model": base.name,
        "adapter": None if recipe.model.lora is None else recipe.model.lora.described,
        "objective": objective,
        **{
            key: value
            for name, data in recipe.data.sources.items()
            for key, value in _source_rows(
                name, data, loss_settings(recipe, losses[name], name), manifest.measured
            ).items()
        },
        "settings": ", ".join(f"{key}: {value}" for key, value in shorten(manifest.in_effect(recipe.train)).items()),
        "steps": manifest.steps,
        "weights": manifest.weights(recipe.train),
        "seed": manifest.seed,
        "precision": manifest.precision,
    }
    return {
        "trained": True,
        "base": f"[{plain(base.name)}](https://huggingface.co/{base.hub_id})" if base.hub_id else plain(base.name),
        "objective": objective,
        "training": {name: plain(value) for name, value in rows.items() if value not in (None, "")},
        "citations": list(citations),
    }


def _objectives(recipe: Recipe) -> list[str]:
    """Return the names of the objectives that are trained by."""
    return list(dict.fromkeys(recipe.loss_of(source).objective for source in recipe.data.sources))


def _called(objective: str) -> str:
    from fmicl_text.losses import LOSSES

    return "f-MICL" if objective == "fmicl" else LOSSES[objective].__name__.removesuffix("Loss")


def _tags(recipe: Recipe) -> list[str]:
    return ["f-micl" if name == "fmicl" else name for name in _objectives(recipe)]


def _source_rows(name: str, data: DataSection, loss: dict[str, Any], measured: Mapping[str, float]) -> dict[str, Any]:
    """Return rows of a table about a source and its loss; those of one of several have its name before them."""
    before = f"{name} " if name else ""
    of_loss = {key.removeprefix(before): value for key, value in measured.items() if key.startswith(before)}
    rows = {
        **_loss_rows(loss, of_loss),
        "data": _data(data),
        "held out": _heldout(data.heldout),
        "pairs": _PAIRS.get(data.views),
        "augmentation": _settings(data.augment),
        "columns": ", ".join(f"{role}: {column}" for role, column in data.columns.used.items()),
    }
    if isinstance(data, SourceSection):
        prompts = {} if data.prompts is None else data.prompts.model_dump()
        quoted = [f"{key}: {json.dumps(text, ensure_ascii=False)}" for key, text in prompts.items()]  # spaces count
        rows |= {"weight": data.weight, "prompts": ", ".join(quoted)}
    return {f"{name}: {key}" if name else key: value for key, value in rows.items()}


def _loss_rows(settings: dict[str, Any], measured: Mapping[str, float]) -> dict[str, Any]:
    """Return the settings of a loss as rows of a table, those that were measured with their values."""
    rows = {key: value for key, value in settings.items() if value is not False}
    if (dims := rows.pop("matryoshka", None)) is not None:
        rows |= {f"matryoshka {key}": ", ".join(map(str, values)) for key, values in dims.items()}
    rows |= {key: f"{value:.4g}, measured on the first batches" for key, value in measured.items()}
    if (balance := rows.pop("balance_cosine", None)) is not None:
        rows["alpha"] = f"1 / u(s), where push and pull of a pair balance at the cosine s = {balance}"
    return {key.replace("_", " "): value for key, value in rows.items()}


def _settings(section: AugmentSection | None) -> str | None:
    return None if section is None else ", ".join(f"{key}: {value}" for key, value in section.model_dump().items())


def _data(data: DataSection) -> str:
    name = last_part(data.train) if is_local(data.train) else data.train
    return f"{name}, first {data.rows:,} rows" if data.rows else name


def _limits(source: Source, model: SentenceTransformer, language: list[str]) -> Iterator[str]:
    if (longest := longest_text(model)) is not None:
        yield f"Only the first {longest} tokens of a text are read; the rest is cut off."
    if not any(result.scores for result in source.results.values()):
        yield "No results are recorded with this model."
    else:
        yield "Nothing but the results above was measured: no other tasks, domains, or languages."
        yield "The intervals are over test items; another seed of the same training would differ too."
    if source.recipe and source.manifest and (weights := source.manifest[1].weights(source.recipe.train)):
        yield plain(f"The published weights are those of {weights}.")
    if reads_images(model):
        size = image_size(model)
        yield f"It reads the middle square of an image, scaled to {size} by {size} pixels."
    elif not language:
        yield "The languages it is for are not stated."
    if source.recipe is not None and source.recipe.model.is_new:
        yield "It has learned from its training data, biases included."
    else:
        read = "images" if reads_images(model) else "texts"
        yield f"It has learned from the {read} of its base model and its own training data, their biases included."
