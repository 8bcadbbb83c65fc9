"""Messages of protobuf, compared."""

from __future__ import annotations

from google.protobuf.message import Message


def without_defaults(message: Message) -> bytes:
    """The bytes of a copy in which fields that hold their default are absent."""
    copy = type(message)()
    copy.CopyFrom(message)
    forget_defaults(copy)
    return copy.SerializeToString(deterministic=True)


def forget_defaults(message: Message) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                forget_defaults(inner)
        elif not field.is_repeated and repr(value) == repr(field.default_value):
            message.ClearField(field.name)
