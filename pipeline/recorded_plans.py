"""Plans read back from documents: what a document was made from, without the config.

metadata.json has the inputs, with texts by their hash; data/texts has the templates, metadata.json itself the
concepts. So a document of a template that has been edited or removed since can be made again and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.concepts import Combo, Concept
from pipeline.gateway import Transport
from pipeline.limits import Limits
from pipeline.models import Model
from pipeline.parsers import PARSERS
from pipeline.planning import DocumentPlan, GivenPlan
from pipeline.prompts import RENDERING_VERSION
from pipeline.scores import Scale
from pipeline.stages import REPORT_VERSION, STAGE_RULES, Mode, Stage
from pipeline.templates import Template
from store.texts import TextStore

ONE_LEVEL = "paragraph"  # of all concepts that are read back: which level a text had is no input

Metadata = Mapping[str, Any]


def read_plan(metadata: Metadata, texts: TextStore) -> DocumentPlan:
    """Return the plan of a document. Its doc_id is that of the document, unless metadata.json was altered.

    Raises TextMissing for a template that is not kept; KeyError, TypeError, ValueError for inputs that cannot be ones.
    """
    inputs, stage = metadata["inputs"], Stage(metadata["stage"])
    return DocumentPlan(
        stage,
        str(metadata["task_id"]),
        int(inputs["replicate"]),
        Mode(inputs["mode"]),
        None if inputs.get("source_doc_id") else _read_template(stage, metadata, texts),
        _read_model(metadata) if "model" in inputs else None,
        _read_combo(metadata) if "concepts" in inputs else None,
        str(inputs.get("source_doc_id", "")),
        _read_parent(inputs),
    )


def _read_template(stage: Stage, metadata: Metadata, texts: TextStore) -> Template:
    inputs, template_id = metadata["inputs"], str(metadata["template_id"])
    parser, scale = inputs["parser"], inputs["parser"]["scale"]
    found: dict[str, str] = {}
    if "template" in inputs:
        names = {f"{template_id}.txt": inputs["template"]["text_blake3"], **inputs["template"]["includes"]}
        found = {name: texts.read(digest) for name, digest in names.items()}
    return Template(
        stage,
        template_id,
        Mode(inputs["mode"]),
        str(parser["name"]),
        int(parser["min_lines"]),
        None if scale is None else Scale(*map(float, scale)),
        inputs.get("response_schema"),
        found,
        label=template_id,
        description="",
    )


def _read_model(metadata: Metadata) -> Model:
    model = metadata["inputs"]["model"]
    return Model(
        str(metadata["model_id"]),
        model["model"],
        model["endpoint"],
        model["params"],
        Transport(),
        Limits(),
        label="",
        description="",
        input_usd_per_million_tokens=None,
        output_usd_per_million_tokens=None,
    )


def _read_combo(metadata: Metadata) -> Combo:
    concepts = tuple(
        Concept(str(concept["concept_id"]), concept["name"], {ONE_LEVEL: concept["text"]})
        for concept in metadata["concepts"]
    )
    return Combo(concepts, ONE_LEVEL)


def _read_parent(inputs: Metadata) -> DocumentPlan | None:
    if "parents" not in inputs:
        return None
    (parent,) = inputs["parents"]
    return GivenPlan.of(Stage(parent["stage"]), parent["doc_id"], "", metadata={})


def find_other_version(metadata: Metadata) -> str | None:
    """Return which version of this code the document was made by, if it was another: "parser essay_block 1, now 2".

    The code of that version is not here, so its document cannot be made again and compared.
    """
    if "backfill" in metadata:
        return "the program of an old store"
    stage, parser = Stage(metadata["stage"]), metadata["parser"]
    if stage is Stage.REPORT:
        pairs: list[tuple[str, Any, Any]] = [("report", parser["version"], REPORT_VERSION)]
    else:
        inputs = metadata["inputs"]
        known = PARSERS.get(parser["name"])
        pairs = [
            (f"stage {stage}", inputs["stage_version"], STAGE_RULES[stage].version),
            (f"parser {parser['name']}", parser["version"], known.version if known else "none"),
        ]
        if "template" in inputs:
            pairs.append(("rendering", inputs["template"]["rendering_version"], RENDERING_VERSION))
    found = [f"{what} {recorded}, now {present}" for what, recorded, present in pairs if recorded != present]
    return ", ".join(found) or None
