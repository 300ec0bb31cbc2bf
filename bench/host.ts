/**
 * The throw-away host: this process is the first of a pid namespace of its own, with network and mounts of its own (main.ts
 * starts it so). Everything that is made here vanishes when the process ends, however it ends.
 */
import { mkdirSync, readlinkSync } from 'node:fs'
import { run } from './measure.ts'

/** @throws Error when this is the machine's own network */
export function makeHost(machineNetns: string): void {
  if (readlinkSync('/proc/self/ns/net') === machineNetns) throw new Error('The benchmark must not run in the network namespace of the machine')
  for (const folder of ['/run', '/var/lib/cni']) {
    mkdirSync(folder, { recursive: true })
    run('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', folder)
  }
  run('ip', 'link', 'set', 'lo', 'up')
  makeUplink()
}

/** An uplink with a default route, as every host that has containers has one. */
function makeUplink(): void {
  makeNetns('outside')
  run('ip', 'link', 'add', 'uplink0', 'type', 'veth', 'peer', 'name', 'uplink0', 'netns', 'outside')
  run('ip', '-n', 'outside', 'addr', 'add', '192.0.2.1/24', 'dev', 'uplink0')
  run('ip', '-n', 'outside', 'link', 'set', 'uplink0', 'up')
  run('ip', 'addr', 'add', '192.0.2.2/24', 'dev', 'uplink0')
  run('ip', 'link', 'set', 'uplink0', 'up')
  run('ip', 'route', 'add', 'default', 'via', '192.0.2.1')
}

/** @returns The path of a new network namespace. */
export function makeNetns(name: string): string {
  run('ip', 'netns', 'add', name)
  return `/run/netns/${name}`
}
