"""Bad parameters of pairings, commands and stages: what is typed, and what is said.

Every message names what was given, what is allowed, and the nearest name where there is one.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest

from nbutils.config import validation
from nbutils.config.schema import (
    EmbedTexts,
    FetchModel,
    MeasureProxies,
    MeasureUtility,
    Parameters,
    Passages,
    PrepareModel,
    RealCorpus,
    SampleCorpus,
    SelfTrain,
    Trace,
)
from nbutils.errors import ParameterError
from support.project import Answer

SLUG = "small letters, digits and hyphens, at most 40, a letter or digit first"
ORIGIN = "hub:OWNER/NAME@REVISION with all 40 digits of a commit, folder:PATH, gguf:PATH.gguf"
INTEGER, POSITIVE = "a valid integer", "greater than or equal to 1"

# The parameters of one pairing: what is typed, and what is said.
PAIRINGS: list[tuple[str, str]] = [
    ("temprature=1", "unknown parameter 'temprature': allowed are method, seed, source"),
    ("temprature=1", "did you mean 'temperature'?"),
    ("temperature=9", "parameter 'temperature' is 9: input should be less than or equal to 5"),
    ("temperature=.nan", "parameter 'temperature' is nan: input should be a finite number"),
    ("temperature=hot", "parameter 'temperature' is 'hot': input should be a valid number"),
    ("seed=-1", "parameter 'seed' is -1: input should be greater than or equal to 0"),
    ("seed=2147483648", "parameter 'seed' is 2147483648: input should be less than 2147483648"),
    ("seed=99999999999999999999", "of 'seed' is not valid YAML: line 1, column 1: a whole"),
    ("seed=2001-01-01", "the value '2001-01-01' of 'seed' is not valid YAML: line 1, column 1"),
    ("seed=!!python/name:os.system", "a value of kind 'python/name:os.system'; allowed are"),
    ("seed", "parameter 'seed' has no value: write -p seed VALUE"),
    ("=3", "unknown parameter '': allowed are method, seed, source, steps, student, tasks"),
    ("method=lorra", "'method' is 'lorra': input should be 'full' or 'lora'; did you mean"),
    ("tokens=-1", "parameter 'tokens' is -1: input should be greater than or equal to 0"),
    ("steps=1.5", "parameter 'steps' is 1.5: input should be a valid integer"),
    ("tasks=piqa", "parameter 'tasks' is 'piqa': input should be a valid list"),
    ("tasks=[piqa]", "tier 'smoke' builds its own suite and takes no tasks: leave `tasks` out"),
    ("source=3", "parameter 'source' is 3: input should be a valid string"),
    ("student=", "parameter 'student' is None: input should be a valid string"),
    ("source=neox-smal", "unknown model 'neox-smal' (tier smoke): allowed are llama-small"),
    ("source=neox-smal", "did you mean 'neox-small'?"),
    ("source=hub:owner/name", f"'origin' is 'hub:owner/name': allowed are {ORIGIN}"),
    ("source=a:b:c", f"a:b:c: parameter 'origin' is 'a:b:c': allowed are {ORIGIN}"),
    ("source=folder:/nowhere", "/nowhere is no model folder: it has no config.json"),
    ("source=folder:~nobody-has-this-name/x", "cannot be read: Could not determine home"),
    ("source=folder:/" + 5000 * "a", "cannot be read: File name too long"),
    ("source=gguf:/nowhere.gguf", "there is no GGUF file /nowhere.gguf"),
    ("source=wheel:llm-smol", "unknown wheel 'llm-smol' (of those that hold a model): allowed"),
    ('source="folder:/tmp/\\e[31mred"', r"'folder:/tmp/\x1b[31mred': allowed are"),
    ("tier=smokee", "unknown tier 'smokee' (in "),
    ("tier=../smoke", f"parameter 'tier' is '../smoke': allowed are {SLUG}"),
]

# Other commands: what is typed, the exit status, and what is said.
COMMANDS: list[tuple[str, int, str]] = [
    ("pln smoke", 2, "No such command 'pln'. Did you mean 'plan'?"),
    ("plan", 2, "Missing argument 'tier'"),
    ("plan smoke tiny", 2, "Got unexpected extra argument(s) (tiny)"),
    ("plan smokee", 1, "; did you mean 'smoke'?"),
    ("run ../smoke", 1, "unknown tier '../smoke'"),
    ("run smoke --dryrun", 2, "No such option: --dryrun (Possible options: --dry-run)"),
    ("gc --delte", 2, "No such option: --delte (Possible options: --delete"),
    ("publish smokee", 1, "did you mean 'smoke'?"),
    ("verify ../../etc", 1, "unknown published tier '../../etc': there is none"),
    (
        "accept no.zip",
        1,
        "no.zip is not accepted: it cannot be read as a whole archive: No such file",
    ),
    ("accept .", 1, ". is not accepted: it cannot be read as a whole archive: Is a directory"),
    ("contribute -p tier lab7", 1, "unknown tier 'lab7'"),
    ("contribute -p steps 9", 1, "out tokens, steps and tasks"),
    ("convert ../../x", 1, "unknown notebook '../../x': there is none"),
    ("notebook self_tran", 1, "did you mean 'self_train'?"),
    ("notebook self_train --dry-run", 1, "--dry-run is for the pairing notebook and for"),
    ("notebook self_train -p source ../x", 1, f"'source' is '../x': allowed are {SLUG}"),
    ("notebook prepare_model -p model 3", 1, "parameter 'model' is 3: input should be a valid"),
    ("notebook how_sure -p worlds 3", 1, "'worlds' is 3: input should be greater than or equal"),
    ("notebook how_sure -p wrlds 3", 1, "unknown parameter 'wrlds': allowed are root, worlds"),
    ("notebook speed -p root /nowhere", 1, "'root' is '/nowhere': path does not point to a dir"),
]

# What identifies a run, as a stage takes it: schema, field, value, and what is allowed.
STAGES: list[tuple[type[Parameters], str, Any, str]] = [
    (PrepareModel, "architecture", "llama3", "did you mean 'llama'?"),
    (FetchModel, "dtype", "float16 ", "did you mean 'float16'?"),
    (FetchModel, "scoring_bos", "no", "a valid boolean"),
    (SampleCorpus, "max_tokens", 1, "greater than or equal to 2"),
    (SampleCorpus, "seed", 2**31, "less than 2147483648"),
    (SelfTrain, "processes", 65, "less than or equal to 64"),
    (SelfTrain, "method", None, "'full' or 'lora'"),
    (RealCorpus, "max_chars", 0, "greater than or equal to 40"),
    (Trace, "points", [], "at least 1 item"),
    (MeasureUtility, "items", 0, POSITIVE),
    (EmbedTexts, "texts", 0, POSITIVE),
    (MeasureProxies, "documents", "all", INTEGER),
    (Passages, "source", "pythias", "'speeches', 'scripture' or 'pythia'; did you mean"),
]


@pytest.mark.parametrize(("given", "message"), PAIRINGS)
def test_a_wrong_pairing(given: str, message: str, run: Callable[..., Answer]) -> None:
    arguments = [word for text in ["tier=smoke", given] for word in ("-p", text)]
    status, _, errors = run("notebook", "pairing", *arguments, "--dry-run")
    assert (status, errors[:7], "Traceback" in errors) == (1, "error: ", False)
    assert message in errors


@pytest.mark.parametrize(("command", "expected", "message"), COMMANDS)
def test_a_wrong_command(
    command: str, expected: int, message: str, run: Callable[..., Answer]
) -> None:
    status, _, errors = run(*command.split())
    assert (status, "Traceback" in errors) == (expected, False)
    assert message in re.sub(r"[│╭╮╰╯─\s]+", " ", errors)  # out of the box around it


@pytest.mark.parametrize(("schema", "name", "value", "allowed"), STAGES)
def test_a_wrong_parameter_of_a_stage(
    schema: type[Parameters], name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        validation.check(schema, {name: value})
    assert re.search(
        rf"^parameter '{name}' is {re.escape(repr(value))}: .*{re.escape(allowed)}",
        str(caught.value),
        re.MULTILINE,
    )
