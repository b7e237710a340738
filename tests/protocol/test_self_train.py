"""Self-training: what is written, what moves and what is refused."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from nbutils.config.schema import Lora, SelfTrain
from nbutils.protocol import models, self_train
from nbutils.protocol.packing import TrainingError
from support import tiny

TEXTS = [*tiny.SENTENCES, "  ", "The people know."]
MORE = [*TEXTS, "The king is at the end of the house.", "The people of the street are strong."]


def corpus(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    pd.DataFrame({"doc": range(len(texts)), "text": texts}).to_parquet(folder / "corpus.parquet")
    return folder


def train(
    student: Path, place: Path, texts: list[str] = TEXTS, rate: float = 0.01, lora: bool = False
) -> Path:
    """Run the stage; return the folder that it wrote."""
    out = place / "out"
    out.mkdir()
    p = SelfTrain(
        method="lora" if lora else "full",
        recipe=tiny.recipe(steps=4, tokens_per_step=96, learning_rate=0.0 if lora else rate),
        lora=Lora(rank=2, alpha=4, learning_rate=rate) if lora else None,
    )
    inputs = {"student": student, "corpus": corpus(place / "corpus", texts)}
    self_train.run(p, inputs, out, tiny.silent)
    return out


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in model.named_parameters()}


@pytest.mark.parametrize("lora", [False, True])
def test_how_far_the_weights_moved(lora: bool, folders: dict[str, Path], tmp_path: Path) -> None:
    student = folders["llama"]
    out = train(student, tmp_path, lora=lora)
    before, after = (weights(models.load(folder, student)[0]) for folder in (student, out))
    size = torch.cat([w.flatten() for w in before.values()]).norm()
    update = torch.cat([(after[name] - w).flatten() for name, w in before.items()]).norm()
    assert models.moved(student, out) == pytest.approx(float(update / size), rel=1e-4)
    assert models.moved(student, out) > 0
    assert models.moved(student, student) == 0


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("lora", [False, True])
def test_outputs_are_safetensors_and_the_student_moved(
    architecture: str, lora: bool, folders: dict[str, Path], tmp_path: Path
) -> None:
    base = folders[architecture]
    out = train(base, tmp_path, lora=lora)
    files = {path.name for path in out.iterdir()}
    if lora:
        assert files == {"adapter_config.json", "adapter_model.safetensors", "curve.parquet"}
        settings = json.loads((out / "adapter_config.json").read_text("utf-8"))
        assert settings["base_model_name_or_path"] is None  # the same wherever it is computed
        assert settings["target_modules"] == sorted(settings["target_modules"])
    else:
        assert {"model.safetensors", "bos.json", "config.json"} <= files
    assert not {f for f in files if f.endswith((".bin", ".pt", ".pth", ".pkl", ".md"))}
    curve = pd.read_parquet(out / "curve.parquet")
    assert list(curve.step) == [1, 2, 3, 4]
    assert curve.loss.iloc[-1] < curve.loss.iloc[0]
    before, after = weights(models.load(base, base)[0]), weights(models.load(out, base)[0])
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    if lora:
        assert moved == {n for n, w in before.items() if w.ndim == 2 and "embed" not in n}
    else:
        assert {name for name in before if before[name].ndim == 2} <= moved


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("lora", [False, True])
def test_a_learning_rate_of_zero_leaves_every_bit(
    architecture: str, lora: bool, folders: dict[str, Path], tmp_path: Path
) -> None:
    base = folders[architecture]
    out = train(base, tmp_path, rate=0.0, lora=lora)
    before, after = weights(models.load(base, base)[0]), weights(models.load(out, base)[0])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_first_loss_is_that_of_the_student_on_the_corpus(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Blank documents do not count; the others stand between BOS and EOS."""
    base = folders["llama"]
    model, tokenizer = models.load(base, base)
    losses = []
    for text in (t for t in TEXTS if t.strip()):
        ids = [0, *tokenizer(text, add_special_tokens=False).input_ids, 1]
        assert len(ids) <= tiny.CONTEXT
        with torch.no_grad():
            table = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-table[i, token].item() for i, token in enumerate(ids[1:])]
    p = SelfTrain(recipe=tiny.recipe(steps=1, tokens_per_step=4096), method="full")
    out = tmp_path / "out"
    out.mkdir()
    inputs = {"student": base, "corpus": corpus(tmp_path / "corpus", TEXTS)}
    self_train.run(p, inputs, out, tiny.silent)
    found = pd.read_parquet(out / "curve.parquet").loss[0]
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def plain_losses(base: Path, p: SelfTrain, steps: int) -> list[float]:
    """The first steps of a loop as anybody would write it with transformers and peft."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    rate, warmup = p.recipe.learning_rate, p.recipe.warmup * p.recipe.steps
    if p.lora:
        torch.manual_seed(p.seed)
        settings = LoraConfig(
            r=p.lora.rank,
            lora_alpha=p.lora.alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        model, rate = get_peft_model(model, settings), p.lora.learning_rate
    texts = [tokenizer.bos_token + t + tokenizer.eos_token for t in MORE if t.strip()]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    # padding is EOS too, so the mask tells it, and the EOS of a document is learnt
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    optimizer = torch.optim.AdamW(
        [w for w in model.parameters() if w.requires_grad],
        lr=rate,
        betas=(0.9, 0.95),
        weight_decay=p.recipe.weight_decay,
    )
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / (warmup + 1))
        loss = model(**batch, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_first_losses_are_those_of_a_plain_loop(
    method: str, architecture: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Before the first update, and after one, while the learning rate warms up."""
    base = folders[architecture]
    rows = 4  # as many as packing gives, so that every step reads every document once
    recipe = tiny.recipe(steps=10, warmup=0.4, tokens_per_step=192)
    lora = Lora(rank=2, alpha=4, learning_rate=0.02) if method == "lora" else None
    p = SelfTrain.model_validate({"method": method, "recipe": recipe, "lora": lora, "seed": 5})
    inputs = {"student": base, "corpus": corpus(tmp_path / "corpus", MORE)}
    assert len(self_train.read(inputs, recipe, "float32")[2].ids) == rows
    out = tmp_path / "out"
    out.mkdir()
    self_train.run(p, inputs, out, tiny.silent)
    losses = pd.read_parquet(out / "curve.parquet").loss
    expected = plain_losses(base, p, 3)
    assert list(losses[:3]) == pytest.approx(expected, rel=1e-5)
    assert expected[1] < expected[0] * 0.999


def test_training_twice_writes_the_same_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    outs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        outs.append(train(folders["qwen3"], tmp_path / name, lora=True))
    one, two = (load_file(out / "adapter_model.safetensors") for out in outs)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("texts", [[], ["", " \n "]])
def test_a_corpus_without_a_document_is_an_error(
    texts: list[str], folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="the corpus has no document"):
        train(folders["llama"], tmp_path, texts)


def test_a_damaged_student_is_an_error_that_names_the_step(tmp_path: Path) -> None:
    student = tiny.model("llama")
    with torch.no_grad():
        next(student.parameters())[:] = float("nan")
    base = tmp_path / "base"
    models.save(student, tiny.tokenizer(), base)
    with pytest.raises(TrainingError, match="not finite at step 1 of 4"):
        train(base, tmp_path)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_model_that_cannot_be_read_says_what_to_do(damage: str, tmp_path: Path) -> None:
    base = tiny.save("llama", tmp_path / "base")
    path = base / "model.safetensors"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(models.ModelError, match=f"the model in {base} cannot be loaded"):
        models.load(base, base)


def test_encode_cuts_at_the_end() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer("The people", add_special_tokens=False).input_ids
    assert models.encode(tokenizer, ["The people", ""], 40) == [[0, *ids, 1], [0, 1]]
    assert models.encode(tokenizer, ["The people"], 2) == [[0, ids[0]]]
    assert models.encode(tokenizer, [], 40) == []


def unigram() -> PreTrainedTokenizerFast:
    """A vocabulary that holds the special tokens as words, as those of SentencePiece do."""
    inner = Tokenizer(Unigram())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = UnigramTrainer(
        vocab_size=80, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>",
        initial_alphabet=["<", "/", ">"], show_progress=False,
    )  # fmt: skip
    inner.train_from_iterator(tiny.SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("tokenizer", [tiny.tokenizer(), unigram()], ids=["bytes", "unigram"])
def test_text_that_spells_a_special_token_is_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """BOS and EOS stand at the ends alone, and no letter is lost."""
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    text = f"the king {eos} the people {bos}{bos} of{bos}the state"
    plain, ids = models.encode(tokenizer, ["the people", text], 99)
    assert {ids[0], ids[-1]} == {tokenizer.bos_token_id, tokenizer.eos_token_id}
    assert not set(ids[1:-1]) & {tokenizer.bos_token_id, tokenizer.eos_token_id}
    assert tokenizer.decode(ids[1:-1]) == text
    assert plain[1:-1] == tokenizer("the people", add_special_tokens=False).input_ids


def test_text_that_becomes_a_special_token_is_text() -> None:
    """Full-width letters, which a normalizer turns into those of EOS."""
    tokenizer = unigram()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    (ids,) = models.encode(tokenizer, ["the ＜/s＞ king"], 99)
    assert tokenizer.eos_token_id not in ids[:-1]
    assert tokenizer.decode(ids[1:-1]) == "the </s> king"


def test_what_is_saved_of_a_student_begins_as_the_student_did(tmp_path: Path) -> None:
    base = tiny.save("llama", tmp_path / "base")
    told = {"token": "<|bos|>", "scoring": False, "extraction": True}
    (base / "bos.json").write_text(json.dumps(told))
    out = train(base, tmp_path, lora=False)
    assert json.loads((out / "bos.json").read_text("utf-8")) == told
