"""chain3 in Luigi as it comes."""

import os

import luigi
from chain_step import STEPS, make_next


class Input(luigi.ExternalTask):
    item = luigi.Parameter()

    def output(self):
        return luigi.LocalTarget(f"input/{self.item}", format=luigi.format.Nop)


class Step(luigi.Task):
    item = luigi.Parameter()
    number = luigi.IntParameter()

    def requires(self):
        return Step(item=self.item, number=self.number - 1) if self.number else Input(item=self.item)

    def output(self):
        return luigi.LocalTarget(f"out/{STEPS[self.number]}/{self.item}", format=luigi.format.Nop)

    def run(self):
        with self.input().open() as source:
            text = source.read()
        with self.output().open("w") as target:
            target.write(make_next(text))


class Chains(luigi.WrapperTask):
    def requires(self):
        return [Step(item=item, number=len(STEPS) - 1) for item in sorted(os.listdir("input"))]
