"""
The strings below assignments, which are comments to Python and descriptions here.

Rules of this file:

- Only the source is read.
"""

from __future__ import annotations

import ast
import inspect

from itertools import pairwise
from types import ModuleType


def below(body: list[ast.stmt]) -> dict[str, str]:
    """
    Return name → the string below it, for the assignments of *body*; on one line.
    """
    return {
        target.id: " ".join(string.split())
        for assignment, line in pairwise(body)
        for target in _targets(assignment)
        if isinstance(target, ast.Name)
        and isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(string := line.value.value, str)
    }


def _targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.AnnAssign):
        return [statement.target]
    return statement.targets if isinstance(statement, ast.Assign) else []


def of_module(module: ModuleType) -> dict[str, str]:
    """
    Return what stands below the names of *module*.
    """
    return below(ast.parse(inspect.getsource(module)).body)


def of_class(class_: type) -> dict[str, str]:
    """
    Return what stands below the members of *class_*.
    """
    (defined,) = ast.parse(inspect.getsource(class_)).body
    assert isinstance(defined, ast.ClassDef)  # noqa: S101 -- it is the class's source
    return below(defined.body)
