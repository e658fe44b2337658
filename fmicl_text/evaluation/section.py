"""The ``evaluate:`` section of a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PositiveInt, SerializeAsAny, WithJsonSchema

from fmicl_text.evaluation.kind import Evaluation
from fmicl_text.evaluation.registry import evaluation
from fmicl_text.section import Conflict, Section

AUTO: Literal["auto"] = "auto"


def _during(asked: Any) -> Any:
    return {None: None, "none": None, AUTO: AUTO}[asked] if asked in (None, "none", AUTO) else evaluation(asked)


_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        ]
    }
)


class EvaluateSection(Section):
    """What to measure, and when: names of suites, files, or mappings of a name and its options."""

    during: Annotated[SerializeAsAny[Evaluation] | Literal["auto"] | None, BeforeValidator(_during), _SCHEMA] = AUTO
    """What chooses the best checkpoint; auto: heldout if there are such pairs, stsb-dev if `data` has it, else none."""
    every_steps: PositiveInt = 125
    """Steps between two scores during training."""
    before: bool = False
    """Also measure everything in `after` before training."""
    after: list[Annotated[SerializeAsAny[Evaluation], BeforeValidator(evaluation), _SCHEMA]] = []
    """What to measure at the end: suites, heldout, geometry, transfer, mteb, images, files of suites or pairs."""
    dims: list[PositiveInt] = []
    """Also measure everything in `after` on so many of an embedding's first numbers, such as [256, 64]."""
    data: str | None = None
    """Of STS and transfer tasks, a folder or sample:stsb, default the Hub; of images any source of them."""

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse an evaluation named twice, and a metric outside of `during`."""
        times = Counter(asked.result_name for asked in self.after)
        if twice := [asked.name for asked in self.after if times[asked.result_name] > 1]:
            yield ("after",), f"has something twice: {', '.join(twice)}"
        if len(set(self.dims)) < len(self.dims):
            yield ("dims",), f"must differ, got {self.dims}"
        if self.dims and not self.after:
            yield ("dims",), "needs evaluate.after, what is to be measured"
        if any(asked.metric for asked in self.after):
            yield ("after",), "reports every metric; `metric` belongs in evaluate.during, where it chooses a checkpoint"
