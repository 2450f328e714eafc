import { fileURLToPath } from 'node:url'
import { types } from 'node:util'
import { BaeError, describe, fromNative } from './errors.js'
import { ofType, onAbort, positiveInteger, runJob } from './job.js'
import native, { type KeptFiles, type Spool, type States, type StatesPart } from './native.js'

/** Typed arrays that hold hidden states. `Uint16Array` holds the bits of float16 or bfloat16: say which. */
export type FloatArray = Float32Array | Float64Array | Uint16Array

/** Numbers with their shape: `[rows, dIn]`, or `[dIn]` for a single row. */
export interface ShapedStates {
  readonly data: FloatArray | readonly number[]
  readonly shape: readonly number[]
  /** Needed for a `Uint16Array`; otherwise the array says it. */
  readonly dtype?: 'float32' | 'float64' | 'float16' | 'bfloat16' | undefined
}

/** A tensor of onnxruntime or transformers.js: `dims` is `[rows, dIn]` or `[dIn]`, `type` `float32`, `float16` or `float64`. */
export interface TensorStates {
  readonly data: ArrayBufferView | readonly unknown[]
  readonly dims: readonly number[]
  readonly type: string
}

/** An Apache Arrow column (`Vector`) of FixedSizeList: one list is one row. Nulls are refused. */
export interface ArrowStates {
  readonly type: { readonly listSize: number }
  readonly data: readonly ArrowChunk[]
}

/** One chunk of an {@link ArrowStates} column. */
export interface ArrowChunk {
  readonly length: number
  readonly nullCount?: number
  readonly children: readonly { readonly values: unknown; readonly nullCount?: number }[]
}

/** Rows of hidden states in memory. */
export type StatesInMemory =
  | ShapedStates
  | TensorStates
  | ArrowStates
  | FloatArray
  | readonly (readonly number[])[]
  | readonly number[]

/** Files: a path, a folder or a glob; `#name` at the end picks a tensor; a `file:` URL. */
export type StatesPath = string | URL

/**
 * Hidden states, accepted by shape and not by class:
 *
 * | input | copied? |
 * |---|---|
 * | path, folder, glob, `file:` URL, or an array of them; `#tensor` at the end of a path picks a tensor | read by the addon |
 * | `{ data, shape }`, `{ data, dims, type }` with Float32Array | once, when the call starts |
 * | the same with Uint16Array and `float16` or `bfloat16`, or with Float16Array | once, when the call starts |
 * | a typed array, with `dIn` in the options | once, when the call starts |
 * | Arrow FixedSizeList column of float32 or float16 | once, when the call starts |
 * | any of these over a SharedArrayBuffer that cannot grow | no |
 * | Float64Array (also in any of the above), `number[][]`, `number[]` | to float32, and once as above |
 * | (async) iterable of any of these, Node or web stream of objects | each item once, when it arrives |
 *
 * What is copied when the call starts may be changed, transferred or resized as soon as the call has returned its
 * promise; an item of an iterable, as soon as the next one is asked for (by a stream, which asks ahead: never). What is
 * not copied must not be changed until the call has ended.
 *
 * An iterable may hold more than fits in memory: the rows that are beyond 1 GiB wait in the system's temporary folder,
 * half floats in 16 bits, until the call has ended. One item is asked for at a time. A typed array or `number[]`
 * in it is one row without `dIn`.
 */
export type StatesInput =
  | StatesPath
  | StatesInMemory
  | Iterable<StatesPath | StatesInMemory>
  | AsyncIterable<StatesPath | StatesInMemory>

/** Options of the calls that take hidden states. */
export interface StatesOptions {
  /** Values a row of a bare typed array or `number[]`. Inputs that carry a shape do not need it. */
  dIn?: number | undefined
  /**
   * Conditions that rows must meet to be taken: `column operator value`, as `position>0`, `token!=0,2` or `norm<1000`. Columns are
   * `token`, `position`, `sequence`, `layer` and `group`, where the files bring them; `norm` is the row's Euclidean norm. `=` and `!=` take
   * several values.
   */
  where?: string | readonly string[] | undefined
  /** Whether rows that hold NaN, an infinity or a number beyond float32 are left out, instead of being an error. Default false. */
  skipInvalid?: boolean | undefined
}

/** How many rows were left out; only where `where` or `skipInvalid` were given. */
export interface LeftOut {
  /** Rows that do not meet a condition. */
  filteredRows?: number
  /** Rows that hold a value that is not finite. */
  invalidRows?: number
}

type Part = Omit<StatesPart, 'name' | 'shared'>
type Dtype = StatesPart['dtype']

/** Bytes of an iterable's rows that stay in memory. */
const MEMORY = 2 ** 30

/**
 * @internal Brings any input into the form that the addon takes and hands it over to `start`: before this function
 * returns where the input is no series. Of a series, about `memory` bytes are kept in memory.
 */
export async function withStates<T>(
  input: StatesInput,
  options: StatesOptions & {
    signal?: AbortSignal | undefined
    memory?: number | undefined
    kept?: KeptFiles | undefined
    /** What messages call the input. */
    name?: string | undefined
  },
  start: (states: States) => T | Promise<T>,
): Promise<T> {
  const { dIn, signal, memory = MEMORY, skipInvalid = false, name = 'data' } = options
  if (dIn !== undefined) positiveInteger('dIn', dIn)
  ofType('skipInvalid', 'boolean', skipInvalid)
  const chosen = {
    where: conditionsOf(options.where),
    skipInvalid,
    ...(options.kept && { kept: options.kept }),
  }
  if (!isSeries(input)) return start({ ...single(input, name, dIn), ...chosen })
  const series = new Series(name, dIn, memory, skipInvalid)
  try {
    for await (const item of abortable(input, signal)) await series.add(item, signal)
    return await start({ ...series.states(), ...chosen })
  } finally {
    series.dispose()
  }
}

/** @internal The conditions as a list. */
export function conditionsOf(where: unknown): string[] {
  const list: unknown[] = where === undefined ? [] : Array.isArray(where) ? where : [where]
  return list.map(condition => ofType('where', 'string', condition as string))
}

/** @internal The same with targets beside the input, where there are some: a row of `target` for each of its rows. */
export async function withTarget<T>(
  input: StatesInput,
  target: StatesInput | undefined,
  options: Omit<Parameters<typeof withStates>[1], 'name'> & { dOut?: number | undefined },
  start: (states: States, target: States | undefined) => T | Promise<T>,
): Promise<T> {
  if (target === undefined) return withStates(input, options, states => start(states, undefined))
  const { dOut, signal, skipInvalid, kept, memory = MEMORY } = options
  const half = Math.max(1, Math.floor(memory / 2))
  return withStates(input, { ...options, memory: half }, states =>
    withStates(target, { dIn: dOut, signal, skipInvalid, kept, memory: half, name: 'target' }, targets =>
      start(states, targets),
    ),
  )
}

function single(input: unknown, name: string, dIn: number | undefined): States {
  const path = pathIn(input)
  if (path !== undefined) return { files: [path] }
  const parts = partsIn(input, name, dIn, false)
  if (parts.length) return { parts }
  throw nothing(name)
}

/** Paths or rows as they come in; a call takes one or the other. */
class Series {
  readonly #name: string
  readonly #files: string[] = []
  readonly #dIn: number | undefined
  readonly #memory: number
  readonly #takesInvalid: boolean
  #spool: Spool | undefined
  #items = 0

  constructor(name: string, dIn: number | undefined, memory: number, takesInvalid: boolean) {
    this.#name = name
    this.#dIn = dIn
    this.#memory = memory
    this.#takesInvalid = takesInvalid
  }

  /** Takes an item, which may be changed as soon as this function has returned; the next one is to wait. */
  async add(item: unknown, signal: AbortSignal | undefined): Promise<void> {
    const name = `${this.#name}[${this.#items++}]`
    const path = pathIn(item)
    const parts = path === undefined ? partsIn(item, name, this.#dIn, true) : []
    if (path === undefined ? this.#files.length : this.#spool) {
      throw new BaeError('INVALID_ARGUMENT', `${name}: files and rows in memory cannot be mixed in one call`)
    }
    if (path !== undefined) this.#files.push(path)
    else if (this.#append(parts)) await this.#spill(signal)
  }

  states(): States {
    if (this.#files.length) return { files: this.#files }
    if (this.#spool) return { spool: this.#spool }
    throw nothing(this.#name)
  }

  /** Frees memory and disk, unless a call has taken them over. */
  dispose(): void {
    this.#spool?.dispose()
  }

  /** Copies rows; whether there are more in memory than should be. */
  #append(parts: StatesPart[]): boolean {
    let isOver = false
    try {
      for (const part of parts) {
        this.#spool ??= new native.Spool(this.#name, this.#memory, this.#takesInvalid)
        isOver = this.#spool.append(part)
      }
      return isOver
    } catch (error) {
      throw fromNative(error)
    }
  }

  async #spill(signal: AbortSignal | undefined): Promise<void> {
    await runJob(on => native.startSpill(this.#spool as Spool, on), { signal })
  }
}

/** The path that an input is, if it is one. */
function pathIn(input: unknown): string | undefined {
  if (typeof input === 'string') return input
  return input instanceof URL ? fileURLToPath(input) : undefined
}

/** The arrays in an item, with what messages call them. */
function partsIn(item: unknown, name: string, dIn: number | undefined, inSeries: boolean): StatesPart[] {
  const parts = partsOf(item, name, dIn, inSeries)
  return parts.map((part, index) => ({
    name: parts.length > 1 ? `${name}, chunk ${index}` : name,
    shared: isShared(part.values),
    ...part,
  }))
}

/** Whether an input is a series of inputs rather than one of them. */
function isSeries(input: unknown): input is Iterable<unknown> | AsyncIterable<unknown> {
  if (typeof input !== 'object' || input === null) return false
  if (ArrayBuffer.isView(input) || isArrow(input) || 'shape' in input || 'dims' in input) return false
  if (Array.isArray(input)) return !isNumeric(input[0]) && !Array.isArray(input[0])
  return Symbol.asyncIterator in input || Symbol.iterator in input
}

/** Goes through a series; an abort ends the wait for an item that does not come. */
async function* abortable(
  series: Iterable<unknown> | AsyncIterable<unknown>,
  signal: AbortSignal | undefined,
): AsyncGenerator<unknown> {
  signal?.throwIfAborted()
  const iterator = Symbol.asyncIterator in series ? series[Symbol.asyncIterator]() : series[Symbol.iterator]()
  let endWait = (_reason: unknown) => {}
  const stop = onAbort(signal, () => endWait(signal?.reason))
  let exhausted = false
  try {
    for (;;) {
      signal?.throwIfAborted()
      // not a race with one promise for all items: that would hold every item until its end
      const next = await new Promise<IteratorResult<unknown>>((resolve, reject) => {
        endWait = reject
        Promise.resolve(iterator.next()).then(resolve, reject)
      })
      if (next.done) {
        exhausted = true
        return
      }
      yield await next.value
    }
  } finally {
    stop()
    // not awaited: a producer that hangs would hold the caller with it
    if (!exhausted) Promise.resolve(iterator.return?.()).catch(() => {})
  }
}

function partsOf(item: unknown, name: string, dIn: number | undefined, inSeries: boolean): Part[] {
  if (ArrayBuffer.isView(item) || (Array.isArray(item) && isNumeric(item[0]))) {
    return [bare(item, name, dIn, inSeries)]
  }
  if (Array.isArray(item)) return [nested(item, name)]
  if (typeof item === 'object' && item !== null) {
    if (isArrow(item)) return item.data.map(chunk => arrowPart(chunk, item, name))
    if ('data' in item && 'dims' in item) {
      const { data, dims, type } = item as TensorStates
      if (typeof type === 'string') return [shaped(data, dims, type, name)]
    }
    if ('data' in item && 'shape' in item) {
      const { data, shape, dtype } = item as ShapedStates
      return [shaped(data, shape, dtype, name)]
    }
    if ('type' in item && 'data' in item && Array.isArray(item.data)) {
      throw new BaeError(
        'UNSUPPORTED_FORMAT',
        `${name}: an Arrow column must be a FixedSizeList of float16, float32 or float64`,
      )
    }
  }
  throw new BaeError(
    'INVALID_ARGUMENT',
    `${name}: ${describe(item)} holds no hidden states; expected { data, shape }, { data, dims, type }, a typed array ` +
      'with dIn, number[][], an Arrow FixedSizeList column, a path, or an iterable of these',
  )
}

/** Numbers without a shape: rows of `dIn`, or one row where they stand in a series. */
function bare(
  item: ArrayBufferView | readonly unknown[],
  name: string,
  dIn: number | undefined,
  inSeries: boolean,
): Part {
  const part = floats(item, undefined, name)
  const { length } = part.values
  if (length === 0) throw empty(name, 'it has no values')
  const columns = dIn ?? (inSeries ? length : undefined)
  if (columns === undefined) {
    throw new BaeError(
      'INVALID_ARGUMENT',
      `${name}: ${describe(item)} does not say how long a row is; pass { dIn } or { data, shape }`,
    )
  }
  if (length % columns !== 0) {
    throw new BaeError(
      'SHAPE_MISMATCH',
      `${name}: ${length} values are no whole number of rows of ${columns}`,
    )
  }
  return { ...part, dIn: columns }
}

function shaped(data: unknown, shape: unknown, dtype: string | undefined, name: string): Part {
  if (!Array.isArray(shape) || !shape.every(size => Number.isSafeInteger(size) && size >= 0)) {
    throw new BaeError('INVALID_ARGUMENT', `${name}: its shape must be an array of whole numbers`)
  }
  const text = `[${shape.join(', ')}]`
  if (shape.length !== 1 && shape.length !== 2) {
    throw new BaeError(
      'SHAPE_MISMATCH',
      `${name}: shape ${text} has rank ${shape.length}; expected [rows, dIn], or [dIn] for one row`,
    )
  }
  const size = shape.reduce((product, each) => product * each, 1)
  if (size === 0) throw empty(name, `its shape is ${text}`)
  const part = floats(data, dtype, name)
  if (part.values.length !== size) {
    throw new BaeError(
      'SHAPE_MISMATCH',
      `${name}: shape ${text} needs ${size} values, the data has ${part.values.length}`,
    )
  }
  return { ...part, dIn: shape.at(-1) as number }
}

function nested(rows: readonly unknown[], name: string): Part {
  const first = rows[0] as readonly unknown[]
  const columns = first.length
  if (columns === 0) throw empty(name, 'row 0 has no values')
  const values = new Float32Array(rows.length * columns)
  for (const [index, row] of rows.entries()) {
    const where = `${name}, row ${index}`
    if (!Array.isArray(row)) {
      throw new BaeError('INVALID_ARGUMENT', `${where}: expected an array of numbers, not ${describe(row)}`)
    }
    if (row.length !== columns) {
      throw new BaeError('SHAPE_MISMATCH', `${where} has ${row.length} values, row 0 has ${columns}`)
    }
    if (Array.isArray(row[0])) {
      throw new BaeError('SHAPE_MISMATCH', `${where} is an array of arrays; expected rows of numbers`)
    }
    copyNumbers(row, values, index * columns, where)
  }
  return { values, dtype: 'float32', dIn: columns }
}

function arrowPart(chunk: ArrowChunk, column: ArrowStates, name: string): Part {
  const child = chunk.children[0]
  if ((chunk.nullCount ?? 0) > 0 || (child?.nullCount ?? 0) > 0) {
    throw new BaeError('INVALID_ARGUMENT', `${name}: the Arrow column holds nulls; drop or fill them first`)
  }
  const dIn = column.type.listSize
  if (chunk.length === 0 || dIn === 0) throw empty(name, 'the Arrow column has no values')
  const values = child?.values
  // Arrow keeps float16 as its bits
  const { values: all, dtype } = floats(values, tag(values) === 'Uint16Array' ? 'float16' : undefined, name)
  return { values: all.subarray(0, chunk.length * dIn), dtype, dIn }
}

/** Numbers as the addon takes them; converted only where the type must change. */
function floats(data: unknown, dtype: string | undefined, name: string): Pick<Part, 'values' | 'dtype'> {
  const kind = tag(data)
  const as = (natural: string) => {
    if (dtype === undefined || dtype === natural) return
    throw new BaeError('UNSUPPORTED_FORMAT', `${name}: a ${kind} cannot hold ${dtype}`)
  }
  switch (kind) {
    case 'Float32Array':
      as('float32')
      return { values: data as Float32Array, dtype: 'float32' }
    case 'Float64Array':
      as('float64')
      return { values: new Float32Array(data as Float64Array), dtype: 'float32' }
    case 'Float16Array': {
      as('float16')
      const { buffer, byteOffset, byteLength } = data as ArrayBufferView
      return { values: new Uint16Array(buffer as ArrayBuffer, byteOffset, byteLength / 2), dtype: 'float16' }
    }
    case 'Uint16Array':
      if (dtype === 'float16' || dtype === 'bfloat16') {
        return { values: data as Uint16Array, dtype: dtype as Dtype }
      }
      if (dtype !== undefined) as('float16')
      throw new BaeError(
        'INVALID_ARGUMENT',
        `${name}: a Uint16Array needs { data, shape, dtype: 'float16' } or 'bfloat16', to say what its bits mean`,
      )
    case 'Array': {
      if (dtype !== undefined && dtype !== 'float32' && dtype !== 'float64') as('float32')
      const numbers = data as readonly unknown[]
      const values = new Float32Array(numbers.length)
      copyNumbers(numbers, values, 0, name)
      return { values, dtype: 'float32' }
    }
    default:
      throw new BaeError(
        'UNSUPPORTED_FORMAT',
        `${name}: ${describe(data)} cannot be read as hidden states; expected float16, bfloat16, float32 or float64`,
      )
  }
}

function copyNumbers(from: readonly unknown[], to: Float32Array, offset: number, where: string): void {
  for (let i = 0; i < from.length; i++) {
    const value = from[i]
    if (typeof value !== 'number') {
      throw new BaeError(
        typeof value === 'bigint' ? 'UNSUPPORTED_FORMAT' : 'INVALID_ARGUMENT',
        `${where}, column ${i}: expected a number, not ${describe(value)}`,
      )
    }
    to[offset + i] = value
  }
}

const nothing = (name: string) => new BaeError('INVALID_ARGUMENT', `${name}: no hidden states in it`)

const empty = (name: string, why: string) =>
  new BaeError('INVALID_ARGUMENT', `${name}: no hidden states in it, ${why}`)

/** Whether the memory stays where it is whatever JavaScript does: it can neither be transferred nor resized. */
function isShared({ buffer }: ArrayBufferView): boolean {
  return types.isSharedArrayBuffer(buffer) && (buffer as { growable?: boolean }).growable !== true
}

const isNumeric = (value: unknown) => typeof value === 'number' || typeof value === 'bigint'

function isArrow(item: object): item is ArrowStates {
  const { type, data } = item as { type?: unknown; data?: unknown }
  return (
    typeof type === 'object' &&
    type !== null &&
    typeof (type as { listSize?: unknown }).listSize === 'number' &&
    Array.isArray(data)
  )
}

/** The name of a built-in class, whichever realm the value is from. */
const tag = (value: unknown) => Object.prototype.toString.call(value).slice(8, -1)
