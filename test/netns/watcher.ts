/** Runs `tsnet repair --watch` beside a test. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { type Host, TSNET } from './host.ts'
import { eventually } from './machine.ts'

interface Report {
  readonly causes: readonly string[]
  readonly milliseconds: number
  readonly repairs: readonly {
    readonly containerID?: string
    readonly verdict: string
    readonly made: readonly string[]
    readonly problems?: string[]
  }[]
}

/** So long that whatever is repaired was heard of. */
const NEVER = '86400'

/** A `tsnet repair --watch` that runs on a host, and what it has said. */
export class Watcher {
  readonly child: ChildProcess
  stdout = ''
  stderr = ''
  readonly #ended: Promise<readonly [status: number | null, signal: string | null]>

  constructor(host: Host, { every = NEVER, more = ['--json'] }: { readonly every?: string; readonly more?: readonly string[] } = {}) {
    this.child = host.start([TSNET, 'repair', '--watch', '--every', every, ...more])
    this.child.stdout?.on('data', (data) => {
      this.stdout += data
    })
    this.child.stderr?.on('data', (data) => {
      this.stderr += data
    })
    this.#ended = new Promise((resolve) => this.child.once('close', (...how) => resolve(how)))
  }

  get reports(): readonly Report[] {
    return this.stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Report)
  }

  get made(): readonly string[] {
    return this.reports.flatMap(({ repairs }) => repairs.flatMap(({ made }) => made))
  }

  /** Waits for what it says about something that happens meanwhile. @returns What it said since */
  async after(what: string, act: () => void, names: RegExp): Promise<readonly Report[]> {
    const before = this.reports.length
    act()
    const since = () => this.reports.slice(before)
    await eventually(`${what}: ${names} is repaired`, () =>
      since().some(({ repairs }) => repairs.some(({ made }) => made.some((one) => names.test(one)))),
    )
    return since()
  }

  async end(signal: 'SIGTERM' | 'SIGINT' = 'SIGTERM'): Promise<void> {
    this.child.kill(signal)
    assert.deepEqual(await this.#ended, [0, null])
    assert.equal(this.stderr, '')
  }
}

/** Watches, and waits until it does: what is wrong at its start is repaired at its start. Of this switch there are no events. */
export async function startWatcher(host: Host, options?: ConstructorParameters<typeof Watcher>[1]): Promise<Watcher> {
  host.sh('echo 0 >/proc/sys/net/ipv4/conf/br-net/route_localnet')
  const watcher = new Watcher(host, options)
  await eventually('the watch has started', () => watcher.stdout.endsWith('\n'))
  return watcher
}
