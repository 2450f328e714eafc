// What hidden states in files can be taken apart by: files, layers.
import { parse, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BaeError, describe } from './errors.js'
import { runJob } from './job.js'
import native, { type KeptFiles } from './native.js'

/** @internal A part of some data. */
export interface DataPart {
  label?: string
  value?: number | string
  data: string[]
  where: string[]
}

/** @internal What data is taken apart by, and how. */
export interface Taking {
  by: 'file' | 'layer' | undefined
  /** Conditions that rows must meet. */
  where: string[]
  signal?: AbortSignal | undefined
  /** What keeps the bytes of files that are read again, where anything does. */
  kept: () => KeptFiles
}

/** @internal The parts of the data: files or layers, those whose values are numbers in their order. */
export async function partsOf(given: string[], { by, where, signal, kept }: Taking): Promise<DataPart[]> {
  if (by === undefined) return [{ data: given, where }]
  if (by === 'file') {
    const files = await filesOf(given, signal)
    const labels = labelsOf(files)
    const values = valuesOf(labels)
    return files
      .map((file, at) => ({
        label: labels[at] as string,
        value: values[at] as number | string,
        data: [specOf(file)],
        where,
      }))
      .sort(byValue)
  }
  const { json } = await runJob(on => native.startListLayers(given, kept(), on), { signal })
  const { layers, column } = JSON.parse(json) as { layers: number[]; column: boolean }
  const picks = column ? [] : await Promise.all(given.map(spec => isPicked(spec, signal)))
  return layers.map(layer => ({
    label: `layer-${layer}`,
    value: layer,
    data: column ? given : given.map((spec, at) => `${spec}${picks[at] ? '' : '#'}:layer=${layer}`),
    where: column ? [...where, `layer=${layer}`] : where,
  }))
}

interface NamedFile {
  path: string
  tensor: string | null
  layer: number | null
}

async function filesOf(given: string[], signal: AbortSignal | undefined): Promise<NamedFile[]> {
  const { json } = await runJob(on => native.startListFiles(given, on), { signal })
  return (JSON.parse(json) as { files: NamedFile[] }).files
}

/** Whether a path is followed by the name of a tensor: a path may have a `#` of its own. */
async function isPicked(spec: string, signal: AbortSignal | undefined): Promise<boolean> {
  return (await filesOf([spec], signal)).some(({ tensor }) => tensor !== null)
}

const specOf = ({ path, tensor, layer }: NamedFile) =>
  tensor === null && layer === null
    ? path
    : `${path}#${tensor ?? ''}${layer === null ? '' : `:layer=${layer}`}`

/** What files are called: their names without folder and extension, where these differ. */
function labelsOf(files: NamedFile[]): string[] {
  const stems = files.map(({ path }) => parse(path).name)
  if (unique(stems)) return stems
  const paths = files.map(({ path }) =>
    resolve(path)
      .slice(0, -parse(path).ext.length || undefined)
      .split(sep),
  )
  const depth = paths[0]?.findIndex((name, at) => paths.some(path => path[at] !== name)) ?? 0
  const named = paths.map((path, at) => {
    const { tensor, layer } = files[at] as NamedFile
    const picked = [...(tensor ? [tensor] : []), ...(layer === null ? [] : [`layer-${layer}`])]
    return [...path.slice(depth < 0 ? -1 : depth), ...picked].join('-')
  })
  return named
}

/** The one number in which labels differ, if that is all; the labels otherwise. */
function valuesOf(labels: string[]): (number | string)[] {
  const parts = labels.map(label => label.split(/(\d+(?:\.\d+)?)/))
  const [first = []] = parts
  const differing = first.flatMap((part, at) => (parts.every(each => each[at] === part) ? [] : [at]))
  const [at] = differing
  // what matches the pattern is at odd places
  if (differing.length !== 1 || at === undefined || at % 2 === 0) return labels
  if (parts.some(each => each.length !== first.length)) return labels
  const numbers = parts.map(each => Number(each[at]))
  return unique(numbers) ? numbers : labels
}

/** @internal Whether no value comes twice. */
export const unique = (values: unknown[]) => new Set(values).size === values.length

function byValue({ value: one }: DataPart, { value: other }: DataPart): number {
  return typeof one === 'number' && typeof other === 'number' ? one - other : 0
}

/** @internal Paths as strings; refuses what is none. `who` takes files only, and `instead` says what to do with others. */
export function pathsOf(data: unknown, who: string, instead: string): string[] {
  const list: unknown[] = Array.isArray(data) ? data : [data]
  if (list.length === 0) throw new BaeError('INVALID_ARGUMENT', 'data: no files given')
  return list.map(item => {
    if (item instanceof URL) return fileURLToPath(item)
    if (typeof item === 'string' && item !== '') return item
    throw new BaeError(
      'INVALID_ARGUMENT',
      `data: ${who} takes files, folders or globs, not ${describe(item)}; ${instead}`,
    )
  })
}

/** @internal Works with a keeper of bytes that is gone afterwards: headers are read and little else. */
export async function withKept<T>(work: (kept: () => KeptFiles) => Promise<T>): Promise<T> {
  const kept = new native.KeptFiles(2 ** 24)
  try {
    return await work(() => kept)
  } finally {
    kept.dispose()
  }
}
