"""What runs outside Python and torch: C++ that is compiled on the machine it runs on, the first time it is wanted."""

from llmbert.nn.native.build import native_library, why_not_native
from llmbert.nn.native.decoder_step import NativeDecoder

__all__ = ["NativeDecoder", "native_library", "why_not_native"]
