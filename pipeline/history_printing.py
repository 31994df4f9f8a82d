"""Bundles, old stores, the trash and garbage as text for people. Pure: from the JSON of a command to lines."""

from __future__ import annotations

from typing import Any

from pipeline.printing import format_count, format_usd

Json = dict[str, Any]

SHOWN_LINES = 20  # of each list; --json has all of them
UNITS = ("bytes", "KB", "MB", "GB")


def format_bytes(count: int) -> str:
    """532 -> "532 bytes", 25_500 -> "25.5 KB" """
    value, unit = float(count), UNITS[0]
    for unit in UNITS:
        if value < 1000 or unit == UNITS[-1]:
            break
        value /= 1000
    return f"{count:,} {unit}" if unit == UNITS[0] else f"{value:,.1f} {unit}"


def format_list(title: str, lines: list[str]) -> list[str]:
    """Return a title and the first lines below it; nothing if there are none."""
    if not lines:
        return []
    more = [f"  … and {len(lines) - SHOWN_LINES:,} more"] if len(lines) > SHOWN_LINES else []
    return [title, *(f"  {line}" for line in lines[:SHOWN_LINES]), *more]


# The trash


def format_removal(result: Json) -> str:
    documents = format_count(len(result["removed"]), "document")
    lines = format_list(
        f"{documents} ({format_bytes(result['bytes'])}) now in the trash as {result['entry']}:", result["removed"]
    )
    lines += format_list("Not read, so whether they were made from it is not known:", result["may_miss"])
    cost = (
        f"The answers, {format_usd(result['cost_usd'])}, stay in the ledger" if result["cost_usd"] else "Answers stay"
    )
    return "\n".join([*lines, f"{cost}. To bring them back: daybook undo {result['entry']}"])


def format_restored(result: Json) -> str:
    count = format_count(len(result["restored"]), "folder")
    lines = [f"{count} of {result['entry']} ({result['reason']}) back in their place."]
    lines += format_list("Left in the trash, because something else is in their place now:", result["occupied"])
    return "\n".join(lines)


def format_trash(entries: list[Json]) -> str:
    lines = [
        f"{each['entry']}  {each['reason']}: {format_count(each['folders'], 'folder')}, {format_bytes(each['bytes'])}"
        for each in entries
    ]
    return "\n".join(lines) or "The trash is empty."


# Garbage


def format_garbage(result: Json) -> str:
    documents, paid, deleted = result["documents"], result["paid_answers"], result["deleted"]
    moved = "Moved into the trash" if result["applied"] else "Would move into the trash"
    gone = "Deleted for good" if result["applied"] else "Would delete for good"
    lines = format_list(f"{moved}: {_describe_amount(documents, 'document')}", documents["ids"])
    lines = lines or ["No document is unasked for."]
    if paid["count"]:
        verdict = moved if paid["included"] else "Kept, because they were paid for (--paid-answers)"
        lines += format_list(f"{verdict}: {_describe_amount(paid, 'call')}", paid["ids"])
    if deleted["entries"]:
        lines.append(f"{gone} from the trash: {_describe_amount(deleted, 'folder')}")
    if deleted["kept_paid"]:
        lines.append(f"Kept in the trash, the only copy of an answer: {format_count(deleted['kept_paid'], 'folder')}")
    leftovers = result["leftovers"]
    if leftovers["names"]:
        gone_size = f"{format_count(len(leftovers['names']), 'leftover')}, {format_bytes(leftovers['bytes'])}"
        lines += format_list(f"{gone} from .tmp, where processes were killed: {gone_size}", leftovers["names"])
    lines += format_list("Kept in .tmp, since it may hold an answer:", leftovers["kept"])
    lines += format_list("Cannot be read, so nothing is taken for unasked:", result["unreadable"])
    if result["entry"]:
        lines.append(f"To bring them back: daybook undo {result['entry']}")
    elif not result["applied"] and _would_change(result):
        lines.append("Nothing was changed. The same command with --apply does it.")
    return "\n".join(lines)


def _would_change(result: Json) -> bool:
    paid = result["paid_answers"]
    return bool(
        result["documents"]["count"]
        or result["deleted"]["count"]
        or result["leftovers"]["names"]
        or (paid["count"] and paid["included"])
    )


def _describe_amount(amount: Json, noun: str) -> str:
    unknown = f", the cost of {amount['unknown_costs']:,} not known" if amount["unknown_costs"] else ""
    size, cost = format_bytes(amount["bytes"]), format_usd(amount["cost_usd"])
    return f"{format_count(amount['count'], noun)}, {size}, {cost}{unknown}"


# Bundles


def format_export(result: Json) -> str:
    documents = format_count(sum(result["documents"].values()), "document")
    lines = [
        f"{result['file']}: {documents}, {format_count(result['calls'], 'call')}, "
        f"{format_bytes(result['content_bytes'])} in {format_bytes(result['file_bytes'])}",
        f"Bundle {result['bundle']}",
    ]
    lines += format_list("Asked for, but not there:", result["missing"])
    lines += format_list("Damaged, so left out:", result["damaged"])
    lines += format_list("Files whose names no bundle can hold, left out:", result["left_out"])
    return "\n".join(lines)


def format_import(result: Json) -> str:
    counts = result["counts"]
    placed = "Would be brought in" if result["dry_run"] else "Brought in"
    lines = [f"Bundle {result['bundle']}: every hash is right.", f"{placed}:"]
    lines += [
        f"  {kind}: {number['placed']:,} new, {number['present']:,} here already, {number['kept_beside']:,} kept beside"
        for kind, number in counts.items()
        if any(number.values())
    ]
    lines += format_list("Other content under the same name; both are kept:", _list_kept(result["kept_beside"]))
    if result["config"]:
        lines.append(f"Its config and task tables: {result['config']}")
    return "\n".join(lines)


def _list_kept(kept: list[Json]) -> list[str]:
    return [f"{each['name']}: the bundle's is {each['place']}" for each in kept]


# Old stores


def format_backfill(result: Json) -> str:
    placed = "Would be brought in" if result["dry_run"] else "Brought in"
    lines = [f"{result['source']} ({', '.join(result['layouts']) or 'no known layout'}), run {result['run_id']}"]
    for stage, count in result["stages"].items():
        lines.append(
            f"  {stage}: {placed.lower()} {format_count(count['placed'], 'document')}, "
            f"{count['present']:,} here already; {format_count(count['attempts'], 'attempt')}, "
            f"{format_bytes(count['bytes'])}, {count['linked']:,} with parent"
        )
    lines += format_list("Ambiguous, so not linked:", [f"{a['name']}: {a['problem']}" for a in result["ambiguous"]])
    lines += format_list("Without parent:", [f"{a['name']}: {a['problem']}" for a in result["orphans"]])
    lines += format_list(
        "Old ids that do not follow from their metadata:", [_describe_old_id(a) for a in result["old_ids"]]
    )
    lines += format_list("Not brought in, or not whole:", [f"{a['name']}: {a['problem']}" for a in result["problems"]])
    return "\n".join(lines)


def _describe_old_id(difference: Json) -> str:
    return f"{difference['name']}: recomputed {difference['expected'] or '–'}"
