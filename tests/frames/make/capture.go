// Writes go.json: frames as Confluent's Go client writes them. README.md says how to run it.
package main

import (
	"encoding/hex"
	"encoding/json"
	"os"

	"capture/pb"
	"capture/shop"

	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde/protobuf"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type frame struct {
	Name    string          `json:"name"`
	Bytes   string          `json:"bytes"`
	Header  string          `json:"header,omitempty"`
	Message string          `json:"message"`
	Value   json.RawMessage `json:"value"`
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// One serializer, with the id before the payload or in a header.
func serializer(url string, header bool) *protobuf.Serializer {
	client := must(schemaregistry.NewClient(schemaregistry.NewConfig(url)))
	config := protobuf.NewSerializerConfig()
	one := must(protobuf.NewSerializer(client, serde.ValueSerde, config))
	if header {
		one.SchemaIDSerializer = serde.HeaderSchemaIDSerializer
	}
	return one
}

func write(one *protobuf.Serializer, name string, message proto.Message) frame {
	full := string(message.ProtoReflect().Descriptor().FullName())
	headers, data, err := one.SerializeWithHeaders("go-"+full, message)
	if err != nil {
		panic(err)
	}
	out := frame{Name: name, Bytes: hex.EncodeToString(data), Message: full, Value: must(protojson.Marshal(message))}
	for _, header := range headers {
		out.Header = hex.EncodeToString(header.Value)
	}
	return out
}

func main() {
	order := &pb.Order{
		Id:     "o-1",
		Total:  &shop.Money{Currency: "EUR", Units: 1250},
		At:     &timestamppb.Timestamp{Seconds: 1767225600, Nanos: 123000000},
		Status: pb.Status_STATUS_PAID,
		Labels: map[string]string{"channel": "web"},
		Lines:  []*pb.Order_Line{{Sku: "a", Quantity: 2}, {Sku: "b", Quantity: -1}},
	}
	prefix, header := serializer(os.Args[1], false), serializer("mock://", true)
	frames := []frame{
		write(prefix, "the first message of its file", &pb.Heartbeat{Beat: 7}),
		write(prefix, "the second, with a reference and a well-known type", order),
		write(prefix, "nested, below a map field", &pb.Order_Line{Sku: "a", Quantity: -3}),
		write(prefix, "nested twice", &pb.Order_Line_Discount{Percent: 2.5}),
		write(prefix, "nested, the last", &pb.Order_Note{Text: "hello"}),
		write(prefix, "the first message, empty", &pb.Heartbeat{}),
		write(header, "GUID in a header", &pb.Heartbeat{Beat: 7}),
		write(header, "GUID in a header, nested", &pb.Order_Note{Text: "hello"}),
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(frames); err != nil {
		panic(err)
	}
}
