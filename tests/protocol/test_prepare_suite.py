"""The suite: items from hand-made documents, and a small suite from the real text."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nbutils.config.schema import PrepareSuite, SuiteSize
from nbutils.protocol import prepare_suite, text
from nbutils.protocol.prepare_suite import Item
from nbutils.protocol.text import Document, TextError
from support.tiny import MAX_CHARS, silent

KINDS = ("cloze", "agreement", "preposition")
SIZE = SuiteSize(cloze=25, agreement=15, preposition=15)


def document(*sentences: str) -> Document:
    return Document("speeches", "w", "benchmark", sentences)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def gold(item: Item) -> str:
    choices, place = item["choices"], item["gold"]
    assert isinstance(choices, list)
    assert isinstance(place, int)
    return str(choices[place])


def choices(item: Item) -> list[str]:
    assert isinstance(item["choices"], list)
    return [str(c) for c in item["choices"]]


def test_gold_is_the_place_of_the_answer_wherever_it_falls() -> None:
    found = Counter[object]()
    for seed in range(400):
        item = prepare_suite.question("Say", "yes", ["no", "maybe", "never"], " sir", rng(seed))
        assert sorted(choices(item)) == [" maybe sir", " never sir", " no sir", " yes sir"]
        assert gold(item) == " yes sir"
        assert prepare_suite.full_text(item) == "Say yes sir"
        found[item["gold"]] += 1
    assert found.keys() == {0, 1, 2, 3}
    assert min(found.values()) > 70


def test_agreement_flips_a_word_and_keeps_the_rest_of_its_sentence() -> None:
    sentences = ("It was so.", "And there the tall men were all asleep at night.", "He is up.")
    found = {str(m["query"]): m for m in prepare_suite.agreement(document(*sentences), rng())}
    asleep, up = "It was so. And there the tall men", " ".join(sentences[:2]) + " He"
    assert found.keys() == {asleep, up}
    assert gold(found[asleep]) == " were all asleep at night."
    other = " was all asleep at night."
    assert sorted(choices(found[asleep])) == [other, " were all asleep at night."]
    assert gold(found[up]) == " is up."


def test_a_document_gives_at_most_so_many_items_of_a_kind() -> None:
    line = "Now and then it was here, it was there, it was up, it was down and it was gone."
    queries = [m["query"] for m in prepare_suite.agreement(document(line), rng())]
    assert len(queries) == len(set(queries)) == prepare_suite.SPOTS == 3


@pytest.mark.parametrize(("verb", "other"), [("hath", "have"), ("doth", "do"), ("is", "are"),
                                             ("has", "have"), ("was", "were"),
                                             ("this", "these"), ("those", "that")])  # fmt: skip
def test_agreement_knows_both_numbers(verb: str, other: str) -> None:
    (made,) = prepare_suite.agreement(document(f"And so the man {verb} it here."), rng())
    assert gold(made) == f" {verb} it here."
    assert sorted(choices(made)) == sorted([f" {verb} it here.", f" {other} it here."])


@pytest.mark.parametrize(
    "sentence",
    [
        "There he is now.",  # two words before, three are needed
        "He went over the island again.",  # no whole word
        "Nobody knows where the man is.",  # nothing behind it
    ],
)
def test_no_agreement_item_where_nothing_fits(sentence: str) -> None:
    assert prepare_suite.agreement(document(sentence), rng()) == []


def test_preposition_has_three_others_and_the_next_three_words() -> None:
    line = "They walked slowly home from the old town before it grew dark."
    for seed in range(30):
        (made,) = prepare_suite.preposition(document(line), rng(seed))
        assert made["query"] == "They walked slowly home"
        assert gold(made) == " from the old town"
        heads = [c.split()[0] for c in choices(made)]
        assert len(set(heads)) == 4
        assert set(heads) <= set(prepare_suite.PREPOSITIONS)
        assert {c.split(maxsplit=1)[1] for c in choices(made)} == {"the old town"}


def words(ranks: int) -> list[str]:
    """Made-up words of five letters, no two alike."""
    letters = itertools.product("bcdfg", "aeiou", "klmnp", "aeiou", "rstvw")
    return ["".join(w) for w in itertools.islice(letters, ranks)]


def test_cloze_distractors_stand_near_the_answer_by_frequency() -> None:
    known = words(400)
    frequency = Counter({w: 1000 - r for r, w in enumerate(known)})
    frequency["of"] = 5000
    frequency["rare"] = 4
    make = prepare_suite.cloze_maker(frequency)
    line = f"A b c d e f g h i {known[200]}, {known[210]} j."
    for seed in range(60):
        made = make(document(line), rng(seed))
        assert {gold(m).strip() for m in made} == {known[200], known[210]}
        for each in made:
            answer = gold(each).strip()
            query = "A b c d e f g h i" + (f" {known[200]}," if answer == known[210] else "")
            assert each["query"] == query
            others = [c.strip() for c in choices(each) if c.strip() != answer]
            assert len(set(others)) == 3
            assert not {known[200], known[210]} & set(others), "a distractor stands in the text"
            ranks = [abs(known.index(w) - known.index(answer)) for w in others]
            assert max(ranks) <= prepare_suite.NEIGHBOURS


@pytest.mark.parametrize(
    "line",
    [
        "A b c d bakar e f g h i j.",  # too little before it
        "A b c d e f g h i rare j.",  # rarer than five times
        "A b c d e f g h i Bakar j.",  # a name
    ],
)
def test_no_cloze_item_where_nothing_fits(line: str) -> None:
    make = prepare_suite.cloze_maker(Counter(dict.fromkeys(words(60), 10) | {"rare": 4}))
    assert make(document(line), rng()) == []


@pytest.fixture(scope="module")
def tasks() -> dict[str, list[Item]]:
    return prepare_suite.build(PrepareSuite(size=SIZE, max_chars=MAX_CHARS))


def test_every_task_has_its_items(tasks: dict[str, list[Item]]) -> None:
    expected = {f"{d}_{k}": getattr(SIZE, k) for d in text.DOMAINS for k in KINDS}
    assert {task: len(items) for task, items in tasks.items()} == expected
    names = [item["item"] for items in tasks.values() for item in items]
    assert len(set(names)) == len(names)
    for task, items in tasks.items():
        number = 2 if task.endswith("_agreement") else 4
        assert all(len(set(choices(item))) == number for item in items)


def test_items_name_the_document_that_they_begin(tasks: dict[str, list[Item]]) -> None:
    for domain in text.DOMAINS:
        held = [d.text for d in text.documents(domain, MAX_CHARS) if d.split == "benchmark"]
        of: dict[object, set[str]] = {}
        for kind in KINDS:
            items = tasks[f"{domain}_{kind}"]
            for item in items:
                of.setdefault(item["document"], set()).add(prepare_suite.full_text(item))
            assert max(Counter(i["document"] for i in items).values()) <= prepare_suite.SPOTS
        begun = [{t for t in held if all(t.startswith(x) for x in texts)} for texts in of.values()]
        assert all(begun), "items of one document begin the same text"
        assert len({min(t) for t in begun}) == len(of), "no text goes by two names"


def test_items_are_deterministic_and_depend_on_the_seed(tasks: dict[str, list[Item]]) -> None:
    again = prepare_suite.build(PrepareSuite(size=SIZE, max_chars=MAX_CHARS))
    assert again == tasks
    other = prepare_suite.build(
        PrepareSuite(size=SIZE.model_copy(update={"seed": 1}), max_chars=MAX_CHARS)
    )
    assert other != tasks


def test_right_answers_are_no_place(tasks: dict[str, list[Item]]) -> None:
    places = Counter(item["gold"] for t, items in tasks.items() if "agree" not in t
                     for item in items)  # fmt: skip
    assert places.keys() == {0, 1, 2, 3}
    assert max(places.values()) < places.total() / 2


def test_too_few_documents_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "documents", lambda domain, max_chars: ())
    message = r"'speeches' gives 0 agreement items, 15 are asked for: lower suite\.agreement"
    with pytest.raises(TextError, match=message):
        prepare_suite.build(PrepareSuite(size=SIZE, max_chars=MAX_CHARS))


def test_a_document_that_leaks_gives_no_item(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "They walked slowly home from the old town before it was quite dark."
    held = (document(line), document(f"Indeed they sang. {line}"))
    monkeypatch.setattr(text, "documents", lambda domain, max_chars: held)
    shingles = np.sort(np.array(sorted(text.shingles(line))))
    monkeypatch.setattr(text, "training_shingles", lambda max_chars: shingles)
    with pytest.raises(TextError, match="gives 0 agreement items"):
        prepare_suite.build(PrepareSuite(size=SIZE, max_chars=MAX_CHARS))


def test_task_files_load_in_lm_eval(tmp_path: Path, tasks: dict[str, list[Item]],
                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(prepare_suite, "build", lambda p: tasks)
    prepare_suite.run(PrepareSuite(size=SIZE, max_chars=MAX_CHARS), {}, tmp_path, silent)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    assert set(manager.all_tasks) == set(tasks)
    name = "scripture_preposition"
    task = manager.load_task_or_group([name])[name]
    documents = list(task.test_docs())
    assert documents == tasks[name]
    assert [task.doc_to_text(d) for d in documents] == [i["query"] for i in tasks[name]]
    assert [task.doc_to_target(d) for d in documents] == [i["gold"] for i in tasks[name]]
    assert [task.doc_to_choice(d) for d in documents] == [i["choices"] for i in tasks[name]]
    lines = (tmp_path / f"{name}.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == tasks[name]
    expected = {t: [prepare_suite.full_text(i) for i in items] for t, items in tasks.items()}
    assert prepare_suite.texts(tmp_path) == expected
