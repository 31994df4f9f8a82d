"""chain3 with joblib.Memory: each step a function, its text the argument."""

import os

import chain_step
from joblib import Memory

memory = Memory("cache", verbose=0)


@memory.cache
def one(text):
    return chain_step.make_next(text)


@memory.cache
def two(text):
    return chain_step.make_next(text)


@memory.cache
def three(text):
    return chain_step.make_next(text)


for item in sorted(os.listdir("input")):
    with open(f"input/{item}", "rb") as file:
        three(two(one(file.read())))
