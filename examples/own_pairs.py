# %% [markdown]
# # From your own pairs to a better search
#
# You have a file of pairs, such as questions and the texts that answer them, and a search over those texts that is not
# good enough. This takes the file, writes a recipe for it, trains, and searches with the encoder from before and from
# after. It runs on a CPU, in some minutes, without the Hugging Face Hub.

# %%
import csv
import os
from pathlib import Path

from sentence_transformers import SentenceTransformer, util

from fmicl_text import load_recipe, new_recipe, train
from fmicl_text.data.samples import minilm_path, wikipedia_rows

ROWS = int(os.environ.get("EXAMPLE_ROWS", 800))
FOLDER = Path("runs/own-pairs")

# %% [markdown]
# The file here has short descriptions and summaries of Wikipedia's articles. Yours may be csv, tsv, jsonl or parquet,
# and its columns may have any names.

# %%
FOLDER.mkdir(parents=True, exist_ok=True)
with (FOLDER / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
    pairs = csv.writer(file)
    pairs.writerow(["question", "answer"])
    pairs.writerows((row["description"], row["summary"]) for row in wikipedia_rows("train")[:ROWS])

# %% [markdown]
# A recipe for it: `fmicl recipe new pairs.csv` writes the same. Each choice has its reason beside it, and a tenth of
# the pairs is held out to measure with.

# %%
text = new_recipe(str(FOLDER / "pairs.csv"))
(FOLDER / "pairs.yaml").write_text(text, encoding="utf-8")
print(text)

# %% [markdown]
# Train. What is set here goes before what the file says: short texts and two epochs, so that this takes minutes, and a
# larger part held out, as the scores of a hundred pairs have wide intervals.

# %%
QUICKER = [
    "model.max_seq_length=64",
    "data.heldout=0.3",
    "train.num_train_epochs=2",
    "train.warmup_steps=2",
    "evaluate.every_steps=8",
]
recipe = load_recipe(FOLDER / "pairs.yaml", QUICKER)
result = train(recipe, FOLDER / "run", overwrite=True)
before = result.before["heldout"]
for score in result.seeds[0].after["heldout"].scores:
    low, high = score.ci95
    was = before.score(score.key).value
    print(f"held-out pairs, {score.metric}: {was:.1f} before, {score.value:.1f} after ({low:.1f} to {high:.1f})")

# %% [markdown]
# Search among texts that neither encoder has seen, and look at the queries whose own text has moved up most.

# %%
unseen = wikipedia_rows("heldout")[: ROWS // 3]
queries, texts = [row["description"] for row in unseen], [row["summary"] for row in unseen]


def ranks(encoder: SentenceTransformer) -> list[int]:
    """Return at which place each query finds its own text, 1 for the first."""
    found = util.cos_sim(encoder.encode_query(queries), encoder.encode_document(texts))  # (queries, texts)
    return (1 + (found > found.diagonal().unsqueeze(1)).sum(dim=1)).tolist()


old, new = (ranks(SentenceTransformer(str(path))) for path in (minilm_path(), result.model))
for number in sorted(range(len(queries)), key=lambda number: 1 / old[number] - 1 / new[number])[:3]:
    print(f"{queries[number]!r}: its text came {old[number]}., now {new[number]}.: {texts[number][:60]}...")
print(f"found first: {old.count(1)} of {len(queries)} before, {new.count(1)} after")
