"""Digests: of content, and of the code that computes a stage."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

# Bookkeeping: what these modules decide enters a key by value, so their code does not.
NOT_COMPUTING = ("digests", "failures", "forms", "params", "provenance", "runs", "stages")


def sha256(data: str | bytes) -> str:
    """Hexadecimal SHA-256 of bytes, or of a text as UTF-8."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, which is not read into memory whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """A value as JSON that does not depend on the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@cache
def module_digest(name: str) -> str:
    """Hash of the code of a module and of every ``nbutils`` module that it imports.

    Comments, docstrings and layout do not count: the parsed code is hashed.
    """
    package = Path(__file__).parent
    waiting, seen = [name], dict[str, Any]()
    while waiting:
        module = waiting.pop()
        if module in seen or module in NOT_COMPUTING:
            continue
        seen[module], imported = _parsed((package / f"{module}.py").read_text("utf-8"))
        waiting += [other for other in imported if (package / f"{other}.py").is_file()]
    return sha256(canonical(seen))


@cache  # a module is part of many stages, and parsing it takes the longest
def _parsed(source: str) -> tuple[Any, tuple[str, ...]]:
    """A module's code without docstrings, and names in ``nbutils`` that it imports."""
    tree = ast.parse(source)
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "nbutils":
            imported += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nbutils."):
            imported.append(str(node.module).removeprefix("nbutils."))
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(node, body[0]):
            body[:] = body[1:] or [ast.Pass()]
    return _plain(tree), tuple(imported)


def _plain(code: Any) -> Any:
    """Parsed code as lists and texts: the same in every version of Python, unlike its spelling.

    What is empty is left out, since newer versions give some nodes further fields.
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
