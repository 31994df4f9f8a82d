"""Results as text for people. Pure: from the JSON of a command to lines.

Everything that a model or a file wrote goes through `make_visible`, so that no text can move the
cursor, change colours or reverse the reading direction of a terminal.
"""

from __future__ import annotations

import re
import textwrap
import time
from typing import Any, Protocol, TextIO

Json = dict[str, Any]

SHOWN_FAILURES = 10  # after a build; `daybook status` and the report have all of them
SHOWN_CHARACTERS = 200  # of a reason that quotes an answer

# Control characters but newline and tab, and the marks that change reading direction.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def make_visible(text: str) -> str:
    r"""Return a text with control characters written out: "\x1b[2J" -> "\\x1b[2J"."""
    return _HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def format_columns(rows: list[list[str]]) -> list[str]:
    """Return rows as lines with aligned columns; numbers to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]

    def align(cell: str, width: int) -> str:
        return cell.rjust(width) if cell.replace(",", "").isdigit() else cell.ljust(width)

    return ["  ".join(align(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def format_count(count: int, noun: str) -> str:
    """(1, "draft") -> "1 draft", (2, "essay") -> "2 essays" """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_duration(seconds: float) -> str:
    """65.2 -> "1:05", 3725 -> "1:02:05" """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_scheduler(started: Json) -> str:
    url = started["url"]
    return f"Dashboard: {url}    Builds: daybook build COHORT --scheduler {url}    No password; stop with Ctrl-C."


def format_usd(usd: float) -> str:
    """12.5 -> "$12.50", 0.00213 -> "$0.0021", 0 -> "$0.00" """
    return f"${usd:,.2f}" if usd == 0 or usd >= 1 else f"${usd:.2g}" if usd >= 0.0001 else f"${usd:.1e}"


def format_build(result: Json) -> str:
    lines = [_describe_build(result)]
    failures = result["failures"]
    for failure in failures[:SHOWN_FAILURES]:
        name = f"{failure['stage']} {failure['doc_id']} {failure['task_id']}"
        reason = failure["reason"] or "not made yet"
        lines.append(f"  {failure['status']}: {name}: {textwrap.shorten(reason, SHOWN_CHARACTERS)}")
    if len(failures) > SHOWN_FAILURES:
        lines.append(f"  and {len(failures) - SHOWN_FAILURES} more: daybook status {result['cohort']}")
    lines += [f"  {error}" for error in dict.fromkeys(result["errors"])]  # many documents meet one full disk
    lines += _describe_budget(result["budget"])
    lines += _describe_batches(result["batches"])
    if result["report"]:
        lines.append(f"report: {result['report']['page']}")
    return "\n".join(lines)


def _describe_budget(budget: Json | None) -> list[str]:
    if budget is None:
        return []
    pairs = [("usd", format_usd), ("tokens", lambda tokens: f"{tokens:,} tokens")]
    spent = [f"{show(budget[f'spent_{key}'])} of {show(budget[key])}" for key, show in pairs if budget[key] is not None]
    lines = [f"budget{' reached' if budget['reached'] else ''}: {' and '.join(spent)} spent"]
    if budget["left"]["calls"]:
        cost = _describe_cost_range(budget["left"])
        lines.append(f"left to make: {format_count(budget['left']['calls'], 'call')}, {cost}")
    return lines


def _describe_batches(batches: Json | None) -> list[str]:
    if batches is None:
        return []
    lines = [f"in batches: {format_count(batches['submitted'], 'call')} submitted, {batches['collected']:,} collected"]
    for batch in batches["under_way"]:
        calls, age = format_count(batch["calls"], "call"), format_duration(batch["age_seconds"])
        name = batch["provider_batch_id"] or batch["batch"]
        lines.append(f"  under way: {name}: {calls} to {batch['model']}, for {age}, {batch['state']}")
    return lines + [f"  {problem}" for problem in batches["problems"]]


def _describe_cost_range(estimate: Json) -> str:
    if estimate["cost_usd"] is None:
        return f"cost unknown: no price for {', '.join(estimate['unpriced_models'])}"
    if estimate["cost_usd"]["high"] == 0:
        return "at no cost"
    low, expected, high = (format_usd(estimate["cost_usd"][key]) for key in ("low", "expected", "high"))
    return f"about {expected} (from {low} to {high})"


def _describe_build(result: Json) -> str:
    cohort, missing = result["cohort"], result["missing"]
    made = ", ".join(format_count(count, stage) for stage, count in result["made"].items())
    if not made and not missing:
        return f"{cohort}: nothing to do, all {format_count(result['present_before'], 'document')} are there."
    parts = [f"made {made or 'nothing'}", format_count(result["calls"], "call")]
    if result["calls"]:
        tokens = result["completion_tokens"]
        parts.append(f"{tokens:,} tokens, {tokens / max(result['seconds'], 1e-3):.0f} tokens/s")
        parts += [format_usd(result["cost_usd"])] if result["cost_usd"] else []
        parts += ["cost not known in full"] if result["cost_usd"] is None else []
    parts.append(format_duration(result["seconds"]))
    end = f"; {format_count(missing, 'document')} missing:" if missing else "."
    return f"{cohort}: {', '.join(parts)}{end}"


def format_plan(plan: Json) -> str:
    header = ["stage", "documents", "present", "missing", "calls", "prompt tokens", "completion tokens", "at most"]
    keys = ["documents", "present", "missing", "calls", "prompt_tokens", "expected_completion_tokens"]
    keys.append("completion_tokens")
    rows = [[stage, *(f"{counts[key]:,}" for key in keys)] for stage, counts in plan["stages"].items()]
    lines = [f"Cohort {plan['cohort']}; its report will be {plan['report']}.", *format_columns([header, *rows])]
    lines += [f"{stage}_tasks.csv was edited by hand and is taken as it is." for stage in plan["edited"]]
    if not plan["total"]["calls"]:
        return "\n".join([*lines, "No call is needed."])
    note = "Tokens are estimated; at most: what max_tokens allows of completion tokens."
    return "\n".join(
        [*lines, note, f"{format_count(plan['total']['calls'], 'call')}, {_describe_cost_range(plan['total'])}."]
    )


def format_status(status: Json) -> str:
    lines = []
    for cohort in status["cohorts"]:
        words = [word for word in next(iter(cohort["stages"].values()), {}) if word != "documents"]
        used = [word for word in words if word == "ok" or any(c[word] for c in cohort["stages"].values())]
        rows = [[stage, *(f"{c[word]:,}" for word in ["documents", *used])] for stage, c in cohort["stages"].items()]
        cost = f", {format_usd(cohort['cost_usd'])}" if cohort["cost_usd"] else ""
        lines.append(f"{cohort['cohort']}: {'complete' if cohort['complete'] else 'not complete'}{cost}")
        lines += ["  " + line for line in format_columns([["stage", "documents", *used], *rows])]
        lines += [
            f"  {f['status']}: {f['stage']} {f['doc_id']} {f['task_id']}: {f['reason']}" for f in cohort["failures"]
        ]
        if cohort["report"]:
            lines.append(f"  report: {cohort['report']['page']}")
    counts = ", ".join(f"{count:,} {stage}" for stage, count in status["documents"].items())
    return "\n".join([*lines, f"{status['data_root']} holds: {counts or 'nothing yet'}"])


def format_document(document: Json) -> str:
    lines = [f"{document['stage']} {document['doc_id']}  {document['task_id'] or ''}".rstrip()]
    metadata = document["metadata"]
    if metadata is None:
        reason = f": {document['reason']}" if document["reason"] else ""
        lines.append(f"{document['status']}{reason}")
    else:
        lines += _describe_making(metadata)
        lines.append(f"folder    {document['folder']}")
    for name, text in document["texts"].items():
        lines += ["", f"── {name} " + "─" * max(0, 60 - len(name)), text.rstrip("\n")]
    return "\n".join(lines)


def _describe_making(metadata: Json) -> list[str]:
    facts = [
        ("model", metadata.get("model")),
        ("template", metadata.get("template_id")),
        ("score", _describe_score(metadata.get("score"))),
        ("tokens", _describe_tokens(metadata)),
        ("cost", "" if metadata.get("cost_usd") is None else format_usd(metadata["cost_usd"])),
        ("parents", ", ".join(f"{parent['stage']} {parent['doc_id']}" for parent in metadata["parents"][:4])),
        ("made", _describe_occasion(metadata)),
    ]
    return [f"{name:<9} {value}" for name, value in facts if value]


def _describe_occasion(metadata: Json) -> str:
    cohort = metadata.get("cohort")
    return f"{metadata['created_at']} for cohort {cohort}" if cohort else str(metadata["created_at"])


def _describe_score(score: Json | None) -> str:
    return f"{score['value']:g} on {score['scale'][0]:g}-{score['scale'][1]:g}" if score else ""


def _describe_tokens(metadata: Json) -> str:
    prompt, completion = metadata.get("prompt_tokens"), metadata.get("completion_tokens")
    return "" if completion is None else f"{prompt:,} prompt, {completion:,} completion"


def format_usage(usage: Json) -> str:
    header = [usage["by"], "calls", "attempts", "prompt tokens", "completion tokens", "cost"]
    header += ["failed attempts", "their cost", "reused", "saved"]
    rows = [_describe_usage(name, counts) for name, counts in [*usage["groups"].items(), ("all", usage["total"])]]
    lines = format_columns([header, *rows])
    if unknown := usage["total"]["unknown_costs"]:
        lines.append(f"The cost of {format_count(unknown, 'attempt')} is not known; it is not in the sums.")
    return "\n".join(lines)


def _describe_usage(name: str, counts: Json) -> list[str]:
    numbers = [f"{counts[key]:,}" for key in ("calls", "attempts", "prompt_tokens", "completion_tokens")]
    cost = _describe_sum(counts["cost_usd"], counts["unknown_costs"])
    failed = _describe_sum(counts["failed_cost_usd"], counts["failed_unknown_costs"])
    saved = _describe_sum(counts["saved_usd"], counts["saved_unknown_costs"])
    return [name, *numbers, cost, f"{counts['failed_attempts']:,}", failed, f"{counts['reused']:,}", saved]


def _describe_sum(usd: float, unknown: int) -> str:
    return f"{format_usd(usd)} + ?" if unknown else format_usd(usd)


def format_lineage(node: Json) -> str:
    return "\n".join(_list_lineage(node, depth=0))


def _list_lineage(node: Json, depth: int) -> list[str]:
    indent = "   " * depth
    made_by = ", ".join(str(node[key]) for key in ("template_id", "model", "place") if node.get(key))
    state = "" if node.get("state", "ok") == "ok" else f"  [{node['state']}]"
    arrow = "└─ " if depth else ""
    lines = [f"{indent}{arrow}{node['stage']} {node['doc_id']}  {made_by or node.get('task_id') or ''}{state}".rstrip()]
    for concept in node["concepts"]:
        origin = concept.get("origin") or {"documents": []}
        edited = ", edited since" if origin.get("is_edited") else ""
        lines.append(f"{indent}   └─ concept {concept['concept_id']}  {concept['name']} ({concept['level']}{edited})")
        for document in origin["documents"]:
            lines += _list_lineage(document, depth + 2)
    for parent in node["parents"]:
        lines += _list_lineage(parent, depth + 1)
    return lines


def format_difference(difference: Json) -> str:
    a, b = difference["a"], difference["b"]
    lines = [f"a: {a['stage']} {a['doc_id']}  {a['task_id']}", f"b: {b['stage']} {b['doc_id']}  {b['task_id']}"]
    if not difference["differences"]:
        lines.append("They are one document." if difference["same_document"] else "No input differs.")
    for item in difference["differences"]:
        lines += ["", item["input"], f"  a: {item['a']}", f"  b: {item['b']}"]
        lines += [f"  {line}" for line in item["diff"]]
    return "\n".join(lines)


def format_parses(results: list[Json]) -> str:
    lines = []
    for result in results:
        if result["score"] is not None:
            found = f"{result['score']:g} on {result['scale']} ({result['strategy']}: {result['line']})"
        else:
            found = result["reason"] or f"{len(result['parsed'])} characters"
        lines.append(f"{result['file']}: {result['status']}: {found}")
        if result["score"] is None and result["parsed"] is not None and len(results) == 1:
            lines.append(result["parsed"].rstrip("\n"))
    return "\n".join(lines)


# Keeping


class _Progress(Protocol):
    """How far a verification is; see verification.Progress."""

    done: int
    total: int
    size_bytes: int
    seconds: float

    @property
    def seconds_left(self) -> float: ...


class ProgressLine:
    """Says how far a verification is: every second on a terminal, in one line; elsewhere every ten seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._moves = stream, stream.isatty()
        self._said = time.monotonic()

    def __call__(self, progress: Any) -> None:
        now = time.monotonic()
        if now - self._said < (1 if self._moves else 10):
            if self._moves and progress.done == progress.total:
                self._stream.write("\r\x1b[K")
            return
        self._said = now
        text = format_progress(progress)
        self._stream.write(f"\r\x1b[K{text}" if self._moves else f"{text}\n")
        self._stream.flush()


def format_progress(progress: _Progress) -> str:
    seconds = progress.seconds or 1e-9
    rate = f"{progress.done / seconds:,.0f} a second, {progress.size_bytes / seconds / 1e6:,.0f} MB/s"
    return f"{progress.done:,} of {progress.total:,} checked; {rate}; {format_duration(progress.seconds_left)} left"


def format_verification(found: Json) -> str:
    lines = [f"{finding['state']:10}  {finding['kind']:16}  {_name_place(finding)}" for finding in found["findings"]]
    lines += [""] if lines else []
    checked = f"{format_count(found['documents'], 'document')}, {format_count(found['calls'], 'call')} with "
    checked += format_count(found["attempts"], "attempt")
    megabytes = f"{found['size_bytes'] / 1e6:,.1f} MB in {found['seconds']:.1f} s"
    lines.append(f"{found['state']}: {checked}; {found['level']}, {megabytes}.")
    if found["unfinished_attempts"]:
        lines.append(
            f"{format_count(found['unfinished_attempts'], 'attempt')} without an outcome: under way, or cut off."
        )
    if found["unrecorded_documents"]:
        count = format_count(found["unrecorded_documents"], "sound document")
        lines.append(f"{count} not in the journal: daybook repair --apply records them.")
    if found["state"] != "clean":
        lines.append("What can be mended: daybook repair.")
    return "\n".join(lines)


def _name_place(finding: Json) -> str:
    place = f"{finding['place']}/{finding['file']}" if finding["file"] else str(finding["place"])
    return f"{place}: {finding['detail']}"


def format_repairs(found: Json) -> str:
    if not found["repairs"]:
        return "Nothing to repair."
    lines = []
    for repair in found["repairs"]:
        is_free = repair["cost_usd"] == 0 and repair["how"] != "set_aside"
        cost = "" if is_free else f"; to make it again: {_say_cost(repair['cost_usd'])}"
        state = f"  NOT DONE: {repair['problem']}" if repair["problem"] else ""
        lines.append(f"{repair['how']:15}  {repair['place']}: {repair['why']}{cost}{state}")
    ways = {repair["how"] for repair in found["repairs"]}
    lines += [""] if "leave" in ways or not found["applied"] else []
    if "leave" in ways:
        lines.append("What is left as it is has to become readable, or needs its bytes from elsewhere:")
        lines.append("daybook repair --from BUNDLE, or a backup.")
    if not found["applied"] and ways != {"leave"}:
        lines.append("Nothing was changed. daybook repair --apply does it.")
    return "\n".join(lines)


def _say_cost(usd: float | None) -> str:
    return "cost unknown" if usd is None else format_usd(usd)


def format_attempts(found: Json) -> str:
    head = f"{found['stage']}/{found['doc_id']}"
    if not found["call_id"]:
        return f"{head}: no call is known of it."
    if not found["attempts"]:
        return f"{head}: call {found['call_id']} was never tried."
    rows = [["attempt", "status", "asked at", "seconds", "tokens", "cost", "run", ""]]
    for attempt in found["attempts"]:
        tokens = [attempt["prompt_tokens"], attempt["completion_tokens"]]
        rows.append(
            [
                str(attempt["attempt"]),
                attempt["status"] or "no outcome",
                str(attempt["asked_at"] or ""),
                "" if attempt["seconds"] is None else f"{attempt['seconds']:.1f}",
                "" if None in tokens else f"{tokens[0]}+{tokens[1]}",
                _say_cost(attempt["cost_usd"]),
                str(attempt["run_id"] or ""),
                "used" if attempt["used"] else attempt["reason"][:SHOWN_CHARACTERS],
            ]
        )
    lines = [f"{head}, call {found['call_id']}", *format_columns(rows)]
    if found["status"] not in (None, "ok"):  # an answer may be whole, and no document follow from it
        lines.append(f"The document is not there: {found['status']}: {found['reason']}")
    return "\n".join(lines)


def format_log(records: list[Json]) -> str:
    return "\n".join(_format_record(record) for record in records) or "Nothing is recorded."


def _format_record(record: Json) -> str:
    if record.get("stage"):
        name = f"{record['stage']}/{record.get('doc_id')}"
    elif record.get("call_id"):
        name = f"call {record['call_id']}, attempt {record.get('attempt')}"
    else:
        name = str(record.get("place", ""))
    told = [record.get("status"), record.get("reason"), record.get("kept")]
    if record.get("usd") is not None:
        told.append(format_usd(record["usd"]))
    return "  ".join([record["at"], f"{record['event']:11}", name, *(str(part) for part in told if part)])


def format_reroll(made: Json) -> str:
    name = f"{made['stage']}/{made['doc_id']}: replicate {made['replicate']}, {made['task_id']}"
    return (
        f"{name}, {_say_cost(made['cost_usd'])}, in {made['folder']}. "
        "A cohort takes it in when its spec asks for as many replicates."
    )
