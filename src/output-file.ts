import { randomBytes } from 'node:crypto'
import { link, lstat, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { BaeError } from './errors.js'

/**
 * Says no to a file to write before any work is done for it: one that is there (unless `overwrite`), a folder, or one
 * whose folder is missing.
 *
 * @throws BaeError `IO`
 */
export async function checkOutputFile(
  path: string,
  { overwrite = false }: { overwrite?: boolean | undefined } = {},
): Promise<void> {
  const there = await lstat(path).catch(error => {
    if (error.code === 'ENOENT') return null
    throw cannotWrite(path, error)
  })
  if (there?.isDirectory()) throw refused(`${path} is a folder; give the name of a file`)
  if (there && !overwrite) throw alreadyThere(path)
  const folder = await lstat(dirname(path)).catch(error => {
    throw cannotWrite(path, error)
  })
  if (!folder.isDirectory() && !folder.isSymbolicLink()) throw refused(`${dirname(path)} is no folder`)
}

/**
 * @internal Writes a file that appears whole or not at all: beside its place, synced, renamed.
 *
 * @throws BaeError `IO`, also where the file is there already and `overwrite` is not set.
 */
export async function writeOutputFile(
  path: string,
  content: string | Uint8Array,
  overwrite: boolean,
): Promise<void> {
  await checkOutputFile(path, { overwrite })
  const temporary = join(
    dirname(path),
    `.bae-${randomBytes(6).toString('hex')}-${basename(path).slice(0, 80)}`,
  )
  try {
    const file = await open(temporary, 'wx')
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    if (overwrite) await rename(temporary, path)
    else await renameToFree(temporary, path)
  } catch (error) {
    throw cannotWrite(path, error as NodeJS.ErrnoException)
  } finally {
    await rm(temporary, { force: true })
  }
}

/** Unlike a rename, a link fails where somebody else was faster; not every file system has links. */
async function renameToFree(from: string, to: string): Promise<void> {
  try {
    await link(from, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error
    await checkOutputFile(to)
    await rename(from, to)
  }
}

function cannotWrite(path: string, error: NodeJS.ErrnoException): BaeError {
  if (error.code === 'EEXIST') return alreadyThere(path)
  const [advice, why = error.message] = {
    ENOENT: ['create its folder first or choose another name', 'its folder is not there'],
    ENOTDIR: ['choose another name', 'what should be its folder is none'],
    ENOSPC: ['free some space or choose another place', 'no space left on the device'],
  }[error.code ?? ''] ?? ['check its permissions or choose another place']
  return new BaeError('IO', `cannot write ${path}: ${why}; ${advice}`, { cause: error })
}

const alreadyThere = (path: string) =>
  refused(`${path} already exists; choose another name or pass --overwrite (overwrite)`)

const refused = (message: string) => new BaeError('IO', message)
