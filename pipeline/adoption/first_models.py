"""The models that an adopted workspace gets beside its own: they run here, so that a first cohort needs no key."""

from __future__ import annotations

from pipeline.adoption.toml_writer import TomlSettings
from pipeline.adoption.workspace import Workspace

WRITER, JUDGE = "smollm2", "smollm2-judge"
EMBEDDED_MODEL = "local/smollm2-135m-instruct"  # runs on the processor, without a key
CONTEXT_TOKENS = 8192  # the same for both, so that the weights are loaded once
WRITER_SETTINGS: TomlSettings = {
    "model": EMBEDDED_MODEL,
    "max_tokens": 1024,
    "temperature": 0.7,
    "repeat_penalty": 1.1,
    "seed": 1,
    "context_tokens": CONTEXT_TOKENS,
    "label": "SmolLM2 135M Instruct (local)",
    "description": "small enough for any processor; needs no key",
}
JUDGE_SETTINGS: TomlSettings = {
    "model": EMBEDDED_MODEL,
    "max_tokens": 160,  # a sentence and a score
    "temperature": 0.7,
    "seed": 1,
    "context_tokens": CONTEXT_TOKENS,
    "label": "SmolLM2 135M Instruct as a judge (local)",
    "description": "for templates that ask for a short answer in JSON; needs no key",
}


def find_writer_id(workspace: Workspace) -> str:
    return _find_free_id(WRITER, workspace)


def find_judge_id(workspace: Workspace) -> str:
    return _find_free_id(JUDGE, workspace)


def _find_free_id(model_id: str, workspace: Workspace) -> str:
    """Return a model id that the workspace does not use itself: "smollm2", or else "smollm2-local"."""
    taken = {model.model_id for model in workspace.models}
    while model_id in taken:
        model_id += "-local"
    return model_id
