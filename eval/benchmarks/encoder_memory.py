"""The memory that the recipes of ``recipes/encoders`` need in training: of tensors, and resident on a CPU.

    python -m eval.benchmarks.encoder_memory [RECIPE...]

The bases have their real size and random weights, from transformers' configurations; nothing is downloaded. A case
loads a recipe's encoder, adapters included, and takes two steps of AdamW on as many rows as the recipe encodes at once,
the first on short texts, so that the second finds the optimizer's moments as every later one does, on texts of the
recipe's length. **Tensors** are counted at the recipe's rows by PyTorch's FakeTensorMode, in which every operation
allocates what it does and computes nothing: the most bytes of weights, gradients, moments and activations at one time.
**Resident** memory is measured of steps that do compute, on few rows, in a process of its own, beyond that of the
libraries: it shows how far the count is from what a process takes. Not in either: the batch's embeddings, a few MB, and
the data.

Results go to ``eval/results/encoder_memory.json`` and ``.md``; with names of recipes, those of others stay.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.benchmarks import resident as memory

RESULTS = Path(__file__).parent.parent / "results"
WORDS = ["the", "a", "man", "woman", "dog", "cat", "plays", "sees", "old", "green", "house", "in", "with", "water"]
SHORT, LONG = 4, 256  # words of the texts of the first step, and of the second where there is no limit


@dataclass(frozen=True)
class Base:
    """The architecture of a recipe's base, and how it is measured.

    Attributes:
        config: Name of transformers' configuration; none for a static embedding.
        fields: Its fields.
        dense: Widths of the layers after pooling, from one to the next.
        measured: How many rows are measured, in float32.
    """

    config: str | None
    fields: dict[str, Any] = field(default_factory=dict)
    dense: tuple[int, ...] = ()
    measured: int | None = None


BASES = {
    "encoders/modernbert-base": Base("ModernBertConfig", measured=2),  # whose defaults are the base's
    "encoders/embeddinggemma-300m-lora": Base(
        "Gemma3TextConfig",
        {
            "vocab_size": 262_144,
            "hidden_size": 768,
            "intermediate_size": 1152,
            "num_hidden_layers": 24,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "use_bidirectional_attention": True,
        },
        dense=(768, 3072, 768),
    ),
    "encoders/qwen3-embedding-0.6b-lora": Base(
        "Qwen3Config",
        {
            "vocab_size": 151_669,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "pad_token_id": 0,
        },
    ),
    "encoders/multilingual-e5-small": Base(
        "BertConfig",
        {"vocab_size": 250_037, "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12},
        measured=4,
    ),
    "encoders/static": Base(None, {"vocab_size": 30_522}, measured=2048),
}
"""By recipe: the sizes are those of the files of the bases on the Hub."""


def main() -> None:
    """Count and measure the recipes and write the results, or measure one and print its resident bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(BASES)}; default: all")
    parser.add_argument("--resident", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.resident:
        print(resident(*args.resident))
        return
    file = RESULTS / "encoder_memory.json"
    for name in args.recipes or BASES:
        with tempfile.TemporaryDirectory() as folder:
            make_base(name, Path(folder))
            figures = {precision: figures_of(name, precision, folder) for precision in precisions(name)}
        found = (json.loads(file.read_text())["recipes"] if file.is_file() else {}) | {name: figures}
        document = {
            "command": "python -m eval.benchmarks.encoder_memory",
            "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "peft")},
            "recipes": {name: found[name] for name in BASES if name in found},
        }
        file.write_text(json.dumps(document, indent=1) + "\n")
        (RESULTS / "encoder_memory.md").write_text(markdown(document))


def precisions(name: str) -> list[str]:
    """Return in which types a recipe trains: that of its weights, or bfloat16 autocast and, without it, float32."""
    recipe = _recipe(name)
    return ["bfloat16 autocast", "float32"] if recipe.train.get("bf16") else [recipe.model.dtype]


def make_base(name: str, folder: Path) -> None:
    """Save a base of random weights, over a tokenizer of a few words and as many numbers of tokens as the real one."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    base, recipe = BASES[name], _recipe(name)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    unused = [f"[unused{number}]" for number in range(base.fields["vocab_size"] - len(words) if not base.config else 0)]
    tokenizer = transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(words + unused)})
    tokenizer.save_pretrained(folder)
    if base.config is None:
        return
    config = getattr(transformers, base.config)(**base.fields)
    with tempfile.TemporaryDirectory() as scratch:
        transformers.AutoModel.from_config(config, dtype=getattr(torch, recipe.model.dtype)).save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        modules: list[torch.nn.Module] = [Transformer(scratch, model_kwargs={"dtype": recipe.model.dtype})]
        modules.append(Pooling(config.hidden_size, pooling_mode="mean"))
        modules += [Dense(one, other, bias=False) for one, other in zip(base.dense, base.dense[1:], strict=False)]
        SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)


def figures_of(name: str, precision: str, base: str) -> dict[str, Any]:
    """Return what a recipe needs.

    Args:
        name: The recipe.
        precision: ``float32``, ``bfloat16`` (of weights that are in it), or ``bfloat16 autocast``.
        base: Folder of the base.

    Returns:
        The number of weights and of those that train, ``bytes`` of tensors at the recipe's rows, and ``measured``, in
        float32 alone: the rows, their bytes of tensors, and their resident bytes.
    """
    model = _encoder(name, base)
    found: dict[str, Any] = {
        "weights": sum(weights.numel() for weights in model.parameters()),
        "trained": sum(weights.numel() for weights in model.parameters() if weights.requires_grad),
        "bytes": tensors(name, precision, rows_of(name), base),
    }
    rows = BASES[name].measured
    if rows is not None and precision == "float32":  # bfloat16 may be emulated, which takes minutes
        own = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}  # glibc as it is
        command = [sys.executable, "-m", "eval.benchmarks.encoder_memory", "--resident", name, base]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=own)
        measured = {"tensors": tensors(name, precision, rows, base), "resident": int(finished.stdout.splitlines()[-1])}
        found["measured"] = {"rows": rows, **measured}
    return found


def tensors(name: str, precision: str, rows: int, base: str) -> int:
    """Return the most bytes that tensors have at one time."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    model, fake = _encoder(name, base), FakeTensorMode(allow_non_fake_inputs=True)
    for module in model.modules():
        for kind in (module._parameters, module._buffers):
            kind.update({key: fake.from_tensor(tensor) for key, tensor in kind.items() if tensor is not None})
    allocated = _allocated()
    for tensor in (*model.parameters(), *model.buffers()):
        allocated.note(tensor)
    with fake, allocated:
        _two_steps(name, precision, rows, model, fake.from_tensor)
    return int(allocated.most)


def resident(name: str, base: str) -> int:
    """Return the most resident bytes of this process in steps that compute, in float32, beyond those of libraries."""
    import peft  # noqa: F401  (counted with the libraries)
    import sentence_transformers  # noqa: F401

    rows = BASES[name].measured
    assert rows is not None
    before = memory.resident()
    model = _encoder(name, base)
    memory.forget_peak()
    _two_steps(name, "float32", rows, model, lambda tensor: tensor)
    return int((memory.peak() - before) * 2**20)


def _encoder(name: str, base: str) -> Any:
    from fmicl_text.encoders.text import load_encoder

    recipe = _recipe(name)
    place = base if BASES[name].config else f"static:{base}"
    model = load_encoder(recipe.model.model_copy(update={"base": place})).to("cpu").train()
    if recipe.train.get("gradient_checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})  # as the trainer does
    return model


def _two_steps(name: str, precision: str, rows: int, model: Any, given: Callable[[Any], Any]) -> None:
    """Take two steps; of a recipe without mini-batches, both columns of a batch are encoded at once."""
    import torch

    recipe = _recipe(name)
    texts = rows if recipe.loss.mini_batch_size else 2 * rows
    optimizer = torch.optim.AdamW([weights for weights in model.parameters() if weights.requires_grad], fused=True)
    for words in (SHORT, recipe.model.max_seq_length or LONG):
        text = " ".join(WORDS[i % len(WORDS)] for i in range(words))
        features = model.preprocess([text] * texts)
        inputs = {key: given(value) if torch.is_tensor(value) else value for key, value in features.items()}
        context: AbstractContextManager[Any] = nullcontext()
        if "autocast" in precision:
            context = torch.autocast("cpu", torch.bfloat16)
        with context:
            vectors = model(inputs)["sentence_embedding"]  # (texts, D)
        vectors.float().square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def _allocated() -> Any:
    """Return a mode that counts the bytes of all storages that operations make, until they are freed."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.weak import WeakIdKeyDictionary

    class Allocated(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.most = 0
            self.known = WeakIdKeyDictionary()

        def note(self, tensor: Any) -> None:
            storage = tensor.untyped_storage()
            if storage not in self.known:
                self.known[storage] = True
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.forget, storage.nbytes())

        def forget(self, size: int) -> None:
            self.now -= size

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = operation(*args, **(kwargs or {}))
            for leaf in tree_leaves(made):
                if hasattr(leaf, "untyped_storage"):
                    self.note(leaf)
            return made

    return Allocated()


def rows_of(name: str) -> int:
    """Return how many rows a recipe encodes at once."""
    recipe = _recipe(name)
    return int(recipe.loss.mini_batch_size or recipe.train["per_device_train_batch_size"])


def markdown(document: dict[str, Any]) -> str:
    """Return the page of results."""
    versions = document["versions"]
    lines = [
        "# Memory of the recipes for encoders",
        "",
        f"`{document['command']}`",
        "",
        "GB (10^9 bytes) in a training step, at the recipe's length of texts; bases of the real size with random "
        f"weights; torch {versions['torch']}, transformers {versions['transformers']}, peft {versions['peft']}. "
        "Tensors: the most that weights, gradients, AdamW's moments and activations take at one time, counted at as "
        "many rows as the recipe encodes at once. Measured: the most resident memory of a step on a CPU, beyond that "
        "of the libraries, on a few rows, and what is counted of tensors there: a process takes more than its tensors. "
        "A CPU without instructions for bfloat16, as the one that this was measured on, trains recipes with "
        "`bf16: true` in float32; bfloat16, which it emulates, is counted alone. On a GPU it has not been "
        "measured.",
        "",
        "| recipe | weights | of which train | in | rows | tensors | measured |",
        "|---|---:|---:|---|---:|---:|---|",
    ]
    for name, cases in document["recipes"].items():
        for precision, found in cases.items():
            cells = [name, *(f"{found[key] / 1e6:,.1f}M" for key in ("weights", "trained")), precision]
            cells += [f"{rows_of(name):,}", _gb(found["bytes"])]
            if few := found.get("measured"):
                cells.append(f"{_gb(few['resident'])} ({_gb(few['tensors'])} of tensors) at {few['rows']:,} rows")
            else:
                cells.append("")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _gb(number: float) -> str:
    return f"{number / 1e9:.2f}"


def _recipe(name: str) -> Any:
    from fmicl_text.recipe.file import load_recipe

    return load_recipe(name)


if __name__ == "__main__":
    main()
