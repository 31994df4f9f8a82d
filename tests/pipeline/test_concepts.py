"""Concepts: which description is used, and what in the folder is a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.concepts import Combo, Concept, load_concepts, read_csv_rows
from pipeline.errors import Problem
from tests.pipeline.config_folder import Files, write_config

TEXTS = {"sentence": "A sentence.", "paragraph": "A paragraph.", "article": "An article."}


def load_changed_concepts(folder: Path, changes: Files) -> tuple[dict[str, Concept], list[str]]:
    """Return the concepts and the mistakes of a changed config folder."""
    problems: list[Problem] = []
    concepts = load_concepts(write_config(folder, changes), problems)
    return concepts, [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("there", "asked_for", "used"),
    [
        ("sentence paragraph article", "sentence", "sentence"),
        ("sentence paragraph article", "paragraph", "paragraph"),
        ("sentence paragraph article", "article", "article"),
        ("sentence paragraph", "article", "paragraph"),
        ("sentence article", "paragraph", "sentence"),
        ("paragraph article", "sentence", "paragraph"),
        ("sentence", "article", "sentence"),
        ("article", "paragraph", "name"),
        ("article", "sentence", "name"),
        ("", "article", "name"),
    ],
)
def test_the_nearest_description_is_used(there: str, asked_for: str, used: str) -> None:
    concept = Concept("moat", "Economic Moat", {level: TEXTS[level] for level in there.split()})

    description = concept.describe(asked_for)

    assert description == (used, TEXTS.get(used, "Economic Moat"))


def test_a_combo_is_named_by_its_concepts_in_order() -> None:
    one, other = Concept("b", "B", {}), Concept("a", "A", {})

    assert Combo((one, other), "paragraph").combo_id == "b+a"


def test_concepts_come_in_the_order_of_the_table(tmp_path: Path) -> None:
    concepts, problems = load_changed_concepts(tmp_path, {})

    assert list(concepts) == ["flywheel", "moat", "tide"]
    assert concepts["moat"].name == "Economic Moat"
    assert not problems


def test_a_description_comes_without_the_blanks_around_it(tmp_path: Path) -> None:
    text = "\ufeff \n\t One line.\r\n\r\n  Another {{ line }}. \r\n\n"

    concepts, problems = load_changed_concepts(tmp_path, {"concepts/paragraph/moat.txt": text})

    assert concepts["moat"].texts["paragraph"] == "One line.\r\n\r\n  Another {{ line }}."
    assert not problems


@pytest.mark.parametrize("blank", ["", " \n\t\r\n"])
def test_a_blank_description_counts_as_missing(tmp_path: Path, blank: str) -> None:
    concepts, problems = load_changed_concepts(tmp_path, {"concepts/paragraph/moat.txt": blank})

    assert concepts["moat"].describe("paragraph") == ("sentence", "Water around a castle.")
    assert not problems


def test_the_table_may_have_a_byte_order_mark_crlf_quotes_blanks_and_blank_lines(tmp_path: Path) -> None:
    table = '\ufeffconcept_id, name\r\n\r\nmoat,"Moat, Economic" \r\n , \r\n flywheel,Flywheel\u2028Effect\r\ntide,Tide'

    concepts, problems = load_changed_concepts(tmp_path, {"concepts.csv": table})

    names = {concept_id: concept.name for concept_id, concept in concepts.items()}
    assert names == {"moat": "Moat, Economic", "flywheel": "Flywheel\u2028Effect", "tide": "Tide"}
    assert not problems


def test_names_are_kept_in_one_unicode_form_and_texts_in_their_own(tmp_path: Path) -> None:
    decomposed = {
        "concepts.csv": "concept_id,name\nmoat,Cafe\u0301\nflywheel,F\ntide,T\n",
        "concepts/paragraph/moat.txt": "Cafe\u0301",
    }

    moat = load_changed_concepts(tmp_path, decomposed)[0]["moat"]

    assert (moat.name, moat.texts["paragraph"]) == ("Caf\u00e9", "Cafe\u0301")


def test_two_concepts_may_share_a_name(tmp_path: Path) -> None:
    table = "concept_id,name\nflywheel,Same\nmoat,Same\ntide,Tide\n"

    assert load_changed_concepts(tmp_path, {"concepts.csv": table})[1] == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("moat,Again", "concepts.csv, line 5: concept 'moat' is listed twice. Expected one row each."),
        ("more,", "concepts.csv, line 5: concept 'more' has no name. Expected concept_id,name."),
        ("a b,Name", "concepts.csv, line 5: 'a b' is not a concept id. Expected letters, digits, '.', '_' and '-'"),
        ("a+b,Name", "concepts.csv, line 5: 'a+b' is not a concept id."),
        ("a__b,Name", "concepts.csv, line 5: 'a__b' is not a concept id."),
        (",Name", "concepts.csv, line 5: '' is not a concept id."),
        ("more", "concepts.csv, line 5: the row has 1 cells. Expected 2: concept_id,name."),
        ("more,Name,", "concepts.csv, line 5: the row has 3 cells. Expected 2: concept_id,name."),
    ],
)
def test_a_wrong_row_is_reported_at_its_line(tmp_path: Path, row: str, message: str) -> None:
    table = f"concept_id,name\nflywheel,Flywheel\nmoat,Moat\ntide,Tide\n{row}\n"

    concepts, problems = load_changed_concepts(tmp_path, {"concepts.csv": table})

    assert len(problems) == 1
    assert problems[0].startswith(message)
    assert list(concepts) == ["flywheel", "moat", "tide"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "concepts.csv: the file does not exist. Expected "),
        ("", "concepts.csv, line 1: the file is empty. Expected the columns concept_id,name."),
        (
            "concept_id\nmoat\n",
            "concepts.csv, line 1: the columns are concept_id. Expected the columns concept_id,name.",
        ),
        ("name,concept_id\n", "concepts.csv, line 1: the columns are name,concept_id. Expected the columns "),
        (b"concept_id,name\nmoat,Caf\xe9\n", "concepts.csv: the file is not UTF-8"),
        ('concept_id,name\nmoat,"' + "a" * 200_000, "concepts.csv, line 2: not CSV: field larger than field limit"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_mistake(tmp_path: Path, table: str | bytes | None, message: str) -> None:
    problems: list[Problem] = []
    root = write_config(tmp_path, {"concepts.csv": table})

    rows = read_csv_rows(root / "concepts.csv", ["concept_id", "name"], problems)

    assert rows == []
    assert len(problems) == 1
    assert str(problems[0]).startswith(message)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("paragraph/moot.txt", "A text.", "no row of concepts.csv names this file. Expected <concept_id>.txt."),
        ("paragraph/moat.md", "A text.", "no row of concepts.csv names this file. Expected <concept_id>.txt."),
        ("paragraf/moat.txt", "A text.", "unknown level 'paragraf'. Expected one of: sentence, paragraph, article."),
        ("article/moat.txt", b"Caf\xe9", "the file is not UTF-8: "),
        ("article/moat.txt/inner.txt", "A text.", "this is a folder. Expected a text file."),
    ],
)
def test_a_file_that_no_prompt_could_use_is_a_mistake(
    tmp_path: Path, file: str, content: str | bytes, message: str
) -> None:
    _, problems = load_changed_concepts(tmp_path, {f"concepts/{file}": content})

    place = "/".join(file.split("/")[:2])
    assert len(problems) == 1
    assert problems[0].startswith(f"concepts/{place}: {message}")


def test_hidden_files_are_no_descriptions(tmp_path: Path) -> None:
    assert load_changed_concepts(tmp_path, {"concepts/paragraph/.moat.txt.swp": b"\xff"})[1] == []


def test_a_table_of_any_columns_keeps_them_all_though_their_words_repeat(tmp_path: Path) -> None:
    path, problems = tmp_path / "rows.csv", list[Problem]()
    path.write_bytes(b"concept,concept,\na,b,c\nd,,\n")

    rows = read_csv_rows(path, [], problems)

    assert rows == [(2, {"0": "a", "1": "b", "2": "c"}), (3, {"0": "d", "1": "", "2": ""})]
    assert not problems
