"""Prompts: strict, sandboxed, and the same for the same inputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.prompts import RenderFailed, TemplateProblem, find_includes, find_undefined, render_prompt

ROOT = Path(__file__).resolve().parents[2]
CONCEPTS = [{"name": "Moat", "content": "Water."}, {"name": "Tide", "content": "The sea."}]
PROVIDED = frozenset({"concepts"})


def render(text: str, **fragments: str) -> str:
    texts = {"own.txt": text} | {f"{name}.txt": fragment for name, fragment in fragments.items()}
    return render_prompt("own.txt", texts, {"concepts": CONCEPTS})


def failure_of(text: str, **fragments: str) -> str:
    with pytest.raises(RenderFailed) as failed:
        render(text, **fragments)
    return str(failed.value)


def undefined_in(text: str, **fragments: str) -> list[TemplateProblem]:
    texts = {"own.txt": text} | {f"{name}.txt": fragment for name, fragment in fragments.items()}
    return find_undefined(texts, PROVIDED)


# Rendering


def test_a_prompt_is_the_template_with_its_variables() -> None:
    assert render("{% for concept in concepts %}{{ concept.name }}: {{ concept.content }}\n{% endfor %}Go.") == (
        "Moat: Water.\nTide: The sea.\nGo."
    )


@pytest.mark.parametrize("end", ["", "\n", "\n\n", " \n"])
def test_the_end_of_a_template_is_kept(end: str) -> None:
    assert render("Go." + end) == "Go." + end


def test_the_end_of_a_fragment_is_kept() -> None:
    assert render('{% include "tone.txt" %}|', tone="Be brief.\n\n") == "Be brief.\n\n|"


def test_newlines_of_a_template_become_lf_and_those_of_a_variable_stay() -> None:
    prompt = render_prompt("own.txt", {"own.txt": "a\r\nb\r{{ response }}\r\n"}, {"response": "c\r\nd\r"})

    assert prompt == "a\nb\nc\r\nd\r\n"


def test_a_text_that_looks_like_a_template_appears_as_it_is() -> None:
    content = "{{ concepts }}{% raw %}{# no comment #}{% include 'x' %}<b>&amp;</b>"

    assert render_prompt("own.txt", {"own.txt": "[{{ response }}]"}, {"response": content}) == f"[{content}]"


def test_nothing_is_escaped() -> None:
    assert render("{{ '<b>&\"' }}") == '<b>&"'


def test_an_edited_text_is_rendered_anew() -> None:
    assert [render("one"), render("two"), render("one")] == ["one", "two", "one"]
    assert [render("{% include 'f.txt' %}", f="one"), render("{% include 'f.txt' %}", f="two")] == ["one", "two"]


def test_a_prompt_is_the_same_in_another_process() -> None:
    text = "{{ concepts|tojson }}{{ {'b': 1, 'a': 2} }}{{ concepts|map(attribute='name')|unique|join('+') }}"
    code = (
        f"from pipeline.prompts import render_prompt\n"
        f"print(render_prompt('own.txt', {{'own.txt': {text!r}}}, {{'concepts': {CONCEPTS!r}}}), end='')"
    )

    prompts = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout.decode()
        for seed in ("1", "2")
    }

    assert prompts == {render(text)}


# What a template cannot do


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ concpts }}", "template own.txt: 'concpts' is undefined"),
        ("{{ concepts[0].nme }}", "has no attribute 'nme'"),
        ("{{ concepts[7].name }}", "has no element 7"),
        ("{% if concpts %}{% endif %}", "'concpts' is undefined"),
        ("{% for c in concepts %}{% endfor %}{{ c }}", "'c' is undefined"),
    ],
)
def test_an_undefined_variable_is_an_error_and_never_blank(text: str, message: str) -> None:
    assert message in failure_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ concepts.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self.__init__ }}",
    ],
)
def test_a_template_cannot_reach_out_of_the_sandbox(text: str) -> None:
    assert failure_of(text)


@pytest.mark.parametrize(
    "text", ["{{ concepts.append(1) }}", "{{ concepts.clear() }}", "{{ concepts[0].update(name='X') }}"]
)
def test_a_template_cannot_change_its_variables(text: str) -> None:
    assert "unsafe" in failure_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ concepts|map(attribute='name') }}",
        "{{ cycler('a', 'b') }}",
        "{{ namespace() }}",
        "{% for c in concepts %}{{ loop }}{% endfor %}",
        "{{ range }}",
    ],
)
def test_an_object_is_refused_because_it_would_show_its_address(text: str) -> None:
    assert "which is no text. Expected text" in failure_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ 1 / 0 }}",
        "{{ range(10 ** 9)|list }}",
        "{{ concepts|xmlattr }}",
        "{{ 'a' + 1 }}",
        "{% include 'own.txt' %}",
    ],
)
def test_what_goes_wrong_in_a_template_is_told_as_such(text: str) -> None:
    assert failure_of(text).startswith("template own.txt: ")


@pytest.mark.parametrize("text", ["{{ lipsum() }}", "{{ [1, 2]|random }}"])
def test_nothing_random_is_available(text: str) -> None:
    problems = find_includes("own.txt", {"own.txt": text})[1] + undefined_in(text)

    assert len(problems) == 1
    assert failure_of(text)


# Includes


def test_includes_are_found_through_fragments_once_and_sorted() -> None:
    texts = {
        "own.txt": '{% include "z.txt" %}{% include "a.txt" %}{% include "a.txt" %}',
        "z.txt": "{% if concepts %}{% include 'deep.txt' %}{% endif %}",
        "a.txt": "{% include 'deep.txt' %}",
        "deep.txt": "deep",
        "other.txt": "{% include 'nowhere.txt' %}",
    }

    assert find_includes("own.txt", texts) == (["a.txt", "deep.txt", "z.txt"], [])
    assert render_prompt("own.txt", texts, {"concepts": CONCEPTS}) == "deepdeepdeep"


def test_fragments_that_include_one_another_are_found_without_end() -> None:
    texts = {"own.txt": "{% include 'a.txt' %}", "a.txt": "{% include 'own.txt' %}{% include 'a.txt' %}"}

    assert find_includes("own.txt", texts) == (["a.txt"], [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{% include "nowhere.txt" %}',
            "includes 'nowhere.txt', which is not in this folder. Expected the name of a file beside it.",
        ),
        ('{% include "../essay/own.txt" %}', "includes '../essay/own.txt', which is not in this folder."),
        ('{% include "nowhere.txt" ignore missing %}', "includes 'nowhere.txt', which is not in this folder."),
        ('{% import "nowhere.txt" as tools %}', "includes 'nowhere.txt'"),
        ('{% from "nowhere.txt" import tool %}', "includes 'nowhere.txt'"),
        ('{% extends "nowhere.txt" %}', "includes 'nowhere.txt'"),
        ("{% include concepts[0].name %}", "an include must name its file literally, in quotes."),
        ('{% include "to" ~ "ne.txt" %}', "an include must name its file literally, in quotes."),
        ('{% include ["tone.txt", "own.txt"] %}', "an include must name its file literally, in quotes."),
    ],
)
def test_a_wrong_include_is_reported_in_its_file_at_its_line(line: str, message: str) -> None:
    texts = {"own.txt": '{% include "tone.txt" %}', "tone.txt": f"Be\n\n{line}\n"}

    (problem,) = find_includes("own.txt", texts)[1]

    assert (problem.name, problem.line) == ("tone.txt", 3)
    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{% for %}", "Expected an expression, got 'end of statement block'."),
        ("{{ concepts|uper }}", "No filter named 'uper'."),
        ("{% if concepts %}{{ concepts|uper }}{% endif %}", "No filter named 'uper'."),
        ("{{ concepts is fine }}", "No test named 'fine'."),
        ("{{ 'a }}", "unexpected char"),
        ("{% endfor %}", "Encountered unknown tag 'endfor'"),
    ],
)
def test_a_text_that_jinja_cannot_read_is_reported_at_its_line(line: str, message: str) -> None:
    texts = {"own.txt": f"One\n{line}\n"}

    (problem,) = find_includes("own.txt", texts)[1]

    assert (problem.name, problem.line) == ("own.txt", 2)
    assert problem.message.startswith(message)
    assert find_undefined(texts, PROVIDED) == []


# Undefined variables


def test_each_undefined_variable_is_reported_at_its_line() -> None:
    problems = undefined_in("{{ concepts }}\n{{ concpts }}\n{% if topic %}{% endif %}\n")

    assert problems == [
        TemplateProblem("own.txt", 2, "uses 'concpts'. Provided: concepts."),
        TemplateProblem("own.txt", 3, "uses 'topic'. Provided: concepts."),
    ]


def test_a_fragment_may_use_the_loop_variable_of_its_includer() -> None:
    text, row = "{% for concept in concepts %}{% include 'row.txt' %}{% endfor %}", "- {{ concept.name }}\n"

    assert undefined_in(text, row=row) == []
    assert render(text, row=row) == "- Moat\n- Tide\n"


def test_a_fragment_may_use_what_its_includer_sets_or_defines() -> None:
    text = "{% set tone = 'Be brief.' %}{% macro loud(word) %}{{ word|upper }}{% endmacro %}{% include 'row.txt' %}"
    row = "{{ loud(tone) }}"

    assert undefined_in(text, row=row) == []
    assert render(text, row=row) == "BE BRIEF."


def test_an_undefined_variable_in_a_fragment_is_reported_in_the_fragment() -> None:
    problems = undefined_in("{% include 'row.txt' %}", row="One\n{{ concept.name }}")

    assert problems == [TemplateProblem("row.txt", 2, "uses 'concept'. Provided: concepts.")]


def test_what_jinja_itself_offers_is_no_undefined_variable() -> None:
    assert undefined_in("{% for n in range(3) %}{{ loop.index }}{% endfor %}{{ dict(a=1).a }}") == []
