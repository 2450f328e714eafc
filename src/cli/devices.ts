import type { Command } from 'commander'
import { type DevicesReport, devices as find } from '../index.js'
import type { Run } from './output.js'
import { bytes, table } from './text.js'

export function devices(program: Command, run: Run): Command {
  return program
    .command('devices')
    .description('list the devices that --device can name, and what auto would take')
    .action(
      run(async ({ signal, result }) => {
        const report = await find({ signal })
        result(report, lines(report))
      }),
    )
}

function lines({ devices, automatic, reason }: DevicesReport): string[] {
  return [
    ...devices.flatMap(device => [
      `${device.index}: ${device.name}`,
      ...table([
        ['kind', `${device.kind}, through ${device.backend}`],
        ['driver', device.driver],
        ['largest buffer', `${bytes(device.maxBufferBytes)}, ${bytes(device.maxBindingBytes)} seen at once`],
        ['shared memory', `${bytes(device.workgroupBytes)} a workgroup`],
        ['half floats', device.halfFloats ? 'yes' : 'no'],
        ['times of stages', device.timestamps ? 'yes' : 'no'],
      ]),
    ]),
    automatic === null
      ? `auto takes the CPU: ${reason}`
      : `auto takes ${automatic}: ${devices[automatic]?.name}`,
  ]
}
