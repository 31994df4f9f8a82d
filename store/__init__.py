"""Documents and calls on disk.

What the store promises, each held by a test:

- A document is there whole or not at all, also after a crash or a power cut.
- What was committed never changes: no file is opened for writing again.
- Every byte that a model sent is kept before anything looks at it.
- A document that is present but damaged raises; it is never taken for one that is not there yet.

It knows nothing of Luigi, templates, models or what the stages mean.
"""
