/** Machines made of namespaces: a process that holds them, and ways to run programs inside. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { Talker } from './talker.ts'

export interface Outcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly input?: string
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs?: number
}

export interface RunAsyncOptions extends Omit<RunOptions, 'timeoutMs'> {
  readonly killAfterMs?: number
}

const TIMEOUT_MS = 60_000
const POLL_MS = 5
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin'

/** Where tsnet is to write its kernel parameters: a machine is not in the network namespace of process 1, and has a /run of its own. */
export const SYSCTL_FOLDER = '/run/sysctl.d'
const ENVIRONMENT = { PATH, TSNET_SYSCTL_DIR: SYSCTL_FOLDER }

/** A place where programs can be run: a host, the machine outside, a container. */
export class Place {
  readonly name: string
  /** What stands before a command so that it runs here. */
  readonly entry: readonly string[]
  #talker: Talker | undefined
  readonly #started = new Set<ChildProcess>()

  constructor(name: string, entry: readonly string[]) {
    this.name = name
    this.entry = entry
  }

  /** A process of this place's own, started at the first use. */
  get talker(): Talker {
    this.#talker ??= new Talker(this.entry)
    return this.#talker
  }

  /** @returns Whatever the program did. */
  run(argv: readonly string[], { input, env = {}, timeoutMs = TIMEOUT_MS }: RunOptions = {}): Outcome {
    const [command = '', ...args] = [...this.entry, ...argv]
    const { status, signal, stdout, stderr, error } = spawnSync(command, args, {
      encoding: 'utf8',
      env: { ...ENVIRONMENT, ...env },
      timeout: timeoutMs,
      maxBuffer: 1 << 28,
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      ...(input !== undefined && { input }),
    })
    if (error !== undefined && status === null && signal === null) throw error
    // A program that ends before it has read its input has done nothing wrong.
    const problem = error === undefined || (error as NodeJS.ErrnoException).code === 'EPIPE' ? '' : error.message
    return { status: status ?? (signal === 'SIGKILL' ? 137 : 255), stdout, stderr: `${stderr}${problem}` }
  }

  /** Does not wait, so that programs can run side by side. @param options `killAfterMs` kills the program then. */
  runAsync(argv: readonly string[], { input = '', env = {}, killAfterMs }: RunAsyncOptions = {}): Promise<Outcome> {
    const [program = '', ...args] = [...this.entry, ...argv]
    const child = spawn(program, args, { env: { ...ENVIRONMENT, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (data) => {
      stdout += data
    })
    child.stderr.on('data', (data) => {
      stderr += data
    })
    // A program that ends before it has read its input has done nothing wrong.
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfterMs)
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (status) => {
        clearTimeout(timer)
        resolve({ status: status ?? 255, stdout, stderr })
      })
    })
  }

  /** @returns Standard output. @throws Error when the program failed */
  exec(argv: readonly string[], options?: RunOptions): string {
    const { status, stdout, stderr } = this.run(argv, options)
    if (status !== 0) throw new Error(`${this.name}: ${argv.join(' ')}: status ${status}: ${stderr.trim()}`)
    return stdout
  }

  sh(script: string): string {
    return this.exec(['sh', '-ec', script])
  }

  /** @returns What `ip -j …` or `bridge -j …` says. */
  json<T>(...argv: readonly string[]): readonly T[] {
    return JSON.parse(this.exec(argv) || '[]') as readonly T[]
  }

  start(argv: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...this.entry, ...argv], {
      env: { ...ENVIRONMENT, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#started.add(child)
    child.once('exit', () => this.#started.delete(child))
    return child
  }

  /** What a test has left running would keep its file from ending. */
  async endProcesses(): Promise<void> {
    await this.#talker?.stop()
    await Promise.all([...this.#started].map(end))
  }
}

/** Its own children may still hold its pipes. */
async function end(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy()
}

/** Owns a network and a mount namespace, with /run and /sys of its own, for as long as its process lives. */
export class Machine extends Place {
  readonly pid: number
  readonly #holder: ChildProcess

  private constructor(name: string, holder: ChildProcess, pid: number) {
    super(name, ['nsenter', '-t', String(pid), '-n', '-m', '--'])
    this.pid = pid
    this.#holder = holder
  }

  static async start(name: string): Promise<Machine> {
    const script = [
      'mount -t tmpfs -o mode=755 tmpfs /run',
      'mkdir -p /run/netns /run/lock',
      'mount -t sysfs sysfs /sys',
      'ip link set lo up',
      'echo ready',
      'exec sleep infinity',
    ].join(' && ')
    // The signal at the parent's death holds through every exec: not even a killed test run leaves a namespace.
    const args = ['--pdeathsig', 'KILL', 'unshare', '-n', '-m', '--propagation', 'private', 'sh', '-c', script]
    const holder = spawn('setpriv', args, { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH } })
    await new Promise<void>((resolve, reject) => {
      let problems = ''
      holder.stderr.on('data', (data) => {
        problems += data
      })
      holder.stdout.once('data', () => resolve())
      holder.once('error', reject)
      holder.once('exit', () => reject(new Error(`Cannot make the machine "${name}": ${problems}`)))
    })
    return new Machine(name, holder, holder.pid as number)
  }

  /** A path inside this machine's mount namespace, as everybody else can open it. */
  path(inside: string): string {
    return `/proc/${this.pid}/root${inside}`
  }

  async stop(): Promise<void> {
    await this.endProcesses()
    const ended = new Promise((resolve) => this.#holder.once('exit', resolve))
    this.#holder.kill('SIGKILL')
    await ended
  }
}

/** Waits until something is so; there is no other waiting in these tests. @param limitMs Milliseconds. */
export async function eventually(what: string, holds: () => boolean, limitMs = 10_000): Promise<void> {
  for (const deadline = Date.now() + limitMs; !holds(); ) {
    if (Date.now() > deadline) throw new Error(`It did not come about: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

const TOOLS: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  bridge: 'iproute2',
  iptables: 'iptables',
  'iptables-legacy': 'iptables',
  'iptables-nft': 'iptables',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  unshare: 'util-linux',
  tcpdump: 'tcpdump',
  strace: 'strace',
  socat: 'socat',
  sysctl: 'procps',
}

/** @throws Error that says what to install */
export function requireTools(): void {
  const missing = Object.keys(TOOLS).filter((tool) => !PATH.split(':').some((folder) => existsSync(`${folder}/${tool}`)))
  if (missing.length === 0) return
  const packages = [...new Set(missing.map((tool) => TOOLS[tool]))].join(' ')
  throw new Error(`These tests need ${missing.join(', ')}: apt-get install ${packages}`)
}
