"""Graph passes: each takes an ``OpGraph`` and returns an equal one in a simpler form."""

from converter.passes.batch_norm import fold_batch_norm
from converter.passes.differential import differential
from converter.passes.encode import encode_operands
from converter.passes.gains import fold_gains
from converter.passes.max_pool import move_max_pool
from converter.passes.normalise import normalise, verify_equivalent

__all__ = [
    "differential",
    "encode_operands",
    "fold_batch_norm",
    "fold_gains",
    "move_max_pool",
    "normalise",
    "verify_equivalent",
]
