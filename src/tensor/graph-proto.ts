/**
 * The few messages of TensorFlow's protobufs that a graph without functions needs (tensorflow/core/framework
 * graph.proto, node_def.proto, attr_value.proto; protobuf/saved_model.proto), written by hand: tfjs's own classes
 * cannot write a GraphDef with attributes in less code.
 */
function varint(value: number): number[] {
  const bytes: number[] = []
  // a negative number is written as 64 bits of two's complement
  if (value < 0)
    for (let i = 0; i < 9; i++, value = Math.floor(value / 128)) bytes.push((value & 127) | 128)
  else for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128)
  return [...bytes, value < 0 ? 1 : value]
}
const number = (field: number, value: number): Buffer =>
  Buffer.from([...varint(field << 3), ...varint(value)])
const bytes = (field: number, content: Uint8Array | string): Buffer => {
  const data = typeof content === 'string' ? Buffer.from(content) : content
  return Buffer.concat([Buffer.from([...varint((field << 3) | 2), ...varint(data.length)]), data])
}
const message = (...fields: Buffer[]): Buffer => Buffer.concat(fields)

const shapeOf = (shape: readonly number[]): Buffer =>
  message(...shape.map((size) => bytes(2, number(1, size))))

/** Encoded AttrValues. A size of −1 in a shape is one that the graph leaves open. */
export const value = {
  text: (text: string): Buffer => bytes(2, text),
  int: (n: number): Buffer => number(3, n),
  bool: (b: boolean): Buffer => number(5, b ? 1 : 0),
  floats: (list: readonly number[]): Buffer =>
    bytes(1, bytes(4, new Uint8Array(Float32Array.from(list).buffer))),
  type: (dtype: number): Buffer => number(6, dtype),
  shape: (shape: readonly number[]): Buffer => bytes(7, shapeOf(shape)),
  tensor: (dtype: number, shape: readonly number[], content: Uint8Array): Buffer =>
    bytes(8, message(number(1, dtype), bytes(2, shapeOf(shape)), bytes(4, content))),
}

export function node(
  name: string,
  op: string,
  inputs: readonly string[],
  attributes: Readonly<Record<string, Buffer>>,
): Buffer {
  return message(
    bytes(1, name),
    bytes(2, op),
    ...inputs.map((input) => bytes(3, input)),
    ...Object.entries(attributes).map(([key, encoded]) =>
      bytes(5, message(bytes(1, key), bytes(2, encoded))),
    ),
  )
}

/** GraphDef's version since which AttrValues and ops are as TensorFlow 2.21 writes them. */
const PRODUCER = 1882

/** A SavedModel with one graph under the given tag, without signatures and without saved variables. */
export function savedModel(nodes: readonly Buffer[], tag: string): Buffer {
  const graph = message(...nodes.map((n) => bytes(1, n)), bytes(4, number(1, PRODUCER)))
  return message(number(1, 1), bytes(2, message(bytes(1, bytes(4, tag)), bytes(2, graph))))
}

/** A ConfigProto for the session: threads within an op, and TensorFlow's graph rewriting (grappler) off. */
export function sessionConfig(threads: number): Buffer {
  const rewriting = number(19, 1) // RewriterConfig.disable_meta_optimizer
  return message(number(2, threads), bytes(10, bytes(10, rewriting)))
}
