"""The command `daybook`. Each command prints text for people, or with --json one JSON document."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import history_printing, printing
from pipeline.archive.concept_commands import add_concepts
from pipeline.archive.fetch_commands import add_fetch
from pipeline.archive.import_commands import add_import
from pipeline.archive.render_commands import add_render
from pipeline.archive.search_commands import (
    add_conversations,
    add_note,
    add_search,
    add_show,
    add_tag,
    spare_unwanted_words,
)
from pipeline.build_result import BuildResult
from pipeline.command_line import (
    Command,
    add_command,
    open_workspace,
    print_result,
    read_amount,
    read_whole_number,
    roots_of,
)
from pipeline.completeness import find_complete
from pipeline.errors import InputInvalid, PipelineError
from pipeline.keeping_commands import add_attempts, add_log, add_repair, add_reroll, add_verify
from pipeline.settings import HIGHEST_CONCURRENCY, Roots
from store.data_root import DataRoot
from store.errors import StoreError

EXIT_OK, EXIT_ERROR = 0, 1
EXIT_INCOMPLETE = 30  # as [retcode] task_failed in luigi.cfg
EXIT_BUDGET = 31  # as 30, because the budget is reached
EXIT_WAITING = 32  # as 30, because batches are under way that may bring them
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXITS_AFTER_SIGNAL = (EXIT_INTERRUPTED, 143)  # 143: SIGTERM

HIGHEST_PORT = 65535
DEFAULT_SHOWN_TASKS = 1000
DEFAULT_POLL_SECONDS = 60

CHECK_LEVELS = ("ids", "documents", "rebuild")  # each one includes those before it
DEFAULT_GARBAGE_DAYS, DEFAULT_GRACE_DAYS = timedelta(days=14), timedelta(days=30)
HIGHEST_DAYS = 36500


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _make_parser(words[0] if words else "").parse_args(spare_unwanted_words(words))
    command: Command = arguments.command
    try:
        return command(arguments)
    except (PipelineError, StoreError) as error:
        print(printing.make_visible(str(error)), file=sys.stderr)
        return EXIT_ERROR
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return _say_interrupted(EXIT_INTERRUPTED)
    except SystemExit as stop:  # the worker ends with it after a signal
        if stop.code in EXITS_AFTER_SIGNAL:
            return _say_interrupted(stop.code)
        raise


def _say_interrupted(code: int) -> int:
    print("\nInterrupted. What was made is kept; the same command goes on from there.", file=sys.stderr)
    return code


def _make_parser(asked: str) -> argparse.ArgumentParser:
    """Return the parser of all commands; or only of the one that is asked for, which is faster."""
    parser = argparse.ArgumentParser(
        prog="daybook",
        description="Writing experiments with language models that can be rerun, verified and traced.",
        epilog="The data folder is --data-root, else DAYBOOK_DATA_ROOT, else data_root in luigi.cfg, else ./data; "
        "the config folder likewise.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    known = {
        "build": _add_build,
        "scheduler": _add_scheduler,
        "plan": _add_plan,
        "status": _add_status,
        "show": add_show,
        "lineage": _add_lineage,
        "explain": _add_explain,
        "usage": _add_usage,
        "attempts": add_attempts,
        "log": add_log,
        "verify": add_verify,
        "repair": add_repair,
        "rebuild": _add_rebuild,
        "lock": _add_lock,
        "check": _add_check,
        "validate": _add_validate,
        "pointers": _add_pointers,
        "reroll": add_reroll,
        "export": _add_export,
        "import-bundle": _add_import_bundle,
        "backfill": _add_backfill,
        "rm": _add_rm,
        "undo": _add_undo,
        "gc": _add_gc,
        "parse": _add_parse,
        "adopt": _add_adopt,
        "fetch": add_fetch,
        "import": add_import,
        "render": add_render,
        "search": add_search,
        "conversations": add_conversations,
        "tag": add_tag,
        "note": add_note,
        "concepts": add_concepts,
    }
    for add in [known[asked]] if asked in known else known.values():
        add(commands)
    return parser


# Making


def _add_build(commands: Any) -> None:
    parser = add_command(commands, "build", _build, "make what is missing of a cohort, and its report")
    parser.add_argument("cohort", help="the name of a file in config/cohorts, without .toml")
    parser.add_argument(
        "--allow-missing", action="store_true", help="exit with 0 although some documents could not be made"
    )
    parser.add_argument(
        "--concurrency",
        type=_read_concurrency,
        metavar="N",
        help="documents at work at the same time; default: concurrency in luigi.cfg, else 16",
    )
    parser.add_argument(
        "--budget-usd",
        type=_read_usd,
        metavar="X",
        help="what the cohort's documents may cost in all, earlier runs included, in US dollars",
    )
    parser.add_argument(
        "--budget-tokens",
        type=_read_tokens,
        metavar="N",
        help="the same in tokens, of prompts and answers together",
    )
    parser.add_argument(
        "--retry",
        default="",
        metavar="STATUS",
        help="ask again what ended for good with gen_error or truncated; both with a comma",
    )
    parser.add_argument(
        "--scheduler", metavar="URL", help="a scheduler that runs elsewhere; see daybook scheduler. Default: one within"
    )
    _add_batch_options(parser)


def _add_batch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch",
        action="store_true",
        help="collect what the batches under way have brought, and submit what is missing as batches",
    )
    parser.add_argument(
        "--wait",
        type=_read_seconds,
        nargs="?",
        const=DEFAULT_POLL_SECONDS,
        metavar="SECONDS",
        help=f"with --batch: go on until no batch is under way, looking every so often; default {DEFAULT_POLL_SECONDS}",
    )
    parser.add_argument(
        "--ignore-batches",
        action="store_true",
        help="ask also calls that are under way in a batch; they may be paid for twice",
    )


def _read_seconds(text: str) -> float:
    return read_amount(text, refusal="is no time to wait. Expected seconds above 0, such as 60.")


def _read_concurrency(text: str) -> int:
    refusal = f"is no number of documents. Expected a whole number from 1 to {HIGHEST_CONCURRENCY}."
    return read_whole_number(text, 1, HIGHEST_CONCURRENCY, refusal=refusal)


def _read_usd(text: str) -> float:
    return read_amount(text, refusal="is no budget. Expected dollars above 0, such as 2.50.")


def _read_tokens(text: str) -> int:
    return read_whole_number(text, 1, refusal="is no budget. Expected a whole number of tokens, at least 1.")


def _build(arguments: argparse.Namespace) -> int:
    roots = roots_of(arguments)
    record = find_complete(roots, arguments.cohort, DataRoot(roots.data).documents)
    if record is not None and not arguments.batch:  # a batch may still bring late answers, which are kept
        result = BuildResult.of_complete(arguments.cohort, record, roots)
        print_result(arguments, result.as_json(), printing.format_build)
        return EXIT_OK
    return _build_what_is_missing(arguments, roots)


def _build_what_is_missing(arguments: argparse.Namespace, roots: Roots) -> int:
    from pipeline.budgets import Caps
    from pipeline.building import build_cohort, build_in_batches  # brings Luigi with it, which nobody waits for in vain
    from pipeline.displays import choose_display

    if arguments.wait and not arguments.batch:
        raise InputInvalid("--wait waits for batches. Expected --batch with it.")
    build = partial(build_in_batches, wait_seconds=arguments.wait) if arguments.batch else build_cohort
    result = build(
        roots,
        arguments.cohort,
        allow_missing=arguments.allow_missing,
        concurrency=arguments.concurrency,
        caps=Caps(arguments.budget_usd, arguments.budget_tokens),
        retry=arguments.retry,
        scheduler_url=arguments.scheduler,
        ignores_batches=arguments.ignore_batches,
        display=choose_display(quiet=arguments.json),
    )
    print_result(arguments, result.as_json(), printing.format_build)
    if result.errors:
        return EXIT_ERROR
    if result.is_waiting:
        return EXIT_WAITING
    if result.is_budget_reached and not result.is_complete:
        return EXIT_BUDGET
    return EXIT_OK if result.is_complete or arguments.allow_missing else EXIT_INCOMPLETE


def _add_scheduler(commands: Any) -> None:
    parser = add_command(commands, "scheduler", _serve_scheduler, "serve Luigi's scheduler and dashboard to builds")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default 127.0.0.1")
    parser.add_argument("--port", type=_read_port, default=8082, metavar="N", help="default 8082; 0 for any free one")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="listen on a --host that other machines can reach; there is no password",
    )
    parser.add_argument("--state-file", metavar="FILE", help="default .scheduler-state.pickle in the data folder")
    parser.add_argument(
        "--max-shown-tasks",
        type=_read_count,
        default=DEFAULT_SHOWN_TASKS,
        metavar="N",
        help=f"tasks of one status that the dashboard lists, and of one graph; default {DEFAULT_SHOWN_TASKS}",
    )


def _read_port(text: str) -> int:
    refusal = f"is no port. Expected a whole number from 0 to {HIGHEST_PORT}."
    return read_whole_number(text, 0, HIGHEST_PORT, refusal=refusal)


def _read_count(text: str) -> int:
    return read_whole_number(text, 1, refusal="is no count. Expected a whole number from 1.")


def _serve_scheduler(arguments: argparse.Namespace) -> int:
    from pipeline.scheduler_server import choose_address, serve_data_root  # brings Luigi and its server with it

    number = serve_data_root(
        roots_of(arguments),
        choose_address(arguments.host, arguments.port, allow_remote=arguments.allow_remote),
        state_file=arguments.state_file,
        max_shown_tasks=arguments.max_shown_tasks,
        on_start=lambda url: print_result(arguments, {"url": url}, printing.format_scheduler),
    )
    print("\nStopped; the state is saved.", file=sys.stderr)
    return 128 + number


def _add_plan(commands: Any) -> None:
    parser = add_command(commands, "plan", _plan, "write a cohort's task tables and show what it takes")
    parser.add_argument("cohort", help="the name of a file in config/cohorts, without .toml")
    tables = parser.add_mutually_exclusive_group()
    tables.add_argument(
        "--from-config", action="store_true", help="move edited task tables to the quarantine and write the config's"
    )
    tables.add_argument(
        "--as-edited", action="store_true", help="take task tables for edited that no record says who wrote"
    )


def _plan(arguments: argparse.Namespace) -> int:
    from pipeline.looking import describe_plan

    workspace = open_workspace(arguments)
    if arguments.from_config:
        for place in workspace.set_tables_aside(arguments.cohort):
            print(f"The edited table is kept in {place}.", file=sys.stderr)
    if arguments.as_edited:
        workspace.accept_tables(arguments.cohort)
    description = describe_plan(workspace, arguments.cohort)
    workspace.write_tables(arguments.cohort)
    print_result(arguments, description, printing.format_plan)
    return EXIT_OK


# Looking


def _add_status(commands: Any) -> None:
    parser = add_command(commands, "status", _status, "show how the cohorts stand")
    parser.add_argument("cohort", nargs="?", help="only this one")


def _status(arguments: argparse.Namespace) -> int:
    from pipeline.looking import describe_status

    print_result(arguments, describe_status(open_workspace(arguments), arguments.cohort), printing.format_status)
    return EXIT_OK


def _add_lineage(commands: Any) -> None:
    parser = add_command(commands, "lineage", _lineage, "show what a document was made from, down to the concepts")
    parser.add_argument("id", help="the start of a doc_id; a stage may stand before it: essay/7k3f")


def _lineage(arguments: argparse.Namespace) -> int:
    from pipeline.looking import describe_lineage

    print_result(arguments, describe_lineage(open_workspace(arguments), arguments.id), printing.format_lineage)
    return EXIT_OK


def _add_explain(commands: Any) -> None:
    parser = add_command(commands, "explain", _explain, "show which inputs of two documents differ")
    parser.add_argument("a", help="the start of a doc_id")
    parser.add_argument("b", help="the start of another")


def _explain(arguments: argparse.Namespace) -> int:
    from pipeline.looking import explain_difference

    difference = explain_difference(open_workspace(arguments), arguments.a, arguments.b)
    print_result(arguments, difference, printing.format_difference)
    return EXIT_OK


def _add_usage(commands: Any) -> None:
    from pipeline.usage import GROUPINGS

    parser = add_command(commands, "usage", _usage, "show what was asked of models, what it cost, and what was saved")
    parser.add_argument("--by", choices=GROUPINGS, default="model", help="what a line stands for; default model")


def _usage(arguments: argparse.Namespace) -> int:
    from pipeline.usage import describe_usage
    from store.data_root import DataRoot

    usage = describe_usage(DataRoot(roots_of(arguments).data), arguments.by)
    print_result(arguments, usage, printing.format_usage)
    return EXIT_OK


# Checking


def _add_rebuild(commands: Any) -> None:
    description = "make documents again from what is on disk, with no model, and compare byte for byte"
    parser = add_command(commands, "rebuild", _rebuild, description)
    scope = parser.add_mutually_exclusive_group(required=True)
    scope.add_argument("cohort", nargs="?", help="what its task tables ask for, and its reports")
    scope.add_argument("--all", action="store_true", help="every document of the store")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; without it what is missing and needs no model is made"
    )


def _rebuild(arguments: argparse.Namespace) -> int:
    from pipeline.printing_checks import format_rebuild
    from pipeline.rebuilding import rebuild_all, rebuild_cohort

    workspace = open_workspace(arguments)
    if arguments.all:
        from pipeline.archive.remaking import rebuild_archive

        result = rebuild_all(workspace.data, rebuild_archive(workspace))
    else:
        result = rebuild_cohort(workspace, arguments.cohort, makes_missing=not arguments.check)
    print_result(arguments, result.as_json(), format_rebuild)
    return EXIT_OK if result.is_same else EXIT_ERROR


def _add_lock(commands: Any) -> None:
    parser = add_command(commands, "lock", _lock, "record a cohort's ids and contents in config/cohorts/COHORT.lock")
    parser.add_argument("cohort", help="the name of a file in config/cohorts, without .toml")


def _lock(arguments: argparse.Namespace) -> int:
    from pipeline.checking import lock_cohort
    from pipeline.printing_checks import format_lock

    print_result(arguments, lock_cohort(open_workspace(arguments), arguments.cohort), format_lock)
    return EXIT_OK


def _add_check(commands: Any) -> None:
    parser = add_command(commands, "check", _check, "compare a cohort with its lock, as far as there is data")
    parser.add_argument("cohort", help="the name of a file in config/cohorts, without .toml")
    parser.add_argument(
        "--require", choices=CHECK_LEVELS, default="ids", help="the level that all documents have to reach"
    )


def _check(arguments: argparse.Namespace) -> int:
    from pipeline.checking import check_cohort
    from pipeline.printing_checks import format_check

    check = check_cohort(open_workspace(arguments), arguments.cohort, required=arguments.require)
    print_result(arguments, check.as_json(), format_check)
    return EXIT_OK if check.has_passed else EXIT_ERROR


def _add_validate(commands: Any) -> None:
    parser = add_command(commands, "validate", _validate, "check task tables, those that a person edited too")
    parser.add_argument("name", metavar="COHORT|CSV", help="a cohort, or one table: a path ending in <stage>_tasks.csv")


def _validate(arguments: argparse.Namespace) -> int:
    from pipeline.printing_checks import format_validation
    from pipeline.validation import validate

    result = validate(open_workspace(arguments), arguments.name)
    print_result(arguments, result.as_json(), format_validation)
    return EXIT_OK if result.is_valid else EXIT_ERROR


def _add_pointers(commands: Any) -> None:
    parser = add_command(commands, "pointers", _pointers, "make the pointers again, or compare them to the documents")
    parser.add_argument("action", choices=("rebuild", "verify"), help="verify changes nothing")


def _pointers(arguments: argparse.Namespace) -> int:
    from pipeline.printing_checks import format_pointer_counts, format_pointer_drifts
    from store.data_root import DataRoot
    from store.pointers import rebuild_pointers, verify_pointers

    documents = DataRoot(roots_of(arguments).data).documents
    if arguments.action == "rebuild":
        print_result(arguments, rebuild_pointers(documents)._asdict(), format_pointer_counts)
        return EXIT_OK
    drifts = [drift._asdict() for drift in verify_pointers(documents)]
    print_result(arguments, {"drifts": drifts}, format_pointer_drifts)
    return EXIT_ERROR if drifts else EXIT_OK


# Keeping


def _add_export(commands: Any) -> None:
    parser = add_command(commands, "export", _export, "write documents, with all they came from, into one file")
    parser.add_argument("names", nargs="+", metavar="COHORT|ID", help="a cohort, or the start of a doc_id")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="ends in .tar.zst, .tar.gz or .tar")


def _export(arguments: argparse.Namespace) -> int:
    from pipeline.bundles import export_bundle

    result = export_bundle(roots_of(arguments), arguments.names, Path(arguments.output))
    print_result(arguments, result, history_printing.format_export)
    return EXIT_ERROR if result["damaged"] else EXIT_OK


def _add_import_bundle(commands: Any) -> None:
    parser = add_command(commands, "import-bundle", _import_bundle, "bring the documents of an exported file in")
    parser.add_argument("file", metavar="FILE", help="what daybook export wrote")
    parser.add_argument("--dry-run", action="store_true", help="check the file and say what would be brought in")


def _import_bundle(arguments: argparse.Namespace) -> int:
    from pipeline.bundles import import_bundle
    from store.data_root import DataRoot

    result = import_bundle(DataRoot(roots_of(arguments).data), Path(arguments.file), dry_run=arguments.dry_run)
    print_result(arguments, result, history_printing.format_import)
    return EXIT_OK


def _add_backfill(commands: Any) -> None:
    from pipeline.backfill.sources import STAGE_CHOICES

    parser = add_command(commands, "backfill", _backfill, "bring the documents of an old store in")
    parser.add_argument("folder", metavar="DIR", help="the old store's data folder; it is only read")
    parser.add_argument("--stage", choices=STAGE_CHOICES, default="all", help="only documents of this stage")
    parser.add_argument("--run-id", metavar="ID", help="names the run in the records; default backfill-YYYYMMDD")
    parser.add_argument("--link", action="store_true", help="share disk space with the old files where possible")
    parser.add_argument("--dry-run", action="store_true", help="say what would be brought in, and write nothing")


def _backfill(arguments: argparse.Namespace) -> int:
    from pipeline.backfill import backfill_store
    from store.data_root import DataRoot

    result = backfill_store(
        Path(arguments.folder),
        DataRoot(roots_of(arguments).data),
        stage=arguments.stage,
        run_id=arguments.run_id,
        link=arguments.link,
        dry_run=arguments.dry_run,
    )
    print_result(arguments, result, history_printing.format_backfill)
    return EXIT_OK


def _add_rm(commands: Any) -> None:
    parser = add_command(commands, "rm", _rm, "move a document into the trash, from where undo brings it back")
    parser.add_argument("id", help="the start of a doc_id; a stage may stand before it: essay/7k3f")
    parser.add_argument("--cascade", action="store_true", help="and everything that was made from it")


def _rm(arguments: argparse.Namespace) -> int:
    from pipeline.removals import remove_document
    from store.data_root import DataRoot

    result = remove_document(DataRoot(roots_of(arguments).data), arguments.id, cascade=arguments.cascade)
    print_result(arguments, result, history_printing.format_removal)
    return EXIT_OK


def _add_undo(commands: Any) -> None:
    parser = add_command(commands, "undo", _undo, "bring back what rm or gc moved into the trash")
    parser.add_argument("entry", nargs="?", help="an entry of the trash; default: the latest")
    parser.add_argument("--list", action="store_true", help="show what lies in the trash, and bring nothing back")


def _undo(arguments: argparse.Namespace) -> int:
    from pipeline.removals import list_removals, undo_removal
    from store.data_root import DataRoot

    data = DataRoot(roots_of(arguments).data)
    if arguments.list:
        print_result(arguments, list_removals(data), history_printing.format_trash)
        return EXIT_OK
    result = undo_removal(data, arguments.entry)
    print_result(arguments, result, history_printing.format_restored)
    return EXIT_ERROR if result["occupied"] else EXIT_OK


def _add_gc(commands: Any) -> None:
    parser = add_command(commands, "gc", _gc, "show what nothing asks for any more; with --apply move it to the trash")
    parser.add_argument("--apply", action="store_true", help="do it: without, nothing is changed")
    parser.add_argument(
        "--paid-answers", action="store_true", help="answers that were paid for too; without, they are only counted"
    )
    parser.add_argument(
        "--older-than", type=_read_days, default=DEFAULT_GARBAGE_DAYS, metavar="DAYS", help="default 14"
    )
    parser.add_argument(
        "--grace",
        type=_read_days,
        default=DEFAULT_GRACE_DAYS,
        metavar="DAYS",
        help="days in the trash after which a later gc --apply deletes for good; default 30",
    )


def _read_days(text: str) -> timedelta:
    refusal = f"is no number of days. Expected a whole number to {HIGHEST_DAYS}."
    return timedelta(days=read_whole_number(text, 0, HIGHEST_DAYS, refusal=refusal))


def _gc(arguments: argparse.Namespace) -> int:
    from pipeline.garbage import collect_garbage

    result = collect_garbage(
        roots_of(arguments),
        apply=arguments.apply,
        paid_answers=arguments.paid_answers,
        age=arguments.older_than,
        grace=arguments.grace,
    )
    print_result(arguments, result, history_printing.format_garbage)
    return EXIT_OK


# Trying and bringing in


def _add_parse(commands: Any) -> None:
    from pipeline.parsers import PARSERS

    parser = add_command(commands, "parse", _parse, "run a parser on texts, to try it")
    parser.add_argument("parser", help=", ".join(PARSERS))
    parser.add_argument("files", nargs="+", metavar="FILE", help="texts, as a model would answer; - for standard input")
    parser.add_argument("--scale", metavar="LOW-HIGH", default="0-10", help="lowest and highest score; default 0-10")
    parser.add_argument("--min-lines", type=int, default=0, metavar="N", help="fewest non-empty lines that will do")


def _parse(arguments: argparse.Namespace) -> int:
    from pipeline.trying import try_parser

    results = try_parser(arguments.parser, arguments.files, scale=arguments.scale, min_lines=arguments.min_lines)
    print_result(arguments, results, printing.format_parses)
    return EXIT_OK if all(result["status"] == "ok" for result in results) else EXIT_ERROR


def _add_adopt(commands: Any) -> None:
    parser = add_command(commands, "adopt", _adopt, "turn a workspace of CSV files and folders into a config folder")
    parser.add_argument("folder", help="the folder that holds 1_raw, or 1_raw itself")


def _adopt(arguments: argparse.Namespace) -> int:
    from pipeline.adoption import adopt_workspace

    adoption = adopt_workspace(Path(arguments.folder), roots_of(arguments).config)
    if arguments.json:
        print_result(arguments, adoption.as_json(), str)
    else:
        print(printing.make_visible("\n".join(adoption.lines())))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
