"""The fixed sections of a model card: what is true of every model of this package."""

from __future__ import annotations

NOT_A_DEVICE = """
**Not a medical device.** For research only. The model estimates what LIDC readers would say about
a nodule (`label_basis: "reader_rating"`); this is not a risk of cancer proven by pathology. Models
trained on LIDC ratings are known to lose much of their accuracy when compared with pathology.
"""

WHAT_IT_IS = """
For a point of a chest CT, a network (its sizes are in `config.json`) estimates class (benign /
malignant, or indeterminate), malignancy score 1-5, size, texture and the other LIDC
characteristics, and the nodule's mask. The architecture is our reading of the abstract of Lin et
al., *A Residual Multi-task Network for Joint Classification and Regression in Medical Imaging*,
arXiv 2502.19692 (2025): a residual trunk shared by all tasks, a classification and a regression
branch, residual links between them, a joint loss. Depth, widths, input and losses are ours. Axial
slices around the point are encoded one by one and fused late; a light decoder draws the mask slice
by slice.
"""

INTENDED_USE = """
Research and education: a second opinion on nodules that a reader points at, in 3D Slicer, OHIF or
Python. Not for diagnosis, not for screening, not for patients whose CT is unlike the training data
(contrast-filled vessels at the hilum, consolidation, post-operative lungs, children). Candidates of
the whole-CT search are unconfirmed, and an empty list is not a negative read.
"""

CITATION = """
LIDC-IDRI: Armato et al., *The Lung Image Database Consortium (LIDC) and Image Database Resource
Initiative (IDRI)*, Med Phys 38 (2011); data doi 10.7937/K9/TCIA.2015.LO9QL9SX, CC BY 3.0. This
attribution also applies to the weights. The manifest records of this model:
""".strip()

PROTOCOL = """
Splits are by patient. Protocol P, for the figures of the class: nodules with at least three readers
whose median malignancy is not 3; above 3 is malignant. The other nodules are reported separately.
Size bands are by the readers' equivalent diameter: that of the sphere of the mean volume inside
their contours. The greatest in-plane extent is about a quarter larger; the two are never mixed. The
training nodules are stacks of slices that end where the contours end; the lung beyond is
synthesised.
""".strip()

TARGETS = """
The targets of training are: the readers' distribution of malignancy; for the class, whether its
median is below or above 3; the mean over readers of volume and of in-plane extent; each further
rating as a distribution (nominal ones as such). Ratings outside their own scale are left out. Masks
are the mean over readers of the area inside their contours.

Calibration uses patients who were kept out of training. The class is scaled to a probability; it is
named only above the threshold in `calibration.json`, and is indeterminate otherwise. The 90%
intervals of score and sizes are conformal. An input counts as out of distribution if it is farther
from the training data than 99% of these nodules.
"""

LIMITS = (
    "The truth is the opinion of up to four anonymous readers, not pathology or follow-up.",
    "Sub-solid nodules are few (about one in six, fewer in protocol P): see the document's tables "
    "by texture.",
    "Long and short axes are those of the mask's voxels, without any correction; LIDC's readers "
    "drew by hand.",
    "Slices of more than 1.5 mm are coarse, of more than 3 mm unreliable; warnings say so.",
    "A mass that does not fit the patch is measured in part or not at all; a warning says so.",
)
"""What no figure shows."""

FURTHER_CALIBRATION = (
    "The calibration also uses {nodules} out-of-fold predictions of a cross-validation, for "
    "{patients} patients outside the reference set. The networks that made these predictions may "
    "have trained on patients of the reference set; only constants come from them."
)
"""A fact about a model whose manifest has such predictions."""

REVISED = (
    "This is a revision of version {version} (sha256 {sha256:.12}), whose weights it has. {note}"
)
"""How a model was made whose manifest says that it was revised."""

HOW_MADE = """
`resmtnet prepare stacks`, then `resmtnet train --data STACKS --config model/config.json{further}
--model-version {version}`; `docs/experiments/version-*.md` has the commands of shipped versions
with all options and configurations, such as negatives, and networks that were trained before.
This card is written by `resmtnet evaluate ... --card FILE` from the manifest and the documents
named above.
`manifest.json` holds the sha256 of every file, and `resmtnet model verify` compares them.
"""
