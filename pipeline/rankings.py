"""Scores become rankings and heatmaps. Pure arithmetic: knows nothing of files, pages or models.

- A judge is an evaluation template with an evaluation model. In a document's mean each judge counts once,
  however many replicates it gave.
- Scores on different scales are never averaged together: there is one ranking for each stage and scale.
- Equal means share a rank. Order is by mean, then by first appearance, so equal input gives equal output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from pipeline.stages import Stage

HIGHEST_SHADE = 10
MEAN_DIGITS = 9  # means are compared after rounding: equal scores in another order differ in the last bits


class Maker(NamedTuple):
    """What made a document: a template and a model. A judge is the maker of an evaluation."""

    template_id: str
    model_id: str


class Scale(NamedTuple):
    """The lowest and highest score that a judge could give."""

    low: float
    high: float


class Score(NamedTuple):
    """One number from one evaluation of the document `doc_id`."""

    stage: str  # of the evaluated document
    doc_id: str
    judge: Maker
    scale: Scale
    value: float


class JudgeMean(NamedTuple):
    """What one judge thinks of one document: its mean over replicates."""

    mean: float
    replicates: int
    deviation: float | None  # sample standard deviation; None for a single replicate
    shade: int


@dataclass(frozen=True)
class RankedDocument:
    """A document's place in a ranking. `judge_means` has an entry for each of its judges, None for a silent one."""

    rank: int
    doc_id: str
    mean: float
    shade: int
    judge_means: tuple[JudgeMean | None, ...]

    @property
    def judge_count(self) -> int:
        """How many judges scored it."""
        return sum(judge_mean is not None for judge_mean in self.judge_means)

    @property
    def evaluation_count(self) -> int:
        """How many scores went into its mean."""
        return sum(judge_mean.replicates for judge_mean in self.judge_means if judge_mean)


@dataclass(frozen=True)
class JudgeSummary:
    """All that one judge gave on one scale."""

    judge: Maker
    evaluations: int
    mean: float
    lowest: float
    highest: float
    shade: int


@dataclass(frozen=True)
class Ranking:
    """The scored documents of one stage on one scale, best first."""

    stage: str
    scale: Scale
    judges: tuple[JudgeSummary, ...]
    documents: tuple[RankedDocument, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every judge scored every document, so that the means can be compared fairly."""
        return all(document.judge_count == len(self.judges) for document in self.documents)


class HeatCell(NamedTuple):
    """The mean over the documents that one template and one model made."""

    mean: float
    documents: int
    shade: int


@dataclass(frozen=True)
class Heatmap:
    """Templates down, models across; None where no document of the two was scored."""

    models: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell | None, ...]], ...]

    @property
    def cell_count(self) -> int:
        """How many cells hold a number."""
        return sum(cell is not None for _, cells in self.rows for cell in cells)


def rank_documents(scores: Iterable[Score]) -> list[Ranking]:
    """Return one ranking for each stage and scale: essays first, then by number of scores, then by first appearance."""
    scores_by_group: dict[tuple[str, Scale], list[Score]] = {}
    for score in scores:
        scores_by_group.setdefault((score.stage, score.scale), []).append(score)
    groups = sorted(scores_by_group.items(), key=lambda group: (group[0][0] != Stage.ESSAY, -len(group[1])))
    return [_rank_group(stage, scale, group) for (stage, scale), group in groups]


def find_shade(value: float, scale: Scale) -> int:
    """Return where a value lies on its scale, from 0 (low) to HIGHEST_SHADE (high).

    >>> find_shade(7.5, Scale(0, 10)), find_shade(3, Scale(1, 5)), find_shade(99, Scale(1, 5))
    (8, 5, 10)
    """
    width = scale.high - scale.low
    share = (value - scale.low) / width if width > 0 else 1.0
    return min(HIGHEST_SHADE, max(0, int(share * HIGHEST_SHADE + 0.5)))


def draw_heatmap(means: Sequence[tuple[Maker, float]], scale: Scale) -> Heatmap:
    """Return the mean for each template and model; each (maker, mean) is one document and counts once."""
    values_by_maker: dict[Maker, list[float]] = {}
    for maker, mean in means:
        values_by_maker.setdefault(maker, []).append(mean)
    templates = list(dict.fromkeys(maker.template_id for maker in values_by_maker))
    models = tuple(dict.fromkeys(maker.model_id for maker in values_by_maker))
    rows = (
        (template, tuple(_fill_cell(values_by_maker.get(Maker(template, model)), scale) for model in models))
        for template in templates
    )
    return Heatmap(models, tuple(rows))


def _rank_group(stage: str, scale: Scale, scores: Sequence[Score]) -> Ranking:
    values_by_judge: dict[Maker, list[float]] = {}
    values_by_document: dict[str, dict[Maker, list[float]]] = {}
    for score in scores:
        values_by_judge.setdefault(score.judge, []).append(score.value)
        values_by_document.setdefault(score.doc_id, {}).setdefault(score.judge, []).append(score.value)
    judges = tuple(_summarize_judge(judge, values, scale) for judge, values in values_by_judge.items())
    judge_means_by_doc_id = {
        doc_id: tuple(_average_replicates(values.get(judge), scale) for judge in values_by_judge)
        for doc_id, values in values_by_document.items()
    }
    return Ranking(stage, scale, judges, tuple(_assign_ranks(judge_means_by_doc_id, scale)))


def _assign_ranks(
    judge_means_by_doc_id: dict[str, tuple[JudgeMean | None, ...]], scale: Scale
) -> Iterable[RankedDocument]:
    """Yield the documents best first. Equal means share the better rank: 1, 2, 2, 4."""
    means = {
        doc_id: round(fmean(judge_mean.mean for judge_mean in judge_means if judge_mean), MEAN_DIGITS)
        for doc_id, judge_means in judge_means_by_doc_id.items()
    }
    rank, previous = 0, None
    for place, doc_id in enumerate(sorted(means, key=lambda doc_id: -means[doc_id]), start=1):
        if means[doc_id] != previous:
            rank, previous = place, means[doc_id]
        shade = find_shade(means[doc_id], scale)
        yield RankedDocument(rank, doc_id, means[doc_id], shade, judge_means_by_doc_id[doc_id])


def _average_replicates(values: Sequence[float] | None, scale: Scale) -> JudgeMean | None:
    if not values:
        return None
    mean = fmean(values)
    return JudgeMean(mean, len(values), stdev(values) if len(values) > 1 else None, find_shade(mean, scale))


def _summarize_judge(judge: Maker, values: Sequence[float], scale: Scale) -> JudgeSummary:
    mean = fmean(values)
    return JudgeSummary(judge, len(values), mean, min(values), max(values), find_shade(mean, scale))


def _fill_cell(values: Sequence[float] | None, scale: Scale) -> HeatCell | None:
    if not values:
        return None
    return HeatCell(fmean(values), len(values), find_shade(fmean(values), scale))
