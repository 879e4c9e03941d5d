"""`Decoder`: a decoder-only language model described by data, a whole step in one call of the CPU library."""

from quire_kernels.decoder.description import Activation, Description, Layer, Norm, Rotation, WeightSource
from quire_kernels.decoder.native import Cache, Decoder, fingerprint, is_available, spent
from quire_kernels.decoder.reference import reference

__all__ = [
    "Activation",
    "Cache",
    "Decoder",
    "Description",
    "Layer",
    "Norm",
    "Rotation",
    "WeightSource",
    "fingerprint",
    "is_available",
    "reference",
    "spent",
]
