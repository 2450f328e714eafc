import { defined, type TrainEvent } from './events.js'
import { type CallOptions, checked, runJob, tell } from './job.js'
import native from './native.js'
import { type Kinds, settingsJson } from './settings.js'
import type { JointEntropy } from './statistics.js'
import { TRAIN_SETTINGS, type TrainResult, type TrainSettings } from './train.js'

/** What hidden states are drawn, and how a model is trained on them: all settings of a training, too. */
export interface SyntheticSettings extends Omit<TrainSettings, 'resume'> {
  /**
   * How the bits depend on one another. `independent`: fair; `pairs`: fair, every second one the one before it, flipped with probability .1;
   * `sparse`: on with probability .05; `common-cause`: each one hidden fair bit, flipped with probability .1; `markov`: a chain in which
   * each is the one before it, flipped with probability .1. Default `independent`.
   */
  kind?: 'independent' | 'pairs' | 'sparse' | 'common-cause' | 'markov' | undefined
  /** Bits, and directions that they switch. Default 4. */
  rank?: number | undefined
  /** Width of a hidden state. Default 64. */
  dIn?: number | undefined
  /** Hidden states. Default 5120. */
  rows?: number | undefined
  /** Standard deviation of the Gaussian noise on each value; directions have length 1. Default 0. */
  noise?: number | undefined
  /** Whether directions lie at right angles or at random. Default `orthogonal`. */
  directions?: 'orthogonal' | 'random' | undefined
  /** The training's preset. Default `minimal`. */
  preset?: TrainSettings['preset']
}

/** Options of {@link synthetic}. */
export interface SyntheticOptions extends SyntheticSettings, CallOptions {
  /** Called with every event of the training. What it throws is ignored. */
  onEvent?: ((event: TrainEvent) => void) | undefined
}

/** Which features are which bits: the best one-to-one matching of directions by |cosine|, and of bits by |φ|. */
export interface Recovery {
  /** Mean |cosine| of the directions with their features' decoders. */
  cosine: number
  /** Mean F1 of the bits with their features', those turned around that say the opposite. */
  f1: number
  /** Mean Matthews correlation of the same, which is |φ|. */
  mcc: number
  /** Each bit with its feature: φ (below 0 where it says the opposite), F1, and |cosine| of direction and decoder. */
  bits: { bit: number; feature: number; phi: number; f1: number; cosine: number }[]
}

/** How near a code comes to what is known. Entropies in bits a row, over all rows. */
export interface SyntheticReport {
  /** Joint entropy of the bits that made the hidden states, in closed form. */
  trueBits: number
  /** Σ_j H of those bits, each by itself, in closed form. */
  trueMarginalBits: number
  /** Σ_j H(p_j) of the code. */
  entropyBits: number
  /**
   * Joint entropy of the codes, estimated: by NSB where at most 20 features are live; else by Chao and Shen's estimator where codes repeat often
   * enough (50 rows or more that repeat an earlier one), and by the held-out tree where they do not.
   */
  jointBits: number | null
  /** Bounds of it, by the tree and by collisions. */
  joint: JointEntropy | null
  /** How often codes occur, and what that says about their joint entropy. */
  patterns: {
    /** Codes that differ from each other. */
    distinct: number
    /** It runs low where rows are few for so many bits. */
    plugIn: number
    chaoShen: number
    /** Where at most 20 features are live. */
    nsb: number | null
  }
  /** The plug-in value of the bits that made the hidden states: what the best code has on these very rows. */
  plugInTrueBits: number
  /** Features that are on in some rows but not in all. */
  liveFeatures: number
  /** Share of the variance that the code leaves on the held-out rows. */
  fvu: number
  /** Share of the variance that is noise: what no code of the bits explains. */
  noiseFraction: number
  /** Mean features on in a row. */
  l0: number
  density: number
  deadFraction: number
  alwaysOnFraction: number
  denseFraction: number
  recovery: Recovery
  /** How the training went. */
  training: TrainResult
}

/**
 * Draws hidden states whose entropy is known, trains on them, and says how near the code comes.
 *
 * @throws BaeError `INVALID_ARGUMENT`; `OUT_OF_MEMORY`; those of a training.
 */
export async function synthetic(options: SyntheticOptions = {}): Promise<SyntheticReport> {
  const { signal, onEvent, preset = 'minimal', ...settings } = checked(options)
  const json = settingsJson<SyntheticSettings>({ ...settings, preset }, SETTINGS, 'auto')
  const all = JSON.parse(json) as Record<string, unknown>
  const given = (of: (name: string) => boolean) =>
    Object.fromEntries(Object.entries(all).filter(([name]) => of(name)))
  const drawn = (name: string) => Object.hasOwn(DRAWN, name)
  const { json: report } = await runJob(
    on =>
      native.startSynthetic(JSON.stringify({ ...given(drawn), training: given(name => !drawn(name)) }), on),
    { signal, progress: (event: TrainEvent) => tell(onEvent, defined(event)) },
  )
  return JSON.parse(report) as SyntheticReport
}

/** What the hidden states are; the rest is the training's. */
const DRAWN = {
  kind: ['independent', 'pairs', 'sparse', 'common-cause', 'markov'],
  rank: 'whole number',
  dIn: 'whole number',
  rows: 'whole number',
  noise: 'finite number',
  directions: ['orthogonal', 'random'],
} satisfies Partial<Kinds<SyntheticSettings>>

const { resume: _, ...TRAINING } = TRAIN_SETTINGS
const SETTINGS: Kinds<SyntheticSettings> = { ...DRAWN, ...TRAINING }
