"""Parameters: what is refused, in which words, and what the tiers and notebooks promise."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nbutils.config import notebook_parameters
from nbutils.config.notebook_parameters import NOTEBOOKS, CorpusNotebook
from nbutils.config.schema import Mixture, Parameters, Recipe
from nbutils.config.tiers import Member, Tier, load_tier
from nbutils.config.validation import check
from nbutils.errors import ParameterError
from support.tiny import REPOSITORY

SOURCES = {path.stem: path for path in sorted((REPOSITORY / "notebooks").glob("*.py"))}
TIERS = sorted(path.stem for path in (REPOSITORY / "notebooks" / "tiers").glob("*.yml"))
CELL = re.compile(
    r'^# %% tags=\["parameters"(?:, "remove-cell")?\]\n(.*?)(?=^# %%|\Z)', re.MULTILINE | re.DOTALL
)
LINE = re.compile(r"(\w+): (\w+) = (.+?)  # (\S.+)")


def smoke() -> dict[str, Any]:
    text = (REPOSITORY / "notebooks" / "tiers" / "smoke.yml").read_text("utf-8")
    return dict(yaml.safe_load(text))


def refused(schema: type[Parameters], values: dict[str, Any], where: str = "") -> str:
    with pytest.raises(ParameterError) as caught:
        check(schema, values, where)
    return str(caught.value)


def test_unknown_parameter_names_the_allowed_and_the_nearest() -> None:
    assert refused(CorpusNotebook, {"temprature": 1.0}) == (
        "unknown parameter 'temprature': allowed are seed, source, temperature, tier; "
        "did you mean 'temperature'?"
    )


def test_unknown_parameter_deep_inside_names_its_own_siblings() -> None:
    values = smoke()
    values["families"]["neox"]["mixture"] = {"speeches": 0.9, "scriptures": 0.1}
    message = refused(Tier, values)
    assert "unknown parameter 'families.neox.mixture.scriptures'" in message
    assert "allowed are encyclopedia, scripture, speeches; did you mean 'scripture'?" in message


@pytest.mark.parametrize(
    ("schema", "values", "message"),
    [
        (CorpusNotebook, {"seed": "three"}, r"'seed' is 'three': .*valid integer"),
        (CorpusNotebook, {"seed": True}, r"'seed' is True: .*valid integer"),
        (CorpusNotebook, {"seed": 1.0}, r"'seed' is 1.0: .*valid integer"),
        (CorpusNotebook, {"seed": -1}, r"'seed' is -1: .*greater than or equal to 0"),
        (CorpusNotebook, {"temperature": "1"}, r"'temperature' is '1': .*valid number"),
        (CorpusNotebook, {"temperature": 0}, r"'temperature' is 0: .*greater than"),
        (CorpusNotebook, {"temperature": -0.5}, r"'temperature' is -0.5: .*greater than"),
        (CorpusNotebook, {"temperature": 5.1}, r"'temperature' is 5.1: .*less than or equal to 5"),
        (CorpusNotebook, {"temperature": float("nan")}, r"'temperature' is nan: "),
        (CorpusNotebook, {"source": "../x"}, r"'source' is '../x': "),
        (
            notebook_parameters.PairingNotebook,
            {"method": "lorra"},
            r"'method' is 'lorra': .*'full' or 'lora'",
        ),
        (Recipe, {"steps": 1, "tokens_per_step": 64}, r"parameter 'learning_rate' is missing"),
    ],
)
def test_wrong_values_name_field_value_and_range(
    schema: type[Parameters], values: dict[str, Any], message: str
) -> None:
    assert re.search(message, refused(schema, values))


def test_every_wrong_field_has_its_line_behind_the_place() -> None:
    message = refused(CorpusNotebook, {"seed": -1, "temperature": 9, "sorce": "a"}, "here")
    lines = message.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("here: ") for line in lines)


def test_what_is_right_passes_and_whole_numbers_are_temperatures() -> None:
    values = check(CorpusNotebook, {"temperature": 2, "source": "qwen-small"})
    assert (values.temperature, values.source, values.tier) == (2.0, "qwen-small", "tiny")


def test_a_mixture_sums_to_one() -> None:
    assert refused(Mixture, {"speeches": 0.5, "scripture": 0.4}) == (
        "the shares of a mixture must sum to 1, these sum to 0.9"
    )
    mixture = check(Mixture, {"speeches": 0.3, "scripture": 0.7})
    assert mixture.shares() == {"speeches": 0.3, "scripture": 0.7}
    assert mixture.main() == "scripture"


def test_a_member_of_no_family_is_refused() -> None:
    values = smoke()
    values["models"]["qwen-small"]["family"] = "qwem"
    assert refused(Tier, values) == (
        "unknown family 'qwem' (model qwen-small): allowed are llama, neox, qwen; "
        "did you mean 'qwen'?"
    )


def test_a_student_that_is_no_model_is_refused() -> None:
    values = smoke()
    values["grid"]["students"] = ["neox-smal"]
    message = refused(Tier, values)
    assert "unknown model 'neox-smal' (grid.students)" in message
    assert "did you mean 'neox-small'?" in message


def test_an_unknown_tier_names_the_tiers(project: Path) -> None:
    with pytest.raises(ParameterError, match=r"unknown tier 'smke'.*did you mean 'smoke'\?"):
        load_tier("smke", project)


@pytest.mark.parametrize("name", ["../tiers/smoke", "", "smoke.yml"])
def test_a_tier_is_never_a_path(project: Path, name: str) -> None:
    with pytest.raises(ParameterError, match="unknown tier"):
        load_tier(name, project)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", r"bad\.yml must hold a mapping, not list"),
        ("", r"bad\.yml must hold a mapping, not NoneType"),
        ("a: [1\n", r"bad\.yml is not valid YAML"),
        ("title: 3\n", r"bad\.yml: parameter 'title' is 3: "),
    ],
)
def test_a_damaged_tier_names_its_file(project: Path, text: str, message: str) -> None:
    (project / "notebooks" / "tiers" / "bad.yml").write_text(text, "utf-8")
    with pytest.raises(ParameterError, match=message):
        load_tier("bad", project)


def test_relation_is_computed_from_the_families() -> None:
    values = smoke()
    values["models"]["neox-large"] = values["models"]["neox-small"] | {"size": "large"}
    tier = check(Tier, values)
    assert tier.relation("neox-small", "neox-small") == "self"
    assert tier.relation("neox-large", "neox-small") == "lineage"
    assert tier.relation("neox-small", "neox-large") == "lineage"
    assert tier.relation("qwen-small", "neox-small") == "cross-family"


@pytest.mark.parametrize("name", TIERS)
def test_every_tier_is_valid(name: str) -> None:
    tier = load_tier(name, REPOSITORY)
    made = [member for member in tier.models.values() if isinstance(member, Member)]
    assert (tier.planting is None) == (made == [])
    if tier.planting:
        assert tier.planting.prefix + tier.planting.suffix + 2 < tier.context
    assert all(member.hidden % member.heads == 0 for member in made)


@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_parameters_cell_and_schema_are_one(name: str) -> None:
    cells = CELL.findall(SOURCES[name].read_text("utf-8"))
    assert len(cells) == 1
    lines = cells[0].strip().splitlines()
    found = {}
    for line in lines:
        parts = LINE.fullmatch(line)
        assert parts, f"no typed parameter with a default and a help comment: {line!r}"
        key, kind, default, _ = parts.groups()
        found[key] = ast.literal_eval(default)
        assert type(found[key]).__name__ == kind
    assert len(found) == len(lines)
    fields = NOTEBOOKS[name].model_fields.items()
    defaults = {k: str(f.default) if isinstance(f.default, Path) else f.default for k, f in fields}
    assert found == defaults
    assert all(type(found[key]) is type(default) for key, default in defaults.items())


def test_no_notebook_takes_parameters_without_a_schema() -> None:
    parameterised = {n for n, path in SOURCES.items() if CELL.search(path.read_text("utf-8"))}
    assert parameterised == set(NOTEBOOKS)


def test_a_pretrained_student_needs_passages() -> None:
    values = yaml.safe_load((REPOSITORY / "notebooks" / "tiers" / "smol.yml").read_text("utf-8"))
    passages = values.pop("passages")
    assert refused(Tier, values).startswith("student 'smollm2-135m' needs `passages` to extract")
    values["models"]["smollm2-135m"]["passages"] = passages
    check(Tier, values)
