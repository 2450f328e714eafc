// What the figures were measured on.
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, platform, release, totalmem } from 'node:os'
import process from 'node:process'

/** Instruction sets that decide which kernels run, as Linux and other systems spell them. */
const FLAGS = ['avx2', 'avx512f', 'avx512_vpopcntdq', 'avx512_vnni', 'avx512_bf16', 'asimd', 'sve']

export function machine() {
  const info = existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'utf8') : ''
  const has = new Set(/^(?:flags|Features)\s*:(.*)$/m.exec(info)?.[1].trim().split(' '))
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    flags: FLAGS.filter(flag => has.has(flag)),
    os: `${platform()} ${release()}`,
    node: process.version,
    loadAverage: loadavg()[0],
  }
}
