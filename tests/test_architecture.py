"""Imports go one way, and each big dependency is imported in one place only."""

from __future__ import annotations

import ast
import functools
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("architecture")  # one worker reads all modules, once
ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("store/**/*.py"), *ROOT.glob("pipeline/**/*.py")])

# Top to bottom: a module may import from layers below its own, and from its own.
LAYERS = [
    ["pipeline.cli"],
    ["pipeline.archive.import_commands", "pipeline.archive.render_commands"],
    ["pipeline.archive.concept_commands"],
    ["pipeline.archive.search_commands", "pipeline.archive.fetch_commands"],
    ["pipeline.keeping_commands"],
    ["pipeline.command_line"],
    ["pipeline.history", "pipeline.rerolling"],
    ["pipeline.archive.fetching"],
    ["pipeline.archive.tasks"],
    ["pipeline.archive.transcripts.rendering"],
    ["pipeline.archive.transcripts.placing", "pipeline.archive.search.listing"],
    ["pipeline.archive.transcripts.index_page"],
    ["pipeline.archive.remaking"],
    ["pipeline.archive.transcripts", "pipeline.archive.search"],
    ["pipeline.archive.from_archive"],
    [
        "pipeline.archive.emptiness",
        "pipeline.archive.explaining",
        "pipeline.archive.import_display",
        "pipeline.archive.step_display",
    ],
    ["pipeline.archive.views"],
    ["pipeline.archive.catalogue", "pipeline.archive.merging"],
    ["pipeline.archive.importing"],
    ["pipeline.archive.record_tables"],
    ["pipeline.archive.conversation_documents"],
    ["pipeline.archive.exports", "pipeline.archive.coverage"],
    ["pipeline.archive.importers"],
    ["pipeline.archive.reading"],
    ["pipeline.archive.titles", "pipeline.archive.trees", "pipeline.archive.conversation_printing"],
    ["pipeline.archive.conversations", "pipeline.archive.times", "pipeline.archive.front_matter"],
    ["pipeline.archive.file_names", "pipeline.archive.readable_texts", "pipeline.archive.notes"],
    ["pipeline.building", "pipeline.displays", "pipeline.looking", "pipeline.scheduler_server"],
    ["pipeline.checking", "pipeline.library"],
    ["pipeline.rebuilding", "pipeline.validation", "pipeline.lock_files"],
    ["pipeline.bundles", "pipeline.backfill", "pipeline.garbage"],
    ["pipeline.removals"],
    ["pipeline.lineages", "pipeline.history_printing"],
    ["pipeline.tasks"],
    ["pipeline.repair"],
    ["pipeline.estimates", "pipeline.usage"],
    ["pipeline.report_document"],
    ["pipeline.verification"],
    ["pipeline.workspace"],
    ["pipeline.judging"],
    ["pipeline.sources"],
    ["pipeline.comparison"],
    ["pipeline.batches", "pipeline.diagnosis"],
    ["pipeline.making"],
    ["pipeline.document_page"],
    ["pipeline.admissions"],
    ["pipeline.budgets"],
    ["pipeline.build_result"],
    ["pipeline.edited_tables"],
    ["pipeline.task_tables", "pipeline.completeness"],
    ["pipeline.recorded_plans"],
    ["pipeline.planning"],
    ["pipeline.configuration", "pipeline.adoption", "pipeline.trying", "pipeline.reports"],
    ["pipeline.report_contents"],
    ["pipeline.scheduling"],
    ["pipeline.central_scheduler"],
    ["pipeline.scheduler", "pipeline.worker"],
    ["pipeline.scheduler_client"],
    ["pipeline.task_runs"],
    ["pipeline.outbox", "pipeline.threads"],
    ["pipeline.spending"],
    ["pipeline.prices"],
    ["pipeline.cohorts", "pipeline.templates", "pipeline.models", "pipeline.concepts", "pipeline.rules"],
    [
        "pipeline.toml_file",
        "pipeline.prompts",
        "pipeline.gateway",
        "pipeline.retries",
        "pipeline.parsers",
        "pipeline.response_schemas",
        "pipeline.rankings",
    ],
    ["pipeline.batch_interface", "pipeline.batch_results"],
    ["pipeline.printing_checks"],
    ["pipeline.byte_differences"],
    ["pipeline.litellm_client", "pipeline.spreadsheets", "pipeline.printing", "pipeline.settings", "pipeline.limits"],
    ["pipeline.check_workers"],
    ["pipeline.checks"],
    ["pipeline.prose_scores", "pipeline.json_scores"],
    ["pipeline.score_statements"],
    ["pipeline.score_values"],
    ["pipeline.embedded", "pipeline.wire", "pipeline.keys", "pipeline.scores", "pipeline.reply_lines"],
    ["pipeline.answers", "pipeline.stages"],
    ["pipeline.errors"],
    ["store"],
]
ONLY_IN = {
    "luigi": {
        "pipeline.archive.tasks",
        "pipeline.building",
        "pipeline.central_scheduler",
        "pipeline.outbox",
        "pipeline.scheduler",
        "pipeline.scheduler_client",
        "pipeline.scheduler_server",
        "pipeline.scheduling",
        "pipeline.task_runs",
        "pipeline.tasks",
        "pipeline.worker",
    },
    "litellm": {"pipeline.litellm_client"},
    "httpx": {
        "pipeline.archive.fetching.addresses",
        "pipeline.archive.fetching.drive",
        "pipeline.archive.fetching.transfer",
        "pipeline.batch_interface",
        "pipeline.litellm_client",
        "pipeline.wire",
    },
    "httpcore": {"pipeline.archive.fetching.addresses"},
    "xllamacpp": {"pipeline.embedded"},
    "ijson": {"pipeline.archive.reading.peeking"},
    "orjson": {"pipeline.archive.reading.clean_values", "pipeline.archive.conversations", "pipeline.checks"},
    "yaml": {"pipeline.archive.front_matter"},
    "jsonschema": {"pipeline.response_schemas"},
    "referencing": {"pipeline.response_schemas"},
    "tornado": {"pipeline.scheduler_server"},
    "backports": {"pipeline.bundles.archives"},
    "tenacity": {"pipeline.scheduler_client"},
    "jinja2": {
        "pipeline.archive.transcripts.index_page",
        "pipeline.archive.transcripts",
        "pipeline.document_page",
        "pipeline.prompts",
        "pipeline.reports",
    },
    "markdown_it": {"pipeline.archive.transcripts.markdown_texts"},
    "nh3": {"pipeline.archive.transcripts.safe_html"},
    "pygments": {"pipeline.archive.transcripts.safe_html"},
    "blake3": {"store.identity"},
    "rich": {"pipeline.displays"},
    "sqlite3": {
        "pipeline.archive.search.index",
        "pipeline.archive.search.index_tables",
        "pipeline.archive.search.listing",
        "pipeline.archive.search",
    },
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def list_imports(path: Path) -> frozenset[str]:
    """Return the full names of all modules that a file imports, at the top or within functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports name their module in full"
            own = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= own if node.module == "pipeline" else {node.module or ""}
    return frozenset(names)


def layer_of(name: str) -> int:
    for index, layer in enumerate(LAYERS):
        if any(name == member or name.startswith(member + ".") for member in layer):
            return index
    raise AssertionError(f"{name} has no place in LAYERS: give it one, and tell ARCHITECTURE.md")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path):
    name = name_of(path)
    if name == "pipeline":
        pytest.skip("it imports the tasks, for Luigi, when Luigi is there")
    own = {imported for imported in list_imports(path) if imported.split(".")[0] in ("pipeline", "store")}

    upward = {imported for imported in own if layer_of(imported) < layer_of(name)}

    assert upward == set()


def test_there_is_no_import_cycle():
    names = {name_of(path) for path in MODULES}
    imports = {name_of(path): list_imports(path) & names for path in MODULES}
    del imports["pipeline"]

    TopologicalSorter(imports).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_dependency_is_imported_where_it_belongs_and_nowhere_else(package):
    users = {name_of(path) for path in MODULES if any(name.split(".")[0] == package for name in list_imports(path))}

    assert users == ONLY_IN[package]


def test_the_store_imports_the_standard_library_and_blake3_only():
    packages = {name.split(".")[0] for path in ROOT.glob("store/**/*.py") for name in list_imports(path)}

    assert packages - set(sys.stdlib_module_names) == {"blake3", "store"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_product_does_not_know_its_benchmarks_and_tests(path):
    assert {name.split(".")[0] for name in list_imports(path)} & {"benchmarks", "tests"} == set()
