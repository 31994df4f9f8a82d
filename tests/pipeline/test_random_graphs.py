"""Stock and own scheduling end in the same place: random graphs of tasks of every kind, with random failures."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from typing import Any

import luigi
import pytest
from luigi.scheduler import Scheduler
from luigi.worker import Worker

from pipeline.scheduler import ReadyScheduler
from pipeline.worker import AsyncWorker
from tests.pipeline.luigi_runs import read_statuses, run_root, summarize

worlds: dict[int, World] = {}  # tasks find their behaviour here, so that their parameters stay small
world_numbers = itertools.count()


class World:
    """A random graph: what each node needs, how it behaves, and what has been made of it."""

    def __init__(self, seed: int) -> None:
        self.number = next(world_numbers)
        worlds[self.number] = self
        draw = random.Random(seed)
        nodes = range(draw.randint(5, 60))
        self.deps = {n: draw.sample(range(n), k=min(n, draw.choice([0, 1, 1, 2, 3]))) for n in nodes}
        self.kinds: dict[int, type[Node]] = {n: draw.choice([AsyncNode, AsyncNode, Node, YieldingNode]) for n in nodes}
        self.kinds |= {n: ExternalNode for n in nodes if not self.deps[n] and draw.random() < 0.05}
        self.failing = {n for n in nodes if draw.random() < 0.12}
        self.disabled = {n for n in nodes if draw.random() < 0.04}
        self.resources = {n: draw.choice([{}, {}, {"a": 1}, {"a": 2}, {"a": 1, "b": 1}]) for n in nodes}
        self.priorities = {n: draw.choice([0, 0, 5]) for n in nodes}
        self.texts = {n: f"{n} was there" for n in nodes if draw.random() < 0.1}

    def task(self, n: int) -> Node:
        return self.kinds[n](world=self.number, n=n)


class Node(luigi.Task):
    world = luigi.IntParameter()
    n = luigi.IntParameter()

    priority = property(lambda self: worlds[self.world].priorities[self.n])
    disabled = property(lambda self: self.n in worlds[self.world].disabled)
    resources = property(lambda self: worlds[self.world].resources[self.n])

    def complete(self) -> bool:
        return self.n in worlds[self.world].texts

    def requires(self) -> list[Node]:
        return [worlds[self.world].task(n) for n in worlds[self.world].deps[self.n]]

    def run(self) -> Any:
        self.make()

    def make(self) -> None:
        world = worlds[self.world]
        if self.n in world.failing:
            raise RuntimeError(f"node {self.n} fails")
        world.texts[self.n] = f"{self.n} of ({', '.join(world.texts[n] for n in world.deps[self.n])})"


class AsyncNode(Node):
    def run(self) -> None:
        asyncio.run(self.run_async())

    async def run_async(self) -> None:
        await asyncio.sleep(0)
        self.make()


class YieldingNode(Node):
    """Finds out while it runs that it needs node 0 too."""

    def run(self) -> Any:
        if self.n:
            yield [worlds[self.world].task(0)]
        self.make()


class ExternalNode(Node):
    run = None


class AllNodes(luigi.WrapperTask):
    world = luigi.IntParameter()

    def requires(self) -> list[Node]:
        return [worlds[self.world].task(n) for n in worlds[self.world].deps]


def run_world(seed: int, scheduler_class: Any, worker_class: Any, *, places: int) -> Any:
    """Return what is left to see: the summary's categories, the final statuses, the texts; all by node."""
    world = World(seed)
    # A task that others yield is added again by each of them, so with few retries the order would decide its end.
    scheduler = scheduler_class(resources={"a": 2, "b": 1}, retry_count=10**6)
    root = AllNodes(world=world.number)
    worker = run_root(root, scheduler, worker_class, places=places, wait_interval=0.001)
    names = {world.task(n).task_id: str(n) for n in world.deps} | {root.task_id: "root"}
    by_status = defaultdict(set)
    for task_id, status in read_statuses(scheduler).items():
        by_status[status].add(names[task_id])
    categories = {name: {names[task_id] for task_id in ids} for name, ids in summarize(worker).items()}
    del worlds[world.number]
    return categories, dict(by_status), world.texts, worker.run_succeeded


@pytest.mark.parametrize("seed", range(12))
def test_a_random_graph_ends_as_in_stock_luigi(seed):
    stock = run_world(seed, Scheduler, Worker, places=1)

    assert run_world(seed, ReadyScheduler, Worker, places=1) == stock
    assert run_world(seed, Scheduler, AsyncWorker, places=8) == stock
    assert run_world(seed, ReadyScheduler, AsyncWorker, places=8) == stock


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(10))
def test_a_thousand_random_graphs_end_as_in_stock_luigi(hundred):
    for seed in range(1000 + 100 * hundred, 1100 + 100 * hundred):
        stock = run_world(seed, Scheduler, Worker, places=1)
        assert run_world(seed, ReadyScheduler, AsyncWorker, places=8) == stock, f"seed {seed}"
