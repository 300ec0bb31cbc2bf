/** Series of interleaved samples, and the line of the table that they make. */
import type { Container, Contender } from './contender.ts'
import { makeNetns } from './host.ts'
import { type Cost, settle } from './measure.ts'
import { type Summary, summarize } from './statistics.ts'

/** One line of the table. */
export interface Row {
  readonly case: string
  readonly subject: Summary
  /** Whom the subject is compared with. */
  readonly against: string
  readonly other: Summary
  /** Of the medians. */
  readonly ratio: number
  /** The ratio may be this at most; absent: shown only. */
  readonly target?: number
  /** Where more is better: the ratio must be this at least. */
  readonly atLeast?: number
}

export interface CaseOptions {
  /** Path of the plugin to measure. */
  readonly plugin: string
  readonly repetitions: number
  readonly quick: boolean
  readonly progress: (text: string) => void
}

/** Between two samples, milliseconds. */
export const SETTLE_MS = 30
/** Host ports of tsnet's and the reference's containers: both live in one host. */
export const FIRST_PORTS = [20_000, 30_000] as const

export interface Samples {
  readonly adds: Cost[]
  readonly dels: Cost[]
}

/** tsnet, reference, tsnet, …: what the machine does meanwhile hits both. The first round is not counted. */
export function interleave(
  contenders: readonly Contender[],
  options: CaseOptions & { readonly forget: boolean; readonly ports?: boolean },
): readonly Samples[] {
  const samples: readonly Samples[] = contenders.map(() => ({ adds: [], dels: [] }))
  const rounds = Array.from({ length: options.repetitions + 1 }, (_, i) =>
    contenders.map(({ name, firstPort }, n) =>
      container(`${name}-${i}`, options.ports === false ? undefined : (firstPort ?? FIRST_PORTS[n] ?? 0) + i),
    ),
  )
  for (const [i, round] of rounds.entries()) {
    for (const [n, contender] of contenders.entries()) {
      const subject = round[n] as Container
      settle(SETTLE_MS)
      const { cost, result } = contender.add(subject)
      settle(SETTLE_MS)
      const del = contender.del(subject, result)
      if (options.forget) contender.forget()
      if (i === 0) continue
      samples[n]?.adds.push(cost)
      samples[n]?.dels.push(del)
    }
    if (i > 0) options.progress(`repetition ${i} of ${options.repetitions}`)
  }
  return samples
}

/** A container whose namespace is there before anything is timed. */
export function container(id: string, hostPort?: number): Container {
  return { id, netns: makeNetns(id), ...(hostPort !== undefined && { hostPort }) }
}

export function rowOf(row: Pick<Row, 'case' | 'against' | 'target'>, ours: readonly Cost[], theirs: readonly Cost[]): Row {
  const [subject, other] = [summarize(ours), summarize(theirs)]
  return { ...row, subject, other, ratio: subject.median / other.median }
}
