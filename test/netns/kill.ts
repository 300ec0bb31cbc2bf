/** Programs that are killed at a chosen system call, or whose call is refused; test/native/tracer.c says what a point is. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import type { Host } from './host.ts'
import { eventually, type Outcome } from './machine.ts'

const TRACER = join(process.cwd(), 'build/native/tracer')
const LOG = '/run/tracer.log'

/** Whether everything is tried that there is, instead of a part of it: `make soak`. */
export const SOAK = process.env['TSNET_TEST_SOAK'] === '1'

/** A system call of a program or of one of its children, before it is done. */
export interface Point {
  /** As the tracer takes it. */
  readonly name: string
  /** 0 is the program, others are its children in the order of their birth. */
  readonly process: number
  /** Whether it changes something, is the answer, or only asks or prepares. */
  readonly kind: 'change' | 'answer' | 'other'
  /** For messages. */
  readonly text: string
}

const KINDS: Readonly<Record<string, Point['kind']>> = { c: 'change', a: 'answer' }

/** What runs under the tracer. */
export interface Traced {
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly input: string
}

/** Runs the program to its end. @returns Its calls in their order, which may differ a little from run to run */
export function pointsOf(host: Host, traced: Traced): readonly Point[] {
  const { status, stderr } = trace(host, traced, ['list'])
  assert.equal(status, 0, `the program fails by itself: ${stderr}`)
  return reachedIn(host)
}

/** @returns The points at which something is changed, and that after the last of them: all is done but for the answer. */
export function changesOf(host: Host, traced: Traced): readonly Point[] {
  return pointsOf(host, traced).filter(({ kind }) => kind !== 'other')
}

/**
 * @param scope Whether its children die with the process that comes to the point, as with a whole service, or go on.
 * @returns Whether it came to the point
 */
export function killAt(host: Host, traced: Traced, point: Point, scope: 'one' | 'all' = 'one'): boolean {
  trace(host, traced, ['kill', point.name, scope])
  return reachedIn(host).length > 0
}

export interface Refused extends Outcome {
  /** What the call was; it may be another than in the run before. Absent when the program did not come so far. */
  readonly hit: string | undefined
}

/** @param errno The name of the error that the call gives, once. */
export function failAt(host: Host, traced: Traced, point: Point, errno: keyof typeof constants.errno): Refused {
  const outcome = trace(host, traced, ['fail', point.name, String(constants.errno[errno])])
  return { ...outcome, hit: reachedIn(host)[0]?.text }
}

/**
 * Starts the program, which is killed when a child of its comes to the point; the child goes on after so long, as it would have done.
 * @returns The tracer, as soon as the program is dead; it ends with the child
 */
export async function orphanAt(host: Host, { argv, env, input }: Traced, point: Point, milliseconds: number): Promise<ChildProcess> {
  rmSync(host.machine.path(LOG), { force: true })
  const tracer = host.start([...underTracer('orphan', point.name, String(milliseconds)), ...argv], env)
  tracer.stdin?.end(input)
  await eventually('the program is killed', () => reachedIn(host).length > 0)
  return tracer
}

/** Spread evenly over the whole, the first and the last included; all of them in a long run. @param offset Makes others of them be chosen */
export function spread<T>(all: readonly T[], most: number, offset = 0): readonly T[] {
  const count = Math.min(most, all.length)
  if (SOAK || count === all.length) return all
  const step = all.length / count
  return Array.from({ length: count }, (_, i) => all[Math.floor(i * step + (offset % step))] as T)
}

/** @param words What the tracer is to do. @returns The words that stand before a program's own */
export function underTracer(...words: readonly string[]): readonly string[] {
  return [TRACER, LOG, ...words, '--']
}

function trace(host: Host, { argv, env, input }: Traced, words: readonly string[]): Outcome {
  return host.run([...underTracer(...words), ...argv], { env, input })
}

/** @returns What the last program under the tracer came to: all its calls, or the one that it was to be stopped at. */
export function reachedIn(host: Host): readonly Point[] {
  const path = host.machine.path(LOG)
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : []
  return lines.flatMap((line) => {
    const [name = '', call, ...what] = line.split(' ')
    const [process, point] = name.split('.')
    if (call === undefined) return []
    return [{ name, process: Number(process), kind: KINDS[point?.[0] ?? ''] ?? 'other', text: `${name}: ${call} ${what.join(' ')}` }]
  })
}
