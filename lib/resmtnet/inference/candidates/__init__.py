"""Nodule candidates of a whole CT: a torch-free first stage for a classifier and a reader."""

from resmtnet.inference.candidates.blobs import Candidate
from resmtnet.inference.candidates.find import find_candidates

__all__ = ["Candidate", "find_candidates"]
