"""The page *Diagnose a pairing*: what each diagnostic means, beside its value."""

import pandas as pd

MEANINGS = {
    "gradient_cosine": (
        "cosine of the student's gradients on this corpus and on its own corpus",
        "1: both pull the weights the same way; below 0: this corpus raises the loss on the other",
    ),
    "perplexity_gap": (
        "how much worse each model predicts the other's text than its writer does, nats per "
        "character, both ways summed",
        "0: each predicts the other's text as well as the writer does",
    ),
    "tokenizer_overlap": (
        "share of the corpus's tokens, as the source writes them, that the student has as well",
        "1: the student has every token",
    ),
    "representation_cka": (
        "similarity of the two models' hidden states on the corpus",
        "1: the same up to rotation and scale; 0: unrelated",
    ),
    "ngram_divergence": (
        "divergence of the word bigrams of this corpus and of the student's own, nats",
        "0: the same bigrams as often; 0.69: none in common",
    ),
    "own_loss_slope": (
        "how fast the loss on the student's own corpus falls along this corpus's gradient",
        "above 0: learning this corpus helps with the own one",
    ),
}
"""Diagnostic to what it compares, and to how its value is read."""


def meanings(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """One row per diagnostic of a pairing: its value, what it compares, and how to read it."""
    table = diagnostics[["diagnostic", "value"]].copy()
    table["compares"] = [MEANINGS[name][0] for name in table["diagnostic"]]
    table["how to read it"] = [MEANINGS[name][1] for name in table["diagnostic"]]
    return table
