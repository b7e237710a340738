"""Projects whose stages make numbers up, and the archives that one sends to the other."""

import gzip
import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from nbutils.analysis import gains
from nbutils.book import publish
from nbutils.config import notebook_parameters
from nbutils.protocol import compute as real
from nbutils.protocol import pairing, schedule
from nbutils.protocol import stages as protocol_stages
from nbutils.protocol.plan import load_plan
from nbutils.results import collect, contribute, layout
from nbutils.results.project import Project
from nbutils.runs import dag
from nbutils.runs.types import Run
from support.project import open_store
from support.tiny import REPOSITORY, silent

Json = dict[str, Any]
TIER = "small"
HUB = f"hub:owner/name@{'0' * 40}"
RECIPE = {"steps": 4, "tokens_per_step": 1024, "learning_rate": 0.001}
TASKS, ITEMS, PASSAGES = ("cloze", "agreement"), 30, 12


def rows(stage: str, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """The files that a stage writes, with made-up numbers."""
    if stage == "measure_utility":
        items = [(t, f"{t}-{i}", f"{t}-{i // 2}", 0.25) for t in TASKS for i in range(ITEMS)]
        frame = pd.DataFrame(items, columns=list(gains.ITEM))
        frame["correct"], normed = rng.random((2, len(frame))) < 0.6
        # one of the tasks defines acc_norm, the other does not
        frame["correct_norm"] = pd.array(normed, dtype="boolean")
        frame["correct_norm"] = frame["correct_norm"].where(frame["task"].eq("cloze"))
        return {"utility": frame}
    if stage == "measure_extraction":
        frame = pd.DataFrame({"passage": range(PASSAGES), "split": ["dev", "held_out"] * 6})
        frame = frame.assign(exact=rng.random(PASSAGES) < 0.5, matched_tokens=3, suffix_tokens=8)
        return {"extraction": frame}
    if stage == "sample_corpus":
        corpus = {"text": ["a house", "the king"], "n_tokens": [2, 3], "finished": [True, False]}
        frame = pd.DataFrame(corpus).assign(mean_log_prob=-rng.random(2), read_otherwise=[0, 1])
        return {"corpus": frame}
    if stage == "measure_proxies":
        proxies = {"proxy": ["semantic", "likelihood"], "task": ["cloze", None]}
        return {"proxies": pd.DataFrame(proxies).assign(value=rng.random(2))}
    if stage == "diagnose":
        named = {"diagnostic": ["gradient_cosine"], "value": rng.random(1)}
        return {"diagnostics": pd.DataFrame(named)}
    if stage == "self_train":
        return {"curve": pd.DataFrame({"step": [1, 2], "loss": rng.random(2)})}
    if stage in ("prepare_model", "fetch_model"):
        return {"passages": pd.DataFrame({"suffix_text": ["of the realm"]})}
    return {}


def fake(stage: str) -> Callable[..., None]:
    """A stage that computes nothing: its numbers follow from its parameters and inputs."""

    def compute(p: Any, inputs: dict[str, Path], out: Path, progress: object) -> None:
        seed = zlib.crc32(repr((p, sorted(f.name for f in inputs.values()))).encode())
        for name, frame in rows(stage, np.random.default_rng(seed)).items():
            frame.to_parquet(out / f"{name}.parquet")
        made = {"training_tokens": 9, "planted_share": 0.1, "exposures": 3}
        unknown = dict.fromkeys(made) if stage == "fetch_model" else {}
        facts = {"parameters": 9, "shortcuts": {}} | made | unknown
        (out / "facts.json").write_text(json.dumps(facts))
        policy = {"token": "<|bos|>", "scoring": True, "extraction": False}
        (out / "bos.json").write_text(json.dumps(policy))
        (out / "config.json").write_text('{"model_type": "llama"}')
        (out / "texts.json").write_text('{"cloze": ["the king"]}')

    return compute


def make_up(patch: pytest.MonkeyPatch) -> None:
    """Let every stage make its numbers up."""
    patch.setattr(protocol_stages, "stage_function", fake)
    patch.setattr(publish, "stage_pages", lambda *_: None)


@pytest.fixture(scope="module")
def stages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        make_up(patch)
        yield


def project(root: Path, **changes: Any) -> Path:
    """A project with one tier of two models and one student."""
    text = (REPOSITORY / "notebooks" / "tiers" / "smoke.yml").read_text("utf-8")
    values = yaml.safe_load(text)
    values["models"] = {k: values["models"][k] for k in ("neox-small", "llama-small")}
    values["grid"] = {"students": ["neox-small"], "diagnostics": True}
    place = root / "notebooks" / "tiers" / f"{TIER}.yml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(yaml.safe_dump(values | changes), "utf-8")
    return root


def form(**changes: Any) -> notebook_parameters.ReportNotebook:
    values = {"tier": TIER, "source": "llama-small", "student": "neox-small", "seed": 1}
    return notebook_parameters.ReportNotebook.model_validate(values | changes)


def compute(root: Path, wanted: list[Run]) -> None:
    for run in wanted:
        open_store(root).execute(run, real.compute, 1, silent)


def paired(root: Path, asked: notebook_parameters.ReportNotebook) -> None:
    """Compute one pairing."""
    plan, cell = pairing.from_parameters(asked, load_plan(asked.tier, root))
    compute(root, dag.each_once([*schedule.of_pairing(plan, cell), *schedule.beside(plan, cell)]))


def packed(root: Path, **changes: Any) -> Path:
    paired(root, form(**changes))
    return contribute.contribute(form(**changes), Project(root))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, stages: None) -> Path:
    """The project of a person who computed a pairing of another seed, and its archive."""
    return packed(project(tmp_path_factory.mktemp("theirs")))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, stages: None) -> Path:
    """A project with the published tier; read only."""
    root = project(tmp_path_factory.mktemp("published"))
    plan = load_plan(TIER, root)
    compute(root, schedule.of_tier(plan))
    collect.collect(TIER, schedule.of_tier(plan), Project(root))
    publish.publish(TIER, Project(root))
    return root


@pytest.fixture
def ours(published: Path, tmp_path: Path) -> Path:
    """A copy of the project with the published tier."""
    return Path(shutil.copytree(published, tmp_path / "ours"))


def place(root: Path) -> Path:
    return root / layout.PUBLISHED / TIER


def content(root: Path) -> dict[str, bytes]:
    """Everything under ``book/``."""
    found = (root / "book").rglob("*")
    return {str(p.relative_to(root)): p.read_bytes() for p in found if p.is_file()}


def opened(archive: Path) -> Json:
    """What an archive holds."""
    return json.loads(gzip.decompress(archive.read_bytes()))


def closed(changed: Json | str) -> bytes:
    """An archive of changed contents."""
    text = changed if isinstance(changed, str) else json.dumps(changed)
    return gzip.compress(text.encode())


def of_stage(contents: Json, stage: str) -> list[Json]:
    """What the runs of a stage measured, to be changed in place."""
    return [contents["measured"][m["key"]] for m in contents["manifests"] if m["stage"] == stage]


def refused(root: Path, data: bytes, message: str) -> None:
    """What is refused says why, and leaves everything as it was."""
    before = content(root)
    path = root / "given.json.gz"
    path.write_bytes(data)
    with pytest.raises(publish.PublishError, match=f"given.json.gz is not accepted: .*({message})"):
        publish.accept(path, Project(root))
    assert content(root) == before
