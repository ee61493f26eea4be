"""How often a hub worker looks for garbage: seldom, and not among what stays for good anyway."""

import gc

# Reference counting frees nearly everything at once; what it leaves are cycles, a few a request.
_ALLOCATIONS_BETWEEN_LOOKS = 20_000
_LOOKS_PER_OLDER = 20


def spare_what_stays() -> None:
    """Leave out all that was built until now, and look through the rest less often.

    A full collection over the application's half a million objects stops every stream for a tenth
    of a second, and Python's own thresholds bring one on every few seconds of streaming.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_LOOKS, _LOOKS_PER_OLDER, _LOOKS_PER_OLDER)
