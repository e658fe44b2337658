# %% [markdown]
# # How an encoder lies on the sphere, with pictures
#
# A contrastive loss pulls positive pairs together (alignment) and spreads all others (uniformity). f-MICL assumes that
# the density ratio of positive to random pairs is a Gaussian of their distance, so that its logarithm falls in a
# straight line over the squared distance. Both can be measured on pairs that mean the same, here those of STS-B dev.

# %%
import os
from pathlib import Path

from fmicl_text import evaluate, load_recipe, plot_geometry, train

STEPS = int(os.environ.get("EXAMPLE_STEPS", 30))
FOLDER = Path("runs/geometry")

# %% [markdown]
# Three encoders: all-MiniLM-L6-v2, a static embedding that has learned nothing yet, and the same one after a minute of
# f-MICL on Wikipedia's descriptions and summaries.

# %%
RECIPE = f"""
name: static
model: {{base: "static:sample:minilm", embedding_dim: 128}}
data: {{train: sample:wikipedia, columns: {{anchor: description, positive: summary}}}}
loss: {{objective: fmicl}}
train: {{per_device_train_batch_size: 512, learning_rate: 0.1, max_steps: {STEPS}, warmup_steps: 3}}
evaluate: {{during: none, before: true, after: [{{name: geometry, data: sample:stsb}}]}}
"""
FOLDER.mkdir(parents=True, exist_ok=True)
(FOLDER / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
run = train(load_recipe(FOLDER / "recipe.yaml"), FOLDER / "run", overwrite=True)
results = {
    "minilm": evaluate("sample:minilm", "geometry", "sample:stsb").result,
    "static, new": run.before["geometry"],
    "static, trained": run.seeds[0].after["geometry"],
}

# %% [markdown]
# Alignment: mean squared distance of positive pairs, 0 is best. Uniformity: from about -4, evenly spread, to 0, all in
# one point. Sigma is the width of the Gaussian that fits the density ratio; the misfit says how well, in nats.

# %%
FIGURES = (
    "alignment",
    "uniformity",
    "effective rank",
    "sigma of the density ratio",
    "misfit of the density ratio (nats)",
)
print(f"{'':37}" + "".join(f"{name:>17}" for name in results))
for metric in FIGURES:
    print(f"{metric:37}" + "".join(f"{result.score(f'sentences {metric}').value:17.3f}" for result in results.values()))

# %% [markdown]
# The pictures: to the left, how far positive pairs stand out from random ones and from the nearest wrong ones; to the
# right, the log density ratio with the fitted Gaussian, a straight line.

# %%
for name, result in results.items():
    picture = FOLDER / f"{name.replace(', ', '-')}.png"
    plot_geometry(result, picture)
    print(picture)

# %% [markdown]
# To train with the measured width: `FMICLLoss(model, sigma=...)`, or `sigma: ...` under `loss:` in a recipe.
