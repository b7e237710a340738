"""What pages print of how a model is read."""

import re
from pathlib import Path

import transformers

from nbutils.config.schema import FetchModel
from nbutils.protocol import fetch_model, models, reading
from support import tiny, zoo


def fetched(tmp_path: Path, architecture: str) -> Path:
    """A model of somebody's in a store, as its stage writes it."""
    theirs, out = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    out.mkdir()
    models.save(zoo.make(architecture), tiny.tokenizer(), theirs)
    p = FetchModel.model_validate({"origin": f"folder:{theirs}", "extraction_bos": False})
    fetch_model.run(p, {}, out, tiny.silent)
    return out


def test_a_model_that_takes_every_shortcut_is_told_so(tmp_path: Path) -> None:
    begin = "mine: documents begin with <|bos|>; so do contexts of benchmark items; "
    assert reading.read_as("mine", fetched(tmp_path, "llama")) == [
        begin + "prompts of passages do not.",
        "mine: every shortcut gives what the plain way gives.",
    ]


def test_where_a_model_takes_the_plain_way_is_told_with_the_difference(tmp_path: Path) -> None:
    told = reading.plain_ways("mine", fetched(tmp_path, "lfm2"))
    assert told.startswith("mine is read the plain way, which takes longer: one document per row")
    differ = r"\(otherwise logits differ by [\d.]+ of the largest, 1e-04 is allowed\)"
    assert re.search(f"one document per row in training {differ}; one request at a time", told)
    assert "finished documents stay in the batch (the shortcut could not be tried: Attr" in told
    assert told.endswith(f"; tried with transformers {transformers.__version__}, cpu.")
    assert "read again" not in told  # it has a memory
