"""Builders that turn the files people have into rows of one schema, on disk as Arrow."""

from datasets_scripts.pickles.mmsa_pickle import MMSAPickle
from datasets_scripts.pickles.safe_pickle import UnsafePickleError, load_pickle
from datasets_scripts.prepared import PreparedFolder
from datasets_scripts.report import ConversionReport
from datasets_scripts.schema import EMOTIONS, MODALITIES, SPLITS, feature_sizes, row_features
from datasets_scripts.sources import conversion_report, load_dataset, open_source, prepare
from datasets_scripts.synthetic import SyntheticCorpus

__all__ = [
    "EMOTIONS",
    "MODALITIES",
    "SPLITS",
    "ConversionReport",
    "MMSAPickle",
    "PreparedFolder",
    "SyntheticCorpus",
    "UnsafePickleError",
    "conversion_report",
    "feature_sizes",
    "load_dataset",
    "load_pickle",
    "open_source",
    "prepare",
    "row_features",
]
