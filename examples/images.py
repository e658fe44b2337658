# %% [markdown]
# # An encoder of images, without labels
#
# The same losses train encoders of images: a positive pair is two random changes of one image. This trains a small
# ResNet from nothing on scikit-learn's handwritten digits, classifies other digits by their nearest neighbours, and
# shows which digits lie nearest. It needs `pip install "fmicl-text[vision]"`, and takes some minutes on a CPU.

# %%
import os
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image
from sentence_transformers import SentenceTransformer, util

from fmicl_text import evaluate, load_recipe, train
from fmicl_text.data.samples import digits_rows

EPOCHS = int(os.environ.get("EXAMPLE_EPOCHS", 20))
FOLDER = Path("runs/images")

# %% [markdown]
# The recipe is a shipped one; `fmicl recipe show vision-quickstart` prints it. It is evaluated with ten labels a class,
# in 20 draws of these, beside two baselines: what is not above raw pixels and random weights was not learned.

# %%
KNN = "[{name: knn, train: sample:digits, k: 5, labels_per_class: 10, draws: 20, baselines: true}]"
recipe = load_recipe("vision-quickstart", [f"train.num_train_epochs={EPOCHS}", f"evaluate.after={KNN}"])
result = train(recipe, FOLDER, overwrite=True)
for name, row in result.summary().items():
    print(f"{name}: {row['mean']:.1f}")

# %% [markdown]
# Any evaluation runs by itself too: here the nearest neighbours with all labels, rather than ten a class.

# %%
accuracy = evaluate(str(result.model), "knn", train="sample:digits", k=5).result.score("kNN")
print(f"with all labels: {accuracy.value:.1f} ({accuracy.ci95[0]:.1f} to {accuracy.ci95[1]:.1f})")

# %% [markdown]
# The saved model is a plain one, which `SentenceTransformer` loads. One digit of each class, and its five nearest.

# %%
model = SentenceTransformer(str(result.model))
rows = digits_rows("test")
images = [Image.fromarray(row["image"]).convert("RGB") for row in rows]
labels = np.array([row["label"] for row in rows])
embeddings = model.encode(images)
nearest = util.semantic_search(embeddings, embeddings, top_k=6)  # the first is the image itself

figure, places = plt.subplots(10, 6, figsize=(4, 7), layout="constrained")
for digit, line in enumerate(places):
    query = int(np.flatnonzero(labels == digit)[0])
    for place, hit in zip(line, nearest[query], strict=True):
        place.imshow(images[hit["corpus_id"]])
        place.axis("off")
figure.savefig(FOLDER / "neighbours.png", dpi=100)
right = [
    np.mean([labels[hit["corpus_id"]] == labels[number] for hit in hits[1:]]) for number, hits in enumerate(nearest)
]
print(f"of the five nearest, {100 * np.mean(right):.1f} % are the same digit; {FOLDER / 'neighbours.png'}")
