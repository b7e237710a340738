"""Controls: what else could change utility or extraction as a self-generated corpus does?

======== ==================================================================================
control  question
======== ==================================================================================
real     would any text of the domain do? Fine-tune on real text that is in no other split
shuffled does the order of the words matter? Fine-tune on own text with its tokens shuffled
noise    does the direction of the update matter? Add noise as large as the update, per tensor
frozen   does the procedure alone change anything? Fine-tune at learning rate zero
======== ==================================================================================
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoTokenizer

from nbutils.config.schema import PerturbWeights, RealCorpus, ShuffleCorpus
from nbutils.protocol import models, text
from nbutils.runs.types import Progress


def run_real_corpus(p: RealCorpus, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *real corpus*; writes ``corpus.parquet`` with ``doc``, ``text`` and ``n_tokens``.

    Documents of the split ``control`` in random order, from each domain up to its share of the
    token budget. No document occurs twice, so a domain with too little text gives all it has.
    """
    tokenizer = AutoTokenizer.from_pretrained(inputs["student"], local_files_only=True)
    rng = np.random.default_rng(p.seed)
    rows = []
    for domain, share in p.mixture.shares().items():
        pool = [d for d in text.documents(domain, p.max_chars) if d.split == "control"]
        budget = share * p.tokens
        for i in rng.permutation(len(pool)):
            if budget <= 0:
                break
            (ids,) = models.token_ids(tokenizer, [pool[i].text])
            size = len(ids) + 1  # with EOS
            budget -= size
            rows.append({"text": pool[i].text, "n_tokens": size})
    mixed = pd.DataFrame(rows).iloc[rng.permutation(len(rows))]
    mixed.insert(0, "doc", range(len(mixed)))
    mixed.to_parquet(out / "corpus.parquet", index=False)
    progress(1.0)


def run_shuffle_corpus(
    p: ShuffleCorpus, inputs: dict[str, Path], out: Path, progress: Progress
) -> None:
    """Stage *shuffle corpus*: the corpus with the tokens of each document in random order.

    A corpus is text, so the student tokenizes the shuffled text anew, and neighbouring pieces may
    merge into other tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(inputs["student"], local_files_only=True)
    corpus = pd.read_parquet(inputs["corpus"] / "corpus.parquet")
    rng = np.random.default_rng(p.seed)
    shuffled = [
        tokenizer.decode(rng.permutation(ids).astype(int).tolist())
        for ids in models.token_ids(tokenizer, list(corpus.text))
    ]
    corpus.assign(text=shuffled).to_parquet(out / "corpus.parquet", index=False)
    progress(1.0)


@torch.no_grad()
def run_perturb_weights(
    p: PerturbWeights, inputs: dict[str, Path], out: Path, progress: Progress
) -> None:
    """Stage *perturb weights*: the student plus noise; writes a model folder.

    Each tensor changes in a random direction, by the Euclidean norm of its update in the fine-tune
    ``inputs["trained"]``.
    """
    model, tokenizer = models.load(inputs["student"], inputs["student"])
    trained, _ = models.load(inputs["trained"], inputs["student"])
    generator = torch.Generator().manual_seed(p.seed)
    after = dict(trained.named_parameters())
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator).to(weight.device)
        update = (after[name].to(weight.device) - weight).float().norm()
        weight += (noise * (update / noise.norm())).to(weight.dtype)
    policy = models.bos_policy(inputs["student"])
    models.save(model, tokenizer, out, policy.scoring, policy.extraction)
    progress(1.0)
