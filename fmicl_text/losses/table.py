"""The table of the losses in ``README.md``, made from the declarations: ``python -m fmicl_text.losses.table``."""

from __future__ import annotations

from pathlib import Path

from fmicl_text.files import write_text
from fmicl_text.losses.registry import objectives

README = Path(__file__).with_name("README.md")
_BEGIN, _END = "<!-- table of the losses, made by `python -m fmicl_text.losses.table` -->", "<!-- end of the table -->"


def table() -> str:
    """Return a row for each objective, and for each variant of one."""
    rows = [("name, class", "formula (to be minimised)", "reduction", "needs", "when", "source"), ("---",) * 6]
    for name, objective in objectives().items():
        source = f"{objective.paper.source}, [{objective.paper.arxiv}](https://arxiv.org/abs/{objective.paper.arxiv})"
        described = objective.formula, objective.reduction, objective.needs, objective.when
        rows.append((f"`{name}` `{objective.loss_name}`", *described, source))
        for variant in objective.variants:
            setting = f"`{name}`, `{variant.setting}`"
            rows.append((setting, variant.formula, variant.reduction, objective.needs, variant.when, variant.source))
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def main() -> None:
    """Replace the table in the file."""
    before, _, rest = README.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    write_text(README, f"{before}{_BEGIN}\n\n{table()}\n{_END}{after}")


if __name__ == "__main__":
    main()
