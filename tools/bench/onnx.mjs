// ONNX files, written by hand: a protobuf writer of four field types, and the graphs of the benchmark.
//
// Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).

// ---- Protobuf ----------------------------------------------------------------------------------

const FLOAT = 1; // TensorProto.DataType
const INT64 = 7;

function varint(n) {
  const bytes = [];
  for (; n > 127; n = Math.floor(n / 128)) bytes.push((n % 128) | 128);
  return [...bytes, n];
}

const number = (field, n) => Uint8Array.from([...varint(field * 8), ...varint(n)]);
/** A text, bytes, or a message: a list of fields. */
function block(field, content) {
  const parts =
    typeof content === 'string'
      ? [new TextEncoder().encode(content)]
      : content instanceof Uint8Array
        ? [content]
        : content.flat(Infinity);
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  return [Uint8Array.from([...varint(field * 8 + 2), ...varint(size)]), ...parts];
}

function join(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let end = 0;
  for (const part of parts) {
    bytes.set(part, end);
    end += part.length;
  }
  return bytes;
}

function tensor(name, shape, data) {
  const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const type = data instanceof Float32Array ? FLOAT : INT64;
  return [shape.map((n) => number(1, n)), number(2, type), block(8, name), block(9, raw)];
}

function valueInfo(name, shape) {
  const dimensions = shape.map((n) => block(1, [number(1, n)]));
  return [block(1, name), block(2, [block(1, [number(1, FLOAT), block(2, dimensions)])])];
}

function attribute(name, value) {
  const [field, type] = typeof value === 'string' ? [4, 3] : [3, 2];
  const content = type === 3 ? block(field, value) : number(field, value);
  return [block(1, name), content, number(20, type)];
}

// ---- Graphs ------------------------------------------------------------------------------------

class Graph {
  #nodes = [];
  #tensors = [];
  #count = 0;

  constant(shape, data) {
    const name = `c${this.#count++}`;
    this.#tensors.push(block(5, tensor(name, shape, data)));
    return name;
  }

  /** Adds an operation; returns the name of its result, or of all where there are several. */
  op(type, inputs, attributes = {}, outputs = 1) {
    const names = Array.from({ length: outputs }, () => `t${this.#count++}`);
    this.#nodes.push(
      block(1, [
        inputs.map((name) => block(1, name)),
        names.map((name) => block(2, name)),
        block(4, type),
        Object.entries(attributes).map(([name, value]) => block(5, attribute(name, value))),
      ]),
    );
    return outputs === 1 ? names[0] : names;
  }

  /** The file. inputs: name to shape; outputs: name to [tensor, shape]. */
  file(inputs, outputs) {
    for (const [name, [from]] of Object.entries(outputs)) {
      this.#nodes.push(block(1, [block(1, from), block(2, name), block(4, 'Identity')]));
    }
    const graph = [
      this.#nodes,
      block(2, 'benchmark'),
      this.#tensors,
      Object.entries(inputs).map(([name, shape]) => block(11, valueInfo(name, shape))),
      Object.entries(outputs).map(([name, [, shape]]) => block(12, valueInfo(name, shape))),
    ];
    const opset = [block(1, ''), number(2, 20)];
    return join([number(1, 9), block(7, graph), block(8, opset)].flat(Infinity));
  }
}

/** y = a b + bias */
export function productGraph(m, k, n, b, bias) {
  const g = new Graph();
  const y = g.op('Gemm', ['a', g.constant([k, n], b), g.constant([n], bias)]);
  return g.file({ a: [m, k] }, { y: [y, [m, n]] });
}

/** Nothing but a copy of (1, n): what a call of the runtime costs by itself. */
export function emptyGraph(n) {
  return new Graph().file({ a: [1, n] }, { y: ['a', [1, n]] });
}

/**
 * Ways to write the same network. ONNX has GELU as one operation or (before opset 20, and fused by
 * the runtime) as five around Erf, and the GRU cell as one operation or as its formula.
 */
export const forms = [
  { name: 'Gelu, GRU', gelu: 'op', gru: 'op' },
  { name: 'Gelu, GRU by formula', gelu: 'op', gru: 'formula' },
  { name: 'Erf, GRU', gelu: 'erf', gru: 'op' },
  { name: 'Erf, GRU by formula', gelu: 'erf', gru: 'formula' },
];

/** One step of a network for `batch` sequences: x, z, time to out, z_next. */
export function stepGraph(net, weights, batch, form) {
  const g = new Graph();
  const weight = (name) => {
    const { shape, data } = weights[name];
    return g.constant(shape, data);
  };
  const number = (value) => g.constant([], Float32Array.of(value));
  const linear = (x, name, suffix = '') =>
    g.op('Gemm', [x, weight(`${name}.weight${suffix}`), weight(`${name}.bias${suffix}`)], {
      transB: 1,
    });
  const gelu = (x) => {
    if (form.gelu === 'op') return g.op('Gelu', [x]);
    const erf = g.op('Erf', [g.op('Div', [x, number(Math.SQRT2)])]);
    return g.op('Mul', [g.op('Mul', [x, g.op('Add', [erf, number(1)])]), number(0.5)]);
  };
  const layer = (x, { kind, name, from, to }) => {
    if (kind === 'linear') return linear(x, name);
    const inner = linear(gelu(linear(x, `${name}.mlp.0`)), `${name}.mlp.2`);
    return gelu(g.op('Add', [from === to ? x : linear(x, `${name}.shortcut`), inner]));
  };
  const gru = form.gru === 'op' ? gruOperation : gruFormula;

  let v = g.op('Concat', ['z', 'x', 'time'], { axis: 1 });
  for (const each of net.before) v = layer(v, each);
  v = gru(g, net, weights, v, linear);
  for (const each of net.after) v = layer(v, each);
  return g.file(
    { x: [batch, net.x], z: [batch, net.z], time: [batch, net.time] },
    { out: [linear(v, net.head), [batch, net.x]], z_next: [v, [batch, net.z]] },
  );
}

function gruFormula(g, net, weights, v, linear) {
  const thirds = () => g.constant([3], BigInt64Array.of(...Array(3).fill(BigInt(net.z))));
  const split = (x) => g.op('Split', [x, thirds()], { axis: 1 }, 3);
  const [ir, iu, ic] = split(linear(v, net.gru, '_ih'));
  const [hr, hu, hc] = split(linear('z', net.gru, '_hh'));
  const reset = g.op('Sigmoid', [g.op('Add', [ir, hr])]);
  const update = g.op('Sigmoid', [g.op('Add', [iu, hu])]);
  const next = g.op('Tanh', [g.op('Add', [ic, g.op('Mul', [reset, hc])])]);
  // (1 - update) next + update z
  return g.op('Add', [next, g.op('Mul', [update, g.op('Sub', ['z', next])])]);
}

/** ONNX has the gates as update, reset, new; the weights have them as reset, update, new. */
function gruOperation(g, net, weights, v) {
  const Z = net.z;
  const swap = ({ data }) => {
    const third = data.length / 3;
    const swapped = new Float32Array(data);
    swapped.set(data.subarray(third, 2 * third), 0);
    swapped.set(data.subarray(0, third), third);
    return swapped;
  };
  const take = (kind) => swap(weights[`${net.gru}.${kind}`]);
  const bias = new Float32Array(6 * Z);
  bias.set(take('bias_ih'), 0);
  bias.set(take('bias_hh'), 3 * Z);
  const axis = g.constant([1], BigInt64Array.of(0n));
  const [, state] = g.op(
    'GRU',
    [
      g.op('Unsqueeze', [v, axis]),
      g.constant([1, 3 * Z, Z], take('weight_ih')),
      g.constant([1, 3 * Z, Z], take('weight_hh')),
      g.constant([1, 6 * Z], bias),
      '', // all sequences have the same length
      g.op('Unsqueeze', ['z', axis]),
    ],
    { hidden_size: Z, linear_before_reset: 1 },
    2,
  );
  return g.op('Squeeze', [state, axis]);
}
