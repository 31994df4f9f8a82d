"""Facts about reports: what the page, the CSV files and the summary hold, and what they never do."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline.rankings import HIGHEST_SHADE, Maker, Scale, Score, draw_heatmap, find_shade, rank_documents
from pipeline.reports import ReportRow, hash_style, render_report, show_hidden, split_reason
from pipeline.spreadsheets import format_cell

TITLE = "Momentum and rest"
READABLE_CONTRAST = 4.5  # WCAG 2.2, level AA, for text of normal size

HOSTILE_TEXTS = [
    "<script>alert(1)</script>",
    "</div></article></style></title><script src=//evil.example/x.js></script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "\"><iframe srcdoc='<script>alert(1)</script>'>",
    "' onmouseover='alert(1)",
    "<a href=javascript:alert(1)>click</a>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example>",
    "<!-- --!> <![CDATA[ ]]>",
    "{{ 7 * 7 }} {% raw %} {# gone #} ${7*7}",
    "&lt;b&gt; &amp;amp; &#x3c;",
    "<style>body{display:none}</style>",
]


@dataclass(frozen=True)
class MadeDocument:
    """A document in memory. Like the store, it fails on a file that it does not have."""

    doc_id: str
    stage: str
    metadata: Mapping[str, Any]
    files: Mapping[str, str]

    def read_text(self, name: str) -> str:
        return self.files[name]


class Experiment:
    """Rows and documents that tests add to; doc_ids are numbered, such as draft00000000001."""

    def __init__(self) -> None:
        self.rows: list[ReportRow] = []
        self.documents: dict[tuple[str, str], MadeDocument] = {}
        self.read: list[tuple[str, str]] = []

    def add_draft(
        self, text: str = "Notes.", *, maker: str = "plain/smollm2", concept: str = "Flywheel", **row: Any
    ) -> str:
        concepts = [{"concept_id": "flywheel", "name": concept, "level": "full", "text": "It stores effort."}]
        return self._add("draft", "", text, maker, {"concepts": concepts}, row)

    def add_essay(self, parent: str, text: str = "An essay.", *, maker: str = "synthesis/qwen3", **row: Any) -> str:
        return self._add("essay", parent, text, maker, {}, row)

    def add_evaluation(
        self, parent: str, value: float = 7, *, maker: str = "strict/judge", scale: tuple[float, float] = (0, 10),
        reply: str | None = None, **row: Any,
    ) -> str:  # fmt: skip
        line = f"SCORE: {value:g}"
        score = {"value": value, "scale": list(scale), "strategy": "in_last_line", "line": line}
        text = reply if reply is not None else f"Good.\n{line}"
        return self._add("evaluation", parent, text, maker, {"score": score}, row)

    def add_row_like_the_last(self, **changes: Any) -> None:
        self.rows.append(replace(self.rows[-1], **changes))

    def render(self) -> dict[str, bytes]:
        return render_report(TITLE, self.rows, self._read_document)

    def page(self) -> str:
        return self.render()["extras/report.html"].decode()

    def table(self, name: str) -> list[dict[str, str]]:
        content = self.render()[f"extras/{name}.csv"].decode()
        return list(csv.DictReader(io.StringIO(content, newline="")))

    def _read_document(self, stage: str, doc_id: str) -> MadeDocument:
        self.read.append((stage, doc_id))
        return self.documents[stage, doc_id]

    def _add(
        self, stage: str, parent: str, text: str, maker: str, metadata: dict[str, Any], row: dict[str, Any]
    ) -> str:
        template_id, model_id = maker.split("/")
        doc_id = f"{stage}{len(self.rows) + 1:0{16 - len(stage)}}"
        names = (f"task-{doc_id}", template_id, model_id, "flywheel")
        planned = ReportRow(stage, doc_id, parent, *names, replicate=1, mode="llm", status="ok", reason="")
        self.rows.append(replace(planned, **row))
        if self.rows[-1].status == "ok":
            made = {"parents": [], "call_id": f"call-{doc_id}", "total_tokens": 100, **metadata}
            files = {"prompt.txt": f"Prompt of {doc_id}.", "raw.txt": text, "parsed.txt": text}
            self.documents[stage, doc_id] = MadeDocument(doc_id, stage, made, files)
        return doc_id


@pytest.fixture
def experiment() -> Experiment:
    return Experiment()


@pytest.fixture
def judged(experiment: Experiment) -> Experiment:
    """One draft, two essays, two judges; the second essay is the better one."""
    draft = experiment.add_draft()
    for text, values in (("The weaker essay.", (4, 5)), ("The better essay.", (8, 9))):
        essay = experiment.add_essay(draft, text)
        for judge, value in zip(("strict/judge", "warm/judge"), values, strict=True):
            experiment.add_evaluation(essay, value, maker=judge)
    return experiment


class PageReader(HTMLParser):
    """Collects what a browser would see: tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.text += "\n" if tag in ("td", "th", "dd", "br") else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def squeeze(text: str) -> str:
    return " ".join(text.split())


def read_page_text(experiment: Experiment) -> str:
    return squeeze(PageReader(experiment.page()).text)


# The page as a file


def test_equal_input_gives_equal_bytes(judged: Experiment) -> None:
    assert judged.render() == judged.render()


def test_a_report_has_a_page_three_csv_files_and_a_plain_summary(judged: Experiment) -> None:
    assert list(judged.render()) == [
        "extras/report.html", "extras/essays.csv", "extras/evaluations.csv", "extras/documents.csv", "parsed.txt",
    ]  # fmt: skip


def test_only_documents_with_status_ok_are_read_and_each_once(judged: Experiment) -> None:
    judged.add_row_like_the_last(task_id="another-name")
    judged.add_essay("draft00000000001", status="truncated", reason="max_tokens")
    judged.add_essay("draft00000000001", status="missing")

    judged.render()

    assert sorted(judged.read) == sorted(judged.documents)


def test_the_policy_allows_exactly_the_style_of_the_page(judged: Experiment) -> None:
    page = judged.page()

    style = page.split("<style>")[1].split("</style>")[0]
    assert f"default-src 'none'; style-src '{hash_style(style)}'; img-src data:;" in page
    assert "'unsafe-inline'" not in page


def test_the_page_loads_nothing_and_runs_nothing(judged: Experiment) -> None:
    reader = PageReader(judged.page())
    names = {name for name, _ in reader.attributes}
    links = {value for name, value in reader.attributes if name == "href"}

    assert not {"script", "link", "img", "iframe", "form", "object"} & set(reader.tags)
    assert not {name for name in names if name.startswith("on")} | ({"style", "src"} & names)
    assert all(link and re.fullmatch(r"#[a-z0-9-]+|[a-z]+\.csv", link) for link in links)


def test_every_link_within_the_page_has_its_target(judged: Experiment) -> None:
    attributes = PageReader(judged.page()).attributes
    targets = {f"#{value}" for name, value in attributes if name == "id"}
    links = {value for name, value in attributes if name == "href" and value and value.startswith("#")}

    assert links <= targets
    assert "#doc-essay00000000005" in links


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_on_every_shade_is_readable(experiment: Experiment, scheme: str) -> None:
    shades = re.findall(r"\.heat-(\d+) \{ background: (#\w{6}); color: (#\w{6}); \}", experiment.page())
    half = len(shades) // 2
    of_scheme = shades[:half] if scheme == "light" else shades[half:]

    assert [int(number) for number, _, _ in of_scheme] == list(range(HIGHEST_SHADE + 1))
    assert min(measure_contrast(background, ink) for _, background, ink in of_scheme) >= READABLE_CONTRAST


def measure_contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours as WCAG 2.2 defines it."""
    darker, lighter = sorted(map(measure_luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def measure_luminance(colour: str) -> float:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# Untrusted text


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_text_is_shown_as_it_was_written(text: str) -> None:
    harmless, hostile = Experiment(), Experiment()
    for experiment, words in ((harmless, "some words"), (hostile, text)):
        essay = experiment.add_essay(experiment.add_draft(words, concept=words), words, task_id=words)
        experiment.add_evaluation(essay, reply=words)
        experiment.add_essay(essay, status="gen_error", reason=words)

    reader = PageReader(hostile.page())

    assert reader.tags == PageReader(harmless.page()).tags
    assert reader.text.count(text) >= 5


@pytest.mark.parametrize("field", ["template_id", "model_id", "task_id", "combo_id", "reason", "mode"])
def test_no_field_of_a_row_can_add_a_tag(judged: Experiment, field: str) -> None:
    change: dict[str, Any] = {field: "\"'><script>alert(1)</script>"}
    judged.rows = [replace(row, **change) for row in judged.rows]

    assert "script" not in PageReader(judged.page()).tags


def test_hidden_characters_are_shown_as_signs(experiment: Experiment) -> None:
    experiment.add_essay(experiment.add_draft(), "a\x00b\x1b[2Jc\u202etxt.exe\u2066d\U000e0041e\x85f\rg\r\nh")

    text = PageReader(experiment.page()).text

    assert "a␀b␛[2Jc⟦U+202E⟧txt.exe⟦U+2066⟧d⟦U+E0041⟧e⟦U+0085⟧f␍g\nh" in text


def test_text_in_other_scripts_stays_as_it_is() -> None:
    text = "金継ぎ\tעברית\u200f العربية\u200e 👩\u200d🔬\nन\u094dम"

    assert show_hidden(text) == text


# Progress and what is missing


@pytest.mark.parametrize("fill", ["nothing", "drafts", "essays", "failures"])
def test_a_report_without_scores_is_a_whole_page(experiment: Experiment, fill: str) -> None:
    if fill in ("drafts", "essays"):
        draft = experiment.add_draft("The draft's text.")
        if fill == "essays":
            experiment.add_essay(draft, "The essay's text.")
    if fill == "failures":
        experiment.add_draft(status="gen_error", reason="auth: no key")

    files = experiment.render()

    text = squeeze(PageReader(files["extras/report.html"].decode()).text)
    assert text.endswith("an apostrophe.")
    assert "Ranking" not in text
    assert ("The draft's text." in text) == (fill in ("drafts", "essays"))
    assert ("The essay's text." in text) == (fill == "essays")
    assert files["parsed.txt"].startswith(TITLE.encode())


def test_progress_counts_documents_by_stage_and_status(judged: Experiment) -> None:
    judged.add_essay("draft00000000001", status="truncated", reason="max_tokens")
    judged.add_essay("draft00000000001", status="missing")

    summary = judged.render()["parsed.txt"].decode()

    assert "7 of 9 documents made; 2 essays scored by 2 judges; 700 tokens" in summary
    assert "essay: 4 planned, 2 ok, 1 truncated, 1 missing" in summary
    text = read_page_text(judged)
    assert "Stage planned ok truncated not made yet tokens draft 1 1 0 0 100 essay 4 2 1 1 200" in text


def test_a_call_that_two_documents_share_is_counted_once(experiment: Experiment) -> None:
    for _ in range(2):
        doc_id = experiment.add_draft()
        made = experiment.documents["draft", doc_id]
        metadata = {**made.metadata, "call_id": "shared"}
        experiment.documents["draft", doc_id] = replace(made, metadata=metadata)

    assert b"; 100 tokens" in experiment.render()["parsed.txt"]


def test_what_is_missing_is_grouped_by_reason_and_every_task_is_named(experiment: Experiment) -> None:
    for size in ("3,114", "3,207"):
        reason = f"context_overflow: the prompt has {size} tokens and max_tokens is 400, but the context holds 2,048"
        experiment.add_draft(status="gen_error", reason=reason, task_id=f"long-{size}")
    experiment.add_draft(status="missing", task_id="later")

    text = read_page_text(experiment)

    first = "the prompt has 3,114 tokens and max_tokens is 400, but the context holds 2,048"
    assert f"2 gen_error context_overflow such as: {first} long-3,114 draft {first} long-3,207 draft" in text
    assert "1 not made yet later draft" in text


def test_a_reason_without_a_code_is_a_sentence() -> None:
    assert split_reason("context_overflow: too long: 3") == ("context_overflow", "too long: 3")
    assert split_reason("no_score") == ("no_score", "")
    assert split_reason("The disk was full: sorry") == ("", "The disk was full: sorry")


# Ranking


def test_the_best_document_is_first(judged: Experiment) -> None:
    first, second = judged.table("essays")

    assert (first["rank"], first["mean_score"], first["parsed_text"]) == ("1", "8.5000", "The better essay.")
    assert (second["rank"], second["mean_score"], second["parsed_text"]) == ("2", "4.5000", "The weaker essay.")


def test_each_judge_counts_once_however_many_replicates_it_gave() -> None:
    strict, warm = Maker("strict", "m"), Maker("warm", "m")
    scores = [Score("essay", "a", judge, Scale(0, 10), value) for judge, value in ((strict, 2), (strict, 4), (warm, 9))]

    (ranked,) = rank_documents(scores)[0].documents

    assert ranked.mean == 6.0
    assert [found and (found.mean, found.replicates, found.deviation) for found in ranked.judge_means] == [
        (3.0, 2, pytest.approx(2**0.5)),
        (9.0, 1, None),
    ]


def test_equal_means_share_a_rank_in_the_order_of_the_rows() -> None:
    values = {"d": 5, "a": 7, "b": 7, "c": 9}
    scores = [Score("essay", doc_id, Maker("t", "m"), Scale(0, 10), value) for doc_id, value in values.items()]

    assert [(ranked.rank, ranked.doc_id) for ranked in rank_documents(scores)[0].documents] == [
        (1, "c"), (2, "a"), (2, "b"), (4, "d"),
    ]  # fmt: skip


def test_scores_on_different_scales_are_kept_apart(experiment: Experiment) -> None:
    essay = experiment.add_essay(experiment.add_draft())
    experiment.add_evaluation(essay, 8, scale=(0, 10))
    experiment.add_evaluation(essay, 2, scale=(1, 5), maker="warm/judge")

    lines = experiment.table("essays")

    assert [(line["scale_low"], line["scale_high"], line["mean_score"]) for line in lines] == [
        ("0.0000", "10.0000", "8.0000"),
        ("1.0000", "5.0000", "2.0000"),
    ]
    text = read_page_text(experiment)
    assert "scores on different scales, or of different stages, are never averaged together" in text
    assert "1 essay, scored from 0 to 10" in text
    assert "1 essay, scored from 1 to 5" in text
    assert "5.00" not in text


def test_a_mean_over_fewer_judges_is_marked(judged: Experiment) -> None:
    judged.rows.pop()

    text = read_page_text(judged)

    assert "Not every judge scored every essay." in text
    assert "1 of 2 judges" in text


def test_drafts_are_ranked_when_judges_read_drafts(experiment: Experiment) -> None:
    for text, value in (("A dull draft.", 3), ("A bright draft.", 9)):
        experiment.add_evaluation(experiment.add_draft(text), value)

    assert [line["parsed_text"] for line in experiment.table("essays")] == ["A bright draft.", "A dull draft."]
    assert {line["parent_stage"] for line in experiment.table("evaluations")} == {"draft"}
    text = read_page_text(experiment)
    assert "2 drafts, scored from 0 to 10" in text
    assert "Best drafts" in text


def test_an_essay_that_no_row_asks_for_is_ranked_without_its_text(experiment: Experiment) -> None:
    experiment.add_evaluation("essay00000000099", 6)

    text = read_page_text(experiment)

    assert "1 essay, scored from 0 to 10" in text
    assert "not in this report" in text
    assert "Best" not in text


def test_a_heatmap_cell_is_the_mean_over_documents() -> None:
    means = [(Maker("a", "x"), 4.0), (Maker("a", "x"), 6.0), (Maker("b", "y"), 9.0)]

    heatmap = draw_heatmap(means, Scale(0, 10))

    assert heatmap.models == ("x", "y")
    assert heatmap.rows == (("a", ((5.0, 2, 5), None)), ("b", (None, (9.0, 1, 9))))


@pytest.mark.parametrize(("value", "shade"), [(-3, 0), (1, 0), (3, 5), (5, 10), (99, 10)])
def test_a_shade_is_the_place_on_the_scale(value: float, shade: int) -> None:
    assert find_shade(value, Scale(1, 5)) == shade


def test_drafts_have_a_heatmap_only_if_more_than_one_thing_wrote_them(judged: Experiment) -> None:
    caption = "by what wrote the drafts behind them"
    assert caption not in read_page_text(judged)

    judged.add_evaluation(judged.add_essay(judged.add_draft(maker="dialogue/smollm2")))
    assert caption in read_page_text(judged)


# Texts and lineage


def test_an_essay_is_shown_with_all_it_was_made_from(judged: Experiment) -> None:
    text = read_page_text(judged)

    for shown in (
        "The better essay.",
        "Prompt of essay00000000005.",
        "Notes.",
        "Prompt of draft00000000001.",
        "It stores effort.",
        "Good. SCORE: 9",
        "Score read from SCORE: 9",
    ):
        assert shown in text


def test_rows_with_one_doc_id_are_one_document_with_all_its_names(judged: Experiment) -> None:
    essay = next(row for row in judged.rows if row.stage == "essay")
    judged.rows.append(replace(essay, task_id="renamed", template_id="synthesis-new"))

    assert [line["task_ids"] for line in judged.table("essays")][1] == f"{essay.task_id}; renamed"
    assert len(judged.table("documents")) == len(judged.rows)
    text = read_page_text(judged)
    assert f"Names {essay.task_id} renamed" in text
    assert text.count("The weaker essay.") == 1


def test_a_copied_essay_has_no_prompt_and_says_so(experiment: Experiment) -> None:
    draft = experiment.add_draft("The draft.")
    essay = experiment.add_essay(draft, "The draft.", maker="/", mode="copy")
    made = experiment.documents["essay", essay]
    experiment.documents["essay", essay] = replace(made, files={"parsed.txt": "The draft."})

    text = read_page_text(experiment)

    assert "the essay is a copy of it" in text
    assert "Prompt of the essay" not in text


def test_the_page_says_how_many_texts_are_only_in_the_csv(experiment: Experiment) -> None:
    draft = experiment.add_draft()
    for number in range(53):
        experiment.add_evaluation(experiment.add_essay(draft, f"Text number {number}."), number / 10)

    text = read_page_text(experiment)

    assert "The 3 texts below these are in essays.csv only." in text
    assert "Text number 3." in text
    assert "Text number 2." not in text
    assert len(experiment.table("essays")) == 53


# The CSV files


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("＝1", "'＝1"),
        ("- a list", "'- a list"),
        ("-5", "-5"),
        ("-5.25", "-5.25"),
        (-5, "-5"),
        (-0.5, "-0.5000"),
        ("plain = text", "plain = text"),
        (None, ""),
    ],
)
def test_a_cell_cannot_run_as_a_formula(cell: str | float | None, text: str) -> None:
    assert format_cell(cell) == text


def test_a_csv_file_keeps_commas_quotes_and_newlines(experiment: Experiment) -> None:
    text = 'One, "two"\nthree\r\nfour ☕'
    experiment.add_essay(experiment.add_draft(), text)

    content = experiment.render()["extras/essays.csv"]

    assert experiment.table("essays")[0]["parsed_text"] == text
    assert content.startswith(b"stage,doc_id,parent_doc_id,task_ids,")
    assert content.endswith(b"\r\n")


def test_documents_csv_has_every_row_in_order(judged: Experiment) -> None:
    judged.add_essay("draft00000000001", status="gen_error", reason="rate_limit: 5 attempts")

    lines = judged.table("documents")

    assert [line["task_id"] for line in lines] == [row.task_id for row in judged.rows]
    assert (lines[0]["status"], lines[0]["total_tokens"]) == ("ok", "100")
    assert (lines[-1]["status"], lines[-1]["reason"]) == ("gen_error", "rate_limit: 5 attempts")


def test_evaluations_csv_says_who_judged_what(judged: Experiment) -> None:
    line = judged.table("evaluations")[0]

    assert (line["template_id"], line["model_id"]) == ("strict", "judge")
    assert (line["score"], line["score_line"]) == ("4.0000", "SCORE: 4")
    assert (line["essay_template_id"], line["essay_model_id"]) == ("synthesis", "qwen3")
    assert (line["draft_template_id"], line["draft_model_id"]) == ("plain", "smollm2")


def test_three_thousand_rows_take_less_than_two_seconds(experiment: Experiment) -> None:
    for _ in range(100):
        draft = experiment.add_draft("word " * 300)
        for _ in range(5):
            essay = experiment.add_essay(draft, "word " * 300)
            for value in range(5):
                experiment.add_evaluation(essay, value)

    start = time.process_time()
    experiment.render()

    assert len(experiment.rows) == 3100
    assert time.process_time() - start < 2


# Which model answered


def add_answered_draft(experiment: Experiment, model: str, reported: str | None, fingerprint: str | None) -> None:
    doc_id = experiment.add_draft()
    document = experiment.documents["draft", doc_id]
    facts = {"model": model, "model_reported": reported, "system_fingerprint": fingerprint}
    experiment.documents["draft", doc_id] = replace(document, metadata={**document.metadata, **facts})


@pytest.mark.parametrize(
    ("model", "answers", "sentences"),
    [
        ("openai/gpt-4o", [("gpt-4o", "fp_1")], []),
        ("openai/gpt-4o", [("gpt-4o-2024-08-06", "fp_1")], []),
        ("openai/gpt-4o", [(None, None)], []),
        ("local/m", [("local/m", "w 1")], []),
        ("openrouter/a/b", [("a/b", None)], []),
        ("openai/gpt-4o", [("mini", None)], ["openai/gpt-4o was answered by another model: mini."]),
        (
            "openai/gpt-4o",
            [("gpt-4o-1", None), ("gpt-4o-2", None)],
            ["openai/gpt-4o was answered by 2 models: gpt-4o-1, gpt-4o-2."],
        ),
        (
            "openai/gpt-4o",
            [("gpt-4o", "fp_2"), ("gpt-4o", "fp_1")],
            ["openai/gpt-4o changed between answers; its fingerprints: fp_1, fp_2."],
        ),
        ("openai/x", [("<script>", None)], ["openai/x was answered by another model: <script>."]),
    ],
)
def test_a_model_that_was_answered_by_another_is_named(model, answers, sentences):
    experiment = Experiment()
    for reported, fingerprint in answers:
        add_answered_draft(experiment, model, reported, fingerprint)

    files = experiment.render()

    summary, page = files["parsed.txt"].decode(), files["extras/report.html"].decode()
    assert [line for line in summary.splitlines() if line.startswith(f"{model} ")] == sentences
    assert ("Models that were not what was asked for" in page) == bool(sentences)
    assert "<script>" not in page
