"""What golden cases keep of a stage's results, as JSON has it, and how two of them differ."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from nbutils.protocol import sample_corpus
from support import formula

Kept = dict[str, Any]
PROBE = "The king of the sea, and the water of the old river."
UNREAD = "query_key_value.bias"
"""No output depends on a key's bias, which shifts all scores alike: its gradient is rounding alone,
and Adam makes steps of that."""
SETTINGS = (
    *("model_type", "dtype", "vocab_size", "hidden_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"),
    *("max_position_embeddings", "tie_word_embeddings", "bos_token_id", "eos_token_id"),
)


# ---------------------------------------------------------------- files


def tables(out: Path) -> Kept:
    """The columns of every table; nothing else is there."""
    return {path.name: table(path) for path in sorted(out.iterdir())}


def table(path: Path) -> Kept:
    """The columns of a table."""
    columns: Kept = pq.read_table(path).to_pydict()
    return columns


def files(out: Path) -> Kept:
    """Every file: the lines of a text, and what JSON holds."""
    return {path.name: _file(path) for path in sorted(out.iterdir())}


def _file(path: Path) -> Any:
    content = path.read_text("utf-8")
    if path.suffix == ".json":
        return json.loads(content)
    lines = content.splitlines()
    return [json.loads(line) for line in lines] if path.suffix == ".jsonl" else lines


def corpus(out: Path) -> Kept:
    """A sampled corpus, and numbers of the generator that a formula stands in for."""
    return tables(out) | {"generated": sample_corpus.random_numbers(7, range(1, 3), 3).tolist()}


def centroids(out: Path) -> Kept:
    """Of every mean vector its length and its first numbers."""
    found = table(out / "centroids.parquet")
    vectors = [torch.tensor(vector) for vector in found["vector"]]
    return {
        "group": found["group"],
        "numbers": [len(vector) for vector in vectors],
        "length": [vector.norm().item() for vector in vectors],
        "vector": [vector[:24].tolist() for vector in vectors],
    }


# ---------------------------------------------------------------- models


def weights(out: Path) -> Kept:
    """How large each weight is, how likely a model finds the tokens of a text, its BOS policy."""
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    found = _of_model(model, AutoTokenizer.from_pretrained(out)(PROBE).input_ids)
    return found | {"bos.json": _file(out / "bos.json")}


@torch.no_grad()
def _of_model(model: Any, ids: list[int]) -> Kept:
    chances = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    named = {n: w for n, w in model.named_parameters() if not n.endswith(UNREAD)}
    return {
        "sizes": {name: w.norm().item() for name, w in named.items()},
        "says": chances[range(len(ids) - 1), ids[1:]].tolist(),
    }


def trained(out: Path) -> Kept:
    """A trained model and the curve of its losses."""
    return weights(out) | {"curve": table(out / "curve.parquet")}


def adapter(out: Path) -> Kept:
    """An adapter, what its student says with it, and the curve of its losses."""
    model = PeftModel.from_pretrained(formula.model("gpt_neox"), str(out))
    found = _of_model(model, formula.tokenizer("gpt_neox")(PROBE).input_ids)
    settings = _file(out / "adapter_config.json")
    names = ("r", "lora_alpha", "target_modules", "task_type", "base_model_name_or_path")
    return {
        "sizes": {name: size for name, size in found["sizes"].items() if "lora" in name},
        "says": found["says"],
        "settings": {name: settings[name] for name in names},
        "curve": table(out / "curve.parquet"),
    }


def perturbed(out: Path) -> Kept:
    """How far and where to each weight moved, and the BOS policy."""
    before = dict(formula.model("llama").named_parameters())
    after = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).named_parameters()
    moves = {name: (weight - before[name]).detach() for name, weight in after}
    return {
        "bos.json": _file(out / "bos.json"),
        "far": {name: move.norm().item() for name, move in moves.items()},
        "along": {
            name: (move * formula.numbers(name, *move.shape)).sum().item()
            for name, move in moves.items()
        },
    }


def prepared(out: Path) -> Kept:
    """A pre-trained model, and all that is written beside it."""
    return trained(out) | fetched(out)


def fetched(out: Path) -> Kept:
    """A fetched model, and all that is written beside it, but for versions and differences."""
    config, facts = _file(out / "config.json"), _file(out / "facts.json")
    tried, shortcuts = facts.pop("tried"), facts.pop("shortcuts")
    tokenizer = AutoTokenizer.from_pretrained(out)
    vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    passages = out / "passages.parquet"
    return weights(out) | {
        "settings": {name: config.get(name) for name in SETTINGS},
        "facts": facts,
        "right": {name: found["right"] for name, found in shortcuts.items()},
        "noted": {k: v for k, v in config["shortcuts"].items() if k not in tried},
        "passages": table(passages) if passages.is_file() else None,
        "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest(),
        "reads": tokenizer(PROBE).input_ids,
        "writes": tokenizer.decode(tokenizer(PROBE).input_ids),
        "special": [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token],
    }


# ---------------------------------------------------------------- comparing and writing


def plain(found: Any) -> Any:
    """Results as JSON gives them back, with seven digits behind the point."""
    if isinstance(found, dict):
        return {str(name): plain(value) for name, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [plain(value) for value in found]
    if isinstance(found, float):
        return "nan" if found != found else round(found, 7)
    return found


def differences(found: Any, expected: Any, tolerance: float, where: str = "") -> Iterator[str]:
    """What differs: anything but numbers at all, numbers by more than a tolerance or a share."""
    if isinstance(found, float) and isinstance(expected, float):
        if abs(found - expected) > tolerance * max(1.0, abs(expected)):
            yield f"{where}: {found}, not {expected}"
    elif isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        for name, value in expected.items():
            yield from differences(found[name], value, tolerance, f"{where}/{name}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, other, tolerance, f"{where}/{number}")
    elif type(found) is not type(expected) or found != expected:
        yield f"{where}: {str(found)[:200]}, not {str(expected)[:200]}"


def readable(value: Any, indent: str = "") -> str:
    """JSON for readers: what is short on one line, and lists of numbers."""
    whole, inner = json.dumps(value), indent + " "
    if isinstance(value, dict) and len(whole) > 90:
        lines = [f"{inner}{json.dumps(name)}: {readable(v, inner)}" for name, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and len(whole) > 90 and isinstance(value[0], (str, list, dict)):
        return "[\n" + ",\n".join(inner + json.dumps(each) for each in value) + f"\n{indent}]"
    return whole
