"""Prompts: from a template's text and variables to the exact text that a model is asked. Pure.

Jinja2 runs sandboxed and strict: an undefined variable is an error, the final newline is kept, and
nothing random is available, so equal inputs give equal prompts. A rendered text is never rendered again.

A template's own newlines become LF, whether its file has LF or CRLF; newlines within variables stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import DictLoader, StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Part of every identity: raise it when a change of the environment below gives another prompt for the same template.
RENDERING_VERSION = 1

RANDOM_GLOBALS = ("lipsum",)
RANDOM_FILTERS = ("random",)


class TemplateProblem(NamedTuple):
    """A mistake in a template's text. `name` is the file in which it stands."""

    name: str
    line: int | None
    message: str


class RenderFailed(Exception):
    """A template could not be rendered with these variables; the message says why."""


def _make_environment(texts: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=DictLoader(texts),
        undefined=StrictUndefined,
        finalize=_check_output,
        keep_trailing_newline=True,
        autoescape=False,
    )
    for name in RANDOM_GLOBALS:
        environment.globals.pop(name)
    for name in RANDOM_FILTERS:
        environment.filters.pop(name)
    return environment


def _check_output(value: Any) -> Any:
    """Return what {{ … }} shows. Raises TypeError for an object: it would show its address, new in every run."""
    if value is None or isinstance(value, str | int | float | list | tuple | dict | Undefined):
        return value
    raise TypeError(f"{{{{ … }}}} gives {type(value).__name__}, which is no text. Expected text, such as by |join.")


def find_includes(name: str, texts: Mapping[str, str]) -> tuple[list[str], list[TemplateProblem]]:
    """Return the names of all texts that the template `name` includes, directly or not, sorted; and what is wrong.

    `texts` are the files of the template's folder. A name that is computed, or not in the folder, is a mistake.
    """
    found: list[str] = []
    problems: list[TemplateProblem] = []
    waiting = [name]
    while waiting:
        current = waiting.pop()
        tree, problem = _parse(current, texts)
        if problem:
            problems.append(problem)
        for included, line in _list_references(tree):
            if included is None:
                problems.append(TemplateProblem(current, line, "an include must name its file literally, in quotes."))
            elif included not in texts:
                message = f"includes {included!r}, which is not in this folder. Expected the name of a file beside it."
                problems.append(TemplateProblem(current, line, message))
            elif included not in found and included != name:
                found.append(included)
                waiting.append(included)
    return sorted(found), problems


def find_undefined(texts: Mapping[str, str], provided: frozenset[str]) -> list[TemplateProblem]:
    """Return a problem for each variable that a template or its fragments use and nothing provides.

    `texts` are the template and all that it includes: a fragment may use what its includer sets, such
    as the variable of a loop.
    """
    trees = {name: _parse(name, texts)[0] for name in texts}
    known = provided | set(_make_environment({}).globals)
    known |= {node.name for tree in trees.values() for node in tree.find_all(nodes.Name) if node.ctx == "store"}
    known |= {node.name for tree in trees.values() for node in tree.find_all(nodes.Macro)}
    choices = ", ".join(sorted(provided))
    return [
        TemplateProblem(name, _line_of_name(tree, variable), f"uses {variable!r}. Provided: {choices}.")
        for name, tree in trees.items()
        for variable in sorted(meta.find_undeclared_variables(tree) - known)
    ]


def render_prompt(name: str, texts: Mapping[str, str], variables: Mapping[str, Any]) -> str:
    """Return the rendered template. `texts` holds it and all that it includes. Raises RenderFailed."""
    try:
        return str(_compile(name, tuple(sorted(texts.items()))).render(variables))
    except TemplateError as error:
        raise RenderFailed(f"template {name}: {error.message}") from error
    except (
        TypeError, ValueError, AttributeError, ArithmeticError, LookupError, RecursionError, MemoryError,
    ) as error:  # fmt: skip
        raise RenderFailed(f"template {name}: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=256)
def _compile(name: str, texts: tuple[tuple[str, str], ...]) -> Any:
    return _make_environment(dict(texts)).get_template(name)


def _parse(name: str, texts: Mapping[str, str]) -> tuple[nodes.Template, TemplateProblem | None]:
    environment = _make_environment({})
    try:
        tree = environment.parse(texts[name])
        environment.compile(tree)  # changes the tree
        tree = environment.parse(texts[name])
    except TemplateSyntaxError as error:
        return environment.parse(""), TemplateProblem(name, error.lineno, f"{str(error.message).rstrip('.')}.")
    return tree, _find_unknown_filter(name, tree, environment)


def _find_unknown_filter(
    name: str, tree: nodes.Template, environment: ImmutableSandboxedEnvironment
) -> TemplateProblem | None:
    """Return the first filter or test that does not exist. Jinja2 itself overlooks those within {% if %}."""
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        kind, known = ("filter", environment.filters) if isinstance(node, nodes.Filter) else ("test", environment.tests)
        if node.name not in known:
            return TemplateProblem(name, node.lineno, f"No {kind} named {node.name!r}.")
    return None


def _list_references(tree: nodes.Template) -> list[tuple[str | None, int]]:
    """Return (name, line) of each include, import and extends; the name is None where it is computed."""
    references: list[tuple[str | None, int]] = []
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        literal = node.template  # type: ignore[attr-defined]
        value = literal.value if isinstance(literal, nodes.Const) else None
        references.append((value if isinstance(value, str) else None, node.lineno))
    return references


def _line_of_name(tree: nodes.Template, variable: str) -> int | None:
    return next((node.lineno for node in tree.find_all(nodes.Name) if node.name == variable), None)
