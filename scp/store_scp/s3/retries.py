"""Whether and when a failed attempt is repeated: exponential backoff with full jitter.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import math
from collections.abc import Sequence

from store_scp.s3.errors import AttemptFailed, Remedy

# SlowDown ends as soon as S3 has split a busy prefix; no pause is so long that a peer's minute of
# patience holds only a few attempts.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_DOUBLINGS = 10

# Below this an attempt gets all the time there is: half of it would be too short for a handshake.
_SHORTEST_ATTEMPT = 1.0

_REPETITIONS = {
    Remedy.GIVE_UP: 0,
    Remedy.NEW_CREDENTIALS: 1,
    # Where an answer contradicts all before it, a second must confirm it (server_time.py).
    Remedy.NEW_TIME: 2,
    Remedy.SEND_AGAIN: 2,
    Remedy.TRY_LATER: math.inf,
}


def pause_before_retry(
    failed: AttemptFailed, earlier: Sequence[Remedy], remaining: float, chance: float
) -> float | None:
    """Seconds to wait, or None if no attempt would help or fit into ``remaining`` seconds.

    ``earlier`` are the failures before this one, ``chance`` is from 0 to 1.
    """
    if earlier.count(failed.remedy) >= _REPETITIONS[failed.remedy]:
        return None
    pause = 0.0
    if failed.remedy not in (Remedy.NEW_CREDENTIALS, Remedy.NEW_TIME):
        doubled = _FIRST_PAUSE * 2.0 ** min(len(earlier), _DOUBLINGS)
        pause = max(min(doubled, _LONGEST_PAUSE) * chance, failed.retry_after)
    return pause if pause < remaining else None


def attempt_seconds(remaining: float) -> float:
    """How long one attempt may take: half of what is left, so that a stalled one is not all."""
    return max(remaining / 2, min(remaining, _SHORTEST_ATTEMPT))
