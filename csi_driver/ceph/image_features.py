"""Names of image features, as parameters and answers have them, and librbd's bits."""

import rbd

FEATURES = {
    "layering": rbd.RBD_FEATURE_LAYERING,
    "exclusive-lock": rbd.RBD_FEATURE_EXCLUSIVE_LOCK,
    "object-map": rbd.RBD_FEATURE_OBJECT_MAP,
    "fast-diff": rbd.RBD_FEATURE_FAST_DIFF,
    "deep-flatten": rbd.RBD_FEATURE_DEEP_FLATTEN,
    "journaling": rbd.RBD_FEATURE_JOURNALING,
}
SHOWN = {**FEATURES, "striping": rbd.RBD_FEATURE_STRIPINGV2, "data-pool": rbd.RBD_FEATURE_DATA_POOL}
