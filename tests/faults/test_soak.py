"""A minute of what `make soak` does for half an hour."""

from __future__ import annotations

import pytest

from tests.faults.soak import soak

SECONDS = 60


@pytest.mark.slow
@pytest.mark.xdist_group("soak")
def test_builds_scheduler_and_verification_killed_at_random_lose_and_repeat_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIAL_KEY", "key-of-the-trial")

    summary = soak(tmp_path, seconds=SECONDS, seed=7)

    assert summary.broken == []
    assert sum(summary.kills.values()) > 10
    assert summary.documents > 0
