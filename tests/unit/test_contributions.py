"""Contributions: from one project's store to another's published tables, and what is refused."""

import io
import json
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import (
    archives,
    cli,
    contributions,
    forms,
    pairings,
    plans,
    publish,
    results,
    runs,
    summaries,
)
from nbutils.params import UserError
from nbutils.runs import STAGES, Manifest, Run, Store
from tiny import REPOSITORY, silent

Files = dict[str, bytes]
TIER = "small"
HUB = f"hub:owner/name@{'0' * 40}"
RECIPE = {"steps": 4, "tokens_per_step": 1024, "learning_rate": 0.001}
TASKS, ITEMS, PASSAGES = ("cloze", "agreement"), 30, 12


def rows(stage: str, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """The files that a stage writes, with made-up numbers."""
    if stage == "measure_utility":
        items = [(t, f"{t}-{i}", f"{t}-{i // 2}", 0.25) for t in TASKS for i in range(ITEMS)]
        frame = pd.DataFrame(items, columns=list(summaries.ITEM))
        return {"utility": frame.assign(correct=rng.random(len(frame)) < 0.6)}
    if stage == "measure_extraction":
        frame = pd.DataFrame({"passage": range(PASSAGES), "split": ["dev", "held_out"] * 6})
        frame = frame.assign(exact=rng.random(PASSAGES) < 0.5, matched_tokens=3, suffix_tokens=8)
        return {"extraction": frame}
    if stage == "sample_corpus":
        corpus = {"text": ["a house", "the king"], "n_tokens": [2, 3], "finished": [True, False]}
        return {"corpus": pd.DataFrame(corpus).assign(mean_log_prob=-rng.random(2))}
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
        facts = {"parameters": 9} | made | unknown
        (out / "facts.json").write_text(json.dumps(facts))
        (out / "config.json").write_text('{"model_type": "llama"}')
        (out / "texts.json").write_text('{"cloze": ["the king"]}')

    return compute


@pytest.fixture(scope="module", autouse=True)
def _stages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for stage in STAGES.values():
            module = import_module(f"nbutils.{stage.module}")
            patch.setattr(module, stage.function, fake(stage.name))
        patch.setattr(publish, "stage_pages", lambda *_: None)
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


def form(**changes: Any) -> forms.ReportNotebook:
    values = {"tier": TIER, "source": "llama-small", "student": "neox-small", "seed": 1}
    return forms.ReportNotebook.model_validate(values | changes)


def compute(root: Path, wanted: list[Run]) -> None:
    for run in wanted:
        Store(root).execute(run, 1, silent)


def paired(root: Path, asked: forms.ReportNotebook) -> str:
    """Compute one pairing; return the key of its fine-tune."""
    plan, cell = pairings.asked(asked, root)
    compute(root, plans.each_once([*plan.pairing(cell), *plan.beside(cell)]))
    key = Store(root).key(plan.self_train(cell))
    assert key is not None
    return key


def packed(root: Path, **changes: Any) -> Path:
    return contributions.contribute(paired(root, form(**changes)), root)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a person who computed a pairing of another seed, and its archive."""
    return packed(project(tmp_path_factory.mktemp("theirs")))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the published tier; read only."""
    root = project(tmp_path_factory.mktemp("published"))
    plan = plans.of(TIER, root)
    compute(root, plan.all())
    results.collect(plan.tier, TIER, plan.all(), root)
    publish.publish(TIER, plan.all(), root)
    return root


@pytest.fixture
def ours(published: Path, tmp_path: Path) -> Path:
    """A copy of the project with the published tier."""
    return Path(shutil.copytree(published, tmp_path / "ours"))


def place(root: Path) -> Path:
    return root / results.PUBLISHED / TIER


def content(root: Path) -> dict[str, bytes]:
    """Everything under ``book/``."""
    found = (root / "book").rglob("*")
    return {str(p.relative_to(root)): p.read_bytes() for p in found if p.is_file()}


def files(archive: Path) -> Files:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def resummed(changed: Files) -> bytes:
    """An archive of changed files, with digests that fit."""
    rest = {name: data for name, data in changed.items() if name != results.SUMS}
    return archives.zipped(rest | {results.SUMS: results.sums(rest).encode()})


def refused(root: Path, data: bytes, message: str) -> None:
    """What is refused says why, and leaves everything as it was."""
    before = content(root)
    path = root / "given.zip"
    path.write_bytes(data)
    with pytest.raises(publish.PublishError, match=f"given.zip is not accepted: .*({message})"):
        publish.accept(path, root)
    assert content(root) == before


# --- What is accepted -----------------------------------------------------------------------


def test_a_round_trip_adds_the_cell(theirs: Path, ours: Path) -> None:
    before = results.read(place(ours))
    contribution, added = publish.accept(theirs, ours)
    assert added
    assert publish.verify(TIER, ours)
    after = results.read(place(ours))
    for name, column in (("states", "state"), ("curves", "run"), ("corpora", "run")):
        kept = after[name][after[name][column].isin(before[name][column])]
        pd.testing.assert_frame_equal(kept, before[name])
        assert list(after[name].dtypes) == list(before[name].dtypes)
    new = after["states"][~after["states"]["state"].isin(before["states"]["state"])]
    assert new[["student", "source", "seed"]].to_numpy().tolist() == [
        ["neox-small", "llama-small", 1]
    ]
    assert contribution.trained in results.read_manifests(place(ours))
    shutil.rmtree(ours / results.YOURS)
    labels = results.manifests(ours).set_index("key")["results"]
    assert labels[contribution.trained.key] == "small · published · contributed"
    shared = results.read_manifests(place(ours))[0].key
    assert labels[shared] == "small · published"


def test_gains_of_a_contributed_cell_are_those_of_its_rows(tmp_path: Path, ours: Path) -> None:
    root = project(tmp_path / "theirs")
    asked = form(temperature=0.7, source="neox-small", seed=0)
    publish.accept(packed(root, **asked.model_dump(exclude_unset=True)), ours)
    plan, cell = pairings.asked(asked, root)
    both = [plan.utility(cell.student), plan.utility(cell.student, cell)]
    direct = summaries.paired(
        *(pd.read_parquet(Store(root).path(run) / "utility.parquet") for run in both)
    )
    found = results.read(place(ours))["gains"]
    found = found[found["temperature"].eq(0.7)]
    assert set(found["relation"]) == {"self"}
    columns = ["task", "items", "base_accuracy", "accuracy", "gain"]
    pd.testing.assert_frame_equal(
        found[columns].reset_index(drop=True), direct[columns], check_dtype=False
    )


def test_a_second_seed_joins_the_cell(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, ours)
    gains = results.read(place(ours))["gains"]
    suite = gains[gains["task"].eq(summaries.SUITE)].set_index("source")["seeds"]
    assert suite.to_dict() == {"neox-small": 1, "llama-small": 2}


def test_accepting_twice_changes_nothing(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, ours)
    before = content(ours)
    assert publish.accept(theirs, ours)[1] is False
    assert content(ours) == before


def test_a_cell_of_the_tier_itself_changes_nothing(tmp_path: Path, ours: Path) -> None:
    before = content(ours)
    assert publish.accept(packed(project(tmp_path / "theirs"), seed=0), ours)[1] is False
    assert content(ours) == before


def test_a_tier_that_is_not_published_gets_a_folder(theirs: Path, tmp_path: Path) -> None:
    root = project(tmp_path / "fresh")
    assert publish.accept(theirs, root)[1] is True
    assert publish.verify(TIER, root)
    assert [t.label for t in results.available(root)] == ["small · published"]
    assert results.without_manifest(place(root)) == set()
    assert len(results.load("gains", root)) == len(TASKS) + 1


def test_a_model_from_the_hub_is_accepted(tmp_path: Path, ours: Path) -> None:
    publish.accept(packed(project(tmp_path / "theirs"), source=HUB), ours)
    tables = results.read(place(ours))
    (stranger,) = set(tables["models"]["model"]) - {"neox-small", "llama-small"}
    assert stranger.startswith("owner-name-")
    assert stranger in set(tables["gains"]["source"])
    assert publish.verify(TIER, ours)


def test_what_is_kept_is_what_was_sent(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, ours)
    kept = place(ours) / contributions.KEPT / theirs.name
    assert kept.read_bytes() == theirs.read_bytes()


def test_publishing_again_keeps_contributions(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, ours)
    before = content(ours)
    publish.publish(TIER, plans.of(TIER, ours).all(), ours)
    assert content(ours) == before


def test_publishing_refuses_to_lose_a_contribution(theirs: Path, ours: Path) -> None:
    publish.accept(theirs, ours)
    (place(ours) / contributions.KEPT / theirs.name).write_bytes(b"")
    before = content(ours)
    with pytest.raises(publish.PublishError, match=r"no longer fits.*no whole zip"):
        publish.publish(TIER, plans.of(TIER, ours).all(), ours)
    assert content(ours) == before


def test_no_text_of_a_corpus_is_packed(theirs: Path) -> None:
    assert sorted(files(theirs)) == sorted(archives.FILES)
    assert not [name for name, data in files(theirs).items() if b"the king" in data]


def test_the_command_line(
    theirs: Path, ours: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            raise SystemExit(cli.main(list(arguments)))
        said = capsys.readouterr()
        return f"{stop.value.code} {said.out}{said.err}"

    monkeypatch.chdir(theirs.parents[2])
    name = "neox-small ← llama-small T=1 full s1"
    assert call("contribute", name).startswith(f"0 Packed: runs/contributions/{theirs.name} (")
    monkeypatch.chdir(ours)
    accepted = f"0 Accepted: small: {name}; now in book/results/small/\n"
    assert call("accept", str(theirs)) == accepted
    assert call("accept", str(theirs)).startswith("0 Nothing to do: tier small has small: ")
    assert call("accept", "no.zip").startswith("1 error: no.zip is not accepted: it cannot be")


# --- What cannot be contributed -------------------------------------------------------------


def test_a_missing_measurement_is_told_with_its_command(tmp_path: Path) -> None:
    root = project(tmp_path)
    plan, cell = pairings.asked(form(), root)
    compute(root, plans.each_once([plan.utility(cell.student, cell)]))
    key = Store(root).key(plan.self_train(cell))
    with pytest.raises(contributions.ContributionError) as caught:
        contributions.contribute(str(key), root)
    assert "measure_extraction of small: neox-small ← llama-small" in str(caught.value)
    command = "nbutils notebook pairing -p tier small -p source llama-small -p student neox-small"
    assert command + " -p temperature 1.0 -p method full -p seed 1" in str(caught.value)


def test_a_student_without_passages(tmp_path: Path) -> None:
    """A tier whose models are made here knows none for a model of the hub."""
    with pytest.raises(contributions.ContributionError, match="no passages for owner-name"):
        packed(project(tmp_path), student=HUB)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no such", "there is no finished self_train run 'no such'"),
        ("", r"'' may be 2 runs, give the key of one: \w{16} is small: "),
    ],
)
def test_a_run_that_is_not_one(reference: str, message: str, published: Path) -> None:
    with pytest.raises(contributions.ContributionError, match=message):
        contributions.contribute(reference, published)


def test_another_budget_is_not_the_tiers(tmp_path: Path) -> None:
    root = project(tmp_path)
    key = paired(root, form(steps=2, tokens=100))
    with pytest.raises(contributions.ContributionError, match="differs in: recipe, input corpus"):
        contributions.contribute(key, root)


def test_only_pairings_are_contributed(tmp_path: Path) -> None:
    root = project(tmp_path, grid={"students": ["neox-small"], "rounds": 2})
    compute(root, plans.of(TIER, root).all())
    with pytest.raises(contributions.ContributionError, match="belongs to rounds; only pairings"):
        contributions.contribute("neox-small ← neox-small T=1 full round 2 s0", root)


def test_a_model_that_others_cannot_fetch(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(contributions.ContributionError, match="others cannot fetch"):
        packed(project(tmp_path / "theirs"), source=f"folder:{folder}")


# --- What is not accepted: the file ---------------------------------------------------------


def entry(archive: Path, name: str, data: bytes = b"x", kind: int = stat.S_IFREG) -> bytes:
    """The archive with one more entry."""
    buffer = io.BytesIO(archive.read_bytes())
    with zipfile.ZipFile(buffer, "a") as opened:
        info = zipfile.ZipInfo(name)
        info.external_attr = kind << 16
        opened.writestr(info, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name", ["../states.csv", "/etc/passwd", "runs/states.csv", "states.parquet", "C:\\states.csv"]
)
def test_a_name_that_is_not_expected(name: str, theirs: Path, ours: Path) -> None:
    refused(ours, entry(theirs, name), f"each once; missing: none; not allowed: .*{name[-6:]}")


def test_a_name_that_comes_twice(theirs: Path, ours: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = entry(theirs, "states.csv")
    refused(ours, data, "not allowed: .'states.csv', 'states.csv'")


def test_a_link(theirs: Path, ours: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, data in files(theirs).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK if name == "states.csv" else 0) << 16
            opened.writestr(info, b"/etc/passwd" if name == "states.csv" else data)
    refused(ours, buffer.getvalue(), "states.csv is a link")


def test_a_bomb(theirs: Path, ours: Path) -> None:
    bomb = resummed(files(theirs) | {"states.csv": bytes(2 * archives.LIMIT)})
    assert len(bomb) < archives.LIMIT / 100
    refused(ours, bomb, "it unpacks to 32 MiB; allowed are 16 MiB")


def test_a_bomb_that_lies_about_its_size(theirs: Path, ours: Path) -> None:
    size = 2 * archives.LIMIT
    bomb = resummed(files(theirs) | {"states.csv": bytes(size)})
    said = bomb.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    refused(ours, said, "no whole zip archive")


def test_a_file_that_is_too_large(ours: Path) -> None:
    refused(ours, bytes(archives.LIMIT + 1), "is larger than the 16 MiB")


def test_a_file_that_is_no_archive(theirs: Path, ours: Path) -> None:
    refused(ours, b"", "no whole zip archive")
    refused(ours, b"states", "no whole zip archive")
    refused(ours, theirs.read_bytes()[:-100], "no whole zip archive")


def test_a_changed_byte(theirs: Path, ours: Path) -> None:
    changed = files(theirs)
    changed["utility.csv"] = changed["utility.csv"].replace(b"True", b"False", 1)
    refused(ours, archives.zipped(changed), "utility.csv differs from its digest in SHA256SUMS")


def test_a_missing_table(theirs: Path, ours: Path) -> None:
    less = files(theirs)
    del less["curves.csv"]
    refused(ours, resummed(less), "missing: curves.csv; not allowed: ")


Change = tuple[str, str, str, str]
# file, what is replaced there, by what, and what is said
CHANGES: list[Change] = [
    ("states.csv", "extraction_run", "extraction", "table states has the columns state, extracti"),
    ("utility.csv", "chance", "chances", "table utility has the columns"),
    ("utility.csv", "True", "maybe", "table utility cannot be read"),
    ("utility.csv", "0.25", "", "column 'chance' must hold numbers"),
    ("utility.csv", "0.25", "inf", "column 'chance' must hold numbers"),
    ("utility.csv", "0.25", "0.250", "not written as `nbutils contribute`"),
    ("utility.csv", "cloze-3,", "cloze-4,", "same items and passages, each once"),
    ("utility.csv", "cloze-3,", "<b>,", "column 'item' must hold text"),
    ("extraction.csv", ",1,held_out", ",2,held_out", "same items and passages, each once"),
    ("states.csv", "cross-family", "self", "table states: relation of run .* 'cross-family'"),
    ("curves.csv", "llama-small", "neox-small", "table curves: source of run"),
    ("corpora.csv", ",1.0,1,", ",0.7,1,", "table corpora: temperature of run"),
    ("proxies.csv", "cross-family", "lineage", "table proxies: relation of run"),
    ("models.csv", "llama-small", "qwen-small", "table models: model of run"),
    ("code.sha256", "\n", "0\n", "tables were made by other code"),
    ("manifests.jsonl", '"schema_version":1', '"schema_version":2', "has schema version 2"),
    ("manifests.jsonl", '"threads":1', '"threads":1,"new":1', "schema version 1: new: Extra"),
    ("manifests.jsonl", '"wall_seconds":', '"wall_seconds":NaN,"w":', "is no manifest of schema"),
    ("manifests.jsonl", '"seed":1', '"seed":2', "key '.*' does not follow"),
    ("manifests.jsonl", '"key":"', '"key":"0', "key '0.*' does not follow"),
    ("manifests.jsonl", "small: ", "lab7: ", "unknown tier 'lab7'"),
    ("manifests.jsonl", "small: ", "../../x: ", "unknown tier '../../x'"),
    ("manifests.jsonl", '"pairings"', '"controls"', "belongs to controls; only pairings"),
    ("manifests.jsonl", '1.0,"seed":1,"round"', '9.0,"seed":1,"round"', "'temperature' is 9.0"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), CHANGES)
def test_a_wrong_value(
    file: str, old: str, new: str, message: str, theirs: Path, ours: Path
) -> None:
    changed = files(theirs)
    assert old.encode() in changed[file]
    changed[file] = changed[file].replace(old.encode(), new.encode())
    refused(ours, resummed(changed), re.escape(message) if "*" not in message else message)


def manifests(archive: Path) -> list[Manifest]:
    return [Manifest.model_validate_json(x) for x in files(archive)["manifests.jsonl"].splitlines()]


@pytest.mark.parametrize("stage", ["self_train", "sample_corpus", "prepare_suite", "diagnose"])
def test_a_missing_manifest(stage: str, theirs: Path, ours: Path) -> None:
    left = [m for m in manifests(theirs) if m.stage != stage]
    lines = "".join(m.model_dump_json() + "\n" for m in left).encode()
    refused(
        ours,
        resummed(files(theirs) | {"manifests.jsonl": lines}),
        "lacks what|holds 0 fine-tunes|no manifest of|does not take",
    )


def test_a_forged_digest_of_an_input(theirs: Path, ours: Path) -> None:
    """Its own key is made to fit; what reads it still names the digest that it had."""
    changed = files(theirs)
    suite = next(m for m in manifests(theirs) if m.stage == "prepare_suite")
    forged = suite.model_copy(update={"outputs": {"texts.json": "0" * 64}})
    changed["manifests.jsonl"] = changed["manifests.jsonl"].replace(
        suite.model_dump_json().encode(), forged.model_dump_json().encode()
    )
    refused(ours, resummed(changed), r"lacks what tier 'small' asks for: .*input suite")


def test_rows_of_a_run_that_is_not_there(theirs: Path, ours: Path) -> None:
    changed = files(theirs)
    head, first, *rest = changed["proxies.csv"].splitlines(keepends=True)
    changed["proxies.csv"] = b"".join([head, first, *rest, b"0" * 16 + first[16:]])
    refused(ours, resummed(changed), "table proxies: .* rows of no such run: 0000000000000000")


# --- What is not accepted: a contribution that does not fit -----------------------------------


def test_other_code(tmp_path: Path, ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = runs.code_digest
    with monkeypatch.context() as patch:
        patch.setattr(runs, "code_digest", lambda s: "0" * 64 if s == "diagnose" else now(s))
        archive = packed(project(tmp_path / "theirs"))
    refused(ours, archive.read_bytes(), "made by other code of diagnose than tier 'small'")


def test_code_is_compared_with_that_of_the_tier(
    theirs: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tier and the contribution are of one code; that of the checkout has changed since."""
    monkeypatch.setattr(runs, "code_digest", lambda stage: "0" * 64)
    assert publish.accept(theirs, ours)[1] is True


@pytest.mark.parametrize(
    "changes",
    [
        {"suite": {"cloze": 9, "agreement": 10, "preposition": 10}},
        {"corpus": {"tokens": 5000, "batch_size": 32}},
        {"context": 100},
    ],
)
def test_another_tier_of_the_same_name(changes: dict[str, Any], tmp_path: Path, ours: Path) -> None:
    """Another suite, budget or model."""
    archive = packed(project(tmp_path / "theirs", **changes))
    refused(ours, archive.read_bytes(), "it lacks what tier 'small' asks for: .*changed: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": {"cloze": 9, "agreement": 10, "preposition": 10}}, "which differs in: size"),
        ({"corpus": {"tokens": 5000, "batch_size": 32}}, "which differs in: tokens"),
        ({"self_train": RECIPE}, "recipe of self_train is .*'steps': 4.* and .*'steps': 3"),
    ],
)
def test_a_tier_whose_file_has_changed_since(
    changes: dict[str, Any], message: str, tmp_path: Path, ours: Path
) -> None:
    archive = packed(project(tmp_path / "theirs", **changes))
    project(ours, **changes)
    refused(ours, archive.read_bytes(), message)


def test_another_arithmetic(tmp_path: Path, ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and corpora must be the tier's; a few near ties may fall otherwise, and no more."""
    known = rows

    def with_other(stage: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> bytes:
        def made(asked: str, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
            return {
                name: change(frame) if asked == stage else frame
                for name, frame in known(asked, rng).items()
            }

        with monkeypatch.context() as patch:
            patch.setitem(globals(), "rows", made)
            return packed(project(tmp_path / stage)).read_bytes()

    other_model = with_other("prepare_model", lambda f: f.assign(suffix_text="and so on"))
    refused(ours, other_model, "prepare_model of small: .* has other content")
    other_answers = with_other("measure_utility", lambda f: f.assign(correct=~f["correct"]))
    refused(ours, other_answers, "answers 60 of 72 items and passages otherwise")


def test_a_published_tier_that_was_changed(theirs: Path, ours: Path) -> None:
    with (place(ours) / "manifests.jsonl").open("a") as file:
        file.write("\n")
    refused(ours, theirs.read_bytes(), "is not as it was published")


# --- Whatever else may come -------------------------------------------------------------------


def harmless(root: Path, before: dict[str, bytes], data: bytes) -> None:
    """A user's error and nothing else comes out, or a tier that verifies."""
    path = root / "given.zip"
    path.write_bytes(data)
    try:
        publish.accept(path, root)
    except UserError:
        assert content(root) == before
    else:
        assert publish.verify(TIER, root)
        shutil.rmtree(root / "book")
        for name, data in before.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)


@pytest.fixture(scope="module")
def target(
    published: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, bytes]]:
    """A copy of the project with the published tier, and what is published there."""
    root = tmp_path_factory.mktemp("target") / "project"
    shutil.copytree(published, root)
    return root, content(root)


EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=3)),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Bytes with some replaced, dropped or added at places between begin (0) and end (1)."""
    for where, dropped, new in edits:
        at = int(where * len(data))
        data = data[:at] + new + data[at + dropped :]
    return data


@settings(max_examples=60, deadline=None)
@given(EDITS)
def test_mutated_archives(
    theirs: Path, target: tuple[Path, dict[str, bytes]], edits: list[tuple[float, int, bytes]]
) -> None:
    harmless(*target, edited(theirs.read_bytes(), edits))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(archives.FILES), EDITS)
def test_mutated_files_with_digests_that_fit(
    theirs: Path,
    target: tuple[Path, dict[str, bytes]],
    file: str,
    edits: list[tuple[float, int, bytes]],
) -> None:
    changed = files(theirs)
    changed[file] = edited(changed[file], edits)
    harmless(*target, resummed(changed))
