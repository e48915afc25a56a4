"""Writes python.json: frames as confluent-kafka (PyPI) writes them. README.md says how to run it."""

import json
import sys

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.json_format import MessageToDict

from events.v1 import order_pb2
from shop.v1 import money_pb2

registry = SchemaRegistryClient({"url": sys.argv[1]})
frames = []


def protobuf(name, message):
    topic = "python-" + message.DESCRIPTOR.full_name.lower()
    serializer = ProtobufSerializer(type(message), registry, {"use.deprecated.format": False})
    data = serializer(message, SerializationContext(topic, MessageField.VALUE))
    frames.append(
        {
            "name": name,
            "bytes": data.hex(),
            "message": message.DESCRIPTOR.full_name,
            "value": MessageToDict(message, preserving_proto_field_name=False),
        }
    )


order = order_pb2.Order(
    id="o-1",
    total=money_pb2.Money(currency="EUR", units=1250),
    status=order_pb2.STATUS_PAID,
    labels={"channel": "web"},
    lines=[order_pb2.Order.Line(sku="a", quantity=2), order_pb2.Order.Line(sku="b", quantity=-1)],
)
order.at.FromMilliseconds(1_767_225_600_123)
protobuf("the first message of its file", order_pb2.Heartbeat(beat=7))
protobuf("the second, with a reference and a well-known type", order)
protobuf("nested, below a map field", order_pb2.Order.Line(sku="a", quantity=-3))
protobuf("nested twice", order_pb2.Order.Line.Discount(percent=2.5))
protobuf("the first message, empty", order_pb2.Heartbeat())
protobuf("the referenced file's own message", money_pb2.Money(currency="JPY", units=-1))

JSON_SCHEMA = json.dumps(
    {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Heartbeat",
        "type": "object",
        "properties": {"beat": {"type": "integer"}},
    }
)
data = JSONSerializer(JSON_SCHEMA, registry)({"beat": 7}, SerializationContext("python-json", MessageField.VALUE))
frames.append({"name": "JSON Schema", "bytes": data.hex(), "type": "JSON", "value": {"beat": 7}})

AVRO_SCHEMA = json.dumps({"type": "record", "name": "Heartbeat", "fields": [{"name": "beat", "type": "int"}]})
data = AvroSerializer(registry, AVRO_SCHEMA)({"beat": 7}, SerializationContext("python-avro", MessageField.VALUE))
frames.append({"name": "Avro", "bytes": data.hex(), "type": "AVRO", "value": {"beat": 7}})

json.dump(frames, sys.stdout, indent=1)
