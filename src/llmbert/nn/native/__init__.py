"""What runs outside Python and torch: C++ that is compiled on the machine it runs on, the first time it is wanted."""

from llmbert.nn.native.attention import FusedAttention
from llmbert.nn.native.build import native_library, trains_native, why_not_native
from llmbert.nn.native.cross_entropy import nats_and_slope_
from llmbert.nn.native.decoder_step import NativeDecoder
from llmbert.nn.native.elementwise import KINDS, FusedActivation, FusedGate, FusedRMSNorm
from llmbert.nn.native.likeliest import likeliest

__all__ = [
    "KINDS",
    "FusedActivation",
    "FusedAttention",
    "FusedGate",
    "FusedRMSNorm",
    "NativeDecoder",
    "likeliest",
    "nats_and_slope_",
    "native_library",
    "trains_native",
    "why_not_native",
]
