"""What no code of this project does: read pickles, build objects from YAML, run code of others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tiny import REPOSITORY

SOURCES = sorted([*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "notebooks").glob("*.py")])
FORBIDDEN = {
    *("eval", "exec", "pickle.load", "pickle.loads", "marshal.loads", "os.system"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.safe_load"),  # notation.read does
    *("pandas.read_pickle", "pd.read_pickle", "joblib.load", "shutil.unpack_archive"),
}


def names(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, and what is called, as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def wrong(source: str) -> list[str]:
    """What a source does that it must not, line by line."""
    tree, found = ast.parse(source), []
    for name, call in names(tree):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in FORBIDDEN or name.endswith(".extractall"):
            found.append(f"{call.lineno}: {name}")
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(f"{call.lineno}: torch.load of more than weights")
        if given.get("shell", "False") != "False" or "allow_pickle" in given:
            found.append(f"{call.lineno}: {given}")
        if given.get("trust_remote_code", "False") != "False":
            found.append(f"{call.lineno}: trust_remote_code")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = {
                ast.unparse(k): ast.unparse(v)
                for k, v in zip(node.keys, node.values, strict=True)
                if k
            }
            if pairs.get("'trust_remote_code'", "False") != "False":
                found.append(f"{node.lineno}: trust_remote_code")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_of_others_is_run(path: Path) -> None:
    assert wrong(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "yaml.safe_load(text)",
        "torch.load(path)",
        "model(path, trust_remote_code=True)",
        "options = {'trust_remote_code': ask}",
        "subprocess.run(line, shell=True)",
        "np.load(path, allow_pickle=True)",
        "archive.extractall(folder)",
        "eval(text)",
    ],
)
def test_the_search_finds_it(line: str) -> None:
    assert len(wrong(line)) == 1
