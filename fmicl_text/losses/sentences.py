"""The losses as modules of sentence-transformers: columns of features in, named terms out, gradient cache included.

Any of them takes the place of ``MultipleNegativesRankingLoss(model)`` in a ``SentenceTransformerTrainer``.

Shapes: ``B`` rows of a batch, ``D`` dimensions.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Union, get_args, get_origin

import torch
from sentence_transformers.base.losses import CachedLossMixin
from torch import Tensor, nn

from fmicl_text.errors import InputError
from fmicl_text.losses import adaptive_layers
from fmicl_text.losses.contrastive import ContrastiveLoss
from fmicl_text.losses.features import Features, twice
from fmicl_text.losses.identities import IDENTITY, identities_of_features
from fmicl_text.losses.length_groups import BATCH_NORMS, by_length, encode
from fmicl_text.losses.objective import OF_RECIPES, Objective
from fmicl_text.losses.ranking import instead_of_scale
from fmicl_text.losses.terms import Terms

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class _Passed(NamedTuple):
    """What goes through the gradient cache with the embeddings of a batch, one tensor per column."""

    identities: list[Tensor] | None  # (B,) or (B, K) each; one for dropout views
    keys: list[Tensor] | None  # of anchors and positives by the moving average, (B, D) each
    places: Sequence[Tensor | None] = ()  # of each column's rows among those that the cache encodes, (B,)


class SentenceLoss(CachedLossMixin, ContrastiveLoss):
    """An objective over a sentence encoder.

    Inputs, recognised by the number of columns:

    - one column: **dropout views**. The texts are tokenised once and encoded in one forward pass of 2B rows;
      the two outputs of a text differ by their dropout masks and form the positive pair (SimCSE).
    - (anchor, positive) pairs.
    - (anchor, positive, negative_1, ..., negative_n) tuples; every negative is offered to every anchor.

    Data that occur more than once in a batch are never each other's negatives, see
    :mod:`fmicl_text.losses.identities`.

    Args:
        model: The encoder.
        objective: The objective and its settings, such as ``InfoNCE(temperature=0.1)``.

    Raises:
        ValueError: If settings overflow together, if a head or a queue is wanted and the encoder does not know how
            many dimensions it has, or if ``mini_batch_size`` is given and there is a static embedding or a BatchNorm.
        TypeError: If ``model`` is no encoder of texts but its name, a part of one, or a cross-encoder.
    """

    def __init__(self, model: SentenceTransformer, objective: Objective) -> None:
        _require_encoder(model, type(self).__name__)
        dimensions = _dimensions(model) if objective.needs_dimensions else None
        super().__init__(objective, encoder=model, dimensions=dimensions)
        self.model: SentenceTransformer = model
        self.mini_batch_size = objective.mini_batch_size  # the mixin reads it only if it is a number
        self.uses_gradient_cache = objective.mini_batch_size is not None
        if self.uses_gradient_cache and any(isinstance(part, BATCH_NORMS) for part in self.modules()):
            raise ValueError(
                "mini_batch_size must be None with BatchNorm, in the encoder or in projector and predictor: its "
                "statistics are of the rows that are encoded together, so mini-batches would give another loss"
            )
        self._calculated: list[tuple[Terms, list[Tensor]]] = []
        self._known: list[tuple[Features, Tensor | None, Features | None]] = []
        self._warned_of_labels = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to the last batch, whose tensors can neither be pickled nor copied."""
        return {**self.__dict__, "_known": [], "_calculated": []}

    @property
    def citation(self) -> str:
        """BibTeX of the paper, for the model card."""
        return self.objective.paper.bibtex

    def forward(  # type: ignore[override]  # a batch is given by what the encoder reads
        self, sentence_features: Iterable[Features], labels: Tensor | None = None
    ) -> Terms:
        """Encode the columns and return the objective's terms; the trainer sums and logs them.

        Args:
            sentence_features: What the encoder reads of each column; with ``identity`` in it, those identities count.
            labels: Not used: a contrastive objective has none. A warning says so, once.

        Raises:
            ValueError: If the encoder reads a column as one run of tokens and there is only one
                column, or a ``mini_batch_size``; if the processes that share a batch have different numbers of rows.
            NonFiniteEmbeddings: If the encoder gives NaN or infinity, on this process or one it shares a batch with.
        """
        self._note_labels(labels)
        columns = list(sentence_features)
        if self.training != self.model.training:  # trainers switch only the encoder to training or evaluation
            self.train(self.model.training)
        self.begin(self.model)
        if any("offsets" in column for column in columns):
            if len(columns) == 1:
                raise ValueError("dropout views need an encoder with dropout; a static embedding has none: give pairs")
            if self.uses_gradient_cache:
                raise ValueError(
                    "mini_batch_size must be None for a static embedding, also for one that a Router chooses: its "
                    "texts are one run of tokens, and need little memory"
                )
        identities = self._identities(columns)
        if self.objective.queue and identities is None:
            raise ValueError(
                "a queue needs to know which of its rows are in the batch, which the inputs of this encoder do not "
                "tell: train with fmicl_text.ContrastiveTrainer, which knows it from the data"
            )
        passed = _Passed(identities, None if self.queue is None else self.queue.keys(columns))
        if self.uses_gradient_cache:
            return self._forward_cached(columns * 2 if len(columns) == 1 else columns, passed)
        if len(columns) == 1:
            both = encode(self.model, self._doubled(columns[0]))  # (2B, D)
            return self.of_vectors(list(both.chunk(2)), passed.identities, passed.keys)
        return self.of_vectors([encode(self.model, column) for column in columns], passed.identities, passed.keys)

    def _note_labels(self, labels: Tensor | None) -> None:
        if labels is not None and not self._warned_of_labels:
            logger.warning("the label or score column is not used: a contrastive objective learns from the texts alone")
            self._warned_of_labels = True

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Terms:
        """Return the objective's terms from the columns' embeddings, each ``(B, D)``.

        Args:
            embeddings: Anchors, positives, then explicit negatives. They need not be normalised.
            labels: As in :meth:`forward`.

        Raises:
            ValueError: If there are fewer than two columns; if columns differ in shape; if the loss has a
                queue.
        """
        self._note_labels(labels)
        if self.queue is not None:
            raise ValueError("a loss with a queue needs the texts, for its momentum encoder, not their embeddings")
        if self.training != self.model.training:
            self.train(self.model.training)
        self.begin(self.model)
        return self.of_vectors(embeddings, None, None)

    def calculate_loss(self, reps: list[list[Tensor]], labels: Any = None, *, with_backward: bool = False) -> Tensor:
        """Return the loss of a batch encoded in mini-batches, for sentence-transformers' gradient cache.

        Args:
            reps: Embeddings ``(b, D)`` of each mini-batch of each column; they get their gradients here.
            labels: Not labels but what :meth:`forward` found beside the embeddings: the cache passes it through.
            with_backward: Whether to compute the gradients.
        """
        passed = labels or _Passed(None, None)
        columns = [torch.cat(column) for column in reps]  # (B, D) each
        if passed.places:
            columns = [c if p is None else c[p] for c, p in zip(columns, passed.places, strict=True)]
        terms = self.of_vectors(columns, passed.identities, passed.keys)
        loss = torch.stack(list(terms.values())).sum()
        own = list(self.own_parameters()) if with_backward else []
        slopes: Sequence[Tensor | None] = []
        if with_backward:
            leaves = list(chain.from_iterable(reps))
            gradients = torch.autograd.grad(loss, [*leaves, *own], allow_unused=True)
            for leaf, gradient in zip(leaves, gradients, strict=False):
                leaf.grad = gradient
            slopes = gradients[len(leaves) :]
        self._calculated.append(
            (
                Terms({name: term.detach() for name, term in terms.items()}),
                [torch.zeros_like(p) if slope is None else slope for p, slope in zip(own, slopes, strict=True)],
            )
        )
        return loss.detach() if with_backward else loss

    def _forward_cached(self, columns: list[Features], passed: _Passed) -> Terms:
        """Run the gradient cache, and connect what it leaves out: the terms' names and the loss's own parameters."""
        self._refuse_layers_under_the_cache()
        self._calculated = []
        ordered = [by_length(self.model, column) for column in columns]  # the library cuts off padding by mini-batch
        passed = passed._replace(places=[places for _, places in ordered])
        loss = CachedLossMixin.forward_cached(self, [column for column, _ in ordered], passed)  # not read as labels
        calculated, self._calculated = self._calculated, []
        if "calculate_loss" in vars(self):  # MatryoshkaLoss put its own in place, whose weights only it knows
            if any(slopes for _, slopes in calculated):
                raise ValueError(
                    "inside MatryoshkaLoss, mini_batch_size does not go with what the loss learns: "
                    "drop learn_kernel or head"
                )
            return Terms({"matryoshka": loss})
        [(terms, slopes)] = calculated
        slope = loss - loss.detach()  # a zero, whose gradient is the encoder's
        for parameter, own in zip(self.own_parameters(), slopes, strict=False):
            slope = slope + ((parameter - parameter.detach()) * own).sum()
        *_, last = terms
        return Terms(terms | {last: terms[last] + slope})

    def _refuse_layers_under_the_cache(self) -> None:
        """Refuse AdaptiveLayerLoss, whose own forward pass is gone when the cache encodes again."""
        if adaptive_layers.are_read(self.model):
            raise ValueError(
                "mini_batch_size must be None inside AdaptiveLayerLoss and Matryoshka2dLoss, which cannot work with "
                "the gradient cache"
            )

    def _identities(self, columns: list[Features]) -> list[Tensor] | None:
        """Return the identities of each column, int64 ``(B,)`` or ``(B, K)``, or ``None`` if one has none.

        A wrapper such as ``AdaptiveLayerLoss`` calls the loss several times with the very same features, in which the
        encoder has left its outputs, and masks without the prompt; so the identities of the first call are kept.
        """
        if [id(column) for column in columns] != [id(known) for known, *_ in self._known]:
            given = [column.pop(IDENTITY, None) for column in columns]  # the encoder must not see it
            if not all(isinstance(identity, Tensor) for identity in given):
                special = _special_tokens(self.model)
                given = [identities_of_features(column, special) for column in columns]
            self._known = [(column, identity, None) for column, identity in zip(columns, given, strict=True)]
        found = [identity for _, identity, _ in self._known if identity is not None]
        return found if len(found) == len(columns) else None

    def _doubled(self, column: Features) -> Features:
        [(known, identity, doubled)] = self._known
        if doubled is None:
            doubled = twice(column)
            self._known = [(known, identity, doubled)]
        return doubled


class _Bound(SentenceLoss):
    """A loss class of one objective, see :func:`bound`."""

    declaration: ClassVar[type[Objective]]

    # Without a model, the parent refuses it by the name of the class, which Python would not give.
    def __init__(self, model: SentenceTransformer = None, *arguments: Any, **settings: Any) -> None:
        cls, name = self.declaration, type(self).__name__
        if arguments and isinstance(arguments[0], int | float) and not isinstance(arguments[0], bool):
            raise InputError(f"{name}: {instead_of_scale(arguments[0], cls)}")
        if len(arguments) > len(cls.positional):
            takes = ", ".join(("model", *cls.positional))
            raise TypeError(f"{name} takes {takes} by position, got {1 + len(arguments)} positional arguments")
        given = dict(zip(cls.positional, arguments, strict=False))
        if twice_given := given.keys() & settings.keys():
            raise TypeError(f"{name} got multiple values for argument {twice_given.pop()!r}")
        super().__init__(model, cls.of(name, given | settings))


def bound(declaration: type[Objective], module: str) -> type[SentenceLoss]:
    """Return the loss class of an objective, which takes the encoder and the objective's settings.

    Args:
        declaration: The objective.
        module: Where the class can be imported from by its name, for pickle.
    """
    fields = declaration.model_fields
    order = [*declaration.positional, *declaration.own_fields(), *fields]
    settings = [name for name in dict.fromkeys(order) if name not in OF_RECIPES]
    parameters = [inspect.Parameter("model", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for name in settings:
        by_position = name in declaration.positional
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if by_position else inspect.Parameter.KEYWORD_ONLY
        default = fields[name].default
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=_plain(fields[name].annotation)))
    described = {
        "declaration": declaration,
        "citation": declaration.paper.bibtex,
        "__doc__": _documentation(declaration, settings),
        "__signature__": inspect.Signature(parameters),
        "__module__": module,
        "__qualname__": declaration.loss_name,
    }
    return type(declaration.loss_name, (_Bound,), described)


def _plain(annotation: Any) -> Any:
    """Return a type without its notes on range and defaults."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(map(_plain, get_args(annotation)))]  # noqa: UP007  # built from a tuple
    return annotation


def _documentation(declaration: type[Objective], settings: list[str]) -> str:
    lines = [
        inspect.cleandoc(declaration.__doc__ or ""),
        "",
        f"{declaration.paper.source}, arXiv {declaration.paper.arxiv}.",
        "See :class:`fmicl_text.losses.sentences.SentenceLoss` for the inputs.",
        "",
        "Args:",
        "    model: The encoder.",
    ]
    for name in settings:
        lines.append(f"    {name}: {declaration.described(name)}")
    lines += [
        "",
        "Raises:",
        "    ValueError: If a setting is unknown or out of range, or settings contradict each other.",
    ]
    return "\n".join(lines)


def _require_encoder(model: Any, loss: str) -> None:
    """Refuse what does not encode sentences, by the name of the loss.

    Raises:
        TypeError: With what would be right, where that is known.
    """
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import InputModule
    from transformers import PreTrainedModel

    got, instead = repr(model), ""
    if isinstance(model, str):
        instead = f'; load it: {loss}(SentenceTransformer("{model}"))'
    elif isinstance(model, nn.Module):
        inner = getattr(model, "module", model)
        got = f"a {type(inner).__name__}"
        if isinstance(inner, CrossEncoder):
            instead = ", which scores pairs of texts and gives no embeddings; it trains with its own losses"
        elif isinstance(inner, PreTrainedModel):
            instead = ' of transformers; load its folder or Hub id: SentenceTransformer("...")'
        elif isinstance(inner, InputModule):
            instead = ", which is a part of one: give the whole model"
        else:
            return
    raise TypeError(f"{loss}: model must be a SentenceTransformer, got {got}{instead}")


def _dimensions(model: SentenceTransformer) -> int:
    """Return how many dimensions the encoder's forward pass gives, which ``truncate_dim`` does not shorten.

    Raises:
        ValueError: If the encoder does not know.
    """
    if hasattr(model, "truncate_embeddings"):
        with model.truncate_embeddings(None):
            dimensions = model.get_embedding_dimension()
    else:
        dimensions = model.get_embedding_dimension()
    if dimensions is None:
        raise ValueError("the encoder does not say how many dimensions it has, which a head and a queue need to know")
    return dimensions


def _special_tokens(model: nn.Module) -> set[int]:
    """Return the ids of the tokens that the encoder's tokenizer may put at the start of a text."""
    tokenizer = getattr(getattr(model, "module", model), "tokenizer", None)
    ids = (getattr(tokenizer, f"{name}_token_id", None) for name in ("cls", "bos"))
    return {number for number in ids if number is not None}
