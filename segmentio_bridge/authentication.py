"""Whether a request comes from the site's own Segment workspace.

The key is looked at first of all, before the body is read; the signature as soon as the body is
there, before it is parsed. Everything in a request is hostile until then. Raises
AuthenticationFailed, which tells the sender nothing, and ImproperlyConfigured for a wrong setting.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_to_bytes

from django.http import HttpRequest

from . import conf
from .exceptions import AuthenticationFailed


def authenticate(request: HttpRequest) -> None:
    """Let a request pass that carries TRACKING_SEGMENTIO_WEBHOOK_SECRET, if that is configured.

    Either as the query parameter `key`, once, as for the platform's view, or, by RFC 6750, as
    `Authorization: Bearer <secret>`. While secrets rotate, any of the list will do; an empty one
    never does. Without it a request passes only if its signature will be verified. Reads no body.

    Raises AuthenticationFailed, and ImproperlyConfigured for a wrong setting.
    """
    secrets = conf.WEBHOOK_SECRET.get()
    if secrets:
        if not _is_any_of(secrets, [*_keys(request), *_bearer_tokens(request)]):
            raise AuthenticationFailed
    elif not conf.SIGNATURE_SECRET.get():
        raise AuthenticationFailed


def verify_signature(request: HttpRequest, signable: Iterable[bytes]) -> None:
    """Let a request pass that is signed with TRACKING_SEGMENTIO_SIGNATURE_SECRET, if that is set.

    `X-Signature` is the HMAC-SHA1 of one of the `signable` byte strings with one of the secrets, in
    lower-case hexadecimal digits; `signable` is not read if no secret is set. As documented in
    https://segment.com/docs/connections/destinations/catalog/actions-webhook/.

    Raises AuthenticationFailed, and ImproperlyConfigured for a wrong setting.
    """
    secrets = conf.SIGNATURE_SECRET.get()
    if not secrets:
        return
    signature = _wire_bytes(request.META.get("HTTP_X_SIGNATURE", ""))
    signatures = [
        hmac.digest(secret, signed, "sha1").hex().encode()
        for signed in signable
        for secret in secrets
    ]
    if not _is_any_of(signatures, [signature]):
        raise AuthenticationFailed


def _is_any_of(secrets: Sequence[bytes], candidates: Iterable[bytes]) -> bool:
    # Every comparison is made, so that the time tells neither which secret matched nor whether one
    # did; compare_digest does the same for where two byte strings differ.
    matches = [
        hmac.compare_digest(candidate, secret) for candidate in candidates for secret in secrets
    ]
    return any(matches)


def _keys(request: HttpRequest) -> list[bytes]:
    # request.GET would decode with whatever charset the Content-Type names, and give up with an
    # error of its own on more than DATA_UPLOAD_MAX_NUMBER_FIELDS parameters.
    query = _wire_bytes(request.META.get("QUERY_STRING", "")).replace(b"+", b" ")
    pairs = [pair.partition(b"=") for pair in query.split(b"&")]
    keys = [
        unquote_to_bytes(value)
        for name, _, value in pairs
        if name == b"key" or unquote_to_bytes(name) == b"key"
    ]
    return keys if len(keys) == 1 else []


def _bearer_tokens(request: HttpRequest) -> list[bytes]:
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return [_wire_bytes(token.strip(" \t"))] if scheme.lower() == "bearer" else []


def _wire_bytes(text: str) -> bytes:
    # Servers hand over the bytes of the wire as Latin-1 (PEP 3333). What is no Latin-1 has been
    # decoded on the way, and UTF-8 gets its bytes back.
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
