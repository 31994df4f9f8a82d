"""chain3 in redun."""

import os

from chain_step import STEPS, make_file
from redun import File, task

redun_namespace = "chain3"


@task()
def make_step(source: File, target: str) -> File:
    make_file(source.path, target)
    return File(target)


@task()
def main() -> list[File]:
    results = []
    for item in sorted(os.listdir("input")):
        file = File(f"input/{item}")
        for step in STEPS:
            file = make_step(file, f"out/{step}/{item}")
        results.append(file)
    return results
