import { type Command, InvalidArgumentError, Option } from 'commander'

/** Help text of the DATA argument. */
export const DATA =
  'files, folders or globs of hidden states (.safetensors, .npy, .npz, .pt, .pth, .parquet, .pq, .arrow, .arrows, .feather, .ipc); ' +
  'FILE#NAME picks a tensor or column, FILE#NAME:layer=INDEX one layer of [tokens, layers, d_in]'

/** Help text of the MODEL argument. */
export const MODEL =
  'folder of a trained model: our own, SAELens, sparsify, dictionary_learning, or a published model.pt'

type Range = { above?: number; atLeast?: number; below?: number; atMost?: number }

/** Parses a number and keeps it within its range. */
export function number(range: Range = {}) {
  return (text: string): number => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (!Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.')
    return within(value, range)
  }
}

/** Parses a whole number and keeps it within its range. */
export function integer(range: Range = {}) {
  return (text: string): number => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('It must be a whole number.')
    return within(value, range)
  }
}

/** Parses a number of bytes: `256M`, `1.5G`, `100000`. The letters stand for powers of 1024, as in KiB, MiB, GiB. */
export function byteCount(text: string): number {
  const [, digits = '', unit = ''] = /^\s*([\d.]+)\s*([KMGT]?)(?:i?B)?\s*$/i.exec(text) ?? []
  const power = ' KMGT'.indexOf(unit.toUpperCase() || ' ')
  const bytes = Math.floor(Number(digits || Number.NaN) * 1024 ** power)
  if (!Number.isSafeInteger(bytes)) throw new InvalidArgumentError('It must be a size, as 256M or 1.5G.')
  return within(bytes, { above: 0 })
}

function within(value: number, { above, atLeast, below, atMost }: Range): number {
  if (above !== undefined && value <= above) throw new InvalidArgumentError(`It must be above ${above}.`)
  if (atLeast !== undefined && value < atLeast)
    throw new InvalidArgumentError(`It must be at least ${atLeast}.`)
  if (below !== undefined && value >= below) throw new InvalidArgumentError(`It must be below ${below}.`)
  if (atMost !== undefined && value > atMost) throw new InvalidArgumentError(`It must be at most ${atMost}.`)
  return value
}

export const threads = () =>
  new Option(
    '--threads <n>',
    'CPU threads; the result does not depend on it (default: one for each physical core)',
  ).argParser(integer({ above: 0, atMost: 1024 }))

export const device = (automatic: string) =>
  new Option(
    '--device <name>',
    `where to compute: auto, cpu, gpu, or a device by index or name (default: ${automatic})`,
  )

/** Options that choose rows. */
export const choosing = () => [
  new Option(
    '--where <condition>',
    "take only rows that meet it, as 'position>0', 'token!=0,2' or 'norm<1000'; may be given several times",
  ).argParser((condition: string, others: string[] | undefined) => [...(others ?? []), condition]),
  new Option('--skip-invalid', 'leave out rows that hold NaN or an infinity, instead of failing'),
]

/** `--target` */
export const target = () =>
  new Option(
    '--target <data...>',
    'what a transcoder makes of the data: files, folders or globs with a row for each of its rows, in the same order',
  )

export const overwrite = (what: string) => new Option('--overwrite', `replace ${what} that is there already`)

/** `bae NAME MODEL DATA…` */
export function measuring(
  program: Command,
  name: string,
  { model = MODEL, data = DATA, optional = false } = {},
): Command {
  const command = program
    .command(name)
    .argument('<model>', model)
    .argument(optional ? '[data...]' : '<data...>', data)
  for (const option of [...choosing(), device('cpu'), threads()]) command.addOption(option)
  return command
}

/** The options of those commands. */
export interface Measuring {
  where?: string[]
  skipInvalid?: boolean
  device?: string
  threads?: number
}
