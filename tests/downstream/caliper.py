"""A JSON schema of the Caliper envelopes that mobile events become.

No package with Caliper's schemas was to be had from the registry. This one was written from the
model of Caliper 1.2 that 1EdTech publishes (https://github.com/1EdTech/caliper-spec,
model/caliper_v1p2.lines) and covers the events for media and navigation, with the entities that
belong to them. A property that the model does not name has its place in `extensions`.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

CONTEXT = "http://purl.imsglobal.org/ctx/caliper/v1p2"

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_STRING = {"type": "string"}
_MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
_DURATION = {
    "type": "string",
    "pattern": r"^P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$",
}
# An IRI, or a blank node: an entity that has no id of its own.
_IRI = {"type": "string", "pattern": r"^(_:|https?://[^/\s]+/?)[^\s<>\"{}|\\^`]*$"}

_ENTITY = {
    "name": _STRING,
    "description": _STRING,
    "dateCreated": _MOMENT,
    "dateModified": _MOMENT,
    "otherIdentifiers": {"type": "array"},
    "extensions": {"type": "object"},
}
_RESOURCE = {
    "storageName": _STRING,
    "mediaType": _STRING,
    "version": _STRING,
    "creators": {"type": "array"},
    "keywords": {"type": "array", "items": _STRING},
    "learningObjectives": {"type": "array"},
    "isPartOf": {"type": ["object", "string"]},
    "datePublished": _MOMENT,
}

_MEDIA_ACTIONS = [
    *("Started", "Ended", "Paused", "Resumed", "Restarted", "ForwardedTo", "JumpedTo"),
    *("ChangedResolution", "ChangedSize", "ChangedSpeed", "ChangedVolume"),
    *("EnabledClosedCaptioning", "DisabledClosedCaptioning", "EnteredFullScreen"),
    *("ExitedFullScreen", "Muted", "Unmuted", "OpenedPopout", "ClosedPopout"),
]
_RESOURCES = [
    *("DigitalResource", "DigitalResourceCollection", "Document", "Chapter", "Page", "WebPage"),
    *("Frame", "VideoObject"),
]


def _object(required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [*required],
        "properties": {**required, **optional},
        "additionalProperties": False,
    }


def _entity(terms: list[str], **properties: Any) -> dict[str, Any]:
    return _object({"id": _IRI, "type": {"enum": terms}}, {**_ENTITY, **properties})


def _event(
    term: str, actions: list[str], object_: dict[str, Any], target: dict[str, Any]
) -> dict[str, Any]:
    return _object(
        {
            "@context": {"const": CONTEXT},
            "id": {"type": "string", "pattern": f"^urn:uuid:{_UUID}$"},
            "type": {"const": term},
            "actor": _entity(["Person"]),
            "action": {"enum": actions},
            "object": object_,
            "eventTime": _MOMENT,
        },
        {
            "profile": _STRING,
            "target": target,
            "session": _entity(["Session"]),
            "extensions": {"type": "object"},
        },
    )


_SCHEMA = _object(
    {
        "sensor": _STRING,
        "sendTime": _MOMENT,
        "dataVersion": {"const": CONTEXT},
        "data": {
            "type": "array",
            "minItems": 1,
            "items": {
                "oneOf": [
                    _event(
                        "MediaEvent",
                        _MEDIA_ACTIONS,
                        _entity(["VideoObject"], **_RESOURCE, duration=_DURATION),
                        _entity(["MediaLocation"], **_RESOURCE, currentTime=_DURATION),
                    ),
                    _event(
                        "NavigationEvent",
                        ["NavigatedTo"],
                        _entity(_RESOURCES, **_RESOURCE),
                        _entity(_RESOURCES, **_RESOURCE),
                    ),
                ]
            },
        },
    },
    {},
)

_VALIDATOR = Draft202012Validator(_SCHEMA)


def find_errors(envelope: object) -> list[str]:
    """Return what is wrong with an envelope; nothing if it is valid."""
    errors: list[str] = []
    for error in _VALIDATOR.iter_errors(envelope):
        # One of several: the one that comes closest says most.
        nested = sorted(error.context or [], key=lambda one: len(one.absolute_path))
        errors.extend(one.message for one in nested[-1:] or [error])
    return errors
