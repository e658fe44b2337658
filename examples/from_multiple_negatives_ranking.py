# %% [markdown]
# # From MultipleNegativesRankingLoss to f-MICL, in a script that you have
#
# A usual training script of sentence-transformers: hard negatives, prompts, Matryoshka. Only the line of the loss
# changes. On several GPUs, as one batch of all rows: `accelerate launch examples/from_multiple_negatives_ranking.py`.

# %%
import os

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from sentence_transformers.util import mine_hard_negatives

from fmicl_text import FMICLLoss
from fmicl_text.data.samples import minilm_path, wikipedia_rows

ROWS = int(os.environ.get("EXAMPLE_ROWS", 800))
PROMPTS = {"query": "query: ", "document": "passage: "}

# %%
model = SentenceTransformer(str(minilm_path()), prompts=PROMPTS)
model.max_seq_length = 64
pairs = Dataset.from_list(
    [{"query": row["description"], "document": row["summary"]} for row in wikipedia_rows("train")[:ROWS]]
)

# %% [markdown]
# A hard negative for each pair; the margin leaves out texts that are as near as the right one, which may be right.

# %%
triplets = mine_hard_negatives(
    pairs,
    model,
    num_negatives=1,
    relative_margin=0.05,
    output_format="n-tuple",
    query_prompt_name="query",
    corpus_prompt_name="document",
    verbose=False,
)
print(triplets)

# %% [markdown]
# The line that changes. A description that belongs to several articles is known by its text, so none of their summaries
# is its negative; MultipleNegativesRankingLoss would push them away.

# %%
# loss = MultipleNegativesRankingLoss(model)
loss = FMICLLoss(model)
loss = MatryoshkaLoss(model, loss, matryoshka_dims=[384, 128, 32])

# %%
unseen = {str(number): row for number, row in enumerate(wikipedia_rows("heldout")[: ROWS // 3])}
evaluator = InformationRetrievalEvaluator(
    queries={number: row["description"] for number, row in unseen.items()},
    corpus={number: row["summary"] for number, row in unseen.items()},
    relevant_docs={number: {number} for number in unseen},
    query_prompt_name="query",
    corpus_prompt_name="document",
    truncate_dim=32,
    name="wikipedia",
    write_csv=False,
)
before = evaluator(model)

# %%
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        "runs/from-mnrl",
        per_device_train_batch_size=32,
        num_train_epochs=1,
        learning_rate=5e-5,
        warmup_steps=0.1,
        prompts={"query": PROMPTS["query"], **dict.fromkeys(triplets.column_names[1:], PROMPTS["document"])},
        save_strategy="no",
        report_to="none",
        logging_steps=5,
    ),
    train_dataset=triplets,
    loss=loss,
)
trainer.train()

# %%
if trainer.is_world_process_zero():
    after = evaluator(model)
    for name in ("cosine_accuracy@1", "cosine_mrr@10"):
        print(
            f"{name} at 32 dimensions: {before[f'wikipedia_{name}']:.3f} before, {after[f'wikipedia_{name}']:.3f} after"
        )
    model.save_pretrained("runs/from-mnrl/model")
