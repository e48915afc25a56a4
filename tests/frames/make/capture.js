// Writes kafkajs.json: frames as @kafkajs/confluent-schema-registry (npm) writes them. README.md says how to run it.
const { SchemaRegistry, SchemaType } = require('@kafkajs/confluent-schema-registry')

const BEAT = `syntax = "proto3";
package beats.v1;
message Heartbeat { uint32 beat = 1; string from = 2; }
message Other { string name = 1; }
`
const JSON_SCHEMA = JSON.stringify({
  $schema: 'http://json-schema.org/draft-07/schema#', title: 'Beat', type: 'object',
  properties: { beat: { type: 'integer' } },
})
const AVRO_SCHEMA = JSON.stringify({ type: 'record', name: 'Beat', namespace: 'beats', fields: [{ name: 'beat', type: 'int' }] })

async function main() {
  const registry = new SchemaRegistry({ host: process.argv[2] })
  const frames = []
  const write = async (name, schema, subject, value, more) => {
    const { id } = await registry.register(schema, { subject })
    const bytes = await registry.encode(id, value)
    frames.push({ name, bytes: bytes.toString('hex'), ...more, value })
  }
  const protobuf = { type: SchemaType.PROTOBUF, schema: BEAT }
  const first = { message: 'beats.v1.Heartbeat', indexing: 'optional' }
  await write('no indexes, a varint first', protobuf, 'js-beat', { beat: 7 }, first)
  await write('no indexes, a string first', protobuf, 'js-beat', { from: 'a' }, first)
  await write('no indexes, no bytes', protobuf, 'js-beat', {}, first)
  await write('JSON Schema', { type: SchemaType.JSON, schema: JSON_SCHEMA }, 'js-json', { beat: 7 }, { type: 'JSON' })
  await write('Avro', { type: SchemaType.AVRO, schema: AVRO_SCHEMA }, 'js-avro', { beat: 7 }, { type: 'AVRO' })
  console.log(JSON.stringify(frames, null, 1))
}

main().catch(error => { console.error(error); process.exit(1) })
