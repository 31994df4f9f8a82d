"""A pytest plugin: Luigi's own tests get this package's scheduler, worker and factory for Luigi's.

Loaded before the tests, so that their `from luigi.scheduler import Scheduler` finds the replacement too.
"""

from __future__ import annotations

import luigi.scheduler
import luigi.worker
from luigi.task_register import Register

from pipeline.scheduler import ReadyScheduler
from pipeline.scheduling import Factory, install
from pipeline.worker import AsyncWorker

luigi.scheduler.Scheduler = luigi.worker.Scheduler = ReadyScheduler
luigi.worker.Worker = AsyncWorker
install(lambda: Factory(concurrency=1, resources={}))  # one place, as Luigi has without --workers

# Some of the tests name their tasks as this package does, and a name that two tasks have cannot be asked for.
Register._reg[:] = [task for task in Register._reg if not task.__module__.startswith("pipeline.")]
