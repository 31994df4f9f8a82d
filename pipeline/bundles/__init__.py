"""Bundles: documents with all they came from in one file, to keep elsewhere or to bring into another store.

archives    the file: a manifest, and what it lists; reads nothing that the manifest does not announce
contents    what belongs into a bundle, and what its paths may be
exports     writing one
imports     checking one whole, then bringing in what is not there
sources     one as a place from which damaged files of a store can be had again
"""

from __future__ import annotations

from pipeline.bundles.exports import export_bundle
from pipeline.bundles.imports import import_bundle
from pipeline.bundles.sources import open_source

__all__ = ["export_bundle", "import_bundle", "open_source"]
