"""What is made and how: planning, prompts, the way to the models, parsers, Luigi tasks, reports, commands.

    cli -> tasks -> (making, reports, planning) -> (prompts, gateway, parsers, stages) -> store

`luigi --module pipeline …` finds its tasks because Luigi is loaded by then. A command that schedules
nothing does not load Luigi, which takes longer than all that such a command does.
"""

import sys

if "luigi" in sys.modules:
    from pipeline import scheduling, tasks
    from pipeline.archive import tasks as _archive_tasks  # noqa: F401  importing registers the tasks

    scheduling.install(tasks.make_factory)
