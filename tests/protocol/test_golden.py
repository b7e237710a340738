"""Golden results: every stage, on fixed inputs, makes what it made when that was written down.

A run is known by its stage's version, which people raise. When one of these tests turns red by
intent, raise the stage's version in ``nbutils.protocol.stages`` and write the file again with

    cd tests && ../.venv/bin/python -m support.golden

When one turns red by surprise, the change was not what it seemed: results that are stored under the
same key would not be those that the code computes now.

Inputs are models by formula and committed texts, and what the world would give is played (see
``support.given``). Numbers may differ as those of two processors do, everything else may not. That
the tests can turn red, the second part shows: each edit is one that a careless hand might make.
"""

import ast
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nbutils.protocol import (
    controls,
    diagnose,
    fetch_model,
    forward,
    lora,
    measure_extraction,
    measure_proxies,
    measure_utility,
    mixed_precision,
    models,
    muon,
    optimizers,
    packing,
    prepare_benchmarks,
    prepare_model,
    prepare_suite,
    sample_corpus,
    trace,
    training,
    tree_scorer,
)
from nbutils.protocol.stages import STAGES
from support import formula, given, golden, kept


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of inputs; read only."""
    return given.write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def no_plan_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit reaches the plan of a suite, which a process keeps, and is gone after its test."""
    monkeypatch.setattr(tree_scorer, "_PLANNED", {})


def test_every_stage_has_a_case() -> None:
    assert {case.stage for case in golden.CASES.values()} == set(STAGES)


def test_every_file_is_of_a_case() -> None:
    assert {path.stem for path in given.FOLDER.glob("*.json")} == set(golden.CASES)


@pytest.mark.parametrize("name", golden.CASES)
def test_a_stage_makes_what_it_made(name: str, root: Path) -> None:
    golden.compare(name, golden.computed(name, root))


# --- What is compared exactly hangs on no rounding ------------------------------------------


@pytest.mark.parametrize("name", given.read("squares"))
def test_no_random_number_is_near_another_token(name: str, root: Path) -> None:
    assert golden.nearest(name, root) > golden.MARGIN


@pytest.mark.parametrize("name", given.read("squares"))
def test_some_documents_end_and_some_are_cut(name: str) -> None:
    assert set(golden.written(name)["corpus.parquet"]["finished"]) == {True, False}


@pytest.mark.parametrize("name", given.read("passages"))
@torch.no_grad()
def test_no_greedy_token_is_nearly_another(name: str) -> None:
    """The two likeliest tokens are far apart wherever a suffix is compared."""
    model, passages = formula.model(name), given.read("passages")[name]
    begin = [0] if given.SHORTCUTS[name] == forward.PLAIN else []
    for prefix, suffix in zip(passages["prefix"], passages["suffix"], strict=True):
        ids = [*begin, *prefix, *suffix]
        logits = model(input_ids=torch.tensor([ids])).logits[0, -len(suffix) - 1 : -1]
        best = logits.topk(2).values
        assert (best[:, 0] - best[:, 1]).min() > 0.01


@pytest.mark.parametrize("name", [n for n in golden.CASES if n.startswith(("measure_ut", "trace"))])
def test_no_choice_is_nearly_another(name: str) -> None:
    margins = golden.written(name)["utility.parquet"]["margin"]
    assert min(abs(margin) for margin in margins if margin is not None) > 0.01


def test_a_model_is_small_and_of_few_opinions() -> None:
    """A small file, and next tokens that are far from equally likely."""
    for name in given.SHORTCUTS:
        model = formula.model(name)
        assert 4 * sum(w.numel() for w in model.parameters()) < 50_000
        ids = torch.tensor([formula.tokenizer(name)(kept.PROBE).input_ids])
        chances = model(input_ids=ids).logits[0].softmax(-1)
        assert -(chances * chances.log()).sum(-1).mean() < 2


# --- Edits that turn them red ---------------------------------------------------------------


@dataclass(frozen=True)
class Edit:
    """Something else in one place of a module, and a case that shows it."""

    case: str
    module: ModuleType
    old: str
    new: str

    def make(self, patch: pytest.MonkeyPatch) -> None:
        """Patch the one function, class or constant that then reads otherwise."""
        source = inspect.getsource(self.module)
        assert source.count(self.old) == 1, f"{self.module.__name__} has {self.old} not once"
        old, new = (ast.parse(s).body for s in (source, source.replace(self.old, self.new)))
        changed = [b for a, b in zip(old, new, strict=True) if ast.dump(a) != ast.dump(b)]
        code = compile(ast.Module(changed, []), str(self.module.__file__), "exec")
        made: dict[str, object] = {}
        exec(code, vars(self.module), made)
        ((name, value),) = made.items()
        before = vars(self.module)[name]
        for module in list(sys.modules.values()):  # others may have imported it by its name
            if vars(module).get(name) is before:
                patch.setattr(module, name, value)


EDITS = {
    # prepare_model
    "a narrower feed-forward layer": Edit(
        "prepare_model-gpt_neox", prepare_model, "=4 * p.hidden", "=3 * p.hidden"
    ),
    "passages at the start of documents": Edit(
        "prepare_model-qwen3", prepare_model, "rng.integers(1, len", "rng.integers(0, len"
    ),
    "a tokenizer for each member of a family": Edit(
        "prepare_model-qwen3", prepare_model, "mixed(p, seed=0)", "mixed(p, seed=p.seed)"
    ),
    "Muon without Nesterov's step": Edit(
        "prepare_model-llama", muon, "weight.grad.lerp(momentum, MOMENTUM)", "momentum"
    ),
    # fetch_model
    "the own BOS wins": Edit(
        "fetch_model-bos",
        fetch_model,
        "bos or tokenizer.bos_token",
        "tokenizer.bos_token or bos",
    ),
    "the first passages": Edit(
        "fetch_model", fetch_model, "rng.permutation(len(ids))[:number]", "range(number)"
    ),
    # prepare_suite
    "one neighbour fewer": Edit(
        "prepare_suite", prepare_suite, "NEIGHBOURS = 25", "NEIGHBOURS = 24"
    ),
    "the wrong answer": Edit(
        "prepare_suite", prepare_suite, "np.argmin(order)", "np.argmax(order)"
    ),
    # prepare_benchmarks
    "rows in random order": Edit(
        "prepare_benchmarks-wheel", prepare_benchmarks, "in sorted(chosen)", "in chosen"
    ),
    "examples out of what is evaluated": Edit(
        "prepare_benchmarks-hub",
        prepare_benchmarks,
        "loaded.dataset[shots] if",
        "loaded.dataset[split] if",
    ),
    # sample_corpus
    "a temperature 1 % higher": Edit(
        "sample_corpus-tempered",
        sample_corpus,
        "top) / temperature if",
        "top) / temperature / 1.01 if",
    ),
    "special tokens are drawn": Edit(
        "sample_corpus", sample_corpus, " - models.special_tokens(tokenizer)", ""
    ),
    "EOS is left out of a document": Edit(
        "sample_corpus", sample_corpus, "argmax(dim=1) + 1", "argmax(dim=1)"
    ),
    "one random number per document": Edit(
        "sample_corpus", sample_corpus, "numbers[active, step]", "numbers[active, 0]"
    ),
    # real_corpus, shuffle_corpus
    "benchmark text as the control": Edit(
        "real_corpus", controls, '.split == "control"', '.split == "benchmark"'
    ),
    "EOS is not counted": Edit("real_corpus", controls, "size = len(ids) + 1", "size = len(ids)"),
    "the last token stays": Edit(
        "shuffle_corpus",
        controls,
        "rng.permutation(ids)",
        "np.append(rng.permutation(ids[:-1]), ids[-1:])",
    ),
    # self_train
    "a weight decay of 0.9": Edit(
        "self_train-llama", optimizers, "=recipe.weight_decay", "=0.9 * recipe.weight_decay"
    ),
    "a step more of warm-up": Edit("self_train-llama", optimizers, "(warmup + 1)", "(warmup + 2)"),
    "gradients of half the length": Edit(
        "self_train-llama", training, "(trained, 1.0)", "(trained, 0.5)"
    ),
    "documents see each other": Edit(
        "self_train-qwen3", packing, "= range(len(document))", "= range(start, end)"
    ),
    "EOS is not learnt": Edit("self_train-qwen3", models, "[bos, *ids, eos]", "[bos, *ids]"),
    "a copy that is not made again": Edit(
        "self_train-bfloat16", mixed_precision, "copied.data.copy_(weight.data)", "pass"
    ),
    "an adapter of another scale": Edit(
        "self_train-gpt_neox", lora, "=p.lora.alpha", "=1.01 * p.lora.alpha"
    ),
    "an adapter that begins elsewhere": Edit(
        "self_train-gpt_neox", lora, "manual_seed(p.seed)", "manual_seed(0)"
    ),
    # perturb_weights, trace
    "noise that is 1 % larger": Edit(
        "perturb_weights", controls, "(update / noise.norm())", "(1.01 * update / noise.norm())"
    ),
    "a point one step late": Edit("trace", trace, "step in p.points", "step - 1 in p.points"),
    # measure_utility
    "a context that is cut too short": Edit(
        "measure_utility", tree_scorer, "[-(context + 1) :]", "[-context :]"
    ),
    "BOS where none belongs": Edit(
        "measure_utility-plain",
        measure_utility,
        'models.bos_policy(inputs["base"]).scoring',
        "True",
    ),
    "the worst of the wrong choices": Edit(
        "measure_utility", measure_utility, "right_score - max(scores)", "right_score - min(scores)"
    ),
    "accuracy for accuracy by length": Edit(
        "measure_utility-benchmarks", measure_utility, 'record["acc_norm"])', 'record["acc"])'
    ),
    # measure_extraction
    "all but one token are all": Edit(
        "measure_extraction",
        measure_extraction,
        "=counts == suffixes.shape[1]",
        "=counts >= suffixes.shape[1] - 1",
    ),
    "matches behind a miss": Edit("measure_extraction", measure_extraction, ".cumprod(dim=1)", ""),
    "prompts begin as contexts do": Edit(
        "measure_extraction-bos", measure_extraction, "(folder).extraction", "(folder).scoring"
    ),
    # embed_texts, measure_proxies, measure_fidelity
    "padding is part of a text": Edit(
        "embed_texts-corpus",
        measure_proxies,
        "(hidden * mask).sum(1) / mask.sum(1)",
        "hidden.mean(1)",
    ),
    "the first texts alone": Edit(
        "embed_texts-suite", measure_proxies, "part.mean(axis=0)", "part[0]"
    ),
    "plain counts of words": Edit(
        "measure_proxies", measure_proxies, "sublinear_tf=True", "sublinear_tf=False"
    ),
    "what is never predicted counts": Edit(
        "measure_proxies",
        measure_proxies,
        "(rows.labels != packing.IGNORED).sum()",
        "rows.labels.numel()",
    ),
    "EOS does not count": Edit("measure_fidelity", models, "[bos, *ids, eos]", "[bos, *ids]"),
    "blank texts count": Edit("measure_fidelity", measure_proxies, " if t.strip()", ""),
    # diagnose
    "nats per token": Edit(
        "diagnose", diagnose, "* tokens / _characters_read(model, tokenizer, texts)", ""
    ),
    "states of the last token": Edit(
        "diagnose", diagnose, "hidden[: len(ids)].mean(0)", "hidden[len(ids) - 1]"
    ),
    "states of padding": Edit("diagnose", diagnose, "hidden[: len(ids)].mean(0)", "hidden.mean(0)"),
    "a distance for its square": Edit("diagnose", diagnose, "(p, q)) ** 2", "(p, q))"),
}


def test_every_stage_has_an_edit() -> None:
    assert {golden.CASES[edit.case].stage for edit in EDITS.values()} == set(STAGES)


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_turns_a_case_red(what: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = EDITS[what]
    edit.make(monkeypatch)
    found = golden.computed(edit.case, root)
    with pytest.raises(AssertionError, match="differ in"):
        golden.compare(edit.case, found, golden.CHANGE)


FASTER = {
    "rows leave later": Edit("sample_corpus", sample_corpus, "* 3 // 4", "// 2"),
    "smaller tiles": Edit("sample_corpus", sample_corpus, "TILE = 64", "TILE = 32"),
    "fewer rows at once": Edit("self_train-llama", packing, "TOKENS = 4096", "TOKENS = 128"),
    "smaller trees": Edit("measure_utility", forward, "TREE_TOKENS = 384", "TREE_TOKENS = 40"),
    "fewer passages at once": Edit(
        "measure_extraction", measure_extraction, "ROWS = 32", "ROWS = 4"
    ),
    "fewer texts at once": Edit("embed_texts-corpus", measure_proxies, "BATCH = 32", "BATCH = 3"),
    "a smaller part of a gradient": Edit("diagnose", packing, "TOKENS = 4096", "TOKENS = 128"),
}
"""What changes how fast a stage is, and no result."""


@pytest.mark.parametrize("what", FASTER)
def test_what_changes_no_result_turns_none_red(
    what: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = FASTER[what]
    edit.make(monkeypatch)
    golden.compare(edit.case, golden.computed(edit.case, root))
