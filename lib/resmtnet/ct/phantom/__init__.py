"""A seeded synthetic chest CT with known nodules: the data of the demo and of the tests."""

from resmtnet.ct.phantom.build import DEFAULT_NODULES, Phantom, make_phantom
from resmtnet.ct.phantom.files import (
    FORMATS,
    StudyPaths,
    series_uid,
    truth_document,
    write_dicom_series,
    write_nifti,
    write_study_folder,
)
from resmtnet.ct.phantom.follow_up import FollowUp, make_follow_up
from resmtnet.ct.phantom.nodule import NoduleSpec, PhantomNodule

__all__ = [
    "DEFAULT_NODULES",
    "FORMATS",
    "FollowUp",
    "NoduleSpec",
    "Phantom",
    "PhantomNodule",
    "StudyPaths",
    "make_follow_up",
    "make_phantom",
    "series_uid",
    "truth_document",
    "write_dicom_series",
    "write_nifti",
    "write_study_folder",
]
