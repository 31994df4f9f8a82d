"""Adopt an existing workspace: turn its 1_raw/ folder into a config/ folder, and say what did not fit.

In this order: read everything and list every mistake at once; decide every file in memory; refuse if one of them
is already there with other content; only then write. The workspace itself is never changed. Ids decide and are
taken as they are: names are for people, and `-` and `_` are different characters.

    adopt_workspace       adopt
    ├─ read_workspace      reading → workspace
    ├─ plan_first_cohort   first_cohort → twins, first_models
    ├─ decide_files        config_files → toml_writer
    ├─ write               only what is not there yet
    └─ report              counts, notes

Knows nothing of the store, of Luigi or of how config/ is read.
"""

from __future__ import annotations

from pipeline.adoption.adopt import Adoption, adopt_workspace

__all__ = ["Adoption", "adopt_workspace"]
