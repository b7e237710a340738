"""Code as data: its digest, for manifests and pages, and the core of a module, for pages."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from nbutils.files import canonical, sha256

PACKAGE = Path(__file__).parents[1]


@cache
def module_digest(name: str) -> str:
    """Hash of a module (named ``room.module``) and of all of ``nbutils`` that it imports.

    The parsed code is hashed, so comments, docstrings and layout do not count.
    """
    return code_digest(_file(name).read_text("utf-8"))


def code_digest(source: str) -> str:
    """Hash of some code and of all of ``nbutils`` that it imports, directly or indirectly."""
    code, waiting = _parsed(source)
    seen = {"": code}
    while waiting:
        name, *waiting = waiting
        if name not in seen:
            seen[name], imported = _parsed(_file(name).read_text("utf-8"))
            waiting += imported
    return sha256(canonical(seen))


def _file(name: str) -> Path:
    return PACKAGE.joinpath(*name.split(".")).with_suffix(".py")


@cache  # parsing takes the longest, and many stages share a module
def _parsed(source: str) -> tuple[Any, list[str]]:
    """Code without docstrings, and the modules of ``nbutils`` that it imports, as ``room.module``.

    ``__init__`` modules are left out: they contain no code.
    """
    tree = ast.parse(source)
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("nbutils."):
            place = str(node.module).removeprefix("nbutils").removeprefix(".")
            named = [f"{place}.{alias.name}".removeprefix(".") for alias in node.names]
            imported += [name for name in [place, *named] if name and _file(name).is_file()]
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(node, body[0]):
            body[:] = body[1:] or [ast.Pass()]
    return _plain(tree), imported


def _plain(code: Any) -> Any:
    """Parsed code as nested lists of strings, the same in every version of Python.

    Empty fields are left out, since newer versions of Python add fields to some nodes.
    """
    if isinstance(code, list):
        return [_plain(part) for part in code]
    if not isinstance(code, ast.AST):
        return repr(code)
    fields = [(name, value) for name, value in ast.iter_fields(code) if value not in (None, [])]
    return [type(code).__name__, *((name, _plain(value)) for name, value in fields)]


def _is_docstring(owner: ast.AST, first: ast.stmt) -> bool:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return (
        isinstance(owner, documented)
        and isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def core(name: str) -> str:
    """The core of a module (named ``room.module``), which pages print.

    It is the code between the imports and the first line that starts with ``# ---``: the method, in
    about sixty lines at most. The rest of the module, if there is any, follows below that line.
    """
    source = _file(name).read_text("utf-8")
    imports = [s for s in ast.parse(source).body if isinstance(s, ast.Import | ast.ImportFrom)]
    lines = source.splitlines(keepends=True)[max(s.end_lineno or 0 for s in imports) :]
    ends = (i for i, line in enumerate(lines) if line.startswith("# ---"))
    end = next(ends, len(lines))
    return "".join(lines[:end]).strip("\n") + "\n"


def printed(*names: str) -> str:
    """The cores of some modules as Markdown, one block of code each."""
    return "\n".join(f"```python\n{core(name)}```\n" for name in names)
