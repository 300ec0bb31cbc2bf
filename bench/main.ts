/** The benchmark: one throw-away host a case, one table at the end. README.md says how to run it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { CASES } from './cases.ts'
import { REFERENCE_FOLDER } from './contender.ts'
import { drawSaved, type SavedCase, saveFigures } from './figures.ts'
import type { ProfiledCall } from './profile.ts'
import type { Row } from './series.ts'
import type { Summary } from './statistics.ts'
import { formatPhases, formatRows } from './table.ts'
import type { Job } from './worker.ts'

declare const TSNET_ROOT: string

const REPETITIONS = 24
const QUICK_REPETITIONS = 5
const PROGRAMS = ['unshare', 'setpriv', 'mount', 'ip', 'iptables'] as const

let running: ChildProcess | undefined

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop)
main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      save: { type: 'boolean', default: false },
      draw: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: [] },
      repetitions: { type: 'string' },
      plugin: { type: 'string', default: join(TSNET_ROOT, 'dist/bin/tsnet') },
      profile: { type: 'boolean', default: false },
    },
  })
  const folder = join(TSNET_ROOT, 'bench')
  if (values.draw) return drawSaved(folder)
  const repetitions = Number(values.repetitions ?? (values.quick ? QUICK_REPETITIONS : REPETITIONS))
  const plugin = resolve(values.plugin)
  const cases = CASES.filter(({ name }) => values.only.length === 0 || values.only.includes(name))
  if (!Number.isInteger(repetitions) || repetitions < 1) throw new Error('--repetitions must be a whole number from 1')
  if (values.save && values.quick) throw new Error('What --quick measures is not worth saving')
  if (cases.length === 0) throw new Error(`No such case: ${values.only.join(', ')}. There are ${CASES.map(({ name }) => name).join(', ')}`)
  checkPrerequisites(plugin, { reference: !values.profile && cases.some(({ needsReference }) => needsReference), strace: values.profile })
  const job = { plugin, repetitions, quick: values.quick, machineNetns: readlinkSync('/proc/self/ns/net') }
  const machine = describeMachine()
  const load = loadavg()[0] ?? 0
  if (values.profile) {
    const calls = await perform<readonly ProfiledCall[]>({ ...job, case: 'profile' })
    process.stdout.write(`${machine.text}\n\n${formatPhases(calls)}\n`)
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, calls }, undefined, 2)}\n`)
    return
  }
  const floor = await perform<Summary>({ ...job, case: 'floor' })
  const measured: SavedCase[] = []
  for (const { name } of cases) {
    const rows = await perform<readonly Row[]>({ ...job, case: name })
    measured.push({ case: name, machine: machine.text, load, repetitions, rows })
    if (values.save) saveFigures(folder, measured.slice(-1))
  }
  const rows = measured.flatMap((saved) => saved.rows)
  const notes = `milliseconds, ${repetitions} interleaved repetitions; cpu: median user + system time; floor: ${floor.median.toFixed(1)} for one exec of /bin/true (tsnet execs once, the reference twice)`
  process.stdout.write(`${machine.text}\n${notes}\n\n${formatRows(rows)}\n`)
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ machine, repetitions, quick: values.quick, floor, rows }, undefined, 2)}\n`)
}

/** @throws Error that says what to install, build or become */
function checkPrerequisites(plugin: string, needs: { readonly reference: boolean; readonly strace: boolean }): void {
  if (process.getuid?.() !== 0) throw new Error('Namespaces need root: run it as root')
  if (!existsSync(plugin)) throw new Error(`There is no ${plugin}: run npm run build first`)
  const missing = [...PROGRAMS, ...(needs.strace ? ['strace'] : [])].filter((name) => !onPath(name))
  if (missing.length > 0) throw new Error(`Missing: ${missing.join(', ')}. apt-get install util-linux mount iproute2 iptables strace`)
  if (needs.reference && !['bridge', 'host-local', 'portmap'].every((name) => existsSync(join(REFERENCE_FOLDER, name)))) {
    throw new Error(`The reference plugins are not in ${REFERENCE_FOLDER}: apt-get install containernetworking-plugins`)
  }
  const bundle = join(dirname(plugin), '../cni.cjs')
  if (existsSync(bundle) && newestSource() > statSync(bundle).mtimeMs)
    process.stderr.write('bench: src/ is newer than dist/: npm run build measures what you have\n')
}

function onPath(name: string): boolean {
  return ['/usr/sbin', '/usr/bin', '/sbin', '/bin'].some((folder) => existsSync(join(folder, name)))
}

function newestSource(): number {
  const folder = join(TSNET_ROOT, 'src')
  const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
  return Math.max(...sources.map((name) => statSync(join(folder, name)).mtimeMs))
}

/**
 * Runs the worker in namespaces of its own. A pid namespace dies with its first process, and takes processes, mounts and
 * network namespaces along; the first process dies with unshare, and unshare with this one.
 */
function perform<T>(job: Job): Promise<T> {
  const worker = [process.execPath, join(TSNET_ROOT, 'build/bench/worker.cjs'), JSON.stringify(job)]
  const { NODE_EXTRA_CA_CERTS: _, NODE_OPTIONS: __, ...env } = process.env
  const args = ['--pdeathsig', 'KILL', 'unshare', '--net', '--mount', '--pid', '--mount-proc', '--kill-child', ...worker]
  // Detached: an interrupt from the keyboard comes here first, and no sample fails because of it.
  const child = spawn('setpriv', args, { stdio: ['ignore', 'pipe', 'inherit'], env, detached: true })
  running = child
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  return new Promise((succeed, fail) => {
    child.on('error', fail)
    child.on('close', (status) => {
      running = undefined
      if (status === 0) succeed(JSON.parse(Buffer.concat(chunks).toString('utf8')) as T)
      else fail(new Error(`Case "${job.case}" did not run to its end`))
    })
  })
}

function stop(signal: NodeJS.Signals): void {
  const finish = () => process.exit(signal === 'SIGINT' ? 130 : 143)
  if (running === undefined) finish()
  running?.removeAllListeners('close').on('close', finish).kill('SIGKILL')
}

function describeMachine() {
  const memory = /^MemTotal:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]
  const machine = {
    cores: cpus().length,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    kernel: release(),
    node: process.version,
    date: new Date().toISOString().slice(0, 16),
  }
  const gib = Math.round(Number(memory ?? 0) / 2 ** 20)
  return {
    ...machine,
    text: `${machine.cores} cores (${machine.cpu}), ${gib} GiB, Linux ${machine.kernel}, node ${machine.node}, ${machine.date} UTC`,
  }
}
