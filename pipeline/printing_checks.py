"""The results of rebuild, lock, check, validate and pointers as text for people. Pure: from JSON to text."""

from __future__ import annotations

from typing import Any

from pipeline.printing import format_columns, format_count

SHOWN_FINDINGS = 20  # --json has all of them

Json = dict[str, Any]


def format_rebuild(result: Json) -> str:
    words = {word: sum(counts[word] for counts in result["documents"].values()) for word in _list_words(result)}
    rows = [
        [stage, *(f"{counts[word]:,}" for word in words if words[word])]
        for stage, counts in result["documents"].items()
    ]
    header = ["stage", *(word.replace("_", " ") for word in words if words[word])]
    lines = format_columns([header, *rows]) if rows else ["There are no documents."]
    lines += _list_findings(result["findings"])
    if result["answers_not_in_ledger"]:
        count = format_count(result["answers_not_in_ledger"], "answer")
        lines.append(f"{count} not in data/calls; raw.txt was taken in the place of the ledger's bytes.")
    if result["made"]:
        lines.append(f"Made without a model: {format_count(len(result['made']), 'document')}.")
    if result["same"] and not words.get("same"):
        return "\n".join([*lines, "Nothing was made again, so nothing was compared."])
    if result["same"]:
        return "\n".join([*lines, "Everything that was made again is the same, byte for byte."])
    return "\n".join([*lines, "Not everything is the same."])


def _list_words(result: Json) -> list[str]:
    return list(next(iter(result["documents"].values()), {}))


def _list_findings(findings: list[Json]) -> list[str]:
    shown = sorted(findings, key=lambda finding: finding["outcome"] in ("missing", "other_version"))
    lines = [line for finding in shown[:SHOWN_FINDINGS] for line in _describe_finding(finding)]
    if len(findings) > SHOWN_FINDINGS:
        lines.append(f"  and {len(findings) - SHOWN_FINDINGS:,} more; --json has all of them")
    return lines


def _describe_finding(finding: Json) -> list[str]:
    name = f"{finding['stage']} {finding['doc_id']}"
    if finding["outcome"] == "missing":
        return [f"  missing: {name}"]
    file = f"{finding['file']}: " if finding["file"] else ""
    lines = [f"  {finding['outcome'].replace('_', ' ')}: {name}: {file}{finding['reason']}"]
    if finding["stored"] is not None:
        lines += [f"    stored:  {finding['stored']!r}", f"    rebuilt: {finding['rebuilt']!r}"]
    return lines


def format_validation(result: Json) -> str:
    lines = []
    for table in result["tables"]:
        edited = ", edited by hand" if table["edited"] else ""
        lines.append(f"{table['file']}: {format_count(table['rows'], 'row')} without a mistake{edited}")
    for problem in result["problems"]:
        line = f", line {problem['line']}" if problem["line"] else ""
        lines.append(f"  {problem['file']}{line}: {problem['message']}")
    count = format_count(len(result["problems"]), "mistake") if result["problems"] else "no mistake"
    return "\n".join([*lines, f"{result['name']}: {count}."])


def format_pointer_counts(counts: Json) -> str:
    unreadable = f"; {format_count(counts['unreadable'], 'document')} cannot be read" if counts["unreadable"] else ""
    return (
        f"Pointers: {counts['written']:,} written, {counts['removed']:,} removed, {counts['kept']:,} kept{unreadable}."
    )


def format_pointer_drifts(result: Json) -> str:
    lines = []
    for drift in result["drifts"][:SHOWN_FINDINGS]:
        latest = f": {drift['task_id']} is {drift['doc_id']}" if drift["doc_id"] else ""
        lines.append(f"  {drift['problem']}: {drift['path']}{latest}")
    if not lines:
        return "Every pointer names the latest document of its task_id."
    count = format_count(len(result["drifts"]), "pointer")
    return "\n".join([*lines, f"{count} to be made again: daybook pointers rebuild."])


def format_lock(result: Json) -> str:
    missing = f"; {format_count(result['missing'], 'document')} not there: ids only" if result["missing"] else ""
    return f"{result['file']}: {format_count(result['documents'], 'document')}{missing}."


def format_check(check: Json) -> str:
    shown = check["problems"][:SHOWN_FINDINGS]
    lines = [f"  {problem}" for problem in shown]
    if len(check["problems"]) > len(shown):
        lines.append(f"  and {len(check['problems']) - len(shown):,} more; --json has all of them")
    counts = f"{check['same_ids']:,} of {check['locked']:,} ids are the same"
    if check["level"] == "ids":
        counts += "; no document is here, so nothing else was checked"
    else:
        counts += (
            f"; {check['present']:,} documents are here, {check['same']:,} as locked, {check['rebuilt']:,} rebuilt"
        )
    word = "passed" if check["passed"] else "failed"
    lines.append(f"{check['cohort']}: {word} at level {check['level']}: {counts}.")
    if not check["passed"]:
        lines.append(f"If new ids or bytes are meant: daybook lock {check['cohort']}. If not: daybook verify.")
        lines.append("Where a rebuild differs, the code makes something else: meant, it needs a higher version.")
    return "\n".join(lines)
