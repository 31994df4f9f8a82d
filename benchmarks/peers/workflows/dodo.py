"""chain3 in doit."""

import os

from chain_step import list_steps, make_file


def task_chain():
    for item in sorted(os.listdir("input")):
        for source, target in list_steps(item):
            yield {
                "name": target,
                "actions": [(make_file, [source, target])],
                "file_dep": [source],
                "targets": [target],
            }
