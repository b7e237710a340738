"""What the pages of stages show: tables and charts of made-up rows."""

import re

import pandas as pd
import pytest

from nbutils.charts import (
    diagnose,
    fetch_model,
    pairing,
    parts,
    prepare_benchmarks,
    prepare_suite,
    tables,
    trace,
)
from nbutils.protocol import diagnose as stage


def items() -> pd.DataFrame:
    """Two items of one document and one of another, of two kinds."""
    question = {"query": "x" * 200 + " fits", "choices": [" here", " there"], "gold": 1}
    rows = [
        {"task": "speeches_cloze", "item": "c0", "document": "d0"} | question,
        {"task": "speeches_cloze", "item": "c1", "document": "d0"} | question,
        {"task": "speeches_agreement", "item": "a0", "document": "d1"} | question,
    ]
    return pd.DataFrame(rows)


def test_a_suite_is_counted_by_domain_and_kind() -> None:
    found = prepare_suite.sizes(items())
    assert found[["domain", "kind", "items", "documents", "chance"]].to_numpy().tolist() == [
        ["speeches", "agreement", 1, 1, 0.5],
        ["speeches", "cloze", 2, 1, 0.5],
    ]


def test_an_item_of_each_kind_is_shown_with_its_right_choice() -> None:
    found = prepare_suite.examples(items())
    assert found["kind"].tolist() == ["agreement", "cloze"]
    assert found["right"].tolist() == [" there", " there"]
    assert found["context"].str.endswith("x fits").all()
    assert found["context"].str.len().eq(prepare_suite.SHOWN + 1).all()


def test_a_benchmark_names_its_data_and_their_version() -> None:
    source = {"data": "piqa", "name": None, "split": "test", "shots": None, "revision": None}
    texts = {"piqa": ["Question: why?\nAnswer: so"], "arc": ["a", "b"]}
    sources = {"piqa": source, "arc": source | {"name": "easy", "revision": "9", "shots": "train"}}
    found = prepare_benchmarks.tasks(sources, texts)
    assert found["data"].tolist() == ["piqa", "piqa easy"]
    assert found["version"].tolist() == ["not stated", "9"]
    assert found["shots from"].tolist() == ["no shots", "train"]
    assert found["items"].tolist() == [1, 2]
    examples = prepare_benchmarks.examples(texts)
    assert examples["item"].tolist() == ["Question: why? Answer: so", "a"]


def test_a_shortcut_that_could_not_be_tried_says_so() -> None:
    tried = {"right": True, "copy": 3e-7, "copy_bound": 1e-4, "model": 2e-6, "model_bound": 1e-4}
    failed = tried | {"right": False, "model": None}
    facts = {"shortcuts": dict.fromkeys(fetch_model.SHORTCUTS, tried) | {"tree": failed}}
    found = fetch_model.shortcuts(facts)
    assert found["taken"].tolist() == ["yes", "no", "yes", "yes"]
    assert found["this model"].tolist() == ["2.0e-06", "not tried", "2.0e-06", "2.0e-06"]


def test_every_diagnostic_has_a_meaning() -> None:
    documented = re.findall(r"^([a-z]+_[a-z_]+) ", stage.__doc__ or "", re.MULTILINE)
    assert list(diagnose.MEANINGS) == documented
    found = diagnose.meanings(pd.DataFrame({"diagnostic": documented, "value": 1.0}))
    assert found.notna().all(axis=None)


def test_scores_stand_beside_each_other_for_every_source() -> None:
    rows = pd.DataFrame(
        [
            ("b", "self", "x", "s", 1.0),
            ("b", "self", "y", "s", 3.0),
            ("a", "lineage", None, "t", 5),
        ],
        columns=["source", "relation", "task", "proxy", "value"],
    )
    found = pairing.by_source(rows, "proxy")
    assert found["source"].tolist() == ["b", "a"]
    assert found["s"].tolist()[0] == 2.0
    assert found["t"].isna().tolist() == [True, False]


def test_settings_are_told_as_they_were_given() -> None:
    found = tables.settings({"seed": 0, "lora": None, "recipe": {"learning_rate": 1e-5}})
    assert dict(found.to_numpy()) == {"seed": "0", "lora": "–", "recipe.learning_rate": "1e-05"}


@pytest.fixture
def rows() -> pd.DataFrame:
    """A trace of two points: one of four items is lost, and one of two held-out passages."""
    answers = {"task": "t", "chance": 0.5, "item": list("abcd"), "document": list("abcd")}
    none = pd.array([None] * 4, dtype="boolean")
    known = {"passage": [0, 1, 2], "split": ["dev", "held_out", "held_out"]}
    utility = [pd.DataFrame(answers | {"correct": c, "correct_norm": none, "step": n})
               for n, c in ((0, [True] * 4), (2, [True, True, True, False]))]  # fmt: skip
    extraction = [pd.DataFrame(known | {"exact": e, "step": n})
                  for n, e in ((0, [True] * 3), (2, [True, True, False]))]  # fmt: skip
    return trace.by_step(pd.concat(utility), pd.concat(extraction))


def test_a_trace_has_a_row_per_step_with_intervals(rows: pd.DataFrame) -> None:
    assert rows["step"].tolist() == [0, 2]
    assert rows["gain"].tolist() == [0, -0.25]
    assert rows["share"].tolist() == [1, 0.5]
    assert (rows["share_low"] < rows["share"]).all()
    assert trace.table(rows)["extracted"].tolist() == ["2 of 2", "1 of 2"]


def test_the_curves_of_a_trace_have_the_colour_of_their_relation(rows: pd.DataFrame) -> None:
    drawn = str(trace.curves(rows, "lineage").to_dict())
    assert parts.RELATIONS["lineage"] in drawn
    assert parts.RELATIONS["self"] not in drawn
