"""What a source is told of itself: said once by a process, which may read it more than once.

tell("captions.csv is read, captions.tsv beside it is not")
"""

import sys
from functools import cache


@cache
def tell(note: str) -> None:
    """Say a note on standard error."""
    print(f"note: {note}", file=sys.stderr, flush=True)
