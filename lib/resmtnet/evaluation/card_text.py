"""The fixed sections of a model card: what is true of every model of this package."""

from __future__ import annotations

NOT_A_DEVICE = """
**Not a medical device.** For research. It estimates what LIDC readers would say of a nodule
(`label_basis: "reader_rating"`); it is not a risk of cancer proven by pathology. Models trained on
LIDC ratings are known to lose much of their accuracy against pathology.
"""

WHAT_IT_IS = """
A network (its sizes stand in `config.json`) answers for a point of a chest CT: class (benign /
malignant, or indeterminate), malignancy score 1-5, size, texture and the other LIDC
characteristics, and the nodule's mask. The architecture is our reading of the abstract of Lin et
al., *A Residual Multi-task Network for Joint Classification and Regression in Medical Imaging*,
arXiv 2502.19692 (2025): a residual trunk shared by all tasks, a classification and a regression
branch, residual links between them, a joint loss. Depth, widths, input and losses are ours. Axial
slices around the point are encoded one by one and fused late; a light decoder draws the mask level
by level.
"""

INTENDED_USE = """
Research and education: a second opinion on nodules that a reader points at, in 3D Slicer, OHIF or
Python. Not for diagnosis, not for screening, not for patients whose CT is unlike the training data
(contrast-filled vessels at the hilum, consolidation, post-operative lungs, children). Candidates of
the whole-CT search are unconfirmed, and an empty list is not a negative read.
"""

CITATION = """
LIDC-IDRI: Armato et al., *The Lung Image Database Consortium (LIDC) and Image Database Resource
Initiative (IDRI)*, Med Phys 38 (2011); data doi 10.7937/K9/TCIA.2015.LO9QL9SX, CC BY 3.0. The
weights carry that attribution. What the manifest records of this model:
""".strip()

PROTOCOL = """
Splits are by patient. Protocol P of the class figures: nodules with at least three readers whose
median malignancy is not 3; above 3 is malignant. The others are shown apart. Size bands are by the
readers' equivalent diameter, the sphere of the mean volume inside their contours; the greatest
in-plane extent is about a quarter larger, and the two are never mixed. The training nodules come as
stacks that end where the contours end; the lung beyond is synthesised.
""".strip()

TARGETS = """
The readers' distribution of malignancy; its median below or above 3 for the class; the mean over
readers of volume and of in-plane extent; each further rating as a distribution (nominal ones as
such). Ratings outside their own scale are left out. Masks are the mean over readers of the area
inside their contours.

On patients kept out of training: the class is scaled to a probability, and named only from the
threshold in `calibration.json`, else it is indeterminate; the 90% intervals of score and sizes are
conformal; an input counts as out of distribution beyond the distance that 99% of these nodules
keep.
"""

LIMITS = (
    "The truth is the opinion of up to four anonymous readers, not pathology or follow-up.",
    "Sub-solid nodules are few (about one in six, fewer in protocol P): see the document's tables "
    "by texture.",
    "Long and short axes are measured on the mask's voxels; LIDC's readers drew by hand.",
    "Slices of more than 1.5 mm are coarse, of more than 3 mm unreliable; both are told.",
    "A mass that does not fit the patch is measured in part or not at all, which is told.",
)
"""What no figure shows."""

FURTHER_CALIBRATION = (
    "The calibration was widened by {nodules} out-of-fold answers of a cross-validation. They are "
    "of {patients} patients outside the reference set, but the networks that gave them have "
    "trained on patients of it: the reference set never trained these weights, and reached their "
    "calibration through those networks alone."
)
"""A limit of a model whose manifest has such answers."""

HOW_MADE = """
`resmtnet prepare stacks`, then `resmtnet train --data STACKS --config model/config.json{further}
--model-version {version}`. This card is written by `resmtnet evaluate ... --card FILE` from the
manifest and the documents named above. `manifest.json` holds the sha256 of every file, and
`resmtnet model verify` compares them.
"""
