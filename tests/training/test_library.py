"""Private methods of libraries: what they must look like, and that no other is overridden."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from sentence_transformers import SentenceTransformerTrainer

import fmicl_text

OVERRIDDEN = {"fmicl_text.training.trainer.ContrastiveTrainer": {"_load_from_checkpoint"}}
"""By an adapter's trainer, and called by no other name; its signature is tested below."""

OF_EXTRAS = {"mteb", "optuna", "peft", "kornia"}
"""Libraries that need not be installed, as they are not with the lowest versions of the others."""


def test_weights_are_loaded_by_a_method_of_one_argument():
    """If it changes, ``load_best_model_at_end`` and adapters break: see fmicl_text/training/library.py."""
    signature = inspect.signature(SentenceTransformerTrainer._load_from_checkpoint)
    assert list(signature.parameters) == ["self", "checkpoint_path"]


def test_no_other_private_method_of_a_library_is_overridden():
    """A method of the package with an underscored name would silently replace its parent's."""
    for module in pkgutil.walk_packages(fmicl_text.__path__, "fmicl_text."):
        if module.name == "fmicl_text.__main__":
            continue
        try:
            found = importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert error.name in OF_EXTRAS, error
            continue
        for kind in vars(found).values():
            if inspect.isclass(kind) and kind.__module__ == module.name:
                foreign = [parent for parent in kind.__mro__[1:] if not parent.__module__.startswith("fmicl_text")]
                own = {name for name, value in vars(kind).items() if inspect.isfunction(value)}
                own = {name for name in own if name.startswith("_") and not name.startswith("__")}
                replaced = {name for parent in foreign for name in own & vars(parent).keys()}
                name = f"{module.name}.{kind.__name__}"
                assert replaced == OVERRIDDEN.get(name, set()), f"{name}: {sorted(replaced)}"
