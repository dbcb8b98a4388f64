// The model file, as src/io/safetensors.h describes it, read and written in a few lines.

const types = {
  F32: Float32Array,
  F64: Float64Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I8: Int8Array,
};

/**
 * The tensors of a file by name, { shape, data }, and its metadata.
 * @param {Uint8Array} bytes
 */
export function readSafetensors(bytes) {
  const size = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + size)));
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: range }] of Object.entries(entries)) {
    const data = new types[dtype](bytes.slice(8 + size + range[0], 8 + size + range[1]).buffer);
    tensors[name] = { shape, data };
  }
  return { tensors, metadata };
}

/**
 * @param {Record<string, { shape: number[], data: InstanceType<types[keyof types]> }>} tensors
 * @param {Record<string, string>} metadata
 */
export function writeSafetensors(tensors, metadata) {
  const header = { __metadata__: metadata };
  let end = 0;
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    const [dtype] = Object.entries(types).find(([, type]) => data instanceof type);
    header[name] = { dtype, shape, data_offsets: [end, (end += data.byteLength)] };
  }
  const text = JSON.stringify(header);
  const head = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 8) * 8));
  const bytes = new Uint8Array(8 + head.length + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(head.length), true);
  bytes.set(head, 8);
  for (const [name, { data }] of Object.entries(tensors)) {
    const at = 8 + head.length + header[name].data_offsets[0];
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
  }
  return bytes;
}
