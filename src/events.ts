/** The first event: what is about to be trained. */
export interface StartEvent {
  type: 'start'
  /** Rows of hidden states: those trained on, those held out, and those left out. */
  rows: number
  trainRows: number
  validationRows: number
  /** Rows that a condition left out, and rows left out because they hold a value that is not finite. */
  filteredRows: number
  invalidRows: number
  /** Sequences there are, where whole ones are held out; null where rows are. */
  sequences: number | null
  /** Values a row. */
  dIn: number
  /** Values of a target; null where the data is to be given back. */
  dOut: number | null
  /** Features. */
  dSae: number
  /** Steps that the whole training takes. */
  steps: number
  epochs: number
  /** `cpu` or `gpu`. */
  device: string
  /** Name of the GPU; null on the CPU. */
  adapter: string | null
  /** Why `auto` took the CPU; null otherwise. */
  reason: string | null
  threads: number
  /** Instruction set of the CPU kernels. */
  simd: string
  /** Bytes for rows that wait, at most. */
  bufferBytes: number
  /** Bytes of model, optimiser and a step. */
  modelBytes: number
}

/** While rows are looked at before or after the steps, about once a second. */
export interface ReadingEvent {
  type: 'reading'
  /** Rows done. */
  rows: number
  /** Rows there are. */
  total: number
}

/** Before the first step of a training that goes on from a checkpoint. */
export interface ResumeEvent {
  type: 'resume'
  /** Steps done before. */
  step: number
  /** The checkpoint's folder. */
  path: string
}

/** After a step; on a GPU a step or two later. Some are left out when JavaScript is busy. */
export interface StepEvent {
  type: 'step'
  /** Steps done, of `steps`. */
  step: number
  steps: number
  epoch: number
  epochs: number
  /** The objective on this batch: `mse` and the weighted penalties. */
  loss: number
  /** Mean squared error over all values of the batch, in squared units of the normalised input. */
  mse: number
  /** Sum over features of the marginal entropy within this batch, in bits. */
  batchEntropyBits: number
  /** Sum over pairs of features of the absolute covariance within this batch. */
  covariance: number
  learningRate: number
  entropyWeight: number
  /** Norm of the gradient before it was clipped, where `clipNorm` is set. */
  gradientNorm?: number
}

/** At the end of an epoch: means over its batches. */
export interface EpochEvent {
  type: 'epoch'
  epoch: number
  epochs: number
  /** Steps done. */
  step: number
  loss: number
  mse: number
  batchEntropyBits: number
  covariance: number
  /** Share of the features that were on in none of the epoch's batches. */
  idleFraction: number
}

/** Figures over all rows of a set, none of them an average over batches. Entropy is in bits. */
export interface ValidationFigures {
  /** Rows measured. */
  rows: number
  /** Mean squared error over all values, in squared units of the hidden states. */
  mse: number
  /** Share of the variance that the reconstruction explains; NaN where the rows are all alike. */
  explainedVariance: number
  /** `1 - explainedVariance` */
  fvu: number
  /** Sum over features of the marginal entropy, in bits. */
  entropyBits: number
  /** Sum over pairs of features of the absolute covariance (of the first 16,384 rows where there are more); NaN of codes that hold values. */
  covariance: number
  /** Mean number of features that are on. */
  l0: number
  /** `l0 / dSae` */
  density: number
  /** Share of features that are never on. */
  deadFraction: number
  /** Share of features that are on in every row. */
  alwaysOnFraction: number
  /** Share of features that are on in more than half of the rows. */
  denseFraction: number
}

/** The held-out rows, measured: once before the first step (`step` 0) and then after epochs. */
export interface ValidationEvent extends ValidationFigures {
  type: 'validation'
  epoch: number
  step: number
  /** Whether no earlier validation was better. */
  best: boolean
}

/** Features that had not been on for a while were drawn anew. */
export interface ResampleEvent {
  type: 'resample'
  step: number
  /** Features drawn. */
  features: number
}

/** A checkpoint was written. */
export interface CheckpointEvent {
  type: 'checkpoint'
  step: number
  /** Its folder, which is that of a model too. */
  path: string
}

/** Something failed without which training goes on: a checkpoint that could not be written, for one. */
export interface WarningEvent {
  type: 'warning'
  step: number
  message: string
}

/** The last event of a cancelled run. */
export interface CancelledEvent {
  type: 'cancelled'
  /** Steps done. */
  steps: number
  /** Steps after which the best model so far was measured. */
  bestStep: number
  /** The folder that holds the best model so far, where `out` was given and there was one. */
  model: string | null
  /** The checkpoint that it can be resumed from, where `out` was given. */
  checkpoint: string | null
}

/** What a training tells while it runs. */
export type TrainEvent =
  | StartEvent
  | ReadingEvent
  | ResumeEvent
  | StepEvent
  | EpochEvent
  | ValidationEvent
  | ResampleEvent
  | CheckpointEvent
  | WarningEvent
  | CancelledEvent

/** How many step events are kept for iterators that come late or lag behind; the others are all kept. */
const STEPS_KEPT = 4096

interface Entry {
  number: number
  event: TrainEvent
}

/** @internal The events of a run, for any number of readers, each at its own place. */
export class EventLog {
  /** Step events, of which the old ones are forgotten, and the others: apart, so that forgetting costs what it forgets. */
  readonly #steps: Entry[] = []
  readonly #others: Entry[] = []
  readonly #history = new Set<string>()
  #count = 0
  #ended = false
  #waiting: (() => void)[] = []

  get ended(): boolean {
    return this.#ended
  }

  add(event: TrainEvent): void {
    const entry = { number: ++this.#count, event }
    if (event.type === 'step' || event.type === 'reading') {
      if (this.#steps.push(entry) > STEPS_KEPT) this.#steps.splice(0, STEPS_KEPT / 2)
    } else {
      this.#others.push(entry)
      if (event.type === 'epoch' || event.type === 'validation') this.#history.add(key(event))
    }
    this.#wake()
  }

  end(): void {
    this.#ended = true
    this.#wake()
  }

  /** Whether a history event has been logged: busy listeners can make the addon drop some. */
  has(event: EpochEvent | ValidationEvent): boolean {
    return this.#history.has(key(event))
  }

  /** The first event past the one of that number; waits for it, undefined at the end. */
  async next(number: number): Promise<Entry | undefined> {
    for (;;) {
      const [step, other] = [after(this.#steps, number), after(this.#others, number)]
      const entry = step && other ? (step.number < other.number ? step : other) : (step ?? other)
      if (entry || this.#ended) return entry
      await new Promise<void>(resolve => this.#waiting.push(resolve))
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}

const key = ({ type, epoch, step }: EpochEvent | ValidationEvent) => `${type}:${epoch}:${step}`

/** The first entry past the one of that number. Numbers ascend, so the place is found by halving. */
function after(entries: readonly Entry[], number: number): Entry | undefined {
  let [low, high] = [0, entries.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((entries[middle]?.number ?? 0) > number) high = middle
    else low = middle + 1
  }
  return entries[low]
}

/** @internal Figures as the addon gives them, with NaN for what is no number: JSON has none, it says null. */
export function defined<T>(figures: T): T {
  const each = figures as Record<string, unknown> | null
  for (const name of NUMBERS) if (each?.[name] === null) each[name] = Number.NaN
  return figures
}

/** Figures that may not be numbers: where rows are all alike, and where a training diverges. */
const NUMBERS = [
  'explainedVariance',
  'fvu',
  'mse',
  'loss',
  'batchEntropyBits',
  'entropyBits',
  'covariance',
  'gradientNorm',
]
