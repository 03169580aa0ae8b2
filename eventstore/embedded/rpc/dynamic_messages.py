"""Messages of services that the client's wheel does not ship: server features and operations.

They are built at import, in a descriptor pool of their own: the default pool refuses a second file
under a name that another package has registered.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_FIELD = descriptor_pb2.FieldDescriptorProto


def _message(
    file: descriptor_pb2.FileDescriptorProto,
    name: str,
    *fields: tuple[str, int, "_FIELD.Type.ValueType", bool, str],
) -> None:
    message = file.message_type.add(name=name)
    for field, number, kind, repeated, type_name in fields:
        label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
        entry = message.field.add(name=field, number=number, type=kind, label=label)
        if type_name:
            entry.type_name = f".{file.package}.{type_name}"


def _build() -> dict[str, type[Message]]:
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(
        name="eventstore_embedded.proto", package="eventstore_embedded", syntax="proto3"
    )
    text, message, number = _FIELD.TYPE_STRING, _FIELD.TYPE_MESSAGE, _FIELD.TYPE_INT32
    _message(
        file,
        "SupportedMethod",
        ("method_name", 1, text, False, ""),
        ("service_name", 2, text, False, ""),
        ("features", 3, text, True, ""),
    )
    _message(
        file,
        "SupportedMethods",
        ("methods", 1, message, True, "SupportedMethod"),
        ("event_store_server_version", 2, text, False, ""),
    )
    _message(
        file,
        "ScavengeResp",
        ("scavenge_id", 1, text, False, ""),
        ("scavenge_result", 2, number, False, ""),
    )
    _message(file, "StopScavengeOptions", ("scavenge_id", 1, text, False, ""))
    _message(file, "StopScavengeReq", ("options", 1, message, False, "StopScavengeOptions"))
    pool.Add(file)
    names = ("SupportedMethod", "SupportedMethods", "ScavengeResp", "StopScavengeReq")
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"eventstore_embedded.{name}")
        )
        for name in names
    }


_classes = _build()
SupportedMethod = _classes["SupportedMethod"]
SupportedMethods = _classes["SupportedMethods"]
ScavengeResp = _classes["ScavengeResp"]
StopScavengeReq = _classes["StopScavengeReq"]
