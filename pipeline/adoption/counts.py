"""The totals of a workspace, by which two adoptions can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pipeline.adoption.grouping import find_shared
from pipeline.adoption.workspace import STAGES, Workspace
from pipeline.concepts import FALLBACK_LEVELS, LEVELS


def count_workspace(workspace: Workspace) -> dict[str, object]:
    """Return the totals by which two adoptions can be compared; plain JSON."""
    return {
        "concepts": len(workspace.concepts),
        "distinct_names": len({concept.name for concept in workspace.concepts}),
        "duplicate_names": len(find_shared(workspace.concepts, lambda concept: concept.name)),
        "description_files": len(workspace.descriptions) + len(workspace.descriptions_without_row),
        "description_files_without_row": len(workspace.descriptions_without_row),
        "descriptions": {level: _count_fallbacks(workspace, level) for level in LEVELS},
        "templates": {stage: _count_templates(workspace, stage) for stage in STAGES},
        "parsers": {
            stage: dict(Counter(template.parser for template in workspace.of_stage(stage))) for stage in STAGES
        },
        "models": len(workspace.models),
        "free_tier_models": sum(model.is_free_tier for model in workspace.models),
        "replicates": {stage: workspace.replicates_by_stage.get(stage, 1) for stage in STAGES},
        "legacy_link_rows": workspace.link_rows,
    }


def describe_counts(counts: Mapping[str, Any]) -> list[str]:
    lines = [
        "{concepts} concepts with {distinct_names} distinct names, {description_files} description files".format(
            **counts
        ),
        *(
            f"{stage} templates: {numbers['usable']} usable; {numbers['rows']} rows, {numbers['files']} files, "
            f"{numbers['rows_without_file']} rows without a file, {numbers['files_without_row']} files without a row"
            for stage, numbers in counts["templates"].items()
        ),
        f"{counts['models']} models, {counts['free_tier_models']} of them free tier",
        f"replicates: {', '.join(f'{stage} {number}' for stage, number in counts['replicates'].items())}",
    ]
    return [f"  {line}" for line in lines]


def _count_fallbacks(workspace: Workspace, level: str) -> dict[str, int]:
    """Return how many concepts have a text of the level, and what stands in for it elsewhere."""
    found = Counter(workspace.find_level(concept.concept_id, level) for concept in workspace.concepts)
    others = {f"from_{other}": found[other] for other in FALLBACK_LEVELS if other != level}
    return {"own": found[level], **others, "name_only": found[None]}


def _count_templates(workspace: Workspace, stage: str) -> dict[str, int]:
    templates = workspace.of_stage(stage)
    files = sum(template.content is not None for template in templates)
    orphans = sum(place.stage == stage for place in workspace.templates_without_row)
    return {
        "rows": len(templates),
        "files": files + orphans,
        "rows_without_file": len(templates) - files,
        "files_without_row": orphans,
        "usable": len(workspace.usable_of_stage(stage)),
    }
