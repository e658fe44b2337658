"""Private methods of libraries: what they must look like, and that there are no others."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from sentence_transformers import SentenceTransformerTrainer

import fmicl_text
from fmicl_text.training.trainer import ContrastiveTrainer


def test_weights_are_loaded_by_a_method_of_one_argument():
    """If it changes, ``load_best_model_at_end`` breaks: see fmicl_text/training/library.py."""
    signature = inspect.signature(SentenceTransformerTrainer._load_from_checkpoint)
    assert list(signature.parameters) == ["self", "checkpoint_path"]


def test_the_trainer_overrides_documented_methods_only():
    inherited = {name for parent in ContrastiveTrainer.__mro__[1:] for name in vars(parent)}
    own = {name for name, value in vars(ContrastiveTrainer).items() if inspect.isfunction(value)}
    private = {name for name in own if name.startswith("_") and not name.startswith("__")}
    assert not private & inherited, "a method of this name would replace the parent's"


def test_training_uses_no_other_private_name_of_a_library():
    """Every underscored attribute is one of this package, defined in the module that uses it."""
    for file in (Path(fmicl_text.__file__).parent / "training").glob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
        used = {node.attr for node in names if not node.attr.startswith("__")}
        own = {node.attr for node in names if isinstance(node.ctx, ast.Store)}
        own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        allowed = {"_load_from_checkpoint"} if file.name == "library.py" else set()
        assert used - own == allowed, f"{file.name}: {sorted(used - own - allowed)}"
