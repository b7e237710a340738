"""Whatever is wrong with an input: one clear message, and finished runs stay as they were."""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import Mock

import datasets
import huggingface_hub
import pytest
import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    modeling_utils,
)

from nbutils.config.schema import Benchmarks, FetchModel, PrepareBenchmarks
from nbutils.errors import UserError
from nbutils.protocol import model_sources
from nbutils.protocol.compute import compute
from nbutils.protocol.prepare_model import EOS
from nbutils.runs.types import Run
from support import tiny
from support.project import open_store

HUB = f"hub:some/model@{'0' * 40}"


@dataclass(frozen=True)
class Place:
    """What a bad input is made of: a good model folder, patches, and what ends with the test."""

    folder: Path
    patch: pytest.MonkeyPatch
    enter: Callable[[AbstractContextManager[str]], str]

    def fetch(self, origin: str | None = None, bos: str | None = None) -> Run:
        """The run that brings a model into the store, as a plan would make it."""
        origin = origin or f"folder:{self.folder}"
        values = {"origin": origin, "content": model_sources.content_digest(origin), "bos": bos}
        return Run("fetch_model", "a model", FetchModel.model_validate(values))

    def write(self, name: str, change: Callable[[bytes], bytes]) -> None:
        """Change a file of the model folder."""
        path = self.folder / name
        path.write_bytes(change(path.read_bytes()))


def benchmark(task: str) -> Run:
    values = {"tasks": [task], "items": 5, "data": "hub"}
    stage = PrepareBenchmarks(benchmarks=Benchmarks.model_validate(values))
    return Run("prepare_benchmarks", "benchmarks", stage)


# ---------------------------------------------------------------- the hub


@contextmanager
def hub(status: int, code: str) -> Iterator[str]:
    """A hub on this machine that refuses everything; yields its address."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


NOBODY = "http://127.0.0.1:9"


def ask(place: Place, address: str) -> None:
    """Send the hub's own client and datasets to an address, with an empty cache, in no time."""
    place.patch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    place.patch.setattr(datasets.config, "HF_ENDPOINT", address)
    place.patch.setattr(datasets.config, "HF_DATASETS_CACHE", place.folder / "cache")
    place.patch.setattr(time, "sleep", lambda seconds: None)  # between two attempts


def refused(status: int, code: str) -> Callable[[Place], Run]:
    """A model of a hub that answers with an error."""

    def make(place: Place) -> Run:
        ask(place, place.enter(hub(status, code)))
        return place.fetch(HUB)

    return make


def model_offline(place: Place) -> Run:
    ask(place, NOBODY)
    return place.fetch(HUB)


def task_offline(place: Place) -> Run:
    ask(place, NOBODY)
    return benchmark("gsm8k")


def unknown_task(place: Place) -> Run:
    return benchmark("hellaswagg")


# ---------------------------------------------------------------- model folders


def truncated(place: Place) -> Run:
    place.write("model.safetensors", lambda weights: weights[:-100])
    return place.fetch()


def flipped(place: Place) -> Run:
    """One bit of the header, within the name of its first tensor."""
    place.write("model.safetensors", lambda w: w[:9] + bytes([w[9] ^ 64]) + w[10:])
    return place.fetch()


def pickle_only(place: Place) -> Run:
    (place.folder / "model.safetensors").rename(place.folder / "pytorch_model.bin")
    return place.fetch()


def renamed_pickle(place: Place) -> Run:
    model = AutoModelForCausalLM.from_pretrained(place.folder)
    pickled = place.folder / "pickle"
    torch.save(model.state_dict(), pickled)  # the weights lie mapped in the old file
    pickled.replace(place.folder / "model.safetensors")
    return place.fetch()


def pickle_as_gguf(place: Place) -> Run:
    path = place.folder / "model.gguf"
    torch.save(AutoModelForCausalLM.from_pretrained(place.folder).state_dict(), path)
    return place.fetch(f"gguf:{path}")


def indexed(shard: str) -> Callable[[Place], Run]:
    """A folder whose index of weights names a pickle of them, here or elsewhere."""

    def make(place: Place) -> Run:
        model = AutoModelForCausalLM.from_pretrained(place.folder)
        torch.save(model.state_dict(), place.folder / shard)
        (place.folder / "model.safetensors").rename(place.folder / "other.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(model.state_dict(), shard)}
        (place.folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return place.fetch()

    return make


def other_weights(place: Place) -> Run:
    place.write("config.json", lambda c: c.replace(b"{", b'{"transformers_weights": "x",', 1))
    return place.fetch()


def adapter(place: Place) -> Run:
    (place.folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    return place.fetch()


def no_config(place: Place) -> Run:
    (place.folder / "config.json").unlink()
    return place.fetch()


def damaged_config(place: Place) -> Run:
    place.write("config.json", lambda c: c[:-20])
    return place.fetch()


def remote_code(place: Place) -> Run:
    own = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.M"}
    place.write(
        "config.json",
        lambda c: json.dumps(json.loads(c) | {"model_type": "own", "auto_map": own}).encode(),
    )
    (place.folder / "own.py").write_text("raise SystemExit('this code must never run')")
    return place.fetch()


def no_bos_or_eos(place: Place) -> Run:
    tokenizer = tiny.tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(place.folder)
    return place.fetch()


def other_vocabulary(place: Place) -> Run:
    tokenizer = AutoTokenizer.from_pretrained(place.folder)
    tokenizer.add_tokens([f"<extra-{i}>" for i in range(50)])
    tokenizer.save_pretrained(place.folder)
    return place.fetch()


# ---------------------------------------------------------------- a full disk

FULL = os.strerror(errno.ENOSPC)


def broken(
    owner: Any, name: str, error: Exception, origin: str | None = None
) -> Callable[[Place], Run]:
    """A model that is fetched where something that is called on the way fails."""

    def make(place: Place) -> Run:
        place.patch.setattr(owner, name, Mock(side_effect=error))
        return place.fetch(origin)

    return make


NO_SPACE = OSError(errno.ENOSPC, FULL)
RUST = f"{FULL} (os error {errno.ENOSPC})"
NOT_WRITTEN = f"run 'a model' could not be written under .*{FULL}.*; finished runs are kept"

CASES: dict[str, tuple[Callable[[Place], Run], str]] = {
    "hub model, no network": (model_offline, "some/model at .* cannot be downloaded .*: check the"),
    "hub task, no network": (
        task_offline,
        "the data of gsm8k cannot be read .*: check the network",
    ),
    "unknown on the hub": (refused(404, "RepoNotFound"), "the hub has no model 'some/model', or"),
    "gated": (refused(403, "GatedRepo"), "some/model is gated: accept its licence on its page"),
    "unknown revision": (
        refused(404, "RevisionNotFound"),
        "some/model has no revision 0{40}: give",
    ),
    "hub in trouble": (refused(500, ""), "some/model at .* cannot be downloaded .*: check the"),
    "hub client in trouble": (
        broken(huggingface_hub, "snapshot_download", RuntimeError("it is closed"), HUB),
        "some/model at .* cannot be downloaded .it is closed.: check the network",
    ),
    "unknown task": (unknown_task, "unknown task 'hellaswagg' .* did you mean 'hellaswag'"),
    "truncated": (truncated, "cannot be loaded .*: its files may be incomplete.* download it"),
    "flipped header": (flipped, "cannot be loaded .*: its files may be incomplete"),
    "pickle": (pickle_only, "no safetensors weights .only pytorch_model.bin, .*: convert them"),
    "renamed pickle": (renamed_pickle, "cannot be loaded .*: its files may be incomplete"),
    "pickle as GGUF": (pickle_as_gguf, "does not start with the GGUF magic bytes"),
    "index of a pickle": (indexed("weights.bin"), "names 'weights.bin': allowed are safetensors"),
    "index of another folder": (indexed("../w.safetensors"), "names '../w.safetensors': allowed"),
    "configuration of other weights": (other_weights, "remove transformers_weights"),
    "adapter": (adapter, "holds an adapter: merge it into its model first"),
    "damaged configuration": (damaged_config, "config.json is damaged: copy or download"),
    "no configuration": (no_config, "is no model folder: it has no config.json"),
    "remote code": (
        remote_code,
        "needs code from its repository, which .*: take a model whose",
    ),
    "no BOS, no EOS": (no_bos_or_eos, "has no EOS token, so documents would never end: give it"),
    "other vocabulary": (other_vocabulary, "gives '<extra-36>' the id 320, .* its own tokenizer"),
    "full while fetching": (
        broken(huggingface_hub, "snapshot_download", NO_SPACE, HUB),
        f"some/model at .* cannot be downloaded .{FULL}.: check the network and the disk",
    ),
    "full while saving weights": (
        broken(modeling_utils, "safe_save_file", SafetensorError(f"Error: I/O error: {RUST}")),
        NOT_WRITTEN,
    ),
    "full while saving the tokenizer": (
        broken(PreTrainedTokenizerBase, "save_pretrained", Exception(RUST)),
        NOT_WRITTEN,
    ),
    "full while saving the manifest": (broken(os, "fsync", NO_SPACE), NOT_WRITTEN),
}


# ---------------------------------------------------------------- the test


def files(root: Path) -> dict[Path, str]:
    """Every file of the finished runs, hashed."""
    found = (p for p in root.rglob("*") if p.is_file() and "partial" not in p.parts)
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with ExitStack() as entered:
        yield Place(tiny.save("llama", tmp_path / "model"), monkeypatch, entered.enter_context)


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error_and_finished_runs_stay(case: str, place: Place, tmp_path: Path) -> None:
    """One line to mend it by; no byte of a finished run changes, and no other run is there."""
    make, message = CASES[case]
    store = open_store(tmp_path)
    finished = store.execute(place.fetch(bos=EOS), compute, 1, tiny.silent)
    before = files(store.root)

    def attempt() -> None:
        store.execute(make(place), compute, 1, tiny.silent)

    with pytest.raises(UserError, match=message) as raised:
        attempt()
    place.patch.undo()
    assert len(str(raised.value).splitlines()) == 1
    assert files(store.root) == before
    assert open_store(tmp_path).all() == [finished]
