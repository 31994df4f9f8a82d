"""How the old program named combinations and documents. New documents are never named like this.

    combo_v1_ + 12 hex     SHA-256 of the sorted concept ids, the level and their number
    d_ e_ v_ + base36      BLAKE2b, 10 bytes, of the names that a document was made with

It hashes names and not contents, so it cannot tell an edited template from the old one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from pipeline.backfill.sources import OldDocument
from pipeline.stages import Stage
from store.identity import BASE36

PREFIXES: dict[str, str] = {Stage.DRAFT: "d_", Stage.ESSAY: "e_", Stage.EVALUATION: "v_"}
DIGEST_BYTES = 10
_COLLISION = re.compile(r"[^-]+-(\d+)")


def old_combo_id(concept_ids: Iterable[str], level: str, size: int) -> str:
    """(["a", "b"], "paragraph", 2) -> "combo_v1_…"; the order of the concepts does not matter."""
    signature = "|".join([*sorted(concept_ids), level, str(size)])
    return f"combo_v1_{hashlib.sha256(signature.encode()).hexdigest()[:12]}"


def old_id_of(stage: str, names: Sequence[str | int], *, collision: int = 0) -> str:
    """Return the old id of a document that was made with these names; `collision` counts earlier ones with that id."""
    parts = [str(name) if isinstance(name, int) else name.strip().lower() for name in names]
    if collision:
        parts.append(f"collision:{collision}")
    number = int.from_bytes(hashlib.blake2b("|".join(parts).encode(), digest_size=DIGEST_BYTES).digest(), "big")
    return f"{PREFIXES[stage]}{_write_base36(number)}" + (f"-{collision}" if collision else "")


def recompute_old_id(document: OldDocument) -> str | None:
    """Return the old id that a document's own names give; None if one of them is not known."""
    names: dict[str, Sequence[str]] = {
        Stage.DRAFT: (document.combo_id, document.template_id, document.model_id),
        Stage.ESSAY: (document.old_parent_id, document.template_id),  # the model was left out
        Stage.EVALUATION: (document.old_parent_id, document.template_id, document.model_id),
    }
    if not all(names[document.stage]):
        return None
    match = _COLLISION.fullmatch(document.old_id)
    return old_id_of(
        document.stage, (*names[document.stage], document.replicate), collision=int(match[1]) if match else 0
    )


def _write_base36(number: int) -> str:
    characters = []
    while number:
        number, remainder = divmod(number, len(BASE36))
        characters.append(BASE36[remainder])
    return "".join(reversed(characters)) or BASE36[0]
