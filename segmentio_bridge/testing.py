"""For the tests of sites that use the app."""

from __future__ import annotations

import hmac

from .payload import find_signable


def sign(body: bytes, secret: str) -> str:
    """Return the `X-Signature` that Segment sends with `body`.

    The hexadecimal HMAC-SHA1 of the whole body of a single event, or of the first element of a
    batch, as it stands in the body.
    """
    *_, signed = find_signable(body)
    return hmac.digest(secret.encode(), signed, "sha1").hex()
