/// <reference lib="esnext.disposable" preserve="true" />
export { architectures } from './architectures.js'
export {
  type BenchOptions,
  type BenchReport,
  type BenchSettings,
  bench,
  type PeakReport,
  type StepStages,
  type StepsProgress,
} from './bench.js'
export {
  BinaryCodes,
  type PackedCodes,
  type SaveCodesOptions,
} from './codes.js'
export {
  type ComparedFeatures,
  type CompareOptions,
  type Comparison,
  compare,
  type FeatureClass,
  type FractionRange,
  type Likeness,
  type MatchedFigures,
  type Stability,
  stability,
} from './compare.js'
export { type DeviceChoice, type DeviceInfo, type DevicesReport, devices } from './devices.js'
export { BaeError, type BaeErrorCode } from './errors.js'
export type {
  Evaluation,
  EvaluationControl,
  EvaluationControls,
  EvaluationFigures,
  FittedControl,
  Reconstruction,
} from './evaluation.js'
export type {
  CancelledEvent,
  CheckpointEvent,
  EpochEvent,
  ReadingEvent,
  ResampleEvent,
  ResumeEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
  ValidationEvent,
  ValidationFigures,
  WarningEvent,
} from './events.js'
export { type CpuInfo, cpu, type Description, inspect } from './inspect.js'
export type { CallOptions, RowsOptions, RowsProgress } from './job.js'
export {
  BinaryAutoencoder,
  type EncodedFile,
  type EvaluationOptions,
  type GroupBy,
  type InputOptions,
  type Matrix,
  type ModelConfig,
  type ModelFormat,
  type ProbeOptions,
  type SaveModelOptions,
  type StatisticsOptions,
} from './model.js'
export { checkOutputFile } from './output-file.js'
export { checkPlot, type PlotOptions, plotEntropy } from './plot/plot.js'
export type { PlottedFigures, PlottedReport } from './plot/plotted.js'
export {
  type Probe,
  type ProbeLabel,
  type ProbeReport,
  type ProbeScore,
  type ProbeSettings,
  type Probes,
  probesOverModels,
  type SparseProbe,
  type Spread,
} from './probe.js'
export type {
  ArrowChunk,
  ArrowStates,
  FloatArray,
  LeftOut,
  ShapedStates,
  StatesInMemory,
  StatesInput,
  StatesOptions,
  StatesPath,
  TensorStates,
} from './states.js'
export {
  type AddOptions,
  type CodeFigures,
  CodeStatistics,
  type CountingOptions,
  type EntropyReport,
  type JointEntropy,
  type PairFigures,
  pairBytes,
  type Sparsity,
  type SubsetEntropy,
} from './statistics.js'
export {
  type SweepEvent,
  type SweepOptions,
  type SweepReport,
  type SweepRun,
  type SweepStatus,
  sweep,
  type VariedSetting,
} from './sweep.js'
export { type SweepEntropyOptions, type SweepEntropyReport, sweepEntropy } from './sweep-entropy.js'
export {
  type Recovery,
  type SyntheticOptions,
  type SyntheticReport,
  type SyntheticSettings,
  synthetic,
} from './synthetic.js'

export {
  type TrainOptions,
  type TrainOutcome,
  type TrainResult,
  type TrainRun,
  type TrainSettings,
  train,
} from './train.js'
export type { Spectrum, Yardsticks } from './yardsticks.js'
