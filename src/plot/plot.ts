import { extname } from 'node:path'
import { BaeError } from '../errors.js'
import { ofType, pathOf } from '../job.js'
import { checkOutputFile, writeOutputFile } from '../output-file.js'
import type { PlottedReport } from './plotted.js'
import { FORMATS, render } from './render.js'
import { entropySpec } from './spec.js'

/** Options of {@link plotEntropy}. */
export interface PlotOptions {
  /** Replace a file that is already there. Default false. */
  overwrite?: boolean | undefined
}

/**
 * Draws an entropy report: entropy (bits) with its interval and density over the groups, where it has some; how often features
 * are on, how many are on in a row, and the dependencies (φ) of the strongest block, where they were counted.
 *
 * @param path file to write; its extension says how: `.svg`, `.png` (twice the size), or `.html` (one file that needs nothing else,
 *   with figures under the pointer).
 * @throws BaeError `INVALID_ARGUMENT` (another extension, no report); `IO`, also where the file is there already and `overwrite` is
 *   not set.
 */
export async function plotEntropy(
  report: PlottedReport,
  path: string,
  options: PlotOptions = {},
): Promise<void> {
  await checkPlot(path, options)
  if (typeof report !== 'object' || report === null || !('entropyBits' in report || 'groups' in report)) {
    throw new BaeError('INVALID_ARGUMENT', 'report must be an entropy report, as `entropy` gives it')
  }
  const { title, spec } = entropySpec(report)
  if (!(spec.vconcat as unknown[]).length) {
    throw new BaeError('INVALID_ARGUMENT', 'the report holds nothing to draw: no entropy is a number')
  }
  await writeOutputFile(path, await render(spec, title, format(path)), options.overwrite ?? false)
}

/**
 * Says whether {@link plotEntropy} could write there, before any work is done for the report.
 *
 * @throws BaeError as {@link plotEntropy}.
 */
export async function checkPlot(path: string, { overwrite = false }: PlotOptions = {}): Promise<void> {
  pathOf('path', path)
  ofType('overwrite', 'boolean', overwrite)
  if (!Object.hasOwn(FORMATS, format(path))) {
    const known = Object.keys(FORMATS).join(', ')
    throw new BaeError(
      'INVALID_ARGUMENT',
      `${path}: a picture is one of ${known}, by the extension of its name; choose another name`,
    )
  }
  await checkOutputFile(path, { overwrite })
}

const format = (path: string) => extname(path).toLowerCase()
