# %% [markdown]
# # Comparing objectives fairly
#
# One run each says little: another seed may turn the result round. Here every objective has the same data, steps,
# learning rate and seeds, and the differences are tested on the same held-out queries, by a paired bootstrap with
# Holm's adjustment for the number of scores. A static embedding trains in seconds, so this takes some minutes on a CPU;
# `base: sample:minilm` in its place is a transformer.

# %%
import os
from pathlib import Path

from fmicl_text import load_recipe, read_report, train, write_report

SEEDS = int(os.environ.get("EXAMPLE_SEEDS", 3))
STEPS = int(os.environ.get("EXAMPLE_STEPS", 30))
FOLDER = Path("runs/compare-objectives")

# %%
RECIPE = f"""
name: objective
model: {{base: "static:sample:minilm", embedding_dim: 128}}
data:
  train: sample:wikipedia
  heldout: sample:wikipedia
  columns: {{anchor: description, positive: summary}}
loss: {{objective: infonce}}
train: {{per_device_train_batch_size: 512, learning_rate: 0.1, max_steps: {STEPS}, warmup_steps: 3}}
evaluate: {{during: none, after: [heldout]}}
seeds: {[*range(SEEDS)]}
"""
FOLDER.mkdir(parents=True, exist_ok=True)
(FOLDER / "recipe.yaml").write_text(RECIPE, encoding="utf-8")

# %% [markdown]
# The width of the kernel and the temperature of InfoNCE are the same quantity (`sigma² = temperature`), so both sides
# have the same one. To tune each side with equal effort first, see `fmicl sweep`.

# %%
OBJECTIVES = {
    "infonce": "{objective: infonce, temperature: 0.07}",
    "fmicl-kl": "{objective: fmicl, divergence: kl, sigma: 0.2646}",  # InfoNCE itself, so the test must find nothing
    "fmicl-js": "{objective: fmicl, divergence: js, sigma: 0.2646}",
    "fmicl-pearson": "{objective: fmicl, divergence: pearson, sigma: 0.2646}",
}
for name, loss in OBJECTIVES.items():
    recipe = load_recipe(FOLDER / "recipe.yaml", [f"name={name}", f"loss={loss}"])
    result = train(recipe, FOLDER / name, overwrite=True)
    for score, row in result.summary().items():
        print(f"{name:14}{score}: {row['mean']:.2f} ± {row['sd']:.2f} over {SEEDS} seeds")

# %% [markdown]
# The first run is what the others are compared with. A difference is called better or worse only if its adjusted
# p value is below 0.05.

# %%
report = read_report([FOLDER / name for name in OBJECTIVES])
for comparison in report.comparisons:
    for row in comparison.rows:
        low, high = row.ci95
        print(
            f"{comparison.run} minus {comparison.other}, {row.score}: {row.difference:+.2f} "
            f"({low:+.2f} to {high:+.2f}), p {row.p_value:.3f}: {row.verdict}"
        )

# %% [markdown]
# The same on one page, with the curves of training; PNGs of the pictures lie beside it.

# %%
print(write_report(report, FOLDER, overwrite=True))
