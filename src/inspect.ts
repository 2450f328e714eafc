import { type CallOptions, checked, pathOf, runJob } from './job.js'
import native from './native.js'

/** What a path holds; the fields depend on `kind`. */
export interface Description {
  kind: string
  [field: string]: unknown
}

/**
 * Says what a file or folder is (a model, codes, hidden states) and what is in it, from its headers alone.
 *
 * @throws BaeError `INVALID_ARGUMENT` (no path), `IO`, `CORRUPT_FILE`, `UNSUPPORTED_FORMAT`.
 */
export async function inspect(path: string, options: CallOptions = {}): Promise<Description> {
  const { signal } = checked(options)
  pathOf('path', path)
  const { json } = await runJob(on => native.startInspect(path, on), { signal })
  return JSON.parse(json) as Description
}
